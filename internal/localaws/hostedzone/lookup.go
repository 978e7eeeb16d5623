package hostedzone

import (
	"strings"

	"github.com/miekg/dns"
)

// Result is what a zone says about a name and type.
type Result struct {
	Exists  bool     // the name does; false is NXDOMAIN
	Records []dns.RR // of the type, or the CNAME at that name
	Alias   *Alias   // to be asked for the records instead
	// Cut is the apex of a zone that this one delegated the name to, and
	// Servers are that zone's name servers.
	Cut     string
	Servers []string
}

// Lookup answers a question about a kept name within the zone: exact matches,
// then wildcards (RFC 4592). The records' owner is the name that was asked.
func (z Zone) Lookup(name, rtype string) Result {
	sets, exists := z.match(name)
	out := Result{Exists: exists}
	for _, r := range sets {
		if r.Type != rtype && r.Type != TypeCNAME {
			continue
		}
		out.Alias = r.Alias
		r.Name = name
		for _, v := range r.Values {
			if rr, err := r.rr(v); err == nil { // Apply admitted no other
				out.Records = append(out.Records, rr)
			}
		}
	}
	return out
}

// Referral tells whether the zone delegated a name, and to whom. Private zones
// delegate nothing: their NS records are only data.
func (z Zone) Referral(name string) (Result, bool) {
	for cut := z.cutBelow(name, z.Name); cut != ""; cut = z.cutBelow(name, cut) {
		for _, r := range z.at(cut) {
			if r.Type == TypeNS {
				return Result{Exists: true, Cut: cut, Servers: r.Values}, true
			}
		}
	}
	return Result{}, false
}

// cutBelow is the ancestor of a name, or itself, that is one label longer than
// another ancestor; "" at the name itself.
func (Zone) cutBelow(name, ancestor string) string {
	if name == ancestor {
		return ""
	}
	rest := strings.TrimSuffix(name, "."+ancestor)
	return rest[strings.LastIndexByte(rest, '.')+1:] + "." + ancestor
}

// SOA is the record that comes with negative answers. Its TTL is how long
// these may be kept (RFC 2308 section 5).
func (z Zone) SOA() dns.RR {
	for _, r := range z.at(z.Name) {
		if r.Type != TypeSOA {
			continue
		}
		if rr, err := r.rr(r.Values[0]); err == nil {
			soa, ok := rr.(*dns.SOA)
			if ok {
				soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
			}
			return rr
		}
	}
	return nil // Apply refuses to delete it
}

// match finds the record sets that answer for a name, and whether the name
// exists.
func (z Zone) match(name string) ([]RecordSet, bool) {
	if sets := z.at(name); len(sets) > 0 {
		return sets, true
	}
	if z.below(name) {
		return nil, true // an empty non-terminal
	}
	for name != z.Name {
		_, name, _ = strings.Cut(name, ".")
		if sets := z.at("*." + name); len(sets) > 0 {
			return sets, true
		}
		if len(z.at(name)) > 0 || z.below(name) {
			break // the closest encloser has no wildcard
		}
	}
	return nil, false
}
