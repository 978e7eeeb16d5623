// Package serve wires the roles of a Postern process together: the control
// loop with its API, and the ingress of one or more regions.
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
	"github.com/postern-net/postern/internal/api"
	"github.com/postern-net/postern/internal/aws"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// Options are what a [Server] gets from its process rather than its file.
type Options struct {
	Version string
	Stdout  io.Writer // access log, unless the config names a file
	Logger  *slog.Logger
}

// Server is one process's worth of Postern. Start opens everything or nothing;
// Stop closes it, and may be called at any time and more than once.
type Server struct {
	config   Config
	platform *postern.Platform
	options  Options
	registry *prometheus.Registry

	closers []func() error // in the order of opening
	store   *store.Store
	loop    *control.Loop
	doors   *doors
	servers []*http.Server

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
// API answers and the doors obey the routes that were stored last.
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
	if err := s.openState(ctx); err != nil {
		return err
	}
	if err := s.makeDoors(); err != nil {
		return err
	}
	cloud, err := s.cloud()
	if err != nil {
		return err
	}
	rules := plan.Rules{Automatic: s.config.Approval == "policy", MissingGrace: 2 * s.config.Resync}
	s.loop = control.New(control.Config{
		Platform: s.platform, Store: s.store, Cloud: cloud, Rules: rules, Resync: s.config.Resync, Settle: s.config.Settle,
		Publish: s.doors.apply, Now: time.Now, Logger: s.options.Logger,
	})
	// The doors open with the routes that were in force when the last process
	// ended: a restart refuses nobody who was let in before.
	if err := s.loop.PublishStored(ctx); err != nil {
		return err
	}
	if err := s.doors.open(ctx, s.fail); err != nil {
		return err
	}
	handler := api.New(api.Config{
		Platform: s.platform, Store: s.store, Cloud: cloud, Loop: s.loop, Rules: rules, Now: time.Now,
		Logger: s.options.Logger, Version: s.options.Version,
	})
	if err := s.serveHTTP(ctx, "api", s.config.API.Listen.String(), handler, s.config.API.CertificateFile, s.config.API.KeyFile); err != nil {
		return err
	}
	if s.config.Admin.Listen.IsValid() {
		if err := s.serveHTTP(ctx, "admin", s.config.Admin.Listen.String(), s.adminHandler(), "", ""); err != nil {
			return err
		}
	}
	s.work.Go(func() { s.fail(s.loop.Run(run)) })
	s.work.Go(func() { s.doors.report(run, s.store, s.options.Logger) })
	return nil
}

// openState locks the state directory, so that no two processes act on it, and
// opens the database in it.
func (s *Server) openState(ctx context.Context) error {
	dir := s.config.StateDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the state directory: %w", err)
	}
	lock, err := LockDir(dir)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, lock.Close)
	if s.store, err = store.Open(ctx, filepath.Join(dir, "postern.db")); err != nil {
		return err
	}
	s.closers = append(s.closers, s.store.Close)
	return ensureAdminToken(ctx, s.store, s.config.API.AdminTokenFile, time.Now())
}

func (s *Server) makeDoors() error {
	out := s.options.Stdout
	if s.config.AccessLog != "" {
		f, err := os.OpenFile(s.config.AccessLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("the access log: %w", err)
		}
		s.closers = append(s.closers, f.Close)
		out = f
	}
	var err error
	s.doors, err = newDoors(s.config, s.platform, slog.New(slog.NewJSONHandler(out, nil)), s.options.Logger, s.registry)
	return err
}

// cloud makes the adapter to AWS, or to the stand-in.
func (s *Server) cloud() (*aws.Cloud, error) {
	c := aws.Config{Regions: s.platform.RegionIDs(), EndpointURL: s.config.AWS.EndpointURL, Logger: s.options.Logger}
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
// error of the start.
func (s *Server) serveHTTP(ctx context.Context, what, addr string, h http.Handler, cert, key string) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelWarn),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("the %s's certificate: %w", what, err)
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
		return fmt.Errorf("the %s: %w", what, err)
	}
	s.servers = append(s.servers, srv)
	s.options.Logger.Info("listening", "what", what, "address", ln.Addr().String(), "tls", cert != "")
	s.work.Go(func() {
		if cert != "" {
			err = srv.ServeTLS(ln, "", "")
		} else {
			err = srv.Serve(ln)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("the %s: %w", what, err))
		}
	})
	return nil
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
// timeout, and closes everything. It is safe before and after Start.
func (s *Server) Stop() {
	s.stop.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.config.ShutdownTimeout)
		defer cancel()
		var closing sync.WaitGroup
		for _, srv := range s.servers {
			closing.Go(func() {
				if srv.Shutdown(ctx) != nil {
					_ = srv.Close() // what did not end in time is cut
				}
			})
		}
		if s.doors != nil {
			closing.Go(func() { s.doors.shutdown(ctx) })
		}
		closing.Wait()
		if s.cancel != nil {
			s.cancel()
		}
		s.work.Wait()
		if s.doors != nil && s.store != nil {
			s.doors.flush(context.WithoutCancel(ctx), s.store, s.options.Logger)
		}
		for _, closer := range slices.Backward(s.closers) {
			if err := closer(); err != nil {
				s.options.Logger.Warn("could not close cleanly", "error", err)
			}
		}
	})
}
