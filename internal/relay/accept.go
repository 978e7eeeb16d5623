package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/postern-net/postern"
)

const (
	firstAcceptPause = 5 * time.Millisecond
	maxAcceptPause   = time.Second
	// acceptLogEvery limits what a machine that is out of descriptors logs.
	acceptLogEvery = 10 * time.Second
	// maxLingering bounds the connections that are refused for overload and
	// wait for their client to read the alert; beyond it they are closed at
	// once.
	maxLingering = 256
)

// acceptAll accepts until the engine is shut down or the listener fails.
func (e *Engine) acceptAll(ln *Listener, match Match, o Observer) error {
	var pause time.Duration
	var logged time.Time
	for {
		conn, err := ln.AcceptTCP()
		switch {
		case err == nil:
			pause = 0
			e.admit(ln, conn, match, o)
			continue
		case e.isClosed():
			return nil
		case !passing(err):
			return fmt.Errorf("relay: %s listener: %w", ln.Name, err)
		}
		pause = min(max(2*pause, firstAcceptPause), maxAcceptPause)
		if time.Since(logged) >= acceptLogEvery {
			logged = time.Now()
			e.config.Logger.LogAttrs(context.Background(), slog.LevelError, "cannot accept connections; trying again",
				slog.String("listener", ln.Name), slog.Any("error", err), slog.Duration("pause", pause))
		}
		select {
		case <-time.After(pause):
		case <-e.ctx.Done():
			return nil
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

func (e *Engine) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// admit starts a session for a connection, or refuses it when there are too
// many.
func (e *Engine) admit(ln *Listener, conn *net.TCPConn, match Match, o Observer) {
	s := &session{
		engine: e, listener: ln, match: match, observer: o, client: conn,
		arrival: Arrival{Listener: ln.Name, At: time.Now(), Peer: addrPort(conn.RemoteAddr()), Local: addrPort(conn.LocalAddr())},
	}
	e.mu.Lock()
	over := len(e.sessions)-e.lingering >= e.config.MaxConnections
	switch {
	case e.closed:
		e.mu.Unlock()
		_ = conn.Close()
		return
	case over && e.lingering >= maxLingering:
		e.mu.Unlock()
		s.refuseAtOnce()
		return
	case over:
		s.lingers = true
		e.lingering++
	}
	e.sessions[s] = struct{}{}
	e.running.Add(1)
	e.mu.Unlock()

	go func() {
		defer e.remove(s)
		if over {
			s.refuse(Verdict{Deny: postern.DenyOverload})
			return
		}
		s.run()
	}()
}

func (e *Engine) remove(s *session) {
	e.mu.Lock()
	delete(e.sessions, s)
	if s.lingers {
		e.lingering--
	}
	e.release(s)
	e.mu.Unlock()
	e.running.Done()
}

// addrPort gives IPv4 addresses in their own form, also on a listener for
// both families, so that prefixes match them.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
