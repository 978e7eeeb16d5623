package nameserver

import (
	"github.com/miekg/dns"
)

// lookup fills a reply to a well-formed question of class IN.
func (t *table) lookup(m *dns.Msg, q dns.Question) {
	name := dns.CanonicalName(q.Name)
	z, ok := t.find(name)
	if ok && q.Qtype == dns.TypeDS && name == z.apex {
		// Whether a zone is signed is for the zone above to say (RFC 4035
		// §3.1.4.1).
		if above, ok := t.above(name); ok {
			z = above
		}
	}
	if !ok {
		m.Rcode = dns.RcodeRefused
		return
	}
	if cut := z.cut(name); cut != "" && (q.Qtype != dns.TypeDS || cut != name) {
		z.refer(m, cut)
		return
	}
	m.Authoritative = true
	if q.Qtype == dns.TypeANY {
		z.minimal(m, q.Name, name)
		return
	}
	t.chase(m, q, z, name)
}

// chase answers from one zone and follows its CNAMEs, up to one that leaves it
// (see the package's comment). Zones have no loops of CNAMEs.
func (t *table) chase(m *dns.Msg, q dns.Question, z *zone, name string) {
	owner := q.Name
	for {
		n, ok := z.nodes[name]
		if !ok {
			z.negative(m, dns.RcodeNameError) // of the chain's last name (RFC 6604 §3)
			return
		}
		if n.cname == nil || q.Qtype == dns.TypeCNAME {
			if len(n.sets[q.Qtype]) == 0 {
				z.negative(m, dns.RcodeSuccess)
				return
			}
			for _, rr := range n.sets[q.Qtype] {
				m.Answer = append(m.Answer, owned(rr, owner))
			}
			if q.Qtype == dns.TypeNS {
				z.glue(m, n.sets[dns.TypeNS])
			}
			return
		}
		m.Answer = append(m.Answer, owned(n.cname, owner))
		name = n.cname.(*dns.CNAME).Target
		owner = name
		if next, ok := t.find(name); !ok || next != z || z.cut(name) != "" {
			return
		}
	}
}

// minimal answers the question for every type with next to nothing, so that it
// is of no use for amplification (RFC 8482 §4.2): the CNAME if there is one.
func (z *zone) minimal(m *dns.Msg, asked, name string) {
	n, ok := z.nodes[name]
	switch {
	case !ok:
		z.negative(m, dns.RcodeNameError)
	case n.cname != nil:
		m.Answer = []dns.RR{owned(n.cname, asked)}
	case len(n.sets) == 0:
		z.negative(m, dns.RcodeSuccess)
	default:
		m.Answer = []dns.RR{anyRecord(asked, z.soa.Minttl)}
	}
}

// negative says that a name (NXDOMAIN) or a type of it (NODATA) does not exist
// and for how long that may be remembered (RFC 2308).
func (z *zone) negative(m *dns.Msg, rcode int) {
	m.Rcode = rcode
	m.Ns = []dns.RR{z.soa}
}

// refer names the servers that have the say at and below a delegation.
func (z *zone) refer(m *dns.Msg, cut string) {
	servers := z.nodes[cut].sets[dns.TypeNS]
	m.Ns = append(m.Ns, servers...)
	z.glue(m, servers)
}

// glue adds the addresses of nameservers that this zone knows: without them
// those of a delegation to a name below itself could not be found.
func (z *zone) glue(m *dns.Msg, servers []dns.RR) {
	for _, rr := range servers {
		n, ok := z.nodes[rr.(*dns.NS).Ns]
		if !ok {
			continue
		}
		m.Extra = append(m.Extra, n.sets[dns.TypeA]...)
		m.Extra = append(m.Extra, n.sets[dns.TypeAAAA]...)
	}
}

// owned is the record under the name as the question spelled it.
func owned(rr dns.RR, owner string) dns.RR {
	if rr.Header().Name == owner {
		return rr
	}
	rr = dns.Copy(rr)
	rr.Header().Name = owner
	return rr
}
