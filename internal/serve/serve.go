// Package serve wires the roles of a Postern process together: the control
// loop with its API, and the ingress and egress of one or more regions.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/api"
	"github.com/postern-net/postern/internal/aws"
	"github.com/postern-net/postern/internal/certcheck"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/dnspublish"
	"github.com/postern-net/postern/internal/nameserver"
	"github.com/postern-net/postern/internal/nodelink"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// Options are what a [Server] gets from its process rather than its file.
type Options struct {
	Version string
	Stdout  io.Writer // access log, unless the config names a file
	Logger  *slog.Logger
	// Clusters says what is taken for publicly trusted besides what is, and
	// for an endpoint's network. Only the sandbox and tests give any: there is
	// no key for it.
	Clusters certcheck.Config
}

// Server is one process's worth of Postern. Start opens everything or nothing;
// Stop closes it, and may be called at any time and more than once.
type Server struct {
	config   Config
	platform *postern.Platform
	options  Options
	registry *prometheus.Registry

	closers []func() error // in the order of opening

	store *store.Store // role control
	loop  *control.Loop

	doors    *doors // role ingress
	exits    *exits // role egress
	gates    gates  // of all roles of a node
	node     *nodelink.Client
	link     *client.Client // the node's, to the control plane
	stopNode func()         // sends the last report

	servers  []*http.Server
	handling sync.RWMutex // read-locked by each request

	cancel context.CancelFunc
	work   sync.WaitGroup
	failed chan error
	stop   sync.Once
}

// New makes a server of a validated config.
func New(c Config, p *postern.Platform, o Options) *Server {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Server{config: c, platform: p, options: o, registry: r, failed: make(chan error, 8)}
}

// Start opens the state, the listeners and the doors. When it returns nil the
// API answers, and the doors obey the routes that this node had last; without
// any they refuse everything until the control plane has sent some.
func (s *Server) Start(ctx context.Context) error {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	if err := s.start(ctx, run); err != nil {
		s.Stop()
		return err
	}
	return nil
}

func (s *Server) start(ctx, run context.Context) error {
	if err := s.lockState(); err != nil {
		return err
	}
	var own link // to the control plane in this process
	if s.config.has(RoleControl) {
		var err error
		if own, err = s.startControl(ctx); err != nil {
			return err
		}
	}
	if s.config.isNode() {
		if err := s.startGates(ctx, own); err != nil {
			return err
		}
	}
	if s.config.Admin.Listen.IsValid() {
		if _, err := s.serveHTTP(ctx, "admin", s.config.Admin.Listen.String(), s.adminHandler(), "", ""); err != nil {
			return err
		}
	}
	// Everything listens: from here on nothing can fail any more.
	if s.loop != nil {
		s.work.Go(func() { s.fail(s.loop.Run(run)) })
	}
	if s.node != nil {
		s.runNode(run)
	}
	return nil
}

// lockState makes and locks the state directory, so that no two processes act
// on it.
func (s *Server) lockState() error {
	if err := os.MkdirAll(s.config.StateDir, 0o700); err != nil {
		return fmt.Errorf("the state directory: %w", err)
	}
	lock, err := LockDir(s.config.StateDir)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, lock.Close)
	return nil
}

