# What every preset begins with: packages by whichever package manager the image has.
set -eu
export DEBIAN_FRONTEND=noninteractive
packages() {
	# packages APT… -- APK… -- DNF…
	apt='' apk='' dnf='' kind=apt
	for name; do
		case "$kind:$name" in
		apt:--) kind=apk ;;
		apk:--) kind=dnf ;;
		apt:*) apt="$apt $name" ;;
		apk:*) apk="$apk $name" ;;
		dnf:*) dnf="$dnf $name" ;;
		esac
	done
	# The lists are words without blanks, meant to be split.
	if command -v apt-get >/dev/null; then
		apt-get update -q && apt-get install -q -y --no-install-recommends $apt && apt-get clean
	elif command -v apk >/dev/null; then
		apk add --no-cache $apk
	elif command -v dnf >/dev/null; then
		dnf install -y --setopt=install_weak_deps=False $dnf && dnf clean all
	else
		echo "this image has no apt-get, apk or dnf: nothing can be installed in it" >&2
		exit 1
	fi
}
