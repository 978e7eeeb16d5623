package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-net/postern/internal/relay"
)

// tunnel is a connection of the connect listener, from accept to close.
type tunnel struct {
	client net.Conn     // what the workload speaks to: TCP, or TLS over it
	raw    *net.TCPConn // below it
	active atomic.Int64 // time of the last byte that moved, in nanoseconds

	ends    atomic.Int32 // directions that have ended
	broken  atomic.Bool  // a side is gone, and the other hears what it said last
	release func()       // its place in the tenant's share, once; nil: it has none yet

	mu       sync.Mutex
	end      relay.End // "" until the first reason to end
	endpoint *net.TCPConn
	// admitted judges it again; nil until it was admitted.
	admitted func() bool
}

// cut resets both sides. The first reason is the one that is reported.
func (t *tunnel) cut(why relay.End) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.end == "" {
		t.end = why
	}
	reset(t.raw)
	if t.endpoint != nil {
		reset(t.endpoint)
	}
}

// join gives the tunnel its other side, unless it was cut already. From then on
// recheck judges it; the table that was in force before is the caller's to mind.
func (t *tunnel) join(endpoint *net.TCPConn, admitted func() bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.end != "" {
		reset(endpoint)
		return false
	}
	t.endpoint, t.admitted = endpoint, admitted
	return true
}

// ended says how it ended.
func (t *tunnel) ended() relay.End {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.end == "" {
		return relay.EndFinished
	}
	return t.end
}

// reset closes a connection so that its peer sees a reset, not an end.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only on what is closed already
	_ = c.Close()
}

// buffers are the memory of what moves.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// relay carries bytes both ways until both sides are done or something ends
// it, and tells how many. What the workload sent first has been sent on.
func (t *tunnel) relay(idle time.Duration) (up, down int64) {
	t.active.Store(time.Now().UnixNano())
	watch := t.watch(idle)
	defer watch.Stop()
	var both sync.WaitGroup
	both.Go(func() { up = t.pump(t.endpoint, t.client) })
	down = t.pump(t.client, t.endpoint)
	both.Wait()
	return up, down
}

// watch cuts the tunnel when nothing has moved for the idle timeout. The caller
// stops the timer.
func (t *tunnel) watch(idle time.Duration) *time.Timer {
	var timer *time.Timer
	var mu sync.Mutex // the timer may fire before it is assigned
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(idle, func() {
		mu.Lock()
		defer mu.Unlock()
		if left := idle - time.Since(time.Unix(0, t.active.Load())); left > 0 {
			timer.Reset(left)
			return
		}
		t.cut(relay.EndIdle)
	})
	return timer
}

