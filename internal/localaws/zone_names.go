package localaws

import (
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/postern-net/postern/internal/localaws/hostedzone"
	"github.com/postern-net/postern/internal/localaws/vpcdns"
)

// maxAliases is how many aliases are followed within a zone.
const maxAliases = 4

// privateZones answers the names of the private zones that a VPC is associated
// with. The most specific zone answers, and finally: the names that it lacks do
// not exist in the VPC, whatever a less specific or public zone says (Route 53
// Developer Guide, "Considerations when working with a private hosted zone").
func (s *Server) privateZones(vpc string) vpcdns.Source {
	return func(q dns.Question) (vpcdns.Answer, bool) {
		var best *zoneState
		for _, z := range s.state.Load().Zones {
			if z.Served == nil || !z.Private || !hostedzone.Within(q.Name, z.Served.Zone.Name) || !attached(z.Served, vpc) {
				continue
			}
			if best == nil || len(z.Served.Zone.Name) > len(best.Zone.Name) {
				best = z.Served
			}
		}
		if best == nil {
			return vpcdns.Answer{}, false
		}
		return s.zoneAnswer(best.Zone, q), true
	}
}

func attached(z *zoneState, vpc string) bool {
	return slices.ContainsFunc(z.VPCs, func(v zoneVPC) bool { return v.ID == vpc })
}

// publicZones answers the names of public hosted zones that are delegated. A
// zone that [DNS.Zones] or [Server.SetZone] names is served elsewhere, with
// all below it. Of the others, the topmost one is the registered domain, and
// belongs to whoever created it first, as a name that others create as well
// does at AWS; a zone below it is found only by its parent's NS records.
func (s *Server) publicZones(q dns.Question) (vpcdns.Answer, bool) {
	if _, elsewhere := s.authoritative(q.Name); elsewhere {
		return vpcdns.Answer{}, false
	}
	zones := s.state.Load().Zones
	z := registered(zones, q.Name)
	if z == nil {
		return vpcdns.Answer{}, false
	}
	for {
		referral, ok := z.Served.Zone.Referral(q.Name)
		if !ok {
			a := s.zoneAnswer(z.Served.Zone, q)
			a.Cached = true
			return a, true
		}
		if z = delegated(zones, referral); z == nil {
			return vpcdns.Answer{Failed: true}, true // nobody serves it
		}
	}
}

// registered is the public zone that the name's registered domain leads to.
func registered(zones map[string]*hostedZone, name string) *hostedZone {
	var best *hostedZone
	for _, z := range zones {
		if z.Private || z.Served == nil || !hostedzone.Within(name, z.Served.Zone.Name) {
			continue
		}
		if best == nil || len(z.Served.Zone.Name) < len(best.Served.Zone.Name) ||
			(z.Served.Zone.Name == best.Served.Zone.Name && earlier(z, best)) {
			best = z
		}
	}
	return best
}

func earlier(a, b *hostedZone) bool {
	return a.Created.Before(b.Created) || (a.Created.Equal(b.Created) && a.ID < b.ID)
}

// delegated is the public zone that a referral leads to: it has the name, and
// one of the name servers.
func delegated(zones map[string]*hostedZone, referral hostedzone.Result) *hostedZone {
	for _, z := range zones {
		if z.Private || z.Served == nil || z.Served.Zone.Name != referral.Cut {
			continue
		}
		for _, server := range referral.Servers {
			if slices.Contains(z.NameServers, strings.ToLower(strings.TrimSuffix(server, "."))) {
				return z
			}
		}
	}
	return nil
}

// zoneAnswer is what a zone answers. Aliases become the records that they
// point to, under the name that was asked.
func (s *Server) zoneAnswer(z hostedzone.Zone, q dns.Question) vpcdns.Answer {
	name, rtype := q.Name, dns.TypeToString[q.Qtype]
	soa := z.SOA()
	for range maxAliases {
		found := z.Lookup(name, rtype)
		switch {
		case found.Alias == nil:
			for _, rr := range found.Records {
				rr.Header().Name = q.Name
			}
			return vpcdns.Answer{Exists: found.Exists, Records: found.Records, Authority: soa}
		case !hostedzone.Within(found.Alias.Name, z.Name):
			a, _ := s.endpointNames(dns.Question{Name: found.Alias.Name, Qtype: q.Qtype, Qclass: q.Qclass})
			for _, rr := range a.Records {
				rr.Header().Name = q.Name
			}
			// A target that is gone leaves the name without records.
			return vpcdns.Answer{Exists: true, Records: a.Records, Authority: soa}
		}
		name = found.Alias.Name
	}
	return vpcdns.Answer{Failed: true}
}

// aliasTarget tells what is wrong with the target of an alias, or "". It must
// be a name of an endpoint together with the hosted zone that the EC2 API tells
// with it, or another record set of the same zone.
func (s *Server) aliasTarget(st *state, z *hostedZone, r hostedzone.RecordSet) string {
	target := "Tried to create an alias that targets " + hostedzone.WireName(r.Alias.Name) + ", type " + r.Type + " in zone " + r.Alias.ZoneID
	if r.Alias.ZoneID == z.ID {
		if !hostedzone.Within(r.Alias.Name, z.Now.Zone.Name) {
			return target + ", but the alias target name does not lie within the target zone"
		}
		return ""
	}
	e := endpointNamed(st, r.Alias.Name)
	switch {
	case e == nil || s.resolvable(e, r.Alias.Name) == nil:
		return target + ", but that target was not found"
	case hostedZoneID(e.Region) != r.Alias.ZoneID:
		return target + ", but the alias target name does not lie within the target zone"
	case r.Type != hostedzone.TypeA:
		return target + ", but that target was not found"
	}
	return ""
}
