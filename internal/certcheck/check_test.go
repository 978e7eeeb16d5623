package certcheck_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/certcheck"
	"github.com/postern-net/postern/test/loopback"
)

var discard = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)

var checkerOnce = func() func(t testing.TB) *certcheck.Checker {
	var once sync.Once
	var c *certcheck.Checker
	return func(t testing.TB) *certcheck.Checker {
		once.Do(func() { c = checker(t) })
		return c
	}
}()

func writePEM(t *testing.T, c *x509.Certificate) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func check(t *testing.T, c *certcheck.Checker, at ...netip.AddrPort) []postern.Finding {
	t.Helper()
	target := certcheck.Target{Hostname: host}
	ports := map[uint16]bool{}
	addrs := map[netip.Addr]bool{}
	for _, a := range at {
		if !ports[a.Port()] {
			target.Ports = append(target.Ports, a.Port())
		}
		if !addrs[a.Addr()] {
			target.Addresses = append(target.Addresses, a.Addr())
		}
		ports[a.Port()], addrs[a.Addr()] = true, true
	}
	found, err := c.Check(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCheck(t *testing.T) {
	root := issue(t, nil, authority("Public Root"))
	good := issue(t, &root, func(*x509.Certificate) {}).pair()
	bad := issue(t, &root, func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "x", []string{"trino.example.com"} }).pair()
	// A certificate is public; its key is not.
	stolen := tls.Certificate{Certificate: good.Certificate, PrivateKey: bad.PrivateKey}
	secure := &tls.Config{Certificates: []tls.Certificate{good}}
	c := checker(t, root)
	type list = []postern.Reason
	for name, tc := range map[string]struct {
		at         netip.AddrPort
		stop, warn list
	}{
		"good":         {at: serve(t, secure, answer(200, ready))},
		"TLS 1.2 only": {at: serve(t, &tls.Config{Certificates: secure.Certificates, MaxVersion: tls.VersionTLS12}, answer(200, ready))},
		"TLS 1.1 only": {at: serve(t, &tls.Config{Certificates: secure.Certificates, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, answer(200, ready)), stop: list{postern.ReasonTLSTooOld}},
		"wrong name":   {at: serve(t, &tls.Config{Certificates: []tls.Certificate{bad}}, answer(200, ready)), stop: list{postern.ReasonNameMismatch}},

		"starting":     {at: serve(t, secure, answer(200, strings.Replace(ready, `"starting":false`, `"starting":true`, 1))), stop: list{postern.ReasonClusterStarting}},
		"a worker":     {at: serve(t, secure, answer(200, strings.Replace(ready, `"coordinator":true`, `"coordinator":false`, 1))), stop: list{postern.ReasonNotTrino}},
		"old Trino":    {at: serve(t, secure, answer(200, `{"nodeVersion":{"version":"330"}}`))},
		"not Trino":    {at: serve(t, secure, answer(404, "no")), stop: list{postern.ReasonNotTrino}},
		"a website":    {at: serve(t, secure, answer(200, "<html>")), stop: list{postern.ReasonNotTrino}},
		"other JSON":   {at: serve(t, secure, answer(200, `{"status":"ok"}`)), stop: list{postern.ReasonNotTrino}},
		"endless":      {at: serve(t, secure, answer(200, `{"nodeVersion":{"version":"`+strings.Repeat("x", 100<<10)+`"}}`)), stop: list{postern.ReasonNotTrino}},
		"a redirect":   {at: serve(t, secure, http.RedirectHandler("https://other.example/", http.StatusFound)), stop: list{postern.ReasonNotTrino}},
		"asks for who": {at: serve(t, secure, answer(401, "who?")), warn: list{postern.ReasonNotTrino}},
		"a client's certificate, TLS 1.3": {
			at:   serve(t, &tls.Config{Certificates: secure.Certificates, ClientAuth: tls.RequireAnyClientCert}, answer(200, ready)),
			warn: list{postern.ReasonNotTrino},
		},
		"a client's certificate, TLS 1.2": {
			at:   serve(t, &tls.Config{Certificates: secure.Certificates, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, answer(200, ready)),
			warn: list{postern.ReasonNotTrino},
		},
		"another's certificate, TLS 1.3": {at: serve(t, &tls.Config{Certificates: []tls.Certificate{stolen}}, answer(200, ready)), stop: list{postern.ReasonNotTLS}},
		"another's certificate, TLS 1.2": {
			at: serve(t, &tls.Config{Certificates: []tls.Certificate{stolen}, MaxVersion: tls.VersionTLS12}, answer(200, ready)), stop: list{postern.ReasonNotTLS},
		},
		"another's certificate, and a client's": {
			at: serve(t, &tls.Config{Certificates: []tls.Certificate{stolen}, ClientAuth: tls.RequireAnyClientCert}, answer(200, ready)), stop: list{postern.ReasonNotTLS},
		},

		"nobody":   {at: closedPort(t), stop: list{postern.ReasonUnreachable}},
		"hangs up": {at: raw(t, func(net.Conn) {}), stop: list{postern.ReasonUnreachable}},
		"plain HTTP": {at: raw(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 10))
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}), stop: list{postern.ReasonNotTLS}},
		"knows no such host": {at: raw(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte{0x15, 3, 3, 0, 2, 2, 112})
		}), stop: list{postern.ReasonNameMismatch}},
		"no common cipher": {at: raw(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte{0x15, 3, 3, 0, 2, 2, 40})
		}), stop: list{postern.ReasonTLSTooOld}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantFindings(t, name, check(t, c, tc.at), tc.stop, tc.warn)
		})
	}
}

