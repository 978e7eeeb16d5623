package nameserver_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/nameserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	hosted  = "hosted.example.net"
	private = "privatelink.example.net"
)

func one(kind string, ttl uint32, values ...string) []postern.Record {
	var out []postern.Record
	for _, v := range values {
		out = append(out, postern.Record{Type: kind, TTL: ttl, Value: v})
	}
	return out
}

// zones are those of a platform, with a parent zone for delegations.
func zones() postern.Zones {
	return postern.Zones{Revision: 7, Zones: map[string]postern.Zone{
		hosted: {Records: map[string][]postern.Record{
			hosted:                   one("TXT", 300, "the platform"),
			"example." + hosted:      one("CNAME", 60, "example."+private),
			"globex." + hosted:       one("A", 60, "192.0.2.10", "192.0.2.11"),
			"dual." + hosted:         slices.Concat(one("A", 60, "192.0.2.12"), one("AAAA", 120, "2001:db8::12")),
			"alias." + hosted:        one("CNAME", 60, "second."+hosted),
			"second." + hosted:       one("CNAME", 50, "globex."+hosted),
			"dangling." + hosted:     one("CNAME", 60, "nothing."+hosted),
			"outwards." + hosted:     one("CNAME", 60, "vpce-1.vpce.example.com"),
			"twice." + hosted:        one("CNAME", 60, "example."+hosted),
			"_acme.deep.a." + hosted: one("TXT", 60, `say "hi" \ and ; semicolon`, "zwei – ü"),
			"long." + hosted:         one("TXT", 60, strings.Repeat("0123456789", 60)),
			"much." + hosted:         one("TXT", 60, texts(30)...),
		}},
		private: {Records: map[string][]postern.Record{
			"example." + private: one("CNAME", 5, "ingress."+private),
			"ingress." + private: one("A", 60, "192.0.2.20"),
		}},
		"example.net": {Records: map[string][]postern.Record{
			"example.net":         one("NS", 7200, "ns1.example.org", "ns.example.net"),
			"ns.example.net":      slices.Concat(one("A", 600, "192.0.2.53"), one("AAAA", 600, "2001:db8::53")),
			"sub.example.net":     one("NS", 900, "ns.sub.example.net", "ns.example.com"),
			"ns.sub.example.net":  one("A", 900, "192.0.2.54"),
			"to-sub.example.net":  one("CNAME", 60, "www.sub.example.net"),
			"to-host.example.net": one("CNAME", 60, "globex."+hosted),
		}},
	}}
}

func texts(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("%03d %s", i, strings.Repeat("x", 96)))
	}
	return out
}

// world is a nameserver on real sockets.
type world struct {
	*nameserver.Server
	registry *prometheus.Registry
	addr     string
}

var local = netip.MustParseAddrPort("127.0.0.1:0")

func config(r prometheus.Registerer) nameserver.Config {
	return nameserver.Config{Listen: []netip.AddrPort{local}, Logger: slog.New(slog.DiscardHandler), Registerer: r}
}

func serve(t testing.TB, z postern.Zones, change ...func(*nameserver.Config)) *world {
	t.Helper()
	w := &world{registry: prometheus.NewRegistry()}
	c := config(w.registry)
	for _, f := range change {
		f(&c)
	}
	var err error
	if w.Server, err = nameserver.New(c); err != nil {
		t.Fatal(err)
	}
	if z.Zones != nil {
		if ok, err := w.Apply(z); !ok || err != nil {
			t.Fatalf("apply: %v, %v", ok, err)
		}
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	w.addr = w.Addrs()[0].String()
	return w
}

// ask sends one query with EDNS and returns the answer.
func (w *world) ask(t testing.TB, transport, name string, kind uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), kind)
	m.SetEdns0(4096, false)
	return w.exchange(t, transport, m)
}

func (w *world) exchange(t testing.TB, transport string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: transport, UDPSize: 4096, Timeout: 5 * time.Second}
	r, _, err := c.ExchangeContext(t.Context(), m, w.addr)
	if err != nil {
		t.Fatalf("%s: %v", transport, err)
	}
	return r
}

// raw sends bytes and returns those of the answer.
func (w *world) raw(t testing.TB, transport string, message []byte) []byte {
	t.Helper()
	conn := w.dial(t, transport)
	defer conn.Close()
	if err := send(conn, message); err != nil {
		t.Fatal(err)
	}
	answer, err := receive(conn)
	if err != nil {
		t.Fatalf("%s: no answer to %x: %v", transport, message, err)
	}
	return answer
}

func (w *world) dial(t testing.TB, transport string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), transport, w.addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

func send(conn net.Conn, message []byte) error {
	if _, ok := conn.(*net.TCPConn); ok {
		message = append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
	}
	_, err := conn.Write(message)
	return err
}

func receive(conn net.Conn) ([]byte, error) {
	if _, ok := conn.(*net.TCPConn); !ok {
		b := make([]byte, 65535)
		n, err := conn.Read(b)
		return b[:n], err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, b)
	return b, err
}

// show writes an answer as lines: the response code with the flags, and each
// record with its section.
func show(m *dns.Msg) string {
	var b strings.Builder
	b.WriteString(dns.RcodeToString[m.Rcode])
	for _, f := range []struct {
		set  bool
		name string
	}{
		{m.Authoritative, "aa"},
		{m.Truncated, "tc"},
		{m.RecursionDesired, "rd"},
		{m.RecursionAvailable, "ra"},
		{m.AuthenticatedData, "ad"},
		{m.CheckingDisabled, "cd"},
		{m.Zero, "z"},
	} {
		if f.set {
			b.WriteString(" " + f.name)
		}
	}
	for _, s := range []struct {
		name string
		rrs  []dns.RR
	}{{"answer", m.Answer}, {"authority", m.Ns}, {"additional", m.Extra}} {
		for _, rr := range s.rrs {
			if _, ok := rr.(*dns.OPT); !ok {
				fmt.Fprintf(&b, "\n%s %s", s.name, strings.ReplaceAll(rr.String(), "\t", " "))
			}
		}
	}
	return b.String()
}

// counted is the value of a metric, over all series that have the labels.
func (w *world) counted(t testing.TB, name string, labels map[string]string) float64 {
	t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			matching := 0
			for _, l := range m.GetLabel() {
				if labels[l.GetName()] == l.GetValue() {
					matching++
				}
			}
			if matching == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("timeout: " + what)
		case <-tick.C:
		}
	}
}
