#!/usr/bin/env bash
# Installs Debian packages, or says who has to: lab/apt.sh PACKAGE...
set -euo pipefail

if ! command -v apt-get >/dev/null; then
    echo "Missing on this machine: $*. Install it with the system's own package manager." >&2
    exit 1
elif [ "$(id -u)" != 0 ]; then
    echo "Missing on this machine: $*. Run: sudo apt-get install --no-install-recommends $*" >&2
    exit 1
fi

echo "    apt-get install $*"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "    apt-get update failed; trying with the package lists there are" >&2
apt-get install -qq --no-install-recommends "$@" >/dev/null
