package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-net/postern"
)

// session is one accepted connection of the goroutine engine, from accept to
// close.
type session struct {
	engine   *goroutines
	listener *Listener
	match    Match
	observer Observer
	peek
	client *net.TCPConn
	place  place

	givenUp    atomic.Bool // others need the memory of its hello
	generation uint64      // of the rules that it was judged by

	address  netip.AddrPort          // of the backend; set before admitted is
	admitted atomic.Pointer[Verdict] // set when the backend is connected
	active   atomic.Int64            // goroutines.now of the last byte that moved

	mu      sync.Mutex
	backend *net.TCPConn
	end     End // "" until the first reason to end
}

// run is the life of a connection.
func (s *session) run(step progress, v Verdict) {
	defer s.client.Close() //nolint:errcheck // nobody is left to tell
	if step == refused {
		s.refuse(v)
		return
	}
	b := smallBuffer()
	defer func() { b.free() }()
	hello, ok := s.read(&b, step)
	if !ok {
		return
	}
	first := s.arrival
	first.HelloBytes = hello
	address, err := netip.AddrPort{}, errOvertaken
	for errors.Is(err, errOvertaken) {
		s.generation = s.engine.generation.Load()
		v = s.match(&first)
		if v.Deny != "" {
			s.refuseAs(&first, v)
			return
		}
		address, err = s.connect(&first, &v)
	}
	if err != nil {
		if s.engine.ctx.Err() == nil {
			v.Deny, v.Cause = postern.DenyBackendDown, err
			s.refuseAs(&first, v)
		}
		return
	}
	s.address = address
	up := int64(len(hello))
	s.active.Store(s.engine.now())
	// Of the verdict, what is needed later: the rest may be part of a table of
	// rules that is long out of force by then.
	kept := Verdict{Organization: strings.Clone(v.Organization), Tenant: strings.Clone(v.Tenant), Prologue: v.Prologue}
	s.admitted.Store(&kept)
	if s.engine.generation.Load() != s.generation && !s.stillAdmitted(&kept) {
		s.cut(EndRevoked) // the rules changed while the backend took the first bytes
	}
	s.observer.Opened(&first, v)
	b.free()
	stats := s.relay(up)
	stats.Backend, stats.Duration = address, time.Since(s.arrival.At)
	s.observer.Closed(&s.arrival, Verdict{Organization: kept.Organization, Tenant: kept.Tenant}, stats)
}

// read reads until the arrival can be judged, and returns the bytes from the
// hello on; or it deals with a connection that does not get so far.
func (s *session) read(b *buffer, p progress) (hello []byte, ok bool) {
	if s.client.SetReadDeadline(s.arrival.At.Add(s.engine.config.HelloTimeout)) != nil {
		return nil, false
	}
	n := 0
	for v := (Verdict{}); ; p, v = s.take(b.bytes[:n]) {
		for p == header {
			if !s.claim() {
				return nil, false
			}
			p, v = s.take(b.bytes[:n])
		}
		if p == more {
			if n == len(b.bytes) {
				s.engine.large.add(s)
				defer s.engine.large.remove(s)
				b.grow(n)
			}
			got, err := s.client.Read(b.bytes[n:])
			n += got
			switch {
			case got > 0:
				continue
			case errors.Is(err, os.ErrDeadlineExceeded):
				p, v = refused, late()
				if s.givenUp.Load() {
					v = overloaded()
				}
			case errors.Is(err, io.EOF):
				p, v = s.ended(n)
			default:
				return nil, false // the client went away
			}
		}
		switch p {
		case complete:
			return b.bytes[s.start:n], true
		case nothing:
			s.observer.Probed(&s.arrival)
		default:
			b.free()
			s.refuse(v)
		}
		return nil, false
	}
}

// claim counts the session in its client's share, or refuses it.
func (s *session) claim() bool {
	switch s.engine.limits.claim(&s.place, payerOf(s.listener, &s.arrival)) {
	case overload:
		s.refuse(overloaded())
	case flooded:
		s.refuseAtOnce(overloaded())
	default:
		return true
	}
	return false
}

// errOvertaken says that the rules have changed since the arrival was judged, and
// by those of now it goes elsewhere, or nowhere.
var errOvertaken = errors.New("judged by rules out of force")

// stillLeads tells whether the arrival goes to a backend by the rules of now,
// so that none gets a byte by rules out of force.
func (s *session) stillLeads(a *Arrival, v *Verdict, to netip.AddrPort) bool {
	generation := s.engine.generation.Load()
	if generation == s.generation {
		return true
	}
	now := s.match(a)
	if !v.stands(&now, to) {
		return false
	}
	s.generation = generation
	return true
}

// connect finds the first backend that takes the prologue and the hello.
func (s *session) connect(a *Arrival, v *Verdict) (netip.AddrPort, error) {
	first := make([]byte, 0, len(v.Prologue)+len(a.HelloBytes))
	first = append(append(first, v.Prologue...), a.HelloBytes...)
	err := errors.New("the host has no backend")
	var failures []error
	for _, address := range v.Backends {
		conn, dialErr := s.dial(a, v, address, first)
		if errors.Is(dialErr, errOvertaken) {
			return address, dialErr
		}
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
		if s.engine.ctx.Err() == nil && v.Failed != nil {
			v.Failed(address)
		}
		failures = append(failures, fmt.Errorf("backend %v: %w", address, dialErr))
	}
	if len(failures) > 0 {
		err = errors.Join(failures...)
	}
	return netip.AddrPort{}, err
}

func (s *session) dial(a *Arrival, v *Verdict, address netip.AddrPort, first []byte) (*net.TCPConn, error) {
	if !s.stillLeads(a, v, address) {
		return nil, errOvertaken
	}
	ctx, cancel := context.WithTimeout(s.engine.ctx, s.engine.config.DialTimeout)
	defer cancel()
	conn, err := s.engine.dialer.DialTCP(ctx, "tcp", source(s.engine.config.Source), address)
	if err != nil {
		return nil, err
	}
	if !s.stillLeads(a, v, address) {
		reset(conn)
		return nil, errOvertaken
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

// source is an address to bind to, with any port; the zero address binds to
// none.
func source(a netip.Addr) netip.AddrPort {
	if !a.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, 0)
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
