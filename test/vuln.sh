#!/usr/bin/env bash
# Looks for known vulnerabilities in what the code calls, by govulncheck:
#   test/vuln.sh [PACKAGE…]
# The database is Go's own, https://vuln.go.dev. GOVULNDB names another: a URL
# or a folder that test/vulndb.py made. Exit code: 0 nothing found; 1 found, or
# the check failed; 75 no database could be reached, so nothing was checked.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- ./...

db=${GOVULNDB:-https://vuln.go.dev}
case $db in
http*)
	# Told apart from a vulnerability: without a database nothing is known.
	if ! curl -fsS --max-time 20 -o /dev/null "$db/index/db.json"; then
		echo "vuln: NOT CHECKED: no vulnerability database at $db; set GOVULNDB (see test/vulndb.py)" >&2
		exit 75
	fi
	;;
*)
	if [ ! -f "$db/index/modules.json" ]; then
		echo "vuln: GOVULNDB=$db is not a folder that test/vulndb.py made" >&2
		exit 1
	fi
	db=file://$(cd "$db" && pwd)
	;;
esac
bash "$here/tools.sh" govulncheck -db "$db" "$@" || exit 1
