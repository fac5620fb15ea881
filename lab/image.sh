#!/usr/bin/env bash
# Builds flaskfleet-host:RELEASE, a Debian with systemd and sshd: lab/image.sh bookworm|trixie|bookworm-lto
# bookworm-lto has a second Python: see lto.Dockerfile.
# It is built again when its recipe changes. LAB_IMAGE names a registry's repository to take
# LAB_IMAGE:RELEASE from instead; it must have systemd, python3, sshd and a directory /root/.ssh.
set -euo pipefail
cd "$(dirname "$0")/.."
release=${1:?usage: lab/image.sh bookworm|trixie|bookworm-lto}
image=flaskfleet-host:$release

if [[ -n ${LAB_IMAGE:-} && $release != *-lto ]]; then
    docker pull --quiet "$LAB_IMAGE:$release"
    exec docker tag "$LAB_IMAGE:$release" "$image"
fi

mkdir -p .cache/lab
exec {lock}>".cache/lab/image-$release.lock"
flock "$lock"

recipe=$(cat lab/image.sh lab/*.Dockerfile | sha256sum | cut -c 1-12)
built=$(docker image inspect -f '{{index .Config.Labels "flaskfleet.recipe"}}' "$image" 2>/dev/null || true)
[ "$built" != "$recipe" ] || exit 0

if [[ $release == *-lto ]]; then
    lab/image.sh "${release%-lto}"
    echo "    building $image, about ten minutes"
    docker build --quiet --label "flaskfleet.recipe=$recipe" --tag "$image" --file lab/lto.Dockerfile lab >/dev/null
    exit
fi

command -v mmdebstrap >/dev/null || lab/apt.sh mmdebstrap
echo "    building $image, about half a minute"

packages=systemd,systemd-sysv,dbus,python3,python3-apt,sudo,iproute2,procps,ca-certificates,openssh-server
# The package lists stay: apt's cache_valid_time goes by the age of their directory and would
# take an empty one for fresh. Host keys are made at boot, so that no two hosts share them.
# shellcheck disable=SC2016 # mmdebstrap's shell expands $1, the new root
options=(
    --quiet --variant=minbase --include="$packages" --skip=cleanup/apt/lists
    --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io
    --customize-hook='rm "$1"/etc/ssh/ssh_host_*'
    --customize-hook='echo "PasswordAuthentication no" >"$1/etc/ssh/sshd_config.d/lab.conf"'
    --customize-hook='mkdir "$1/etc/systemd/system/ssh.service.d"'
    --customize-hook='printf "%s\n" "[Service]" ExecStartPre= "ExecStartPre=ssh-keygen -A" "ExecStartPre=/usr/sbin/sshd -t" >"$1/etc/systemd/system/ssh.service.d/lab.conf"'
)
root=$(mktemp --tmpdir=.cache/lab --suffix=.tar)
trap 'rm -f "$root"' EXIT
mmdebstrap "${options[@]}" "$release" "$root"
docker import --change "LABEL flaskfleet.recipe=$recipe" "$root" "$image" >/dev/null
