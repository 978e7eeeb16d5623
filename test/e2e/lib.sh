# What every suite has: a sandbox, its facts, and ways to say what is expected.
# Given: POSTERN (the binary), WORK (an empty folder), SUITE (the suite's folder).
# shellcheck shell=bash

STATE=$WORK/state
pid=

die() {
	echo "  FAILED: $*" >&2
	if [ -s "$WORK/sandbox.log" ]; then
		echo "  the sandbox's last lines:" >&2
		tail -n 25 "$WORK/sandbox.log" | sed 's/^/    /' >&2
	fi
	exit 1
}

# need COMMAND:PACKAGE… installs Debian packages for the commands that are missing.
need() { bash "$SUITE/../../packages.sh" "${@/#//usr/bin/}" || die "something that the suite needs is missing"; }

# until_ok SECONDS WHAT COMMAND… waits until the command succeeds.
until_ok() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >"$WORK/until" 2>&1; do
		if [ $SECONDS -ge $end ]; then
			cat "$WORK/until" >&2
			die "$what: not within the time"
		fi
		sleep 0.2
	done
}

# start_sandbox [OPTION…] runs a sandbox in $STATE and returns when it says it is ready.
start_sandbox() {
	rm -f "$STATE/sandbox.json"
	"$POSTERN" sandbox --state-dir "$STATE" -o json "$@" >"$WORK/sandbox.out" 2>>"$WORK/sandbox.log" &
	pid=$!
	trap stop_sandbox EXIT
	until_ok 60 "the sandbox writes sandbox.json" sandbox_is_up
}

sandbox_is_up() {
	kill -0 "$pid" 2>/dev/null || die "the sandbox ended before it was ready"
	[ -s "$STATE/sandbox.json" ] && fact api.url
}

stop_sandbox() {
	[ -n "$pid" ] || return 0
	kill -TERM "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	pid=
}

# fact PATH prints a value of sandbox.json, such as aws.endpoint_url.
fact() { jsonfield "$1" <"$STATE/sandbox.json"; }

# jsonfield PATH prints a value of the JSON on standard input; lists are walked by
# number: items.0.id.
jsonfield() {
	python3 -c '
import json, sys
value = json.load(sys.stdin)
for part in sys.argv[1].split("."):
    try:
        value = value[int(part)] if isinstance(value, list) else value[part]
    except (KeyError, IndexError):
        sys.exit(f"no {sys.argv[1]} in the JSON (at {part})")
print(value if isinstance(value, str) else json.dumps(value))' "$1"
}

step() { echo "  $*"; }

# is WHAT GOT WANTED demands that two texts are equal.
is() { [ "$2" = "$3" ] || die "$1: got '$2', want '$3'"; }

# like WHAT GOT PATTERN demands that a text matches an extended expression.
like() { [[ $2 =~ $3 ]] || die "$1: got '$2', want something like '$3'"; }

# refuses WHAT PATTERN COMMAND… demands that a command fails and says so.
refuses() {
	local what=$1 pattern=$2 out
	shift 2
	if out=$("$@" 2>&1); then die "$what: it succeeded: $out"; fi
	like "$what" "$out" "$pattern"
}

# as ACCOUNT COMMAND… runs a command with the keys of an account of the sandbox,
# and with nothing of the caller's own AWS configuration.
as() {
	local account=$1
	shift
	env -u AWS_PROFILE -u AWS_SESSION_TOKEN -u AWS_REGION \
		AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true AWS_PAGER= \
		AWS_ACCESS_KEY_ID="$(fact "aws.accounts.$account.access_key_id")" \
		AWS_SECRET_ACCESS_KEY="$(fact "aws.accounts.$account.secret_access_key")" \
		AWS_DEFAULT_REGION="${REGION:-us-east-1}" \
		AWS_ENDPOINT_URL="$(fact aws.endpoint_url)" AWS_CA_BUNDLE="$(fact ca_file)" NODE_EXTRA_CA_CERTS="$(fact ca_file)" \
		"$@"
}

