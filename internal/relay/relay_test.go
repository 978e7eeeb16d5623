package relay_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/relay"
)

func TestHalfClose(t *testing.T) { onEach(t, testHalfClose) }

func testHalfClose(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	for _, tc := range []struct {
		name string
		size int // sent before the half-close; large ones go by splice
	}{{"small", 10}, {"large", 3 << 20}} {
		data := bytes.Repeat([]byte("x"), tc.size)
		t.Run(tc.name+", client first", func(t *testing.T) {
			t.Parallel()
			c, s := connect(t, start(t, setup{kind: kind, match: to(b.addr)}), b)
			halfClose(t, c, s, data)
		})
	}
	b2 := listen(t)
	t.Run("backend first", func(t *testing.T) {
		t.Parallel()
		c, s := connect(t, start(t, setup{kind: kind, match: to(b2.addr)}), b2)
		halfClose(t, s, c, bytes.Repeat([]byte("y"), 3<<20))
	})
}

// halfClose has one side end its stream and the other answer after that.
func halfClose(t *testing.T, first, second *net.TCPConn, data []byte) {
	t.Helper()
	var sent sync.WaitGroup
	sent.Go(func() {
		_, err := first.Write(data)
		if err == nil {
			err = first.CloseWrite()
		}
		if err != nil {
			t.Error(err)
		}
	})
	got, err := io.ReadAll(second)
	sent.Wait()
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
	}
	send(t, second, []byte("late answer"))
	must(t, second.CloseWrite())
	if got, err := io.ReadAll(first); err != nil || string(got) != "late answer" {
		t.Fatalf("after the half-close: %q, %v", got, err)
	}
}

func TestReset(t *testing.T) { onEach(t, testReset) }

func testReset(t *testing.T, kind relay.Kind) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		fromClient bool
		halfClosed bool // by the side that then resets
	}{
		{"by the client", true, false},
		{"by the backend", false, false},
		{"by the client after its half-close", true, true},
		{"by the backend after its half-close", false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := listen(t)
			p := start(t, setup{kind: kind, match: to(b.addr)})
			from, other := connect(t, p, b)
			if !tc.fromClient {
				from, other = other, from
			}
			if tc.halfClosed {
				must(t, from.CloseWrite())
				expectEOF(t, other)
			}
			must(t, from.SetLinger(0))
			must(t, from.Close())
			// Nobody writes: the reset alone must end it.
			if r := p.wait(t, "closed", 1)[0]; r.stats.End != relay.EndReset {
				t.Errorf("ended with %q", r.stats.End)
			}
			if tc.halfClosed {
				// The stream towards other has ended; it sees the reset by writing.
				expectBroken(t, other)
			} else {
				expectReset(t, other)
			}
		})
	}
}

// expectBroken writes until that fails.
func expectBroken(t *testing.T, c net.Conn) {
	t.Helper()
	for {
		if _, err := c.Write([]byte("x")); err != nil {
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				t.Fatal("never broken")
			}
			return
		}
	}
}

func TestIdle(t *testing.T) { onEach(t, testIdle) }

func testIdle(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, config: relay.Config{IdleTimeout: time.Second}, match: to(b.addr)})
	c, s := connect(t, p, b)
	began := time.Now()
	var last time.Time
	for time.Since(began) < 1500*time.Millisecond { // longer than the timeout, but never idle
		last = time.Now()
		send(t, c, []byte("ping"))
		expect(t, s, []byte("ping"))
		p.waitBriefly(t)
	}
	expectReset(t, c)
	if d := time.Since(last); d < 900*time.Millisecond {
		t.Errorf("cut after %v", d)
	}
	expectReset(t, s)
	if r := p.wait(t, "closed", 1)[0]; r.stats.End != relay.EndIdle {
		t.Errorf("ended with %q", r.stats.End)
	}
}

func TestShutdownWaits(t *testing.T) { onEach(t, testShutdownWaits) }

func testShutdownWaits(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, match: to(b.addr)})
	c, s := connect(t, p, b)
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { done <- p.Shutdown(ctx) }()
	for { // until the listener is closed
		var d net.Dialer
		x, err := d.DialContext(t.Context(), "tcp", p.addr)
		if err != nil {
			break
		}
		_ = x.Close()
		p.waitBriefly(t)
	}
	send(t, c, []byte("still here"))
	expect(t, s, []byte("still here"))
	select {
	case err := <-done:
		t.Fatalf("Shutdown did not wait: %v", err)
	default:
	}
	must(t, c.Close())
	must(t, s.Close())
	must(t, <-done)
}

func TestShutdownCuts(t *testing.T) { onEach(t, testShutdownCuts) }

func testShutdownCuts(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, match: to(b.addr)})
	c, s := connect(t, p, b)
	p.wait(t, "opened", 1) // the backend has the hello a moment before
	peeking := dial(t, p.addr)
	send(t, peeking, []byte{0x16})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	expectReset(t, c)
	expectReset(t, s)
	if _, err := io.ReadAll(peeking); err == nil {
		t.Log("the connection that had not asked ended without a reset") // its byte may not have arrived yet
	}
	if r := p.wait(t, "closed", 1)[0]; r.stats.End != relay.EndShutdown {
		t.Errorf("ended with %q", r.stats.End)
	}
	if p.Connections() != 0 {
		t.Error("connections left")
	}
}

func TestRecheck(t *testing.T) { onEach(t, testRecheck) }

