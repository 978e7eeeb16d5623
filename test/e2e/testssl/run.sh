# shellcheck shell=bash
# testssl.sh, Debian's, grades the SCIM-only ingress as SSL Labs would: nothing below
# A. The sandbox's authority is the one that it trusts.
need testssl:testssl.sh openssl:openssl

start_sandbox
host=$(fact hosts.scim.example) door=$(fact ingress.scim.us-east-1) https=$(fact https_port)
postern_as example-corp tenant scim enable example >/dev/null
on() { openssl s_client -connect "$door:$https" -servername "$host" -CAfile "$(fact ca_file)" -verify_return_error </dev/null; }
until_ok 15 "the SCIM ingress is on" on

step "testssl.sh on $host"
# What it needs for the grade; its simulations of clients and its tests of each of
# hundreds of ciphers add minutes and no grade.
/usr/bin/testssl --quiet --color 0 --warnings off --ip "$door" --nodns min --add-ca "$(fact ca_file)" --jsonfile "$WORK/testssl.json" \
	--protocols --server-defaults --server-preference --fs --headers --vulnerable "$host:$https" >"$WORK/testssl.out" 2>&1 || true
[ -s "$WORK/testssl.json" ] || { tail -n 20 "$WORK/testssl.out" >&2; die "testssl.sh wrote no findings"; }
python3 "$SUITE/grade.py" "$WORK/testssl.json" || { tail -n 60 "$WORK/testssl.out" >&2; die "a finding below grade A"; }