// pump carries one direction and passes its end on.
func (t *tunnel) pump(dst, src net.Conn) (n int64) {
	b := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(b)
	for {
		got, err := src.Read(b[:])
		if got > 0 {
			t.active.Store(time.Now().UnixNano())
			wrote, werr := dst.Write(b[:got])
			n += int64(wrote)
			t.active.Store(time.Now().UnixNano())
			if werr != nil {
				t.partFrom(dst, src)
				return n
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			t.passEnd(dst)
			return n
		default:
			t.cut(relay.EndReset)
			return n
		}
	}
}

// passEnd ends the stream towards a side whose other side has ended it.
func (t *tunnel) passEnd(dst net.Conn) {
	if t.ends.Add(1) == 2 {
		t.release() // before anybody can see that it is over
	}
	if t.broken.Load() {
		t.cut(relay.EndReset)
		return
	}
	half, ok := dst.(interface{ CloseWrite() error })
	if ok && half.CloseWrite() == nil {
		return
	}
	// TLS of the proxy gives its own last record five seconds, and a workload
	// that reads slowly may have more than that to read before.
	if dst != t.client || t.raw.CloseWrite() != nil {
		t.cut(relay.EndReset)
	}
}

// partFrom ends a direction whose receiver is found gone by what it was sent.
// That one may have said something before it went, such as why it takes no
// more: a server that refuses a large request answers, and closes with the rest
// unread. The other direction passes it on to listener, in lastWords, and then
// the tunnel is cut.
func (t *tunnel) partFrom(gone, listener net.Conn) {
	t.broken.Store(true)
	until := time.Now().Add(lastWords)
	if t.ends.Load() > 0 || gone.SetReadDeadline(until) != nil || listener.SetWriteDeadline(until) != nil {
		t.cut(relay.EndReset)
	}
}

// lastWords bounds how long a side may take to hear what the other has said
// before it went.
const lastWords = time.Second

// tunnels are all that are open, in any state.
type tunnels struct {
	mu        sync.Mutex
	closed    bool
	closing   chan struct{}   // closed with it
	ctx       context.Context // ends when what is left is cut
	cancel    context.CancelFunc
	open      map[*tunnel]struct{}
	listeners map[net.Listener]struct{}
	clients   map[netip.Addr]int
	tenants   map[string]int
	running   sync.WaitGroup // Add only with mu held and closed unset
}

func newTunnels() *tunnels {
	ctx, cancel := context.WithCancel(context.Background())
	return &tunnels{closing: make(chan struct{}), ctx: ctx, cancel: cancel, open: map[*tunnel]struct{}{}, listeners: map[net.Listener]struct{}{}, clients: map[netip.Addr]int{}, tenants: map[string]int{}}
}

// recheck cuts the tunnels that are no longer admitted.
func (ts *tunnels) recheck() {
	for _, t := range ts.all() {
		t.mu.Lock()
		admitted := t.admitted
		t.mu.Unlock()
		if admitted != nil && !admitted() {
			t.cut(relay.EndRevoked)
		}
	}
}

func (ts *tunnels) all() []*tunnel {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	all := make([]*tunnel, 0, len(ts.open))
	for t := range ts.open {
		all = append(all, t)
	}
	return all
}

// listen registers a listener to be closed; false: it is too late.
func (ts *tunnels) listen(ln net.Listener) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed {
		return false
	}
	ts.listeners[ln] = struct{}{}
	ts.running.Add(1)
	return true
}

func (ts *tunnels) unlisten(ln net.Listener) {
	ts.mu.Lock()
	delete(ts.listeners, ln)
	ts.mu.Unlock()
	ts.running.Done()
}

func (ts *tunnels) isClosed() bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.closed
}

// take counts a tunnel in, in its client's share; false: there are too many, or
// it is too late.
func (ts *tunnels) take(t *tunnel, client netip.Addr, l Limits) (ok, closed bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	switch {
	case ts.closed:
		return false, true
	case len(ts.open) >= l.MaxConnections || ts.clients[client] >= l.MaxPerClient:
		return false, false
	}
	ts.open[t] = struct{}{}
	ts.clients[client]++
	ts.running.Add(1)
	return true, false
}

func (ts *tunnels) release(t *tunnel, client netip.Addr) {
	ts.mu.Lock()
	delete(ts.open, t)
	decrease(ts.clients, client)
	ts.mu.Unlock()
	ts.running.Done()
}

// takeFor counts a tunnel in its tenant's share.
func (ts *tunnels) takeFor(tenant string, most int) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.tenants[tenant] >= most {
		return false
	}
	ts.tenants[tenant]++
	return true
}

func (ts *tunnels) releaseFor(tenant string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	decrease(ts.tenants, tenant)
}

func decrease[K comparable](m map[K]int, k K) {
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}

// wait waits, for a shutdown at most.
func (ts *tunnels) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ts.closing:
	}
}

func (ts *tunnels) shutdown(ctx context.Context) error {
	ts.mu.Lock()
	if !ts.closed {
		ts.closed = true
		close(ts.closing)
	}
	for ln := range ts.listeners {
		_ = ln.Close() // its accept loop sees it and ends
	}
	ts.mu.Unlock()
	drained := make(chan struct{})
	go func() {
		ts.running.Wait()
		close(drained)
	}()
	defer ts.cancel()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
	}
	ts.cancel()
	for _, t := range ts.all() {
		t.cut(relay.EndShutdown)
	}
	<-drained
	return fmt.Errorf("egress: connections were cut: %w", context.Cause(ctx))
}
