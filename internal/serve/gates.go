package serve

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/sighting"
)

// acceptor is what the listeners of a node are.
type acceptor = *net.TCPListener

// gate is one direction of a node: its ingresses or its egresses.
type gate interface {
	open(ctx context.Context, fail func(error)) error
	Apply(postern.Routes) error
	Withdraw()
	Drain() []postern.ArrivalCount
	ids() []string
	shutdown(ctx context.Context)
}

// gates are what a node has its route table for. A table that one direction
// refuses is in force in the other, and is not acknowledged.
type gates []gate

func (g gates) open(ctx context.Context, fail func(error)) error {
	for _, one := range g {
		if err := one.open(ctx, fail); err != nil {
			return err
		}
	}
	return nil
}

// Apply puts a route table in force.
func (g gates) Apply(r postern.Routes) error {
	var errs []error
	for _, one := range g {
		errs = append(errs, one.Apply(r))
	}
	return errors.Join(errs...)
}

// Withdraw takes the table out of force.
func (g gates) Withdraw() {
	for _, one := range g {
		one.Withdraw()
	}
}

// Drain returns who arrived since it was called last.
func (g gates) Drain() []postern.ArrivalCount {
	var all []postern.ArrivalCount
	for _, one := range g {
		all = append(all, one.Drain()...)
	}
	return all
}

// ids lists the regions of all, sorted.
func (g gates) ids() []string {
	var all []string
	for _, one := range g {
		all = append(all, one.ids()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (g gates) shutdown(ctx context.Context) {
	var all sync.WaitGroup
	for _, one := range g {
		all.Go(func() { one.shutdown(ctx) })
	}
	all.Wait()
}

// arrivals are sightings as nodes report them.
func arrivals(region string, r sighting.Report) []postern.ArrivalCount {
	var all []postern.ArrivalCount
	for _, s := range r.Sightings {
		a := postern.ArrivalCount{
			Region: region, Listener: s.Listener, EndpointID: s.VPCEndpointID, ServerName: s.Host, Denial: s.Denial,
			Organization: s.Organization, Count: s.Count, FirstSeen: s.First, LastSeen: s.Last, JA4: s.JA4,
		}
		if s.Source.IsValid() {
			a.Source = s.Source.String()
		}
		all = append(all, a)
	}
	return all
}
