"""Reads the findings of testssl.sh and exits with 1 when one is below grade A, or
when something that the grade depends on was not looked at."""

import json
import sys

# SSL Labs' rating guide, in testssl.sh's words: what must be found, and how.
DEMANDED = {
    "SSLv2": "not offered", "SSLv3": "not offered", "TLS1": "not offered", "TLS1_1": "not offered",
    "TLS1_2": "offered", "TLS1_3": "offered", "ALPN_HTTP2": "h2", "PFS": "offered",
    "cert_trust": "Ok via SAN", "cert_chain_of_trust": "passed", "HSTS_time": "365 days",
}
DEMANDED.update(dict.fromkeys(
    ["heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_client_renego", "CRIME_TLS", "BREACH", "POODLE_SSL", "SWEET32", "FREAK", "DROWN", "LOGJAM", "BEAST", "LUCKY13", "RC4"],
    "not vulnerable",
))
# What is no fault of the ingress.
EXCUSED = {
    "cert_revocation": "the sandbox's authority publishes no revocation lists, a public one does",
    "secure_renego": "there is nothing to renegotiate: secure_client_renego finds that",
}

findings = {f["id"]: f for f in json.load(open(sys.argv[1], encoding="utf-8"))}
faults = []
for name, want in DEMANDED.items():
    got = findings.get(name, {}).get("finding", "nothing was found")
    if not got.startswith(want):
        faults.append(f"{name}: {got}; want {want}")
for name, f in findings.items():
    if f["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL", "WARN") and name not in EXCUSED:
        faults.append(f"{name}: {f['severity']}: {f['finding']}")
for fault in faults:
    print("    " + fault, file=sys.stderr)
notes = [f"{name} ({f['finding']})" for name, f in findings.items() if f["severity"] == "LOW"]
print(f"  {len(findings)} findings, {len(faults)} below grade A" + (f"; worth a look: {', '.join(notes)}" if notes else ""))
sys.exit(bool(faults))
