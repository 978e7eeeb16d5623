package vpcdns_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/postern-net/postern/internal/localaws/vpcdns"
)

// publicZone is an authoritative server whose answers can be changed, and
// which counts how often it is asked.
type publicZone struct {
	addr  netip.AddrPort
	asked atomic.Int32

	mu      sync.Mutex
	answers map[string]string // "name type" → records, one a line; "!" for NXDOMAIN, "" for NODATA
	soa     string
}

func (z *publicZone) set(question, answer string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.answers[question] = answer
}

func (z *publicZone) reply(q *dns.Msg) *dns.Msg {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked.Add(1)
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	answer := z.answers[q.Question[0].Name+" "+dns.TypeToString[q.Question[0].Qtype]]
	switch {
	case answer == "!":
		m.Rcode = dns.RcodeNameError
	case answer != "":
		for line := range strings.SplitSeq(answer, "\n") {
			m.Answer = append(m.Answer, record(line))
		}
		return m
	}
	if z.soa != "" {
		m.Ns = []dns.RR{record(z.soa)}
	}
	return m
}

func record(s string) dns.RR {
	rr, err := dns.NewRR(s)
	if err != nil {
		panic(err)
	}
	return rr
}

func newPublicZone(t *testing.T) *publicZone {
	t.Helper()
	z := &publicZone{answers: map[string]string{}, soa: "example.com. 900 IN SOA ns.example.com. h.example.com. 1 2 3 4 30"}
	pc, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up, done := make(chan struct{}), make(chan error, 1)
	srv := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if err := w.WriteMsg(z.reply(q)); err != nil {
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
	z.addr = netip.MustParseAddrPort(pc.LocalAddr().String())
	return z
}

// resolver is one that keeps answers by a clock that passes when told to.
type resolver struct {
	*vpcdns.Server
	t   *testing.T
	now atomic.Int64 // seconds
}

func newResolver(t *testing.T, z *publicZone, sources ...vpcdns.Source) *resolver {
	t.Helper()
	r := &resolver{t: t}
	var err error
	r.Server, err = vpcdns.Listen(t.Context(), vpcdns.Config{
		Addr: netip.MustParseAddrPort("127.0.0.1:0"), Sources: sources,
		Upstream: func(name string) (netip.AddrPort, bool) { return z.addr, strings.HasSuffix(name, "example.com.") },
		Clock:    func() time.Time { return time.Unix(r.now.Load(), 0) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// get is rcode, then the answer's records and the authority, in short.
func (r *resolver) get(name, rtype string) string {
	r.t.Helper()
	m, err := ask(r.t, &dns.Client{}, r.Server, name, dns.StringToType[rtype])
	if err != nil {
		r.t.Fatal(err)
	}
	out := dns.RcodeToString[m.Rcode]
	for _, rr := range m.Answer {
		f := strings.Fields(rr.String())
		out += fmt.Sprintf(" %s=%s", f[1], f[4])
	}
	for _, rr := range m.Ns {
		out += fmt.Sprintf(" soa=%d", rr.Header().Ttl)
	}
	return out
}

func (r *resolver) want(name, rtype, want string, asked int32, z *publicZone) {
	r.t.Helper()
	before := z.asked.Load()
	if got := r.get(name, rtype); got != want {
		r.t.Errorf("%s %s: %q, want %q", name, rtype, got, want)
	}
	if n := z.asked.Load() - before; n != asked {
		r.t.Errorf("%s %s: the zone was asked %d times, want %d", name, rtype, n, asked)
	}
}

func TestKeptUntilTheTTLHasPassed(t *testing.T) {
	z := newPublicZone(t)
	r, other := newResolver(t, z), newResolver(t, z)
	const name = "a.example.com."
	z.set(name+" A", name+" 60 IN A 192.0.2.1")
	r.want(name, "A", "NOERROR 60=192.0.2.1", 1, z)
	z.set(name+" A", name+" 60 IN A 192.0.2.2")
	r.now.Add(59)
	r.want(name, "A", "NOERROR 1=192.0.2.1", 0, z)
	other.want(name, "A", "NOERROR 60=192.0.2.2", 1, z) // every resolver for itself
	r.now.Add(1)
	r.want(name, "A", "NOERROR 60=192.0.2.2", 1, z)
	r.want(name, "AAAA", "NOERROR soa=30", 1, z) // another type is another question
}

func TestEachLinkHasItsOwnTTL(t *testing.T) {
	z := newPublicZone(t)
	r := newResolver(t, z)
	const name, target = "a.example.com.", "b.example.com."
	z.set(name+" A", name+" 300 IN CNAME "+target)
	z.set(target+" A", target+" 10 IN A 192.0.2.1")
	r.want(name, "A", "NOERROR 300=b.example.com. 10=192.0.2.1", 2, z)
	z.set(target+" A", target+" 10 IN A 192.0.2.2")
	r.now.Add(10)
	r.want(name, "A", "NOERROR 290=b.example.com. 10=192.0.2.2", 1, z)
	r.want(name, "AAAA", "NOERROR 290=b.example.com. soa=30", 1, z) // the CNAME holds for every type
	r.want(name, "CNAME", "NOERROR 290=b.example.com.", 0, z)
}

func TestDenialsAreKeptByTheSOA(t *testing.T) {
	z := newPublicZone(t)
	r := newResolver(t, z)
	const gone, empty = "gone.example.com.", "empty.example.com."
	z.set(gone+" A", "!")
	r.want(gone, "A", "NXDOMAIN soa=30", 1, z)   // the minimum, not the record's 900
	r.want(gone, "TXT", "NXDOMAIN soa=30", 0, z) // no name, no types
	r.want(empty, "A", "NOERROR soa=30", 1, z)
	r.want(empty, "TXT", "NOERROR soa=30", 1, z)
	z.set(gone+" A", gone+" 60 IN A 192.0.2.1")
	r.now.Add(29)
	r.want(gone, "A", "NXDOMAIN soa=1", 0, z)
	r.now.Add(1)
	r.want(gone, "A", "NOERROR 60=192.0.2.1", 1, z)
}

func TestWhatIsNotKept(t *testing.T) {
	z := newPublicZone(t)
	r := newResolver(t, z)
	z.set("zero.example.com. A", "zero.example.com. 0 IN A 192.0.2.1")
	for range 2 {
		r.want("zero.example.com.", "A", "NOERROR 0=192.0.2.1", 1, z)
	}
	z.mu.Lock()
	z.soa = ""
	z.mu.Unlock()
	z.set("bare.example.com. A", "!")
	for range 2 {
		r.want("bare.example.com.", "A", "NXDOMAIN soa=5", 1, z)
	}
}

func TestCaps(t *testing.T) {
	z := newPublicZone(t)
	r := newResolver(t, z)
	z.soa = "example.com. 90000 IN SOA ns.example.com. h.example.com. 1 2 3 4 90000"
	z.set("week.example.com. A", "week.example.com. 604800 IN A 192.0.2.1")
	z.set("gone.example.com. A", "!")
	r.want("week.example.com.", "A", "NOERROR 604800=192.0.2.1", 1, z)
	r.want("gone.example.com.", "A", "NXDOMAIN soa=90000", 1, z)
	r.now.Add(3*3600 - 1)
	r.want("gone.example.com.", "A", "NXDOMAIN soa=79201", 0, z)
	r.now.Add(1)
	r.want("gone.example.com.", "A", "NXDOMAIN soa=90000", 1, z)
	r.want("week.example.com.", "A", "NOERROR 594000=192.0.2.1", 0, z)
	r.now.Add(21 * 3600)
	r.want("week.example.com.", "A", "NOERROR 604800=192.0.2.1", 1, z)
}

func TestFlush(t *testing.T) {
	z := newPublicZone(t)
	r := newResolver(t, z)
	const name = "a.example.com."
	z.set(name+" A", name+" 60 IN A 192.0.2.1")
	r.want(name, "A", "NOERROR 60=192.0.2.1", 1, z)
	z.set(name+" A", name+" 60 IN A 192.0.2.2")
	r.Flush()
	r.want(name, "A", "NOERROR 60=192.0.2.2", 1, z)
}

// TestOwnNamesComeBeforeWhatIsKept: a name that becomes the VPC's own is its
// own at once, and the public answer is back when it ceases to be.
func TestOwnNamesComeBeforeWhatIsKept(t *testing.T) {
	z := newPublicZone(t)
	var private atomic.Bool
	r := newResolver(t, z, func(q dns.Question) (vpcdns.Answer, bool) {
		return vpcdns.Answer{Exists: true, Records: vpcdns.Addresses(q, []netip.Addr{netip.MustParseAddr("127.80.0.1")}, 5)}, private.Load()
	})
	const name = "a.example.com."
	z.set(name+" A", name+" 60 IN A 192.0.2.1")
	r.want(name, "A", "NOERROR 60=192.0.2.1", 1, z)
	private.Store(true)
	r.want(name, "A", "NOERROR 5=127.80.0.1", 0, z)
	private.Store(false)
	r.want(name, "A", "NOERROR 60=192.0.2.1", 0, z)
}

// TestOnlyTheFirstLinkIsBelieved: a server that hands out a whole chain does
// not speak for the rest of it.
func TestOnlyTheFirstLinkIsBelieved(t *testing.T) {
	z := newPublicZone(t)
	r := newResolver(t, z, func(q dns.Question) (vpcdns.Answer, bool) {
		return vpcdns.Answer{Exists: true, Records: vpcdns.Addresses(q, []netip.Addr{netip.MustParseAddr("127.80.0.1")}, 5)}, q.Name == "private.example.com."
	})
	z.set("a.example.com. A", "a.example.com. 60 IN CNAME private.example.com.\nprivate.example.com. 60 IN A 192.0.2.1\nb.example.com. 60 IN A 192.0.2.66")
	z.set("b.example.com. A", "!")
	r.want("a.example.com.", "A", "NOERROR 60=private.example.com. 5=127.80.0.1", 1, z)
	r.want("b.example.com.", "A", "NXDOMAIN soa=30", 1, z)
}
