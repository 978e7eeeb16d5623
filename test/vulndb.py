#!/usr/bin/env python3
"""Make a vulnerability database for govulncheck from a checkout of golang/vulndb.

    test/vulndb.py CHECKOUT DIR

For machines that cannot reach https://vuln.go.dev: carry a checkout of
https://github.com/golang/vulndb there. DIR then holds the database in the form
of https://go.dev/doc/security/vuln/database (schema v1); give it to test/vuln.sh
as GOVULNDB=DIR.
"""

import json
import pathlib
import sys


def latest_fix(ranges):
    """The version that ends the last affected range, or "" while one is open."""
    fixed = ""
    for r in ranges:
        for event in r.get("events", []):
            fixed = event.get("fixed", "")
    return fixed


def main(checkout, out):
    reports = sorted((pathlib.Path(checkout) / "data" / "osv").glob("GO-*.json"))
    if not reports:
        sys.exit(f"vulndb: {checkout}/data/osv holds no report; give a checkout of golang/vulndb")
    out = pathlib.Path(out)
    (out / "ID").mkdir(parents=True, exist_ok=True)
    (out / "index").mkdir(exist_ok=True)
    modules, vulns, newest = {}, [], ""
    for path in reports:
        text = path.read_text(encoding="utf-8")
        entry = json.loads(text)
        (out / "ID" / path.name).write_text(text, encoding="utf-8")
        # In the repository "modified" is empty; the publisher fills it in.
        modified = max(entry["modified"], entry["published"])
        newest = max(newest, modified)
        vuln = {"id": entry["id"], "modified": modified}
        vulns.append(vuln | ({"aliases": entry["aliases"]} if entry.get("aliases") else {}))
        if "withdrawn" in entry:
            continue
        for affected in entry["affected"]:
            fixed = latest_fix(affected.get("ranges", []))
            listed = vuln | ({"fixed": fixed} if fixed else {})
            modules.setdefault(affected["package"]["name"], {})[entry["id"]] = listed
    index = {
        "db": {"modified": newest},
        "vulns": vulns,
        "modules": [{"path": m, "vulns": list(v.values())} for m, v in sorted(modules.items())],
    }
    for name, value in index.items():
        (out / "index" / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    last = max(reports, key=lambda p: [int(n) for n in p.stem.split("-")[1:]]).stem
    print(f"vulndb: {len(reports)} reports on {len(modules)} modules, up to {last}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
