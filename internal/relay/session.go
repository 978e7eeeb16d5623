package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/proxyproto"
)

// session is one accepted connection, from accept to close.
type session struct {
	engine   *Engine
	listener *Listener
	match    Match
	observer Observer
	arrival  Arrival
	client   *net.TCPConn

	admitted atomic.Pointer[Verdict] // set when the backend is connected
	active   atomic.Int64            // Engine.now of the last byte that moved

	// Guarded by the engine's mu.
	payer   payer // whose share it counts in, where counted is set
	counted bool
	lingers bool // refused for overload, and in no budget

	mu      sync.Mutex
	backend *net.TCPConn
	end     End // "" until the first reason to end
}

// errNothingAsked is a connection that ended without a byte of its own, or a
// load balancer's health check.
var errNothingAsked = errors.New("nothing was asked")

// run is the life of a connection.
func (s *session) run() {
	defer s.client.Close() //nolint:errcheck // nobody is left to tell
	if s.listener.ProxyProtocol && !s.listener.trusts(s.arrival.Peer.Addr()) {
		s.refuse(Verdict{Deny: postern.DenyUntrustedSource})
		return
	}
	if !s.listener.ProxyProtocol && !s.claim() {
		return
	}
	b := smallBuffer()
	defer func() { b.free() }()
	hello, deny, err := s.peek(&b)
	switch {
	case errors.Is(err, errNothingAsked):
		s.observer.Probed(&s.arrival)
		return
	case errors.Is(err, errOverShare):
		return // refused already
	case deny != "":
		s.refuse(Verdict{Deny: deny, Cause: err})
		return
	case err != nil:
		return // the client went away
	}
	generation := s.engine.generation.Load()
	v := s.match(&s.arrival)
	if v.Deny != "" {
		s.refuse(v)
		return
	}
	address, err := s.connect(&v, hello)
	if err != nil {
		if s.engine.ctx.Err() == nil {
			v.Deny, v.Cause = postern.DenyBackendDown, err
			s.refuse(v)
		}
		return
	}
	up := int64(len(hello))
	b.free()
	s.active.Store(s.engine.now())
	s.admitted.Store(&v)
	if s.engine.generation.Load() != generation && !s.stillAdmitted(&v) {
		s.cut(EndRevoked) // the rules changed while the backend was dialed
	}
	s.observer.Opened(&s.arrival, v)
	stats := s.relay(up)
	stats.Backend, stats.Duration = address, time.Since(s.arrival.At)
	s.observer.Closed(&s.arrival, v, stats)
}

// peek reads the PROXY header and the ClientHello and fills the arrival in.
// It returns the bytes from the hello on. A denial says why not; without one,
// an error means that the client is gone. What is parsed once is parsed again
// only when so much more has come that it can be complete.
func (s *session) peek(b *buffer) (hello []byte, deny postern.Denial, err error) {
	if err := s.client.SetReadDeadline(s.arrival.At.Add(s.engine.config.HelloTimeout)); err != nil {
		return nil, "", fmt.Errorf("set deadline: %w", err)
	}
	headerDone, start, n, need := !s.listener.ProxyProtocol, 0, 0, 0
	for {
		if n == len(b.bytes) {
			b.grow(n)
		}
		got, err := s.client.Read(b.bytes[n:])
		n += got
		if got == 0 && err != nil {
			deny, err := s.ended(headerDone, n-start, err)
			return nil, deny, err
		}
		if !headerDone {
			h, size, err := proxyproto.Parse(b.bytes[:n])
			switch {
			case errors.Is(err, proxyproto.ErrIncomplete):
				continue
			case err != nil:
				return nil, postern.DenyBadProxyHeader, err
			case h.Local:
				return nil, "", errNothingAsked
			}
			s.arrival.Proxy, headerDone, start = h, true, size
			if !s.claim() {
				return nil, "", errOverShare
			}
		}
		if n == start || n-start < need {
			continue
		}
		var h clienthello.Hello
		h, need, err = clienthello.Parse(b.bytes[start:n])
		switch {
		case err == nil:
			s.arrival.Hello = h
			return b.bytes[start:n], "", nil
		case errors.Is(err, clienthello.ErrNotTLS):
			return nil, postern.DenyNotTLS, err
		case !errors.Is(err, clienthello.ErrIncomplete):
			return nil, postern.DenyBadHello, err
		}
	}
}

// ended judges a connection that gave no more bytes before its hello was
// complete; have is how many it gave of the part that was being read.
func (s *session) ended(headerDone bool, have int, err error) (postern.Denial, error) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return postern.DenyHelloTimeout, nil
	case !errors.Is(err, io.EOF):
		return "", err
	case have == 0:
		return "", errNothingAsked
	case !headerDone:
		return postern.DenyBadProxyHeader, io.ErrUnexpectedEOF
	default:
		return postern.DenyBadHello, io.ErrUnexpectedEOF
	}
}

// connect finds the first backend that takes the prologue and the hello.
func (s *session) connect(v *Verdict, hello []byte) (netip.AddrPort, error) {
	first := make([]byte, 0, len(v.Prologue)+len(hello))
	first = append(append(first, v.Prologue...), hello...)
	err := errors.New("the host has no backend")
	var failures []error
	for _, address := range v.Backends {
		conn, dialErr := s.dial(address, first)
		if dialErr == nil {
			s.mu.Lock()
			s.backend = conn
			cut := s.end != ""
			s.mu.Unlock()
			if cut { // before there was a backend to close
				reset(conn)
				return address, net.ErrClosed
			}
			return address, nil
		}
		failures = append(failures, fmt.Errorf("backend %v: %w", address, dialErr))
	}
	if len(failures) > 0 {
		err = errors.Join(failures...)
	}
	return netip.AddrPort{}, err
}

func (s *session) dial(address netip.AddrPort, first []byte) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(s.engine.ctx, s.engine.config.DialTimeout)
	defer cancel()
	conn, err := s.engine.dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, address)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	err = conn.SetWriteDeadline(deadline)
	if err == nil {
		_, err = conn.Write(first)
	}
	if err == nil {
		err = conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		reset(conn)
		return nil, err
	}
	return conn, nil
}

// cut resets both sides. The first reason is the one that is reported.
func (s *session) cut(why End) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == "" {
		s.end = why
	}
	reset(s.client)
	if s.backend != nil {
		reset(s.backend)
	}
}

// reset closes a connection so that its peer sees a reset, not an end.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only on what is closed already
	_ = c.Close()
}
