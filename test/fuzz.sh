#!/usr/bin/env bash
# Runs every fuzz target of the project for SECONDS each (default 60):
#   test/fuzz.sh [SECONDS] [FOLDER…]
# Then the relay's engines are compared on random connections: 2,000, or 100,000
# where a target has a minute or more.
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
# fuzz runs one target. A finding names the input that it wrote down; without
# one, the deadline of the run itself was taken for a failure, as the fuzzer does
# now and then, and the target is run again.
fuzz() {
	local try
	for try in 1 2 3; do
		# Without a bound on minimizing, an early find takes the whole time.
		out=$(go test -run '^$' -fuzz "^$2\$" -fuzztime "${seconds}s" -fuzzminimizetime 10x "./$1" 2>&1) && return
		if grep -q 'Failing input written to' <<<"$out" || ! grep -qE '^ *context deadline exceeded$' <<<"$out"; then return 1; fi
		echo "  run $try ended by its own deadline; again"
	done
	return 1
}

for target in "${targets[@]}"; do
	read -r folder name <<<"$target"
	printf '%-32s %s\n' "$name" "$folder"
	if ! fuzz "$folder" "$name"; then
		printf '%s\n' "$out" >&2
		echo "fuzz: $name in $folder failed" >&2
		exit 1
	fi
	grep -E '^fuzz: elapsed' <<<"$out" | tail -n 1 | sed 's/^/  /'
done
runs=2000
[ "$seconds" -lt 60 ] || runs=100000
echo "TestEnginesAgree                 internal/relay, $runs connections"
if ! out=$(POSTERN_RUNS=$runs go test -count=1 -timeout 60m -run '^TestEnginesAgree$' ./internal/relay 2>&1); then
	printf '%s\n' "$out" >&2
	echo "fuzz: the engines do not agree" >&2
	exit 1
fi
echo "fuzz: ${#targets[@]} targets, ${seconds} s each, and the engines agree on $runs connections: nothing found"
