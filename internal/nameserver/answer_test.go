package nameserver_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/postern-net/postern/internal/nameserver"
)

const (
	hostedSOA  = "authority hosted.example.net. 30 IN SOA ns.hosted.example.net. hostmaster.hosted.example.net. 7 3600 600 604800 30"
	privateSOA = "authority privatelink.example.net. 30 IN SOA ns.privatelink.example.net. hostmaster.privatelink.example.net. 7 3600 600 604800 30"
	parentSOA  = "authority example.net. 30 IN SOA ns1.example.org. hostmaster.example.net. 7 3600 600 604800 30"
)

func TestAnswers(t *testing.T) {
	w := serve(t, zones())
	for _, tt := range []struct {
		rule string
		name string
		kind uint16
		want string
	}{
		{"addresses", "globex." + hosted, dns.TypeA, `NOERROR aa rd
answer globex.hosted.example.net. 60 IN A 192.0.2.10
answer globex.hosted.example.net. 60 IN A 192.0.2.11`},
		{"one type of two", "dual." + hosted, dns.TypeAAAA, `NOERROR aa rd
answer dual.hosted.example.net. 120 IN AAAA 2001:db8::12`},
		{"the answer stops where the CNAME leaves the zone, though the other zone is here", "example." + hosted, dns.TypeA, `NOERROR aa rd
answer example.hosted.example.net. 60 IN CNAME example.privatelink.example.net.`},
		{"a CNAME to elsewhere", "outwards." + hosted, dns.TypeA, `NOERROR aa rd
answer outwards.hosted.example.net. 60 IN CNAME vpce-1.vpce.example.com.`},
		{"followed within the zone", "alias." + hosted, dns.TypeA, `NOERROR aa rd
answer alias.hosted.example.net. 60 IN CNAME second.hosted.example.net.
answer second.hosted.example.net. 50 IN CNAME globex.hosted.example.net.
answer globex.hosted.example.net. 60 IN A 192.0.2.10
answer globex.hosted.example.net. 60 IN A 192.0.2.11`},
		{"followed within the zone and stopped at its edge", "twice." + hosted, dns.TypeA, `NOERROR aa rd
answer twice.hosted.example.net. 60 IN CNAME example.hosted.example.net.
answer example.hosted.example.net. 60 IN CNAME example.privatelink.example.net.`},
		{"the middle of the chain, in its own zone", "example." + private, dns.TypeA, `NOERROR aa rd
answer example.privatelink.example.net. 5 IN CNAME ingress.privatelink.example.net.
answer ingress.privatelink.example.net. 60 IN A 192.0.2.20`},
		{"no other type at the chain's end", "alias." + hosted, dns.TypeAAAA, `NOERROR aa rd
answer alias.hosted.example.net. 60 IN CNAME second.hosted.example.net.
answer second.hosted.example.net. 50 IN CNAME globex.hosted.example.net.
` + hostedSOA},
		{"nothing at the chain's end", "dangling." + hosted, dns.TypeA, `NXDOMAIN aa rd
answer dangling.hosted.example.net. 60 IN CNAME nothing.hosted.example.net.
` + hostedSOA},
		{"the CNAME itself is not followed", "alias." + hosted, dns.TypeCNAME, `NOERROR aa rd
answer alias.hosted.example.net. 60 IN CNAME second.hosted.example.net.`},
		{"from the zone above to the one below", "to-host.example.net", dns.TypeA, `NOERROR aa rd
answer to-host.example.net. 60 IN CNAME globex.hosted.example.net.`},
		{"to a delegated name", "to-sub.example.net", dns.TypeA, `NOERROR aa rd
answer to-sub.example.net. 60 IN CNAME www.sub.example.net.`},

		{"no such name", "nobody." + hosted, dns.TypeA, "NXDOMAIN aa rd\n" + hostedSOA},
		{"no such name, far below", "a.b.c.globex." + private, dns.TypeA, "NXDOMAIN aa rd\n" + privateSOA},
		{"nothing below a CNAME", "www.example." + hosted, dns.TypeA, "NXDOMAIN aa rd\n" + hostedSOA},
		{"no such type", "globex." + hosted, dns.TypeAAAA, "NOERROR aa rd\n" + hostedSOA},
		{"no such type, one that is not known", "globex." + hosted, 65280, "NOERROR aa rd\n" + hostedSOA},
		{"empty non-terminal", "deep.a." + hosted, dns.TypeTXT, "NOERROR aa rd\n" + hostedSOA},
		{"empty non-terminal, higher", "a." + hosted, dns.TypeA, "NOERROR aa rd\n" + hostedSOA},
		{"no wildcards", "*." + hosted, dns.TypeA, "NXDOMAIN aa rd\n" + hostedSOA},
		{"a dot within a label is no separator", `globex\.hosted.example.net`, dns.TypeA, "NXDOMAIN aa rd\n" + parentSOA},
		{"bytes that are no letters", `\000\255.` + hosted, dns.TypeA, "NXDOMAIN aa rd\n" + hostedSOA},

		{"apex", hosted, dns.TypeTXT, `NOERROR aa rd
answer hosted.example.net. 300 IN TXT "the platform"`},
		{"apex without that type", hosted, dns.TypeA, "NOERROR aa rd\n" + hostedSOA},
		{"SOA", hosted, dns.TypeSOA, "NOERROR aa rd\n" + strings.Replace(hostedSOA, "authority", "answer", 1)},
		{"NS that the server adds", hosted, dns.TypeNS, `NOERROR aa rd
answer hosted.example.net. 3600 IN NS ns.hosted.example.net.`},
		{"NS that the zone brings, with addresses", "example.net", dns.TypeNS, `NOERROR aa rd
answer example.net. 7200 IN NS ns1.example.org.
answer example.net. 7200 IN NS ns.example.net.
additional ns.example.net. 600 IN A 192.0.2.53
additional ns.example.net. 600 IN AAAA 2001:db8::53`},
		{"text", "_acme.deep.a." + hosted, dns.TypeTXT, `NOERROR aa rd
answer _acme.deep.a.hosted.example.net. 60 IN TXT "say \"hi\" \\ and ; semicolon"
answer _acme.deep.a.hosted.example.net. 60 IN TXT "zwei \226\128\147 \195\188"`},
		{"text of more than 255 bytes", "long." + hosted, dns.TypeTXT, `NOERROR aa rd
answer long.hosted.example.net. 60 IN TXT "` + strings.Repeat("0123456789", 25) + `01234" "56789` + strings.Repeat("0123456789", 25) + `" "` + strings.Repeat("0123456789", 9) + `"`},

		{"delegated", "sub.example.net", dns.TypeA, `NOERROR rd
authority sub.example.net. 900 IN NS ns.sub.example.net.
authority sub.example.net. 900 IN NS ns.example.com.
additional ns.sub.example.net. 900 IN A 192.0.2.54`},
		{"below a delegation", "a.b.sub.example.net", dns.TypeTXT, `NOERROR rd
authority sub.example.net. 900 IN NS ns.sub.example.net.
authority sub.example.net. 900 IN NS ns.example.com.
additional ns.sub.example.net. 900 IN A 192.0.2.54`},
		{"glue is not an answer", "ns.sub.example.net", dns.TypeA, `NOERROR rd
authority sub.example.net. 900 IN NS ns.sub.example.net.
authority sub.example.net. 900 IN NS ns.example.com.
additional ns.sub.example.net. 900 IN A 192.0.2.54`},
		{"DS of a delegation is for the zone above", "sub.example.net", dns.TypeDS, "NOERROR aa rd\n" + parentSOA},
		{"DS of a zone that is here too is for the zone above", hosted, dns.TypeDS, "NOERROR aa rd\n" + parentSOA},
		{"DS below an apex", "globex." + hosted, dns.TypeDS, "NOERROR aa rd\n" + hostedSOA},
		{"DS of an apex whose zone above is elsewhere", "example.net", dns.TypeDS, "NOERROR aa rd\n" + parentSOA},

		{"ANY of a name", "globex." + hosted, dns.TypeANY, `NOERROR aa rd
answer globex.hosted.example.net. 30 IN HINFO "RFC8482" ""`},
		{"ANY of a CNAME", "alias." + hosted, dns.TypeANY, `NOERROR aa rd
answer alias.hosted.example.net. 60 IN CNAME second.hosted.example.net.`},
		{"ANY of nothing", "nobody." + hosted, dns.TypeANY, "NXDOMAIN aa rd\n" + hostedSOA},
		{"ANY of an empty non-terminal", "a." + hosted, dns.TypeANY, "NOERROR aa rd\n" + hostedSOA},

		{"outside", "www.example.com", dns.TypeA, "REFUSED rd"},
		{"a suffix that is no label", "nothosted.example.org", dns.TypeA, "REFUSED rd"},
		{"the zone above an outermost one", "net", dns.TypeNS, "REFUSED rd"},
		{"root", ".", dns.TypeNS, "REFUSED rd"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			for _, transport := range []string{"udp", "tcp"} {
				if diff := cmp.Diff(tt.want, show(w.ask(t, transport, tt.name, tt.kind))); diff != "" {
					t.Errorf("%s: %s %s (-want +got):\n%s", transport, tt.name, dns.TypeToString[tt.kind], diff)
				}
			}
		})
	}
}

