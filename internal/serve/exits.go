package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/certcheck"
	"github.com/postern-net/postern/internal/egress"
	"github.com/postern-net/postern/internal/relay"
)

// exits are the egresses of this process, one per region.
type exits struct {
	config  []Egress
	regions map[string]*exit
	log     *slog.Logger
	work    sync.WaitGroup
	names   []*egress.Names
	lookout *lookout
}

// exit is one region's: the engine's connections come from the region's source
// address.
type exit struct {
	*egress.Egress
	engine      *relay.Engine
	certificate *tls.Certificate
}

// newExits makes the egresses; none listens yet, and each refuses everything
// until it is given routes.
func newExits(c Config, clusters certcheck.Config, access, log *slog.Logger, reg prometheus.Registerer) (*exits, error) {
	look, err := newLookout(c, clusters, log)
	if err != nil {
		return nil, err
	}
	x := &exits{config: c.Egress, regions: map[string]*exit{}, log: log, lookout: look}
	for _, e := range c.Egress {
		out := &exit{engine: relay.New(relay.Config{
			Kind: relay.Kind(c.Engine), Logger: log, HelloTimeout: c.Limits.HelloTimeout, IdleTimeout: c.Limits.IdleTimeout,
			DialTimeout: c.Limits.DialTimeout, MaxConnections: c.Limits.MaxConnections, Source: e.Source,
		})}
		if e.CertificateFile != "" {
			pair, err := loadPair("egress[].", e.CertificateFile, e.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("the certificate of the egress in %s: %w", e.Region, err)
			}
			out.certificate = &pair
		}
		out.Egress, err = egress.New(egress.Config{
			Region: e.Region, Engine: out.engine, Source: e.Source, Networks: clusters.Networks, Logger: access.With("region", e.Region), LogRate: c.AccessLogRate,
			Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"region": e.Region}, reg),
			Limits: egress.Limits{
				HeadTimeout: c.Limits.HelloTimeout, HelloTimeout: c.Limits.HelloTimeout, DialTimeout: c.Limits.DialTimeout,
				IdleTimeout: c.Limits.IdleTimeout, MaxConnections: c.Limits.MaxConnections,
			},
		})
		if err != nil {
			return nil, fmt.Errorf("the egress in %s: %w", e.Region, err)
		}
		x.regions[e.Region] = out
	}
	return x, nil
}

// open listens. An error that ends a listener later goes to fail.
func (x *exits) open(ctx context.Context, fail func(error)) error {
	for _, c := range x.config {
		e := x.regions[c.Region]
		if c.Connect.IsValid() {
			if err := x.listen(ctx, e, c.Connect, fail, func(ln acceptor) error { return e.ServeConnect(ln, e.certificate) }); err != nil {
				return fmt.Errorf("the proxy of the egress in %s: %w", c.Region, err)
			}
		}
		for _, t := range c.Tenants {
			for _, at := range t.Transparent {
				if err := x.listen(ctx, e, at, fail, func(ln acceptor) error { return e.ServeTransparent(ln, t.Tenant) }); err != nil {
					return fmt.Errorf("the listener of tenant %s in %s: %w", t.Tenant, c.Region, err)
				}
			}
			if !t.DNS.IsValid() {
				continue
			}
			n, err := e.StartNames(ctx, t.DNS, t.Tenant, t.Transparent[0].Addr(), fail)
			if err != nil {
				return err
			}
			x.names = append(x.names, n)
		}
	}
	return nil
}

func (x *exits) listen(ctx context.Context, e *exit, at netip.AddrPort, fail func(error), serve func(acceptor) error) error {
	ln, err := e.engine.Listen(ctx, at.String())
	if err != nil {
		return err
	}
	x.work.Go(func() {
		if err := serve(ln); err != nil && !errors.Is(err, relay.ErrShutdown) && !errors.Is(err, egress.ErrShutdown) {
			fail(fmt.Errorf("the listener on %s: %w", at, err))
		}
	})
	return nil
}

// Apply puts a route table in force in every region; each takes or refuses the
// same.
func (x *exits) Apply(r postern.Routes) error {
	var errs []error
	for region, e := range x.regions {
		if _, err := e.Apply(r); err != nil {
			errs = append(errs, fmt.Errorf("in %s: %w", region, err))
		}
	}
	if len(errs) == 0 {
		x.lookout.apply(r.Checks)
	}
	return errors.Join(errs...)
}

// Withdraw takes the table out of force in every region.
func (x *exits) Withdraw() {
	for _, e := range x.regions {
		e.Withdraw()
	}
	x.lookout.apply(nil)
}

// Drain returns who asked for what since it was called last.
func (x *exits) Drain() []postern.ArrivalCount {
	var all []postern.ArrivalCount
	for region, e := range x.regions {
		all = append(all, arrivals(region, e.Drain())...)
	}
	return all
}

// ids lists the regions, sorted.
func (x *exits) ids() []string { return slices.Sorted(maps.Keys(x.regions)) }

// shutdown takes no more connections, and cuts those that do not end in time.
func (x *exits) shutdown(ctx context.Context) {
	var all sync.WaitGroup
	for _, e := range x.regions {
		for _, stop := range []func(context.Context) error{e.Shutdown, e.engine.Shutdown} {
			all.Go(func() {
				if err := stop(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
					x.log.Warn("the egress did not shut down cleanly", "error", err)
				}
			})
		}
	}
	for _, n := range x.names {
		all.Go(n.Close)
	}
	all.Wait()
	x.work.Wait()
	for _, e := range x.regions {
		e.Flush()
	}
}
