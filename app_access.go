package postern

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// AppAccess is an organization's private access to an app whose hosts all
// organizations share, such as the Request app (the seeds): by the endpoints
// that it has for its tenants. Without it the app is public for the
// organization, as it is for everybody.
type AppAccess struct {
	App             string
	Organization    string
	Enabled         bool
	ChangedBy       string // name of the token
	ChangedAt       time.Time
	Ready           bool  // endpoints reached it when the loop looked last
	ResourceVersion int64 // 0: nobody ever asked for it
}

// The conditions of an [AppAccess]; Ready is the third.
const (
	// RequiredAppPrivate: the app that must be private first is so for a tenant
	// of the organization.
	RequiredAppPrivate ConditionType = "RequiredAppPrivate"
	// SingleSegment: all tenants of the organization are in one segment.
	SingleSegment ConditionType = "SingleSegment"
)

// SharedApp finds an app whose hosts organizations share.
func (p *Platform) SharedApp(id string) (App, bool) {
	a, ok := p.App(id)
	return a, ok && !a.PerTenant()
}

// SharedBackends are where an app is reached from a region: its backends there,
// or else those in the other regions of the segment, in the file's order.
// Traffic does not leave a segment.
func (p *Platform) SharedBackends(app, region string) []netip.AddrPort {
	r, segment, ok := p.Region(region)
	if !ok {
		return nil
	}
	if own := r.Backends[app]; len(own) > 0 {
		return slices.Clone(own)
	}
	var out []netip.AddrPort
	for _, other := range segment.Regions {
		out = append(out, other.Backends[app]...)
	}
	return out
}

// In is the table as a door of a region obeys it: shared hosts have the backends
// that are reached from there. It is an error when a host is of nobody and not
// shared, or shared and somebody's: such a table must not come into force,
// because who may have what is decided by it.
func (r Routes) In(region string) (Routes, error) {
	var es Errors
	var hosts map[string]Host
	for _, name := range slices.Sorted(maps.Keys(r.Hosts)) {
		h, owned := r.Hosts[name], r.Hosts[name].Tenant != "" || r.Hosts[name].Organization != ""
		switch {
		case h.Shared && owned:
			es.Add(Invalid("hosts["+strconv.Quote(name)+"].shared", "true", "a host of "+h.Tenant+h.Organization, "a shared host has neither tenant nor organization"))
		case !h.Shared && !owned:
			es.Add(Invalid("hosts["+strconv.Quote(name)+"].organization", "", "missing", "name whose host it is, or say that it is shared"))
		case h.Shared:
			if hosts == nil {
				hosts = maps.Clone(r.Hosts)
			}
			h.Backends = h.RegionBackends[region]
			hosts[name] = h
		}
	}
	if hosts != nil {
		r.Hosts = hosts
	}
	return r, es.Err()
}
