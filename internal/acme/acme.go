// Package acme obtains and renews certificates for hosts at a certificate
// authority that speaks ACME (RFC 8555), by certmagic. It proves the hosts by
// the TLS-ALPN-01 challenge (RFC 8737) on the port that serves them, so that
// nothing else has to be opened: [Certificates.GetCertificate] answers it.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Config is what certificates are obtained by. All fields but Roots and Email
// are required.
type Config struct {
	Directory string         // URL of the authority's directory
	Roots     *x509.CertPool // who may sign the directory's own certificate; nil: the system's roots
	Email     string         // of who is told of trouble
	// Storage is a directory for account keys and certificates. Processes that
	// share it share its certificates, and answer one another's challenges.
	Storage string
	// Door is an address at which GetCertificate is served: certmagic sees it in
	// use, and opens none of its own.
	Door   netip.AddrPort
	Logger *slog.Logger
}

// Certificates are those of the hosts that [Certificates.Manage] named last. Its
// methods may be called from several goroutines at once.
type Certificates struct {
	config *certmagic.Config
	cache  *certmagic.Cache
	log    *slog.Logger
	ctx    context.Context //nolint:containedctx // ends what was begun, at Close
	cancel context.CancelFunc

	mu      sync.Mutex
	started bool
	hosts   []string
	forget  map[string]context.CancelFunc // ends what is done for a host
}

// New prepares the storage. Nothing is obtained before [Certificates.Start].
func New(c Config) (*Certificates, error) {
	if c.Directory == "" || c.Storage == "" || !c.Door.IsValid() || c.Logger == nil {
		return nil, errors.New("acme: a directory, a storage, a door and a logger are required")
	}
	if err := os.MkdirAll(c.Storage, 0o700); err != nil {
		return nil, fmt.Errorf("acme: the storage: %w", err)
	}
	out := &Certificates{log: c.Logger, forget: map[string]context.CancelFunc{}}
	out.ctx, out.cancel = context.WithCancel(context.Background())
	quiet := zap.NewNop() // what matters comes as an event
	out.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return out.config, nil },
		Logger:           quiet,
	})
	out.config = certmagic.New(out.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: c.Storage}, Logger: quiet, OnEvent: out.event,
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
	})
	out.config.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(out.config, certmagic.ACMEIssuer{
		CA: c.Directory, TrustedRoots: c.Roots, Email: c.Email, Agreed: true, DisableHTTPChallenge: true,
		ListenHost: c.Door.Addr().String(), AltTLSALPNPort: int(c.Door.Port()), Logger: quiet,
	})}
	return out, nil
}

func (c *Certificates) event(_ context.Context, event string, data map[string]any) error {
	switch event {
	case "cert_obtained":
		c.log.Info("a certificate was obtained", "host", data["identifier"], "renewal", data["renewal"])
	case "cert_failed":
		c.log.Error("a certificate could not be obtained; it is tried again", "host", data["identifier"], "error", data["error"])
	}
	return nil
}

// Protocol is the ALPN protocol of the challenge.
func (*Certificates) Protocol() string { return "acme-tls/1" }

// GetCertificate returns the certificate of a host, or answers a challenge.
func (c *Certificates) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.config.GetCertificate(hello)
}

// Manage names the hosts that certificates are kept for; those of others are
// forgotten, not revoked. It does not wait.
func (c *Certificates) Manage(hosts []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var gone []certmagic.SubjectIssuer
	for _, h := range c.hosts {
		if !slices.Contains(hosts, h) {
			gone = append(gone, certmagic.SubjectIssuer{Subject: h})
			if cancel, ok := c.forget[h]; ok {
				cancel()
				delete(c.forget, h)
			}
		}
	}
	fresh := slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return slices.Contains(c.hosts, h) })
	c.hosts = slices.Clone(hosts)
	if c.started {
		c.cache.RemoveManaged(gone)
		c.obtain(fresh)
	}
}

// Start begins to obtain certificates; the door must be open.
func (c *Certificates) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started {
		c.started = true
		c.obtain(c.hosts)
	}
}

// obtain has certificates read from the storage or obtained, in the background.
func (c *Certificates) obtain(hosts []string) {
	for _, h := range hosts {
		ctx, cancel := context.WithCancel(c.ctx)
		c.forget[h] = cancel
		if err := c.config.ManageAsync(ctx, []string{h}); err != nil && ctx.Err() == nil {
			c.log.Error("a certificate cannot be managed", "host", h, "error", err)
		}
	}
}

// Close ends what is under way.
func (c *Certificates) Close() {
	c.cancel()
	c.cache.Stop()
}
