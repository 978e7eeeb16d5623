package hostedzone_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/postern-net/postern/internal/localaws/hostedzone"
)

const apex = "privatelink.example.com."

var servers = []string{"ns-1.awsdns-01.com", "ns-2.awsdns-02.net"}

func set(name, rtype string, ttl int64, values ...string) hostedzone.RecordSet {
	return hostedzone.RecordSet{Name: name, Type: rtype, TTL: ttl, Values: values}
}

func noAlias(hostedzone.RecordSet) string { return "" }

// zone has an address, a CNAME, a wildcard, a delegation and a deep name.
func zone(t testing.TB) hostedzone.Zone {
	t.Helper()
	z, problems := hostedzone.New(apex, servers).Apply([]hostedzone.Change{
		{Action: hostedzone.Create, Set: set("a."+apex, "A", 60, "127.0.0.1", "127.0.0.2")},
		{Action: hostedzone.Create, Set: set("c."+apex, "CNAME", 30, "a."+apex)},
		{Action: hostedzone.Create, Set: set("*.wild."+apex, "A", 60, "127.0.0.9")},
		{Action: hostedzone.Create, Set: set("known.wild."+apex, "TXT", 60, `"x"`)},
		{Action: hostedzone.Create, Set: set("child."+apex, "NS", 60, "ns.example.net.")},
		{Action: hostedzone.Create, Set: set("very.deep."+apex, "A", 60, "127.0.0.3")},
	}, noAlias)
	if problems != nil {
		t.Fatal(problems)
	}
	return z
}

func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"Example.COM": "example.com.", "example.com.": "example.com.", "_a.b-c.d": "_a.b-c.d.",
		"*.example.com": "*.example.com.", `\052.example.com`: "*.example.com.",
		strings.Repeat("a", 63) + ".com": strings.Repeat("a", 63) + ".com.",
	} {
		if got, err := hostedzone.ParseName(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{
		"": "DomainLabelEmpty", ".": "DomainLabelEmpty", "a..b": "DomainLabelEmpty", ".a": "DomainLabelEmpty", "a..": "DomainLabelEmpty",
		strings.Repeat("a", 64): "DomainLabelTooLong", strings.Repeat("abc.", 64) + "com": "DomainTooLong",
		"a b": "UnsupportedCharacter", "a.*.b": "UnsupportedCharacter", "x*.b": "UnsupportedCharacter", "é.com": "UnsupportedCharacter",
		`a\056b`: "UnsupportedCharacter", "a\nb": "UnsupportedCharacter",
	} {
		if got, err := hostedzone.ParseName(in); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %q, %v; want %s", in, got, err, want)
		}
	}
	if got := hostedzone.WireName("*.example.com."); got != `\052.example.com.` {
		t.Error(got)
	}
}

