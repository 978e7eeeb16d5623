# shellcheck shell=bash
# An identity provider's software through the SCIM-only ingress: scim2-tester checks
# a server for compliance with RFC 7643 and 7644. It must find of scim2-server, which
# stands for the tenant's app here, through the ingress what it finds directly.
need curl:curl
python3 -c 'import ensurepip' 2>/dev/null || need python3-venv-is-missing:python3-venv

step "installing scim2-server and scim2-tester"
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/pip" install --quiet --disable-pip-version-check -r "$SUITE/requirements.txt" >"$WORK/pip.log" 2>&1 || { tail -n 5 "$WORK/pip.log" >&2; die "pip install"; }

# The server is a process of this suite's own, beside the sandbox.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$WORK/venv/bin/scim2-server" --tenant scim --bearer-token secret --reverse-proxy --port "$port" >"$WORK/server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; stop_sandbox' EXIT
answers() { curl -sf -o /dev/null -H 'Authorization: Bearer secret' "http://127.0.0.1:$port/scim/v2/ServiceProviderConfig"; }
until_ok 20 "scim2-server answers" answers

start_sandbox --scim-app "http://127.0.0.1:$port"
trap 'kill "$server" 2>/dev/null; stop_sandbox' EXIT
host=$(fact hosts.scim.example) door=$(fact ingress.scim.us-east-1) https=$(fact https_port) ca=$(fact ca_file)
url=https://$host:$https/scim/v2
ask() {
	curl -sS --max-time 10 --cacert "$ca" --connect-to "::$door:$https" -o "$WORK/body" -w '%{http_code}' -H "Authorization: Bearer ${TOKEN-secret}" "$@"
}

step "off until it is asked for: the alert"
refuses "before" 'alert access denied|access denied' ask "$url/Users"
postern_as example-corp tenant scim enable example --source-range 127.0.0.0/8 >/dev/null
on() { [ "$(ask "$url/ServiceProviderConfig")" = 200 ]; }
until_ok 15 "the SCIM ingress is on" on

step "curl over HTTP/1.1 and HTTP/2; everything else is refused"
is "HTTP/1.1" "$(ask --http1.1 "$url/Users")" 200
is "HTTP/2" "$(ask --http2 "$url/Users")" 200
is "a user" "$(ask --http2 -H 'Content-Type: application/scim+json' -d '{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"curl"}' "$url/Users")" 201
is "a wrong token: the app's own answer" "$(TOKEN=wrong ask "$url/Users")" 401
is "the app" "$(ask "https://$host:$https/")" 404
is "up" "$(ask --path-as-is "$url/../../")" 404
is "up, encoded" "$(ask --path-as-is "$url/%2e%2e/%2e%2e/")" 404
is "another host" "$(ask -H "Host: $(fact hosts.example)" "$url/Users")" 421
is "another method" "$(ask -X OPTIONS "$url/Users")" 405
is "another method inside" "$(ask -H 'X-HTTP-Method-Override: TRACE' "$url/Users")" 400

# What a check says, without the names that it makes up.
verdicts() { grep -E '^(SUCCESS|ERROR|FAILURE|CRITICAL|WARNING|SKIPPED|ACCEPTABLE|DEVIATION)' "$1" | sort | uniq -c; }
scim_test() { # URL OUTPUT
	SCIM_CLI_HEADERS='Authorization: Bearer secret' SSL_CERT_FILE=$ca timeout 60 "$WORK/venv/bin/scim2" -u "$1" test >"$2" 2>&1
}

step "scim2-tester directly"
scim_test "http://127.0.0.1:$port/scim/v2" "$WORK/direct" || { tail -n 20 "$WORK/direct" >&2; die "scim2-tester finds something wrong with scim2-server itself"; }
verdicts "$WORK/direct" >"$WORK/direct.verdicts"
checks=$(grep -c '^SUCCESS' "$WORK/direct")
[ "$checks" -ge 100 ] || die "scim2-tester made only $checks checks"

step "the same through the ingress, at $url"
# The tester resolves by the system: in a view of the file system of its own, the
# name is where the public DNS says.
if [ "$(id -u)" != 0 ]; then die "root is needed, for an /etc/hosts of the tester's own"; fi
printf '127.0.0.1 localhost\n%s %s\n' "$door" "$host" >"$WORK/hosts"
export -f scim_test
# shellcheck disable=SC2016 # for the inner shell
env WORK="$WORK" ca="$ca" unshare --mount bash -c 'mount --bind "$WORK/hosts" /etc/hosts && scim_test "$1" "$WORK/through"' scim "$url" ||
	{ tail -n 20 "$WORK/through" >&2; die "scim2-tester finds something wrong through the ingress"; }
verdicts "$WORK/through" >"$WORK/through.verdicts"
diff "$WORK/direct.verdicts" "$WORK/through.verdicts" >&2 || die "through the ingress the checks have other results"
step "$checks checks, the same results"

step "every refusal is counted for the organization"
counted() { postern_as example-corp denials -o json | python3 -c '
import json, sys
seen = {d["reason"] for d in json.load(sys.stdin)["items"] if d["listener"] == "scim"}
sys.exit(not {"path_not_allowed", "method_not_allowed", "host_mismatch", "bad_request"} <= seen)'; }
until_ok 15 "the denials" counted

step "turned off: the alert"
postern_as example-corp tenant scim disable example >/dev/null
off() { ! ask "$url/Users" && grep -q 'access denied' "$WORK/until"; }
until_ok 15 "the SCIM ingress is off" off
