package nameserver_test

import (
	"bytes"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/nameserver"
	"github.com/postern-net/postern/test/loopback"
)

func unstarted(t *testing.T, listen ...netip.AddrPort) *nameserver.Server {
	t.Helper()
	c := config(prometheus.NewRegistry())
	if len(listen) > 0 {
		c.Listen = listen
	}
	s, err := nameserver.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSeveralAddresses(t *testing.T) {
	w := serve(t, zones(), func(c *nameserver.Config) { c.Listen = []netip.AddrPort{local, local, local} })
	seen := map[netip.AddrPort]bool{}
	for _, addr := range w.Addrs() {
		if addr.Port() == 0 || seen[addr] {
			t.Errorf("addresses %v", w.Addrs())
		}
		seen[addr] = true
		w.addr = addr.String()
		for _, transport := range []string{"udp", "tcp"} {
			if r := w.ask(t, transport, globex, dns.TypeA); len(r.Answer) != 2 {
				t.Errorf("%s %s: %v", transport, addr, r)
			}
		}
	}
}

// A host of many addresses must answer from the one that was asked.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux answers on all of 127.0.0.0/8")
	}
	w := serve(t, zones(), func(c *nameserver.Config) { c.Listen = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0")} })
	_, port, err := net.SplitHostPort(w.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "127.0.0.77"} {
		w.addr = net.JoinHostPort(host, port)
		// The client's socket is connected: it takes answers from there only.
		if r := w.ask(t, "udp", globex, dns.TypeA); len(r.Answer) != 2 {
			t.Errorf("%s: %v", host, r)
		}
	}
}

func TestStartAndClose(t *testing.T) {
	t.Run("close before start", func(t *testing.T) {
		s := unstarted(t)
		s.Close()
		if err := s.Start(t.Context()); err == nil {
			t.Error("started after Close")
		}
		if err := s.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("start twice", func(t *testing.T) {
		s := unstarted(t)
		defer s.Close()
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err == nil {
			t.Error("started twice")
		}
	})
	t.Run("close twice, with somebody waiting", func(t *testing.T) {
		s := unstarted(t)
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		waited := make(chan error)
		go func() { waited <- s.Wait() }()
		s.Close()
		s.Close()
		if err := <-waited; err != nil {
			t.Error(err)
		}
		if len(s.Addrs()) != 0 {
			t.Errorf("listens on %v", s.Addrs())
		}
	})
	t.Run("a port that is taken, by TCP or by UDP", func(t *testing.T) {
		tcp, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
		udp, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer udp.Close()
		for _, taken := range []string{tcp.Addr().String(), udp.LocalAddr().String()} {
			first := loopback.Free(t)
			s := unstarted(t, first, netip.MustParseAddrPort(taken))
			if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), taken) {
				t.Errorf("%s: %v", taken, err)
			}
			s.Close()
			// The address that was opened before is free again.
			again := unstarted(t, first)
			if err := again.Start(t.Context()); err != nil {
				t.Errorf("left open: %v", err)
			}
			again.Close()
		}
	})
}

// Connections that wait for a next query do not hold Close up.
func TestCloseWithOpenConnections(t *testing.T) {
	w := serve(t, zones())
	var conns []net.Conn
	for range 3 {
		conns = append(conns, w.dial(t, "tcp"))
	}
	if err := send(conns[0], pack(t, query(globex, dns.TypeA))); err != nil {
		t.Fatal(err)
	}
	if _, err := receive(conns[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := conns[1].Write([]byte{0}); err != nil { // half a length
		t.Fatal(err)
	}
	until(t, "connections are accepted", func() bool { return w.counted(t, "postern_dns_open_connections", nil) == 3 })
	start := time.Now()
	w.Close()
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
	for _, c := range conns {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection is open after Close")
		}
		c.Close()
	}
	if n := w.counted(t, "postern_dns_open_connections", nil); n != 0 {
		t.Errorf("%v connections counted", n)
	}
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSeveralQueriesOnOneConnection(t *testing.T) {
	w := serve(t, zones())
	conn := w.dial(t, "tcp")
	defer conn.Close()
	var queries []byte
	for i := range uint16(20) { // all at once (RFC 7766 §6.2.1.1)
		q := pack(t, query(globex, dns.TypeA, func(m *dns.Msg) { m.Id = i }))
		queries = append(append(queries, 0, byte(len(q))), q...)
	}
	if _, err := conn.Write(queries); err != nil {
		t.Fatal(err)
	}
	for i := range uint16(20) {
		answer, err := receive(conn)
		if err != nil {
			t.Fatal(err)
		}
		r := new(dns.Msg)
		if err := r.Unpack(answer); err != nil || r.Id != i || len(r.Answer) != 2 {
			t.Fatalf("answer %d: %v, %v", i, r, err)
		}
	}
}

func TestConnectionLimits(t *testing.T) {
	for _, tt := range []struct {
		name           string
		max, perSource int
		fit            int
	}{
		{"in all", 2, 10, 2},
		{"of one source", 10, 3, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(t, zones(), func(c *nameserver.Config) { c.MaxConnections, c.MaxPerSource = tt.max, tt.perSource })
			var conns []net.Conn
			for range tt.fit {
				conn := w.dial(t, "tcp")
				defer conn.Close()
				conns = append(conns, conn)
			}
			until(t, "the bound is reached", func() bool { return w.counted(t, "postern_dns_open_connections", nil) == float64(tt.fit) })
			over := w.dial(t, "tcp")
			defer over.Close()
			if _, err := over.Read(make([]byte, 1)); err == nil {
				t.Error("one more was served")
			}
			if n := w.counted(t, "postern_dns_refused_connections_total", nil); n != 1 {
				t.Errorf("counted %v refused connections", n)
			}
			conns[0].Close()
			until(t, "there is room again", func() bool { return w.counted(t, "postern_dns_open_connections", nil) == float64(tt.fit-1) })
			if r := w.ask(t, "tcp", globex, dns.TypeA); len(r.Answer) != 2 {
				t.Errorf("%v", r)
			}
			if r := w.ask(t, "udp", globex, dns.TypeA); len(r.Answer) != 2 {
				t.Errorf("%v", r)
			}
		})
	}
}

// Neither do those that do not take their answers.
func TestCloseWithStuckConnection(t *testing.T) {
	w := serve(t, bulky(), func(c *nameserver.Config) { c.Timeout, c.IdleTimeout = time.Hour, time.Hour })
	conn := w.dial(t, "tcp")
	defer conn.Close()
	if err := stick(conn); err != nil {
		t.Fatal(err)
	}
	// The answers come to a stop: nothing is answered between two looks.
	last := -1.0
	until(t, "the server is stuck", func() bool {
		before := last
		last = w.counted(t, "postern_dns_queries_total", map[string]string{"transport": "tcp"})
		return last > 0 && last == before
	})
	start := time.Now()
	w.Close()
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

// bulky is a zone with a name whose answer has 50 KB.
func bulky() postern.Zones {
	return postern.Zones{Revision: 1, Zones: map[string]postern.Zone{hosted: {Records: map[string][]postern.Record{
		"big." + hosted: one("TXT", 1, texts(500)...),
	}}}}
}

// stick asks for 6 MB of answers and reads none.
func stick(conn net.Conn) error {
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		return err
	}
	q, err := query("big."+hosted+".", dns.TypeTXT).Pack()
	if err != nil {
		return err
	}
	_, err = conn.Write(bytes.Repeat(append([]byte{0, byte(len(q))}, q...), 120))
	return err
}

// Who is slow loses the connection: before the first query, between two, and
// when it does not take its answers.
func TestSlowClients(t *testing.T) {
	w := serve(t, bulky(), func(c *nameserver.Config) { c.Timeout, c.IdleTimeout = 50*time.Millisecond, 50*time.Millisecond })
	q := pack(t, query("big."+hosted+".", dns.TypeTXT))
	for name, behave := range map[string]func(net.Conn) error{
		"says nothing": func(net.Conn) error { return nil },
		"sends half":   func(c net.Conn) error { _, err := c.Write(append([]byte{0, byte(len(q))}, q[:9]...)); return err },
		"sends one query": func(c net.Conn) error {
			if err := send(c, q); err != nil {
				return err
			}
			_, err := receive(c)
			return err
		},
		"does not read": stick,
	} {
		t.Run(name, func(t *testing.T) {
			conn := w.dial(t, "tcp")
			defer conn.Close()
			until(t, "accepted", func() bool { return w.counted(t, "postern_dns_open_connections", nil) == 1 })
			if err := behave(conn); err != nil {
				t.Fatal(err)
			}
			until(t, "the connection is given up", func() bool { return w.counted(t, "postern_dns_open_connections", nil) == 0 })
		})
	}
}
