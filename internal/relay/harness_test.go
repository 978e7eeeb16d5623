package relay_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-net/postern/internal/proxyproto"
	"github.com/postern-net/postern/internal/relay"
	"github.com/postern-net/postern/test/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alert  = "\x15\x03\x01\x00\x02\x02\x31"
	host   = "example.hosted.immutacloud.com"
	vpceID = "vpce-00eafc458ec97b833"
	// patience bounds every wait of a test that is about to fail.
	patience = 30 * time.Second
)

var (
	local      = netip.MustParsePrefix("127.0.0.0/8")
	clientAddr = netip.MustParseAddrPort("10.0.0.5:49153")
	targetAddr = netip.MustParseAddrPort("10.1.0.7:443")
)

// kinds are the engines that this system has. What they do must be the same,
// so every test is for each of them.
func kinds() []relay.Kind {
	if runtime.GOOS == "linux" {
		return []relay.Kind{relay.KindGoroutine, relay.KindEpoll}
	}
	return []relay.Kind{relay.KindGoroutine}
}

// onEach plays a test on each engine.
func onEach(t *testing.T, play func(*testing.T, relay.Kind)) {
	t.Helper()
	t.Parallel()
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) { play(t, kind) })
	}
}

// record is what an observer was told.
type record struct {
	what    string // "probed", "refused", "opened", "closed"
	arrival relay.Arrival
	verdict relay.Verdict
	stats   relay.Stats
}

// recorder is an observer that keeps everything.
type recorder struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced with every record
	records []record
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (r *recorder) add(e record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, e)
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Probed(a *relay.Arrival) { r.add(record{what: "probed", arrival: *a}) }
func (r *recorder) Refused(a *relay.Arrival, v relay.Verdict) {
	r.add(record{what: "refused", arrival: *a, verdict: v})
}

func (r *recorder) Opened(a *relay.Arrival, v relay.Verdict) {
	r.add(record{what: "opened", arrival: *a, verdict: v})
}

func (r *recorder) Closed(a *relay.Arrival, v relay.Verdict, s relay.Stats) {
	r.add(record{what: "closed", arrival: *a, verdict: v, stats: s})
}

// wait returns the first n records of a kind, as soon as there are so many.
func (r *recorder) wait(t *testing.T, what string, n int) []record {
	t.Helper()
	timeout := time.After(patience)
	for {
		r.mu.Lock()
		changed := r.changed
		var found []record
		for _, e := range r.records {
			if e.what == what {
				found = append(found, e)
			}
		}
		all := len(r.records)
		r.mu.Unlock()
		if len(found) >= n {
			return found
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%d of %d records %q (of %d in all); the last: %+v", len(found), n, what, all, r.last())
		}
	}
}

// last is what was told last.
func (r *recorder) last() record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.records) == 0 {
		return record{}
	}
	return r.records[len(r.records)-1]
}

// proxy is an engine that serves one listener.
type proxy struct {
	*relay.Engine
	*recorder
	addr   string
	served chan error
}

type setup struct {
	kind    relay.Kind
	config  relay.Config
	proxied bool
	sources []netip.Prefix
	payer   string
	match   relay.Match
}

func start(t *testing.T, s setup) *proxy {
	t.Helper()
	s.config.Logger, s.config.Kind = slog.New(slog.DiscardHandler), s.kind
	p := &proxy{Engine: relay.New(s.config), recorder: newRecorder(), served: make(chan error, 1)}
	ln, err := p.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = ln.Addr().String()
	go func() {
		p.served <- p.Serve(relay.Listener{Acceptor: ln, Name: "test", ProxyProtocol: s.proxied, Sources: s.sources, Payer: s.payer}, s.match, p.recorder)
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 200*time.Millisecond)
		defer cancel()
		_ = p.Shutdown(ctx) // tests of Shutdown look at its error
		if err := <-p.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := p.Connections(); n != 0 {
			t.Errorf("%d connections left", n)
		}
	})
	return p
}

