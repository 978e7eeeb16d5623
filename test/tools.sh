#!/usr/bin/env bash
# Runs a development tool in the version that the project is checked with:
#   test/tools.sh golangci-lint run ./...
# Tools are built once, by the go command, into a cache outside the repository.
set -euo pipefail

case ${1:-} in
golangci-lint) module=github.com/golangci/golangci-lint/v2/cmd/golangci-lint version=v2.15.0 ;;
govulncheck) module=golang.org/x/vuln/cmd/govulncheck version=v1.8.0 ;;
*)
	echo "tools: no tool ${1:-named}; there are golangci-lint and govulncheck" >&2
	exit 2
	;;
esac
tool=$1
shift

# A tool judges the code as the Go version that it was built with sees it.
dir=${XDG_CACHE_HOME:-$HOME/.cache}/postern-tools/$tool-$version-$(go env GOVERSION)
if [ ! -x "$dir/$tool" ]; then
	echo "tools: building $tool $version" >&2
	# Built to one side, so that an interrupted build leaves no half tool.
	GOBIN=$dir.part GOFLAGS='' CGO_ENABLED=0 go install "$module@$version" >&2
	mkdir -p "$dir"
	mv "$dir.part/$tool" "$dir/$tool"
	rmdir "$dir.part"
fi
exec "$dir/$tool" "$@"
