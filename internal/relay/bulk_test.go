package relay_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/postern-net/postern/internal/relay"
)

// One large transfer each way at the same time, by their sums: 1 GB, or a
// little where there is no time.
func TestBulk(t *testing.T) { onEach(t, testBulk) }

func testBulk(t *testing.T, kind relay.Kind) {
	t.Parallel()
	size := int64(scaled(24<<20, 1<<30))
	b := listen(t)
	c, s := connect(t, start(t, setup{kind: kind, match: to(b.addr)}), b)
	var work sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{c, s}, {s, c}} {
		var want, got string
		work.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { want = sendSum(t, way[0], size) })
			both.Go(func() { got = readSum(t, way[1]) })
			both.Wait()
			if got != want {
				t.Errorf("sum %s became %s", want, got)
			}
		})
	}
	work.Wait()
}

// A slow reader gets everything, stops the other side meanwhile, and is not
// taken for idle.
func TestSlowReader(t *testing.T) { onEach(t, testSlowReader) }

func testSlowReader(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, match: to(b.addr), config: relay.Config{IdleTimeout: 2 * time.Second}})
	c, s := connect(t, p, b)
	must(t, c.SetReadBuffer(16<<10))
	const size = 16 << 20 // more than sockets and pipes hold
	var work sync.WaitGroup
	var want string
	work.Go(func() { want = sendSum(t, s, size) })
	h, piece := sha256.New(), make([]byte, 1<<20)
	for range size >> 20 {
		if _, err := io.ReadFull(c, piece); err != nil {
			t.Fatal(err)
		}
		_, _ = h.Write(piece)
		<-time.After(50 * time.Millisecond)
	}
	expectEOF(t, c)
	work.Wait()
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("sum %s became %s", want, got)
	}
}

// Nothing at all is a transfer too, whoever ends first.
func TestEmpty(t *testing.T) { onEach(t, testEmpty) }

func testEmpty(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, match: to(b.addr)})
	for n, swap := range []bool{false, true} {
		first, second := connect(t, p, b)
		if swap {
			first, second = second, first
		}
		must(t, first.CloseWrite())
		expectEOF(t, second)
		must(t, second.CloseWrite())
		expectEOF(t, first)
		if r := p.wait(t, "closed", n+1)[n]; r.stats.End != relay.EndFinished || r.stats.Down != 0 {
			t.Errorf("ended with %+v", r.stats)
		}
	}
}

// Many senders that each send a burst and then wait for an answer to the last
// byte of it: the end of a burst must not be kept back for more to come.
func TestTailsAreReleased(t *testing.T) { onEach(t, testTailsAreReleased) }

func testTailsAreReleased(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, match: to(b.addr)})
	c, s := connect(t, p, b)
	data := make([]byte, 3<<20)
	for round := range 20 {
		size := len(data) - rand.IntN(1<<20)
		began := time.Now()
		var work sync.WaitGroup
		work.Go(func() {
			if _, err := c.Write(data[:size]); err != nil {
				t.Error(err)
			}
		})
		if _, err := io.ReadFull(s, make([]byte, size)); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		work.Wait()
		send(t, s, []byte{1})
		expect(t, c, []byte{1})
		if d := time.Since(began); d > patience/4 {
			t.Errorf("round %d took %v", round, d)
		}
	}
}

func sendSum(t *testing.T, c *net.TCPConn, size int64) string {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(10*patience)))
	h := sha256.New()
	src := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{byte(size)}), size), h)
	if _, err := io.CopyBuffer(struct{ io.Writer }{c}, src, make([]byte, 256<<10)); err != nil {
		t.Error(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func readSum(t *testing.T, c *net.TCPConn) string {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(10*patience)))
	h := sha256.New()
	if _, err := io.Copy(h, c); err != nil {
		t.Error(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
