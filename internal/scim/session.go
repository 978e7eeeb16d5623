package scim

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/accesslog"
	"github.com/postern-net/postern/internal/sighting"
)

// alert is what a client gets that is refused before TLS is established: the
// fatal alert access_denied, byte for byte as at the other listeners.
const alert = "\x15\x03\x01\x00\x02\x02\x31"

// Who is refused is read from for a while, because closing with unread bytes
// would reset the connection, and a reset can overtake the answer. Whoever was
// answered last is given as long before being cut to make room.
const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// session is one client's connection, from accept to close.
type session struct {
	net.Conn
	door   *Door
	at     time.Time
	client netip.AddrPort
	local  netip.AddrPort
	share  netip.Prefix

	// Written while the handshake is judged, and after that only read.
	name      string
	route     postern.SCIMRoute
	challenge bool
	transport *http.Transport

	// Of the crowd, whose mutex guards them.
	counted string // the host that it is counted for
	busy    int    // requests under way
	idle    time.Time

	admitted atomic.Bool
	silent   atomic.Bool // an alert of our own was sent: TLS must add none
	lingers  atomic.Bool
	deaf     atomic.Bool  // see hangUp
	told     atomic.Int64 // when a request over the rate was logged last, in seconds since 1970
	closing  sync.Once
	waking   sync.Once
	asleep   *time.Timer // cuts it unless it asks for something; nil: net/http does
}

// accept begins a session, or refuses the connection when there are too many.
func (d *Door) accept(c net.Conn) {
	s := &session{Conn: c, door: d, at: time.Now(), client: addrPort(c.RemoteAddr()), local: addrPort(c.LocalAddr())}
	s.share, s.idle = network(s.client.Addr()), s.at
	if d.addresses.take(s.share, s.at) > 0 {
		s.turnAway(postern.DenyRate)
		return
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		_ = c.Close()
		return
	}
	displaced, ok := d.crowd.enter(s, d.limits.MaxConnections)
	if ok {
		d.running.Add(1)
	}
	d.mu.Unlock()
	d.displace(displaced)
	if !ok {
		s.turnAway(postern.DenyOverload)
		return
	}
	d.metrics.connections.Inc()
	go func() {
		defer d.running.Done()
		s.begin()
	}()
}

// turnAway refuses a connection of which nothing was read.
func (s *session) turnAway(deny postern.Denial) {
	s.door.refused(s, deny, nil)
	_, _ = io.WriteString(s.Conn, alert) // nothing was sent before, so that it cannot block
	_ = s.Conn.Close()
}

// begin establishes TLS and hands the connection to the HTTP server.
func (s *session) begin() {
	c := tls.Server(s, s.door.tls)
	if err := s.handshake(c); err != nil {
		_ = s.Close()
		return
	}
	protocol := c.ConnectionState().NegotiatedProtocol
	switch {
	case s.challenge:
		_ = c.Close() // that was all
	case protocol == "h2":
		s.asleep = time.AfterFunc(s.door.limits.HelloTimeout, s.cut)
		s.door.queue.put(c)
	default:
		l := s.door.limits
		w := newWire(c, l.IdleTimeout+l.HelloTimeout, s.malformed)
		_ = w.SetWriteDeadline(time.Time{}) // fails only on what is closed, which net/http sees
		s.door.queue.put(w)
	}
}

func (s *session) handshake(c *tls.Conn) error {
	if err := s.SetDeadline(s.at.Add(s.door.limits.HelloTimeout)); err != nil {
		return err
	}
	err := c.HandshakeContext(context.Background()) //nolint:contextcheck // the deadline and cut end it
	var notTLS tls.RecordHeaderError
	switch {
	case err == nil:
		return s.SetDeadline(time.Time{})
	case s.silent.Load(): // refused already
	case errors.Is(err, io.EOF) && s.name == "", errors.Is(err, net.ErrClosed):
		// It asked for nothing, as a health check does, or the door was shut.
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.door.refused(s, postern.DenyHelloTimeout, nil)
	case errors.As(err, &notTLS) && notTLS.Conn != nil:
		s.refuse(postern.DenyNotTLS)
	default:
		s.door.refused(s, postern.DenyTLS, err)
	}
	return err
}

// judge decides on the connection by the server name of its ClientHello.
func (s *session) judge(serverName string, challenge bool) error {
	s.name, s.challenge = strings.ToLower(serverName), challenge
	route, deny := s.door.table.Load().judge(s.name, s.client.Addr(), challenge)
	s.route = route
	if deny != "" {
		s.refuse(deny)
		return errors.New("scim: refused: " + string(deny))
	}
	s.transport = s.newTransport()
	// A challenge comes from anywhere, and takes nobody's place at the host.
	if !challenge {
		deny = s.settle()
	}
	if deny != "" {
		s.refuse(deny)
		return errors.New("scim: refused: " + string(deny))
	}
	s.admitted.Store(true)
	if !s.stillAdmitted() { // the table changed meanwhile
		s.cut()
		return net.ErrClosed
	}
	return nil
}

// stillAdmitted judges the session again, by the table in force. One that is
// not judged yet will be.
func (s *session) stillAdmitted() bool {
	if !s.admitted.Load() {
		return true
	}
	route, deny := s.door.table.Load().judge(s.name, s.client.Addr(), s.challenge)
	return deny == "" && same(route, s.route)
}

