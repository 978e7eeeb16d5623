// Package vpcdns is the DNS resolver of the stand-in for AWS: one Server is
// the resolver of one VPC (its network's base address plus two), or a public
// one. It answers some names itself, asks the authoritative servers of the
// zones it is told about, follows CNAME chains from one to the other, and
// denies everything else: it never asks the internet. Every link of a chain is
// looked up anew, in the VPC's own names first, whatever else a server put into
// its answer. Public answers are kept as long as their TTL says and no longer.
package vpcdns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Limits of one answer.
const (
	maxChain        = 8 // CNAMEs followed, then SERVFAIL
	upstreamTimeout = 2 * time.Second
	ednsSize        = 1232 // DNS Flag Day 2020
)

// Negative answers about names that belong to nobody may be kept this long, in
// seconds: a person who tries things out should not wait.
const negativeTTL = 5

// Answer is what a [Source] says about a question.
type Answer struct {
	Exists  bool     // false: NXDOMAIN
	Records []dns.RR // of the asked type, or the CNAME at that name
	// Authority is the SOA record for a negative answer; nil stands for
	// [NegativeSOA] of the root.
	Authority dns.RR
	// Failed: the zone cannot be asked; the answer is SERVFAIL.
	Failed bool
	// Cached: the answer is public, and kept by the resolver until its TTL has
	// passed.
	Cached bool
}

// Source answers questions itself; ok is false for names that are not its own.
// The name is in lower case with a trailing dot. It must be safe for
// concurrent use.
type Source func(q dns.Question) (a Answer, ok bool)

// Config of a Server. Addr is required; port 0 takes one that is free for
// both UDP and TCP.
type Config struct {
	Addr    netip.AddrPort
	Clients netip.Prefix // only these are answered; the zero value: everyone
	Sources []Source     // asked in order
	// Upstream finds the authoritative server of the zone that a name is in.
	Upstream func(name string) (netip.AddrPort, bool)
	Clock    func() time.Time // by which TTLs pass; nil: time.Now
	Logger   *slog.Logger     // nil: discarded
}

// Server is a running resolver.
type Server struct {
	cfg     Config
	addr    netip.AddrPort
	servers []*dns.Server
	cache   cache
	ctx     context.Context // ends upstream queries at Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	once    sync.Once
}

// Listen starts a resolver that runs until Close.
func Listen(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	tcp, udp, err := listenBoth(ctx, cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("resolver %s: %w", cfg.Addr, err)
	}
	addr, err := netip.ParseAddrPort(udp.LocalAddr().String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("resolver %s: %w", cfg.Addr, err), tcp.Close(), udp.Close())
	}
	s := &Server{cfg: cfg, addr: addr}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.servers = []*dns.Server{
		{PacketConn: udp, Handler: dns.HandlerFunc(s.serve)},
		{Listener: tcp, Handler: dns.HandlerFunc(s.serve), IdleTimeout: func() time.Duration { return 10 * time.Second }},
	}
	for _, srv := range s.servers {
		up := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(up) }
		s.wg.Go(func() {
			if err := srv.ActivateAndServe(); err != nil && s.ctx.Err() == nil {
				cfg.Logger.Error("resolver stopped", "address", s.addr.String(), "error", err)
			}
		})
		<-up // Shutdown before this would be refused
	}
	return s, nil
}

// listenBoth opens the same port for TCP and UDP.
func listenBoth(ctx context.Context, addr netip.AddrPort) (net.Listener, net.PacketConn, error) {
	var lc net.ListenConfig
	for try := 0; ; try++ {
		tcp, err := lc.Listen(ctx, "tcp", addr.String())
		if err != nil {
			return nil, nil, err
		}
		udp, err := lc.ListenPacket(ctx, "udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp, nil
		}
		err = errors.Join(err, tcp.Close())
		if addr.Port() != 0 || try == 9 {
			return nil, nil, err
		}
	}
}

// Addr is where the resolver answers, by UDP and TCP.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Flush forgets every kept answer.
func (s *Server) Flush() { s.cache.flush() }

// Close stops the resolver and returns when nothing of it is left.
func (s *Server) Close() {
	s.once.Do(func() {
		s.cancel()
		for _, srv := range s.servers {
			if err := srv.Shutdown(); err != nil {
				s.cfg.Logger.Warn("resolver did not stop cleanly", "address", s.addr.String(), "error", err)
			}
		}
	})
	s.wg.Wait()
}

func (s *Server) serve(w dns.ResponseWriter, q *dns.Msg) {
	if !s.serves(w.RemoteAddr()) {
		// From outside the VPC the resolver is not routed to: silence.
		_ = w.Close()
		return
	}
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
		m.SetEdns0(ednsSize, opt.Do())
	}
	switch {
	case q.Opcode != dns.OpcodeQuery || q.Response:
		m.Rcode = dns.RcodeNotImplemented
	case len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET:
		m.Rcode = dns.RcodeRefused
	default:
		s.resolve(m, q.Question[0])
	}
	if _, ok := w.RemoteAddr().(*net.UDPAddr); ok {
		m.Truncate(min(size, ednsSize))
	}
	if err := w.WriteMsg(m); err != nil && s.ctx.Err() == nil {
		s.cfg.Logger.Debug("answer not sent", "address", s.addr.String(), "error", err)
	}
}

func (s *Server) serves(remote net.Addr) bool {
	if !s.cfg.Clients.IsValid() {
		return true
	}
	ap, err := netip.ParseAddrPort(remote.String())
	return err == nil && s.cfg.Clients.Contains(ap.Addr().Unmap())
}

