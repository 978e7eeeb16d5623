#!/usr/bin/env bash
# Plays the sandbox's story again and again for MINUTES (default 60), and stops
# at the first time that it does not end well:
#   test/soak.sh [MINUTES]
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-60}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

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