// wake tells that the client asks for something: from now on it may be idle as
// long as anybody. net/http allows that over HTTP/2 from the beginning.
func (s *session) wake() {
	s.waking.Do(func() {
		if s.asleep != nil {
			s.asleep.Stop()
		}
	})
}

// refuse sends the alert, and keeps TLS from sending one that would tell more.
func (s *session) refuse(deny postern.Denial) {
	s.door.refused(s, deny, nil)
	_, _ = io.WriteString(s.Conn, alert) // it is closed next in any case
	s.silent.Store(true)
	s.lingers.Store(true)
}

// malformed notes HTTP that was refused before it was a request.
func (s *session) malformed(deny postern.Denial, cause error) {
	s.lingers.Store(true)
	s.door.refused(s, deny, cause)
}

// hangUp has the server read nothing more of an HTTP/1.1 connection, whose last
// answer is given: what still comes is thrown away when it closes. A deadline
// alone would not do, for net/http takes it away where a body ends just now, and
// then waits for the client without an end.
func (s *session) hangUp() {
	s.lingers.Store(true)
	s.deaf.Store(true)
	_ = s.SetReadDeadline(time.Now()) // it is being given up
}

// Read reads from the client, until hangUp.
func (s *session) Read(b []byte) (int, error) {
	if s.deaf.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	return s.Conn.Read(b)
}

// Write writes to the client, but nothing behind an alert.
func (s *session) Write(b []byte) (int, error) {
	if s.silent.Load() {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

// Close ends the session and what it has at the backend.
func (s *session) Close() (err error) {
	s.closing.Do(func() {
		if s.lingers.Load() {
			s.linger()
		}
		err = s.Conn.Close()
		s.forget()
	})
	return err
}

func (s *session) linger() {
	if w, ok := s.Conn.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil && s.SetReadDeadline(time.Now().Add(s.door.lingers)) == nil {
		_, _ = io.CopyN(io.Discard, s.Conn, lingerBytes) // until whatever comes first
	}
}

// cut resets the connection. It waits for nobody: the accept loop calls it, and
// a session that lingers ends at once.
func (s *session) cut() {
	if l, ok := s.Conn.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0) // fails only on what is closed already
	}
	_ = s.Conn.Close() // ahead of the rest, which one that lingers is within
	s.closing.Do(s.forget)
}

func (s *session) forget() {
	d := s.door
	d.mu.Lock()
	d.crowd.leave(s)
	d.mu.Unlock()
	d.metrics.connections.Dec()
	if s.admitted.Load() {
		s.transport.CloseIdleConnections()
	}
}

type sessionKey struct{}

// connContext tells requests their session.
func connContext(ctx context.Context, c net.Conn) context.Context {
	for {
		switch v := c.(type) {
		case *session:
			return context.WithValue(ctx, sessionKey{}, v)
		case *wire:
			c = v.Conn
		case *tls.Conn:
			c = v.NetConn()
		default:
			return ctx
		}
	}
}

// key is what the session's requests are counted as.
func (s *session) key(d postern.Denial) sighting.Key {
	return sighting.Key{Listener: postern.ListenerSCIM, Source: s.client.Addr(), Host: s.name, Organization: s.route.Organization, Denial: d}
}

// refused counts and logs a refusal.
func (d *Door) refused(s *session, deny postern.Denial, cause error, more ...slog.Attr) {
	d.seen.Add(s.key(deny), time.Now())
	d.metrics.requests.WithLabelValues(resultRefused).Inc()
	d.metrics.denials.WithLabelValues(string(deny)).Inc()
	if deny == postern.DenyRate && !s.tellsRate(time.Now()) {
		return
	}
	d.access.Add(accesslog.Refused, "request refused", func() entry {
		attrs := append(s.attrs(), slog.String("reason", string(deny)))
		if cause != nil {
			attrs = append(attrs, slog.String("cause", clip(cause.Error())))
		}
		return append(attrs, more...)
	})
}

// tellsRate tells whether a request over the rate is logged: one a second of each
// connection, or whoever sends too many would fill the log with them.
func (s *session) tellsRate(now time.Time) bool {
	last := s.told.Load()
	return now.Unix() > last && s.told.CompareAndSwap(last, now.Unix())
}

// entry is what a record of the access log tells.
type entry []slog.Attr

func (e *entry) tell(r *slog.Record) { r.AddAttrs(*e...) }

func newAccessLog(l *slog.Logger, rate int, omitted *prometheus.CounterVec) *accesslog.Log[entry] {
	return accesslog.New(l, rate, [2]accesslog.Counter{
		accesslog.Admitted: omitted.WithLabelValues(resultAdmitted), accesslog.Refused: omitted.WithLabelValues(resultRefused),
	}, (*entry).tell)
}

// attrs are what every record of the access log tells.
func (s *session) attrs() []slog.Attr {
	return []slog.Attr{
		slog.String("listener", postern.ListenerSCIM),
		slog.String("client", s.client.String()),
		slog.String("host", s.name),
		slog.String("organization", s.route.Organization),
	}
}

// addrPort gives IPv4 addresses in their own form.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
