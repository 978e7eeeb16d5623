#!/usr/bin/env bash
# Breaks one promise after another and demands that the story notices:
#   test/mutants/run.sh [NAME…]      NAME: a patch's name or the start of it
# A mutant is a patch NN-name.patch here, with two lines ahead of the diff:
#   # promise: what users are promised, in one sentence
#   # step: the step of "postern sandbox --check" that must be the first to fail
# Each is applied to a copy of the tree and built. Then --check must exit with 1
# and its first failed step must be the one that the mutant names. A patch that no
# longer applies, or that does not build, is a failure too: it guards nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
limit=180 # seconds for one run of the story, which needs a tenth of that

shopt -s nullglob
patches=()
for p in "$here"/[0-9]*.patch; do
	[ $# -gt 0 ] || patches+=("$p")
	for name; do case ${p##*/} in "$name"*) patches+=("$p") ;; esac; done
done
if [ ${#patches[@]} -eq 0 ]; then
	echo "mutants: no patch ${*:-at all} in test/mutants" >&2
	exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What is committed or could be: neither ignored files nor the repository itself.
mkdir "$work/tree"
(cd "$root" && git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --ignore-failed-read -cf -) 2>/dev/null | tar -xf - -C "$work/tree"

# git apply looks for a repository around the tree, and would then skip files.
apply() { GIT_CEILING_DIRECTORIES=$work git -C "$work/tree" apply "$@"; }
build() { (cd "$work/tree" && CGO_ENABLED=0 go build -trimpath -o "$work/postern" ./cmd/postern); }

# story plays the story: its steps go to steps, as "ok NAME" and "failed NAME"
# lines; prints the exit code.
story() {
	local rc=0
	timeout "$limit" "$work/postern" sandbox --check -o json --state-dir "$work/state" >"$work/out" 2>"$work/err" || rc=$?
	rm -rf "$work/state"
	python3 - "$work/out" >"$work/steps" <<'PY'
import json, sys
for line in open(sys.argv[1], encoding="utf-8"):
    try:
        step = json.loads(line)
    except ValueError:
        continue
    if isinstance(step, dict) and "name" in step and "passed" in step:
        print("ok" if step.get("passed") else "failed", step["name"])
PY
	echo "$rc"
}

header() { sed -n "s/^# $1: *//p;/^diff /q" "$2" | head -n 1; }

# judge PATCH prints nothing when the mutant was caught where it says, and
# otherwise what happened instead.
judge() {
	local step rc first
	step=$(header step "$1")
	if [ -z "$step" ] || [ -z "$(header promise "$1")" ]; then
		echo "no '# step:' or no '# promise:' line"
		return
	fi
	grep -qxF "ok $step" "$work/baseline" || { echo "the story has no step '$step'"; return; }
	apply --whitespace=nowarn "$1" 2>"$work/err" || { echo "does not apply: $(head -n 1 "$work/err")"; return; }
	if ! build 2>"$work/err"; then
		echo "does not build: $(head -n 3 "$work/err" | tr '\n' ' ')"
	else
		rc=$(story)
		first=$(sed -n 's/^failed //p' "$work/steps" | head -n 1)
		if [ "$rc" = 0 ]; then
			echo "SURVIVED: the story noticed nothing"
		elif [ "$rc" != 1 ] || [ -z "$first" ]; then
			echo "exit code $rc, first failed step '${first:-none}': $(tail -n 1 "$work/err")"
		elif [ "$first" != "$step" ]; then
			echo "failed first at '$first', not at '$step'"
		fi
	fi
	apply --whitespace=nowarn --reverse "$1"
}

started=$SECONDS
build
if [ "$(story)" != 0 ] || [ ! -s "$work/steps" ]; then
	cat "$work/out" "$work/err" >&2
	echo "mutants: the story fails without any mutant, or prints no steps; mend that first" >&2
	exit 1
fi
cp "$work/steps" "$work/baseline"
printf '%-34s %5s s  %s\n' "unchanged" $((SECONDS - started)) "$(wc -l <"$work/baseline") steps, all good"

survivors=0
for p in "${patches[@]}"; do
	from=$SECONDS verdict=$(judge "$p") name=${p##*/} caught="caught at '$(header step "$p")'"
	printf '%-34s %5s s  %s\n' "${name%.patch}" $((SECONDS - from)) "${verdict:-$caught}"
	[ -z "$verdict" ] || survivors=$((survivors + 1))
done
if [ $survivors -gt 0 ]; then
	echo "mutants: $survivors of ${#patches[@]} were not caught where they should be" >&2
	exit 1
fi
echo "mutants: ${#patches[@]} caught in $((SECONDS - started)) s"
