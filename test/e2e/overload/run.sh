# shellcheck shell=bash
# Ten thousand clients that begin a hello and never end it, each coming back when
# it is turned away, at a proxy with descriptors for six thousand: good clients
# get 95 % of what they ask for and more, memory stays bounded, and five seconds
# after the flood all is well.
if ! command -v ip >/dev/null; then need ip:iproute2; fi
(cd "$SUITE/../../.." && CGO_ENABLED=0 go build -o "$WORK/dataplane" ./bench/dataplane)
unshare --net bash -c '
	set -e
	ip link set lo mtu 1500 up
	echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range
	echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse
	exec "$@"' inside "$WORK/dataplane" overload -engine epoll -dir "$WORK" -length 10s
