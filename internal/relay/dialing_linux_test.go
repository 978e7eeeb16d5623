package relay_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/relay"
)

// deaf is a backend that answers nobody who dials it until it hears again: its
// queue is full.
type deaf struct {
	addr   netip.AddrPort
	ln     *net.TCPListener
	filler net.Conn
	conns  chan *net.TCPConn
}

func listenDeaf(t *testing.T) *deaf {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, syscall.Listen(fd, 0))
	f := os.NewFile(uintptr(fd), "deaf")
	ln, err := net.FileListener(f)
	must(t, err)
	must(t, f.Close())
	// To listen again would make the queue longer, which Go does not.
	d := &deaf{ln: ln.(*net.TCPListener), addr: ln.Addr().(*net.TCPAddr).AddrPort()}
	t.Cleanup(func() { _ = ln.Close() })
	d.filler = dial(t, d.addr.String())
	return d
}

// dialed waits until somebody dials the backend in vain.
func (d *deaf) dialed(t *testing.T) {
	t.Helper()
	at := d.addr.Addr().As4()
	const synSent = "02"
	row := fmt.Sprintf(" %08X:%04X %s ", binary.LittleEndian.Uint32(at[:]), d.addr.Port(), synSent)
	eventually(t, func() bool {
		b, err := os.ReadFile("/proc/net/tcp")
		must(t, err)
		return strings.Contains(string(b), row)
	}, func() { t.Fatal("not dialed") })
}

// hear has the backend answer again.
func (d *deaf) hear(t *testing.T) {
	t.Helper()
	d.conns = make(chan *net.TCPConn, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := d.ln.AcceptTCP()
			if err != nil {
				return
			}
			d.conns <- c
		}
	}()
	t.Cleanup(func() {
		_ = d.ln.Close()
		<-done
		close(d.conns)
		for c := range d.conns {
			_ = c.Close()
		}
	})
}

// expect is what must come first, by whatever connection.
func (d *deaf) expect(t *testing.T, want []byte) {
	t.Helper()
	for {
		select {
		case c := <-d.conns:
			t.Cleanup(func() { _ = c.Close() })
			if c.RemoteAddr().String() == d.filler.LocalAddr().String() {
				continue
			}
			must(t, c.SetDeadline(time.Now().Add(patience)))
			got := make([]byte, len(want))
			n, _ := io.ReadFull(c, got)
			if n == 0 {
				continue // it was reset
			}
			if string(got[:n]) != string(want) {
				t.Errorf("the backend got %d bytes, %.8q; want %.8q", n, got, want)
			}
			return
		case <-time.After(patience):
			t.Fatal("nothing comes")
		}
	}
}

// expectNothing tells that nothing has come so far.
func (d *deaf) expectNothing(t *testing.T) {
	t.Helper()
	marker := []byte("marker")
	send(t, dial(t, d.addr.String()), marker)
	d.expect(t, marker)
}

// While a backend is dialed, the rules change: it gets no byte by those that
// are out of force.
func TestRulesChangeWhileDialing(t *testing.T) { onEach(t, testRulesChangeWhileDialing) }

func testRulesChangeWhileDialing(t *testing.T, kind relay.Kind) {
	t.Parallel()
	h := hello(t, host)
	begin := func(t *testing.T, timeout time.Duration, before, after relay.Verdict, d *deaf) (*proxy, *net.TCPConn) {
		t.Helper()
		var changed atomic.Bool
		p := start(t, setup{kind: kind, config: relay.Config{DialTimeout: timeout}, match: func(*relay.Arrival) relay.Verdict {
			if changed.Load() {
				return after
			}
			return before
		}})
		c := dial(t, p.addr)
		send(t, c, h)
		d.dialed(t)
		changed.Store(true)
		p.Recheck()
		return p, c
	}
	lead := func(prologue string, to ...netip.AddrPort) relay.Verdict {
		return relay.Verdict{Prologue: []byte(prologue), Backends: to}
	}
	denied := relay.Verdict{Deny: postern.DenyNotAuthorized}
	refused := func(t *testing.T, p *proxy, c *net.TCPConn) {
		t.Helper()
		expectRefusal(t, c)
		if r := p.wait(t, "refused", 1)[0]; r.verdict.Deny != denied.Deny {
			t.Errorf("refused for %q (%v)", r.verdict.Deny, r.verdict.Cause)
		}
		if n := len(p.records); n != 1 {
			t.Errorf("%d records, want the refusal", n)
		}
	}
	t.Run("denied", func(t *testing.T) {
		t.Parallel()
		d := listenDeaf(t)
		p, c := begin(t, patience, lead("old", d.addr), denied, d)
		d.hear(t)
		refused(t, p, c)
		d.expectNothing(t)
	})
	t.Run("denied before the next", func(t *testing.T) {
		t.Parallel()
		d, b := listenDeaf(t), listen(t)
		p, c := begin(t, 2*time.Second, lead("old", d.addr, b.addr), denied, d)
		refused(t, p, c)
		if len(b.conns) > 0 {
			t.Error("the next backend was dialed")
		}
	})
	t.Run("elsewhere", func(t *testing.T) {
		t.Parallel()
		d, b := listenDeaf(t), listen(t)
		begin(t, patience, lead("old", d.addr), lead("new", b.addr), d)
		d.hear(t)
		expect(t, b.accept(t), append([]byte("new"), h...))
		d.expectNothing(t)
	})
	t.Run("as another", func(t *testing.T) {
		t.Parallel()
		d := listenDeaf(t)
		p, _ := begin(t, patience, lead("old", d.addr), lead("new", d.addr), d)
		d.hear(t)
		d.expect(t, append([]byte("new"), h...))
		p.wait(t, "opened", 1)
	})
	t.Run("the same", func(t *testing.T) {
		t.Parallel()
		d, b := listenDeaf(t), listen(t)
		begin(t, patience, lead("old", d.addr), lead("old", b.addr, d.addr), d)
		d.hear(t)
		d.expect(t, append([]byte("old"), h...))
	})
}
