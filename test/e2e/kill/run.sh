# shellcheck shell=bash
# `postern serve` is killed twenty times while a driver writes; whatever the API
# acknowledged must be there afterwards, and the story must pass on it.
cd "$SUITE/.."
POSTERN_E2E=1 go test -count=1 -run '^TestKill$' -v -timeout 5m . | grep -vE '^=== '
