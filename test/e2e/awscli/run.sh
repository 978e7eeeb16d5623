# Debian's AWS CLI drives the stand-in the way a customer and the platform's staff
# would drive AWS.
# shellcheck shell=bash
need aws:awscli curl:curl

start_sandbox
account=$(fact aws.accounts.example-corp.id)

step "who am I: the account of the keys, in the form of an ARN"
like "get-caller-identity" "$(aws2 example-corp sts get-caller-identity --query '[Account,Arn]' --output text)" "^${account}[[:space:]]+arn:aws:iam::${account}:"

step "a secret that is wrong is refused"
refuses "a wrong secret" SignatureDoesNotMatch\|AuthFailure \
	as example-corp env AWS_SECRET_ACCESS_KEY=wrong /usr/bin/aws --endpoint-url "$(fact aws.endpoint_url)" ec2 describe-vpcs

step "describe-availability-zones, describe-vpcs, describe-subnets"
like "zone IDs" "$(aws2 example-corp ec2 describe-availability-zones --query 'AvailabilityZones[].ZoneId' --output text)" use1-az2
vpc=$(vpc_of example-corp)
like "the VPC" "$vpc" '^vpc-[0-9a-f]{8,17}$'
read -ra subnets <<<"$(subnets_of example-corp "$vpc")"
[ ${#subnets[@]} -ge 2 ] || die "subnets in the service's zones: got ${#subnets[@]}, want at least 2"

step "a service that does not exist looks like one that is not allowed"
refuses "a foreign service" 'InvalidServiceName.*does not exist' \
	aws2 example-corp ec2 create-vpc-endpoint --vpc-id "$vpc" --vpc-endpoint-type Interface \
	--service-name com.amazonaws.vpce.us-east-1.vpce-svc-00000000000000000 --subnet-ids "${subnets[0]}" --no-private-dns-enabled

prove example-corp
group=$(open_group example-corp "$vpc")

create() { # TOKEN SUBNET… prints the new endpoint's ID
	local token=$1
	shift
	aws2 example-corp ec2 create-vpc-endpoint --vpc-id "$vpc" --vpc-endpoint-type Interface --service-name "$SERVICE" \
		--subnet-ids "$@" --security-group-ids "$group" --no-private-dns-enabled --client-token "$token" \
		--query VpcEndpoint.VpcEndpointId --output text
}

step "create-vpc-endpoint: an ID, and pendingAcceptance on both sides"
first=$(create e2e-1 "${subnets[@]}")
like "its ID" "$first" '^vpce-[0-9a-f]{17}$'
is "its state, as the customer sees it" "$(endpoint_state example-corp "$first")" pendingAcceptance
is "its state, as the platform sees it" "$(connection_state "$first")" pendingAcceptance
is "its owner" "$(aws2 platform ec2 describe-vpc-endpoint-connections --filters "Name=vpc-endpoint-id,Values=$first" --query 'VpcEndpointConnections[0].VpcEndpointOwner' --output text)" "$account"

step "the same ClientToken again makes nothing new; with other parameters it is refused"
is "the repeated call" "$(create e2e-1 "${subnets[@]}")" "$first"
refuses "another call with the token" IdempotentParameterMismatch create e2e-1 "${subnets[0]}"

step "describe-vpc-endpoint-connections in pages of five"
for i in 2 3 4 5 6 7; do create "e2e-$i" "${subnets[0]}" >/dev/null; done
list() {
	aws2 platform ec2 describe-vpc-endpoint-connections --filters "Name=service-id,Values=$SERVICE_ID" \
		"Name=vpc-endpoint-state,Values=pendingAcceptance" "$@"
}
ids() { python3 -c 'import json,sys; print(*sorted(c["VpcEndpointId"] for c in json.load(sys.stdin)["VpcEndpointConnections"]), sep="\n")'; }
everything=$(list | ids)
[ "$(wc -l <<<"$everything")" -ge 7 ] || die "connections listed: $everything"
is "the sum of the pages" "$(list --page-size 5 | ids)" "$everything"
list --page-size 5 --max-items 6 >"$WORK/page1"
is "items with --max-items 6" "$(ids <"$WORK/page1" | wc -l)" 6
list --page-size 5 --starting-token "$(jsonfield NextToken <"$WORK/page1")" >"$WORK/page2"
is "the two parts together" "$(cat <(ids <"$WORK/page1") <(ids <"$WORK/page2") | sort)" "$everything"

step "a page size that AWS does not take, and a filter that it does not know"
refuses "MaxResults 4" InvalidParameterValue\|InvalidMaxResults list --page-size 4
refuses "a filter with a typing error" InvalidFilter\|InvalidParameterValue \
	aws2 platform ec2 describe-vpc-endpoint-connections --filters Name=vpc-endpoint-sate,Values=available

step "another account sees neither the endpoints nor the connections"
is "Globex's endpoints of that ID" "$(aws2 globex ec2 describe-vpc-endpoints --filters "Name=vpc-endpoint-id,Values=$first" --query 'length(VpcEndpoints)' --output text)" 0
is "Globex's connections of the service" "$(aws2 globex ec2 describe-vpc-endpoint-connections --filters "Name=service-id,Values=$SERVICE_ID" --query 'length(VpcEndpointConnections)' --output text)" 0

step "--dry-run says that it would have worked, and does nothing"
refuses "a dry run" DryRunOperation aws2 example-corp ec2 delete-vpc-endpoints --vpc-endpoint-ids "$first" --dry-run
is "its state afterwards" "$(endpoint_state example-corp "$first")" pendingAcceptance

step "delete-vpc-endpoints: partial failure is an answer, not an error"
out=$(aws2 example-corp ec2 delete-vpc-endpoints --vpc-endpoint-ids "$first" vpce-00000000000000000)
is "unsuccessful items" "$(jsonfield Unsuccessful.0.ResourceId <<<"$out")" vpce-00000000000000000
like "its code" "$(jsonfield Unsuccessful.0.Error.Code <<<"$out")" 'NotFound$'
gone() { [[ $(endpoint_state example-corp "$first" 2>&1) =~ deleted|None|NotFound ]]; }
until_ok 30 "the endpoint is deleted" gone