func TestListedByReversedLabels(t *testing.T) {
	names := []string{"www.example.com.", "example.com.", "a-b.com.", "b.a.com.", "a.com.", "*.example.com.", "example.org."}
	slices.SortFunc(names, hostedzone.CompareNames)
	want := []string{"a-b.com.", "a.com.", "b.a.com.", "example.com.", "*.example.com.", "www.example.com.", "example.org."}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestBatches(t *testing.T) {
	z := zone(t)
	many := func(n int, value string) (batch []hostedzone.Change) {
		for i := range n {
			batch = append(batch, hostedzone.Change{Action: hostedzone.Create, Set: set(fmt.Sprintf("n%d.%s", i, apex), "TXT", 1, value)})
		}
		return batch
	}
	upserts := func(batch []hostedzone.Change) []hostedzone.Change {
		for i := range batch {
			batch[i].Action = hostedzone.Upsert
		}
		return batch
	}
	one := func(a hostedzone.Action, r hostedzone.RecordSet) []hostedzone.Change {
		return []hostedzone.Change{{Action: a, Set: r}}
	}
	aliasTo := func(name, rtype, target string) hostedzone.RecordSet {
		return hostedzone.RecordSet{Name: name, Type: rtype, Alias: &hostedzone.Alias{ZoneID: "Z1", Name: target}}
	}
	a, b := "a."+apex, "b."+apex
	for name, c := range map[string]struct {
		batch []hostedzone.Change
		want  string // part of the only problem; "": admitted
	}{
		"create":                    {one(hostedzone.Create, set(b, "A", 60, "127.0.0.5")), ""},
		"create another type":       {one(hostedzone.Create, set(a, "AAAA", 60, "::1")), ""},
		"create again":              {one(hostedzone.Create, set(a, "A", 60, "127.0.0.5")), "Tried to create resource record set [name='a.privatelink.example.com.', type='A'] but it already exists"},
		"upsert new":                {one(hostedzone.Upsert, set(b, "A", 60, "127.0.0.5")), ""},
		"upsert old":                {one(hostedzone.Upsert, set(a, "A", 5, "127.0.0.5")), ""},
		"delete":                    {one(hostedzone.Delete, set(a, "A", 60, "127.0.0.2", "127.0.0.1")), ""},
		"delete the absent":         {one(hostedzone.Delete, set(b, "A", 60, "127.0.0.1")), "but it was not found"},
		"delete with another TTL":   {one(hostedzone.Delete, set(a, "A", 61, "127.0.0.1", "127.0.0.2")), "but the values provided do not match the current values"},
		"delete with fewer values":  {one(hostedzone.Delete, set(a, "A", 60, "127.0.0.1")), "do not match"},
		"delete as an alias":        {one(hostedzone.Delete, aliasTo(a, "A", b)), "do not match"},
		"delete the wildcard":       {one(hostedzone.Delete, set("*.wild."+apex, "A", 60, "127.0.0.1")), `[name='\052.wild.privatelink.example.com.', type='A'] but the values`},
		"delete SOA":                {one(hostedzone.Delete, set(apex, "SOA", 900, "x")), "exactly one SOA"},
		"delete NS of the apex":     {one(hostedzone.Delete, set(apex, "NS", 172800, "x")), "at least one NS record"},
		"replace SOA":               {one(hostedzone.Upsert, set(apex, "SOA", 60, "ns-1.awsdns-01.com. hostmaster.example.com. 1 7200 900 1209600 60")), ""},
		"SOA below":                 {one(hostedzone.Create, set(b, "SOA", 60, "a. b. 1 2 3 4 5")), "only permitted at apex"},
		"outside":                   {one(hostedzone.Create, set("b.example.com.", "A", 60, "127.0.0.1")), "is not permitted in zone privatelink.example.com."},
		"suffix is not inside":      {one(hostedzone.Create, set("x"+apex, "A", 60, "127.0.0.1")), "is not permitted in zone"},
		"CNAME at the apex":         {one(hostedzone.Create, set(apex, "CNAME", 60, "x.example.net")), "RRSet of type CNAME with DNS name privatelink.example.com. is not permitted at apex"},
		"alias CNAME at the apex":   {one(hostedzone.Create, aliasTo(apex, "CNAME", "c."+apex)), "is not permitted at apex"},
		"CNAME beside A":            {one(hostedzone.Create, set(a, "CNAME", 60, "x.example.net")), "RRSet of type CNAME with DNS name a.privatelink.example.com. is not permitted as it conflicts"},
		"A beside CNAME":            {one(hostedzone.Create, set("c."+apex, "A", 60, "127.0.0.1")), "because a conflicting RRSet of type CNAME"},
		"CNAME becomes A":           {append(one(hostedzone.Delete, set("c."+apex, "CNAME", 30, a)), one(hostedzone.Create, set("c."+apex, "A", 60, "127.0.0.1"))...), ""},
		"CNAME becomes A, reversed": {append(one(hostedzone.Create, set("c."+apex, "A", 60, "127.0.0.1")), one(hostedzone.Delete, set("c."+apex, "CNAME", 30, a))...), ""},
		"replaced":                  {append(one(hostedzone.Delete, set("c."+apex, "CNAME", 30, a)), one(hostedzone.Create, set("c."+apex, "CNAME", 60, b))...), ""},
		"twice":                     {append(one(hostedzone.Upsert, set(b, "A", 1, "127.0.0.1")), one(hostedzone.Upsert, set(b, "A", 1, "127.0.0.2"))...), "invalid set of changes for a resource record set 'A b."},
		"deleted twice":             {append(one(hostedzone.Delete, set("c."+apex, "CNAME", 30, a)), one(hostedzone.Delete, set("c."+apex, "CNAME", 30, a))...), "invalid set of changes"},
		"two CNAMEs":                {one(hostedzone.Create, set(b, "CNAME", 60, "x.example.net", "y.example.net")), "only one is permitted"},
		"same value twice":          {one(hostedzone.Create, set(b, "A", 60, "127.0.0.1", "127.0.0.1")), "Duplicate Resource Record"},
		"TTL zero":                  {one(hostedzone.Create, set(b, "A", 0, "127.0.0.1")), ""},
		"TTL largest":               {one(hostedzone.Create, set(b, "A", 1<<31-1, "127.0.0.1")), ""},
		"TTL negative":              {one(hostedzone.Create, set(b, "A", -1, "127.0.0.1")), "Invalid TTL"},
		"TTL too large":             {one(hostedzone.Create, set(b, "A", 1<<31, "127.0.0.1")), "Invalid TTL"},
		"unknown type":              {one(hostedzone.Create, set(b, "MX", 60, "10 mail.example.com")), "type MX are not served"},
		"A with a name":             {one(hostedzone.Create, set(b, "A", 60, "x.example.net")), "Invalid Resource Record: 'FATAL problem: ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address) encountered with 'x.example.net''"},
		"A with IPv6":               {one(hostedzone.Create, set(b, "A", 60, "::1")), "ARRDATAIllegalIPv4Address"},
		"AAAA with IPv4":            {one(hostedzone.Create, set(b, "AAAA", 60, "127.0.0.1")), "AAAARRDATAIllegalIPv6Address"},
		"AAAA with a zone":          {one(hostedzone.Create, set(b, "AAAA", 60, "fe80::1%eth0")), "AAAARRDATAIllegalIPv6Address"},
		"CNAME to no name":          {one(hostedzone.Create, set(b, "CNAME", 60, "a..b")), "DomainLabelEmpty"},
		"TXT":                       {one(hostedzone.Create, set(b, "TXT", 60, `"vpce:aBc" "\"q\" \\ \303\244"`)), ""},
		"TXT without quotes":        {one(hostedzone.Create, set(b, "TXT", 60, `vpce:aBc`)), "InvalidCharacterString (Value should be enclosed in quotation marks)"},
		"TXT not closed":            {one(hostedzone.Create, set(b, "TXT", 60, `"a`)), "InvalidCharacterString"},
		"TXT closed by an escape":   {one(hostedzone.Create, set(b, "TXT", 60, `"a\"`)), "InvalidCharacterString"},
		"TXT decimal escape":        {one(hostedzone.Create, set(b, "TXT", 60, `"\999"`)), "InvalidCharacterString"},
		"TXT glued":                 {one(hostedzone.Create, set(b, "TXT", 60, `"a""b"`)), "InvalidCharacterString"},
		"TXT empty string":          {one(hostedzone.Create, set(b, "TXT", 60, `""`)), ""},
		"TXT of 255":                {one(hostedzone.Create, set(b, "TXT", 60, `"`+strings.Repeat("x", 255)+`"`)), ""},
		"TXT of 256":                {one(hostedzone.Create, set(b, "TXT", 60, `"`+strings.Repeat("x", 256)+`"`)), "CharacterStringTooLong"},
		"value of 4001":             {one(hostedzone.Create, set(b, "TXT", 60, strings.Repeat(`"x" `, 1001))), "ValueTooLong"},
		"wildcard":                  {one(hostedzone.Create, set("*."+apex, "CNAME", 60, a)), ""},
		"wildcard NS":               {one(hostedzone.Create, set("*."+apex, "NS", 60, "ns.example.net")), "Wildcards are not permitted"},
		"alias":                     {one(hostedzone.Create, aliasTo(apex, "A", a)), ""},
		"alias to nothing":          {one(hostedzone.Create, aliasTo(apex, "A", b)), "but that target was not found"},
		"alias to another type":     {one(hostedzone.Create, aliasTo(apex, "AAAA", a)), "but that target was not found"},
		"alias to itself":           {one(hostedzone.Create, aliasTo(b, "A", b)), "but that target was not found"},
		"alias elsewhere":           {one(hostedzone.Create, aliasTo(apex, "A", "bad.example.net.")), "not there"},
		"alias NS":                  {one(hostedzone.Create, aliasTo(b, "NS", "child."+apex)), "aliases of type NS and SOA"},
		"1000 records":              {many(1000, `"x"`), ""},
		"1001 records":              {many(1001, `"x"`), "Number of records limit of 1000 exceeded."},
		"500 upserts":               {upserts(many(500, `"x"`)), ""},
		"501 upserts count twice":   {upserts(many(501, `"x"`)), "Number of records limit of 1000 exceeded."},
		"32000 characters":          {many(160, `"`+strings.Repeat("x", 198)+`"`), ""},
		"32200 characters":          {many(161, `"`+strings.Repeat("x", 198)+`"`), "Number of characters limit of 32000 exceeded."},
		"upserted characters twice": {upserts(many(81, `"`+strings.Repeat("x", 198)+`"`)), "Number of characters limit"},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(z.Records)
			next, problems := z.Apply(c.batch, func(r hostedzone.RecordSet) string {
				if r.Alias.Name == "bad.example.net." {
					return "not there"
				}
				return ""
			})
			switch {
			case c.want == "" && len(problems) > 0:
				t.Error(problems)
			case c.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], c.want)):
				t.Errorf("%q, want %q", problems, c.want)
			case c.want != "" && !cmp.Equal(z, next):
				t.Error("a refused batch changed the zone")
			}
			if diff := cmp.Diff(before, z.Records); diff != "" {
				t.Errorf("the old zone was modified: %s", diff)
			}
		})
	}
}

