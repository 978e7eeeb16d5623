package backend_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-net/postern/backend"
	"github.com/postern-net/postern/internal/proxyproto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// The certificate of httptest is good for both names, as a wildcard is
	// for two tenants: nothing but the backend keeps them apart.
	admitted = "example.com"
	other    = "www.example.com"
	vpceID   = "vpce-00eafc458ec97b833"
)

var arrival = proxyproto.Header{
	Source: netip.MustParseAddrPort("10.0.0.5:49153"), Destination: netip.MustParseAddrPort("10.1.0.7:443"),
	VPCEndpointID: vpceID, Authority: admitted, Organization: "example-corp",
}

func header(t *testing.T, h proxyproto.Header) []byte {
	t.Helper()
	b, err := proxyproto.Append(nil, h)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// app answers with what it was told.
func app(w http.ResponseWriter, r *http.Request) {
	a, ok := backend.FromContext(r.Context())
	fmt.Fprintf(w, "%v %s %s %s %s %s %s", ok, a.Authority, a.VPCEndpointID, a.Organization, a.Source, r.RemoteAddr, r.Proto) //nolint:gosec // plain text, for this test
}

const told = "true example.com " + vpceID + " example-corp 10.0.0.5:49153 10.0.0.5:49153 "

type refusal struct {
	remote net.Addr
	err    error
}

// server runs the app behind a listener, with HTTP/2 over TLS.
type server struct {
	*httptest.Server
	addr    string
	refused chan refusal
}

func start(t *testing.T, useTLS bool, change func(*backend.Listener)) *server {
	t.Helper()
	s := &server{refused: make(chan refusal, 10)}
	s.Server = httptest.NewUnstartedServer(backend.Handler(http.HandlerFunc(app)))
	l := &backend.Listener{
		Listener: s.Listener,
		Trusted:  []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Refused:  func(a net.Addr, err error) { s.refused <- refusal{a, err} },
	}
	if change != nil {
		change(l)
	}
	s.addr = s.Listener.Addr().String()
	s.Listener = l
	s.Config.ConnContext = backend.ConnContext
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // refused connections are expected here
	s.EnableHTTP2 = true
	if useTLS {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// client connects as the ingress does: to the server, whatever the name, and
// with this ahead of everything.
func (s *server) client(t *testing.T, ahead []byte, http2 bool) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if cert := s.Certificate(); cert != nil {
		roots.AddCert(cert)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", s.addr)
			if err != nil {
				return nil, err
			}
			_, err = c.Write(ahead)
			return c, err
		},
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: http2,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

func get(t *testing.T, c *http.Client, url, host string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode == http.StatusMisdirectedRequest && res.Header.Get("Cache-Control") != "no-store" {
		t.Error("a 421 that may be cached")
	}
	return res.StatusCode, string(b)
}

func TestHandler(t *testing.T) {
	t.Parallel()
	noAuthority := arrival
	noAuthority.Authority = ""
	for _, proto := range []struct {
		name       string
		tls, http2 bool
	}{{"HTTP/1.1", true, false}, {"HTTP/2.0", true, true}, {"HTTP/1.1", false, false}} {
		scheme := "http"
		if proto.tls {
			scheme = "https"
		}
		for _, tc := range []struct {
			name   string
			header proxyproto.Header
			host   string
			want   int
		}{
			{"the host admitted", arrival, admitted, 200},
			{"in another case", arrival, "Example.COM", 200},
			{"with a port", arrival, admitted + ":8443", 200},
			{"another host", arrival, other, 421},
			{"another host with the port", arrival, other + ":443", 421},
			{"a host within", arrival, "x." + admitted, 421},
			{"a host around", arrival, "com", 421},
			{"trailing dot", arrival, admitted + ".", 421},
			{"nonsense for a port", arrival, admitted + ":x", 421},
			{"empty port", arrival, admitted + ":", 421},
			{"address", arrival, "127.0.0.1", 421},
			{"ingress admitted nothing", noAuthority, admitted, 421},
			{"ingress on its own account", proxyproto.Header{Local: true}, admitted, 421},
		} {
			t.Run(fmt.Sprintf("%s over %s, %s", proto.name, scheme, tc.name), func(t *testing.T) {
				t.Parallel()
				s := start(t, proto.tls, nil)
				code, body := get(t, s.client(t, header(t, tc.header), proto.http2), scheme+"://"+admitted+"/", tc.host)
				if code != tc.want {
					t.Fatalf("%d %q, want %d", code, body, tc.want)
				}
				if code == 200 && body != told+proto.name {
					t.Errorf("the app was told %q", body)
				}
			})
		}
	}
}

// Two hosts on one certificate: a client reuses the connection of one for the
// other, as browsers do, and gets both answers.
func TestCoalescing(t *testing.T) {
	t.Parallel()
	c := start(t, true, nil).client(t, header(t, arrival), true)
	for _, step := range []struct {
		host string
		want int
	}{{admitted, 200}, {other, 421}, {admitted, 200}} {
		if code, body := get(t, c, "https://"+admitted+"/", step.host); code != step.want {
			t.Errorf("%s: %d %q, want %d", step.host, code, body, step.want)
		}
	}
}

// The TLS handshake is for another name than the one that was admitted, as
// after a second ClientHello.
func TestServerNameOfTheHandshake(t *testing.T) {
	t.Parallel()
	c := start(t, true, nil).client(t, header(t, arrival), false)
	if code, _ := get(t, c, "https://"+other+"/", admitted); code != 421 {
		t.Errorf("answered %d", code)
	}
}

// raw sends bytes over TLS and returns the status of the answer.
func raw(t *testing.T, s *server, request string) int {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write(header(t, arrival)); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	tc := tls.Client(c, &tls.Config{ServerName: admitted, RootCAs: roots})
	if _, err := io.WriteString(tc, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(tc), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

func TestRequestTargets(t *testing.T) {
	t.Parallel()
	s := start(t, true, nil)
	for _, tc := range []struct {
		name, request string
		want          int
	}{
		{"absolute form", "GET https://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", 200},
		{"absolute form of another host", "GET https://www.example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", 421},
		{"two hosts", "GET / HTTP/1.1\r\nHost: example.com\r\nHost: www.example.com\r\n\r\n", 400},
		{"no host", "GET / HTTP/1.0\r\n\r\n", 421},
		{"user before the host", "GET / HTTP/1.1\r\nHost: example.com@www.example.com\r\n\r\n", 400},
		{"tunnel", "CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com\r\n\r\n", 421},
	} {
		if got := raw(t, s, tc.request); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

// dropped sends bytes and sees the connection closed without an answer.
func dropped(t *testing.T, s *server, b []byte) {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, err = c.Write(b)
	var got []byte
	if err == nil {
		got, err = io.ReadAll(c)
	}
	if len(got) > 0 {
		t.Errorf("answered %q", got)
	}
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		t.Error("kept open")
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	hello := []byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03")
	badCRC := header(t, arrival)
	badCRC[20]++
	untrusted := func(l *backend.Listener) { l.Trusted = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }
	for _, tc := range []struct {
		name   string
		change func(*backend.Listener)
		send   []byte
		want   error
	}{
		{"from elsewhere", untrusted, header(t, arrival), backend.ErrUntrusted},
		{"nobody is trusted", func(l *backend.Listener) { l.Trusted = nil }, header(t, arrival), backend.ErrUntrusted},
		{"no header", nil, hello, proxyproto.ErrNotV2},
		{"plain HTTP, no header", nil, []byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"), proxyproto.ErrNotV2},
		{"version 1", nil, []byte("PROXY TCP4 10.0.0.5 10.1.0.7 1 2\r\n"), proxyproto.ErrNotV2},
		{"wrong checksum", nil, badCRC, proxyproto.ErrChecksum},
		{"too long", nil, []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff"), proxyproto.ErrTooLong},
		{"never completed", func(l *backend.Listener) { l.HeaderTimeout = 50 * time.Millisecond }, header(t, arrival)[:40], net.ErrClosed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, true, tc.change)
			dropped(t, s, tc.send)
			select {
			case r := <-s.refused:
				if !errors.Is(r.err, tc.want) || r.remote == nil {
					t.Errorf("refused %v for %v, want %v", r.remote, r.err, tc.want)
				}
			case <-time.After(30 * time.Second):
				t.Error("nobody was told")
			}
		})
	}
}

// A connection that sends nothing keeps nobody else waiting.
func TestAcceptDoesNotWait(t *testing.T) {
	t.Parallel()
	s := start(t, true, nil)
	var d net.Dialer
	silent, err := d.DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if code, _ := get(t, s.client(t, header(t, arrival), false), "https://"+admitted+"/", admitted); code != 200 {
		t.Errorf("answered %d", code)
	}
}

func TestWithoutListener(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+admitted+"/", nil)
	backend.Handler(http.HandlerFunc(app)).ServeHTTP(w, r)
	if w.Code != 421 {
		t.Errorf("answered %d", w.Code)
	}
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	if _, ok := backend.FromContext(backend.ConnContext(t.Context(), server)); ok {
		t.Error("an arrival without a listener")
	}
}

// The header may come in any pieces, and what follows it is not swallowed.
func TestHeaderInPieces(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	inner, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &backend.Listener{Listener: inner, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	defer l.Close()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := make(chan error, 1)
	go func() {
		for _, b := range append(header(t, arrival), "rest"...) {
			if _, err := c.Write([]byte{b}); err != nil {
				sent <- err
				return
			}
		}
		sent <- c.(*net.TCPConn).CloseWrite()
	}()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conn := s.(*backend.Conn)
	a, ok := conn.Arrival()
	if want := (backend.Arrival{Authority: admitted, VPCEndpointID: vpceID, Organization: "example-corp", Source: arrival.Source, Destination: arrival.Destination}); !ok || a != want {
		t.Errorf("arrival %+v, %v", a, ok)
	}
	got, err := io.ReadAll(s)
	if err := errors.Join(err, <-sent); err != nil || string(got) != "rest" {
		t.Errorf("then %q, %v", got, err)
	}
	if _, err := io.WriteString(s, "answer"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "answer" {
		t.Errorf("answer %q, %v", got, err)
	}
}

// Nothing is written to somebody whose header was refused.
func TestWriteNeedsTheHeader(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	inner, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &backend.Listener{Listener: inner, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	defer l.Close()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(bytes.Repeat([]byte("x"), 16)); err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(s, "220 welcome"); !errors.Is(err, proxyproto.ErrNotV2) {
		t.Errorf("written: %v", err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, proxyproto.ErrNotV2) || !strings.Contains(err.Error(), "backend") {
		t.Errorf("read: %v", err)
	}
}
