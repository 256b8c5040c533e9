# What the tests need beside Rust and Node, and the packages that bring it. Sourced.
# shellcheck shell=bash

# COMMAND PACKAGE WHAT-FOR
TOOLS='
chromium chromium the browser tests
sshd openssh-server the comparison with OpenSSH
ssh openssh-client the comparison with OpenSSH
vim vim full-screen programs in the browser
htop htop full-screen programs in the browser
tmux tmux full-screen programs in the browser
curl curl the installer
ip iproute2 cutting the network of an agent
ss iproute2 counting listening ports
nft nftables cutting the network of an agent
tinyproxy tinyproxy an agent whose only way out is a proxy
runuser util-linux a private PostgreSQL
dockerd docker.io sandboxes
docker docker.io sandboxes
iptables iptables sandboxes
debootstrap debootstrap an image for sandboxes
busybox busybox-static an image for sandboxes
openssl openssl keys of the comparison with OpenSSH
ps procps counting what is left behind
'

# In /usr/sbin, which the PATH of a person on Debian does not name.
PATH="$PATH:/usr/sbin:/sbin"

has_tool() {
	case "$1" in
	chromium) [ -n "${REXEC_CHROMIUM:-}" ] || have chromium || have chromium-browser || have google-chrome ;;
	*) have "$1" ;;
	esac
}

has_postgres() { have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

# Whether sandboxes can be tested: an engine answers, or we may start one.
has_docker() { have docker && { timeout 5 docker version >/dev/null 2>&1 || { is_root && have dockerd && have debootstrap && have busybox; }; }; }

# Prints `PACKAGE WHAT-FOR` for each tool that is missing.
missing_tools() {
	local tool package purpose
	while read -r tool package purpose; do
		[ -n "$tool" ] || continue
		has_tool "$tool" || printf '%s %s\n' "$package" "$purpose"
	done <<<"$TOOLS"
	has_postgres || printf 'postgresql the tests of control on PostgreSQL\n'
}

# Installs what is missing; what cannot be installed is named, and in CI that is an error.
provide_test_tools() {
	local missing
	missing="$(missing_tools | sort -u)"
	[ -n "$missing" ] || return 0
	if can_install; then
		# shellcheck disable=SC2046
		install_packages $(awk '{print $1}' <<<"$missing" | sort -u) || warn "not everything could be installed"
		missing="$(missing_tools | sort -u)"
		[ -n "$missing" ] || return 0
	fi
	if is_ci; then
		warn "the tests need what is missing here:"
		sed 's/^\([^ ]*\) /  \1 — /' <<<"$missing" >&2
		exit 1
	fi
	warn "missing here, so what needs it is skipped:"
	sed 's/^\([^ ]*\) /  \1 — /' <<<"$missing" >&2
}