func TestAllOrNothing(t *testing.T) {
	z := zone(t)
	next, problems := z.Apply([]hostedzone.Change{
		{Action: hostedzone.Create, Set: set("b."+apex, "A", 60, "127.0.0.5")},
		{Action: hostedzone.Delete, Set: set("none."+apex, "A", 60, "127.0.0.5")},
		{Action: hostedzone.Create, Set: set("a."+apex, "A", 60, "127.0.0.5")},
	}, noAlias)
	if len(problems) != 2 || !cmp.Equal(z, next) {
		t.Errorf("%v", problems)
	}
}

func TestOnlyRequiredRecords(t *testing.T) {
	if !hostedzone.New(apex, servers).Empty() {
		t.Error("a new zone is not empty")
	}
	if zone(t).Empty() {
		t.Error("a zone with records is empty")
	}
}

func TestFullZone(t *testing.T) {
	z := hostedzone.New(apex, servers)
	for i := 2; i < 10_000; i++ {
		z.Records = append(z.Records, set(fmt.Sprintf("n%d.%s", i, apex), "A", 1, "127.0.0.1"))
	}
	slices.SortFunc(z.Records, func(a, b hostedzone.RecordSet) int { return hostedzone.CompareNames(a.Name, b.Name) })
	if _, problems := z.Apply([]hostedzone.Change{{Action: hostedzone.Create, Set: set("x."+apex, "A", 1, "127.0.0.1")}}, noAlias); len(problems) != 1 {
		t.Errorf("10001 record sets: %v", problems)
	}
	if _, problems := z.Apply([]hostedzone.Change{{Action: hostedzone.Upsert, Set: set("n2."+apex, "A", 2, "127.0.0.1")}}, noAlias); len(problems) != 0 {
		t.Error(problems)
	}
}

