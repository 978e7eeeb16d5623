package scim_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/scim"
)

// A client that sends too fast is told when to come again, and others are not
// held up by it.
func TestRates(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *scim.Config) { c.Limits.RequestsPerSecond = 0.5 }) // a burst of two
	c := w.client(true)
	for range 2 {
		if resp, _ := w.do(c, "GET", "/scim/v2/Users", nil); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	resp, _ := w.do(c, "GET", "/scim/v2/Users", nil)
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != 429 || err != nil || after < 1 || after > 2 || len(w.app.requests()) != 2 {
		t.Errorf("%s, Retry-After %q, and the backend got %d", resp.Status, resp.Header.Get("Retry-After"), len(w.app.requests()))
	}
	if n := w.denials()[postern.DenyRate]; n != 1 {
		t.Errorf("counted %d times", n)
	}
	// Whatever is asked for counts, and who goes on does not fill the log.
	for range 50 {
		if resp, _ := w.do(c, "GET", "/admin", nil); resp.StatusCode != 429 && resp.StatusCode != 404 {
			t.Fatal(resp.Status)
		}
	}
	if n := w.denials()[postern.DenyRate]; n < 40 {
		t.Errorf("only %d of 50 were over the rate", n)
	}
	if n := strings.Count(w.logged(), "rate_limited"); n > 10 {
		t.Errorf("%d lines in the log", n)
	}
}

// A client that goes away is no failure of the backend.
func TestClientThatGoesAway(t *testing.T) {
	t.Parallel()
	for name, protocol := range map[string]string{"HTTP/1.1": "http/1.1", "HTTP/2.0": "h2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			begun, ended := make(chan struct{}), make(chan struct{})
			w.app.mu.Lock()
			w.app.serve = func(_ http.ResponseWriter, r *http.Request) {
				close(begun)
				<-r.Context().Done()
				close(ended)
				panic(http.ErrAbortHandler) // an answer could still be in time
			}
			w.app.mu.Unlock()
			ctx, cancel := context.WithCancel(t.Context())
			r, err := http.NewRequestWithContext(ctx, "GET", "https://"+host+"/scim/v2/Users", nil)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				if resp, err := w.client(protocol == "h2").Do(r); err == nil {
					_ = resp.Body.Close()
				}
			}()
			<-begun
			cancel()
			<-done
			<-ended // the backend is not kept busy for nobody
			until(t, "the request is logged", func() bool { return strings.Contains(w.logged(), `"status":499`) })
			if n := w.denials()[postern.DenyBackendDown]; n != 0 {
				t.Errorf("counted %d times against the backend", n)
			}
		})
	}
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	l, now := scim.NewLimiter(10), time.Unix(1000, 0)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i := range 40 {
		if wait := l.Take(a, now); wait != 0 {
			t.Fatalf("request %d waits %v", i, wait)
		}
	}
	if wait := l.Take(a, now); wait != 100*time.Millisecond {
		t.Errorf("over the burst: %v", wait)
	}
	if wait := l.Take(b, now); wait != 0 {
		t.Errorf("another client waits %v", wait)
	}
	if wait := l.Take(a, now.Add(-time.Hour)); wait == 0 {
		t.Error("a clock that goes back gives requests")
	}
	if wait := l.Take(a, now.Add(100*time.Millisecond)); wait != 0 {
		t.Errorf("a tenth of a second later: %v", wait)
	}
	// One client with IPv6 has 2^72 addresses.
	six := netip.MustParseAddr("2001:db8::1")
	for range 40 {
		l.Take(six, now)
	}
	for _, a := range []string{"2001:db8::ffff:1", "2001:db8:0:ff::1"} {
		if wait := l.Take(netip.MustParseAddr(a), now); wait == 0 {
			t.Errorf("%s, another address of the same network, is another client", a)
		}
	}
	if wait := l.Take(netip.MustParseAddr("2001:db8:0:100::1"), now); wait != 0 {
		t.Errorf("another network waits %v", wait)
	}
	for i := range scim.MaxBuckets + 100 {
		l.Take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if l.Len() > scim.MaxBuckets {
		t.Errorf("%d clients are remembered", l.Len())
	}
}

