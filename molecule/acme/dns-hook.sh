#!/bin/sh
# Sets and removes records of the DNS that comes with pebble: deploy_challenge | clean_challenge NAME FILE TEXT
set -eu
dns=http://10.12.29.31:8055
case "$1" in
deploy_challenge) curl -sSf --noproxy '*' -d "{\"host\": \"_acme-challenge.$2.\", \"value\": \"$4\"}" "$dns/set-txt" ;;
clean_challenge) curl -sSf --noproxy '*' -d "{\"host\": \"_acme-challenge.$2.\"}" "$dns/clear-txt" ;;
esac
