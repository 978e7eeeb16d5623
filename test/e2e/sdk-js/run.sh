# AWS's SDK for JavaScript against the stand-in: suite.mjs says what is tried.
# shellcheck shell=bash
need aws:awscli
command -v npm >/dev/null || need npm:npm

step "installing @aws-sdk/client-ec2"
cp "$SUITE/suite.mjs" "$SUITE/package.json" "$WORK/"
(cd "$WORK" && npm install --no-audit --no-fund --loglevel=error >npm.log 2>&1) || { tail -n 5 "$WORK/npm.log" >&2; die "npm install"; }

start_sandbox
prove example-corp
as example-corp env SANDBOX="$STATE/sandbox.json" SERVICE="$SERVICE" ZONES="$ZONES" node --no-warnings "$WORK/suite.mjs" || die "suite.mjs"
