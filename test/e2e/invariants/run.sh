# shellcheck shell=bash
# Thousands of random operations, with real connections after each against what
# must never be, while the control plane and the nodes are killed now and then;
# then a whole cutover under 200 private requests a second.
cd "$SUITE/../../../internal/sandbox"
POSTERN_E2E=1 POSTERN_OPS=${POSTERN_OPS:-3000} go test -count=1 -run '^(TestInvariants|TestCutoverUnderLoad)$' -v -timeout 5m . | grep -vE '^=== '