func testRecheck(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	var revoked, moved atomic.Bool
	p := start(t, setup{kind: kind, match: func(a *relay.Arrival) relay.Verdict {
		v := relay.Verdict{Backends: []netip.AddrPort{b.addr}, Prologue: []byte("p")}
		switch {
		case a.Hello.ServerName == "revoked.example" && revoked.Load():
			return relay.Verdict{Deny: postern.DenyNotAuthorized}
		case a.Hello.ServerName == "moved.example" && moved.Load():
			v.Prologue = []byte("q")
		}
		return v
	}})
	open := func(name string) (c, s *net.TCPConn) {
		c = dial(t, p.addr)
		h := hello(t, name)
		send(t, c, h)
		s = b.accept(t)
		expect(t, s, slices.Concat([]byte("p"), h))
		return c, s
	}
	keptC, keptS := open("kept.example")
	revokedC, revokedS := open("revoked.example")
	movedC, movedS := open("moved.example")
	p.wait(t, "opened", 3)
	alive := func(c, s *net.TCPConn) {
		t.Helper()
		send(t, c, []byte("ping"))
		expect(t, s, []byte("ping"))
	}

	p.Recheck()
	alive(keptC, keptS)
	alive(revokedC, revokedS)
	alive(movedC, movedS)

	revoked.Store(true)
	p.Recheck()
	expectReset(t, revokedC)
	expectReset(t, revokedS)
	alive(keptC, keptS)
	alive(movedC, movedS)

	moved.Store(true) // the backend was told what is no longer so
	p.Recheck()
	expectReset(t, movedC)
	expectReset(t, movedS)
	alive(keptC, keptS)
	for _, r := range p.wait(t, "closed", 2) {
		if r.stats.End != relay.EndRevoked {
			t.Errorf("%s ended with %q", r.arrival.Hello.ServerName, r.stats.End)
		}
	}
}

// The rules change between the judging of a connection and its opening, which
// lasts as long as the backend does not take what comes first.
func TestRecheckDuringDial(t *testing.T) { onEach(t, testRecheckDuringDial) }

func testRecheckDuringDial(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	large := make([]byte, 32<<20) // more than sockets hold
	var calls atomic.Int32
	p := start(t, setup{kind: kind, config: relay.Config{DialTimeout: patience}, match: func(*relay.Arrival) relay.Verdict {
		if calls.Add(1) == 1 {
			return relay.Verdict{Backends: []netip.AddrPort{b.addr}, Prologue: large}
		}
		return relay.Verdict{Deny: postern.DenyNotAuthorized}
	}})
	c := dial(t, p.addr)
	send(t, c, hello(t, host))
	s := b.accept(t)
	expect(t, s, large[:1])
	p.Recheck() // sees no open connection
	if n := calls.Load(); n != 1 {
		t.Fatalf("judged %d times before it was open", n)
	}
	_, _ = io.Copy(io.Discard, s) // until it is reset
	expectReset(t, c)
	if r := p.wait(t, "closed", 1)[0]; r.stats.End != relay.EndRevoked {
		t.Errorf("ended with %q", r.stats.End)
	}
}

// TestIntegrity sends different bytes both ways over many connections at once,
// in pieces of all sizes, with slow readers among them, and compares sums.
func TestIntegrity(t *testing.T) { onEach(t, testIntegrity) }

func testIntegrity(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, match: to(b.addr)})
	const conns = 40
	h := hello(t, host)
	var servers, clients sync.WaitGroup
	servers.Go(func() {
		for range conns {
			var s *net.TCPConn
			select {
			case s = <-b.conns:
			case <-time.After(patience):
				t.Error("a connection does not come to the backend")
				return
			}
			servers.Go(func() {
				defer s.Close()
				_ = s.SetDeadline(time.Now().Add(4 * patience))
				if _, err := io.ReadFull(s, make([]byte, len(h))); err != nil {
					t.Error(err)
					return
				}
				if err := exchange(s); err != nil {
					t.Errorf("backend: %v", err)
				}
			})
		}
	})
	for i := range conns {
		clients.Go(func() {
			var d net.Dialer
			conn, err := d.DialContext(t.Context(), "tcp", p.addr)
			if err != nil {
				t.Error(err)
				return
			}
			c := conn.(*net.TCPConn)
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(4 * patience))
			if _, err := c.Write(h); err != nil {
				t.Error(err)
				return
			}
			if err := exchange(c); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	clients.Wait()
	servers.Wait()
	var up, down int64
	for _, r := range p.wait(t, "closed", conns) {
		if r.stats.End != relay.EndFinished {
			t.Errorf("ended with %q", r.stats.End)
		}
		up, down = up+r.stats.Up, down+r.stats.Down
	}
	if up < conns*int64(len(h)) || down == 0 {
		t.Errorf("counted %d up and %d down", up, down)
	}
}

// exchange sends a random amount of random bytes and their sum, and reads and
// checks the same from the other side.
func exchange(c *net.TCPConn) error {
	sent := make(chan error, 1)
	go func() {
		random := rand.NewChaCha8([32]byte(binary.BigEndian.AppendUint64(make([]byte, 24), rand.Uint64())))
		sum := sha256.New()
		left := rand.IntN(1 << 20)
		for left > 0 {
			piece := make([]byte, min(left, 1+rand.IntN(100_000)))
			_, _ = random.Read(piece) // it cannot fail
			left -= len(piece)
			sum.Write(piece)
			if _, err := c.Write(piece); err != nil {
				sent <- err
				return
			}
		}
		_, err := c.Write(sum.Sum(nil))
		sent <- errors.Join(err, c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	body := len(got) - sha256.Size
	if body < 0 {
		return fmt.Errorf("%d bytes", len(got))
	}
	if sum := sha256.Sum256(got[:body]); !bytes.Equal(sum[:], got[body:]) {
		return fmt.Errorf("wrong sum over %d bytes", body)
	}
	return nil
}
