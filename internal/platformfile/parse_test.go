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
		{"empty file", good, "", `acme.yaml: an empty file; start from the built-in platform: postern platform show immuta`},
		{"blank file", good, " \n\n", `acme.yaml: an empty file`},
		{"comments only", good, "# nothing\n", `acme.yaml: a file without a value`},
		{"not UTF-8", "Acme", "\xff", `acme.yaml: not UTF-8 text`},
		{"a list", good, "- name: acme\n", `acme.yaml:1:1: not a mapping of keys to values`},
		{"a word", good, "acme\n", `acme.yaml:1:1: not a mapping of keys to values`},
		{"two documents", "apps:", "---\napps:", `acme.yaml:20:5: a second document; a platform file holds one platform; remove what follows "---"`},
		{"no YAML", "title: Acme", "title: [", `acme.yaml:2:8: not readable as YAML: `},
		{"tab", "  hosted:", "\thosted:", `acme.yaml:4:1: not readable as YAML: `},
		{"anchor", "title: Acme", "title: &a Acme", `acme.yaml:2:8: anchors, aliases`},
		{"tag", "title: Acme", "title: !!str Acme", `acme.yaml:2:8: anchors, aliases`},
		{"merge", "title: Acme", "<<: {title: Acme}", `acme.yaml:2:1: anchors, aliases`},
		{"nested brackets", "title: Acme", "title: " + strings.Repeat("[", 30), `acme.yaml:2:28: nested too deep`},
		{"nested dashes", good, strings.Repeat("- ", 30) + "x", `acme.yaml:1:41: nested too deep`},
		{"nested indentation", good, stair(300), `acme.yaml:202:202: nested too deep`},
		{"too many keys", good, strings.Repeat("a: b\n", 10_000), `acme.yaml: more than 20000 words and signs`},

		{"unknown key", "title: Acme", "titel: Acme", `acme.yaml:2:1: titel: unknown key; did you mean "title"?`},
		{"unknown inner key", "title: Virginia", "zones: [a]", `acme.yaml:11:9: segments[0].regions[0].zones: unknown key; the keys here are availability_zone_ids, backends, id, load_balancer_sources, title, vpc_endpoint_service_name`},
		{"duplicate key", "title: Acme", "name: again", `acme.yaml:2:1: name: the key stands twice; the first is on line 1; remove one of them`},
		{"duplicate backend", `web: ["10.0.0.1:443"]`, "web: [\"10.0.0.1:443\"]\n          web: []", `acme.yaml:18:11: segments[0].regions[0].backends.web: the key stands twice; the first is on line 17`},
		{"no value", "title: Acme", "title:", `acme.yaml:2:7: title: no value; give text, or remove the key`},
		{"number for text", "title: Acme", "title: 7", `acme.yaml:2:8: title: a number, not text (got "7"); put it in quotes if it is text`},
		{"boolean for text", "title: Acme", "title: true", `acme.yaml:2:8: title: a true-or-false value, not text (got "true"); put it in quotes`},
		{"list for text", "title: Acme", "title: [Acme]", `acme.yaml:2:8: title: a list, not text; give text`},
		{"text for list", "load_balancer_sources: [10.1.0.0/24]", "load_balancer_sources: 10.1.0.0/24", `acme.yaml:18:32: segments[0].regions[0].load_balancer_sources: a text, not a list such as "[a, b]" (got "10.1.0.0/24")`},
		{"text for mapping", `web: ["10.0.0.1:443"]`, "web", `segments[0].regions[0].backends: a text where keys with values belong (got "web"); write "key: value" lines below it`},
		{"text for number", "port: 443", "port: https", `acme.yaml:22:11: apps[0].port: a text, not a whole number (got "https"); give a whole number`},
		{"quoted number", "port: 443", `port: "443"`, `acme.yaml:22:11: apps[0].port: a text, not a whole number (got "443")`},
		{"fraction", "port: 443", "port: 44.3", `acme.yaml:22:11: apps[0].port: a number, not a whole number (got "44.3")`},
		{"huge number", "port: 443", "port: 18446744073709551615", `acme.yaml:22:11: apps[0].port: a number out of range (got "18446744073709551615")`},
		{"text for boolean", "name: acme", "allow_public_backends: yes\nname: acme", `acme.yaml:1:24: allow_public_backends: a text, not true or false (got "yes"); give true or false`},
		{"bad address", "10.0.0.1:443", "10.0.0.1", `acme.yaml:17:17: segments[0].regions[0].backends.web[0]: not an address with a port such as "10.0.1.5:443" (got "10.0.0.1")`},
		{"empty address", "10.0.0.1:443", "", `acme.yaml:17:17: segments[0].regions[0].backends.web[0]: not an address with a port`},
		{"bad network", "10.1.0.0/24", "10.1.0.0", `acme.yaml:18:33: segments[0].regions[0].load_balancer_sources[0]: not a network such as "10.0.1.0/24" (got "10.1.0.0")`},
		{"control character", "title: Acme", `title: "Ac\u001bme"`, `acme.yaml:2:8: title: text with a line break or another control character`},
		{"text block", "title: Acme", "title: |\n  Acme\n  Ltd", `title: text with a line break or another control character`},

		{"port", "port: 443", "port: 0", `acme.yaml:22:11: apps[0].port: not a TCP port; give a number from 1 to 65535`},
		{"zone name", "use1-az2", "us-east-1a", `acme.yaml:15:13: segments[0].regions[0].availability_zone_ids[1]: an Availability Zone name, which means a different zone in every account (got "us-east-1a"); give the zone's ID, such as "use1-az3"`},
		{"duplicate zone", "use1-az2", "use1-az1", `acme.yaml:15:13: segments[0].regions[0].availability_zone_ids[1]: duplicate Availability Zone ID (got "use1-az1"); name it once`},
		{"public backend", "10.0.0.1:443", "203.0.113.1:443", `acme.yaml:17:17: segments[0].regions[0].backends.web[0]: a public address (got "203.0.113.1:443")`},
		{"backend of no app", "web: [", "wbe: [", `acme.yaml:17:11: segments[0].regions[0].backends.wbe: no such app (got "wbe"); use the id of an entry of apps`},
		{"every source", "10.1.0.0/24", "0.0.0.0/0", `acme.yaml:18:33: segments[0].regions[0].load_balancer_sources[0]: trusts every address (got "0.0.0.0/0")`},
		{"absent key", "name: acme\n", "", `acme.yaml:1:1: name: missing; use 1 to 63`},
		{"absent inner key", "        availability_zone_ids:\n          - use1-az1\n          - use1-az2\n", "", `acme.yaml:10:9: segments[0].regions[0].availability_zone_ids: missing; list the zone IDs`},
		{"empty list", "segments:", "segments: []\nx:", `acme.yaml:7:1: x: unknown key`},
		{"mapping for text", "title: Acme", "title: {a: b}", `acme.yaml:2:9: title: a mapping, not text; give text`},
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
			var e *platformfile.Error
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

func TestParseTooLarge(t *testing.T) {
	fits := good + "#" + strings.Repeat("x", platformfile.MaxSize-len(good)-1)
	if _, err := platformfile.Parse("acme.yaml", []byte(fits)); err != nil {
		t.Errorf("1 MiB is refused: %v", err)
	}
	_, err := platformfile.Parse("acme.yaml", []byte(fits+"x"))
	if err == nil || !strings.Contains(err.Error(), "acme.yaml: larger than 1 MiB") {
		t.Errorf("one byte more: %v", err)
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
	for _, title := range []string{"Acme", "", "#1: 'x'", "true", "1e3", "null", "- a", "{a", "a: b", " a ", "@a", "\u2028", "~", "0x1f", "<<", "|", "\\"} {
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

// stair nests n mappings by one space each.
func stair(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
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
