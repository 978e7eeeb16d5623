package eni_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-net/postern/internal/localaws/eni"
	"github.com/postern-net/postern/test/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const header = "HEADER"

// target is one load balancer target; every connection it accepts is on conns.
type target struct {
	addr  netip.AddrPort
	conns chan *net.TCPConn
}

func listen(t *testing.T, addr string) *net.TCPListener {
	t.Helper()
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func newTarget(t *testing.T) *target {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	tg := &target{addr: netip.MustParseAddrPort(ln.Addr().String()), conns: make(chan *net.TCPConn, 16)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			tg.conns <- c
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
		close(tg.conns)
		for c := range tg.conns {
			_ = c.Close()
		}
	})
	return tg
}

func (tg *target) accept(t *testing.T) *net.TCPConn {
	t.Helper()
	select {
	case c := <-tg.conns:
		if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	case <-time.After(30 * time.Second):
		t.Fatal("the target was not reached")
		return nil
	}
}

func open(t *testing.T, change func(*eni.Config), targets ...netip.AddrPort) *eni.Listener {
	t.Helper()
	cfg := eni.Config{
		Addr:    netip.MustParseAddrPort("127.0.0.1:0"),
		Targets: targets,
		Admit:   func(netip.AddrPort) bool { return true },
		Header:  func(dst []byte, _, _ netip.AddrPort) []byte { return append(dst, header...) },
	}
	if change != nil {
		change(&cfg)
	}
	l, err := eni.Listen(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func dial(t *testing.T, addr netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// expectRefused connects and wants a reset, which may arrive before the
// connect returns.
func expectRefused(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	if err == nil {
		defer func() { _ = c.Close() }()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %v, want a reset", err)
	}
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	buf := make([]byte, len(want))
	if n, err := io.ReadFull(c, buf); err != nil || string(buf) != want {
		t.Fatalf("got %q, %v; want %q", buf[:n], err, want)
	}
}

func expectReset(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %v, want a reset", err)
	}
}

func TestHeaderComesWithTheFirstBytesOnly(t *testing.T) {
	tg := newTarget(t)
	c := dial(t, open(t, nil, tg.addr).Addr())
	up := tg.accept(t)
	write(t, up, "first") // the target may speak, but has no header yet
	expect(t, c, "first")
	write(t, c, "hello")
	expect(t, up, header+"hello")
	write(t, c, "again")
	expect(t, up, "again")
}

func TestHalfCloseEachWay(t *testing.T) {
	tg := newTarget(t)
	l := open(t, nil, tg.addr)
	c := dial(t, l.Addr())
	up := tg.accept(t)
	write(t, c, "ask")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(up); err != nil || string(got) != header+"ask" {
		t.Fatalf("%q, %v", got, err)
	}
	write(t, up, "answer")
	if err := up.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "answer" {
		t.Fatalf("%q, %v", got, err)
	}

	c = dial(t, l.Addr())
	up = tg.accept(t)
	if err := up.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || len(got) != 0 {
		t.Fatalf("%q, %v", got, err)
	}
	write(t, c, "late")
	expect(t, up, header+"late")
}

func TestResetEachWay(t *testing.T) {
	tg := newTarget(t)
	l := open(t, nil, tg.addr)
	for _, clientResets := range []bool{true, false} {
		c := dial(t, l.Addr())
		up := tg.accept(t)
		write(t, c, "x")
		expect(t, up, header+"x")
		from, to := up, c
		if clientResets {
			from, to = c, up
		}
		if err := from.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		if err := from.Close(); err != nil {
			t.Fatal(err)
		}
		expectReset(t, to)
	}
}

func TestManyBytes(t *testing.T) {
	tg := newTarget(t)
	c := dial(t, open(t, nil, tg.addr).Addr())
	up := tg.accept(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	go func() {
		_, _ = c.Write(data)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(up)
	if err != nil || !bytes.Equal(got, append([]byte(header), data...)) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestRefusedNeverReachesTheTarget(t *testing.T) {
	tg := newTarget(t)
	var admit atomic.Bool
	l := open(t, func(c *eni.Config) {
		c.Admit = func(client netip.AddrPort) bool { return client.Addr().IsLoopback() && admit.Load() }
	}, tg.addr)
	expectRefused(t, l.Addr())
	admit.Store(true)
	c := dial(t, l.Addr())
	write(t, c, "in")
	expect(t, tg.accept(t), header+"in") // the first one that it sees
}

func TestNextTargetWhenOneIsDown(t *testing.T) {
	a, b := newTarget(t), newTarget(t)
	l := open(t, nil, loopback.Free(t), a.addr, b.addr)
	for range 3 {
		c := dial(t, l.Addr())
		write(t, c, "x")
	}
	// First the dead one and then a; a; b.
	for _, tg := range []*target{a, a, b} {
		expect(t, tg.accept(t), header+"x")
	}
	expectRefused(t, open(t, nil, loopback.Free(t)).Addr())
	expectRefused(t, open(t, nil).Addr())
}

func TestSourceIsTheNodes(t *testing.T) {
	tg := newTarget(t)
	node := netip.MustParseAddr("127.95.255.7")
	l := open(t, func(c *eni.Config) { c.Source = node }, tg.addr)
	dial(t, l.Addr())
	if got := netip.MustParseAddrPort(tg.accept(t).RemoteAddr().String()).Addr(); got != node {
		t.Errorf("the target saw %s", got)
	}
}

func TestCloseCutsConnections(t *testing.T) {
	tg := newTarget(t)
	l := open(t, nil, tg.addr)
	c := dial(t, l.Addr())
	up := tg.accept(t)
	write(t, c, "x")
	expect(t, up, header+"x")
	l.Close()
	expectReset(t, c)
	expectReset(t, up)
	l.Close()
	if c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(l.Addr())); err == nil {
		_ = c.Close()
		t.Error("still listening")
	}
}

func TestIdleFlowIsForgottenSilently(t *testing.T) {
	tg := newTarget(t)
	l := open(t, func(c *eni.Config) { c.IdleTimeout = time.Second }, tg.addr)
	c := dial(t, l.Addr())
	up := tg.accept(t)
	write(t, c, "x")
	expect(t, up, header+"x")
	// Nothing is heard when the time is over …
	if err := c.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want silence", err)
	}
	// … and the next byte is answered with a reset.
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	write(t, c, "y")
	expectReset(t, c)
	expectReset(t, up)
}

func TestAddressInUse(t *testing.T) {
	l := open(t, nil)
	_, err := eni.Listen(t.Context(), eni.Config{Addr: l.Addr()})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
}
