//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/ingress"
	"github.com/postern-net/postern/internal/relay"
)

// serveIngress is our proxy: an ingress as the product runs it, with its limits
// and deadlines, its metrics, its report and an access log in a file.
func serveIngress(ctx context.Context, kind, listen, log string) error {
	f, err := os.Create(log)
	if err != nil {
		return err
	}
	defer f.Close()
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), relay.Processors()))
	engine := relay.New(relay.Config{Kind: relay.Kind(kind), MaxPerClient: 20_000, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	in, err := ingress.New(ingress.Config{Region: "us-east-1", Engine: engine, Logger: slog.New(slog.NewJSONHandler(f, nil)), Registerer: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	if _, err := in.Apply(routes()); err != nil {
		return err
	}
	ln, err := engine.Listen(ctx, listen)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- in.ServePrivate(ln, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}) }()
	<-ctx.Done()
	stop, cancel := context.WithCancel(context.Background())
	cancel()
	return errors.Join(ignoreCut(engine.Shutdown(stop)), <-served)
}

func ignoreCut(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// routes are the hosts that are asked for, among many that are not.
func routes() postern.Routes {
	r := postern.Routes{Revision: 1, Hosts: map[string]postern.Host{}, Endpoints: map[string]postern.EndpointGrant{}}
	var granted []string
	for _, s := range services() {
		for i := range backends {
			r.Hosts[s.host(i)] = postern.Host{Tenant: fmt.Sprintf("%s-%d", s.name, i), Organization: "bench", Backends: []netip.AddrPort{s.backend(i)}}
			granted = append(granted, s.host(i))
		}
	}
	for i := range otherHosts {
		r.Hosts[otherHost(i)] = postern.Host{Tenant: fmt.Sprintf("tenant-%d", i), Organization: "others", Backends: []netip.AddrPort{short.backend(i)}}
	}
	r.Endpoints[endpointID] = postern.EndpointGrant{Organization: "bench", Region: "us-east-1", Hosts: granted}
	return r
}

func otherHost(i int) string { return fmt.Sprintf("tenant-%d.customers.example", i) }
