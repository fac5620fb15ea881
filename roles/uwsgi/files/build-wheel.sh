#!/bin/sh
# Build uWSGI's wheel for an interpreter, once:  build-wheel.sh PYTHON VERSION SHA256
# $BUILD_REQUIREMENTS holds the pinned tools. The wheel appears complete or not at all.
set -eu
python=$1 version=$2 sha256=$3

abi=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))')
wheels=/var/lib/flaskfleet/wheels/$(echo "${python#/}" | tr / -)/$abi
[ ! -f "$wheels/uwsgi-$version.whl" ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=/etc/ssl/certs/ca-certificates.crt
[ ! -f "$bundle" ] || export PIP_CERT="$bundle"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

"$python" -m venv "$work/tools"
printf '%s\n' "$BUILD_REQUIREMENTS" > "$work/tools.txt"
echo "uwsgi==$version --hash=sha256:$sha256" > "$work/uwsgi.txt"
"$work/tools/bin/pip" install --quiet --require-hashes -r "$work/tools.txt"
"$work/tools/bin/pip" wheel --quiet --no-deps --no-build-isolation --require-hashes -r "$work/uwsgi.txt" -w "$work"

mkdir -p "$wheels"
mv "$work"/[Uu][Ww][Ss][Gg][Ii]-*.whl "$wheels/"
cd "$wheels"
ln -sf [Uu][Ww][Ss][Gg][Ii]-"$version"-*.whl "uwsgi-$version.whl"
echo "built uWSGI $version for $python ($abi)"
