package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Config sets the engine's limits. A zero value means the default.
type Config struct {
	// Logger is told what concerns no single connection. Default: nothing is
	// logged.
	Logger *slog.Logger

	// HelloTimeout bounds the time from accepting a connection to the end of
	// its ClientHello. Default: 5 s.
	HelloTimeout time.Duration
	// DialTimeout bounds the connecting to one backend. Default: 3 s.
	DialTimeout time.Duration
	// IdleTimeout resets a connection on which nothing moves, either way; a
	// side that takes less than a buffer of 36 KB in that time counts as not
	// moving. Default: 350 s, which is that of an AWS Network Load Balancer.
	IdleTimeout time.Duration
	// KeepAlive is the time between TCP keepalive probes, both towards the
	// load balancer and the backend. Default: 60 s.
	KeepAlive time.Duration
	// AlertLinger bounds how long a refused connection is kept, reading and
	// discarding, so that the alert is not destroyed by a reset. Default: 1 s.
	AlertLinger time.Duration
	// MaxConnections bounds the connections at one time; more are refused
	// with DenyOverload. Each takes two file descriptors, and up to four more
	// while it moves much data. Default: 20,000.
	MaxConnections int
	// MaxPerClient bounds those of one client, which is a VPC endpoint where
	// the PROXY header names one, or else an IPv4 address or an IPv6 network
	// of 64 bits; more are refused with DenyOverload. Default: a quarter of
	// MaxConnections.
	MaxPerClient int
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	orDefault(&c.HelloTimeout, 5*time.Second)
	orDefault(&c.DialTimeout, 3*time.Second)
	orDefault(&c.IdleTimeout, 350*time.Second)
	orDefault(&c.KeepAlive, time.Minute)
	orDefault(&c.AlertLinger, time.Second)
	orDefault(&c.MaxConnections, 20_000)
	orDefault(&c.MaxPerClient, max(c.MaxConnections/4, 1))
	return c
}

func orDefault[T time.Duration | int](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// ErrShutdown is what [Engine.Serve] returns on an engine that was shut down
// before.
var ErrShutdown = errors.New("relay: engine is shut down")

// Engine relays connections. Make one with [New].
type Engine struct {
	config Config
	start  time.Time
	dialer net.Dialer
	// ctx ends when open connections are to be cut.
	ctx    context.Context
	cancel context.CancelFunc

	// generation grows with every Recheck, so that a connection that was
	// judged before one and opened after it is judged again.
	generation atomic.Uint64

	mu        sync.Mutex
	closed    bool
	listeners map[Acceptor]struct{}
	sessions  map[*session]struct{}
	lingering int            // refused for overload, not yet closed
	shares    map[payer]int  // connections of each client that has some
	running   sync.WaitGroup // accept loops and sessions; Add only with mu held and closed unset
}

// New makes an engine. It starts nothing.
func New(c Config) *Engine {
	c = c.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	return &Engine{
		config:    c,
		start:     time.Now(),
		dialer:    net.Dialer{Timeout: c.DialTimeout, KeepAliveConfig: keepAlive(c.KeepAlive)},
		ctx:       ctx,
		cancel:    cancel,
		listeners: map[Acceptor]struct{}{},
		sessions:  map[*session]struct{}{},
		shares:    map[payer]int{},
	}
}

func keepAlive(every time.Duration) net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: every, Interval: every, Count: 3}
}

// Listen opens a TCP listener whose connections have the engine's keepalive.
func (e *Engine) Listen(ctx context.Context, address string) (*net.TCPListener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive(e.config.KeepAlive)}
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return ln.(*net.TCPListener), nil
}

// Serve accepts connections on ln, has each judged by match and reports it to
// o. It blocks until [Engine.Shutdown], and then returns nil, or until the
// listener fails for good. It may be called for several listeners at once.
func (e *Engine) Serve(ln Listener, match Match, o Observer) error {
	if !e.register(ln.Acceptor) {
		if err := ln.Close(); err != nil {
			return errors.Join(ErrShutdown, err)
		}
		return ErrShutdown
	}
	defer e.unregister(ln.Acceptor)
	return e.acceptAll(&ln, match, o)
}

func (e *Engine) register(a Acceptor) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.listeners[a] = struct{}{}
	e.running.Add(1)
	return true
}

func (e *Engine) unregister(a Acceptor) {
	_ = a.Close() // it may have been closed by Shutdown
	e.mu.Lock()
	delete(e.listeners, a)
	e.mu.Unlock()
	e.running.Done()
}

// Shutdown closes the listeners, waits for open connections to end by
// themselves until ctx is done, and then resets those that are left. It
// returns when nothing is left, with ctx's error if something was cut. It may
// be called more than once.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	for a := range e.listeners {
		_ = a.Close() // its accept loop sees it and ends
	}
	e.mu.Unlock()

	drained := make(chan struct{})
	go func() {
		e.running.Wait()
		close(drained)
	}()
	select {
	case <-drained:
		e.cancel()
		return nil
	case <-ctx.Done():
	}
	e.cancel()
	for _, s := range e.snapshot() {
		s.cut(EndShutdown)
	}
	<-drained
	return fmt.Errorf("relay: connections were cut: %w", context.Cause(ctx))
}

// Recheck judges every open connection again and cuts those that are no
// longer admitted, or would no longer be admitted as what the backend was told
// they are. It blocks until all are judged.
func (e *Engine) Recheck() {
	e.generation.Add(1)
	for _, s := range e.snapshot() {
		if v := s.admitted.Load(); v != nil && !s.stillAdmitted(v) {
			s.cut(EndRevoked)
		}
	}
}

func (s *session) stillAdmitted(before *Verdict) bool {
	now := s.match(&s.arrival)
	return now.Deny == "" && bytes.Equal(now.Prologue, before.Prologue)
}

// Connections is the number of connections at this time, in any state.
func (e *Engine) Connections() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.sessions)
}

func (e *Engine) snapshot() []*session {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*session, 0, len(e.sessions))
	for s := range e.sessions {
		all = append(all, s)
	}
	return all
}

// now is the time since the engine was made, for measuring idleness.
func (e *Engine) now() int64 { return int64(time.Since(e.start)) }