// startControl opens the database and the API. The loop does not run yet, but
// the routes that were in force last are there for every node that asks: a
// restart refuses nobody who was let in before.
func (s *Server) startControl(ctx context.Context) (own link, err error) {
	if s.store, err = store.Open(ctx, filepath.Join(s.config.StateDir, "postern.db")); err != nil {
		return own, err
	}
	s.closers = append(s.closers, s.store.Close)
	if _, err := ensureToken(ctx, s.store, s.config.API.AdminTokenFile, "bootstrap", "bootstrap", postern.RoleAdmin, time.Now()); err != nil {
		return own, err
	}
	if s.config.ownControl() {
		if own.token, err = ensureToken(ctx, s.store, s.config.Node.TokenFile, "node", s.config.Node.ID, postern.RoleNode, time.Now()); err != nil {
			return own, err
		}
	}
	left, err := s.leftIn(ctx)
	if err != nil {
		return own, err
	}
	cloud, err := s.cloud(left)
	if err != nil {
		return own, err
	}
	s.closers = append(s.closers, func() error { cloud.Close(); return nil })
	hub := nodelink.NewHub()
	rules := s.rules()
	zones, err := s.startDNS(ctx)
	if err != nil {
		return own, err
	}
	loop := control.Config{
		Platform: s.platform, Store: s.store, Cloud: cloud, Rules: rules, Resync: s.config.Resync, Settle: s.config.Settle,
		Publish: hub.Publish, PublishZones: zones, Names: dnspublish.Checker{Servers: s.config.DNS.Servers},
		Now: time.Now, Logger: s.options.Logger,
	}
	if err := s.outbound(&loop, cloud, left); err != nil {
		return own, err
	}
	s.loop = control.New(loop)
	if err := s.loop.PublishStored(ctx); err != nil {
		return own, err
	}
	handler := api.New(api.Config{
		Platform: s.platform, Store: s.store, Cloud: cloud, Loop: s.loop, Hub: hub, Rules: rules, Now: time.Now,
		Logger: s.options.Logger, Version: s.options.Version,
	})
	at, err := s.serveHTTP(ctx, "api", s.config.API.Listen.String(), handler, s.config.API.CertificateFile, s.config.API.KeyFile)
	if err != nil {
		return own, err
	}
	if s.config.ownControl() && s.config.API.CertificateFile != "" {
		// The certificate is for the name that others know the API by; the
		// node in this process needs none.
		if at, err = s.serveHTTP(ctx, "own node's link", "127.0.0.1:0", handler, "", ""); err != nil {
			return own, err
		}
	}
	own.url = "http://" + at
	return own, nil
}

func (s *Server) rules() plan.Rules {
	c := s.config.Cutover
	return plan.Rules{
		Automatic: s.config.Approval == "policy", MissingGrace: 2 * s.config.Resync,
		Cutover: plan.CutoverRules{
			TTL: s.config.DNS.TTL, Observe: c.Observe, Window: c.Window, Clients: c.Clients, Drain: c.Drain, NodeSilence: c.NodeSilence,
		},
	}
}

// startDNS runs the nameserver, if this process has that role, and returns
// what takes its zones.
func (s *Server) startDNS(ctx context.Context) (func(postern.Zones), error) {
	if !s.config.has(RoleDNS) {
		return nil, nil //nolint:nilnil // no nameserver, so nobody takes zones
	}
	ns, err := nameserver.New(nameserver.Config{Listen: s.config.DNS.Listen, NegativeTTL: min(s.config.DNS.TTL, 30*time.Second), Logger: s.options.Logger, Registerer: s.registry})
	if err != nil {
		return nil, err
	}
	if err := ns.Start(ctx); err != nil {
		return nil, fmt.Errorf("the nameserver: %w", err)
	}
	s.closers = append(s.closers, func() error { ns.Close(); return nil })
	return func(z postern.Zones) {
		if _, err := ns.Apply(z); err != nil {
			s.options.Logger.Error("the zones were not taken; the ones in force stay", "revision", z.Revision, "error", err)
		}
	}, nil
}

// startGates puts the routes in force that this node had last, whether or not
// the control plane is there, and opens its listeners.
func (s *Server) startGates(ctx context.Context, own link) error {
	if err := s.makeGates(); err != nil {
		return err
	}
	if err := s.makeNode(own); err != nil {
		return err
	}
	s.node.Restore()
	return s.gates.open(ctx, s.fail)
}

func (s *Server) makeGates() error {
	out := s.options.Stdout
	if s.config.AccessLog != "" {
		f, err := os.OpenFile(s.config.AccessLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("the access log: %w", err)
		}
		s.closers = append(s.closers, f.Close)
		out = f
	}
	access := slog.New(slog.NewJSONHandler(out, nil)).With("node", s.config.Node.ID)
	if s.config.has(RoleIngress) {
		d, err := newDoors(s.config, s.platform, access, s.options.Logger, s.registry)
		if err != nil {
			return err
		}
		s.doors, s.gates = d, append(s.gates, d)
	}
	if s.config.has(RoleEgress) {
		x, err := newExits(s.config, s.options.Clusters, access, s.options.Logger, s.registry)
		if err != nil {
			return err
		}
		s.exits, s.gates = x, append(s.gates, x)
	}
	return nil
}

