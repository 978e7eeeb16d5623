package localaws

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/postern-net/postern/internal/localaws/vpcdns"
)

// names is what the resolvers know besides the state.
type names struct {
	mu    sync.RWMutex
	zones map[string]netip.AddrPort // canonical zone name → authoritative server
	turn  atomic.Uint32             // rotates the answers of regional names
}

// endpointTTL is the TTL of endpoints' names, in seconds, as AWS's is.
const endpointTTL = 60

// dnsNames are the names of an endpoint: the regional one first, then one for
// each of its zones by the owner's name of the zone.
func (s *Server) dnsNames(e *endpoint) []string {
	domain := serviceDomain(e.ServiceRegion, e.ServiceID)
	out := []string{e.ID + "-" + e.DNSToken + "." + domain}
	seen := map[string]bool{}
	for _, n := range e.Interfaces {
		if zone := s.world.zoneName(e.Account, e.Region, n.ZoneID); zone != "" && !seen[zone] {
			seen[zone] = true
			out = append(out, e.ID+"-"+e.DNSToken+"-"+zone+"."+domain)
		}
	}
	return out
}

// startResolvers opens the resolver of every VPC and the public one.
func (s *Server) startResolvers(ctx context.Context) error {
	if s.cfg.DNS.Port == 0 {
		return nil
	}
	start := func(at netip.Addr, clients netip.Prefix, private ...vpcdns.Source) error {
		r, err := vpcdns.Listen(ctx, vpcdns.Config{
			Addr: netip.AddrPortFrom(at, s.cfg.DNS.Port), Clients: clients,
			Sources:  append(private, s.endpointNames, s.publicZones),
			Upstream: s.authoritative, Clock: s.now, Logger: s.log,
		})
		if err != nil {
			return err
		}
		s.resolvers = append(s.resolvers, r)
		return nil
	}
	for _, v := range s.world.VPCs {
		if err := start(v.Resolver(), v.CIDR, s.privateZones(v.ID)); err != nil {
			return fmt.Errorf("%s: %w", v.ID, err)
		}
	}
	if s.cfg.DNS.Public.IsValid() {
		return start(s.cfg.DNS.Public, netip.Prefix{})
	}
	return nil
}

// SetZone tells the resolvers the authoritative server of a public zone.
func (s *Server) SetZone(zone string, server netip.AddrPort) {
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	s.names.zones[dns.CanonicalName(zone)] = server
}

func canonicalZones(zones map[string]netip.AddrPort) map[string]netip.AddrPort {
	out := make(map[string]netip.AddrPort, len(zones))
	for z, a := range zones {
		out[dns.CanonicalName(z)] = a
	}
	return out
}

// authoritative finds the server of the closest enclosing zone.
func (s *Server) authoritative(name string) (netip.AddrPort, bool) {
	s.names.mu.RLock()
	defer s.names.mu.RUnlock()
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if a, ok := s.names.zones[name[off:]]; ok {
			return a, true
		}
	}
	return netip.AddrPort{}, false
}

// endpointNames answers below vpce.amazonaws.com: public names, private
// addresses, to everyone, as AWS does.
func (s *Server) endpointNames(q dns.Question) (vpcdns.Answer, bool) {
	apex := ""
	for _, a := range []string{"vpce.amazonaws.com.", "vpce.amazonaws.com.cn."} {
		if q.Name == a || strings.HasSuffix(q.Name, "."+a) {
			apex = a
		}
	}
	if apex == "" {
		return vpcdns.Answer{}, false
	}
	st := s.state.Load()
	first, _, _ := strings.Cut(q.Name, ".")
	if svc := st.Services[first]; svc != nil && q.Name == serviceDomain(svc.Region, svc.ID)+"." {
		return vpcdns.Answer{Exists: true, Authority: vpcdns.NegativeSOA(q.Name)}, true
	}
	if e := endpointNamed(st, q.Name); e != nil {
		if addrs := s.resolvable(e, q.Name); addrs != nil {
			domain := serviceDomain(e.ServiceRegion, e.ServiceID) + "."
			return vpcdns.Answer{Exists: true, Records: vpcdns.Addresses(q, addrs, endpointTTL), Authority: vpcdns.NegativeSOA(domain)}, true
		}
	}
	return vpcdns.Answer{Authority: vpcdns.NegativeSOA(apex)}, true
}

// endpointNamed is the endpoint that a name may be one of, or nil.
func endpointNamed(st *state, name string) *endpoint {
	const idLength = len("vpce-") + 17
	first, domain, _ := strings.Cut(name, ".")
	if len(first) <= idLength {
		return nil
	}
	e := st.Endpoints[first[:idLength]]
	if e == nil || domain != serviceDomain(e.ServiceRegion, e.ServiceID)+"." {
		return nil
	}
	return e
}

// resolvable are the addresses of one of the endpoint's names, or nil when
// that name is not published.
func (s *Server) resolvable(e *endpoint, name string) []netip.Addr {
	switch e.State {
	case statePendingAcceptance, statePending, stateAvailable:
	default:
		return nil
	}
	if e.DNSFrom.After(s.now()) {
		return nil
	}
	name = strings.TrimSuffix(name, ".")
	published := s.dnsNames(e)
	if name == published[0] {
		addrs := make([]netip.Addr, 0, len(e.Interfaces))
		first := int(s.names.turn.Add(1) - 1)
		for i := range e.Interfaces {
			addrs = append(addrs, e.Interfaces[(first+i)%len(e.Interfaces)].Address)
		}
		return addrs
	}
	for _, n := range e.Interfaces {
		zone := s.world.zoneName(e.Account, e.Region, n.ZoneID)
		if strings.HasPrefix(name, e.ID+"-"+e.DNSToken+"-"+zone+".") {
			return []netip.Addr{n.Address}
		}
	}
	return nil
}
