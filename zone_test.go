package postern_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
)

func record(kind, value string) []postern.Record {
	return []postern.Record{{Type: kind, TTL: 60, Value: value}}
}

// inZones puts records into the zone example.net, beside which there is the
// zone hosted.example.net.
func inZones(records map[string][]postern.Record) postern.Zones {
	return postern.Zones{Revision: 1, Zones: map[string]postern.Zone{
		"example.net":        {Records: records},
		"hosted.example.net": {},
	}}
}

func TestZonesValidate(t *testing.T) {
	type records = map[string][]postern.Record
	const here = `zones["example.net"].records["a.example.net"]`
	long := strings.Repeat("a", 63)
	for _, tt := range []struct {
		name    string
		records records
		field   string // of the problem; "": none
	}{
		{"every type", records{
			"example.net":   slices.Concat(record("A", "192.0.2.1"), record("AAAA", "2001:db8::1"), record("TXT", "x"), record("NS", "ns.example.org")),
			"a.example.net": record("CNAME", "_a.acm-validations.aws"),
		}, ""},
		{"a long name", records{long + "." + long + "." + long + ".example.net": record("A", "192.0.2.1")}, ""},
		{"a label that is too long", records{"a" + long + ".example.net": record("A", "192.0.2.1")}, `zones["example.net"].records["a` + long + `.example.net"]`},
		{"a name with an underscore", records{"_acme.a.example.net": record("TXT", "x")}, ""},
		{"a name in capitals", records{"A.example.net": record("TXT", "x")}, `zones["example.net"].records["A.example.net"]`},
		{"a trailing dot", records{"a.example.net.": record("TXT", "x")}, `zones["example.net"].records["a.example.net."]`},
		{"outside", records{"a.example.org": record("TXT", "x")}, `zones["example.net"].records["a.example.org"]`},
		{"a suffix that is no label", records{"an-example.net": record("TXT", "x")}, `zones["example.net"].records["an-example.net"]`},
		{"wildcard", records{"*.example.net": record("TXT", "x")}, `zones["example.net"].records["*.example.net"]`},
		{"another zone's name", records{"a.hosted.example.net": record("TXT", "x")}, `zones["example.net"].records["a.hosted.example.net"]`},
		{"another zone's apex", records{"hosted.example.net": record("TXT", "x")}, `zones["example.net"].records["hosted.example.net"]`},
		{"another zone's delegation with glue", records{
			"hosted.example.net": record("NS", "ns.hosted.example.net"), "ns.hosted.example.net": record("A", "192.0.2.1"),
		}, ""},
		{"no record", records{"a.example.net": nil}, here},
		{"an unknown type", records{"a.example.net": record("MX", "10 mail")}, here + "[0].type"},
		{"a type in small letters", records{"a.example.net": record("a", "192.0.2.1")}, here + "[0].type"},
		{"A with a name", records{"a.example.net": record("A", "b.example.net")}, here + "[0].value"},
		{"A with an IPv6 address", records{"a.example.net": record("A", "2001:db8::1")}, here + "[0].value"},
		{"AAAA with an IPv4 address", records{"a.example.net": record("AAAA", "192.0.2.1")}, here + "[0].value"},
		{"AAAA with an IPv4 address in it", records{"a.example.net": record("AAAA", "::ffff:192.0.2.1")}, here + "[0].value"},
		{"AAAA of a link", records{"a.example.net": record("AAAA", "fe80::1%eth0")}, here + "[0].value"},
		{"CNAME with an address", records{"a.example.net": record("CNAME", "192.0.2.1.")}, here + "[0].value"},
		{"CNAME with a trailing dot", records{"a.example.net": record("CNAME", "b.example.net.")}, here + "[0].value"},
		{"NS with an underscore", records{"a.example.net": record("NS", "_ns.example.org")}, here + "[0].value"},
		{"NS that is a CNAME", records{"a.example.net": record("NS", "b.example.net"), "b.example.net": record("CNAME", "c.example.org")}, here + "[0].value"},
		{"text of the greatest length", records{"a.example.net": record("TXT", strings.Repeat("x", 4000))}, ""},
		{"text of more", records{"a.example.net": record("TXT", strings.Repeat("x", 4001))}, here + "[0].value"},
		{"no text", records{"a.example.net": record("TXT", "")}, here + "[0].value"},
		{"the greatest TTL", records{"a.example.net": {{Type: "A", TTL: 1<<31 - 1, Value: "192.0.2.1"}}}, ""},
		{"a greater TTL", records{"a.example.net": {{Type: "A", TTL: 1 << 31, Value: "192.0.2.1"}}}, here + "[0].ttl"},
		{"two TTLs of two types", records{"a.example.net": {{Type: "A", TTL: 1, Value: "192.0.2.1"}, {Type: "TXT", TTL: 2, Value: "x"}}}, ""},
		{"two TTLs of one type", records{"a.example.net": {{Type: "A", TTL: 1, Value: "192.0.2.1"}, {Type: "A", TTL: 2, Value: "192.0.2.2"}}}, here + "[1].ttl"},
		{"a record twice", records{"a.example.net": slices.Concat(record("A", "192.0.2.1"), record("A", "192.0.2.1"))}, here + "[1]"},
		{"CNAME at the apex", records{"example.net": record("CNAME", "b.example.org")}, `zones["example.net"].records["example.net"]`},
		{"CNAME with another type", records{"a.example.net": slices.Concat(record("CNAME", "b.example.org"), record("TXT", "x"))}, here},
		{"two CNAMEs", records{"a.example.net": slices.Concat(record("CNAME", "b.example.org"), record("CNAME", "c.example.org"))}, here},
		{"a chain", records{"a.example.net": record("CNAME", "b.example.net"), "b.example.net": record("CNAME", "c.example.net")}, ""},
		{"CNAME to itself", records{"a.example.net": record("CNAME", "a.example.net")}, here},
		{"a chain out of the zone", records{"a.example.net": record("CNAME", "a.hosted.example.net")}, ""},
		{"a delegation", records{"a.example.net": slices.Concat(record("NS", "a.example.net"), record("A", "192.0.2.1")), "b.a.example.net": record("A", "192.0.2.1")}, ""},
		{"a delegation with text", records{"a.example.net": slices.Concat(record("NS", "ns.example.org"), record("TXT", "x"))}, here},
		{"text below a delegation", records{"example.net": record("TXT", "x"), "net-a.example.net": record("NS", "ns.example.org"), "b.net-a.example.net": record("TXT", "x")}, `zones["example.net"].records["b.net-a.example.net"]`},
		{"a delegation below another", records{"a.example.net": record("NS", "ns.example.org"), "b.a.example.net": record("NS", "ns.example.org")}, `zones["example.net"].records["b.a.example.net"]`},
	} {
		err := inZones(tt.records).Validate()
		var es postern.Errors
		switch errors.As(err, &es); {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.field != "" && (len(es) != 1 || es[0].Field != tt.field || es[0].Fix == "" || es[0].Code != postern.CodeInvalid):
			t.Errorf("%s: error %v, want one about %s with a fix", tt.name, err, tt.field)
		}
	}
}

