#!/usr/bin/env bash
# Runs every fuzz target of the project for SECONDS each (default 60):
#   test/fuzz.sh [SECONDS] [FOLDER…]
# A target that finds something leaves its input in testdata/fuzz, to be
# committed together with the correction.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- .

mapfile -t targets < <(
	grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' "$@" | sort -u |
		while IFS=: read -r file func; do echo "$(dirname "$file") ${func#func }"; done
)
if [ ${#targets[@]} -eq 0 ]; then
	echo "fuzz: no fuzz target below $*" >&2
	exit 1
fi
for target in "${targets[@]}"; do
	read -r folder name <<<"$target"
	printf '%-32s %s\n' "$name" "$folder"
	# Without a bound on minimizing, an early find takes the whole time.
	if ! out=$(go test -run '^$' -fuzz "^$name\$" -fuzztime "${seconds}s" -fuzzminimizetime 10x "./$folder" 2>&1); then
		printf '%s\n' "$out" >&2
		echo "fuzz: $name in $folder failed" >&2
		exit 1
	fi
	grep -E '^fuzz: elapsed' <<<"$out" | tail -n 1 | sed 's/^/  /'
done
echo "fuzz: ${#targets[@]} targets, ${seconds} s each, nothing found"
