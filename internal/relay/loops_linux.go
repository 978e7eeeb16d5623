package relay

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const haveEpoll = true

// passingHere are passing errors that only Linux has.
var passingHere = []syscall.Errno{syscall.ENONET}

// loops is the engine of Linux: a few event loops on epoll(7), each the only
// one to touch its connections. What others want of them is posted to them.
type loops struct {
	config Config
	limits *limits
	start  time.Time
	tick   time.Duration // how exact deadlines are
	seed   maphash.Seed
	// ctx ends when open connections are to be cut.
	ctx    context.Context
	cancel context.CancelFunc

	// generation grows with every recheck, so that a connection that was
	// judged before one and opened after it is judged again.
	generation atomic.Uint64
	stopping   atomic.Bool   // no connection begins any more
	drained    chan struct{} // receives when the last connection has left an engine that is stopping

	mu      sync.Mutex
	closed  bool
	each    []*loop // empty until something is served
	served  map[*served]struct{}
	serving sync.WaitGroup // calls of serve
	running sync.WaitGroup // loops
}

// served is a listener of the engine, with who judges and who is told.
type served struct {
	*Listener
	match    Match
	observer Observer
	fd       int32          // its socket, of our own; -1 for a listener that accepts by itself
	local    netip.AddrPort // what connections are made to; invalid where it is not the same for all
	ended    chan error     // receives once, when it is to end
	inLoops  sync.WaitGroup // loops that accept from it
}

func (s *served) finish(err error) {
	select {
	case s.ended <- err:
	default: // the first reason is enough
	}
}

// newLoops makes the engine and starts nothing.
func newLoops(c Config, l *limits) mover {
	ctx, cancel := context.WithCancel(context.Background())
	return &loops{
		config: c, limits: l, start: time.Now(), tick: tickOf(c), seed: maphash.MakeSeed(), ctx: ctx, cancel: cancel,
		drained: make(chan struct{}, 1), served: map[*served]struct{}{},
	}
}

// tickOf is how exact the deadlines have to be: an eighth of the shortest,
// within reason.
func tickOf(c Config) time.Duration {
	shortest := min(c.HelloTimeout, c.DialTimeout, c.IdleTimeout, c.AlertLinger)
	return min(max(shortest/8, 5*time.Millisecond), 125*time.Millisecond)
}

func (e *loops) serve(ln *Listener, match Match, o Observer) error {
	s := &served{Listener: ln, match: match, observer: o, fd: -1, ended: make(chan error, 1)}
	if err := e.register(s); err != nil {
		return errors.Join(err, ln.Close())
	}
	defer e.unregister(s)
	if _, ok := ln.Acceptor.(*net.TCPListener); !ok {
		return acceptAll(e.ctx, ln, e.config.Logger, e.stopping.Load, func(c *net.TCPConn) { e.adopt(s, c) })
	}
	if err := s.takeSocket(e.config.KeepAlive); e.stopping.Load() {
		return nil // it was closed under our hands
	} else if err != nil {
		return fmt.Errorf("relay: %s listener: %w", ln.Name, err)
	}
	for _, l := range e.each {
		s.inLoops.Add(1)
		if !l.post(func() { l.listen(s) }) {
			s.inLoops.Done()
		}
	}
	err := <-s.ended
	for _, l := range e.each {
		l.post(func() { l.unlisten(s) })
	}
	s.inLoops.Wait()
	if err != nil {
		return fmt.Errorf("relay: %s listener: %w", ln.Name, err)
	}
	return nil
}

// register starts the loops if this is the first listener.
func (e *loops) register(s *served) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrShutdown
	}
	for len(e.each) < e.config.Loops {
		l, err := newLoop(e, len(e.each))
		if err != nil {
			return fmt.Errorf("relay: start an event loop: %w", err)
		}
		e.each = append(e.each, l)
		e.running.Go(l.run)
	}
	e.served[s] = struct{}{}
	e.serving.Add(1)
	return nil
}

