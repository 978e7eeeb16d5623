package ingress

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/postern-net/postern"
)

// table is postern.Routes made ready for lookups. It never changes.
type table struct {
	revision  int64
	hosts     map[string]host
	endpoints map[string]grant
}

type host struct {
	tenant       string // "" for a host that organizations share
	organization string
	public       bool
	drain        postern.Drain
	closed       time.Time // by this node's clock: when it stopped being public here; zero: it never was
	backends     []netip.AddrPort
}

type grant struct {
	organization string
	region       string
	hosts        map[string]struct{}
}

// compile checks the routes and copies them, so that later changes to them
// change nothing here. What it lets pass can be written into a PROXY header.
func compile(r postern.Routes) (*table, error) {
	var es postern.Errors
	t := &table{
		revision:  r.Revision,
		hosts:     make(map[string]host, len(r.Hosts)),
		endpoints: make(map[string]grant, len(r.Endpoints)),
	}
	for _, name := range slices.Sorted(maps.Keys(r.Hosts)) {
		h, at := r.Hosts[name], fmt.Sprintf("hosts[%q]", name)
		es.Add(postern.CheckHostname(at, name))
		if h.Organization != "" || h.Tenant != "" {
			es.Add(postern.CheckLabel(at+".organization", h.Organization))
		}
		for i, b := range h.Backends {
			if !b.IsValid() || b.Port() == 0 {
				es.Add(postern.Invalid(fmt.Sprintf("%s.backends[%d]", at, i), b.String(), "not an address with a port", "give a backend as 10.0.1.5:443"))
			}
		}
		t.hosts[name] = host{tenant: h.Tenant, organization: h.Organization, public: h.Public, drain: h.Drain, backends: slices.Clone(h.Backends)}
	}
	for _, id := range slices.Sorted(maps.Keys(r.Endpoints)) {
		e, at := r.Endpoints[id], fmt.Sprintf("endpoints[%q]", id)
		es.Add(postern.CheckVPCEndpointID(at, id))
		es.Add(postern.CheckLabel(at+".organization", e.Organization))
		es.Add(postern.CheckRegionName(at+".region", e.Region))
		g := grant{organization: e.Organization, region: e.Region, hosts: make(map[string]struct{}, len(e.Hosts))}
		for _, name := range e.Hosts {
			g.hosts[name] = struct{}{}
		}
		t.endpoints[id] = g
	}
	if err := es.Err(); err != nil {
		return nil, err
	}
	return t, nil
}

// follow notes since when hosts are not public on this node, which the table
// before it may know. The node's own clock decides whose connection was open
// then: one that is behind the control plane's must not let new ones in.
func (t *table) follow(before *table, now time.Time) {
	if before == nil {
		return // nothing is open
	}
	for name, h := range t.hosts {
		was, ok := before.hosts[name]
		if h.public || !ok {
			continue
		}
		if h.closed = was.closed; was.public {
			h.closed = now
		}
		t.hosts[name] = h
	}
}
