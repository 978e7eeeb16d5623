package scim

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/postern-net/postern"
)

// table is the SCIM routes of one region. It never changes.
type table struct {
	revision int64
	hosts    map[string]postern.SCIMRoute
	// elsewhere are hosts of other regions, which are refused here and known
	// only so that the reason can be told.
	elsewhere map[string]string // organization
}

// compile checks the routes and keeps those of a region.
func compile(region string, r postern.Routes) (*table, error) {
	var es postern.Errors
	t := &table{revision: r.Revision, hosts: map[string]postern.SCIMRoute{}, elsewhere: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(r.SCIM)) {
		h, at := r.SCIM[name], fmt.Sprintf("scim[%q]", name)
		es.Add(postern.CheckHostname(at, name))
		es.Add(postern.CheckHostname(at+".upstream", h.Upstream))
		es.Add(postern.CheckLabel(at+".organization", h.Organization))
		es.Add(postern.CheckRegionName(at+".region", h.Region))
		for i, p := range h.Sources {
			if !p.IsValid() {
				es.Add(postern.Invalid(fmt.Sprintf("%s.sources[%d]", at, i), "", "not a network", `give it as "192.0.2.0/24"`))
			}
		}
		for i, b := range h.Backends {
			if !b.IsValid() || b.Port() == 0 {
				es.Add(postern.Invalid(fmt.Sprintf("%s.backends[%d]", at, i), b.String(), "not an address with a port", "give a backend as 10.0.1.5:443"))
			}
		}
		if h.Region != region {
			t.elsewhere[name] = h.Organization
			continue
		}
		h.Sources, h.Backends = slices.Clone(h.Sources), slices.Clone(h.Backends)
		t.hosts[name] = h
	}
	return t, es.Err()
}

// judge decides on a connection: who it is on account of, and why not. A client
// that only answers a challenge of a certificate authority comes from wherever
// that is.
func (t *table) judge(name string, client netip.Addr, challenge bool) (postern.SCIMRoute, postern.Denial) {
	if name == "" {
		return postern.SCIMRoute{}, postern.DenyNoServerName
	}
	if t == nil {
		return postern.SCIMRoute{}, postern.DenyUnknownHost
	}
	if organization, ok := t.elsewhere[name]; ok {
		return postern.SCIMRoute{Organization: organization}, postern.DenyWrongRegion
	}
	r, ok := t.hosts[name]
	switch {
	case !ok:
		return postern.SCIMRoute{}, postern.DenyUnknownHost
	case !challenge && !r.Admits(client):
		return r, postern.DenySource
	}
	return r, ""
}

// names lists the hosts, sorted.
func (t *table) names() []string { return slices.Sorted(maps.Keys(t.hosts)) }

// same tells whether a route is what it was, as far as an open connection is
// concerned.
func same(a, b postern.SCIMRoute) bool {
	a.Sources, b.Sources = nil, nil
	return reflect.DeepEqual(a, b)
}