// A client that does nothing is not waited for.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	const short = 300 * time.Millisecond
	w := start(t, func(c *scim.Config) {
		c.Limits.HelloTimeout, c.Limits.IdleTimeout, c.Limits.RequestTimeout = short, short, 3*short
	})
	var d net.Dialer
	raw, err := d.DialContext(t.Context(), "tcp", w.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(patience))
	if _, err := raw.Read(make([]byte, 1)); !isClosed(err) {
		t.Errorf("without a hello: %v", err)
	}
	until(t, "it is counted", func() bool { return w.denials()[postern.DenyHelloTimeout] == 1 })
	for name, send := range map[string]string{"no request": "", "half a head": plain[:50], "half a body": post("Content-Length: 5", "hel")} {
		var c net.Conn
		until(t, "a handshake is in time", func() bool { c, err = w.dial(host, "http/1.1"); return err == nil })
		_, _ = io.WriteString(c, send)
		if _, err := io.Copy(io.Discard, c); !isClosed(err) && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, g := range w.app.requests() {
		t.Errorf("the backend completed %+v", g)
	}
}

// A backend that does not answer is told of, in time.
func TestSlowBackend(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *scim.Config) { c.Limits.RequestTimeout = 200 * time.Millisecond })
	w.app.mu.Lock()
	w.app.serve = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() } // its answer comes too late
	w.app.mu.Unlock()
	if resp, _ := w.do(w.client(true), "GET", "/scim/v2/Users", nil); resp.StatusCode != 502 {
		t.Error(resp.Status)
	}
	r := w.route()
	r.Backends = nil
	w.apply(r)
	if resp, _ := w.do(w.client(true), "GET", "/scim/v2/Users", nil); resp.StatusCode != 502 {
		t.Errorf("without a backend: %s", resp.Status)
	}
	if n := w.denials()[postern.DenyBackendDown]; n != 2 {
		t.Errorf("counted %d times", n)
	}
}

// Requests that are under way may end.
func TestShutdown(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	begun, finish := make(chan struct{}), make(chan struct{})
	w.app.mu.Lock()
	w.app.serve = func(rw http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		_, _ = io.WriteString(rw, "done")
	}
	w.app.mu.Unlock()
	answer := make(chan string, 1)
	go func() {
		c, err := w.dial(host, "http/1.1")
		if err != nil {
			answer <- err.Error()
			return
		}
		_, _ = io.WriteString(c, plain)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			answer <- err.Error()
			return
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		answer <- string(b)
	}()
	<-begun
	idle, err := w.dial(host, "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { w.door.Shutdown(t.Context()); close(stopped) }()
	until(t, "nobody is let in", func() bool {
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", w.addr.String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(finish)
	if got := <-answer; got != "done" {
		t.Errorf("the request under way got %q", got)
	}
	<-stopped
	if _, err := idle.Read(make([]byte, 1)); !isClosed(err) {
		t.Errorf("the idle connection: %v", err)
	}
}

// A renewed certificate is shown without a restart, and a broken file leaves
// the one before.
func TestFiles(t *testing.T) {
	t.Parallel()
	i, dir := newIssuer(t), t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	write := func(names ...string) {
		t.Helper()
		c := i.issue(t, names...)
		der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err := errors.Join(err,
			os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), 0o600),
			os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := scim.OpenFiles(cert, key, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("files that are not there are taken")
	}
	write("a.example.com")
	log := &logBuffer{}
	f, err := scim.OpenFiles(cert, key, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Covers([]string{"a.example.com"}); err != nil {
		t.Error(err)
	}
	if err := f.Covers([]string{"a.example.com", "b.example.com"}); err == nil || !strings.Contains(err.Error(), "b.example.com") {
		t.Errorf("a host that it is not for: %v", err)
	}
	shows := func(name string) bool {
		f.Look()
		c, err := f.GetCertificate(&tls.ClientHelloInfo{})
		return err == nil && c.Leaf.VerifyHostname(name) == nil
	}
	write("longer.b.example.com")
	if !shows("longer.b.example.com") {
		t.Error("the new certificate is not shown")
	}
	if err := os.WriteFile(key, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !shows("longer.b.example.com") {
		t.Error("a broken file is believed")
	}
	if err := os.Remove(cert); err != nil || !shows("longer.b.example.com") {
		t.Errorf("without the file: %v", err)
	}
	write("c.example.com")
	if !shows("c.example.com") {
		t.Error("it does not recover")
	}
	if strings.Contains(log.String(), "everybody") {
		t.Errorf("a warning of a key that is nobody else's: %s", log)
	}
	write("longer.d.example.com")
	if err := os.Chmod(key, 0o644); err != nil || !shows("longer.d.example.com") || !strings.Contains(log.String(), `level=ERROR msg="everybody on the machine may use the private key, and the next start will refuse it`) {
		t.Errorf("a key that everybody reads: %v; the log: %s", err, log)
	}
}