func TestLookup(t *testing.T) {
	z := zone(t)
	for _, c := range []struct {
		name, rtype string
		exists      bool
		want        []string
	}{
		{"a." + apex, "A", true, []string{"A 127.0.0.1", "A 127.0.0.2"}},
		{"a." + apex, "TXT", true, nil},
		{"c." + apex, "A", true, []string{"CNAME a." + apex}},
		{"c." + apex, "CNAME", true, []string{"CNAME a." + apex}},
		{"x.wild." + apex, "A", true, []string{"A 127.0.0.9"}},
		{"y.x.wild." + apex, "A", true, []string{"A 127.0.0.9"}},
		{"x.wild." + apex, "TXT", true, nil},
		{"known.wild." + apex, "A", true, nil},        // a match hides the wildcard
		{"below.known.wild." + apex, "A", false, nil}, // and what is below it (RFC 4592 4.2)
		{"wild." + apex, "A", true, nil},              // an empty non-terminal
		{"deep." + apex, "A", true, nil},              // likewise
		{"none." + apex, "A", false, nil},             //
		{"none.a." + apex, "A", false, nil},           //
		{apex, "NS", true, []string{"NS ns-1.awsdns-01.com.", "NS ns-2.awsdns-02.net."}},
		{apex, "A", true, nil},
	} {
		got := z.Lookup(c.name, c.rtype)
		var records []string
		for _, rr := range got.Records {
			if rr.Header().Name != c.name {
				t.Errorf("%s: the owner is %s", c.name, rr.Header().Name)
			}
			records = append(records, strings.Join(strings.Fields(rr.String())[3:], " "))
		}
		if diff := cmp.Diff(c.want, records); diff != "" || got.Exists != c.exists {
			t.Errorf("%s %s: exists %v, %s", c.name, c.rtype, got.Exists, diff)
		}
	}
	if soa, ok := z.SOA().(*dns.SOA); !ok || soa.Hdr.Ttl != 900 || soa.Minttl != 86400 || soa.Ns != "ns-1.awsdns-01.com." {
		t.Errorf("%v", z.SOA())
	}
}

