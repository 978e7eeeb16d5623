# shellcheck shell=bash
# The way to private, where networks are real: Example Corp, Globex, the internet
# and the platform are network namespaces without a route out of them, with
# addresses of RFC 2544 (198.18.0.0/15), ports 443 and 53, and resolv.conf of
# their own. Example Corp reaches the internet block through the internet's
# namespace, as by a NAT gateway, so that a capture there sees what is public:
#
#   globex ───────── platform ──────── internet
#                        └── example-corp ──┘
unset http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
need aws:awscli curl:curl dig:bind9-dnsutils tcpdump:tcpdump openssl:openssl
if ! command -v ip >/dev/null; then need ip:iproute2; fi

# shellcheck source=test/e2e/namespaces/world.sh
. "$SUITE/world.sh"
make_world
step "a sandbox on 198.18.0.0/15 in the platform's namespace, ports 443 and 53"
start_in_platform
connect_world
ca=$(fact ca_file) host=$(fact hosts.example) name=example.privatelink.immutacloud.com
postern_as example-corp dns example -o json >"$WORK/dns"
endpoint=$(jsonfield customer.0.vpc_endpoint_id <"$WORK/dns")

# visit NETWORK [OPTION…] asks for the tenant by its standard hostname, as anybody
# there would, and prints the status; the answer is in $WORK/body.NETWORK.
visit() {
	local network=$1
	shift
	inside "$network" curl -sS --max-time 5 --cacert "$ca" -o "$WORK/body.$network" -w '%{http_code}' "$@" "https://$host/"
}
# What the app was told of the way: its endpoint, or none.
privately() { [ "$(visit example-corp "$@")" = 200 ] && grep -q "\"vpc_endpoint_id\":\"$endpoint\"" "$WORK/body.example-corp"; }
publicly() { [ "$(visit "$1")" = 200 ] && grep -q '"app":' "$WORK/body.$1" && ! grep -q vpc_endpoint_id "$WORK/body.$1"; }
resolve() { inside "$1" dig +short +time=2 +tries=1 "$2" A; }
state() { postern_as example-corp cutover status example -o json | jsonfield status.state; }
is_state() { [ "$(state)" = "$1" ]; }
in_dns() { postern_as example-corp cutover status example -o json | jsonfield status.published_at; }

step "before: both reach $host publicly, and Example Corp's packets cross the internet"
until_ok 15 "the internet reaches $host" publicly internet
capture before
until_ok 15 "Example Corp reaches $host" publicly example-corp
end_capture
[ "$(packets before "$FROM_EXAMPLE_CORP")" -gt 0 ] || die "the capture in the internet saw nothing of Example Corp's public traffic: it proves nothing"

step "the internet has no way to a VPC, and Globex none to Example Corp's"
eni=$(resolve example-corp "$(jsonfield customer.0.record.value <"$WORK/dns")" | head -n 1)
like "the endpoint's address" "$eni" '^198\.18\.'
refuses "the internet at $eni" 'curl: \(7\)' visit internet --connect-to "::$eni:443"
refuses "Globex at $eni" 'curl: \(7\)' visit globex --connect-to "::$eni:443"

step "aws route53 makes the CNAME that postern dns asks for, in a private zone of the VPC"
vpc=$(aws_in_vpc ec2 describe-vpcs --query 'Vpcs[0].VpcId' --output text)
zone=$(aws_in_vpc route53 create-hosted-zone --name "${name#*.}" --vpc "VPCRegion=us-east-1,VPCId=$vpc" --caller-reference "$RANDOM" --query HostedZone.Id --output text)
postern_as example-corp dns example --change-batch "$endpoint" >"$WORK/change.json"
aws_in_vpc route53 change-resource-record-sets --hosted-zone-id "$zone" --change-batch "file://$WORK/change.json" >/dev/null
leads_to_endpoint() { resolve example-corp "$1" | grep -q '^198\.18\.'; }
until_ok 15 "$name leads to the endpoint in the VPC" leads_to_endpoint "$name"
is "$name on the internet" "$(resolve internet "$name")" ""

