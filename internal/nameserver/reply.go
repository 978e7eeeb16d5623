package nameserver

import (
	"github.com/miekg/dns"
)

// ednsSize is the largest answer by UDP, in bytes, whatever the client says it
// can take: what reaches it unfragmented nearly everywhere (DNS Flag Day 2020).
// It is also what this server says it takes.
const ednsSize = 1232

// reply answers one query; t may be nil.
func reply(t *table, query *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(query)
	m.CheckingDisabled = false // means something to servers that check DNSSEC
	opt, sound := edns(query)
	if opt != nil {
		m.SetEdns0(ednsSize, opt.Do())
	}
	switch {
	case !sound:
		m.Rcode = dns.RcodeFormatError
	case opt != nil && opt.Version() != 0:
		m.Rcode = dns.RcodeBadVers
	case query.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
	case len(query.Question) != 1:
		m.Rcode = dns.RcodeFormatError
	default:
		answer(t, m, query.Question[0])
	}
	return m
}

// answer goes through what is not answered from a zone's records.
func answer(t *table, m *dns.Msg, q dns.Question) {
	switch {
	case q.Qclass != dns.ClassINET, q.Qtype == dns.TypeAXFR, q.Qtype == dns.TypeIXFR:
		m.Rcode = dns.RcodeRefused
	case q.Qtype != dns.TypeANY && meta(q.Qtype):
		m.Rcode = dns.RcodeNotImplemented
	case t == nil:
		m.Rcode = dns.RcodeServerFailure
	default:
		t.lookup(m, q)
	}
}

// meta tells types that no name can have records of (RFC 6895 §3.1).
func meta(kind uint16) bool { return kind == dns.TypeOPT || 128 <= kind && kind <= 255 }

// edns finds the OPT record of a query; two of them, or one that does not
// belong to the root, are unsound (RFC 6891 §6.1).
func edns(query *dns.Msg) (opt *dns.OPT, sound bool) {
	sound = true
	for _, rr := range query.Extra {
		o, ok := rr.(*dns.OPT)
		if !ok {
			continue
		}
		if opt != nil || o.Hdr.Name != "." {
			sound = false
		}
		opt = o
	}
	return opt, sound
}

// udpLimit is how large the answer to a query by UDP may be, in bytes (RFC 6891
// §6.2.5).
func udpLimit(query *dns.Msg) int {
	opt, _ := edns(query)
	if opt == nil {
		return dns.MinMsgSize
	}
	return min(max(int(opt.UDPSize()), dns.MinMsgSize), ednsSize)
}
