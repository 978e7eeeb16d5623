#!/usr/bin/env bash
# Runs the relay's tests at full length, and then plays the sandbox's story again and again for MINUTES (default 60), and stops
# at the first time that it does not end well:
#   test/soak.sh [MINUTES]
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-60}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The relay's tests with as much of everything as they can take.
if ! POSTERN_LONG=1 go test -count=1 -timeout 30m ./internal/relay >"$work/out" 2>&1; then
	cat "$work/out" >&2
	echo "soak: the relay failed" >&2
	exit 1
fi
go build -o "$work/postern" ./cmd/postern
end=$((SECONDS + minutes * 60)) rounds=0
while [ $SECONDS -lt $end ]; do
	if ! "$work/postern" sandbox --check >"$work/out" 2>&1; then
		cat "$work/out" >&2
		echo "soak: round $((rounds + 1)) failed, after $SECONDS s" >&2
		exit 1
	fi
	rounds=$((rounds + 1))
done
echo "soak: $rounds rounds in $SECONDS s, all good"
