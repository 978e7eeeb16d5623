package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/relay"
)

// ErrShutdown is what [Egress.ServeConnect] returns on an egress that was shut
// down before.
var ErrShutdown = errors.New("egress: is shut down")

// ServeConnect takes connections of any tenant's workloads that ask, in HTTP,
// for one of its data connections. With a certificate the proxy itself speaks
// TLS, and then a workload may show a client certificate instead of a token:
// any, of whomever, for it is its sum that is known. It blocks until
// [Egress.Shutdown], and then returns nil, or until the listener fails for
// good. It closes the listener.
func (e *Egress) ServeConnect(ln *net.TCPListener, certificate *tls.Certificate) error {
	if !e.tunnels.listen(ln) {
		return errors.Join(ErrShutdown, ln.Close())
	}
	defer e.tunnels.unlisten(ln)
	defer ln.Close() //nolint:errcheck // Shutdown may have closed it
	var secure *tls.Config
	if certificate != nil {
		secure = &tls.Config{
			Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true, // a resumed session shows no certificate
		}
	}
	var pause time.Duration
	for {
		conn, err := ln.AcceptTCP()
		switch {
		case err == nil:
			pause = 0
			e.admit(conn, secure)
			continue
		case e.tunnels.isClosed():
			return nil
		case !passing(err):
			return fmt.Errorf("egress: the connect listener: %w", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		e.logger.LogAttrs(context.Background(), slog.LevelError, "cannot accept connections; trying again", slog.Any("error", err), slog.Duration("pause", pause))
		e.tunnels.wait(pause)
	}
}

// passing tells errors of accept that another try may not meet: the machine is
// out of descriptors or memory, or the client has gone already.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// admit starts the handling of a connection, or refuses it when there are too
// many.
func (e *Egress) admit(conn *net.TCPConn, secure *tls.Config) {
	t := &tunnel{client: conn, raw: conn}
	v := visit{listener: postern.ListenerConnect, at: time.Now(), client: addrPort(conn.RemoteAddr())}
	ok, closed := e.tunnels.take(t, v.client.Addr(), e.limits)
	switch {
	case closed:
		_ = conn.Close()
		return
	case !ok:
		e.refused(v, postern.DenyOverload, nil)
		reset(conn) // nothing is kept for whoever has too many already
		return
	}
	go func() {
		defer e.tunnels.release(t, v.client.Addr())
		defer conn.Close() //nolint:errcheck // nobody is left to tell
		s := &session{egress: e, tunnel: t, visit: v}
		s.run(secure)
	}()
}

// addrPort gives IPv4 addresses in their own form, also on a listener for both
// families.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// session is the way of a connection from its first byte to its tunnel.
type session struct {
	egress *Egress
	tunnel *tunnel
	visit  visit
	key    string // of the credential that was shown
}

func (s *session) run(secure *tls.Config) {
	e := s.egress
	if s.tunnel.client.SetDeadline(s.visit.at.Add(e.limits.HeadTimeout)) != nil {
		return
	}
	if secure != nil && !s.secure(secure) {
		return
	}
	r, ok := s.read()
	if !ok {
		return
	}
	s.visit.host, s.visit.port = r.host, r.port
	w, ok := s.identify(r)
	if !ok {
		return
	}
	if !e.tunnels.takeFor(w.Tenant, e.limits.MaxPerTenant) {
		s.deny(Decision{Deny: postern.DenyOverload, Message: "the tenant has as many connections as it may have; close some"}, nil)
		return
	}
	s.tunnel.release = sync.OnceFunc(func() { e.tunnels.releaseFor(w.Tenant) })
	defer s.tunnel.release()
	for range maxOvertaken {
		if !s.open() {
			return
		}
	}
	s.deny(Decision{Deny: postern.DenyBackendDown, Message: "what the connection leads to changes faster than it can be connected to; try again"}, nil)
}

// maxOvertaken bounds how often a request is decided on: once more whenever a
// new table overtakes the connecting to its endpoint.
const maxOvertaken = 3

// secure ends the TLS of the proxy itself.
func (s *session) secure(config *tls.Config) bool {
	conn := tls.Server(s.tunnel.raw, config)
	s.tunnel.client = conn
	err := conn.Handshake() //nolint:noctx // bounded by the connection's deadline
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		s.egress.probed(s.visit.listener)
	default:
		s.egress.refused(s.visit, postern.DenyBadRequest, fmt.Errorf("TLS to the proxy: %w", err))
	}
	return err == nil
}

// read reads the request's head. Bytes behind it are refused: who asks has to
// wait for the answer, and what was sent without waiting could be meant for
// somebody else.
func (s *session) read() (connectRequest, bool) {
	b := make([]byte, 0, 1024)
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, cap(b))
		}
		n, err := s.tunnel.client.Read(b[len(b):min(cap(b), maxHead)])
		b = b[:len(b)+n]
		if n == 0 && err != nil {
			s.headless(len(b), err)
			return connectRequest{}, false
		}
		r, size, err := parseConnect(b)
		switch {
		case errors.Is(err, errIncomplete):
			continue
		case err == nil && size < len(b):
			err = fmt.Errorf("%w: bytes follow the request before it was answered", errMalformed)
		}
		if err != nil {
			s.visit.host, s.visit.port = r.host, r.port
			denial := postern.DenyBadRequest
			if errors.Is(err, errLiteral) {
				denial = postern.DenyForbiddenTarget
			}
			s.refuse(answerHead(err), denial, err)
			return connectRequest{}, false
		}
		return r, true
	}
}

// headless judges a connection that ended within the head.
func (s *session) headless(have int, err error) {
	switch {
	case have == 0 && errors.Is(err, io.EOF):
		s.egress.probed(s.visit.listener)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.egress.refused(s.visit, postern.DenyHelloTimeout, nil)
	default: // the workload is gone
	}
}

// identify finds whose the connection is: by the token that the request shows,
// or else by the certificate of the proxy's own TLS.
func (s *session) identify(r connectRequest) (postern.Workload, bool) {
	credential := r.credential
	if c, ok := s.tunnel.client.(*tls.Conn); ok && credential == nil {
		if peers := c.ConnectionState().PeerCertificates; len(peers) > 0 {
			credential = peers[0].Raw
		}
	}
	if credential == nil {
		s.deny(Decision{Deny: postern.DenyAnonymous}, nil)
		return postern.Workload{}, false
	}
	s.key = postern.WorkloadKey(credential)
	t := s.egress.table.Load()
	w, ok := t.identify(s.key, s.egress.now())
	if !ok {
		s.deny(Decision{Deny: postern.DenyUnknownWorkload}, nil)
		return postern.Workload{}, false
	}
	s.visit.workload, s.visit.tenant, s.visit.organization = s.key[:12], w.Tenant, w.Organization
	return w, true
}

// open decides, connects to the endpoint and makes the tunnel. The endpoint is
// connected to before the request is answered, so that the answer can say that
// it cannot be. It tells whether a new table overtook it, and nothing was
// answered.
func (s *session) open() (overtaken bool) {
	e := s.egress
	if w, ok := e.table.Load().identify(s.key, e.now()); !ok || w.Tenant != s.visit.tenant {
		s.deny(Decision{Deny: postern.DenyUnknownWorkload}, nil)
		return false
	}
	d := e.Decide(Request{Tenant: s.visit.tenant, Host: s.visit.host, Port: s.visit.port})
	s.visit.connectionID = d.ConnectionID
	if d.Deny != "" {
		s.deny(d, nil)
		return false
	}
	endpoint, at, err := e.dial(d.Targets, s.stillAdmitted)
	switch {
	case errors.Is(err, errOvertaken):
		return true
	case err != nil:
		d.Deny, d.Reason = postern.DenyBackendDown, postern.ReasonUnreachable
		d.Message = "the endpoint to the cluster does not take connections on this port; have the customer check its load balancer; `postern connections show " + d.ConnectionID + "` says what was found"
		s.deny(d, err)
		return false
	}
	s.carry(endpoint, at)
	return false
}

// carry answers that the tunnel stands, and carries what goes through it.
func (s *session) carry(endpoint *net.TCPConn, at netip.AddrPort) {
	e := s.egress
	defer endpoint.Close() //nolint:errcheck // nobody is left to tell
	if !s.tunnel.join(endpoint, func() bool { return s.stillAdmitted(at) }) {
		return
	}
	// From here on a new table judges the tunnel. One that came just now is in
	// force already.
	if !s.stillAdmitted(at) {
		s.tunnel.cut(relay.EndRevoked)
		return
	}
	if s.tunnel.client.SetDeadline(time.Now().Add(e.limits.HelloTimeout)) != nil {
		return
	}
	if _, err := io.WriteString(s.tunnel.client, established); err != nil {
		return
	}
	hello, ok := s.hello()
	if !ok || s.tunnel.client.SetDeadline(time.Time{}) != nil {
		return
	}
	_ = endpoint.SetWriteDeadline(time.Now().Add(e.limits.DialTimeout))
	if _, err := endpoint.Write(hello); err != nil {
		s.alert(postern.DenyBackendDown, err)
		return
	}
	_ = endpoint.SetWriteDeadline(time.Time{})
	e.opened(s.visit)
	up, down := s.tunnel.relay(e.limits.IdleTimeout)
	e.closed(s.visit, relay.Stats{Up: up + int64(len(hello)), Down: down, Duration: time.Since(s.visit.at), Backend: at, End: s.tunnel.ended()})
}

