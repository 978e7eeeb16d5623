package sandbox

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/postern-net/postern/backend"
)

// appAnswer is what the sandbox's app says of itself and of its visitor, as
// the ingress told it.
type appAnswer struct {
	App           string `json:"app"`
	Tenant        string `json:"tenant"`
	Region        string `json:"region"` // where the app runs: the tenant's home
	VPCEndpointID string `json:"vpc_endpoint_id,omitempty"`
	Organization  string `json:"organization,omitempty"`
	Source        string `json:"source"`         // the client
	Data          string `json:"data,omitempty"` // of an app that organizations share: what is one organization's
}

// openApps runs the platform's apps in every region, behind the middleware that
// a vendor's apps would use.
func (s *Sandbox) openApps(ctx context.Context) error {
	app, _ := s.platform.TenantApp()
	cert, err := s.authority.issue("*."+s.platform.Domains.Hosted, s.platform.Domains.Hosted)
	if err != nil {
		return fmt.Errorf("the apps' certificate: %w", err)
	}
	var serving sync.WaitGroup
	var servers []*http.Server
	s.stops = append(s.stops, func() {
		for _, server := range servers {
			_ = server.Close() // its connections are the sandbox's own
		}
		serving.Wait()
	})
	run := func(id, region string, at netip.Addr, cert tls.Certificate, h http.Handler) error {
		server, err := s.openApp(ctx, &serving, at, cert, h)
		if err != nil {
			return fmt.Errorf("app %s in %s: %w", id, region, err)
		}
		servers = append(servers, server)
		return nil
	}
	for region, at := range s.places.backends {
		if err := run(app.ID, region, at, cert, s.scim.handler(s.options.SCIMApp, s.appHandler(app.ID, region))); err != nil {
			return err
		}
	}
	for _, shared := range sharedApps(s.platform) {
		cert, err := s.authority.issue(shared.Hosts...)
		if err != nil {
			return fmt.Errorf("the certificate of app %s: %w", shared.ID, err)
		}
		for region, at := range s.places.shared[shared.ID] {
			if err := run(shared.ID, region, at, cert, sharedAppHandler(shared.ID, region)); err != nil {
				return err
			}
		}
	}
	return nil
}

// openApp serves one app at an address.
func (s *Sandbox) openApp(ctx context.Context, serving *sync.WaitGroup, at netip.Addr, cert tls.Certificate, h http.Handler) (*http.Server, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", netip.AddrPortFrom(at, s.httpsPort).String())
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		Handler:           backend.Handler(h),
		ConnContext:       backend.ConnContext,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelDebug),
	}
	trusted := &backend.Listener{Listener: ln, Trusted: trustedSources(at)}
	serving.Go(func() {
		if err := server.ServeTLS(trusted, "", ""); !errors.Is(err, http.ErrServerClosed) {
			s.options.Logger.Error("an app ended", "address", ln.Addr(), "error", err)
		}
	})
	return server, nil
}

// trustedSources are the addresses that the ingress connects to an app from.
// Linux gives a connection within one machine the source 127.0.0.1 if it goes
// to a loopback address, and else the very address that it goes to; packets
// that come from elsewhere with a source of the machine's own are dropped.
func trustedSources(app netip.Addr) []netip.Prefix {
	from := app
	if app.IsLoopback() {
		from = loopback
	}
	return []netip.Prefix{netip.PrefixFrom(from, from.BitLen())}
}

func (s *Sandbox) appHandler(app, region string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, _ := backend.FromContext(r.Context())
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(appAnswer{ // the visitor is gone, or it is not
			App: app, Region: region, Tenant: strings.TrimSuffix(a.Authority, "."+s.platform.Domains.Hosted),
			VPCEndpointID: a.VPCEndpointID, Organization: a.Organization, Source: a.Source.String(),
		})
	})
}
