package certcheck_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/certcheck"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const host = "starburst.example.com"

var local = netip.MustParsePrefix("127.0.0.0/8")

// signer is an authority, or an intermediate one.
type signer struct {
	cert  *x509.Certificate
	key   crypto.Signer
	above [][]byte // certificates that a server sends after its own
}

// issue makes a certificate; by nil makes one that is signed by itself.
func issue(t testing.TB, by *signer, change func(*x509.Certificate)) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	change(c)
	parent, parentKey := c, crypto.Signer(key)
	if by != nil {
		parent, parentKey = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := signer{cert: cert, key: key, above: [][]byte{der}}
	if by != nil {
		s.above = append(s.above, by.above...)
	}
	return s
}

func authority(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject, c.DNSNames, c.IsCA, c.BasicConstraintsValid = pkix.Name{CommonName: name}, nil, true, true
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageCertSign, nil
		c.NotBefore, c.NotAfter = time.Now().Add(-365*24*time.Hour), time.Now().Add(3650*24*time.Hour)
	}
}

func (s signer) pair() tls.Certificate {
	return tls.Certificate{Certificate: s.above, PrivateKey: s.key}
}

// chain is what a server with it presents.
func (s signer) chain(t testing.TB) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for _, der := range s.above {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func checker(t testing.TB, roots ...signer) *certcheck.Checker {
	t.Helper()
	config := certcheck.Config{Networks: []netip.Prefix{local}}
	for _, r := range roots {
		config.Roots = append(config.Roots, r.cert)
	}
	c, err := certcheck.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const ready = `{"nodeVersion":{"version":"476"},"environment":"test","coordinator":true,"starting":false,"uptime":"1.00m"}`

func answer(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/info" || r.Host != host {
			http.Error(w, "asked for something else: "+r.Host+r.URL.Path, http.StatusTeapot)
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

// serve runs a TLS server until the test ends.
func serve(t testing.TB, config *tls.Config, h http.Handler) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = config
	s.Config.ErrorLog = discard
	s.StartTLS()
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// raw runs a server that treats each connection as told.
func raw(t testing.TB, treat func(net.Conn)) netip.AddrPort {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			treat(c)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return netip.MustParseAddrPort(ln.Addr().String())
}

func reasons(fs []postern.Finding) (stop, warn []postern.Reason) {
	for _, f := range fs {
		if f.Warning {
			warn = append(warn, f.Reason)
		} else {
			stop = append(stop, f.Reason)
		}
	}
	return stop, warn
}

func wantFindings(t *testing.T, what string, fs []postern.Finding, stop, warn []postern.Reason) {
	t.Helper()
	gotStop, gotWarn := reasons(fs)
	if !slices.Equal(gotStop, stop) || !slices.Equal(gotWarn, warn) {
		t.Errorf("%s: found %+v; want %v, and warnings %v", what, fs, stop, warn)
	}
	if certcheck.Good(fs) != (len(stop) == 0) {
		t.Errorf("%s: Good says %v of %+v", what, certcheck.Good(fs), fs)
	}
	for _, f := range fs {
		if f.Message == "" {
			t.Errorf("%s: %s says nothing", what, f.Reason)
		}
	}
}
