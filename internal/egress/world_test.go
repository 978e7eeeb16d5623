package egress_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/egress"
	"github.com/postern-net/postern/internal/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	region = "us-east-1"
	// patience bounds every wait of a test that is about to fail.
	patience = 30 * time.Second

	exampleHost, globexHost = "starburst.example.com", "trino.globex.com"
	exampleToken            = "example-token-0123456789abcdef0123456789"
	globexToken             = "globex-token-0123456789abcdef0123456789a"
)

// pool is where the tests' endpoints are, which no other loopback address is
// in.
var pool = netip.MustParsePrefix("127.80.0.0/12")

var (
	exampleAt = netip.MustParseAddr("127.80.1.1")
	secondAt  = netip.MustParseAddr("127.80.1.2")
	globexAt  = netip.MustParseAddr("127.80.2.1")
)

// authority issues the tests' certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) issue(t testing.TB, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert, key
}

func (a *authority) server(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	c, key := a.issue(t, &x509.Certificate{DNSNames: names, IPAddresses: []net.IP{{127, 0, 0, 1}}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

func (a *authority) client(t testing.TB) tls.Certificate {
	t.Helper()
	c, key := a.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "workload"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// logbook is an access log that can be read.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logbook) records(t testing.TB) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []map[string]any
	for line := range strings.SplitSeq(strings.TrimSpace(l.b.String()), "\n") {
		if line == "" {
			continue
		}
		var r map[string]any
		must(t, json.Unmarshal([]byte(line), &r))
		out = append(out, r)
	}
	return out
}

// records is what the access log holds of everything so far.
func (w *world) records(t testing.TB) []map[string]any {
	t.Helper()
	w.Flush()
	return w.log.records(t)
}

// world is an egress with both kinds of listeners, and the clusters that it
// leads to.
type world struct {
	*egress.Egress
	authority *authority
	engine    *relay.Engine
	log       *logbook
	registry  *prometheus.Registry
	connect   string // plain
	secure    string // over TLS
	example   netip.AddrPort
	globex    netip.AddrPort
	port      uint16 // of the clusters
	revision  int64
	routes    postern.Routes
}

type option func(*egress.Config)

func newWorld(t testing.TB, options ...option) *world {
	t.Helper()
	w := &world{authority: newAuthority(t), log: &logbook{}, registry: prometheus.NewRegistry()}
	w.engine = relay.New(relay.Config{Source: netip.MustParseAddr("127.0.0.1")})
	c := egress.Config{
		Region: region, Engine: w.engine, Logger: slog.New(slog.NewJSONHandler(w.log, nil)), Registerer: w.registry,
		Networks: []netip.Prefix{pool},
	}
	for _, o := range options {
		o(&c)
	}
	w.engine = c.Engine.(*relay.Engine)
	var err error
	w.Egress, err = egress.New(c)
	must(t, err)
	proxy := w.authority.server(t, "egress.internal.example")
	var serving sync.WaitGroup
	w.connect = w.serveConnect(t, &serving, nil)
	w.secure = w.serveConnect(t, &serving, &proxy)

	// All clusters are on one port, as if it were 443.
	w.port = w.cluster(t, netip.AddrPortFrom(exampleAt, 0), "example", exampleHost).Port()
	w.cluster(t, netip.AddrPortFrom(globexAt, w.port), "globex", globexHost)
	w.example = w.serveTransparent(t, &serving, "example", "127.90.0.1")
	w.globex = w.serveTransparent(t, &serving, "globex", "127.90.0.2")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 100*time.Millisecond)
		defer cancel()
		_ = w.Shutdown(ctx) // tests of it look at its error
		_ = w.engine.Shutdown(ctx)
		serving.Wait()
	})
	w.routes = w.table()
	return w
}

// table is where everything works.
func (w *world) table() postern.Routes {
	return postern.Routes{
		Connections: map[string]postern.ConnectionRoute{
			exampleHost: {ID: "dc_example", Tenant: "example", Organization: "example-corp", Region: region, Ports: []uint16{w.port}, Addresses: []netip.Addr{exampleAt}, Ready: true},
			globexHost:  {ID: "dc_globex", Tenant: "globex", Organization: "globex-inc", Region: region, Ports: []uint16{w.port}, Addresses: []netip.Addr{globexAt}, Ready: true},
		},
		Workloads: map[string]postern.Workload{
			postern.WorkloadKey([]byte(exampleToken)): {Tenant: "example", Organization: "example-corp"},
			postern.WorkloadKey([]byte(globexToken)):  {Tenant: "globex", Organization: "globex-inc"},
		},
	}
}

// apply changes the table and puts it in force.
func (w *world) apply(t testing.TB, changes ...func(*postern.Routes)) {
	t.Helper()
	for _, c := range changes {
		c(&w.routes)
	}
	w.revision++
	w.routes.Revision = w.revision
	done, err := w.Apply(w.routes)
	if err != nil || !done {
		t.Fatalf("Apply: %v, %v", done, err)
	}
}

