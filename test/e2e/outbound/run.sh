# shellcheck shell=bash
# The way out, where networks are real: a workload of Example's tenant, one of
# Globex's, and the internet are network namespaces beside the platform's. The
# workloads reach the platform's VPC and have no route to the internet; a capture
# there sees whatever leaves. The cluster's hostname has a public address as well,
# on the internet: a wrong turn would go there.
#
#   workload ──┐
#              platform ──── internet (and a public address of starburst.example.com)
#   other ─────┘
unset http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
need aws:awscli curl:curl dig:bind9-dnsutils tcpdump:tcpdump openssl:openssl
if ! command -v ip >/dev/null; then need ip:iproute2; fi

# shellcheck source=test/e2e/namespaces/world.sh
. "$SUITE/../namespaces/world.sh"
networks=(platform internet workload other)
make_world
step "a sandbox on 198.18.0.0/15 in the platform's namespace, ports 443 and 53"
start_in_platform
read_facts
vpc=$(cidr_of "$(fact egress.sources.example)")
for network in internet workload other; do
	mkdir -p "/etc/netns/$ns-$network"
	case $network in
	internet)
		link internet "$(fact sources.internet)"
		inside internet ip route add "$INTERNET" dev platform
		echo "nameserver $(fact resolvers.public)"
		;;
	*)
		tenant=$([ $network = workload ] && echo example || echo globex)
		link $network "$(fact "egress.sources.$tenant")"
		inside $network ip route add "$vpc" dev platform
		# The egress first, and behind it the VPC's own resolver, which knows the
		# public addresses of everything: as in a resolv.conf of many machines.
		dns=$(fact "egress.dns.$tenant")
		printf 'nameserver %s\nnameserver %s\noptions timeout:2 attempts:1\n' "${dns%:*}" "$(python3 -c 'import ipaddress, sys; print(ipaddress.ip_network(sys.argv[1])[2])' "$vpc")"
		;;
	esac >"/etc/netns/$ns-$network/resolv.conf"
done
ca=$(fact ca_file) host=$(fact trino.example-corp.hostname) service=$(fact trino.example-corp.vpc_endpoint_service_id)
decoy=$(fact sources.internet)
aws_out() { as example-corp ip netns exec "$ns-platform" /usr/bin/aws --endpoint-url "$(fact aws.endpoint_url)" --output json "$@"; }
aws_platform() { as platform ip netns exec "$ns-platform" /usr/bin/aws --endpoint-url "$(fact aws.endpoint_url)" --output text "$@"; }
# eni prints an address of the platform's endpoint to the cluster.
eni() {
	aws_platform ec2 describe-network-interfaces --query 'NetworkInterfaces[0].PrivateIpAddress' \
		--network-interface-ids "$(aws_platform ec2 describe-vpc-endpoints --vpc-endpoint-ids "$endpoint" --query 'VpcEndpoints[0].NetworkInterfaceIds[0]')"
}
connection() { postern_as example-corp connections show "$host" -o json | jsonfield "$1"; }
is_state() { [ "$(connection status.state)" = "$1" ]; }
certificate() { ip netns exec "$ns-platform" curl -sS -X POST "$(fact trino.example-corp.control_url)/certificate/$1"; }

# by_proxy NETWORK TENANT and straight NETWORK TENANT are curl by each way out.
by_proxy() {
	local network=$1 tenant=$2
	shift 2
	inside "$network" curl -sS --max-time 10 --cacert "$ca" --proxy-cacert "$ca" --proxy "$(fact egress.proxy)" --proxy-user "w:$(cat "$(fact "egress.tokens.$tenant")")" "$@"
}
straight() {
	local network=$1
	shift 2
	inside "$network" curl -sS --max-time 10 --cacert "$ca" "$@"
}
# query WAY NETWORK TENANT runs SELECT 1 as Trino's clients do: post the statement,
# and follow nextUri.
query() {
	local page next
	page=$("$@" -H 'X-Trino-User: e2e' --data 'SELECT 1' "https://$host/v1/statement") || return
	while next=$(jsonfield nextUri <<<"$page" 2>/dev/null); do
		page=$("$@" -H 'X-Trino-User: e2e' "$next") || return
		rows=$(jsonfield data <<<"$page" 2>/dev/null) && echo "$rows"
	done
}

step "the customer: a public address of $host, its proof, the principal; the endpoint is accepted"
asked=(connections create --tenant example --region us-east-1 --service "$service" --hostname "$host" --port 443)
for zone in $(fact trino.example-corp.availability_zone_ids | tr -d "[],'\""); do asked+=(--zone-id "$zone"); done
postern_as example-corp "${asked[@]}" --dry-run -o json >"$WORK/dry"
record=$(jsonfield connection.status.challenge.name <"$WORK/dry") text=$(jsonfield connection.status.challenge.value <"$WORK/dry")
zone=$(aws_out route53 create-hosted-zone --name "${host#*.}" --caller-reference "$RANDOM" --query HostedZone.Id --output text)
cat >"$WORK/records" <<JSON
{"Changes": [
  {"Action": "UPSERT", "ResourceRecordSet": {"Name": "$host", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "$decoy"}]}},
  {"Action": "UPSERT", "ResourceRecordSet": {"Name": "$record", "Type": "TXT", "TTL": 1, "ResourceRecords": [{"Value": "\"$text\""}]}}]}