// also has the engine serve another listener, whose connections are in a
// payer's share.
func (p *proxy) also(t *testing.T, payer string, match relay.Match) (addr string) {
	t.Helper()
	ln, err := p.Listen(t.Context(), "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- p.Serve(relay.Listener{Acceptor: ln, Name: "test", Payer: payer}, match, p.recorder) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = p.Shutdown(ctx)
		must(t, <-served)
	})
	return ln.Addr().String()
}

// to admits everything to the given backends.
func to(backends ...netip.AddrPort) relay.Match {
	return func(*relay.Arrival) relay.Verdict { return relay.Verdict{Backends: backends} }
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// dialFrom dials from an address of this machine.
func dialFrom(t *testing.T, from, addr string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	_, err := c.Write(b)
	must(t, err)
}

// expect reads exactly these bytes.
func expect(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}

// backend is a listener that hands its connections to the test.
type backend struct {
	addr  netip.AddrPort
	conns chan *net.TCPConn
}

func listen(t *testing.T) *backend {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	ln := l.(*net.TCPListener)
	b := &backend{addr: ln.Addr().(*net.TCPAddr).AddrPort(), conns: make(chan *net.TCPConn, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.AcceptTCP()
			if errors.Is(err, syscall.EMFILE) {
				<-time.After(5 * time.Millisecond)
				continue
			}
			if err != nil {
				return
			}
			b.conns <- c
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
		close(b.conns)
		for c := range b.conns {
			_ = c.Close()
		}
	})
	return b
}

func (b *backend) accept(t *testing.T) *net.TCPConn {
	t.Helper()
	select {
	case c := <-b.conns:
		t.Cleanup(func() { _ = c.Close() })
		must(t, c.SetDeadline(time.Now().Add(patience)))
		return c
	case <-time.After(patience):
		t.Fatal("no connection at the backend")
		return nil
	}
}

// free is an address on which nobody listens.
func free(t *testing.T) netip.AddrPort {
	t.Helper()
	return loopback.Free(t)
}

// sink takes what a TLS client writes first and then fails it.
type sink struct {
	net.Conn
	out bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error) { return s.out.Write(b) }
func (*sink) Read([]byte) (int, error)      { return 0, io.EOF }
func (*sink) Close() error                  { return nil }

// hello is the ClientHello of a real client.
func hello(t testing.TB, name string, protocols ...string) []byte {
	t.Helper()
	s := &sink{}
	if err := tls.Client(s, &tls.Config{ServerName: name, InsecureSkipVerify: name == "", NextProtos: protocols}).HandshakeContext(t.Context()); err == nil {
		t.Fatal("handshake with nobody succeeded")
	}
	return s.out.Bytes()
}

func header() []byte { return proxyproto.AppendAWS(nil, clientAddr, targetAddr, vpceID) }

// connect brings a client and its backend together through a proxy.
func connect(t *testing.T, p *proxy, b *backend) (client, server *net.TCPConn) {
	t.Helper()
	client = dial(t, p.addr)
	h := hello(t, host)
	send(t, client, h)
	server = b.accept(t)
	expect(t, server, h)
	return client, server
}

// expectReset reads until the connection fails, which must be by a reset.
func expectReset(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, c)
	if err == nil || !strings.Contains(err.Error(), "connection reset") {
		t.Fatalf("connection ended with %v, want a reset", err)
	}
}

// expectRefusal reads the alert, and nothing but it.
func expectRefusal(t *testing.T, c net.Conn) {
	t.Helper()
	if got, err := io.ReadAll(c); err != nil || string(got) != alert {
		t.Fatalf("read %q, %v; want the alert", got, err)
	}
}

func newLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// shutdown is a shutdown that finds nothing to cut.
func shutdown(t *testing.T, e *relay.Engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, e.Shutdown(ctx))
}
