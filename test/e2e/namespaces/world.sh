# shellcheck shell=bash
# The namespaces, what connects them, the sandbox in one of them, and captures.
# They are named after this process, so that runs do not meet.

POOL=198.18.0.0/15
INTERNET=198.19.0.0/16 # what the sandbox makes of the pool's second half
NAT=198.19.0.20        # Example Corp's address on the internet; the sandbox has no use for it
ns=postern-e2e-$$
networks=(platform internet example-corp globex)
capturing=

# fact PATH prints a value of sandbox.json, which is read once here: the suite asks
# often, and Python takes its time.
declare -A facts
fact() { [ -n "${facts[$1]+known}" ] || die "no $1 in sandbox.json"; printf '%s\n' "${facts[$1]}"; }
read_facts() {
	local path value
	while IFS=$'\t' read -r path value; do facts[$path]=$value; done < <(python3 -c '
import json, sys
def walk(path, value):
    if isinstance(value, dict):
        for key, inner in value.items():
            walk(path + [key], inner)
    else:
        print(".".join(path), value, sep="\t")
walk([], json.load(sys.stdin))' <"$STATE/sandbox.json")
}

# inside NETWORK COMMAND… runs a command in a namespace. (Not for what runs beside
# the suite: the process ID would be that of a shell.)
inside() {
	local network=$1
	shift
	ip netns exec "$ns-$network" "$@"
}

make_world() {
	[ "$(id -u)" = 0 ] || die "network namespaces need root; run this suite as root"
	trap end_world EXIT
	local network
	for network in "${networks[@]}"; do
		ip netns add "$ns-$network" 2>"$WORK/ip" || die "this machine allows no network namespaces (ip netns add: $(cat "$WORK/ip")); run this suite in a VM, or in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN"
		inside "$network" ip link set lo up
		# New namespaces inherit the machine's settings. Only the internet forwards.
		for key in all default; do
			inside "$network" sh -c "echo 0 >/proc/sys/net/ipv4/conf/$key/rp_filter && echo $([ "$network" = internet ] && echo 1 || echo 0) >/proc/sys/net/ipv4/conf/$key/forwarding" ||
				die "the network settings of a namespace cannot be written"
		done
	done
	# Every address of the pool is the platform's, but for those routed elsewhere.
	inside platform ip route add local "$POOL" dev lo
}

end_world() {
	local network pids
	[ -z "$capturing" ] || kill "$capturing" 2>/dev/null || true
	stop_sandbox
	for network in "${networks[@]}"; do
		read -ra pids <<<"$(ip netns pids "$ns-$network" 2>/dev/null | tr '\n' ' ')" || true
		[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
		ip netns delete "$ns-$network" 2>/dev/null || true
		rm -rf "/etc/netns/$ns-$network"
	done
}

# start_in_platform runs the sandbox, and the commands that use its API, in the
# platform's namespace; it returns when every organization is connected.
start_in_platform() {
	printf '#!/bin/sh\nexec ip netns exec %q %q "$@"\n' "$ns-platform" "$POSTERN" >"$WORK/postern"
	chmod +x "$WORK/postern"
	ip netns exec "$ns-platform" "$POSTERN" sandbox --pool "$POOL" --https-port 443 --dns-port 53 --state-dir "$STATE" -o json >"$WORK/sandbox.out" 2>>"$WORK/sandbox.log" &
	pid=$!
	POSTERN=$WORK/postern
	until_ok 60 "the sandbox connects everybody" everybody_is_connected
}

everybody_is_connected() {
	kill -0 "$pid" 2>/dev/null || die "the sandbox ended before it was ready"
	[ -s "$WORK/sandbox.out" ]
}

# link NETWORK ADDRESS joins a namespace to the platform's. Its address there is
# a host; a more specific route takes it from the platform's own.
link() {
	inside "$1" ip link add platform type veth peer name "$1" netns "$ns-platform"
	inside "$1" ip address add "$2/32" dev platform
	inside "$1" ip link set platform up
	inside platform ip link set "$1" up
	inside platform ip route add "$2/32" dev "$1" table local
}

# connect_world gives each network its host, its routes and its resolver.
connect_world() {
	local network source
	read_facts
	for network in internet example-corp globex; do
		source=$(fact "sources.$network")
		link "$network" "$source"
		mkdir -p "/etc/netns/$ns-$network"
		case $network in
		internet)
			inside internet ip route add "$INTERNET" dev platform
			echo "nameserver $(fact resolvers.public)"
			;;
		*)
			inside "$network" ip route add "$(cidr_of "$source")" dev platform
			echo "nameserver $(fact "resolvers.$network")"
			;;
		esac >"/etc/netns/$ns-$network/resolv.conf"
	done
	connect_nat
	FROM_EXAMPLE_CORP="host $NAT or net $(cidr_of "$(fact sources.example-corp)")"
}

# connect_nat lets Example Corp's network reach the internet through its
# namespace, with an address that is not in the VPC.
connect_nat() {
	local client
	client=$(fact sources.internet)
	inside example-corp ip link add internet type veth peer name example-corp netns "$ns-internet"
	inside example-corp ip address add "$NAT/32" dev internet
	inside example-corp ip link set internet up
	inside internet ip link set example-corp up
	inside internet ip route add "$NAT/32" dev example-corp
	inside example-corp ip route add "$INTERNET" via "$client" dev internet onlink src "$NAT"
	inside platform ip route add "$NAT/32" via "$client" dev internet onlink table local
}

# cidr_of ADDRESS prints the VPC that it is in; the sandbox's VPCs are /20.
cidr_of() { python3 -c 'import ipaddress, sys; print(ipaddress.ip_network(sys.argv[1] + "/20", strict=False))' "$1"; }

# doors public|private prints the address of every door of every node.
doors() {
	python3 -c '
import json, sys
for node in json.load(sys.stdin)["nodes"].values():
    print(*node[sys.argv[1]].values(), sep="\n")' "$1" <"$STATE/sandbox.json"
}

# aws_in_vpc ARGUMENTS… is Debian's AWS CLI, run by Example Corp in its network.
aws_in_vpc() { as example-corp ip netns exec "$ns-example-corp" /usr/bin/aws --endpoint-url "$(fact aws.endpoint_url)" --output json "$@"; }

# capture NAME records every packet in the internet's namespace until end_capture.
capture() {
	ip netns exec "$ns-internet" tcpdump -i any -n -U --immediate-mode -Z root -w "$WORK/$1.pcap" >"$WORK/tcpdump" 2>&1 &
	capturing=$!
	until_ok 10 "tcpdump listens" grep -q '^tcpdump: listening\|, link-type' "$WORK/tcpdump"
}

end_capture() {
	kill -INT "$capturing"
	wait "$capturing" || die "tcpdump failed: $(cat "$WORK/tcpdump")"
	capturing=
}

# packets NAME FILTER counts what a capture holds.
packets() { tcpdump -n -r "$WORK/$1.pcap" "$2" 2>/dev/null | wc -l; }
