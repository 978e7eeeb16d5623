package scim_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/backend"
	"github.com/postern-net/postern/internal/scim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(patient{m}) }

// patient waits for the goroutine that net/http keeps for a second when it has
// ended a connection over HTTP/2, which is longer than goleak waits by itself.
type patient struct{ *testing.M }

func (p patient) Run() int {
	code := p.M.Run()
	for end := time.Now().Add(patience); goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}

const (
	region   = "us-east-1"
	host     = "example.scim.example.com"
	upstream = "example.hosted.example.com"
	patience = 30 * time.Second
)

// issuer signs certificates for the door and for the backends.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{cert, key}
}

func (i *issuer) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(i.cert)
	return p
}

func (i *issuer) issue(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, i.cert, key.Public(), i.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// shown is a certificate that never changes.
type shown tls.Certificate

func (s shown) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c := tls.Certificate(s)
	return &c, nil
}

// got is a request as the tenant's app got it.
type got struct {
	Method, Target, Host, Body string
	Header                     http.Header
	Arrival                    backend.Arrival
}

// app is a tenant's app behind the backend contract. It records every
// connection and request.
type app struct {
	addr  netip.AddrPort
	mu    sync.Mutex
	got   []got
	conns int                                      // so far
	open  int                                      // now
	serve func(http.ResponseWriter, *http.Request) // nil: 200 and a word
}

func (a *app) requests() []got {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]got(nil), a.got...)
}

func (a *app) connections() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.conns
}

// openConnections are those that are open now.
func (a *app) openConnections() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open
}

// holds has requests wait until the function is called, and tells how many do.
func (a *app) holds() (waiting func() int, release func()) {
	var n atomic.Int64
	free := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serve = func(http.ResponseWriter, *http.Request) {
		n.Add(1)
		defer n.Add(-1)
		<-free
	}
	return func() int { return int(n.Load()) }, sync.OnceFunc(func() { close(free) })
}

func (a *app) handle(w http.ResponseWriter, r *http.Request) {
	arrival, _ := backend.FromContext(r.Context())
	g := got{Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header.Clone(), Arrival: arrival}
	a.mu.Lock()
	serve := a.serve
	if serve != nil {
		a.got = append(a.got, g)
	}
	a.mu.Unlock()
	if serve != nil {
		serve(w, r)
		return
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return // what was cut off is no request
	}
	g.Body = string(b)
	a.mu.Lock()
	a.got = append(a.got, g)
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/scim+json")
	_, _ = io.WriteString(w, `{"ok":true}`)
}

// startApp runs an app with a certificate for some names.
func startApp(t *testing.T, cert tls.Certificate) *app {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &app{addr: netip.MustParseAddrPort(ln.Addr().String())}
	server := &http.Server{
		Handler: backend.Handler(http.HandlerFunc(a.handle)), ReadHeaderTimeout: patience, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			a.mu.Lock()
			a.conns++
			a.open++
			a.mu.Unlock()
			return backend.ConnContext(ctx, c)
		},
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				a.mu.Lock()
				a.open--
				a.mu.Unlock()
			}
		},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(&backend.Listener{Listener: ln, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, "", "")
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return a
}

// world is a door with a table of one host, and an app behind it.
type world struct {
	t        *testing.T
	issuer   *issuer
	door     *scim.Door
	addr     netip.AddrPort
	app      *app
	registry *prometheus.Registry
	revision int64
	log      *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// logged is what the access log holds of everything so far.
func (w *world) logged() string {
	w.door.Flush()
	return w.log.String()
}

func start(t *testing.T, change func(*scim.Config)) *world {
	t.Helper()
	w := &world{t: t, issuer: newIssuer(t), registry: prometheus.NewRegistry(), log: &logBuffer{}}
	w.app = startApp(t, w.issuer.issue(t, "*.hosted.example.com"))
	c := scim.Config{
		Region: region, Certificates: shown(w.issuer.issue(t, "*.scim.example.com")), BackendRoots: w.issuer.pool(),
		AccessLog: slog.New(slog.NewJSONHandler(w.log, nil)), Logger: slog.New(slog.DiscardHandler), Registerer: w.registry,
	}
	if change != nil {
		change(&c)
	}
	var err error
	if w.door, err = scim.New(c); err != nil {
		t.Fatal(err)
	}
	w.listen()
	w.apply(w.route())
	return w
}

func (w *world) listen() {
	var lc net.ListenConfig
	ln, err := lc.Listen(w.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.addr = netip.MustParseAddrPort(ln.Addr().String())
	done := make(chan error, 1)
	go func() { done <- w.door.Serve(ln) }()
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		w.door.Shutdown(ctx)
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// route is the host's.
func (w *world) route() postern.SCIMRoute {
	return postern.SCIMRoute{Tenant: "example", Organization: "example-corp", Region: region, Upstream: upstream, Backends: []netip.AddrPort{w.app.addr}}
}

// apply puts the next table in force, with the host and whatever else.
func (w *world) apply(r postern.SCIMRoute) { w.applyAll(map[string]postern.SCIMRoute{host: r}) }

func (w *world) applyAll(routes map[string]postern.SCIMRoute) {
	w.t.Helper()
	w.revision++
	if err := w.door.Apply(postern.Routes{Revision: w.revision, SCIM: routes}); err != nil {
		w.t.Fatal(err)
	}
}

// dial opens TLS with a server name and protocols.
func (w *world) dial(serverName string, protocols ...string) (*tls.Conn, error) {
	return w.dialFrom("127.0.0.1", serverName, protocols...)
}

// dialFrom does so from one of the addresses of loopback.
func (w *world) dialFrom(client, serverName string, protocols ...string) (*tls.Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}, Config: &tls.Config{
		ServerName: serverName, RootCAs: w.issuer.pool(), NextProtos: protocols, MinVersion: tls.VersionTLS12, InsecureSkipVerify: serverName == "",
	}}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", w.addr.String())
	if err != nil {
		return nil, err
	}
	tc := c.(*tls.Conn)
	if err := tc.SetDeadline(time.Now().Add(patience)); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = tc.Close() })
	return tc, nil
}

// client asks the door for the host, over one of the protocols.
func (w *world) client(http2 bool) *http.Client {
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: w.issuer.pool()}, ForceAttemptHTTP2: http2, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", w.addr.String())
		},
	}
	if !http2 {
		tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (w *world) do(c *http.Client, method, target string, body io.Reader, header ...string) (*http.Response, string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, "https://"+host+target, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, target, err)
	}
	return resp, string(b)
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		if (<-tick.C).After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// drained waits until the door has counted something and returns all of it.
func (w *world) denials() map[postern.Denial]int64 {
	out := map[postern.Denial]int64{}
	for _, a := range w.door.Drain().Sightings {
		out[a.Denial] += a.Count
	}
	return out
}

// isClosed tells that the other side has ended a connection.
func isClosed(err error) bool {
	var ne net.Error
	return err != nil && (!errors.As(err, &ne) || !ne.Timeout())
}