# postern_as ORGANIZATION COMMAND… runs a command of postern for an organization.
postern_as() {
	local organization=$1
	shift
	POSTERN_API=$(fact api.url) POSTERN_TOKEN_FILE=$(fact "api.tokens.$organization") POSTERN_CA_FILE=$(fact ca_file) \
		POSTERN_ORGANIZATION=$organization "$POSTERN" "$@"
}

# prove ORGANIZATION proves its account, whose name in the sandbox is the same,
# and waits until it may see the platform's service.
prove() {
	local organization=$1 account
	account=$(fact "aws.accounts.$organization.id")
	if ! postern_as "$organization" account list -o json | grep -q "\"$account\""; then
		as "$organization" env POSTERN_API="$(fact api.url)" POSTERN_TOKEN_FILE="$(fact "api.tokens.$organization")" \
			POSTERN_CA_FILE="$(fact ca_file)" POSTERN_ORGANIZATION="$organization" \
			"$POSTERN" account prove --region us-east-1 >"$WORK/prove" 2>&1 ||
			{ cat "$WORK/prove" >&2; die "$organization cannot prove its account"; }
	fi
	until_ok 30 "the service shows itself to $organization" allowed "$organization"
}

allowed() { aws2 "$1" ec2 describe-vpc-endpoint-services --service-names "$SERVICE"; }

# aws2 ACCOUNT ARGUMENTS… is Debian's AWS CLI, whatever else is on the PATH. That
# version knows no AWS_ENDPOINT_URL.
aws2() {
	local account=$1
	shift
	as "$account" /usr/bin/aws --endpoint-url "$(fact aws.endpoint_url)" --output json "$@"
}

# The service of the built-in platform in the region that the suites use, and the
# zones that it is in (the seeds).
SERVICE=com.amazonaws.vpce.us-east-1.vpce-svc-0c33df1aaf78a8955
SERVICE_ID=${SERVICE##*.}
ZONES=use1-az2,use1-az4,use1-az6

# vpc_of ACCOUNT prints its VPC in the region.
vpc_of() { aws2 "$1" ec2 describe-vpcs --query 'Vpcs[0].VpcId' --output text; }

# subnets_of ACCOUNT VPC prints the subnets that are in the service's zones, at
# most one per zone.
subnets_of() {
	aws2 "$1" ec2 describe-subnets --filters "Name=vpc-id,Values=$2" |
		ZONES=$ZONES python3 -c '
import json, os, sys
one = {}
for s in json.load(sys.stdin)["Subnets"]:
    if s["AvailabilityZoneId"] in os.environ["ZONES"].split(","):
        one.setdefault(s["AvailabilityZoneId"], s["SubnetId"])
print(*one.values())'
}

# open_group ACCOUNT VPC makes a security group that lets clients in the VPC reach
# port 443 (the seeds) and the sandbox's own HTTPS port.
open_group() {
	local group cidr port
	group=$(aws2 "$1" ec2 create-security-group --group-name "e2e-$RANDOM" --description 'clients of the platform' --vpc-id "$2" --query GroupId --output text)
	cidr=$(aws2 "$1" ec2 describe-vpcs --vpc-ids "$2" --query 'Vpcs[0].CidrBlock' --output text)
	for port in $(printf '%s\n' 443 "$(fact https_port)" | sort -u); do
		aws2 "$1" ec2 authorize-security-group-ingress --group-id "$group" --protocol tcp --port "$port" --cidr "$cidr" >/dev/null
	done
	echo "$group"
}

# connection_state VPCE prints what the platform's side sees.
connection_state() {
	aws2 platform ec2 describe-vpc-endpoint-connections \
		--filters "Name=service-id,Values=$SERVICE_ID" "Name=vpc-endpoint-id,Values=$1" \
		--query 'VpcEndpointConnections[0].VpcEndpointState' --output text
}

# endpoint_state VPCE prints what the consumer's side sees.
endpoint_state() {
	aws2 "$1" ec2 describe-vpc-endpoints --vpc-endpoint-ids "$2" --query 'VpcEndpoints[0].State' --output text
}
