package localaws_test

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/postern-net/postern/internal/localaws"
)

// lookup asks a resolver for A records from an address; ok is false without an
// answer.
func (f *fixture) lookup(from, resolver netip.Addr, name string) (addrs []string, rcode int, ok bool) {
	f.t.Helper()
	r := f.ask(from, resolver, name, dns.TypeA)
	if r == nil {
		return nil, 0, false
	}
	for _, rr := range r.Answer {
		if a, ok := rr.(*dns.A); ok {
			addrs = append(addrs, a.A.String())
		}
	}
	return addrs, r.Rcode, true
}

// ask is a resolver's answer to an address, or nil.
func (f *fixture) ask(from, resolver netip.Addr, name string, qtype uint16) *dns.Msg {
	f.t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	c := &dns.Client{Timeout: f.patience, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: from.AsSlice()}}}
	r, _, err := c.ExchangeContext(f.t.Context(), m, netip.AddrPortFrom(resolver, f.dnsPort).String())
	if err != nil {
		return nil
	}
	return r
}

func TestResolvers(t *testing.T) {
	f := newFixture(t, nil)
	e := f.ready("use1-az2", "use1-az4")
	host, resolver := f.vpc.Host("", 10), f.vpc.Resolver()
	regional := *e.DnsEntries[0].DnsName
	first, _, ok := f.lookup(host, resolver, regional)
	if !ok || len(first) != 2 {
		t.Fatal(first, ok)
	}
	second, _, _ := f.lookup(host, resolver, regional)
	if len(second) != 2 || first[0] == second[0] {
		t.Errorf("%v then %v: not rotated", first, second)
	}
	zonal, _, _ := f.lookup(host, resolver, *e.DnsEntries[1].DnsName)
	if want := f.address(e, subnetOf(t, f.vpc, "use1-az2")).String(); len(zonal) != 1 || zonal[0] != want {
		t.Errorf("zonal name: %v, want %s", zonal, want)
	}
	// A public name with private addresses: everyone sees it.
	for _, at := range []netip.Addr{f.cfg.DNS.Public, f.other.Resolver()} {
		if got, _, ok := f.lookup(f.other.Host("", 10), at, regional); !ok || len(got) != 2 {
			t.Errorf("by %s: %v", at, got)
		}
	}
	f.patience = 200 * time.Millisecond
	if _, _, ok := f.lookup(f.other.Host("", 10), resolver, regional); ok {
		t.Error("a VPC's resolver answers a stranger")
	}
	f.patience = 30 * time.Second
	for name, want := range map[string]int{
		"x" + regional: dns.RcodeNameError, "vpce-0aaaaaaaaaaaaaaaa-abcdefgh." + f.service + ".us-east-1.vpce.amazonaws.com": dns.RcodeNameError,
		f.service + ".us-east-1.vpce.amazonaws.com": dns.RcodeSuccess, "example.org": dns.RcodeNameError,
	} {
		if got, rcode, ok := f.lookup(host, resolver, name); !ok || rcode != want || len(got) != 0 {
			t.Errorf("%s: %v, %d", name, got, rcode)
		}
	}
	f.gone(*e.VpcEndpointId)
	if got, rcode, _ := f.lookup(host, resolver, regional); rcode != dns.RcodeNameError || len(got) != 0 {
		t.Errorf("deleted: %v, %d", got, rcode)
	}
}

func TestNamesComeLater(t *testing.T) {
	clock := newClock()
	f := newFixture(t, func(f *fixture) {
		f.cfg.Clock = clock.now
		f.cfg.Timing.DNS = time.Minute
	})
	id := *f.create(f.example, f.vpc, "use1-az2").VpcEndpointId
	info, err := f.Endpoint(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, rcode, _ := f.lookup(f.vpc.Host("", 10), f.vpc.Resolver(), info.DNSNames[0]); rcode != dns.RcodeNameError {
		t.Errorf("too early: %d", rcode)
	}
	if _, err := f.Endpoint("vpce-0aaaaaaaaaaaaaaaa"); err == nil {
		t.Error("an endpoint that is not there")
	}
}

// TestPublicZones: a customer's name leads by CNAME, through an authoritative
// server, to an endpoint.
func TestPublicZones(t *testing.T) {
	f := newFixture(t, nil)
	e := f.ready("use1-az2")
	server := serveZone(t, "door.example.test. 60 IN CNAME "+*e.DnsEntries[0].DnsName+".").addr
	host, resolver := f.vpc.Host("", 10), f.vpc.Resolver()
	if _, rcode, _ := f.lookup(host, resolver, "door.example.test"); rcode != dns.RcodeNameError {
		t.Errorf("before the zone is told: %d", rcode)
	}
	f.SetZone("Example.TEST", server)
	got, rcode, _ := f.lookup(host, resolver, "door.example.test")
	if len(got) != 1 || rcode != dns.RcodeSuccess || got[0] != f.address(e, "").String() {
		t.Errorf("%v, %d", got, rcode)
	}
}

// publicZone is an authoritative server of some records, and counts how often
// it is asked. It answers a CNAME with all that it has of the chain, as a
// careless server does.
type publicZone struct {
	addr  netip.AddrPort
	asked atomic.Int32
}

func serveZone(t *testing.T, records ...string) *publicZone {
	t.Helper()
	var rrs []dns.RR
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	pc, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &publicZone{addr: netip.MustParseAddrPort(pc.LocalAddr().String())}
	up, done := make(chan struct{}), make(chan struct{})
	srv := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		z.asked.Add(1)
		m := new(dns.Msg)
		m.SetReply(q)
		m.Authoritative, m.Rcode = true, dns.RcodeNameError
		name := q.Question[0].Name
		for _, rr := range rrs {
			if rr.Header().Name != name {
				continue
			}
			m.Rcode = dns.RcodeSuccess
			if c, ok := rr.(*dns.CNAME); ok {
				name = c.Target
			} else if rr.Header().Rrtype != q.Question[0].Qtype {
				continue
			}
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})}
	go func() { defer close(done); _ = srv.ActivateAndServe() }()
	<-up
	t.Cleanup(func() {
		_ = srv.Shutdown()
		<-done
	})
	return z
}

func TestResolverPortInUse(t *testing.T) {
	f := newFixture(t, nil)
	cfg := f.cfg
	s, err := localaws.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Start(t.Context()); err == nil {
		t.Error("two servers have the same resolver")
	}
}
