# shellcheck shell=bash
# `postern serve` is killed at every call that it makes to AWS while it makes the
# endpoint of a data connection, and while it deletes one: afterwards there is
# exactly one endpoint, or none.
cd "$SUITE/.."
POSTERN_E2E=1 go test -count=1 -run '^TestConnectionsSurviveKills$' -v -timeout 5m . | grep -vE '^=== '
