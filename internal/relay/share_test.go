package relay_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/proxyproto"
	"github.com/postern-net/postern/internal/relay"
)

// Each client has a share of the connections, and taking more of them shuts
// nobody else out.
func TestShares(t *testing.T) { onEach(t, testShares) }

func testShares(t *testing.T, kind relay.Kind) {
	t.Parallel()
	const otherID = "vpce-08d2bf15fac5001c9"
	address := func(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), 49153) }
	for _, tc := range []struct {
		name          string
		firstID       string
		first, second netip.AddrPort
		secondID      string
		admitted      bool // the second
	}{
		{"one endpoint, two clients", vpceID, address("10.0.0.5"), address("10.0.0.6"), vpceID, false},
		{"two endpoints, one address", vpceID, address("10.0.0.5"), address("10.0.0.5"), otherID, true},
		{"one address", "", address("198.51.100.7"), address("198.51.100.7"), "", false},
		{"two addresses", "", address("198.51.100.7"), address("198.51.100.8"), "", true},
		{"one IPv6 network", "", address("2001:db8:0:1::1"), address("2001:db8:0:1:ffff::"), "", false},
		{"two IPv6 networks", "", address("2001:db8:0:1::1"), address("2001:db8:0:2::1"), "", true},
		{"an address in IPv6's form", "", address("::ffff:198.51.100.7"), address("::ffff:198.51.100.8"), "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := listen(t)
			p := start(t, setup{
				kind:   kind,
				config: relay.Config{MaxConnections: 4}, // so that a share is one
				match:  to(b.addr), proxied: true, sources: []netip.Prefix{local},
			})
			h := hello(t, host)
			ask := func(source netip.AddrPort, id string) *net.TCPConn {
				destination := targetAddr
				if source.Addr().Is6() {
					destination = address("2001:db8::1")
				}
				c := dial(t, p.addr)
				send(t, c, slices.Concat(proxyproto.AppendAWS(nil, source, destination, id), h))
				return c
			}
			first := ask(tc.first, tc.firstID)
			expect(t, b.accept(t), h)
			second := ask(tc.second, tc.secondID)
			if tc.admitted {
				expect(t, b.accept(t), h)
				return
			}
			expectRefusal(t, second)
			r := p.wait(t, "refused", 1)[0]
			if r.verdict.Deny != postern.DenyOverload || r.arrival.Proxy.VPCEndpointID != tc.secondID {
				t.Errorf("refused for %q, as from %q", r.verdict.Deny, r.arrival.Proxy.VPCEndpointID)
			}
			must(t, first.SetLinger(0))
			must(t, first.Close())
			p.wait(t, "closed", 1)
			for p.Connections() > 0 { // the record comes a moment before the place is free
				p.waitBriefly(t)
			}
			ask(tc.second, tc.secondID)
			expect(t, b.accept(t), h)
		})
	}
}

// Where a listener names who pays, all its connections are in one share, from
// wherever they come, and so are those of that payer's other listeners.
func TestShareOfAPayer(t *testing.T) { onEach(t, testShareOfAPayer) }

func testShareOfAPayer(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b, h := listen(t), hello(t, host)
	p := start(t, setup{kind: kind, config: relay.Config{MaxConnections: 8}, match: to(b.addr), payer: "example"}) // a share is two
	again, other := p.also(t, "example", to(b.addr)), p.also(t, "globex", to(b.addr))
	for i, tc := range []struct {
		from, addr string
		admitted   bool
	}{
		{"127.0.0.2", p.addr, true},
		{"127.0.0.3", again, true},
		{"127.0.0.4", p.addr, false},
		{"127.0.0.5", again, false},
		{"127.0.0.2", other, true},
		{"127.0.0.2", other, true},
		{"127.0.0.2", other, false},
	} {
		c := dialFrom(t, tc.from, tc.addr)
		if !tc.admitted {
			expectRefusal(t, c)
			continue
		}
		send(t, c, h)
		select {
		case s := <-b.conns:
			t.Cleanup(func() { _ = s.Close() })
		case <-time.After(patience):
			t.Fatalf("connection %d from %s is not admitted", i, tc.from)
		}
	}
	for _, r := range p.wait(t, "refused", 3) {
		if r.verdict.Deny != postern.DenyOverload {
			t.Errorf("refused for %q", r.verdict.Deny)
		}
	}
}

// A client over its share takes no place from the others while it is told so.
func TestOverTheShareIsInNoBudget(t *testing.T) { onEach(t, testOverTheShareIsInNoBudget) }

func testOverTheShareIsInNoBudget(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{
		kind:   kind,
		config: relay.Config{MaxConnections: 2, MaxPerClient: 1, AlertLinger: patience},
		match:  to(b.addr), proxied: true, sources: []netip.Prefix{local},
	})
	h := hello(t, host)
	for i := range 4 {
		send(t, dial(t, p.addr), slices.Concat(header(), h))
		if i == 0 {
			expect(t, b.accept(t), h)
		} else {
			p.wait(t, "refused", i) // and lingers, for the client does not close
		}
	}
	if n := p.Connections(); n != 4 {
		t.Errorf("%d connections, want one and three that linger", n)
	}
	send(t, dial(t, p.addr), slices.Concat(proxyproto.AppendAWS(nil, clientAddr, targetAddr, "vpce-08d2bf15fac5001c9"), h))
	expect(t, b.accept(t), h)
}

// Who is refused before it is known whose connection it is takes no place from
// the load balancer's clients, however many there are.
func TestStrangersAreInNoBudget(t *testing.T) { onEach(t, testStrangersAreInNoBudget) }

func testStrangersAreInNoBudget(t *testing.T, kind relay.Kind) {
	t.Parallel()
	const balancer, stranger = "127.0.0.2", "127.0.0.9"
	h := hello(t, host)
	for name, tc := range map[string]struct {
		from string
		send []byte
		want postern.Denial
	}{
		"untrusted": {stranger, nil, postern.DenyUntrustedSource},
		"bad":       {balancer, h, postern.DenyBadProxyHeader},
		"late":      {balancer, header()[:99], postern.DenyHelloTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := listen(t)
			p := start(t, setup{
				kind:   kind,
				config: relay.Config{MaxConnections: 8, AlertLinger: patience, HelloTimeout: time.Second},
				match:  to(b.addr), proxied: true, sources: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(balancer), 32)},
			})
			for range 8 {
				send(t, dialFrom(t, tc.from, p.addr), tc.send)
			}
			for _, r := range p.wait(t, "refused", 8) {
				if r.verdict.Deny != tc.want {
					t.Fatalf("refused for %q", r.verdict.Deny)
				}
			}
			if n := p.Connections(); n != 8 {
				t.Errorf("%d connections, want 8 that linger", n)
			}
			send(t, dialFrom(t, balancer, p.addr), slices.Concat(header(), h))
			expect(t, b.accept(t), h)
			// Only so many linger.
			if name != "untrusted" {
				return
			}
			for range 256 {
				dialFrom(t, tc.from, p.addr)
			}
			p.wait(t, "refused", 8+256)
			if n := p.Connections(); n != 1+256 {
				t.Errorf("%d connections, want one and 256 that linger", n)
			}
		})
	}
}

func TestShareOfAPlainListener(t *testing.T) { onEach(t, testShareOfAPlainListener) }

func testShareOfAPlainListener(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, config: relay.Config{MaxConnections: 4}, match: to(b.addr)})
	connect(t, p, b)
	// It is told at once: nothing that it might send is waited for.
	expectRefusal(t, dial(t, p.addr))
	p.wait(t, "refused", 1)
}
