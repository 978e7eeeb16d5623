# shellcheck shell=bash
# Certificates of the SCIM-only ingress from an authority by ACME: Pebble, built from
# the module proxy, challenges the door at the host that the platform's DNS gives it.
cd "$SUITE/.."
POSTERN_E2E=1 go test -count=1 -run '^TestACME$' -v -timeout 3m . | grep -vE '^=== '