step "the path is proven by hand: the printed command, run in the VPC"
postern_as example-corp tenant probe example --by-hand --wait-timeout 20s >"$WORK/proven" 2>"$WORK/hand" &
probe=$!
until_ok 10 "the command is printed" grep -q 'openssl s_client' "$WORK/hand"
inside example-corp bash -c "$(grep 'openssl s_client' "$WORK/hand")" >/dev/null 2>&1 && die "the probe was not refused"
wait "$probe" || { cat "$WORK/hand" >&2; die "the probe was not seen"; }
like "the proof" "$(cat "$WORK/proven")" "$endpoint"

step "rehearsal: the standard hostname goes through the endpoint in the VPC, to the fallback elsewhere"
begin() { postern_as example-corp cutover start example --acknowledge Integrations --acknowledge PublicClients; }
until_ok 20 "the cutover starts" begin
until_ok 20 "the rehearsal is in DNS" in_dns
until_ok 15 "Example Corp goes through $endpoint" privately
# From here to the end Example Corp keeps coming.
visits() {
	local sent=0 failed=0
	while [ ! -e "$WORK/enough" ]; do
		sent=$((sent + 1))
		privately || failed=$((failed + 1))
		sleep 0.05
	done
	echo "$sent $failed" >"$WORK/visits"
}
visits 2>"$WORK/visits.log" &
coming=$!
leads_to_endpoint "$host" || die "$host does not lead to the endpoint in the VPC: $(resolve example-corp "$host")"
publicly internet || die "the rehearsal shut the internet out"

step "it enforces and completes; Example Corp, which keeps coming, is never refused"
postern_as example-corp cutover watch example >"$WORK/watch" 2>&1 || { cat "$WORK/watch" >&2; die "the cutover did not complete"; }
touch "$WORK/enough"
wait "$coming"
read -r sent failed <"$WORK/visits"
is "failed visits of $sent" "$failed" 0
[ "$sent" -ge 10 ] || die "Example Corp came only $sent times in the cutover"
is "the cutover" "$(state)" complete

step "after: nothing of Example Corp's traffic is on the internet ($sent private visits, 0 failed)"
capture after
for _ in 1 2 3 4 5; do privately || die "Example Corp: $(cat "$WORK/body.example-corp")"; done
leads_to_endpoint "$host" || die "$host does not lead to the endpoint in the VPC"

step "the internet gets no TLS session at any address of the platform"
is "$host on the internet" "$(resolve internet "$host" | grep -v '\.$' || true)" ""
refuses "the internet, by name" 'curl: \(6\)' visit internet
mapfile -t doors < <(doors public)
mapfile -t inner < <(doors private)
if [ ${#doors[@]} -lt 2 ] || [ ${#inner[@]} -lt 2 ]; then die "sandbox.json names ${#doors[@]} public and ${#inner[@]} private doors"; fi
for at in "${doors[@]}"; do refuses "the internet at $at" 'alert access denied|access denied' visit internet --connect-to "::$at:443"; done
for at in "${inner[@]}" "$eni"; do refuses "the internet at $at" 'curl: \(7\)' visit internet --connect-to "::$at:443"; done
end_capture
[ "$(packets after 'tcp port 443')" -gt 0 ] || die "the capture did not run: the internet's own attempts are not in it"
is "packets of Example Corp in the internet" "$(packets after "$FROM_EXAMPLE_CORP")" 0

step "Globex gets nothing, by its own endpoint either"
own=$(postern_as globex dns globex -o json | jsonfield customer.0.record.value)
at=$(resolve globex "$own" | head -n 1)
like "Globex's endpoint" "$at" '^198\.18\.'
refuses "Globex through its own endpoint" 'alert access denied|access denied' visit globex --connect-to "::$at:443"
refuses "Globex at $eni" 'curl: \(7\)' visit globex --connect-to "::$eni:443"

step "a person rolls back: the internet gets 200 again, and the endpoint still answers"
postern_as example-corp cutover rollback example --yes --reason 'a test of the way back' >/dev/null
until_ok 20 "the internet reaches $host again" publicly internet
privately --connect-to "::$eni:443" || die "Example Corp through $endpoint: $(cat "$WORK/body.example-corp")"