func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	return loopback.Free(t)
}

// A certificate that is not good is the last thing that is talked about.
func TestNothingIsAskedOverABadCertificate(t *testing.T) {
	private := issue(t, nil, authority("private"))
	asked := make(chan string, 1)
	at := serve(t, &tls.Config{Certificates: []tls.Certificate{issue(t, &private, func(*x509.Certificate) {}).pair()}}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
	}))
	wantFindings(t, "private", check(t, checker(t), at), []postern.Reason{postern.ReasonPrivateCA}, nil)
	select {
	case path := <-asked:
		t.Errorf("asked for %s", path)
	default:
	}
}

// A workload goes on to the next interface, so one that is down is a warning;
// a bad certificate on one of them is met by every second query.
func TestSeveralInterfaces(t *testing.T) {
	root := issue(t, nil, authority("Public Root"))
	good := &tls.Config{Certificates: []tls.Certificate{issue(t, &root, func(*x509.Certificate) {}).pair()}}
	bad := &tls.Config{Certificates: []tls.Certificate{issue(t, &root, func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "x", []string{"x.example.com"} }).pair()}}
	c := checker(t, root)

	first := serve(t, good, answer(200, ready))
	at := func(host string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(host), first.Port()) }
	found := check(t, c, first, at("127.0.0.2"))
	wantFindings(t, "one is down", found, nil, []postern.Reason{postern.ReasonUnreachable})
	if !strings.Contains(found[0].Message, "2 network interfaces 1 did not work") || strings.Contains(found[0].Message, "127.") {
		t.Errorf("%q", found[0].Message)
	}

	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", at("127.0.0.3").String())
	if err != nil {
		t.Skipf("the port is taken on another address: %v", err)
	}
	s := &http.Server{Handler: answer(200, ready), TLSConfig: bad, ErrorLog: discard} //nolint:gosec // a test's
	done := make(chan struct{})
	go func() { defer close(done); _ = s.ServeTLS(ln, "", "") }()
	t.Cleanup(func() { s.Close(); <-done })
	wantFindings(t, "one is another's", check(t, c, first, at("127.0.0.3")), []postern.Reason{postern.ReasonNameMismatch}, nil)

	// Of two ports, one may be for something else.
	other := serve(t, good, answer(404, ""))
	found = check(t, c, first, other)
	wantFindings(t, "two ports", found, nil, nil)
	third := serve(t, bad, answer(200, ready))
	found = check(t, c, first, third)
	wantFindings(t, "two ports, one bad", found, []postern.Reason{postern.ReasonNameMismatch}, nil)
	if !strings.HasPrefix(found[0].Message, "port ") {
		t.Errorf("%q does not name the port", found[0].Message)
	}
}

// It connects to endpoints only.
func TestCheckRefusesTargets(t *testing.T) {
	production, err := certcheck.New(certcheck.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"169.254.169.254", "127.0.0.1", "::1", "::ffff:10.0.0.1", "8.8.8.8", "0.0.0.0", "224.0.0.1"} {
		_, err := production.Check(t.Context(), certcheck.Target{Hostname: host, Addresses: []netip.Addr{netip.MustParseAddr(a)}, Ports: []uint16{443}})
		if postern.CodeOf(err) != postern.CodeInvalid {
			t.Errorf("%s: %v", a, err)
		}
	}
	for name, target := range map[string]certcheck.Target{
		"no hostname": {Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Ports: []uint16{443}},
		"no address":  {Hostname: host, Ports: []uint16{443}},
		"no port":     {Hostname: host, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
	} {
		if _, err := production.Check(t.Context(), target); postern.CodeOf(err) != postern.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The end of ctx is no finding about the customer.
func TestCheckEnds(t *testing.T) {
	got := make(chan struct{})
	release := make(chan struct{})
	at := raw(t, func(c net.Conn) { close(got); <-release })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-got; cancel() }()
	found, err := checker(t).Check(ctx, certcheck.Target{Hostname: host, Addresses: []netip.Addr{at.Addr()}, Ports: []uint16{at.Port()}})
	close(release)
	if err == nil || found != nil {
		t.Errorf("%+v, %v", found, err)
	}
}

// A bad certificate is told of, though something else did not answer in time.
func TestABadCertificateIsToldInTime(t *testing.T) {
	bad := serve(t, &tls.Config{Certificates: []tls.Certificate{issue(t, nil, func(*x509.Certificate) {}).pair()}}, answer(200, ready))
	slow := raw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	found, err := checker(t).Check(ctx, certcheck.Target{Hostname: host, Addresses: []netip.Addr{bad.Addr()}, Ports: []uint16{slow.Port(), bad.Port()}})
	if err != nil {
		t.Fatal(err)
	}
	wantFindings(t, "one of two", found, []postern.Reason{postern.ReasonSelfSigned}, nil)
}
