# Runs the preset in $REXEC_PRESET, once at a time, and keeps what it says.
set -u
mkdir -p /run /var/log
if [ -n "${REXEC_SANDBOX_PROXY-}" ]; then
	export http_proxy="$REXEC_SANDBOX_PROXY" https_proxy="$REXEC_SANDBOX_PROXY" HTTP_PROXY="$REXEC_SANDBOX_PROXY" HTTPS_PROXY="$REXEC_SANDBOX_PROXY"
fi
# One that a control which has ended since began: it is told no more, so it begins anew.
former="$(cat /run/rexec-preset.pid 2>/dev/null)" && kill -9 "-$former" 2>/dev/null
echo "$$" >/run/rexec-preset.pid
{
	sh -c "$REXEC_PRESET" 2>&1
	echo "$?" >/run/rexec-preset.code
} | tee /var/log/rexec-preset.log
rm -f /run/rexec-preset.pid
exit "$(cat /run/rexec-preset.code)"
