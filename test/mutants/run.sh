#!/usr/bin/env bash
# Breaks one promise after another and demands that the story notices:
#   test/mutants/run.sh [NAME…]      NAME: a patch's name or the start of it
#   test/mutants/run.sh --sample     a dozen from all along the story, others for
#                                    each commit: what CI has time for
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
lanes=2   # side by side, because a story mostly waits: one is built while another plays
areas=12  # of the story, for --sample

shopt -s nullglob
patches=()
sample=
if [ "${1-}" = --sample ]; then
	sample=yes
	shift
fi
for p in "$here"/[0-9]*.patch; do
	[ $# -gt 0 ] || patches+=("$p")
	for name; do case ${p##*/} in "$name"*) patches+=("$p") ;; esac; done
done
if [ ${#patches[@]} -eq 0 ]; then
	echo "mutants: no patch ${*:-at all} in test/mutants" >&2
	exit 1
fi

# The patches are numbered in the story's order, so that a stretch of numbers is
# an area. Of each, the commit chooses one: a run can be repeated, and in time
# all have their turn.
if [ -n "$sample" ] && [ ${#patches[@]} -gt $areas ]; then
	commit=$(git -C "$root" rev-parse --short=7 HEAD)
	all=("${patches[@]}") patches=()
	for ((i = 0; i < areas; i++)); do
		from=$((i * ${#all[@]} / areas)) to=$(((i + 1) * ${#all[@]} / areas))
		patches+=("${all[from + 16#${commit:0:7} % (to - from)]}")
	done
	echo "mutants: a sample of ${#patches[@]} of ${#all[@]}, chosen by commit $commit; \"make mutants\" runs all"
fi

work=$(mktemp -d)
groups=() # process groups of the lanes
finish() {
	local g
	for g in "${groups[@]}"; do kill -- "-$g" 2>/dev/null || true; done
	wait
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# apply, build and story work in a lane's directory, $lane: the tree, the
# program, and what a run leaves behind.
lane=$work/0
mkdir -p "$lane/tree"
# What is committed or could be: neither ignored files nor the repository itself.
(cd "$root" && git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --ignore-failed-read -cf -) 2>/dev/null | tar -xf - -C "$lane/tree"

# git apply looks for a repository around the tree, and would then skip files.
apply() { GIT_CEILING_DIRECTORIES=$work git -C "$lane/tree" apply --whitespace=nowarn "$@"; }
build() { (cd "$lane/tree" && CGO_ENABLED=0 go build -trimpath -ldflags=-w -o "$lane/postern" ./cmd/postern); }

# story plays the story: its steps go to steps, as "ok NAME" and "failed NAME"
# lines, and what was wrong to detail; prints the exit code. Any free ports do, so
# that it disturbs nobody. One may be taken in the moment between: what did not
# begin is begun once more.
story() {
	local rc
	for _ in 1 2; do
		rc=0
		timeout --foreground "$limit" "$lane/postern" sandbox --check -o json --state-dir "$lane/state" --https-port 0 --dns-port 0 >"$lane/out" 2>"$lane/err" || rc=$?
		rm -rf "$lane/state"
		python3 - "$lane/out" >"$lane/steps" 2>"$lane/detail" <<'PY'
import json, sys
for line in open(sys.argv[1], encoding="utf-8"):
    try:
        step = json.loads(line)
    except ValueError:
        continue
    if isinstance(step, dict) and "name" in step and "passed" in step:
        print("ok" if step["passed"] else "failed", step["name"])
        if not step["passed"]:
            print(step.get("detail", ""), file=sys.stderr)
PY
		[ ! -s "$lane/steps" ] || break
	done
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
	apply "$1" 2>"$lane/err" || { echo "does not apply: $(head -n 1 "$lane/err")"; return; }
	if ! build 2>"$lane/err"; then
		echo "does not build: $(head -n 3 "$lane/err" | tr '\n' ' ')"
	else
		rc=$(story)
		first=$(sed -n 's/^failed //p' "$lane/steps" | head -n 1)
		if [ "$rc" = 0 ]; then
			echo "SURVIVED: the story noticed nothing"
		elif [ "$rc" != 1 ] || [ -z "$first" ]; then
			echo "exit code $rc, first failed step '${first:-none}': $(tail -n 1 "$lane/err")"
		elif [ "$first" != "$step" ]; then
			echo "failed first at '$first', not at '$step': $(head -n 1 "$lane/detail")"
		fi
	fi
	apply --reverse "$1"
}

# work_off judges the patches that no other lane has taken.
work_off() {
	local p name from verdict caught
	for p in "${patches[@]}"; do
		name=${p##*/}
		mkdir "$work/taken-$name" 2>/dev/null || continue
		from=$SECONDS verdict=$(judge "$p")
		printf '%-34s %5s s  %s\n' "${name%.patch}" $((SECONDS - from)) "${verdict:-caught at $(header step "$p"): $(head -n 1 "$lane/detail")}"
		[ -n "$verdict" ] || touch "$work/caught-$name"
	done
}

started=$SECONDS
build
if [ "$(story)" != 0 ] || [ ! -s "$lane/steps" ]; then
	cat "$lane/out" "$lane/err" >&2
	echo "mutants: the story fails without any mutant, or prints no steps; mend that first" >&2
	exit 1
fi
cp "$lane/steps" "$work/baseline"
printf '%-34s %5s s  %s\n' "unchanged" $((SECONDS - started)) "$(wc -l <"$work/baseline") steps, all good"

for ((i = 1; i < lanes; i++)); do mkdir "$work/$i" && cp -r "$work/0/tree" "$work/$i/tree"; done
set -m # a process group for each lane, so that none outlives this script
for ((i = 0; i < lanes; i++)); do
	lane=$work/$i work_off &
	groups+=($!)
done
set +m
wait

# Counted by what was caught, so that a lane that died is no success.
caught=("$work"/caught-*)
if [ ${#caught[@]} -lt ${#patches[@]} ]; then
	echo "mutants: $((${#patches[@]} - ${#caught[@]})) of ${#patches[@]} were not caught where they should be" >&2
	exit 1
fi
echo "mutants: ${#patches[@]} caught in $((SECONDS - started)) s"