// cloud makes the adapter to AWS, or to the stand-in.
func (s *Server) cloud(left []string) (*aws.Cloud, error) {
	c := aws.Config{Regions: s.regions(left), EndpointURL: s.config.AWS.EndpointURL, Logger: s.options.Logger}
	if s.config.AWS.AccessKeyID != "" {
		secret, err := readSecret(s.config.AWS.SecretAccessKeyFile)
		if err != nil {
			return nil, fmt.Errorf("aws.secret_access_key_file: %w", err)
		}
		c.Credentials = aws.Credentials{AccessKeyID: s.config.AWS.AccessKeyID, SecretAccessKey: secret}
	}
	if s.config.AWS.CAFile != "" {
		b, err := os.ReadFile(s.config.AWS.CAFile)
		if err != nil {
			return nil, fmt.Errorf("aws.ca_file: %w", err)
		}
		c.CABundle = b
	}
	return aws.New(c)
}

// serveHTTP listens before it returns, so that a port that is taken is an
// error of the start. It returns the address that it listens on.
func (s *Server) serveHTTP(ctx context.Context, what, addr string, h http.Handler, cert, key string) (at string, err error) {
	srv := &http.Server{
		Handler: s.counted(h), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		WriteTimeout:   2 * time.Minute, // from the head of a request; streams bound each write themselves
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelWarn),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cert != "" {
		pair, err := loadPair("api.", cert, key)
		if err != nil {
			return "", fmt.Errorf("the %s's certificate: %w", what, err)
		}
		srv.TLSConfig.Certificates = []tls.Certificate{pair}
	}
	// Watches end when the server stops, not when their clients go.
	stopping, cancel := context.WithCancel(context.WithoutCancel(ctx))
	srv.BaseContext = func(net.Listener) context.Context { return stopping }
	srv.RegisterOnShutdown(cancel)
	s.closers = append(s.closers, func() error { cancel(); return nil })
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("the %s: %w", what, err)
	}
	s.servers = append(s.servers, srv)
	s.options.Logger.Info("listening", "what", what, "address", ln.Addr().String(), "tls", cert != "")
	s.work.Go(func() {
		serve := func() error { return srv.Serve(ln) }
		if cert != "" {
			serve = func() error { return srv.ServeTLS(ln, "", "") }
		}
		err := serve()
		if !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("the %s: %w", what, err))
		}
	})
	return ln.Addr().String(), nil
}

// counted lets Stop wait for the requests that a server was closed under: they
// use the database. Later ones find the server gone.
func (s *Server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.handling.TryRLock() {
			return // Stop has begun to close what it needs
		}
		defer s.handling.RUnlock()
		h.ServeHTTP(w, r)
	})
}

// fail ends the process for an error that leaves it useless.
func (s *Server) fail(err error) {
	if err == nil {
		return
	}
	select {
	case s.failed <- err:
	default: // the first one is enough
	}
}

// Failed receives an error that makes it useless to go on.
func (s *Server) Failed() <-chan error { return s.failed }

// Stop takes no more connections, lets the open ones end until the shutdown
// timeout, reports what arrived last, and closes everything. It is safe before
// and after Start.
func (s *Server) Stop() {
	s.stop.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.config.ShutdownTimeout)
		defer cancel()
		// The API outlives the doors: the last report may be for it.
		s.gates.shutdown(ctx)
		if s.stopNode != nil {
			s.stopNode()
		}
		s.closeServers(ctx)
		if s.cancel != nil {
			s.cancel()
		}
		s.work.Wait()
		for _, closer := range slices.Backward(s.closers) {
			if err := closer(); err != nil {
				s.options.Logger.Warn("could not close cleanly", "error", err)
			}
		}
	})
}

// lastRequests is how long requests may take to end when the doors have used
// the shutdown timeout up.
const lastRequests = time.Second

// closeServers takes no more requests and returns when none is handled.
func (s *Server) closeServers(ctx context.Context) {
	left := lastRequests
	if deadline, ok := ctx.Deadline(); ok {
		left = max(left, time.Until(deadline))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), left)
	defer cancel()
	var closing sync.WaitGroup
	for _, srv := range s.servers {
		closing.Go(func() {
			if srv.Shutdown(ctx) != nil {
				_ = srv.Close() // what did not end in time is cut
			}
		})
	}
	closing.Wait()
	s.handling.Lock() // for good: what was cut ends now, and nothing begins
}
