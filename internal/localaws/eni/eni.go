// Package eni is the data path of the stand-in for AWS: one listener on an
// address of an interface endpoint, and behind it what a Network Load Balancer
// does with a TCP connection that comes by PrivateLink. It forwards to a
// target that answers, with the PROXY protocol v2 header in front of the
// client's first bytes, and relays both ways with half-close and reset.
//
// It knows no endpoint, state or security group: whoever opens a listener
// decides by Config.Admit.
package eni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultIdleTimeout is AWS's for TCP flows through an NLB.
const DefaultIdleTimeout = 350 * time.Second

// DefaultDialTimeout bounds each attempt to reach a target.
const DefaultDialTimeout = 3 * time.Second

// Config says what a listener does. Addr, Admit and Header are required.
type Config struct {
	Addr    netip.AddrPort
	Targets []netip.AddrPort // tried in turn, each connection starting at the next one
	// Registered tells whether a target takes new connections; nil: all do.
	Registered func(target netip.AddrPort) bool
	Source     netip.Addr // the load balancer node's address; zero: the system chooses
	// Admit is asked once for each new connection; refused ones are reset
	// and never seen by a target. It must not block.
	Admit func(client netip.AddrPort) bool
	// Header appends what goes in front of the client's first bytes.
	Header      func(dst []byte, client, endpoint netip.AddrPort) []byte
	IdleTimeout time.Duration // zero: DefaultIdleTimeout
	DialTimeout time.Duration // zero: DefaultDialTimeout
	Logger      *slog.Logger  // nil: discarded
}

// Listener is an open network interface. Close it once; it is safe to Close
// again.
type Listener struct {
	cfg    Config
	ln     *net.TCPListener
	ctx    context.Context // ends dials when the listener closes
	cancel context.CancelFunc
	next   atomic.Uint32
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[*net.TCPConn]struct{}
}

// Listen opens the listener and serves it until Close.
func Listen(ctx context.Context, cfg Config) (*Listener, error) {
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = DefaultIdleTimeout
	}
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = DefaultDialTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", cfg.Addr.String())
	if err != nil {
		return nil, fmt.Errorf("network interface %s: %w", cfg.Addr, err)
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("network interface %s: not a TCP listener", cfg.Addr), ln.Close())
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &Listener{cfg: cfg, ln: tcp, ctx: ctx, cancel: cancel, conns: map[*net.TCPConn]struct{}{}}
	l.wg.Go(l.accept)
	return l, nil
}

// Addr is where the listener listens.
func (l *Listener) Addr() netip.AddrPort { return addrPort(l.ln.Addr()) }

// Close stops listening, resets every connection, and returns when nothing of
// the listener is left.
func (l *Listener) Close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		l.cancel()
		if err := l.ln.Close(); err != nil {
			l.cfg.Logger.Warn("network interface did not close", "address", l.cfg.Addr.String(), "error", err)
		}
		for c := range l.conns {
			reset(c)
		}
	}
	l.mu.Unlock()
	l.wg.Wait()
}

func (l *Listener) accept() {
	for {
		client, err := l.ln.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, or a connection that ended in the queue.
			l.cfg.Logger.Warn("network interface could not accept", "address", l.cfg.Addr.String(), "error", err)
			select {
			case <-l.ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if !l.cfg.Admit(addrPort(client.RemoteAddr())) {
			reset(client)
			continue
		}
		if !l.track(client) {
			reset(client)
			return
		}
		l.wg.Go(func() {
			defer l.forget(client)
			l.serve(client)
		})
	}
}

func (l *Listener) serve(client *net.TCPConn) {
	target, err := l.dial()
	if err != nil {
		reset(client)
		if l.ctx.Err() == nil {
			l.cfg.Logger.Warn("no target of the load balancer answers", "address", l.cfg.Addr.String(), "error", err)
		}
		return
	}
	if !l.track(target) {
		reset(client)
		reset(target)
		return
	}
	defer l.forget(target)
	header := l.cfg.Header(nil, addrPort(client.RemoteAddr()), addrPort(client.LocalAddr()))
	relay(client, target, header, l.cfg.IdleTimeout)
}

// dial tries every target once, the first one in turn.
func (l *Listener) dial() (*net.TCPConn, error) {
	n := len(l.cfg.Targets)
	if n == 0 {
		return nil, errors.New("no target is registered")
	}
	d := net.Dialer{Timeout: l.cfg.DialTimeout}
	if l.cfg.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(l.cfg.Source, 0))
		d.Control = lateBind
	}
	first := int(l.next.Add(1)-1) % n
	var errs []error
	for i := range n {
		target := l.cfg.Targets[(first+i)%n]
		if l.cfg.Registered != nil && !l.cfg.Registered(target) {
			continue
		}
		c, err := d.DialContext(l.ctx, "tcp", target.String())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		tcp, ok := c.(*net.TCPConn)
		if ok {
			return tcp, nil
		}
		errs = append(errs, c.Close())
	}
	if len(errs) == 0 {
		return nil, errors.New("no target is registered")
	}
	return nil, errors.Join(errs...)
}

// track registers a connection to be reset by Close, unless that happened.
func (l *Listener) track(c *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *Listener) forget(c *net.TCPConn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	_ = c.Close() // mostly closed before
}

// reset closes a connection with RST, so that the peer never takes it for a
// regular end.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only on a closed connection
	_ = c.Close()
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
