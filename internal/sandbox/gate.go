package sandbox

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// gate is a TCP relay that can be shut: a network that parts two machines.
type gate struct {
	ln     *net.TCPListener
	to     netip.AddrPort
	work   sync.WaitGroup
	ctx    context.Context //nolint:containedctx // ends dials when the gate is closed
	cancel context.CancelFunc

	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
}

// openGate relays a new loopback address to another address.
func openGate(ctx context.Context, to netip.AddrPort) (*gate, error) {
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		return nil, err
	}
	g := &gate{ln: ln, to: to, conns: map[net.Conn]bool{}}
	g.ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	g.work.Go(g.accept)
	return g, nil
}

func (g *gate) addr() netip.AddrPort { return g.ln.Addr().(*net.TCPAddr).AddrPort() } //nolint:forcetypeassert // of a TCP listener

func (g *gate) accept() {
	for {
		c, err := g.ln.AcceptTCP()
		if err != nil {
			return // closed
		}
		g.work.Go(func() { g.relay(c) })
	}
}

func (g *gate) relay(client *net.TCPConn) {
	defer g.forget(client)
	if !g.track(client) {
		return
	}
	d := net.Dialer{Timeout: time.Second}
	server, err := d.DialContext(g.ctx, "tcp", g.to.String())
	if err != nil {
		return
	}
	defer g.forget(server)
	if !g.track(server) {
		return
	}
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // it ends one way or another
			g.forget(way[0])
			g.forget(way[1])
		})
	}
	both.Wait()
}

// track registers a connection to be cut, unless the gate is shut.
func (g *gate) track(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.conns[c] = true
	return true
}

func (g *gate) forget(c net.Conn) {
	_ = c.Close() // it may have been cut
	g.mu.Lock()
	delete(g.conns, c)
	g.mu.Unlock()
}

// set opens or shuts the gate; what is open then is cut.
func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = !open
	if open {
		return
	}
	for c := range g.conns {
		_ = c.Close() // its relay sees it and ends
	}
}

func (g *gate) close() {
	g.set(false)
	g.cancel()
	_ = g.ln.Close() // accept sees it and ends
	g.work.Wait()
}