func (e *loops) unregister(s *served) {
	_ = s.Close() // it may be closed already
	if s.fd >= 0 {
		sysClose(s.fd)
	}
	e.mu.Lock()
	delete(e.served, s)
	e.mu.Unlock()
	e.serving.Done()
}

// takeSocket takes the listening socket out of Go's hands, which would be
// woken by every connection, and sets what connections inherit from it.
func (s *served) takeSocket(every time.Duration) error {
	ln := s.Acceptor.(*net.TCPListener)
	raw, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	var dupErr error
	err = raw.Control(func(fd uintptr) { s.fd, dupErr = dup(fd) })
	if err = errors.Join(err, dupErr); err != nil {
		return err
	}
	// A transparent listener takes what is for other addresses than its own.
	transparent, err := unix.GetsockoptInt(int(s.fd), unix.SOL_IP, unix.IP_TRANSPARENT)
	if at := addrPort(ln.Addr()); err == nil && transparent == 0 && !at.Addr().IsUnspecified() {
		s.local = at
	}
	seconds := int32(max(every/time.Second, 1))
	sysSet(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	sysSet(s.fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) // as loop.event says
	setKeepAlive(s.fd, seconds)
	_ = ln.Close() // it may have been closed meanwhile, by shutdown
	return nil
}

func dup(fd uintptr) (int32, error) {
	n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	return int32(n), err
}

func setKeepAlive(fd, seconds int32) {
	sysSet(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	sysSet(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds)
	sysSet(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds)
	sysSet(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveProbes)
}

// adopt takes a connection that a listener accepted by itself.
func (e *loops) adopt(s *served, c *net.TCPConn) {
	defer c.Close() //nolint:errcheck // it lives on in its duplicate
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	fd := int32(-1)
	_ = raw.Control(func(old uintptr) { fd, err = dup(old) }) // it fails on a closed one only
	if fd < 0 || err != nil {
		return // no descriptor is left; its client sees the end
	}
	a := arrived{s, fd, addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())}
	l := e.lightest(e.each[0])
	l.load.Add(1)
	if !l.post(func() { l.admit(a) }) {
		sysClose(fd)
	}
}

// lightest is the loop that should take one more connection: the one that
// accepted it, unless another has clearly less to do.
func (e *loops) lightest(mine *loop) *loop {
	best, least := mine, mine.load.Load()
	least -= 4 + least/4
	for _, l := range e.each {
		if n := l.load.Load(); n < least {
			best, least = l, n
		}
	}
	return best
}

func (e *loops) recheck() {
	e.generation.Add(1)
	var judging sync.WaitGroup
	for _, l := range e.all() {
		judging.Add(1)
		if !l.post(func() { l.judgeAll(judging.Done) }) {
			judging.Done()
		}
	}
	judging.Wait()
}

func (e *loops) all() []*loop {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.each
}

// left is called when a connection has left.
func (e *loops) left() {
	if e.stopping.Load() && e.limits.connections() == 0 {
		select {
		case e.drained <- struct{}{}:
		default:
		}
	}
}

func (e *loops) shutdown(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	e.stopping.Store(true)
	for s := range e.served {
		s.finish(nil)
		_ = s.Close() // where it accepts by itself; it sees that and ends
	}
	e.mu.Unlock()
	e.serving.Wait()
	var err error
	for e.limits.connections() > 0 && err == nil {
		select {
		case <-e.drained:
		case <-e.ctx.Done(): // cut by another call
			err = e.ctx.Err()
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	e.cancel()
	for _, l := range e.all() {
		l.post(l.stop)
	}
	e.running.Wait()
	if err != nil {
		return fmt.Errorf("relay: connections were cut: %w", err)
	}
	return nil
}

// exhausted tells that there was no descriptor, or no memory for one.
func exhausted(e syscall.Errno) bool {
	return e == syscall.EMFILE || e == syscall.ENFILE || e == syscall.ENOBUFS || e == syscall.ENOMEM
}
