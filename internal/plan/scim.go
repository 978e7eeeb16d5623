package plan

import (
	"net/netip"
	"slices"
	"time"

	"github.com/postern-net/postern"
)

// CompileSCIM makes the route of a tenant's SCIM-only public ingress, if
// somebody asked for one. It depends on nothing else that the tenant is or
// has: a tenant that went private keeps it, and no other route depends on it.
func CompileSCIM(p *postern.Platform, t postern.Tenant) (string, postern.SCIMRoute, bool) {
	app, ok := p.TenantApp()
	if !ok || t.SCIM == nil || p.CanSCIM(t.Region) != nil {
		return "", postern.SCIMRoute{}, false
	}
	region, _, _ := p.Region(t.Region)
	return p.SCIMHost(t.Name), postern.SCIMRoute{
		Tenant: t.Name, Organization: t.Organization, Region: t.Region, Upstream: p.Host(t.Name),
		Sources: append([]netip.Prefix(nil), t.SCIM.Sources...), Backends: slices.Clone(region.Backends[app.ID]),
	}, true
}

// compileSCIM makes all of them; nil: there are none.
func compileSCIM(p *postern.Platform, tenants []postern.Tenant) map[string]postern.SCIMRoute {
	var out map[string]postern.SCIMRoute
	for _, t := range tenants {
		if name, r, ok := CompileSCIM(p, t); ok {
			if out == nil {
				out = map[string]postern.SCIMRoute{}
			}
			out[name] = r
		}
	}
	return out
}

// SCIMRecords are the public records of a tenant's SCIM host; none while
// nobody asked for it.
func SCIMRecords(p *postern.Platform, t postern.Tenant, ttl time.Duration) []postern.Record {
	if t.SCIM == nil || p.CanSCIM(t.Region) != nil {
		return nil
	}
	region, _, _ := p.Region(t.Region)
	var out []postern.Record
	for _, a := range region.SCIMIngress {
		out = append(out, postern.Record{Type: postern.RecordA, TTL: seconds(ttl), Value: a.String()})
	}
	return out
}
