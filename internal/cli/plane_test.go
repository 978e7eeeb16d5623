package cli_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/backend"
	"github.com/postern-net/postern/internal/dnspublish"
	"github.com/postern-net/postern/internal/ingress"
	"github.com/postern-net/postern/internal/isolation"
	"github.com/postern-net/postern/internal/nameserver"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/relay"
	"github.com/postern-net/postern/internal/store"
)

// plane is one ingress node of us-east-1, the zones' nameserver and the app:
// what a cutover looks at. The node is linked to the store without a network
// between.
type plane struct {
	engine          *relay.Engine
	ingress         *ingress.Ingress
	names           *nameserver.Server
	app             *httptest.Server
	private, public netip.AddrPort
	serving         sync.WaitGroup
}

// cutoverRules make a cutover a matter of seconds. What a person has to do is
// waited for.
var cutoverRules = plan.CutoverRules{
	TTL: time.Second, Observe: 2 * time.Second, Window: time.Minute, Clients: 3, Drain: 3 * time.Second, NodeSilence: 10 * time.Second,
}

func startPlane(ctx context.Context, platform *postern.Platform) (*plane, error) {
	p := &plane{engine: relay.New(relay.Config{})}
	var err error
	if p.ingress, err = ingress.New(ingress.Config{
		Region: virginia, Engine: p.engine, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}); err != nil {
		return nil, err
	}
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	serve := func(f func(relay.Acceptor) error) netip.AddrPort {
		ln, e := p.engine.Listen(ctx, "127.0.0.1:0")
		if e != nil {
			err = errors.Join(err, e)
			return netip.AddrPort{}
		}
		p.serving.Go(func() { _ = f(ln) }) // ends with the world
		return netip.MustParseAddrPort(ln.Addr().String())
	}
	p.private = serve(func(ln relay.Acceptor) error { return p.ingress.ServePrivate(ln, []netip.Prefix{loopback}) })
	p.public = serve(p.ingress.ServePublic)
	if err != nil {
		return nil, err
	}
	if p.names, err = nameserver.New(nameserver.Config{
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}); err != nil {
		return nil, err
	}
	if err := p.names.Start(ctx); err != nil {
		return nil, err
	}
	p.app = httptest.NewUnstartedServer(backend.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	p.app.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	p.app.Config.ConnContext = backend.ConnContext
	p.app.Listener = &backend.Listener{Listener: p.app.Listener, Trusted: []netip.Prefix{loopback}}
	p.app.StartTLS()
	home := &platform.Segments[0].Regions[0]
	home.PublicIngress = []netip.Addr{p.public.Addr()}
	tenantApp, _ := platform.TenantApp()
	home.Backends = map[string][]netip.AddrPort{tenantApp.ID: {netip.MustParseAddrPort(p.app.Listener.Addr().String())}}
	home.Backends["request"] = home.Backends[tenantApp.ID]
	return p, nil
}

func (p *plane) checker() dnspublish.Checker { return dnspublish.Checker{Servers: p.names.Addrs()} }

// publish and publishZones put in force what the loop hands out. It never
// hands out what they refuse.
func (p *plane) publish(r postern.Routes) {
	if _, err := p.ingress.Apply(r); err != nil {
		panic(err)
	}
}

func (p *plane) publishZones(z postern.Zones) {
	if _, err := p.names.Apply(z); err != nil {
		panic(err)
	}
}

// link reports what the node saw until ctx ends.
func (p *plane) link(ctx context.Context, s *store.Store, look func(context.Context, *store.Store) error) error {
	boot := rand.Text()
	if err := s.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.UpsertNode(postern.Node{ID: "ingress-1", Regions: []string{virginia}, BootID: boot, LastSeen: time.Now()})
		return err
	}); err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for seq := int64(1); ; seq++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		report := postern.NodeReport{Node: "ingress-1", BootID: boot, Seq: seq}
		report.AppliedRevision, _ = p.ingress.Revision()
		for _, x := range p.ingress.Drain().Sightings {
			a := postern.ArrivalCount{
				Region: virginia, Listener: x.Listener, EndpointID: x.VPCEndpointID, ServerName: x.Host, Denial: x.Denial,
				Organization: x.Organization, Count: x.Count, FirstSeen: x.First, LastSeen: x.Last,
			}
			if x.Source.IsValid() {
				a.Source = x.Source.String()
			}
			report.Arrivals = append(report.Arrivals, a)
		}
		if err := s.Update(ctx, func(tx *store.Tx) error { _, err := tx.ReportNode(report, time.Now()); return err }); err != nil && ctx.Err() == nil {
			return err
		}
		if err := look(ctx, s); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// askBackends has the node ask every backend for a host that was not admitted.
func (p *plane) askBackends(ctx context.Context, s *store.Store) error {
	var r postern.Routes
	if err := s.View(ctx, func(tx *store.Tx) (err error) { r, err = tx.FindRoutes(); return err }); err != nil {
		return err
	}
	found := isolation.ProbeAll(ctx, r, 0)
	return s.Update(ctx, func(tx *store.Tx) error {
		for _, i := range found {
			i.Node = "ingress-1"
			if err := tx.SaveIsolation(i); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *plane) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.engine.Shutdown(ctx) // the test is over
	p.serving.Wait()
	p.names.Close()
	p.app.Close()
}

// visit connects to an address from another one and says hello for a host. It
// tells whether it got TLS.
func visit(ctx context.Context, from netip.Addr, to netip.AddrPort, host string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	raw, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	defer raw.Close()
	return tls.Client(raw, &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx)
}
