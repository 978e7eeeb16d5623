package platformfile_test

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/platformfile"
	"github.com/postern-net/postern/internal/strictyaml"
)

// good is a small platform file; its lines are numbered in the test below.
const good = `name: acme
title: Acme
domains:
  hosted: hosted.acme.example
  privatelink: privatelink.acme.example
segments:
  - id: na
    title: NA
    regions:
      - id: us-east-1
        title: Virginia
        vpc_endpoint_service_name: com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0
        availability_zone_ids:
          - use1-az1
          - use1-az2
        backends:
          web: ["10.0.0.1:443"]
        load_balancer_sources: [10.1.0.0/24]
apps:
  - id: web
    title: Web
    port: 443
`

func TestParse(t *testing.T) {
	p, err := platformfile.Parse("acme.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	r := p.Segments[0].Regions[0]
	if got := r.Backends["web"]; len(got) != 1 || got[0] != netip.MustParseAddrPort("10.0.0.1:443") {
		t.Errorf("backends: %v", got)
	}
	if got := r.LoadBalancerSources; len(got) != 1 || got[0] != netip.MustParsePrefix("10.1.0.0/24") {
		t.Errorf("load balancer sources: %v", got)
	}
}

// Every refusal names file, line, column, field, value and fix.
func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, old, with string
		want            string
	}{
		// The form is strictyaml's; these see that it is asked.
		{"empty file", good, "", `acme.yaml: an empty file; start from the built-in platform: postern platform show immuta`},
		{"two documents", "apps:", "---\napps:", `acme.yaml:20:5: a second document; a platform file is one document; remove what follows "---"`},
		{"unknown key", "title: Acme", "titel: Acme", `acme.yaml:2:1: titel: unknown key; did you mean "title"?`},
		{"unknown inner key", "title: Virginia", "zones: [a]", `acme.yaml:11:9: segments[0].regions[0].zones: unknown key; the keys here are availability_zone_ids, backends, id, `},
		{"duplicate backend", `web: ["10.0.0.1:443"]`, "web: [\"10.0.0.1:443\"]\n          web: []", `acme.yaml:18:11: segments[0].regions[0].backends.web: the key stands twice; the first is on line 17`},
		{"text for number", "port: 443", "port: https", `acme.yaml:22:11: apps[0].port: a text, not a whole number (got "https"); give a whole number`},

		{"port", "port: 443", "port: 0", `acme.yaml:22:11: apps[0].port: not a TCP port; give a number from 1 to 65535`},
		{"zone name", "use1-az2", "us-east-1a", `acme.yaml:15:13: segments[0].regions[0].availability_zone_ids[1]: an Availability Zone name, which means a different zone in every account (got "us-east-1a"); give the zone's ID, such as "use1-az3"`},
		{"duplicate zone", "use1-az2", "use1-az1", `acme.yaml:15:13: segments[0].regions[0].availability_zone_ids[1]: duplicate Availability Zone ID (got "use1-az1"); name it once`},
		{"public backend", "10.0.0.1:443", "203.0.113.1:443", `acme.yaml:17:17: segments[0].regions[0].backends.web[0]: a public address (got "203.0.113.1:443")`},
		{"backend of no app", "web: [", "wbe: [", `acme.yaml:17:11: segments[0].regions[0].backends.wbe: no such app (got "wbe"); use the id of an entry of apps`},
		{"every source", "10.1.0.0/24", "0.0.0.0/0", `acme.yaml:18:33: segments[0].regions[0].load_balancer_sources[0]: trusts every address (got "0.0.0.0/0")`},
		{"absent key", "name: acme\n", "", `acme.yaml:1:1: name: missing; use 1 to 63`},
		{"absent inner key", "        availability_zone_ids:\n          - use1-az1\n          - use1-az2\n", "", `acme.yaml:10:9: segments[0].regions[0].availability_zone_ids: missing; list the zone IDs`},
		{"duplicate host", "port: 443", "port: 443\n  - id: shared\n    title: Shared\n    port: 443\n    hosts: [a.acme.example, a.acme.example]", `acme.yaml:26:29: apps[1].hosts[1]: duplicate host (got "a.acme.example"); name it once`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(good, tt.old) {
				t.Fatalf("the file has no %q to replace", tt.old)
			}
			_, err := platformfile.Parse("acme.yaml", []byte(strings.Replace(good, tt.old, tt.with, 1)))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
			if code := postern.CodeOf(err); code != postern.CodeInvalid {
				t.Errorf("code %s", code)
			}
		})
	}
}

func TestParseReportsEverythingInOrder(t *testing.T) {
	for name, tt := range map[string]struct {
		edits []string
		lines []int
	}{
		"shape": {[]string{"title: Acme", "titel: Acme", "id: na", "id: 7", "port: 443", "port: x"}, []int{2, 7, 22}},
		"rules": {[]string{"name: acme", "name: Acme!", "use1-az1", "az1", "use1-az2", "us-east-1a", "port: 443", "port: -1"}, []int{1, 14, 15, 22}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := platformfile.Parse("acme.yaml", []byte(strings.NewReplacer(tt.edits...).Replace(good)))
			var e *strictyaml.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			var lines []int
			for _, p := range e.Problems {
				lines = append(lines, p.Line)
			}
			if d := cmp.Diff(tt.lines, lines); d != "" {
				t.Errorf("lines of the problems (-want +got):\n%s\n%v", d, err)
			}
		})
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	files := map[string]string{"acme.yaml": good}
	for _, name := range []string{"immuta.yaml", "testdata/northwind-cloud.yaml"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
	}
	for name, text := range files {
		t.Run(name, func(t *testing.T) { roundTrip(t, name, []byte(text), true) })
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, "title: Acme", "title: \"#: 'x' \\\\ 1e3\"", 1)))
	f.Add([]byte("name: acme\nname: &a *a\n"))
	f.Add([]byte("{a: [b, {c: d}], e: |\n x\n}"))
	f.Fuzz(func(t *testing.T, b []byte) { roundTrip(t, "fuzz.yaml", b, false) })
}

// FuzzMarshal demands that any text which a file may hold survives writing.
func FuzzMarshal(f *testing.F) {
	for _, title := range []string{"Acme", "", "#1: 'x'", "true", "1e3", "null", "- a", "{a", "a: b", " a ", "@a", "\u2028", "~", "0x1f", "<<", "|", "\\", "?", "? a"} {
		f.Add(title)
	}
	f.Fuzz(func(t *testing.T, title string) {
		p, err := platformfile.Parse("acme.yaml", []byte(good))
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.ValidString(title) || strings.ContainsFunc(title, unicode.IsControl) {
			return // no file can hold it
		}
		p.Title, p.Segments[0].Title = title, title
		out, err := platformfile.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, "marshalled.yaml", out, true)
		again, err := platformfile.Parse("marshalled.yaml", out)
		if err != nil {
			t.Fatal(err)
		}
		if again.Title != title {
			t.Fatalf("title %q became %q in\n%s", title, again.Title, out)
		}
	})
}

// roundTrip demands that what Parse admits comes back equal through Marshal.
func roundTrip(t *testing.T, name string, b []byte, mustParse bool) {
	t.Helper()
	p, err := platformfile.Parse(name, b)
	if err != nil {
		if mustParse {
			t.Fatal(err)
		}
		return
	}
	out, err := platformfile.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := platformfile.Parse("again.yaml", out)
	if err != nil {
		t.Fatalf("what Marshal wrote is refused: %v\n%s", err, out)
	}
	if d := cmp.Diff(p, again, cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("(-before +after):\n%s\n%s", d, out)
	}
}
