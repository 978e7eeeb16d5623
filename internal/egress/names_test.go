package egress_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/egress"
	"github.com/postern-net/postern/test/loopback"
)

// names starts the DNS server of a tenant.
func (w *world) names(t *testing.T, tenant string, address netip.Addr) *egress.Names {
	t.Helper()
	n, err := w.StartNames(t.Context(), loopback.Free(t), tenant, address, func(err error) { t.Error(err) })
	must(t, err)
	t.Cleanup(n.Close)
	return n
}

func query(t *testing.T, network, at, name string, kind uint16, edit ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, kind)
	for _, e := range edit {
		e(m)
	}
	r, _, err := (&dns.Client{Net: network, Timeout: patience}).ExchangeContext(t.Context(), m, at)
	must(t, err)
	return r
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	n := w.names(t, "example", w.example.Addr())
	at := n.Addr().String()
	if r := query(t, "udp", at, exampleHost+".", dns.TypeA); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("without a table: %v", r)
	}
	w.apply(t, func(r *postern.Routes) {
		r.Connections["bad.example.com"] = postern.ConnectionRoute{
			ID: "dc_bad", Tenant: "example", Organization: "example-corp", Region: region, Ports: []uint16{w.port}, Reason: postern.ReasonPrivateCA, Message: "x",
		}
		r.Connections["far.example.com"] = postern.ConnectionRoute{
			ID: "dc_far", Tenant: "example", Organization: "example-corp", Region: "eu-west-1", Ports: []uint16{w.port}, Addresses: []netip.Addr{secondAt}, Ready: true,
		}
	})
	for _, network := range []string{"udp", "tcp"} {
		for name, c := range map[string]struct {
			name  string
			kind  uint16
			rcode int
			gives string
		}{
			"its own":             {exampleHost + ".", dns.TypeA, dns.RcodeSuccess, w.example.Addr().String()},
			"in any case":         {"StarBurst.Example.com.", dns.TypeA, dns.RcodeSuccess, w.example.Addr().String()},
			"not ready":           {"bad.example.com.", dns.TypeA, dns.RcodeSuccess, w.example.Addr().String()},
			"in another region":   {"far.example.com.", dns.TypeA, dns.RcodeSuccess, w.example.Addr().String()},
			"IPv6":                {exampleHost + ".", dns.TypeAAAA, dns.RcodeSuccess, ""},
			"HTTPS":               {exampleHost + ".", dns.TypeHTTPS, dns.RcodeSuccess, ""},
			"another tenant's":    {globexHost + ".", dns.TypeA, dns.RcodeRefused, ""},
			"nobody's":            {"www.example.com.", dns.TypeA, dns.RcodeRefused, ""},
			"the name above":      {"example.com.", dns.TypeA, dns.RcodeRefused, ""},
			"a name below":        {"x." + exampleHost + ".", dns.TypeA, dns.RcodeRefused, ""},
			"the root":            {".", dns.TypeNS, dns.RcodeRefused, ""},
			"IPv6 of the other's": {globexHost + ".", dns.TypeAAAA, dns.RcodeRefused, ""},
		} {
			r := query(t, network, at, c.name, c.kind)
			gives := ""
			for _, rr := range r.Answer {
				if a, ok := rr.(*dns.A); ok && rr.Header().Name == c.name {
					gives = a.A.String()
				}
			}
			if r.Rcode != c.rcode || gives != c.gives || r.RecursionAvailable || (r.Rcode == dns.RcodeSuccess) != r.Authoritative {
				t.Errorf("%s by %s: %v", name, network, r)
			}
			if r.Rcode == dns.RcodeSuccess && gives == "" && len(r.Ns) != 1 {
				t.Errorf("%s: no SOA for the negative answer: %v", name, r)
			}
		}
	}
	for name, edit := range map[string]func(*dns.Msg){
		"another class": func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		"notify":        func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
	} {
		if r := query(t, "udp", at, exampleHost+".", dns.TypeA, edit); r.Rcode == dns.RcodeSuccess {
			t.Errorf("%s: %v", name, r)
		}
	}
	if r := query(t, "udp", at, exampleHost+".", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(4096, true) }); r.IsEdns0() == nil || len(r.Answer) != 1 {
		t.Errorf("EDNS: %v", r)
	}
}

// Go's own stub resolver takes what is answered, and what is refused for no
// answer. What glibc's does, with several servers, is in test/e2e.
func TestStubResolver(t *testing.T) {
	w := newWorld(t)
	w.apply(t)
	at := w.names(t, "example", w.example.Addr()).Addr().String()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, at)
	}}
	got, err := r.LookupNetIP(t.Context(), "ip", exampleHost+".")
	if err != nil || !slices.Equal(got, []netip.Addr{w.example.Addr()}) {
		t.Errorf("%v, %v", got, err)
	}
	var dnsError *net.DNSError
	if got, err := r.LookupNetIP(t.Context(), "ip", globexHost+"."); !errors.As(err, &dnsError) || dnsError.IsNotFound {
		t.Errorf("%v, %v; another tenant's name must be refused, and not said to be absent", got, err)
	}
}

func TestStartNamesRefuses(t *testing.T) {
	w := newWorld(t)
	free := netip.MustParseAddrPort("127.0.0.1:0")
	fail := func(error) {}
	for name, err := range map[string]error{
		"no tenant":       second(w.StartNames(t.Context(), free, "", w.example.Addr(), fail)),
		"no address":      second(w.StartNames(t.Context(), free, "example", netip.Addr{}, fail)),
		"an IPv6 address": second(w.StartNames(t.Context(), free, "example", netip.MustParseAddr("fd00::1"), fail)),
		"a port in use":   second(w.StartNames(t.Context(), w.example, "example", w.example.Addr(), fail)),
	} {
		if err == nil {
			t.Errorf("%s: started", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }
