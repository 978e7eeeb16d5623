package scim

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/proxyproto"
)

// exchange is one admitted request and what became of it.
type exchange struct {
	http.ResponseWriter
	session  *session
	start    time.Time
	cancel   context.CancelCauseFunc
	placed   bool // among those under way; the door's mutex guards it
	ending   sync.Mutex
	over     bool
	body     *clientBody // nil: there is none
	down     int64
	length   int64 // of the answer's body; -1: not told
	status   int
	protocol int            // of HTTP, the major version
	host     string         // of this ingress, as the client wrote it
	denial   postern.Denial // it failed after it was admitted
	cause    error
	counted  bool // the denial was counted where it was found
}

type exchangeKey struct{}

// errGivenUp is why a request ends that made room for another client's.
var errGivenUp = errors.New("scim: given up for another client, while its body was waited for")

func (d *Door) newExchange(w http.ResponseWriter, r *http.Request, s *session) (*exchange, context.Context) {
	x := &exchange{ResponseWriter: w, session: s, start: time.Now(), protocol: r.ProtoMajor, host: r.Host}
	if r.ContentLength != 0 {
		// Not known to w, which would be written to by whoever reads the body.
		x.body = &clientBody{ReadCloser: http.MaxBytesReader(nil, r.Body, d.limits.MaxBody)}
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), exchangeKey{}, x))
	x.cancel = cancel
	return x, ctx
}

// giveUp ends a request whose body is being waited for, if it has not ended.
func (x *exchange) giveUp() {
	x.ending.Lock()
	defer x.ending.Unlock()
	if !x.over {
		x.cancel(errGivenUp)
		// Over HTTP/1.1 of the connection, over HTTP/2 of this request.
		_ = http.NewResponseController(x.ResponseWriter).SetReadDeadline(time.Now()) // nothing ends before its body does
	}
}

// end keeps what is not this request's any more from being given up.
func (x *exchange) end() {
	x.ending.Lock()
	defer x.ending.Unlock()
	x.over = true
	x.cancel(nil)
}

// forward sends a request to the tenant's backend and its answer back, both as
// they come.
func (d *Door) forward(x *exchange, r *http.Request) {
	w := x.ResponseWriter
	defer d.done(x.session, r, x) // also when the proxy panics, as it does to cut an answer short
	ctx, cancel := context.WithTimeout(r.Context(), d.limits.RequestTimeout)
	defer cancel()
	r = r.WithContext(ctx)
	if x.body != nil {
		r.Body = x.body
	}
	if r.ProtoMajor == 1 {
		// Else net/http reads what is left of the body itself when the app
		// answers before its end, and the app gets a part of it.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			panic(http.ErrAbortHandler) // a connection that cannot is none of this server
		}
		defer x.endUpload()
	}
	d.proxy.ServeHTTP(x, r)
}

// endUpload ends an HTTP/1.1 connection whose request's body has not ended, or
// not well: its answer is complete, and told that it is the last.
func (x *exchange) endUpload() {
	if !errors.Is(x.body.ended(), io.EOF) {
		x.session.hangUp()
	}
}

// WriteHeader remembers the status. Interim answers end here.
func (x *exchange) WriteHeader(status int) {
	if status < 200 {
		return
	}
	x.status = status
	h := x.Header()
	x.length = answerLength(status, h)
	protect(h) // also after interim answers, which left nothing of the header
	if len(h["Content-Type"]) == 0 {
		h["Content-Type"] = nil // or net/http guesses one
	}
	if x.protocol == 1 && !errors.Is(x.body.ended(), io.EOF) {
		h.Set("Connection", "close") // see endUpload
	}
	x.ResponseWriter.WriteHeader(status)
}

// answerLength is how long an answer's body is, or -1 if its header does not tell.
func answerLength(status int, h http.Header) int64 {
	if status == http.StatusNoContent || status == http.StatusNotModified {
		return 0
	}
	if n, ok := parseLength(h.Get("Content-Length")); ok {
		return n
	}
	return -1
}

// Write counts the answer. Its last octet leaves only when the request has
// ended: whoever has all of its answer may ask again at once, over another
// connection too, and is not refused for the place that it still had. Alone,
// it always fits into net/http's buffer.
func (x *exchange) Write(b []byte) (int, error) {
	last := len(b)
	if last > 1 && x.down+int64(last) == x.length {
		last--
	}
	n, err := x.ResponseWriter.Write(b[:last])
	if err == nil && last < len(b) {
		var one int
		one, err = x.ResponseWriter.Write(b[last:])
		n += one
	}
	x.down += int64(n)
	return n, err
}

// FlushError sends on what there is of an answer, unless that is all: net/http
// does it then, when the request has ended.
func (x *exchange) FlushError() error {
	if x.down == x.length {
		return nil
	}
	return http.NewResponseController(x.ResponseWriter).Flush()
}

// Unwrap lets deadlines be set.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// clientBody is the body of a request as it comes from the client.
type clientBody struct {
	io.ReadCloser
	read    atomic.Int64
	waiting atomic.Bool // for the client
	mu      sync.Mutex
	err     error // how it ended: io.EOF, or what went wrong with the client
}

// Read counts the body, and remembers how it ended.
func (b *clientBody) Read(p []byte) (int, error) {
	b.waiting.Store(true)
	n, err := b.ReadCloser.Read(p)
	b.waiting.Store(false)
	b.read.Add(int64(n))
	if err != nil {
		b.mu.Lock()
		b.err = cmp.Or(b.err, err)
		b.mu.Unlock()
	}
	return n, err
}

// ended tells how the body ended; nil: it has not.
func (b *clientBody) ended() error {
	if b == nil {
		return io.EOF
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// up is how much of the body came.
func (x *exchange) up() int64 {
	if x.body == nil {
		return 0
	}
	return x.body.read.Load()
}

// reverseProxy writes requests anew.
func (d *Door) reverseProxy() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: rewrite, Transport: sessionTransport{}, ModifyResponse: cleanse, ErrorHandler: failed,
		FlushInterval: -1, ErrorLog: slog.NewLogLogger(d.config.Logger.Handler(), slog.LevelDebug),
	}
}

// rewrite asks the backend for the tenant's standard hostname: with the path and
// query that were judged, byte for byte, and with those fields that go on.
func rewrite(p *httputil.ProxyRequest) {
	s := exchangeOf(p.In.Context()).session
	p.Out.URL = &url.URL{Scheme: "https", Host: s.route.Upstream, Path: p.In.URL.Path, RawPath: p.In.URL.RawPath, RawQuery: p.In.URL.RawQuery}
	p.Out.Host = s.route.Upstream
	header := http.Header{}
	for name, values := range p.In.Header {
		if forwarded[name] {
			header[name] = values
		}
	}
	p.Out.Header = header
	p.SetXForwarded() // of the client and of this host, for the app's links
	p.Out.Header.Set("X-Forwarded-Proto", "https")
}

// cleanse leaves out of an answer what is not for a SCIM client, and makes its
// links lead back here.
func cleanse(r *http.Response) error {
	if r.StatusCode < 200 {
		return errors.New("scim: the backend switches protocols")
	}
	ctx := r.Request.Context()
	x := exchangeOf(ctx)
	// An app may still answer what was broken off on the way: to nobody, for it
	// has not seen all of it, or too late.
	if err := x.body.ended(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for name := range r.Header {
		if !answered[name] {
			delete(r.Header, name)
		}
	}
	for _, name := range []string{"Location", "Content-Location"} {
		if u, err := url.Parse(r.Header.Get(name)); err == nil && u.Hostname() == x.session.route.Upstream {
			u.Scheme, u.Host = "https", x.host
			r.Header.Set(name, u.String())
		}
	}
	return nil
}

// statusClientGone stands in the log for an answer that nobody was there to take.
const statusClientGone = 499

// failed answers where the backend did not, or where the client broke the rules
// in its body. Who is gone gets no answer at all: to return without one would
// be "200 OK".
func failed(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	x.cause = err
	body := x.body.ended()
	err = errors.Join(err, body) // the transport does not always tell why the body ended
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		x.denial = postern.DenyTooLarge
	case errors.Is(err, errNotHTTP):
		x.denial, x.counted = postern.DenyBadRequest, true
	case errors.Is(context.Cause(r.Context()), errGivenUp):
		x.denial = postern.DenyRate
	case errors.Is(body, os.ErrDeadlineExceeded), body == nil && x.body.waiting.Load() && errors.Is(r.Context().Err(), context.DeadlineExceeded):
		x.denial = postern.DenySlowBody
	case errors.Is(r.Context().Err(), context.Canceled), body != nil && !errors.Is(body, io.EOF):
		x.status = statusClientGone
		panic(http.ErrAbortHandler)
	default:
		x.denial = postern.DenyBackendDown
	}
	wait := time.Duration(0)
	if x.denial == postern.DenyRate {
		wait = time.Second
	}
	if answer(w, r, x.denial, wait) {
		x.session.hangUp()
	}
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// sessionTransport sends each request over its session's own connections.
type sessionTransport struct{}

// RoundTrip sends a request to the backend. What it gets is a copy, which the
// transport does not know: trailers, which come with the end of the body, end
// here.
func (sessionTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := exchangeOf(r.Context()).session.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer := *resp
	answer.Trailer = nil
	return &answer, nil
}

// newTransport makes a session's way to the backend. No other session uses its
// connections: the header ahead of them names this client, and whatever goes
// wrong on one of them concerns nobody else.
func (s *session) newTransport() *http.Transport {
	l := s.door.limits
	return &http.Transport{
		DialTLSContext: s.dialBackend, DisableCompression: true,
		MaxConnsPerHost: maxBackendConns, MaxIdleConnsPerHost: maxBackendConns, IdleConnTimeout: l.IdleTimeout,
		ResponseHeaderTimeout: l.RequestTimeout, MaxResponseHeaderBytes: 64 << 10,
	}
}

// dialBackend connects to the first backend that answers.
func (s *session) dialBackend(ctx context.Context, _, _ string) (net.Conn, error) {
	errs := []error{errors.New("no backend")}
	for i, at := range s.route.Backends {
		c, err := s.connect(ctx, at)
		if err == nil {
			return c, nil
		}
		if i == 0 {
			errs = nil
		}
		errs = append(errs, fmt.Errorf("backend %v: %w", at, err))
	}
	return nil, errors.Join(errs...)
}

// connect sends the ingress's header ahead, and then TLS, verified.
func (s *session) connect(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.door.limits.DialTimeout)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	raw = s.door.countBackend(s.name, raw)
	deadline, _ := ctx.Deadline()
	header, err := proxyproto.Append(nil, proxyproto.Header{
		Source: s.client, Destination: s.local, Authority: s.route.Upstream, Organization: s.route.Organization,
	})
	if err == nil {
		err = raw.SetDeadline(deadline)
	}
	if err == nil {
		_, err = raw.Write(header)
	}
	c := tls.Client(raw, &tls.Config{
		ServerName: s.route.Upstream, RootCAs: s.door.config.BackendRoots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	})
	if err == nil {
		err = c.HandshakeContext(ctx)
	}
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = raw.Close() // it is being given up
		return nil, err
	}
	return c, nil
}