// Resolvers that vary the case of letters compare the question; some compare
// the owner of what answers it.
func TestSpellingIsKept(t *testing.T) {
	w := serve(t, zones())
	for _, tt := range []struct {
		name string
		kind uint16
		want string
	}{
		{"gLoBeX.HosTED.exaMPle.nET.", dns.TypeA, `NOERROR aa rd
answer gLoBeX.HosTED.exaMPle.nET. 60 IN A 192.0.2.10
answer gLoBeX.HosTED.exaMPle.nET. 60 IN A 192.0.2.11`},
		{"ALIAS.hosted.example.net.", dns.TypeA, `NOERROR aa rd
answer ALIAS.hosted.example.net. 60 IN CNAME second.hosted.example.net.
answer second.hosted.example.net. 50 IN CNAME globex.hosted.example.net.
answer globex.hosted.example.net. 60 IN A 192.0.2.10
answer globex.hosted.example.net. 60 IN A 192.0.2.11`},
		{"NOBODY.Hosted.example.net.", dns.TypeA, "NXDOMAIN aa rd\n" + hostedSOA},
		{"Hosted.Example.NET.", dns.TypeDS, "NOERROR aa rd\n" + parentSOA},
	} {
		r := w.ask(t, "udp", tt.name, tt.kind)
		if len(r.Question) != 1 || r.Question[0].Name != tt.name {
			t.Errorf("question %v, want %s as it was sent", r.Question, tt.name)
		}
		if diff := cmp.Diff(tt.want, show(r)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	// What is in force is not touched by an answer's spelling.
	w.ask(t, "udp", "HOSTED.example.net.", dns.TypeSOA)
	if diff := cmp.Diff("NXDOMAIN aa rd\n"+hostedSOA, show(w.ask(t, "udp", "nobody."+hosted, dns.TypeA))); diff != "" {
		t.Errorf("then (-want +got):\n%s", diff)
	}
}

func TestNameservers(t *testing.T) {
	named := func(servers ...nameserver.Nameserver) func(*nameserver.Config) {
		return func(c *nameserver.Config) { c.Nameservers = servers }
	}
	addresses := []netip.Addr{netip.MustParseAddr("198.51.100.53"), netip.MustParseAddr("2001:db8::5353")}
	for _, tt := range []struct {
		name    string
		servers func(*nameserver.Config)
		ask     string
		kind    uint16
		want    string
	}{
		{"the zone's own, with addresses", named(nameserver.Nameserver{Addresses: addresses}), hosted, dns.TypeNS, `NOERROR aa rd
answer hosted.example.net. 3600 IN NS ns.hosted.example.net.
additional ns.hosted.example.net. 3600 IN A 198.51.100.53
additional ns.hosted.example.net. 3600 IN AAAA 2001:db8::5353`},
		{"its addresses", named(nameserver.Nameserver{Addresses: addresses}), "ns." + private, dns.TypeA, `NOERROR aa rd
answer ns.privatelink.example.net. 3600 IN A 198.51.100.53`},
		{
			"two elsewhere", named(nameserver.Nameserver{Host: "a.example.org"}, nameserver.Nameserver{Host: "b.example.org", Addresses: addresses}),
			hosted, dns.TypeNS, `NOERROR aa rd
answer hosted.example.net. 3600 IN NS a.example.org.
answer hosted.example.net. 3600 IN NS b.example.org.`,
		},
		{"one in another zone", named(nameserver.Nameserver{Host: "dns.example.net", Addresses: addresses}), "dns.example.net", dns.TypeA, `NOERROR aa rd
answer dns.example.net. 3600 IN A 198.51.100.53`},
		{"what the zone says of the name goes first", named(nameserver.Nameserver{Host: "globex." + hosted, Addresses: addresses}), "globex." + hosted, dns.TypeA, `NOERROR aa rd
answer globex.hosted.example.net. 60 IN A 192.0.2.10
answer globex.hosted.example.net. 60 IN A 192.0.2.11`},
		{"a CNAME too", named(nameserver.Nameserver{Host: "outwards." + hosted, Addresses: addresses}), "outwards." + hosted, dns.TypeA, `NOERROR aa rd
answer outwards.hosted.example.net. 60 IN CNAME vpce-1.vpce.example.com.`},
		{"below a delegation it is glue", named(nameserver.Nameserver{Host: "x.sub.example.net", Addresses: addresses}), "x.sub.example.net", dns.TypeA, `NOERROR rd
authority sub.example.net. 900 IN NS ns.sub.example.net.
authority sub.example.net. 900 IN NS ns.example.com.
additional ns.sub.example.net. 900 IN A 192.0.2.54`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(t, zones(), tt.servers)
			if diff := cmp.Diff(tt.want, show(w.ask(t, "udp", tt.ask, tt.kind))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
