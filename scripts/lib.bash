# Shared by the scripts: how they talk, what they look for, how they install it. Sourced, never run.
# shellcheck shell=bash

set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"
[ -d "$HOME/.cargo/bin" ] && PATH="$PATH:$HOME/.cargo/bin"

if [ -t 1 ]; then BOLD=$'\e[1m' RED=$'\e[31m' PLAIN=$'\e[0m'; else BOLD='' RED='' PLAIN=''; fi

say() { printf '%s» %s%s\n' "$BOLD" "$*" "$PLAIN"; }
warn() { printf '%s! %s%s\n' "$RED" "$*" "$PLAIN" >&2; }
die() {
	warn "$1"
	shift
	for line in "$@"; do printf '  %s\n' "$line" >&2; done
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }
is_ci() { [ "${CI:-}" = true ]; }
is_root() { [ "$(id -u)" = 0 ]; }
is_debian() { [ -r /etc/debian_version ] && have apt-get; }

# Whether packages can be installed without asking anybody.
can_install() { is_debian && { is_root || { have sudo && sudo -n true 2>/dev/null; }; }; }

as_root() { if is_root; then "$@"; else sudo -n "$@"; fi; }

# install_packages PACKAGE… : from Debian's or Ubuntu's archive, and nowhere else.
install_packages() {
	say "installing from the distribution's packages: $*"
	as_root apt-get update -qq
	DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# The directory cargo puts this machine's release binaries in (build.target is set in .cargo/config.toml).
target_dir() {
	local profile="${1:-release}"
	printf '%s/%s/%s' "${CARGO_TARGET_DIR:-$ROOT/target}" "$(rustc -vV | sed -n 's/^host: //p')" "$profile"
}

CARGO_FUZZ_VERSION=0.13.2
# provide_cargo_fuzz : installs it from crates.io when it is missing.
provide_cargo_fuzz() {
	have cargo-fuzz && return
	say "installing cargo-fuzz $CARGO_FUZZ_VERSION"
	cargo install cargo-fuzz --version "$CARGO_FUZZ_VERSION" --locked --quiet
}

# node_is_new_enough : 20.19 is the oldest that Vite runs on.
node_is_new_enough() {
	have node && node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'
}

# npm_install DIR : what the lock file says; skipped while the lock is unchanged since the last time. Fails when npm does, called
# from an `if` or not: errexit is off there, so each step names what happens after it.
npm_install() {
	local dir="$1" stamp="$1/node_modules/.installed"
	if [ -f "$stamp" ] && cmp -s "$dir/package-lock.json" "$stamp"; then return; fi
	say "installing the packages of $dir"
	(cd "$dir" && npm ci --no-audit --no-fund --loglevel=error) && cp "$dir/package-lock.json" "$stamp"
}

# build_web : only when something it is made of is newer, because control takes the result in and would be compiled anew.
build_web() {
	npm_install web || return
	local sources=(web/src web/public web/index.html web/package-lock.json web/vite.config.ts web/svelte.config.js)
	if [ -f web/dist/index.html ] && [ -z "$(find "${sources[@]}" -newer web/dist/index.html -print -quit)" ]; then
		say "the web app is up to date"
		return
	fi
	say "building the web app"
	(cd web && npm run --silent build -- --logLevel warn)
}

# stop_process PID NAME : asks it to end and waits; after 15 s it is killed, and that is said.
stop_process() {
	local pid="$1" name="$2"
	kill -TERM "$pid" 2>/dev/null || return 0
	for _ in $(seq 150); do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.1
	done
	warn "$name (process $pid) did not end within 15 s; it is killed"
	kill -KILL "$pid" 2>/dev/null || true
}