JSON
change=$(aws_out route53 change-resource-record-sets --hosted-zone-id "$zone" --change-batch "file://$WORK/records" --query ChangeInfo.Id --output text)
in_sync() { [ "$(aws_out route53 get-change --id "$change" --query ChangeInfo.Status --output text)" = INSYNC ]; }
until_ok 20 "the records are served" in_sync
aws_out ec2 modify-vpc-endpoint-service-permissions --service-id "$service" --add-allowed-principals "$(jsonfield connection.status.principal_arn <"$WORK/dry")" >/dev/null
postern_as example-corp "${asked[@]}" >/dev/null
verify() { postern_as example-corp connections verify "$host" >"$WORK/verify" 2>&1 || true; }
verify
until_ok 20 "the endpoint waits for its owner" is_state pending-acceptance
endpoint=$(connection status.vpc_endpoint_id)
aws_out ec2 accept-vpc-endpoint-connections --service-id "$service" --vpc-endpoint-ids "$endpoint" >/dev/null
until_ok 20 "the connection is ready" is_state ready

step "the workload has no route to the internet, where $host has an address too"
is "$host on the internet" "$(inside internet dig +short "$host" A)" "$decoy"
refuses "the workload at $decoy" 'curl: \(7\)' straight workload example --connect-to "::$decoy:443" "https://$host/"
is "routes of the workload" "$(inside workload ip route get "$decoy" 2>&1 | head -n 1)" "RTNETLINK answers: Network is unreachable"

step "a real resolver: the egress answers for $host, the next server for everything else"
is "$host by glibc" "$(inside workload getent ahostsv4 "$host" | awk '{print $1; exit}')" "$(fact egress.dns.example | cut -d: -f1)"
app=$(fact hosts.example)
like "$app by glibc" "$(inside workload getent ahostsv4 "$app" | awk '{print $1; exit}')" '^198\.19\.'
is "$host by glibc, for Globex's workload" "$(inside other getent ahostsv4 "$host" | awk '{print $1; exit}')" "$decoy"

step "SELECT 1 by the proxy and straight; a capture on the internet stays empty"
capture queries
for _ in 1 2 3; do
	is "by the proxy" "$(query by_proxy workload example)" "[[1]]"
	is "straight" "$(query straight workload example)" "[[1]]"
done

step "Globex's workload: refused by both ways, whatever it resolves; and past the egress, the endpoint admits nobody"
refuses "by the proxy" 'CONNECT tunnel failed, response 403' by_proxy other globex "https://$host/v1/info"
bound=$(fact egress.transparent.globex)
refuses "by its own listener" 'alert access denied|access denied' straight other globex --connect-to "::$bound" "https://$host/v1/info"
refuses "by the name's public address" 'curl: \((7|28)\)' straight other globex --max-time 3 "https://$host/v1/info"
at=$(eni) egress=$(fact egress.proxy) egress=${egress#https://}
refuses "straight at the endpoint" 'curl: \((7|35|56)\)' straight workload example --connect-to "::$at:443" "https://$host/v1/info"
inside platform curl -sS --max-time 5 --interface "${egress%:*}" --cacert "$ca" --connect-to "::$at:443" "https://$host/v1/info" >/dev/null || die "the endpoint does not answer the egress' address either: it proves nothing"

step "the certificate is replaced by one of a private authority: 503, and no other path"
certificate private-ca
until_ok 20 "the connection is degraded" is_state degraded
refused_503() { ! by_proxy workload example "https://$host/v1/info" >"$WORK/proxy" 2>&1 && grep -q 'response 503' "$WORK/proxy"; }
until_ok 10 "the proxy says 503" refused_503
refuses "straight" 'alert access denied|access denied' straight workload example "https://$host/v1/info"
is "$host by glibc, still" "$(inside workload getent ahostsv4 "$host" | awk '{print $1; exit}')" "$(fact egress.dns.example | cut -d: -f1)"

step "nothing of all this is on the internet"
inside internet curl -sS --max-time 5 --cacert "$ca" "https://$app/" >/dev/null || die "the internet does not reach $app: it proves nothing"
end_capture
[ "$(packets queries 'tcp port 443')" -gt 0 ] || die "the capture did not run: the internet's own traffic is not in it"
is "packets from or to the platform's VPC" "$(packets queries "net $vpc")" 0
is "packets to the name's public address" "$(packets queries "dst host $decoy and tcp[tcpflags] & tcp-syn != 0 and tcp[tcpflags] & tcp-ack == 0")" 0

step "the egress is gone: the workload reaches nothing, and looks nowhere else in vain"
capture alone
stop_sandbox
refuses "by the proxy" 'curl: \((7|28)\)' by_proxy workload example --max-time 3 "https://$host/v1/info"
refuses "straight" 'curl: \((6|7|28)\)' straight workload example --max-time 3 "https://$host/v1/info"
end_capture
is "packets from or to the platform's VPC" "$(packets alone "net $vpc")" 0
