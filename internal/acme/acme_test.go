package acme_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/postern-net/postern/internal/acme"
)

// What is named has its certificate, and what is named no longer is forgotten;
// nothing before the start.
func TestCertificatesFollowTheHosts(t *testing.T) {
	t.Parallel()
	authority := httptest.NewTLSServer(nil) // answers 404, which changes no certificate
	defer authority.Close()
	storage := t.TempDir()
	issuer := (&certmagic.ACMEIssuer{CA: authority.URL + "/dir"}).IssuerKey()
	for _, h := range []string{"a.example", "b.example", "c.example"} {
		keep(t, storage, issuer, h)
	}
	c, err := acme.New(acme.Config{
		Directory: authority.URL + "/dir", Storage: storage, Door: netip.MustParseAddrPort("127.0.0.1:443"), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	shown := func(want map[string]bool) {
		t.Helper()
		deadline, tick := time.Now().Add(time.Minute), time.NewTicker(5*time.Millisecond)
		defer tick.Stop()
		for h, want := range want {
			for {
				err := trusts(c, h)
				if (err == nil) == want {
					break
				}
				if (<-tick.C).After(deadline) {
					t.Fatalf("%s has a certificate: %v, want that to be %v", h, err, want)
				}
			}
		}
	}
	c.Manage([]string{"a.example"})
	shown(map[string]bool{"a.example": false}) // not yet
	c.Start()
	shown(map[string]bool{"a.example": true, "b.example": false})
	c.Manage([]string{"a.example", "b.example", "c.example"})
	shown(map[string]bool{"a.example": true, "b.example": true, "c.example": true})
	c.Manage([]string{"a.example", "c.example"})
	shown(map[string]bool{"a.example": true, "b.example": false, "c.example": true})
	c.Manage([]string{"b.example"})
	shown(map[string]bool{"a.example": false, "b.example": true, "c.example": false})
	c.Manage(nil)
	shown(map[string]bool{"b.example": false})
}

// trusts tells whether the host's certificate is shown to a client that asks.
func trusts(c *acme.Certificates, host string) error {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		defer there.Close()
		_ = tls.Server(there, &tls.Config{GetCertificate: c.GetCertificate}).Handshake() // the client says what of it
	}()
	return tls.Client(here, &tls.Config{ServerName: host, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		return s.PeerCertificates[0].VerifyHostname(host)
	}}).Handshake()
}

// keep lays a host's certificate where one that was obtained would be.
func keep(t *testing.T, dir, issuer, host string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		certmagic.StorageKeys.SiteCert(issuer, host):       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		certmagic.StorageKeys.SitePrivateKey(issuer, host): pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}),
		certmagic.StorageKeys.SiteMeta(issuer, host):       []byte(`{"sans":["` + host + `"]}`),
	}
	storage := &certmagic.FileStorage{Path: dir}
	for name, b := range files {
		if err := storage.Store(context.Background(), name, b); err != nil {
			t.Fatal(err)
		}
	}
}
