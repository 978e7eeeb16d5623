#!/usr/bin/env bash
# Runs the end-to-end suites: other people's clients against a sandbox.
#   test/e2e/run.sh [SUITE…]       without arguments: all of them
# A suite is a folder here with a run.sh, which is sourced after lib.sh. Each has
# a sandbox of its own, started from nothing. A missing program is installed
# where that is possible, and otherwise a failure: no suite is ever skipped.
set -euo pipefail
e2e=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$e2e/../.." && pwd)

mapfile -t all < <(cd "$e2e" && printf '%s\n' */run.sh | sed 's#/run.sh##')
[ $# -gt 0 ] || set -- "${all[@]}"
for suite; do
	if [ ! -f "$e2e/$suite/run.sh" ]; then
		echo "e2e: no suite $suite; there are: ${all[*]}" >&2
		exit 2
	fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$root" && CGO_ENABLED=0 go build -o "$work/postern" ./cmd/postern)

started=$SECONDS
for suite; do
	from=$SECONDS
	echo "== $suite"
	mkdir "$work/$suite"
	# A process of its own: its traps end its sandbox whatever happens.
	if ! POSTERN=$work/postern WORK=$work/$suite SUITE=$e2e/$suite bash -c 'set -euo pipefail; . "$1/lib.sh"; . "$SUITE/run.sh"' e2e "$e2e"; then
		printf '== %-10s FAILED %4d s  (run it alone: bash test/e2e/run.sh %s)\n' "$suite" $((SECONDS - from)) "$suite"
		exit 1
	fi
	printf '== %-10s passed %4d s\n' "$suite" $((SECONDS - from))
done
echo "e2e: $# suites passed in $((SECONDS - started)) s"
