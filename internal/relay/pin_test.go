package relay_test

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/postern-net/postern/internal/relay"
)

// A pinned connection is cut when its backend is none of them any more; one
// that is not pinned lives on, and so does one whose backend stays.
func TestPinned(t *testing.T) { onEach(t, testPinned) }

func testPinned(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b, other := listen(t), listen(t)
	var moved atomic.Bool
	p := start(t, setup{kind: kind, match: func(a *relay.Arrival) relay.Verdict {
		v := relay.Verdict{Backends: []netip.AddrPort{b.addr}, Pinned: a.Hello.ServerName != "loose.example"}
		switch {
		case a.Hello.ServerName == "joined.example" && moved.Load():
			v.Backends = []netip.AddrPort{other.addr, b.addr}
		case moved.Load():
			v.Backends = []netip.AddrPort{other.addr}
		}
		return v
	}})
	type pair struct{ client, server *net.TCPConn }
	conns := map[string]pair{}
	for _, name := range []string{"pinned.example", "loose.example", "joined.example"} {
		c := dial(t, p.addr)
		h := hello(t, name)
		send(t, c, h)
		s := b.accept(t)
		expect(t, s, h)
		conns[name] = pair{c, s}
	}
	p.wait(t, "opened", 3)
	p.Recheck()
	moved.Store(true)
	p.Recheck()
	if r := p.wait(t, "closed", 1)[0]; r.stats.End != relay.EndRevoked || r.arrival.Hello.ServerName != "pinned.example" {
		t.Errorf("%s ended with %q", r.arrival.Hello.ServerName, r.stats.End)
	}
	expectReset(t, conns["pinned.example"].client)
	expectReset(t, conns["pinned.example"].server)
	for _, name := range []string{"loose.example", "joined.example"} {
		send(t, conns[name].client, []byte("ping"))
		expect(t, conns[name].server, []byte("ping"))
	}
}

// Connections to backends come from the address that the engine was told.
func TestSource(t *testing.T) { onEach(t, testSource) }

func testSource(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, config: relay.Config{Source: netip.MustParseAddr("127.0.0.77")}, match: to(b.addr)})
	_, s := connect(t, p, b)
	if from := netip.MustParseAddrPort(s.RemoteAddr().String()).Addr(); from != netip.MustParseAddr("127.0.0.77") {
		t.Errorf("from %v", from)
	}
}

// Whoever chooses the backends is told which of them took no connection.
func TestFailedBackendsAreTold(t *testing.T) { onEach(t, testFailedBackendsAreTold) }

func testFailedBackendsAreTold(t *testing.T, kind relay.Kind) {
	t.Parallel()
	down, b := free(t), listen(t)
	told := make(chan netip.AddrPort, 10)
	p := start(t, setup{kind: kind, match: func(*relay.Arrival) relay.Verdict {
		return relay.Verdict{Backends: []netip.AddrPort{down, b.addr}, Failed: func(at netip.AddrPort) { told <- at }}
	}})
	h := hello(t, "app.example")
	send(t, dial(t, p.addr), h)
	expect(t, b.accept(t), h)
	p.wait(t, "opened", 1)
	if len(told) != 1 || <-told != down {
		t.Errorf("%d were told of, want %v", len(told), down)
	}
}
