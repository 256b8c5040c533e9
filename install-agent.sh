#!/usr/bin/env bash
# Installs rexec-agent from the Rexec installation that serves this script:
#   curl -sSL __REXEC_SERVER__/install-agent.sh | bash
# Nothing happens before the last line, so a download cut short does nothing.
set -euo pipefail

fail() {
  printf 'install-agent: %s\n' "$*" >&2
  exit 1
}

fetch() { # URL FILE
  if command -v curl >/dev/null 2>&1; then
    curl -fsSL --retry 2 --connect-timeout 15 -o "$2" "$1"
  elif command -v wget >/dev/null 2>&1; then
    wget -q -T 15 -t 3 -O "$2" "$1"
  else
    fail "neither curl nor wget is here; install one of them and try again"
  fi || fail "cannot download $1"
}

platform() {
  [ "$(uname -s)" = Linux ] || fail "this installer is for Linux; $(uname -s) is not supported yet"
  case "$(uname -m)" in
    x86_64 | amd64) echo linux-amd64 ;;
    aarch64 | arm64) echo linux-arm64 ;;
    *) fail "there is no agent for $(uname -m) yet, only for x86_64 and aarch64" ;;
  esac
}

bin_dir() {
  if [ -n "${REXEC_BIN_DIR:-}" ]; then
    echo "$REXEC_BIN_DIR"
  elif [ "$(id -u)" -eq 0 ]; then
    echo /usr/local/bin
  else
    echo "${HOME:?HOME is not set}/.local/bin"
  fi
}

main() {
  local server="__REXEC_SERVER__" platform dir url expected actual
  server="${server%/}"
  platform="$(platform)"
  dir="$(bin_dir)"
  url="$server/download/agent/$platform"
  mkdir -p "$dir" || fail "cannot make $dir"
  # In the directory it will live in: the last step is then a rename, whole or not at all.
  staging="$(mktemp -d "$dir/.rexec-agent.XXXXXX")" || fail "cannot write to $dir"
  trap 'rm -rf "$staging"' EXIT

  printf 'Downloading %s\n' "$url"
  fetch "$url.sha256" "$staging/sha256"
  fetch "$url" "$staging/rexec-agent"
  expected="$(cut -d ' ' -f 1 <"$staging/sha256")"
  actual="$(sha256sum "$staging/rexec-agent" | cut -d ' ' -f 1)"
  [ "${#expected}" -eq 64 ] || fail "$url.sha256 is not a checksum"
  [ "$expected" = "$actual" ] || fail "the download is damaged or altered: SHA-256 is $actual, expected $expected"

  chmod 755 "$staging/rexec-agent"
  "$staging/rexec-agent" set-server "$server" || fail "the agent does not run on this machine"
  mv -f "$staging/rexec-agent" "$dir/rexec-agent"

  printf 'Installed %s\n\n' "$dir/rexec-agent"
  case ":$PATH:" in
    *":$dir:"*) ;;
    *) printf 'First put it on your PATH:\n\n  export PATH="%s:$PATH"\n\n' "$dir" ;;
  esac
  printf 'Add this machine to Rexec:\n\n  rexec-agent register --name "%s"\n  rexec-agent start --daemon\n' "$(uname -n)"
}

main "$@"
