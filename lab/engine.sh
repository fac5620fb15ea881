#!/usr/bin/env bash
# Checks that a Docker engine answers; root on Debian gets one installed and started.
set -euo pipefail
cd "$(dirname "$0")/.."
log=.cache/lab/dockerd.log

answers() { docker version >/dev/null 2>&1; }
die() {
    echo "No Docker engine: $*" >&2
    exit 1
}
# may BIT: whether this process has a capability, by its number in capabilities(7)
may() { ((0x$(awk '/^CapEff/ { print $2 }' /proc/self/status) >> $1 & 1)); }

answers && exit
[ -z "${DOCKER_HOST:-}" ] || die "DOCKER_HOST=$DOCKER_HOST does not answer. Start it, or unset DOCKER_HOST."
[ "$(id -u)" = 0 ] || die "none answers $(id -un). If one runs, join its group" \
    "(sudo adduser $(id -un) docker) and log in again; otherwise run: sudo lab/engine.sh"

if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
    [ -e /etc/debian_version ] || die "install Docker as this system's vendor describes it, then try again."
    lab/apt.sh docker.io iptables
    # Debian 12 has the client in docker.io, 13 in a package of its own.
    command -v docker >/dev/null || lab/apt.sh docker-cli
fi

if [ -d /run/systemd/system ]; then
    systemctl start docker || die "see journalctl -u docker."
elif may 12 && may 21; then
    mkdir -p "$(dirname "$log")"
    # A killed engine leaves its pid files. The next one does not start if any process has such a pid.
    for file in /run/docker.pid /run/docker/containerd/containerd.pid; do
        pid=$(cat "$file" 2>/dev/null || true)
        [[ $(readlink "/proc/$pid/exe" 2>/dev/null || true) =~ /(dockerd|containerd)$ ]] || rm -f "$file"
    done
    echo "    dockerd runs in the background: log $log, end it with kill \$(cat /run/docker.pid)"
    # If a container can't write /proc/sys, an IPv4 network keeps its link-local IPv6 addresses.
    DOCKER_ALLOW_IPV6_ON_IPV4_INTERFACE=1 setsid dockerd </dev/null >"$log" 2>&1 &
else
    die "this container lacks CAP_NET_ADMIN or CAP_SYS_ADMIN. Give it both, or use a virtual machine."
fi

for _ in {1..120}; do
    answers && exit
    [ -z "${!:-}" ] || kill -0 "$!" 2>/dev/null || break
    sleep 0.5
done
[ ! -e "$log" ] || tail -n 5 "$log" >&2
die "it was started and does not answer."
