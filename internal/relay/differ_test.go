package relay_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/relay"
)

// TestEnginesAgree plays random connections on every engine and on a model of
// what must come of them: random segments, delays, slow readers, half-closes
// and resets by both sides, hellos that are cut up, cut off or no hellos. Client,
// backend and observer must see the same with each.
//
// POSTERN_RUNS sets how many (200; CI plays 2,000 and make fuzz 100,000), and
// POSTERN_SEED plays one again that was found.
func TestEnginesAgree(t *testing.T) {
	t.Parallel()
	runs, first := number(t, "POSTERN_RUNS", 200), rand.Uint64()>>1
	if s := os.Getenv("POSTERN_SEED"); s != "" {
		runs, first = 1, uint64(number(t, "POSTERN_SEED", 0))
	}
	var stages []*stage
	for _, kind := range kinds() {
		stages = append(stages, newStage(t, kind))
	}
	h := hello(t, host)
	next := atomic.Uint64{}
	var players sync.WaitGroup
	for range 24 {
		players.Go(func() {
			for !t.Failed() {
				i := next.Add(1) - 1
				if i >= uint64(runs) {
					return
				}
				s := write(first+i, h)
				want := s.expected()
				for _, on := range stages {
					if d := cmp.Diff(want, on.play(s)); d != "" {
						t.Errorf("%s, POSTERN_SEED=%d: %s\nwhat was to be (-) and what was (+):\n%s", on.kind, s.seed, s, d)
					}
				}
			}
		})
	}
	players.Wait()
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	must(t, err)
	return n
}

// script is a connection to be played.
type script struct {
	seed    uint64
	first   []byte // header and hello, or what is not quite that
	hello   int    // bytes of it that are the hello's
	refused postern.Denial
	steps   []step
	end     string // "ends", "closes" or "resets", by whom:
	ender   int
	synced  bool // before a reset, what was sent has arrived
	readers [2]reading
}

// step is what one side does next. A step that is synced is over when the
// other side has read what was sent so far.
type step struct {
	by     int
	send   int
	finish bool // it ends its stream
	synced bool
}

// reading is how a side reads.
type reading struct {
	piece int
	slow  bool
}

const (
	byClient  = 0
	byBackend = 1
)

func (s script) String() string {
	return fmt.Sprintf("%d first bytes (refused %q), steps %+v, %s by %d (synced %v), readers %+v", len(s.first), s.refused, s.steps, s.end, s.ender, s.synced, s.readers)
}

// write makes a script from a seed.
func write(seed uint64, h []byte) script {
	r := rand.New(rand.NewPCG(seed, 0))
	s := script{seed: seed, hello: len(h), first: slices.Concat(header(), h)}
	if r.IntN(8) == 0 {
		spoil(&s, r, h)
		return s
	}
	for i := range s.readers {
		s.readers[i] = reading{piece: []int{500, 4096, 64 << 10, 1 << 20}[r.IntN(4)], slow: r.IntN(8) == 0}
	}
	finished := [2]bool{}
	for range 1 + r.IntN(6) {
		x := step{by: r.IntN(2), synced: r.IntN(2) == 0}
		if finished[x.by] {
			continue
		}
		if finished[x.by] = r.IntN(8) == 0; finished[x.by] {
			x.finish = true
		} else {
			x.send = size(r)
		}
		s.steps = append(s.steps, x)
	}
	s.ender, s.end = r.IntN(2), "ends"
	if !finished[byClient] || !finished[byBackend] {
		s.end = []string{"ends", "closes", "resets"}[r.IntN(3)]
	}
	s.synced = r.IntN(4) > 0
	return s
}

// size is how much is sent at a time: mostly little, and now and then so much
// that it goes by splice, and that sockets are full.
func size(r *rand.Rand) int {
	switch r.IntN(40) {
	case 0, 1, 2:
		return 1
	case 3, 4, 5:
		return 1 + r.IntN(200<<10)
	case 6:
		return 1 + r.IntN(3<<20)
	default:
		return 1 + r.IntN(4000)
	}
}

