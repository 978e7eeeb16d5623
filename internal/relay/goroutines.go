package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// goroutines is the engine that every system can have: two goroutines per
// connection, the standard library's sockets, and splice(2) where that has it.
type goroutines struct {
	config Config
	limits *limits
	start  time.Time
	dialer net.Dialer
	// ctx ends when open connections are to be cut.
	ctx    context.Context
	cancel context.CancelFunc

	// generation grows with every recheck, so that a connection that was
	// judged before one and opened after it is judged again.
	generation atomic.Uint64

	mu        sync.Mutex
	closed    bool
	listeners map[Acceptor]struct{}
	sessions  map[*session]struct{}
	large     larges
	running   sync.WaitGroup // accept loops and sessions; Add only with mu held and closed unset
}

func newGoroutines(c Config, l *limits) *goroutines {
	ctx, cancel := context.WithCancel(context.Background())
	return &goroutines{
		config:    c,
		limits:    l,
		start:     time.Now(),
		dialer:    net.Dialer{Timeout: c.DialTimeout, KeepAliveConfig: keepAlive(c.KeepAlive), Control: dialControl},
		ctx:       ctx,
		cancel:    cancel,
		listeners: map[Acceptor]struct{}{},
		sessions:  map[*session]struct{}{},
	}
}

func (e *goroutines) serve(ln *Listener, match Match, o Observer) error {
	if !e.register(ln.Acceptor) {
		if err := ln.Close(); err != nil {
			return errors.Join(ErrShutdown, err)
		}
		return ErrShutdown
	}
	defer e.unregister(ln.Acceptor)
	if l, ok := ln.Acceptor.(*net.TCPListener); ok {
		if raw, err := l.SyscallConn(); err == nil {
			_ = urgentInline("", "", raw) // accept tells what is wrong with a listener
		}
	}
	return acceptAll(e.ctx, ln, e.config.Logger, e.isClosed, func(conn *net.TCPConn) { e.admit(ln, conn, match, o) })
}

func (e *goroutines) register(a Acceptor) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.listeners[a] = struct{}{}
	e.running.Add(1)
	return true
}

func (e *goroutines) unregister(a Acceptor) {
	_ = a.Close() // it may have been closed by Shutdown
	e.mu.Lock()
	delete(e.listeners, a)
	e.mu.Unlock()
	e.running.Done()
}

func (e *goroutines) shutdown(ctx context.Context) error {
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

func (e *goroutines) recheck() {
	e.generation.Add(1)
	for _, s := range e.snapshot() {
		if v := s.admitted.Load(); v != nil && !s.stillAdmitted(v) {
			s.cut(EndRevoked)
		}
	}
}

func (s *session) stillAdmitted(before *Verdict) bool {
	now := s.match(&s.arrival)
	return now.Deny == "" && bytes.Equal(now.Prologue, before.Prologue) && now.keeps(s.address)
}

func (e *goroutines) snapshot() []*session {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*session, 0, len(e.sessions))
	for s := range e.sessions {
		all = append(all, s)
	}
	return all
}

// now is the time since the engine was made, for measuring idleness.
func (e *goroutines) now() int64 { return int64(time.Since(e.start)) }

func (e *goroutines) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// admit starts a session for a connection, or refuses it when there are too
// many.
func (e *goroutines) admit(ln *Listener, conn *net.TCPConn, match Match, o Observer) {
	s := &session{
		engine: e, listener: ln, match: match, observer: o, client: conn,
		peek: peek{arrival: Arrival{Listener: ln.Name, At: time.Now(), Peer: addrPort(conn.RemoteAddr()), Local: addrPort(conn.LocalAddr())}},
	}
	step, v := s.begin(ln)
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		_ = conn.Close()
		return
	}
	result := e.limits.enter(&s.place, step == refused)
	if result != admitted && step != refused {
		step, v = refused, overloaded()
	}
	if result == flooded {
		e.mu.Unlock()
		s.refuseAtOnce(v)
		return
	}
	e.sessions[s] = struct{}{}
	e.running.Add(1)
	e.mu.Unlock()

	go func() {
		defer e.remove(s)
		s.run(step, v)
	}()
}

func (e *goroutines) remove(s *session) {
	e.mu.Lock()
	delete(e.sessions, s)
	e.limits.leave(&s.place)
	e.mu.Unlock()
	e.running.Done()
}
