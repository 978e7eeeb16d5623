package vpcdns_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/postern-net/postern/internal/localaws/vpcdns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const vpceZone = "vpce.amazonaws.com."

// own answers one name with enough addresses to overflow a plain UDP answer.
func own(q dns.Question) (vpcdns.Answer, bool) {
	if !strings.HasSuffix(q.Name, "."+vpceZone) {
		return vpcdns.Answer{}, false
	}
	a := vpcdns.Answer{Authority: vpcdns.NegativeSOA(vpceZone)}
	var addrs []netip.Addr
	switch q.Name {
	case "door." + vpceZone:
		addrs = []netip.Addr{netip.MustParseAddr("127.80.0.9")}
	case "many." + vpceZone:
		for i := range 60 {
			addrs = append(addrs, netip.AddrFrom4([4]byte{127, 80, 1, byte(i)}))
		}
	}
	a.Exists, a.Records = addrs != nil, vpcdns.Addresses(q, addrs, 60)
	return a, true
}

// authority serves example.com from a real socket.
func authority(t *testing.T) netip.AddrPort {
	t.Helper()
	records := map[string]string{
		"a.example.com.":    "a.example.com. 60 IN A 127.0.0.5",
		"door.example.com.": "door.example.com. 60 IN CNAME door." + vpceZone,
		"gone.example.com.": "gone.example.com. 60 IN CNAME gone." + vpceZone,
		"loop.example.com.": "loop.example.com. 60 IN CNAME pool.example.com.",
		"pool.example.com.": "pool.example.com. 60 IN CNAME loop.example.com.",
	}
	pc, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up, done := make(chan struct{}), make(chan error, 1)
	srv := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Authoritative = true
		switch name := q.Question[0].Name; {
		case name == "broken.example.com.":
			m.Rcode = dns.RcodeServerFailure
		case records[name] == "":
			m.Rcode = dns.RcodeNameError
		default:
			rr, err := dns.NewRR(records[name])
			if err != nil {
				t.Error(err)
			}
			if rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == dns.TypeCNAME {
				m.Answer = []dns.RR{rr}
			}
		}
		if err := w.WriteMsg(m); err != nil {
			t.Error(err)
		}
	})}
	go func() { done <- srv.ActivateAndServe() }()
	<-up
	t.Cleanup(func() {
		if err := srv.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

func start(t *testing.T, clients netip.Prefix) *vpcdns.Server {
	t.Helper()
	up := authority(t)
	s, err := vpcdns.Listen(t.Context(), vpcdns.Config{
		Addr: netip.MustParseAddrPort("127.0.0.1:0"), Clients: clients, Sources: []vpcdns.Source{own},
		Upstream: func(name string) (netip.AddrPort, bool) { return up, strings.HasSuffix(name, "example.com.") },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func ask(t *testing.T, c *dns.Client, s *vpcdns.Server, name string, qtype uint16) (*dns.Msg, error) {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	r, _, err := c.ExchangeContext(t.Context(), m, s.Addr().String())
	return r, err
}

func TestAnswers(t *testing.T) {
	s := start(t, netip.Prefix{})
	for _, c := range []struct {
		name  string
		qtype uint16
		rcode int
		want  []string // type and data of the answer
		soa   string
	}{
		{"door." + vpceZone, dns.TypeA, dns.RcodeSuccess, []string{"A 127.80.0.9"}, ""},
		{"DOOR." + vpceZone, dns.TypeA, dns.RcodeSuccess, []string{"A 127.80.0.9"}, ""},
		{"door." + vpceZone, dns.TypeAAAA, dns.RcodeSuccess, nil, vpceZone},
		{"none." + vpceZone, dns.TypeA, dns.RcodeNameError, nil, vpceZone},
		{"a.example.com.", dns.TypeA, dns.RcodeSuccess, []string{"A 127.0.0.5"}, ""},
		{"door.example.com.", dns.TypeA, dns.RcodeSuccess, []string{"CNAME door." + vpceZone, "A 127.80.0.9"}, ""},
		{"door.example.com.", dns.TypeAAAA, dns.RcodeSuccess, []string{"CNAME door." + vpceZone}, vpceZone},
		{"door.example.com.", dns.TypeCNAME, dns.RcodeSuccess, []string{"CNAME door." + vpceZone}, ""},
		{"gone.example.com.", dns.TypeA, dns.RcodeNameError, []string{"CNAME gone." + vpceZone}, vpceZone},
		{"none.example.com.", dns.TypeA, dns.RcodeNameError, nil, "."},
		{"loop.example.com.", dns.TypeA, dns.RcodeServerFailure, nil, ""},
		{"broken.example.com.", dns.TypeA, dns.RcodeServerFailure, nil, ""},
		{"elsewhere.org.", dns.TypeA, dns.RcodeNameError, nil, "."},
	} {
		t.Run(fmt.Sprintf("%s/%s", c.name, dns.TypeToString[c.qtype]), func(t *testing.T) {
			r, err := ask(t, &dns.Client{}, s, c.name, c.qtype)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, rr := range r.Answer {
				got = append(got, strings.Join(strings.Fields(rr.String())[3:], " "))
			}
			if diff := cmp.Diff(c.want, got); diff != "" || r.Rcode != c.rcode || !r.RecursionAvailable {
				t.Errorf("%s\n%s", diff, r)
			}
			zone := ""
			if len(r.Ns) > 0 {
				zone = r.Ns[0].Header().Name
			}
			if zone != c.soa {
				t.Errorf("SOA of %q, want %q", zone, c.soa)
			}
		})
	}
}

func TestTruncatedThenTCP(t *testing.T) {
	s := start(t, netip.Prefix{})
	r, err := ask(t, &dns.Client{}, s, "many."+vpceZone, dns.TypeA)
	if err != nil || !r.Truncated {
		t.Fatalf("%v, %v", r, err)
	}
	r, err = ask(t, &dns.Client{Net: "tcp"}, s, "many."+vpceZone, dns.TypeA)
	if err != nil || r.Truncated || len(r.Answer) != 60 {
		t.Fatalf("%v, %v", r, err)
	}
}

func TestOnlyItsClients(t *testing.T) {
	s := start(t, netip.MustParsePrefix("127.81.0.0/16"))
	inside := &dns.Client{Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 81, 0, 7)}}}
	if r, err := ask(t, inside, s, "door."+vpceZone, dns.TypeA); err != nil || len(r.Answer) != 1 {
		t.Errorf("inside: %v, %v", r, err)
	}
	if r, err := ask(t, &dns.Client{Timeout: 150 * time.Millisecond}, s, "door."+vpceZone, dns.TypeA); err == nil {
		t.Errorf("outside, by UDP: %v", r)
	}
	if r, err := ask(t, &dns.Client{Net: "tcp", Timeout: time.Second}, s, "door."+vpceZone, dns.TypeA); err == nil {
		t.Errorf("outside, by TCP: %v", r)
	}
}

func TestRefusesWhatIsNoQuery(t *testing.T) {
	s := start(t, netip.Prefix{})
	m := new(dns.Msg)
	m.SetQuestion("door."+vpceZone, dns.TypeA)
	m.Question[0].Qclass = dns.ClassCHAOS
	if r, _, err := new(dns.Client).ExchangeContext(t.Context(), m, s.Addr().String()); err != nil || r.Rcode != dns.RcodeRefused {
		t.Errorf("%v, %v", r, err)
	}
	m.SetUpdate("example.com.")
	if r, _, err := new(dns.Client).ExchangeContext(t.Context(), m, s.Addr().String()); err != nil || r.Rcode != dns.RcodeNotImplemented {
		t.Errorf("%v, %v", r, err)
	}
}

func TestCloseTwice(t *testing.T) {
	s := start(t, netip.Prefix{})
	s.Close()
	s.Close()
}