// change edits one connection.
func change(host string, edit func(*postern.ConnectionRoute)) func(*postern.Routes) {
	return func(r *postern.Routes) {
		r.Connections = maps.Clone(r.Connections)
		c := r.Connections[host]
		edit(&c)
		r.Connections[host] = c
	}
}

func (w *world) serveConnect(t testing.TB, serving *sync.WaitGroup, cert *tls.Certificate) string {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	serving.Go(func() {
		if err := w.ServeConnect(ln, cert); err != nil && !errors.Is(err, egress.ErrShutdown) {
			t.Errorf("ServeConnect: %v", err)
		}
	})
	return ln.Addr().String()
}

func (w *world) serveTransparent(t testing.TB, serving *sync.WaitGroup, tenant, at string) netip.AddrPort {
	t.Helper()
	ln := listen(t, netip.AddrPortFrom(netip.MustParseAddr(at), w.port).String())
	serving.Go(func() {
		if err := w.ServeTransparent(ln, tenant); err != nil && !errors.Is(err, relay.ErrShutdown) {
			t.Errorf("ServeTransparent: %v", err)
		}
	})
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func listen(t testing.TB, at string) *net.TCPListener {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", at)
	must(t, err)
	return ln.(*net.TCPListener)
}

// cluster is a TLS server behind an endpoint, which says who it is.
func (w *world) cluster(t testing.TB, at netip.AddrPort, name string, hosts ...string) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/echo" {
			_, _ = io.Copy(rw, r.Body)
			return
		}
		fmt.Fprint(rw, name)
	}))
	s.Listener.Close()
	s.Listener = listen(t, at.String())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{w.authority.server(t, hosts...)}}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).AddrPort()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects and bounds everything that follows.
func dial(t testing.TB, at string) *net.TCPConn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", at)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// answer is what a proxy says.
type answer struct {
	status  int
	header  http.Header
	problem struct{ Type, Title, Detail, Denial, Reason string }
}

// tunnelTo asks a proxy for a tunnel on a connection.
func tunnelTo(t testing.TB, c net.Conn, host string, port uint16, token string) answer {
	t.Helper()
	auth := ""
	if token != "" {
		auth = "Proxy-Authorization: Bearer " + token + "\r\n"
	}
	return ask(t, c, fmt.Sprintf("CONNECT %s:%d HTTP/1.1\r\nHost: %s:%d\r\n%s\r\n", host, port, host, port, auth))
}

// ask sends bytes and reads one answer, byte by byte, so that nothing behind it
// is lost.
func ask(t testing.TB, c net.Conn, request string) answer {
	t.Helper()
	_, err := io.WriteString(c, request)
	must(t, err)
	a, err := readAnswer(c)
	must(t, err)
	return a
}

func readAnswer(c net.Conn) (a answer, err error) {
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		b := make([]byte, 1)
		if _, err := io.ReadFull(c, b); err != nil {
			return a, fmt.Errorf("after %q: %w", head, err)
		}
		head = append(head, b...)
	}
	lines := strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")
	if _, err := fmt.Sscanf(lines[0], "HTTP/1.1 %d", &a.status); err != nil {
		return a, fmt.Errorf("%q: %w", lines[0], err)
	}
	a.header = http.Header{}
	for _, l := range lines[1:] {
		k, v, _ := strings.Cut(l, ": ")
		a.header.Add(k, v)
	}
	if a.status == http.StatusOK {
		return a, nil
	}
	body, err := io.ReadAll(c)
	if err != nil {
		return a, err
	}
	if fmt.Sprint(len(body)) != a.header.Get("Content-Length") {
		return a, fmt.Errorf("%d bytes, and Content-Length says %s", len(body), a.header.Get("Content-Length"))
	}
	return a, json.Unmarshal(body, &a.problem)
}

// client is an HTTP client of a workload, by a proxy or straight to a listener.
func (w *world) client(t testing.TB, proxy func(*http.Transport), to netip.AddrPort) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.authority.pool()}, DisableKeepAlives: true}
	if proxy != nil {
		proxy(tr)
	}
	if to.IsValid() {
		tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, to.String())
		}
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// get asks a host who it is.
func (w *world) get(t testing.TB, c *http.Client, host string) (string, error) {
	t.Helper()
	resp, err := c.Get(fmt.Sprintf("https://%s:%d/", host, w.port))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// denials are what was reported since the last call, by denial; "" counts the
// admitted.
func (w *world) denials() map[postern.Denial]int64 {
	out := map[postern.Denial]int64{}
	for _, s := range w.Drain().Sightings {
		out[s.Denial] += s.Count
	}
	return out
}

// waitFor tries again until it is so.
func waitFor(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen: %s", what)
		}
		<-tick.C
	}
}

// waitDenied waits until exactly these were reported.
func (w *world) waitDenied(t testing.TB, want ...postern.Denial) {
	t.Helper()
	var got []postern.Denial
	waitFor(t, fmt.Sprintf("denials %v", want), func() bool {
		for d, n := range w.denials() {
			for range n {
				got = append(got, d)
			}
		}
		return len(got) >= len(want)
	})
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("denials %v, want %v", got, want)
	}
}
