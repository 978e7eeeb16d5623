package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"

	"github.com/postern-net/postern"
)

const (
	// nameTTL is how long an answer may be kept: the address is the listener's
	// own and changes with the config file only.
	nameTTL = 30
	// negativeTTL is how long it may be kept that a name has no other record.
	negativeTTL = 5
	// ednsSize is what is announced for UDP (DNS flag day 2020).
	ednsSize = 1232

	nameTimeout = 2 * time.Second
	nameIdle    = 5 * time.Second
	nameGrace   = 250 * time.Millisecond

	// nameConnections are how many may ask by TCP at one time; more wait. Each
	// has memory for one message, 64 KiB at most.
	nameConnections = 128
)

// nameListener is for a server that bounds no writing, and asks at once for
// another connection where one could not be accepted.
type nameListener struct {
	net.Listener
	tunnels *tunnels
}

// Accept waits a little where the machine is out of descriptors.
func (l nameListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		if passing(err) {
			l.tunnels.wait(nameGrace)
		}
		return nil, err
	}
	return nameConn{c}, nil
}

type nameConn struct{ net.Conn }

// Write fails where the client takes no answers.
func (c nameConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(nameTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Names is a DNS server for one tenant's workloads. To the hostnames of the
// tenant's data connections, ready or not, it answers the address of the
// tenant's transparent listener, where a connection that is not ready is
// refused: were such a name unknown here, a workload would ask elsewhere and
// go there. About every other name it answers REFUSED; it asks nobody.
type Names struct {
	egress  *Egress
	tenant  string
	address netip.Addr
	at      netip.AddrPort

	work    sync.WaitGroup
	servers []*dns.Server
	closers []func() error
	stop    sync.Once
}

// StartNames opens the DNS server of a tenant, by UDP and TCP. An error that
// ends it later goes to fail.
func (e *Egress) StartNames(ctx context.Context, listen netip.AddrPort, tenant string, address netip.Addr, fail func(error)) (*Names, error) {
	if err := postern.CheckLabel("tenant", tenant); err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	if !address.Is4() {
		return nil, fmt.Errorf("egress: %w", postern.Invalid("address", address.String(), "not an IPv4 address", "give that of the tenant's transparent listener"))
	}
	n := &Names{egress: e, tenant: tenant, address: address}
	if err := n.open(ctx, listen, fail); err != nil {
		n.Close()
		return nil, fmt.Errorf("egress: the DNS server on %s: %w", listen, err)
	}
	return n, nil
}

func (n *Names) open(ctx context.Context, listen netip.AddrPort, fail func(error)) error {
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp", listen.String())
	if err != nil {
		return err
	}
	n.closers = append(n.closers, tcp.Close)
	n.at = netip.AddrPortFrom(listen.Addr(), tcp.Addr().(*net.TCPAddr).AddrPort().Port())
	udp, err := lc.ListenPacket(ctx, "udp", n.at.String())
	if err != nil {
		return err
	}
	n.closers = append(n.closers, udp.Close)
	for _, s := range []*dns.Server{{Listener: nameListener{netutil.LimitListener(tcp, nameConnections), n.egress.tunnels}, MaxTCPQueries: 100}, {PacketConn: udp, UDPSize: ednsSize}} {
		s.Handler, s.ReadTimeout = dns.HandlerFunc(n.answer), nameTimeout
		s.IdleTimeout = func() time.Duration { return nameIdle }
		up, ended := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(up) }
		n.work.Go(func() {
			err := s.ActivateAndServe()
			ended <- err
			if err != nil {
				fail(fmt.Errorf("the DNS server of tenant %s: %w", n.tenant, err))
			}
		})
		select {
		case <-up: // a shutdown before this would be refused
			n.servers = append(n.servers, s)
		case err := <-ended:
			return err
		}
	}
	return nil
}

// Addr is where it answers.
func (n *Names) Addr() netip.AddrPort { return n.at }

// Close stops it and returns when nothing is left. It may be called twice.
func (n *Names) Close() {
	n.stop.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), nameGrace)
		defer cancel()
		for _, s := range n.servers {
			_ = s.ShutdownContext(ctx) // what is not sent in time is not waited for
		}
		for _, c := range n.closers {
			_ = c() // most are closed already
		}
		n.work.Wait()
	})
}

func (n *Names) answer(w dns.ResponseWriter, q *dns.Msg) {
	r := n.reply(q)
	n.egress.metrics.names.WithLabelValues(dns.RcodeToString[r.Rcode]).Inc()
	if err := w.WriteMsg(r); err != nil && !errors.Is(err, net.ErrClosed) {
		n.egress.logger.Debug("a DNS answer was not sent", "tenant", n.tenant, "error", err)
	}
}

// reply makes the answer to a message. The server's default filter lets only
// queries with one question pass.
func (n *Names) reply(q *dns.Msg) *dns.Msg {
	r := new(dns.Msg).SetReply(q)
	r.Compress = true
	if opt := q.IsEdns0(); opt != nil {
		r.SetEdns0(ednsSize, false)
		if opt.Version() != 0 {
			r.Rcode = dns.RcodeBadVers
			return r
		}
	}
	if len(q.Question) != 1 || q.Opcode != dns.OpcodeQuery {
		r.Rcode = dns.RcodeRefused
		return r
	}
	t := n.egress.table.Load()
	if t == nil {
		r.Rcode = dns.RcodeServerFailure // it is not known whose the name is
		return r
	}
	asked := q.Question[0]
	c, ok := t.connections[strings.ToLower(strings.TrimSuffix(asked.Name, "."))]
	if !ok || c.Tenant != n.tenant || asked.Qclass != dns.ClassINET {
		r.Rcode = dns.RcodeRefused
		return r
	}
	r.Authoritative = true
	if asked.Qtype == dns.TypeA || asked.Qtype == dns.TypeANY {
		r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: nameTTL}, A: n.address.AsSlice()}}
		return r
	}
	// No other record: not AAAA, for only IPv4 is supported (the seeds), nor
	// HTTPS, which could lead elsewhere.
	r.Ns = []dns.RR{&dns.SOA{
		Hdr: dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: negativeTTL},
		Ns:  asked.Name, Mbox: "hostmaster." + asked.Name, Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: negativeTTL,
	}}
	return r
}
