# curl and dig, as a person in the customer's VPC would use them: through the
# endpoint to the tenant with verification on, and refused everywhere else.
# shellcheck shell=bash
need aws:awscli curl:curl dig:bind9-dnsutils

start_sandbox
prove example-corp
port=$(fact https_port) host=$(fact hosts.example) dev=$(fact hosts.example-dev) globex=$(fact hosts.globex) ca=$(fact ca_file)

step "Example Corp creates an endpoint and claims it for both tenants"
vpc=$(vpc_of example-corp)
read -ra subnets <<<"$(subnets_of example-corp "$vpc")"
endpoint=$(aws2 example-corp ec2 create-vpc-endpoint --vpc-id "$vpc" --vpc-endpoint-type Interface --service-name "$SERVICE" \
	--subnet-ids "${subnets[@]}" --security-group-ids "$(open_group example-corp "$vpc")" --no-private-dns-enabled \
	--query VpcEndpoint.VpcEndpointId --output text)
postern_as example-corp endpoint claim "$endpoint" --tenant example --tenant example-dev >/dev/null
ready() {
	local state
	state=$(postern_as example-corp endpoint show "$endpoint" -o json | jsonfield status.state)
	if [ "$state" = requested ]; then
		POSTERN_API=$(fact api.url) POSTERN_TOKEN_FILE=$(fact api.admin_token_file) POSTERN_CA_FILE=$ca "$POSTERN" endpoint approve "$endpoint"
	fi
	[ "$state" = ready ]
}
until_ok 60 "the endpoint is ready" ready

step "its DNS name, by the VPC's resolver"
names() { aws2 example-corp ec2 describe-vpc-endpoints --vpc-endpoint-ids "$endpoint" --query 'VpcEndpoints[0].DnsEntries[0].DnsName' --output text; }
has_name() { [[ $(names) = "$endpoint"-* ]]; }
until_ok 30 "the endpoint has a DNS name" has_name
resolve() { dig -b "$(fact sources.example-corp)" "@$(fact resolvers.example-corp)" -p "$(fact dns_port)" +short +time=2 +tries=1 "$1" A; }
mapfile -t addresses < <(resolve "$(names)")
[ ${#addresses[@]} -eq ${#subnets[@]} ] || die "addresses of $(names): got '${addresses[*]}', want one for each of ${#subnets[@]} subnets"

# via ADDRESS SOURCE HOST [OPTION…] asks for / at an address, as a client there.
via() {
	local address=$1 source=$2 name=$3
	shift 3
	curl -sS --max-time 15 --interface "$source" --connect-to "$name:443:$address:$port" --cacert "$ca" -o "$WORK/body" -w '%{http_code}' "$@" "https://$name/"
}
here=$(fact sources.example-corp)

step "https://$host/ and https://$dev/ over each of the endpoint's addresses: 200"
reaches() { [ "$(via "$@")" = 200 ]; }
for address in "${addresses[@]}"; do
	# Ready is the platform's word; the node hears it within a moment.
	until_ok 15 "$host over $address" reaches "$address" "$here" "$host"
	is "$dev over $address" "$(via "$address" "$here" "$dev")" 200
done

step "over HTTP/1.1 and HTTP/2 alike"
is "HTTP/1.1" "$(via "${addresses[0]}" "$here" "$host" --http1.1)" 200
is "HTTP/2" "$(via "${addresses[0]}" "$here" "$host" --http2)" 200

step "without the sandbox's authority the certificate is refused: verification was on"
refuses "no --cacert" 'SSL certificate problem' \
	curl -sS --max-time 15 --interface "$here" --connect-to "$host:443:${addresses[0]}:$port" "https://$host/"

step "a tenant of another organization, by server name: one TLS alert"
refuses "server name $globex" 'alert access denied|access denied' via "${addresses[0]}" "$here" "$globex"

step "a host that does not exist: the same alert"
refuses "server name nobody" 'alert access denied|access denied' via "${addresses[0]}" "$here" "nobody.${host#*.}"

step "the right server name with another tenant's Host: 421"
is "Host $globex" "$(via "${addresses[0]}" "$here" "$host" -H "Host: $globex")" 421
is "Host $dev" "$(via "${addresses[0]}" "$here" "$host" -H "Host: $dev")" 421

step "from another organization's network: no connection"
refuses "from Globex's VPC" 'curl: \((7|28|35|52|56)\)' via "${addresses[0]}" "$(fact sources.globex)" "$host"
refuses "from the internet" 'curl: \((7|28|35|52|56)\)' via "${addresses[0]}" "$(fact sources.internet)" "$host"

step "plain HTTP on the port: refused"
refuses "plain HTTP" 'curl: \((1|52|56|92)\)|HTTP/0.9' \
	curl -sS --max-time 15 --interface "$here" -H "Host: $host" "http://${addresses[0]}:$port/"

step "the refusals are recorded for who may know"
recorded() { postern_as example-corp denials -o json | grep -q not_authorized; }
until_ok 30 "the denial of $globex" recorded

step "the endpoint is deleted: traffic stops"
aws2 example-corp ec2 delete-vpc-endpoints --vpc-endpoint-ids "$endpoint" >/dev/null
cut_off() { ! via "${addresses[0]}" "$here" "$host"; }
until_ok 30 "the endpoint's addresses answer no more" cut_off
