package nameserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// portTries is how often a port is chosen that turns out to be free for
	// TCP but not for UDP.
	portTries = 16
	// closeGrace is how long Close lets answers under way be sent.
	closeGrace = 250 * time.Millisecond
)

// errClosed is what a server that was started or closed before says.
var errClosed = errors.New("nameserver: was started or closed before")

// door is one address, with a server for each transport.
type door struct {
	addr    netip.AddrPort
	udp     net.PacketConn
	tcp     *limiter
	servers []*dns.Server
}

// Start listens on all addresses and answers until [Server.Close]; the context
// bounds only the opening. A server starts once. On an error nothing is left
// open.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != made {
		return errClosed
	}
	s.state = started
	for _, addr := range s.config.Listen {
		d, err := s.open(ctx, addr)
		if err == nil {
			s.doors = append(s.doors, d)
			err = s.serve(d)
		}
		if err != nil {
			s.shut()
			return fmt.Errorf("nameserver: listen on %s: %w", addr, err)
		}
	}
	return nil
}

// Addrs are the addresses that it listens on, in the order of [Config.Listen]
// and with the ports that were chosen; none before [Server.Start].
func (s *Server) Addrs() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []netip.AddrPort
	for _, d := range s.doors {
		out = append(out, d.addr)
	}
	return out
}

// Wait blocks until the server is closed, and then returns nil, or until one
// of its listeners fails, which it returns; the others go on until Close.
func (s *Server) Wait() error {
	<-s.ended
	return s.failure
}

func (s *Server) end(err error) {
	s.ending.Do(func() {
		s.failure = err
		close(s.ended)
	})
}

// Close stops listening, lets answers under way be sent for a quarter of a
// second, and returns when nothing is left. It may be called more than once,
// and before Start.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut()
}

// shut closes all doors; s.mu is held.
func (s *Server) shut() {
	s.state = closed
	s.end(nil)
	var closing sync.WaitGroup
	for _, d := range s.doors {
		closing.Go(d.close)
	}
	closing.Wait()
	s.doors = nil
	s.work.Wait()
}

// open makes a door, whose servers do not run yet.
func (s *Server) open(ctx context.Context, addr netip.AddrPort) (*door, error) {
	tcp, udp, err := listenBoth(ctx, addr)
	if err != nil {
		return nil, err
	}
	d := &door{
		addr: netip.AddrPortFrom(addr.Addr(), tcp.Addr().(*net.TCPAddr).AddrPort().Port()),
		udp:  udp,
		tcp:  newLimiter(tcp, s.config, s.metrics),
	}
	for _, transport := range []string{transportUDP, transportTCP} {
		f := &front{server: s, transport: transport}
		srv := &dns.Server{
			Handler:        f,
			MsgAcceptFunc:  f.accept,
			MsgInvalidFunc: f.invalid,
			DecorateReader: func(r dns.Reader) dns.Reader { return tidyReader{r} },
			UDPSize:        ednsSize,
			ReadTimeout:    s.config.Timeout,
			IdleTimeout:    func() time.Duration { return s.config.IdleTimeout },
		}
		if transport == transportUDP {
			srv.PacketConn = udp
		} else {
			srv.Listener = d.tcp
		}
		d.servers = append(d.servers, srv)
	}
	return d, nil
}

// listenBoth opens the same port for TCP and UDP.
func listenBoth(ctx context.Context, addr netip.AddrPort) (net.Listener, net.PacketConn, error) {
	var lc net.ListenConfig
	for try := 1; ; try++ {
		tcp, err := lc.Listen(ctx, "tcp", addr.String())
		if err != nil {
			return nil, nil, err
		}
		at := netip.AddrPortFrom(addr.Addr(), tcp.Addr().(*net.TCPAddr).AddrPort().Port())
		udp, err := lc.ListenPacket(ctx, "udp", at.String())
		if err == nil {
			return tcp, udp, nil
		}
		if err = errors.Join(err, tcp.Close()); addr.Port() != 0 || try == portTries {
			return nil, nil, err
		}
	}
}

// serve runs a door's servers and returns when both answer, or with the reason
// why one does not.
func (s *Server) serve(d *door) error {
	for _, srv := range d.servers {
		up, ended := make(chan struct{}), make(chan error, 1)
		srv.NotifyStartedFunc = func() { close(up) }
		s.work.Go(func() {
			err := srv.ActivateAndServe()
			ended <- err
			if err != nil {
				s.end(fmt.Errorf("nameserver: the listener on %s: %w", d.addr, err))
			}
		})
		select {
		case <-up: // a shutdown before this would be refused
		case err := <-ended:
			return err
		}
	}
	return nil
}

// close stops both servers. Their errors say that one was not running, or that
// a client did not take its answer in time: there is nothing to do about it.
func (d *door) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	var closing sync.WaitGroup
	for _, srv := range d.servers {
		closing.Go(func() { _ = srv.ShutdownContext(ctx) })
	}
	closing.Wait()
	_ = d.udp.Close()
	_ = d.tcp.Close()
	d.tcp.cut()
}
