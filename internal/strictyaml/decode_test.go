package strictyaml_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/strictyaml"
)

// lighthouse has a field of every kind that the package reads.
type lighthouse struct {
	Name    string                      `yaml:"name"`
	Lit     bool                        `yaml:"lit,omitempty"`
	Height  int                         `yaml:"height,omitempty"`
	Depth   int64                       `yaml:"depth,omitempty"`
	Port    uint16                      `yaml:"port,omitempty"`
	Period  time.Duration               `yaml:"period,omitempty"`
	Address netip.Addr                  `yaml:"address"`
	Listen  netip.AddrPort              `yaml:"listen"`
	Lamps   []lamp                      `yaml:"lamps,omitempty"`
	Peers   map[string][]netip.AddrPort `yaml:"peers,omitempty"`
	Nets    []netip.Prefix              `yaml:"nets,omitempty"`
	Keeper  struct {
		Name string
	} `yaml:"keeper,omitempty"`
	Secret string `yaml:"-"`
}

type lamp struct {
	ID      string   `yaml:"id"`
	Colours []string `yaml:"colours,omitempty"`
}

// good is a file; its lines are numbered in the tests below.
const good = `name: skerry
lit: true
height: 48
port: 443
period: 30s
listen: 127.0.0.1:80
lamps:
  - id: upper
    colours:
      - white
      - red
  - id: lower
peers:
  east: ["10.0.0.1:443"]
nets: [10.1.0.0/24]
keeper:
  name: Ann
`

func decode(text string) (lighthouse, *strictyaml.Document, error) {
	var l lighthouse
	doc, err := strictyaml.Decode("l.yaml", []byte(text), &l, strictyaml.Options{Kind: "lighthouse file"})
	return l, doc, err
}

