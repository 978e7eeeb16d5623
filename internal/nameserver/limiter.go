package nameserver

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// acceptPause is how long a listener waits when the machine is out of
// descriptors or memory.
const acceptPause = 20 * time.Millisecond

// limiter is a TCP listener that bounds the connections at one time, in all and
// of one source, and the time that a write to one takes. Those that are too
// many are closed at once: nearly every answer fits into UDP.
type limiter struct {
	net.Listener
	max, maxPerSource int
	timeout           time.Duration
	metrics           *metrics

	closing sync.Once
	closed  chan struct{}

	mu      sync.Mutex
	open    map[*limited]struct{}
	sources map[netip.Prefix]int
}

func newLimiter(ln net.Listener, c Config, m *metrics) *limiter {
	return &limiter{
		Listener: ln, max: c.MaxConnections, maxPerSource: c.MaxPerSource, timeout: c.Timeout, metrics: m,
		closed: make(chan struct{}), open: map[*limited]struct{}{}, sources: map[netip.Prefix]int{},
	}
}

// Accept returns the next connection that is within the bounds.
func (l *limiter) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		switch {
		case err == nil:
			if c, ok := l.admit(conn); ok {
				return c, nil
			}
			l.metrics.turned.Inc()
			conn.Close()
		case !passing(err):
			return nil, err
		default:
			select {
			case <-time.After(acceptPause):
			case <-l.closed:
				return nil, net.ErrClosed
			}
		}
	}
}

// passing tells errors of accept that another try may not meet: the machine
// is out of descriptors or memory, or the client has gone already.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (l *limiter) admit(conn net.Conn) (net.Conn, bool) {
	source := sourceOf(conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.max || l.sources[source] >= l.maxPerSource {
		return nil, false
	}
	c := &limited{Conn: conn, limiter: l, source: source}
	l.open[c] = struct{}{}
	l.sources[source]++
	l.metrics.open.Inc()
	return c, true
}

// sourceOf is the network that counts as one client: an IPv4 address, or the
// 64 bits of an IPv6 address that a host cannot choose.
func sourceOf(conn net.Conn) netip.Prefix {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	a := remote.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// Close stops listening; connections go on.
func (l *limiter) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// cut closes all connections.
func (l *limiter) cut() {
	l.mu.Lock()
	open := slices.Collect(maps.Keys(l.open))
	l.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // it may have ended by itself
	}
}

func (l *limiter) release(c *limited) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
	if l.sources[c.source]--; l.sources[c.source] == 0 {
		delete(l.sources, c.source)
	}
	l.metrics.open.Dec()
}

// limited is a connection that a limiter counts.
type limited struct {
	net.Conn
	limiter *limiter
	source  netip.Prefix
	closing sync.Once
}

// Write sends one answer within the time that it may take. A client that does
// not read loses the connection, since half an answer cannot be mended.
func (c *limited) Write(b []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(c.limiter.timeout))
	n, err := c.Conn.Write(b)
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

// Close ends the connection and makes room for another.
func (c *limited) Close() error {
	err := c.Conn.Close()
	c.closing.Do(func() { c.limiter.release(c) })
	return err
}