func TestReferral(t *testing.T) {
	z := zone(t)
	for name, want := range map[string]string{
		apex: "", "a." + apex: "", "x.a." + apex: "", "child." + apex: "child." + apex, "y.x.child." + apex: "child." + apex,
	} {
		got, ok := z.Referral(name)
		if got.Cut != want || ok != (want != "") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestTXTInDNS(t *testing.T) {
	z, problems := hostedzone.New(apex, servers).Apply([]hostedzone.Change{
		{Action: hostedzone.Create, Set: set(apex, "TXT", 60, `"a \"b\" \\" "\303\244"`)},
	}, noAlias)
	if problems != nil {
		t.Fatal(problems)
	}
	m := new(dns.Msg)
	m.Answer = z.Lookup(apex, "TXT").Records
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(wire), "\x07a \"b\" \\"+"\x02ä") {
		t.Errorf("%q", wire)
	}
}

// TestApplyKeepsItsPromises: whatever is tried, a zone stays sorted, without
// duplicates, without a CNAME beside others, with its apex records; and what a
// batch created, its inverse deletes.
func TestApplyKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		z := hostedzone.New(apex, servers)
		name := rapid.SampledFrom([]string{apex, "a." + apex, "b." + apex, "*." + apex, "x.a." + apex, "example.org."})
		for range rapid.IntRange(1, 8).Draw(t, "batches") {
			var batch []hostedzone.Change
			for range rapid.IntRange(1, 4).Draw(t, "changes") {
				c := hostedzone.Change{Action: rapid.SampledFrom([]hostedzone.Action{hostedzone.Create, hostedzone.Delete, hostedzone.Upsert}).Draw(t, "action")}
				c.Set = set(name.Draw(t, "name"), rapid.SampledFrom([]string{"A", "CNAME", "NS", "SOA"}).Draw(t, "type"), 60,
					rapid.SampledFrom([]string{"127.0.0.1", "t.example.net", "a. b. 1 2 3 4 5"}).Draw(t, "value"))
				batch = append(batch, c)
			}
			next, problems := z.Apply(batch, noAlias)
			if len(problems) > 0 && !cmp.Equal(z, next) {
				t.Fatal("a refused batch changed the zone")
			}
			z = next
			check(t, z)
		}
	})
}

func check(t *rapid.T, z hostedzone.Zone) {
	ns, soa := false, false
	for i, r := range z.Records {
		if i > 0 {
			p := z.Records[i-1]
			c := hostedzone.CompareNames(p.Name, r.Name)
			if c > 0 || (c == 0 && p.Type >= r.Type) {
				t.Fatalf("%s %s before %s %s", p.Name, p.Type, r.Name, r.Type)
			}
			if c == 0 && (p.Type == "CNAME" || r.Type == "CNAME") {
				t.Fatalf("a CNAME is not alone at %s", r.Name)
			}
		}
		if r.Name == apex {
			ns, soa = ns || r.Type == "NS", soa || r.Type == "SOA"
		}
		if !hostedzone.Within(r.Name, apex) {
			t.Fatalf("%s is outside", r.Name)
		}
	}
	if !ns || !soa {
		t.Fatal("the apex lacks NS or SOA")
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"example.com", "*.A.b.", `\052.x`, "a..b", ".", "é", strings.Repeat("a.", 130)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := hostedzone.ParseName(s)
		if err != nil {
			return
		}
		if again, err := hostedzone.ParseName(hostedzone.WireName(name)); err != nil || again != name {
			t.Errorf("%q: %q, then %q, %v", s, name, again, err)
		}
		if _, ok := dns.IsDomainName(name); !ok || dns.CanonicalName(name) != name {
			t.Errorf("%q: %q is no DNS name", s, name)
		}
	})
}

// FuzzTXT: a value that is admitted can be sent.
func FuzzTXT(f *testing.F) {
	for _, s := range []string{`"a"`, `"a" "b"`, `"\""`, `"\\" `, `"\303"`, `"\777"`, `"`, ``, `"a`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		z, problems := hostedzone.New(apex, servers).Apply([]hostedzone.Change{{Action: hostedzone.Create, Set: set(apex, "TXT", 60, s)}}, noAlias)
		if problems != nil {
			return
		}
		records := z.Lookup(apex, "TXT").Records
		if len(records) != 1 {
			t.Fatalf("%q: %v", s, records)
		}
		m := &dns.Msg{Answer: records}
		wire, err := m.Pack()
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if err := new(dns.Msg).Unpack(wire); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
	})
}