// resolve fills m: answers of the own sources and of authoritative servers,
// one link of a CNAME chain after the other.
func (s *Server) resolve(m *dns.Msg, q dns.Question) {
	name := q.Name
	seen := map[string]bool{}
	for range maxChain {
		next, done := s.step(m, dns.Question{Name: name, Qtype: q.Qtype, Qclass: q.Qclass})
		if done {
			return
		}
		if seen[strings.ToLower(next)] {
			break
		}
		seen[strings.ToLower(next)] = true
		name = next
	}
	m.Answer, m.Ns, m.Rcode = nil, nil, dns.RcodeServerFailure
}

// step answers one name. It is done, or the chain goes on at next.
func (s *Server) step(m *dns.Msg, q dns.Question) (next string, done bool) {
	a := s.find(dns.Question{Name: dns.CanonicalName(q.Name), Qtype: q.Qtype, Qclass: q.Qclass})
	if a.Failed {
		m.Answer, m.Ns, m.Rcode = nil, nil, dns.RcodeServerFailure
		return "", true
	}
	for _, rr := range a.Records {
		rr = dns.Copy(rr)
		rr.Header().Name = q.Name // as it was asked, for resolvers that mix case
		m.Answer = append(m.Answer, rr)
		if c, ok := rr.(*dns.CNAME); ok && q.Qtype != dns.TypeCNAME {
			next = c.Target
		}
	}
	switch {
	case next != "":
		return next, false
	case !a.Exists:
		m.Rcode = dns.RcodeNameError
	}
	if len(a.Records) == 0 {
		if a.Authority == nil {
			a.Authority = NegativeSOA(".")
		}
		m.Ns = []dns.RR{a.Authority}
	}
	return "", true
}

// find asks the sources, and then the authoritative server, unless it knows
// their answer already. Sources come first always: what a VPC names itself
// must not be hidden by what the public said before.
func (s *Server) find(q dns.Question) Answer {
	now, epoch := s.cfg.Clock(), s.cache.begin()
	for _, source := range s.cfg.Sources {
		a, ok := source(q)
		switch {
		case ok && a.Cached:
			if known, ok := s.cache.get(q, now); ok {
				return known
			}
			s.cache.put(q, a, now, epoch)
			return a
		case ok:
			return a
		}
	}
	server, ok := netip.AddrPort{}, false
	if s.cfg.Upstream != nil {
		server, ok = s.cfg.Upstream(q.Name)
	}
	if !ok {
		return Answer{}
	}
	if known, ok := s.cache.get(q, now); ok {
		return known
	}
	r, err := s.ask(q, server)
	if err != nil {
		s.cfg.Logger.Warn("authoritative server did not answer", "server", server.String(), "name", q.Name, "error", err)
		return Answer{Failed: true}
	}
	a := taken(q, r)
	s.cache.put(q, a, now, epoch)
	return a
}

// taken is what a resolver may believe of a server's message: what it says of
// the name that was asked. Records of other names, such as the rest of a chain,
// are looked up by their own names.
func taken(q dns.Question, r *dns.Msg) Answer {
	a := Answer{Exists: r.Rcode != dns.RcodeNameError}
	for _, rr := range r.Answer {
		h := rr.Header()
		if dns.CanonicalName(h.Name) == q.Name && h.Class == q.Qclass && (h.Rrtype == q.Qtype || h.Rrtype == dns.TypeCNAME) {
			a.Records = append(a.Records, rr)
			a.Exists = true // an NXDOMAIN tells of the chain's end (RFC 6604)
		}
	}
	for _, rr := range r.Ns {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, q.Name) {
			soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
			a.Authority = soa
		}
	}
	return a
}

func (s *Server) ask(q dns.Question, server netip.AddrPort) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(s.ctx, upstreamTimeout)
	defer cancel()
	m := new(dns.Msg)
	m.SetQuestion(q.Name, q.Qtype)
	m.RecursionDesired = false
	m.SetEdns0(ednsSize, false)
	r, _, err := (&dns.Client{Net: "udp", UDPSize: ednsSize}).ExchangeContext(ctx, m, server.String())
	if err == nil && r.Truncated {
		r, _, err = (&dns.Client{Net: "tcp"}).ExchangeContext(ctx, m, server.String())
	}
	if err != nil {
		return nil, err
	}
	if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("answered %s", dns.RcodeToString[r.Rcode])
	}
	return r, nil
}

// Addresses are the records of a question's type among addresses.
func Addresses(q dns.Question, addrs []netip.Addr, ttl uint32) []dns.RR {
	var out []dns.RR
	for _, addr := range addrs {
		h := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: ttl, Rrtype: q.Qtype}
		switch {
		case addr.Is4() && q.Qtype == dns.TypeA:
			out = append(out, &dns.A{Hdr: h, A: addr.AsSlice()})
		case addr.Is6() && q.Qtype == dns.TypeAAAA:
			out = append(out, &dns.AAAA{Hdr: h, AAAA: addr.AsSlice()})
		}
	}
	return out
}

// NegativeSOA is the authority of a zone that the stand-in answers for itself.
func NegativeSOA(zone string) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: negativeTTL},
		Ns:  "ns-0.awsdns-00.com.", Mbox: "awsdns-hostmaster.amazon.com.",
		Serial: 1, Refresh: 7200, Retry: 900, Expire: 1209600, Minttl: negativeTTL,
	}
}