// spoil makes a first flight that must be refused.
func spoil(s *script, r *rand.Rand, h []byte) {
	switch r.IntN(6) {
	case 0:
		s.first[20]++ // the header's checksum
		s.refused = postern.DenyBadProxyHeader
	case 1:
		s.first, s.refused = s.first[:1+r.IntN(99)], postern.DenyBadProxyHeader
	case 2:
		s.first, s.refused = s.first[:101+r.IntN(len(h)-2)], postern.DenyBadHello
	case 3:
		s.first, s.refused = slices.Concat(header(), header(), h), postern.DenyNotTLS
	case 4:
		s.first, s.refused = append(header(), "GET / HTTP/1.1\r\n\r\n"...), postern.DenyNotTLS
	case 5:
		s.first, s.refused = slices.Concat(header(), h[:5], []byte{2}, h[6:]), postern.DenyBadHello
	}
}

// outcome is what each side and the observer saw.
type outcome struct {
	Told     string // "refused: REASON", or the end
	Up, Down int64
	Got      [2]string // sums of what client and backend received
	End      [2]string // "end", "reset", "" where it did not look any more
}

// expected is what must come of a script. Of what is on its way when a side
// resets without waiting, nothing is expected but that it is a part of what
// was sent.
func (s script) expected() outcome {
	if s.refused != "" {
		return outcome{Told: "refused: " + string(s.refused), Got: [2]string{sum([]byte(alert)), ""}, End: [2]string{"end", ""}}
	}
	o := outcome{Told: string(relay.EndFinished), End: [2]string{"end", "end"}}
	sent := s.sent()
	o.Up, o.Down = int64(s.hello+len(sent[byClient])), int64(len(sent[byBackend]))
	o.Got = [2]string{sum(sent[byBackend]), sum(sent[byClient])}
	if s.end != "ends" {
		o.End[s.ender] = ""
	}
	if s.end == "resets" {
		o.Told = string(relay.EndReset)
		o.End[1-s.ender] = "reset"
		if !s.synced {
			return outcome{Told: o.Told, Got: [2]string{"a part", "a part"}, End: o.End}
		}
	}
	return o
}

// sent is what each side sends in all.
func (s script) sent() [2][]byte {
	var all [2][]byte
	for by := range all {
		n := 0
		for _, x := range s.steps {
			if x.by == by {
				n += x.send
			}
		}
		all[by] = make([]byte, n)
		fill := rand.NewChaCha8([32]byte(binary.BigEndian.AppendUint64(make([]byte, 24), s.seed*2+uint64(by))))
		_, _ = fill.Read(all[by])
	}
	return all
}

func sum(b []byte) string {
	h := fnv.New64a()
	_, _ = h.Write(b)
	return fmt.Sprintf("%d bytes, sum %x", len(b), h.Sum64())
}

// stage is an engine on which scripts are played.
type stage struct {
	kind  relay.Kind
	addr  string
	mu    sync.Mutex
	calls map[uint64]*call
}

// call is one play: what the backend gets, and what the observer was told.
type call struct {
	server chan *net.TCPConn
	told   chan outcome
}

func newStage(t *testing.T, kind relay.Kind) *stage {
	t.Helper()
	s := &stage{kind: kind, calls: map[uint64]*call{}}
	b := listen(t)
	e := relay.New(relay.Config{Kind: kind})
	ln, err := e.Listen(t.Context(), "127.0.0.1:0")
	must(t, err)
	s.addr = ln.Addr().String()
	var work sync.WaitGroup
	work.Go(func() {
		// The client's port tells which call it is, in the prologue.
		match := func(a *relay.Arrival) relay.Verdict {
			return relay.Verdict{Backends: []netip.AddrPort{b.addr}, Prologue: binary.BigEndian.AppendUint64(nil, uint64(a.Peer.Port()))}
		}
		if err := e.Serve(relay.Listener{Acceptor: ln, Name: "test", ProxyProtocol: true, Sources: []netip.Prefix{local}}, match, s); err != nil {
			t.Error(err)
		}
	})
	done := make(chan struct{})
	work.Go(func() {
		for {
			select {
			case <-done:
				return
			case c := <-b.conns:
				work.Go(func() { s.deliver(c) })
			}
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		close(done)
		work.Wait()
	})
	return s
}

// deliver finds out which call a backend's connection belongs to.
func (s *stage) deliver(c *net.TCPConn) {
	id := make([]byte, 8)
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, id); err != nil {
		_ = c.Close()
		return
	}
	s.call(binary.BigEndian.Uint64(id)).server <- c
}

