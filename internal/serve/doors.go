package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/ingress"
	"github.com/postern-net/postern/internal/relay"
	"github.com/postern-net/postern/internal/store"
)

// doors are the ingresses of this process, one per region, on one engine.
type doors struct {
	config   []Ingress
	platform *postern.Platform
	engine   *relay.Engine
	regions  map[string]*ingress.Ingress
	log      *slog.Logger
	work     sync.WaitGroup
	pending  []postern.ArrivalCount // reported by nodes, not yet stored; used by one goroutine at a time
}

// newDoors makes the ingresses; none listens yet, and each refuses everything
// until it is given routes.
func newDoors(c Config, p *postern.Platform, access, log *slog.Logger, reg prometheus.Registerer) (*doors, error) {
	d := &doors{config: c.Ingress, platform: p, regions: map[string]*ingress.Ingress{}, log: log, engine: relay.New(relay.Config{
		Logger: log, HelloTimeout: c.Limits.HelloTimeout, IdleTimeout: c.Limits.IdleTimeout,
		DialTimeout: c.Limits.DialTimeout, MaxConnections: c.Limits.MaxConnections,
	})}
	for _, in := range c.Ingress {
		made, err := ingress.New(ingress.Config{
			Region: in.Region, Engine: d.engine, Logger: access.With("region", in.Region),
			Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"region": in.Region}, reg),
		})
		if err != nil {
			return nil, fmt.Errorf("the ingress in %s: %w", in.Region, err)
		}
		d.regions[in.Region] = made
	}
	return d, nil
}

// open listens. An error that ends a listener later goes to fail.
func (d *doors) open(ctx context.Context, fail func(error)) error {
	for _, c := range d.config {
		in := d.regions[c.Region]
		region, _, _ := d.platform.Region(c.Region)
		if err := d.listen(ctx, c.Private, fail, func(ln *net.TCPListener) error { return in.ServePrivate(ln, region.LoadBalancerSources) }); err != nil {
			return fmt.Errorf("the private ingress in %s: %w", c.Region, err)
		}
		if !c.Public.IsValid() {
			continue
		}
		if err := d.listen(ctx, c.Public, fail, func(ln *net.TCPListener) error { return in.ServePublic(ln) }); err != nil {
			return fmt.Errorf("the public ingress in %s: %w", c.Region, err)
		}
	}
	return nil
}

func (d *doors) listen(ctx context.Context, at netip.AddrPort, fail func(error), serve func(*net.TCPListener) error) error {
	ln, err := d.engine.Listen(ctx, at.String())
	if err != nil {
		return err
	}
	d.work.Go(func() {
		if err := serve(ln); err != nil && !errors.Is(err, relay.ErrShutdown) {
			fail(fmt.Errorf("the listener on %s: %w", at, err))
		}
	})
	return nil
}

// apply hands a route table to every region.
func (d *doors) apply(r postern.Routes) {
	for region, in := range d.regions {
		changed, err := in.Apply(r)
		switch {
		case err != nil:
			d.log.Error("the routes were not taken; the ones in force stay", "region", region, "revision", r.Revision, "error", err)
		case changed:
			d.log.Debug("routes in force", "region", region, "revision", r.Revision)
		}
	}
}

// reportEvery is how often what was seen at the doors reaches the store.
const reportEvery = time.Second

func (d *doors) report(ctx context.Context, st *store.Store, log *slog.Logger) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.flush(ctx, st, log)
		}
	}
}

// maxPending bounds what is kept while the store does not take it.
const maxPending = 4 * ingress.MaxSightings

// flush stores what was seen; what cannot be stored is kept for the next time.
func (d *doors) flush(ctx context.Context, st *store.Store, log *slog.Logger) {
	for region, in := range d.regions {
		for _, s := range in.Drain().Sightings {
			a := postern.ArrivalCount{
				Region: region, Listener: s.Listener, EndpointID: s.VPCEndpointID, ServerName: s.Host, Denial: s.Denial,
				Organization: s.Organization, Count: s.Count, FirstSeen: s.First, LastSeen: s.Last,
			}
			if s.Source.IsValid() {
				a.Source = s.Source.String()
			}
			d.pending = append(d.pending, a)
		}
	}
	if len(d.pending) == 0 {
		return
	}
	if err := st.Update(ctx, func(tx *store.Tx) error { return tx.AddArrivals(d.pending) }); err != nil {
		if ctx.Err() == nil {
			log.Error("could not store what arrived; it is tried again", "error", err)
		}
		d.pending = d.pending[max(0, len(d.pending)-maxPending):]
		return
	}
	d.pending = nil
}

// shutdown takes no more connections, and cuts those that do not end in time.
func (d *doors) shutdown(ctx context.Context) {
	if err := d.engine.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		d.log.Warn("the engine did not shut down cleanly", "error", err)
	}
	d.work.Wait()
}
