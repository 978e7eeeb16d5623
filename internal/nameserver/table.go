package nameserver

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/postern-net/postern"
)

// table is postern.Zones made ready for lookups. It and the records in it
// never change. Names in it are absolute: lower case with a trailing dot.
type table struct {
	revision int64
	serial   uint32
	zones    map[string]*zone // by apex
	unhostly []string         // nameservers' names that are CNAMEs
}

// zone is one zone with all names that exist in it, those among them too that
// have no records but names below them (RFC 8020).
type zone struct {
	apex  string
	soa   *dns.SOA
	nodes map[string]*node
	cuts  map[string]bool // names that are delegated to other servers
}

// node is a name that exists.
type node struct {
	cname dns.RR // alone, when there is one
	sets  map[uint16][]dns.RR
}

// compile makes the table of zones that were found valid.
func compile(from postern.Zones, serial uint32, c Config) *table {
	t := &table{revision: from.Revision, serial: serial, zones: make(map[string]*zone, len(from.Zones))}
	for apex, records := range from.Zones {
		t.zones[dns.Fqdn(apex)] = compileZone(apex, records, serial, c)
	}
	for _, apex := range slices.Sorted(maps.Keys(t.zones)) {
		// A zone above exists at the apexes below it, delegated or not.
		if above, ok := t.above(apex); ok {
			above.exist(apex)
		}
	}
	t.publish(c.Nameservers)
	return t
}

func compileZone(apex string, from postern.Zone, serial uint32, c Config) *zone {
	z := &zone{apex: dns.Fqdn(apex), nodes: make(map[string]*node, len(from.Records)+2), cuts: map[string]bool{}}
	for name, records := range from.Records {
		owner := dns.Fqdn(name)
		n := z.exist(owner)
		for _, r := range records {
			rr := record(owner, r)
			n.add(rr)
			if rr.Header().Rrtype == dns.TypeNS && owner != z.apex {
				z.cuts[owner] = true
			}
		}
	}
	top := z.exist(z.apex)
	if len(top.sets[dns.TypeNS]) == 0 {
		for _, n := range c.Nameservers {
			top.add(nsRecord(z.apex, n.hostIn(z.apex)))
		}
	}
	z.soa = soaRecord(z.apex, top.sets[dns.TypeNS][0].(*dns.NS).Ns, serial, c.NegativeTTL)
	top.add(z.soa)
	return z
}

// exist makes sure that a name of the zone exists, and all between it and the
// apex.
func (z *zone) exist(name string) *node {
	if n, ok := z.nodes[name]; ok {
		return n
	}
	if name != z.apex {
		_, parent, _ := strings.Cut(name, ".")
		z.exist(parent)
	}
	n := &node{sets: map[uint16][]dns.RR{}}
	z.nodes[name] = n
	return n
}

func (n *node) add(rr dns.RR) {
	kind := rr.Header().Rrtype
	n.sets[kind] = append(n.sets[kind], rr)
	if kind == dns.TypeCNAME {
		n.cname = rr
	}
}

// publish puts the nameservers' addresses into the zones that their names are
// in, unless the zones say something about these names themselves.
func (t *table) publish(servers []Nameserver) {
	for _, apex := range slices.Sorted(maps.Keys(t.zones)) {
		for _, s := range servers {
			host := s.hostIn(apex)
			z, ok := t.find(host)
			if !ok {
				continue
			}
			n, exists := z.nodes[host]
			switch {
			case exists && n.cname != nil:
				if !slices.Contains(t.unhostly, host) {
					t.unhostly = append(t.unhostly, host)
				}
			case exists && (len(n.sets[dns.TypeA]) > 0 || len(n.sets[dns.TypeAAAA]) > 0), len(s.Addresses) == 0:
			default:
				z.addAddresses(host, s.Addresses)
			}
		}
	}
}

func (z *zone) addAddresses(host string, addresses []netip.Addr) {
	n := z.exist(host)
	for _, a := range addresses {
		n.add(addressRecord(host, nameserverTTL, a))
	}
}

// find is the most specific zone that a name is in.
func (t *table) find(name string) (*zone, bool) {
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if z, ok := t.zones[name[off:]]; ok {
			return z, true
		}
	}
	return nil, false
}

// above is the zone that a name would be in, were it not an apex itself.
func (t *table) above(apex string) (*zone, bool) {
	off, end := dns.NextLabel(apex, 0)
	if end {
		return nil, false
	}
	return t.find(apex[off:])
}

// cut is the delegation that a name is at or below, the one closest to the
// apex; "" when this zone has the say.
func (z *zone) cut(name string) string {
	if len(z.cuts) == 0 {
		return ""
	}
	found := ""
	for off, end := 0, false; !end && name[off:] != z.apex; off, end = dns.NextLabel(name, off) {
		if z.cuts[name[off:]] {
			found = name[off:]
		}
	}
	return found
}