func TestZonesValidateReportsAll(t *testing.T) {
	z := postern.Zones{Revision: -1, Zones: map[string]postern.Zone{
		"net":         {},
		"Example.net": {},
		strings.Repeat("long-label.", 22) + "net": {},
		"b.example": {Records: map[string][]postern.Record{
			"x.b.example": record("CNAME", "y.b.example"), "y.b.example": record("CNAME", "z.b.example"), "z.b.example": record("CNAME", "y.b.example"),
		}},
	}}
	var es postern.Errors
	if !errors.As(z.Validate(), &es) {
		t.Fatal("valid")
	}
	var fields []string
	for _, e := range es {
		fields = append(fields, e.Field)
	}
	want := []string{
		"revision",
		`zones["Example.net"]`,
		`zones["b.example"].records["y.b.example"]`, // y and z lead to one another; x only leads there
		`zones["b.example"].records["z.b.example"]`,
		`zones["` + strings.Repeat("long-label.", 22) + `net"]`,
		`zones["net"]`,
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := (postern.Zones{}).Validate(); err != nil {
		t.Errorf("no zones: %v", err)
	}
}

func TestZoneOf(t *testing.T) {
	z := inZones(nil)
	for name, want := range map[string]string{
		"example.net":            "example.net",
		"a.b.example.net":        "example.net",
		"hosted.example.net":     "hosted.example.net",
		"a.b.hosted.example.net": "hosted.example.net",
		"nothosted.example.net":  "example.net",
		"net":                    "",
		"an-example.net":         "",
		"":                       "",
	} {
		if apex, ok := z.ZoneOf(name); apex != want || ok != (want != "") {
			t.Errorf("ZoneOf(%q) = %q, %v; want %q", name, apex, ok, want)
		}
	}
}
