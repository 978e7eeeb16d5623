package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/ingress"
	"github.com/postern-net/postern/internal/relay"
)

// doors are the ingresses of this process, one per region. The private
// listeners of all regions share an engine and its limits, and the public ones
// another: whoever floods the public side does not shut the private one.
type doors struct {
	config   []Ingress
	platform *postern.Platform
	private  *relay.Engine
	public   *relay.Engine
	regions  map[string]*ingress.Ingress
	scim     *scimDoors
	log      *slog.Logger
	work     sync.WaitGroup
	routes   atomic.Pointer[postern.Routes] // applied last; nil: none
}

// newDoors makes the ingresses; none listens yet, and each refuses everything
// until it is given routes.
func newDoors(c Config, p *postern.Platform, access, log *slog.Logger, reg prometheus.Registerer) (*doors, error) {
	limits := relay.Config{
		Kind: relay.Kind(c.Engine), Logger: log, HelloTimeout: c.Limits.HelloTimeout, IdleTimeout: c.Limits.IdleTimeout,
		DialTimeout: c.Limits.DialTimeout, MaxConnections: c.Limits.MaxConnections,
	}
	d := &doors{
		config: c.Ingress, platform: p, regions: map[string]*ingress.Ingress{}, log: log,
		private: relay.New(limits), public: relay.New(limits),
	}
	for _, in := range c.Ingress {
		made, err := ingress.New(ingress.Config{
			Region: in.Region, Engine: d.private, PublicEngine: d.public, Logger: access.With("region", in.Region), LogRate: c.AccessLogRate,
			Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"region": in.Region}, reg),
		})
		if err != nil {
			return nil, fmt.Errorf("the ingress in %s: %w", in.Region, err)
		}
		d.regions[in.Region] = made
	}
	var err error
	d.scim, err = newSCIMDoors(c, access, log, reg)
	return d, err
}

// open listens. An error that ends a listener later goes to fail.
func (d *doors) open(ctx context.Context, fail func(error)) error {
	for _, c := range d.config {
		in := d.regions[c.Region]
		region, _, _ := d.platform.Region(c.Region)
		if err := d.listen(ctx, d.private, c.Private, fail, func(ln *net.TCPListener) error { return in.ServePrivate(ln, region.LoadBalancerSources) }); err != nil {
			return fmt.Errorf("the private ingress in %s: %w", c.Region, err)
		}
		if !c.Public.IsValid() {
			continue
		}
		if err := d.listen(ctx, d.public, c.Public, fail, func(ln *net.TCPListener) error { return in.ServePublic(ln) }); err != nil {
			return fmt.Errorf("the public ingress in %s: %w", c.Region, err)
		}
	}
	return d.scim.open(ctx, fail)
}

func (d *doors) listen(ctx context.Context, e *relay.Engine, at netip.AddrPort, fail func(error), serve func(*net.TCPListener) error) error {
	ln, err := e.Listen(ctx, at.String())
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

// Apply puts a route table in force in every region; each takes or refuses the
// same.
func (d *doors) Apply(r postern.Routes) error {
	var errs []error
	for region, in := range d.regions {
		if _, err := in.Apply(r); err != nil {
			errs = append(errs, fmt.Errorf("in %s: %w", region, err))
		}
	}
	if err := d.scim.Apply(r); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		d.routes.Store(&r)
	}
	return errors.Join(errs...)
}

// Withdraw takes the table out of force in every region.
func (d *doors) Withdraw() {
	d.routes.Store(nil)
	for _, in := range d.regions {
		in.Withdraw()
	}
	d.scim.Withdraw()
}

// Drain returns who arrived since it was called last.
func (d *doors) Drain() []postern.ArrivalCount {
	all := d.scim.Drain()
	for region, in := range d.regions {
		all = append(all, arrivals(region, in.Drain())...)
	}
	return all
}

// ids lists the regions, sorted.
func (d *doors) ids() []string { return slices.Sorted(maps.Keys(d.regions)) }

// shutdown takes no more connections, and cuts those that do not end in time.
func (d *doors) shutdown(ctx context.Context) {
	var both sync.WaitGroup
	for _, e := range []*relay.Engine{d.private, d.public} {
		both.Go(func() {
			if err := e.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				d.log.Warn("the engine did not shut down cleanly", "error", err)
			}
		})
	}
	both.Go(func() { d.scim.shutdown(ctx) })
	both.Wait()
	d.work.Wait()
	for _, in := range d.regions {
		in.Flush()
	}
}
