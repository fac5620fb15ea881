#!/usr/bin/env bash
# Installs Debian packages, or prints the command if this user may not: lab/apt.sh PACKAGE...
# If another run of apt or dpkg holds the lock, it waits for ten minutes at most.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

if ! command -v apt-get >/dev/null; then
    echo "Missing on this machine: $*. Install it with the system's own package manager." >&2
    exit 1
elif [ "$(id -u)" != 0 ]; then
    echo "Missing on this machine: $*. Run: sudo apt-get install --no-install-recommends $*" >&2
    exit 1
fi

# apt_get WORD...: waits for all locks of apt, because DPkg::Lock::Timeout covers dpkg's only.
apt_get() {
    local waits='' output lock
    until output=$(apt-get -qq "$@" 2>&1); do
        lock=$(grep -m 1 'Could not get lock' <<<"$output") && [ "$SECONDS" -lt 600 ] || { echo "$output" >&2; return 1; }
        [ -n "$waits" ] || echo "    waiting for another run of apt or dpkg: ${lock#E: }"
        waits=1
        sleep 1
    done
}

echo "    apt-get install $*"
apt_get update || echo "    apt-get update failed; trying with the package lists there are" >&2
apt_get install --no-install-recommends "$@"