func TestDecode(t *testing.T) {
	got, _, err := decode(good)
	if err != nil {
		t.Fatal(err)
	}
	want := lighthouse{
		Name: "skerry", Lit: true, Height: 48, Port: 443, Period: 30 * time.Second, Listen: netip.MustParseAddrPort("127.0.0.1:80"),
		Lamps: []lamp{{ID: "upper", Colours: []string{"white", "red"}}, {ID: "lower"}},
		Peers: map[string][]netip.AddrPort{"east": {netip.MustParseAddrPort("10.0.0.1:443")}},
		Nets:  []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")},
	}
	want.Keeper.Name = "Ann"
	if d := cmp.Diff(want, got, netipTypes); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

var netipTypes = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

// Every refusal names file, line, column, field, value and fix.
func TestDecodeRefuses(t *testing.T) {
	const keys = "the keys here are address, depth, height, keeper, lamps, listen, lit, name, nets, peers, period, port"
	for _, tt := range []struct {
		name, old, with string
		want            string
	}{
		{"empty file", good, "", `l.yaml: an empty file; ` + keys},
		{"blank file", good, " \n\n", `l.yaml: an empty file`},
		{"comments only", good, "# nothing\n", `l.yaml: a file without a value; ` + keys},
		{"too large", good, strings.Repeat("#", strictyaml.MaxSize+1), `l.yaml: larger than 1 MiB; check that this is a lighthouse file`},
		{"not UTF-8", "skerry", "\xff", `l.yaml: not UTF-8 text`},
		{"a list", good, "- name: skerry\n", `l.yaml:1:1: not a mapping of keys to values; start with "name: …"`},
		{"a word", good, "skerry\n", `l.yaml:1:1: not a mapping of keys to values`},
		{"two documents", "nets:", "---\nnets:", `l.yaml:16:5: a second document; a lighthouse file is one document; remove what follows "---"`},
		{"no YAML", "lit: true", "lit: [", `l.yaml:2:6: not readable as YAML: `},
		{"tab", "  - id: upper", "\t- id: upper", `l.yaml:8:1: not readable as YAML: `},
		{"anchor", "skerry", "&a skerry", `l.yaml:1:7: anchors, aliases, merge keys, tags and directives are not part of a lighthouse file`},
		{"alias", "skerry", "*a", `l.yaml:1:7: anchors, aliases`},
		{"tag", "skerry", "!!str skerry", `l.yaml:1:7: anchors, aliases`},
		{"tag that the library panics at", good, "lamps: !0\n000000000", `l.yaml:1:8: anchors, aliases`},
		{"merge", "lit: true", "<<: {lit: true}", `l.yaml:2:1: anchors, aliases`},
		{"directive", "name: skerry", "%YAML 1.2\n---\nname: skerry", `l.yaml:1:1: anchors, aliases`},
		{"nested brackets", "name: skerry", "name: " + strings.Repeat("[", 30), `l.yaml:1:27: nested too deep; check that this is a lighthouse file`},
		{"nested dashes", good, strings.Repeat("- ", 30) + "x", `l.yaml:1:41: nested too deep`},
		{"nested indentation", good, stair(300), `l.yaml:202:202: nested too deep`},
		{"too many keys", good, strings.Repeat("a: b\n", 10_000), `l.yaml: more than 20000 words and signs; check that this is a lighthouse file`},

		{"unknown key", "name: skerry", "nam: skerry", `l.yaml:1:1: nam: unknown key; did you mean "name"?`},
		{"unknown inner key", "colours:", "lenses:", `l.yaml:9:5: lamps[0].lenses: unknown key; the keys here are colours, id`},
		{"key that no file has", "name: skerry", "secret: x", `l.yaml:1:1: secret: unknown key; ` + keys},
		{"duplicate key", "lit: true", "name: again", `l.yaml:2:1: name: the key stands twice; the first is on line 1; remove one of them`},
		{"duplicate map key", `east: ["10.0.0.1:443"]`, "east: [\"10.0.0.1:443\"]\n  east: []", `l.yaml:15:3: peers.east: the key stands twice; the first is on line 14`},
		{"no value", "name: skerry", "name:", `l.yaml:1:6: name: no value; give text, or remove the key`},
		{"null", "name: skerry", "name: ~", `l.yaml:1:7: name: no value; give text, or remove the key`},
		{"number for text", "skerry", "7", `l.yaml:1:7: name: a number, not text (got "7"); put it in quotes if it is text`},
		{"boolean for text", "skerry", "true", `l.yaml:1:7: name: a true-or-false value, not text (got "true"); put it in quotes`},
		{"list for text", "skerry", "[skerry]", `l.yaml:1:7: name: a list, not text; give text`},
		{"mapping for text", "skerry", "{a: b}", `l.yaml:1:8: name: a mapping, not text; give text`},
		{"text for list", "nets: [10.1.0.0/24]", "nets: 10.1.0.0/24", `l.yaml:15:7: nets: a text, not a list such as "[a, b]" (got "10.1.0.0/24")`},
		{"text for mapping", `east: ["10.0.0.1:443"]`, "east", `peers: a text where keys with values belong (got "east"); write "key: value" lines below it`},
		{"text for structure", "keeper:\n  name: Ann", "keeper: Ann", `l.yaml:16:9: keeper: a text where keys with values belong (got "Ann")`},
		{"text for number", "48", "high", `l.yaml:3:9: height: a text, not a whole number (got "high"); give a whole number`},
		{"quoted number", "48", `"48"`, `l.yaml:3:9: height: a text, not a whole number (got "48")`},
		{"fraction", "48", "48.5", `l.yaml:3:9: height: a number, not a whole number (got "48.5")`},
		{"huge number", "48", "18446744073709551615", `l.yaml:3:9: height: a number out of range (got "18446744073709551615"); give one from -2147483648 to 2147483647`},
		{"more than 64 bits", "48", "99999999999999999999999", `l.yaml:3:9: height: a text, not a whole number`},
		{"negative port", "443\n", "-1\n", `l.yaml:4:7: port: a number out of range (got "-1"); give one from 0 to 65535`},
		{"large port", "443\n", "65536\n", `l.yaml:4:7: port: a number out of range (got "65536")`},
		{"text for boolean", "true", "yes", `l.yaml:2:6: lit: a text, not true or false (got "yes"); give true or false`},
		{"number for duration", "30s", "30", `l.yaml:5:9: period: a number, not a duration such as "30s" or "5m" (got "30")`},
		{"text for duration", "30s", "soon", `l.yaml:5:9: period: not a duration such as "30s" or "5m" (got "soon"); write it so`},
		{"empty duration", "30s", `""`, `l.yaml:5:9: period: not a duration`},
		{"bad address", "lit: true", "address: host", `l.yaml:2:10: address: not an address such as "10.0.1.5" (got "host")`},
		{"bad address with port", "10.0.0.1:443", "10.0.0.1", `l.yaml:14:10: peers.east[0]: not an address with a port such as "10.0.1.5:443" (got "10.0.0.1")`},
		{"empty address in a list", "10.0.0.1:443", "", `l.yaml:14:10: peers.east[0]: not an address with a port`},
		{"bad network", "10.1.0.0/24", "10.1.0.0", `l.yaml:15:8: nets[0]: not a network such as "10.0.1.0/24" (got "10.1.0.0")`},
		{"list for address", "127.0.0.1:80", "[a]", `l.yaml:6:9: listen: a list, not an address with a port`},
		{"control character", "skerry", `"sk\u001berry"`, `l.yaml:1:7: name: text with a line break or another control character`},
		{"text block", "skerry", "|\n  sk\n  erry", `name: text with a line break or another control character`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(good, tt.old) {
				t.Fatalf("the file has no %q to replace", tt.old)
			}
			_, _, err := decode(strings.Replace(good, tt.old, tt.with, 1))
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

// What is admitted at the edge of what is refused.
func TestDecodeAdmits(t *testing.T) {
	for _, tt := range []struct{ name, old, with string }{
		{"1 MiB", good, good + "#" + strings.Repeat("x", strictyaml.MaxSize-len(good)-1)},
		{"a document marker", good, "---\n" + good},
		{"comments and a trailing marker", good, "# one\n" + good + "---\n# the end\n"},
		{"flow style", "keeper:\n  name: Ann", "keeper: {name: Ann}"},
		{"empty list", "nets: [10.1.0.0/24]", "nets: []"},
		{"empty text", "skerry", `""`},
		{"quoted text", "skerry", `"true"`},
		{"largest port", "443\n", "65535\n"},
		{"smallest int", "48", "-2147483648"},
		{"64 bits", "lit: true", "depth: -9223372036854775808"},
		{"0 for a port", "443\n", "0\n"},
		// Encode writes the zero address so.
		{"empty address of a structure", "127.0.0.1:80", `""`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(good, tt.old) {
				t.Fatalf("the file has no %q to replace", tt.old)
			}
			if _, _, err := decode(strings.Replace(good, tt.old, tt.with, 1)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDecodeReportsEverythingInOrder(t *testing.T) {
	_, _, err := decode(strings.NewReplacer("name: skerry", "nam: skerry", "48", "x", "white", "7", "id: lower", "id: [lower]").Replace(good))
	var e *strictyaml.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	var lines []int
	for _, p := range e.Problems {
		lines = append(lines, p.Line)
	}
	if d := cmp.Diff([]int{1, 3, 10, 12}, lines); d != "" {
		t.Errorf("lines of the problems (-want +got):\n%s\n%v", d, err)
	}
}

func TestDecodePanicsForATypeItHasNoRuleFor(t *testing.T) {
	for name, v := range map[string]any{
		"float":    &struct{ A float64 }{},
		"pointer":  &struct{ A *int }{},
		"any":      &struct{ A []any }{},
		"keys":     &struct{ A map[int]string }{},
		"embedded": &struct{ lamp }{},
		"inline": &struct {
			A lamp `yaml:",inline"`
		}{},
		"below a list":   &struct{ A []struct{ B chan int } }{},
		"below an array": &struct{ A [2]string }{},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "no rule") {
					t.Errorf("recovered %v", p)
				}
			}()
			_, _ = strictyaml.Decode("x.yaml", []byte("a: 1\n"), v, strictyaml.Options{Kind: "file"})
		})
	}
}

func TestEncodePanicsForATypeThatWouldLoseAddresses(t *testing.T) {
	type inner struct {
		A string     `yaml:"a"`
		B netip.Addr `yaml:"b"`
	}
	for name, tt := range map[string]struct {
		v     any
		loses string
	}{
		"address": {struct {
			A netip.Addr `yaml:"a,omitempty"`
		}{}, "A of"},
		"around it": {struct {
			I inner `yaml:"i,omitempty"`
		}{}, "I of"},
		"omitzero": {struct {
			A netip.Prefix `yaml:"a,omitzero"`
		}{}, "A of"},
		"below a list": {[]struct {
			A netip.AddrPort `yaml:"a,omitempty"`
		}{}, "A of"},
		"behind a pointer": {&struct {
			A netip.Addr `yaml:"a,omitempty"`
		}{}, "A of"},
		"kept": {inner{}, ""},
		"a list of them": {struct {
			A []netip.Addr `yaml:"a,omitempty"`
		}{}, ""},
		"tells its zero": {struct {
			A time.Time `yaml:"a,omitempty"`
		}{}, ""},
		"other structures": {struct {
			L lamp `yaml:"l,omitempty"`
		}{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p := recover(); (p != nil) != (tt.loses != "") || p != nil && !strings.Contains(fmt.Sprint(p), tt.loses) {
					t.Errorf("recovered %v", p)
				}
			}()
			if _, err := strictyaml.Encode(tt.v); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLocate(t *testing.T) {
	_, doc, err := decode(good)
	if err != nil {
		t.Fatal(err)
	}
	rule := func(field, value string) *postern.Error { return postern.Invalid(field, value, "wrong", "mend it") }
	elsewhere := errors.New("elsewhere")
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"scalar", rule("height", "48"), `l.yaml:3:9: height: wrong (got "48"); mend it`},
		{"entry of a list", rule("lamps[0].colours[1]", "red"), `l.yaml:11:9: lamps[0].colours[1]: wrong (got "red"); mend it`},
		{"collection at its key", rule("lamps[0].colours", "x"), `l.yaml:9:5: lamps[0].colours: wrong (got "x"); mend it`},
		{"key of a map", rule("peers.east", "east"), `l.yaml:14:3: peers.east: wrong (got "east"); mend it`},
		{"absent key", rule("lamps[1].colours", ""), `l.yaml:12:5: lamps[1].colours: missing; mend it`},
		{"absent top key", rule("depth", ""), `l.yaml:1:1: depth: missing; mend it`},
		{"absent entry", rule("nets[7]", "x"), `l.yaml:15:1: nets[7]: wrong (got "x"); mend it`},
		{"default of an absent key", rule("depth", "0"), `l.yaml:1:1: depth: wrong (got "0"); mend it`},
		{"the whole", rule("", ""), `l.yaml:1:1: wrong; mend it`},
		{
			"all, in the file's order, a missing one once",
			postern.Errors{rule("nets[0]", "a"), rule("depth", ""), postern.Invalid("depth", "", "also wrong", "x"), rule("height", "48")},
			"l.yaml:1:1: depth: missing; mend it\n" +
				"l.yaml:3:9: height: wrong (got \"48\"); mend it\n" +
				"l.yaml:15:8: nets[0]: wrong (got \"a\"); mend it",
		},
		{"another error", elsewhere, "elsewhere"},
		{"what is located already", fmt.Errorf("load: %w", &strictyaml.Error{File: "other.yaml", Problems: []strictyaml.Problem{{Error: rule("height", "")}}}), "load: other.yaml: height: wrong; mend it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := doc.Locate(tt.err); got.Error() != tt.want {
				t.Errorf("got\n%v\nwant\n%s", got, tt.want)
			}
		})
	}
	if err := doc.Locate(nil); err != nil {
		t.Errorf("of nothing: %v", err)
	}
	var es postern.Errors
	if err := doc.Locate(es.Err()); err != nil {
		t.Errorf("of no problem: %v", err)
	}
	kept := rule("depth", "")
	_ = doc.Locate(kept)
	if kept.Message != "wrong" {
		t.Errorf("the caller's error became %q", kept.Message)
	}
	if code := postern.CodeOf(doc.Locate(&postern.Error{Code: postern.CodeConflict, Field: "depth"})); code != postern.CodeConflict {
		t.Errorf("the code became %s", code)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"empty": 0, "fits": strictyaml.MaxSize, "large": strictyaml.MaxSize + 1, "larger": strictyaml.MaxSize + 9} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := strictyaml.Read(path); err != nil || len(b) != min(size, strictyaml.MaxSize+1) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	if _, err := strictyaml.Read(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := strictyaml.Read(dir); err == nil {
		t.Error("a folder was read")
	}
}

func TestEncodeRoundTrip(t *testing.T) {
	for name, text := range map[string]string{"all": good, "little": "name: \"#: 'x' \\\\ 1e3\"\n"} {
		l, _, err := decode(text)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, name, l)
	}
	roundTrip(t, "zero", lighthouse{})
	if _, err := strictyaml.Encode(make(chan int)); err == nil {
		t.Error("a channel was written")
	}
}

// FuzzDecode demands that no file makes the reader panic, that errors are of
// the package's type, and that what is admitted survives writing.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("name: skerry\nname: &a *a\n"))
	f.Add([]byte("lamps: !0\n000000000")) // the YAML library panics
	f.Add([]byte("{lit: [b, {c: d}], name: |\n x\n}"))
	f.Add([]byte("? name\n: x\n? [a]\n: y\n"))
	f.Add([]byte("period: 1h\nport: 0x1f\nheight: 1_0\ndepth: 0o7\naddress: \"::1\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var l lighthouse
		doc, err := strictyaml.Decode("fuzz.yaml", b, &l, strictyaml.Options{Kind: "lighthouse file"})
		if err != nil {
			var e *strictyaml.Error
			if !errors.As(err, &e) || len(e.Problems) == 0 {
				t.Fatalf("an error of another kind: %#v", err)
			}
			return
		}
		for _, field := range []string{"", "name", "lamps[0].id", "lamps[9].colours[9]", "peers.a.b[0]", "..[[", "]"} {
			if err := doc.Locate(postern.Invalid(field, "", "wrong", "")); err == nil {
				t.Fatalf("%q was lost", field)
			}
		}
		roundTrip(t, "fuzz", l)
	})
}

func roundTrip(t *testing.T, name string, l lighthouse) {
	t.Helper()
	b, err := strictyaml.Encode(l)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	again, _, err := decode(string(b))
	if err != nil {
		t.Fatalf("%s: what Encode wrote is refused: %v\n%s", name, err, b)
	}
	if d := cmp.Diff(l, again, netipTypes, cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("%s (-before +after):\n%s\n%s", name, d, b)
	}
}

// stair nests n mappings by one space each.
func stair(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}
