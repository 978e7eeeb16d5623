#!/usr/bin/env bash
# Makes sure that files are there which Debian packages bring:
#   test/packages.sh FILE:PACKAGE…      such as /usr/bin/curl:curl
# Installs what is missing where that is possible, one caller after the other,
# and otherwise says what to install and fails.
set -euo pipefail

missing=()
for pair; do [ -e "${pair%%:*}" ] || missing+=("${pair##*:}"); done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "missing: ${missing[*]}; install them, or run as root on Debian" >&2
	exit 1
fi
echo "installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! flock /tmp/postern-packages.lock bash -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"' packages "${missing[@]}" >"$log" 2>&1; then
	tail -n 5 "$log" >&2
	echo "cannot install ${missing[*]}" >&2
	exit 1
fi
