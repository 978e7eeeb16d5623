package nameserver

import (
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/postern-net/postern"
)

const (
	// nameserverTTL is that of the NS records and addresses that this package
	// adds, in seconds: what changes rarely, and then with a delegation that
	// others hold.
	nameserverTTL = 3600
	// The SOA's timers are for secondary servers. There are none, since zones
	// are not transferred; checkers of zones want to see sane values.
	soaRefresh = 3600
	soaRetry   = 600
	soaExpire  = 604800
	// maxString bounds one of the strings that make a TXT record (RFC 1035
	// §3.3).
	maxString = 255
)

// record turns a valid record into the library's form.
func record(owner string, r postern.Record) dns.RR {
	switch r.Type {
	case postern.RecordCNAME:
		return &dns.CNAME{Hdr: header(owner, dns.TypeCNAME, r.TTL), Target: dns.Fqdn(r.Value)}
	case postern.RecordNS:
		return &dns.NS{Hdr: header(owner, dns.TypeNS, r.TTL), Ns: dns.Fqdn(r.Value)}
	case postern.RecordTXT:
		return &dns.TXT{Hdr: header(owner, dns.TypeTXT, r.TTL), Txt: textStrings(r.Value)}
	default:
		return addressRecord(owner, r.TTL, netip.MustParseAddr(r.Value))
	}
}

func addressRecord(owner string, ttl uint32, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(owner, dns.TypeA, ttl), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(owner, dns.TypeAAAA, ttl), AAAA: a.AsSlice()}
}

func nsRecord(apex, host string) *dns.NS {
	return &dns.NS{Hdr: header(apex, dns.TypeNS, nameserverTTL), Ns: host}
}

// soaRecord has the negative TTL both as its minimum and as its own TTL, of
// which resolvers take the smaller (RFC 2308 §5).
func soaRecord(apex, server string, serial uint32, negative time.Duration) *dns.SOA {
	ttl := uint32(negative / time.Second) //nolint:gosec // validated: 1 to 60
	return &dns.SOA{
		Hdr: header(apex, dns.TypeSOA, ttl), Ns: server, Mbox: "hostmaster." + apex,
		Serial: serial, Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: ttl,
	}
}

// anyRecord answers questions for every type at once (RFC 8482 §4.2).
func anyRecord(owner string, ttl uint32) dns.RR {
	return &dns.HINFO{Hdr: header(owner, dns.TypeHINFO, ttl), Cpu: "RFC8482", Os: ""}
}

func header(owner string, kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// textStrings cuts a text into strings of a TXT record, which a reader joins
// again without anything between (RFC 7208 §3.3 says so for its use of them).
// The library reads them as in zone files, where a backslash escapes.
func textStrings(text string) []string {
	var out []string
	for len(text) > 0 {
		n := min(len(text), maxString)
		out = append(out, strings.ReplaceAll(text[:n], `\`, `\\`))
		text = text[n:]
	}
	return out
}

// hostIn is the server's absolute name as a zone's NS record has it.
func (n Nameserver) hostIn(apex string) string {
	if n.Host == "" {
		return "ns." + apex
	}
	return dns.Fqdn(n.Host)
}