func (s *stage) call(id uint64) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[id]
	if c == nil {
		c = &call{server: make(chan *net.TCPConn, 1), told: make(chan outcome, 1)}
		s.calls[id] = c
	}
	return c
}

func (s *stage) of(a *relay.Arrival) *call { return s.call(uint64(a.Peer.Port())) }

func (s *stage) Probed(a *relay.Arrival) { s.of(a).told <- outcome{Told: "probed"} }
func (s *stage) Refused(a *relay.Arrival, v relay.Verdict) {
	s.of(a).told <- outcome{Told: "refused: " + string(v.Deny)}
}
func (s *stage) Opened(*relay.Arrival, relay.Verdict) {}
func (s *stage) Closed(a *relay.Arrival, _ relay.Verdict, st relay.Stats) {
	s.of(a).told <- outcome{Told: string(st.End), Up: st.Up, Down: st.Down}
}

// play plays a script and tells what came of it.
func (s *stage) play(x script) outcome {
	conn, err := (&net.Dialer{}).Dial("tcp", s.addr)
	if err != nil {
		return outcome{Told: err.Error()}
	}
	client := conn.(*net.TCPConn)
	defer client.Close()
	_ = client.SetDeadline(time.Now().Add(patience))
	id := uint64(client.LocalAddr().(*net.TCPAddr).Port)
	c := s.call(id)
	defer func() {
		s.mu.Lock()
		delete(s.calls, id)
		s.mu.Unlock()
	}()
	r := rand.New(rand.NewPCG(x.seed, 1))
	if err := pieces(r, client, x.first); err != nil && x.refused == "" {
		return outcome{Told: "first bytes: " + err.Error()}
	}
	var o outcome
	if x.refused != "" {
		_ = client.CloseWrite() // it may have been closed already
		got, err := io.ReadAll(client)
		o.Got[byClient], o.End[byClient] = sum(got), ended(err)
	} else {
		select {
		case server := <-c.server:
			defer server.Close()
			if got, err := readExactly(server, x.hello); err != nil || !bytes.Equal(got, x.first[len(x.first)-x.hello:]) {
				return outcome{Told: fmt.Sprintf("the backend got another hello, %v", err)}
			}
			o = dialog(x, client, server)
		case <-time.After(patience):
			return outcome{Told: "the backend is not reached"}
		}
	}
	select {
	case told := <-c.told:
		o.Told = told.Told
		if x.refused == "" && (x.end != "resets" || x.synced) {
			o.Up, o.Down = told.Up, told.Down
		}
	case <-time.After(patience):
		o.Told = "nothing"
	}
	return o
}

func readExactly(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// ended names the end of a stream.
func ended(err error) string {
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return "end"
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return "reset"
	}
	return err.Error()
}

// pieces writes b in random segments, with random delays.
func pieces(r *rand.Rand, c *net.TCPConn, b []byte) error {
	most := []int{1 + len(b)/20, 1500, 70_000, len(b) + 1}[r.IntN(4)]
	for len(b) > 0 {
		n := min(len(b), 1+r.IntN(most))
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
		if b = b[n:]; r.IntN(8) == 0 {
			<-time.After(time.Duration(r.IntN(300)) * time.Microsecond)
		}
	}
	return nil
}