// stillAdmitted judges the tunnel by the table in force: the credential, the
// connection, and that the endpoint's interface is still one of it.
func (s *session) stillAdmitted(at netip.AddrPort) bool {
	e := s.egress
	w, ok := e.table.Load().identify(s.key, e.now())
	if !ok || w.Tenant != s.visit.tenant {
		return false
	}
	d := e.Decide(Request{Tenant: w.Tenant, Host: s.visit.host, Port: s.visit.port})
	return d.Deny == "" && slices.Contains(d.Targets, at)
}

// errOvertaken is that what was decided holds no more.
var errOvertaken = errors.New("egress: a new table came meanwhile")

// dial connects to the first target that takes a connection, each endpoint's
// interfaces taking their turns. A table that does not admit a target any more
// ends it with errOvertaken.
func (e *Egress) dial(targets []netip.AddrPort, admitted func(netip.AddrPort) bool) (*net.TCPConn, netip.AddrPort, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: time.Minute, Count: 3}}
	var local netip.AddrPort
	if e.source.IsValid() {
		local = netip.AddrPortFrom(e.source, 0)
	}
	failures := []error{errors.New("no interface of the endpoint took the connection")}
	for _, at := range e.paths.order(targets) {
		if !admitted(at) {
			return nil, netip.AddrPort{}, errOvertaken
		}
		ctx, cancel := context.WithTimeout(e.tunnels.ctx, e.limits.DialTimeout)
		conn, err := d.DialTCP(ctx, "tcp4", local, at)
		cancel()
		if err == nil && !admitted(at) {
			return nil, netip.AddrPort{}, errors.Join(errOvertaken, conn.Close())
		}
		if err == nil {
			return conn, at, nil
		}
		if e.tunnels.ctx.Err() != nil {
			return nil, netip.AddrPort{}, err // it was shut down
		}
		e.paths.failed(at)
		failures = append(failures, err)
	}
	return nil, netip.AddrPort{}, errors.Join(failures...)
}

// hello reads the ClientHello, whose server name must be the host that was
// asked for. It returns all bytes that came.
func (s *session) hello() ([]byte, bool) {
	b := make([]byte, 0, 4<<10)
	need := 0
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, cap(b))
		}
		n, err := s.tunnel.client.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case n > 0:
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.alert(postern.DenyHelloTimeout, nil)
			return nil, false
		case errors.Is(err, io.EOF) && len(b) > 0:
			s.alert(postern.DenyBadHello, io.ErrUnexpectedEOF)
			return nil, false
		case errors.Is(err, io.EOF):
			s.egress.probed(s.visit.listener) // it changed its mind
			return nil, false
		default:
			return nil, false
		}
		if len(b) < need {
			continue
		}
		var h clienthello.Hello
		h, need, err = clienthello.Parse(b)
		switch {
		case err == nil && h.ServerName == s.visit.host:
			return b, true
		case err == nil:
			s.alert(postern.DenyNameMismatch, nil)
		case errors.Is(err, clienthello.ErrIncomplete):
			continue
		case errors.Is(err, clienthello.ErrNotTLS):
			s.alert(postern.DenyNotTLS, err)
		default:
			s.alert(postern.DenyBadHello, err)
		}
		return nil, false
	}
}

// deny answers a request with its problem.
func (s *session) deny(d Decision, cause error) {
	s.refuse(answerDenial(d), d.Deny, cause)
}

// accessDenied is the TLS alert of a refusal within a tunnel (RFC 8446, section
// 6): the request was answered, so only this is left to say it.
const accessDenied = "\x15\x03\x01\x00\x02\x02\x31"

func (s *session) alert(d postern.Denial, cause error) {
	s.refuse([]byte(accessDenied), d, cause)
}

// Bounds of what is read and thrown away behind a refusal.
const (
	lingerTime  = time.Second
	lingerBytes = 64 << 10
)

// refuse says the last word and then reads what the workload still sends for a
// while: closing with unread bytes would reset the connection, and a reset can
// overtake the answer. Nothing that it sends is taken for another request.
func (s *session) refuse(word []byte, d postern.Denial, cause error) {
	s.egress.refused(s.visit, d, cause)
	if s.tunnel.release != nil {
		s.tunnel.release() // whoever has the answer may ask again at once
	}
	c := s.tunnel.client
	if c.SetDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	if _, err := io.Copy(c, bytes.NewReader(word)); err != nil {
		return
	}
	if half, ok := c.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c, lingerBytes) // until whatever comes first
}

// Shutdown closes the connect listeners, waits for open tunnels to end by
// themselves until ctx is done, and then resets those that are left. It returns
// when nothing is left, with ctx's error if something was cut. Transparent
// listeners are the engine's to shut down. It may be called more than once.
func (e *Egress) Shutdown(ctx context.Context) error {
	e.applying.Lock()
	if e.expiry != nil {
		e.expiry.Stop()
	}
	e.applying.Unlock()
	return e.tunnels.shutdown(ctx)
}
