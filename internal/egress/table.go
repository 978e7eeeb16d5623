package egress

import (
	"net/netip"
	"slices"
	"time"

	"github.com/postern-net/postern"
)

// table is the outbound part of postern.Routes. It never changes.
type table struct {
	revision      int64
	connections   map[string]postern.ConnectionRoute // by hostname
	workloads     map[string]postern.Workload        // by credential
	organizations map[string]string                  // by tenant
	void          map[string]*postern.Error          // connections that are not obeyed, by hostname
}

// compile checks the routes and copies them, so that later changes to them
// change nothing here.
func compile(r postern.Routes, networks []netip.Prefix) (*table, error) {
	if err := r.CheckConnections(); err != nil {
		return nil, err
	}
	t := &table{
		revision: r.Revision, connections: make(map[string]postern.ConnectionRoute, len(r.Connections)),
		workloads: make(map[string]postern.Workload, len(r.Workloads)), organizations: map[string]string{},
		void: r.VoidConnections(networks...),
	}
	for name, c := range r.Connections {
		c.Ports, c.Addresses = slices.Clone(c.Ports), slices.Clone(c.Addresses)
		t.connections[name] = c
		t.organizations[c.Tenant] = c.Organization
	}
	for key, w := range r.Workloads {
		t.workloads[key] = w
		t.organizations[w.Tenant] = w.Organization
	}
	return t, nil
}

// nextExpiry is when the next credential ends after a time; false: none does.
func (t *table) nextExpiry(now time.Time) (time.Time, bool) {
	var next time.Time
	for _, w := range t.workloads {
		if w.ExpiresAt.After(now) && (next.IsZero() || w.ExpiresAt.Before(next)) {
			next = w.ExpiresAt
		}
	}
	return next, !next.IsZero()
}
