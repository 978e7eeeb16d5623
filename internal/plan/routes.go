package plan

import (
	"maps"
	"slices"

	"github.com/postern-net/postern"
)

// Compile makes the route table of what is stored, without a revision.
func Compile(p *postern.Platform, d Desired) postern.Routes {
	r := postern.Routes{Hosts: map[string]postern.Host{}, Endpoints: map[string]postern.EndpointGrant{}, SCIM: compileSCIM(p, d.Tenants)}
	tenants, accounts, cutovers := by(d.Tenants, tenantsOrganization), by(d.Accounts, accountsOrganization), by(d.Cutovers, cutoversTenant)
	for _, t := range d.Tenants {
		if name, h, ok := CompileHost(p, t, Current(cutovers[t.Name], t.Name)); ok {
			r.Hosts[name] = h
		}
	}
	for _, e := range d.Endpoints {
		if g, ok := CompileGrant(p, e, tenants[e.Organization], accounts[e.Organization]); ok {
			r.Endpoints[e.ID] = g
		}
	}
	compileApps(p, d, r)
	for _, c := range d.Connections {
		if hostname, route, ok := CompileConnection(p, c, accounts[c.Organization]); ok {
			if r.Connections == nil {
				r.Connections = map[string]postern.ConnectionRoute{}
			}
			r.Connections[hostname] = route
		}
	}
	if len(d.Workloads) > 0 {
		r.Workloads = maps.Clone(d.Workloads)
	}
	return r
}

// CompileHost makes the route of a tenant's standard hostname: the backends of
// its home region, wherever in the segment the traffic comes in. It is public
// unless a cutover enforced otherwise; connections that were open then may
// live on until the cutover's deadline, or its next phase.
func CompileHost(p *postern.Platform, t postern.Tenant, c *postern.Cutover) (string, postern.Host, bool) {
	app, ok := p.TenantApp()
	if !ok {
		return "", postern.Host{}, false
	}
	region, _, ok := p.Region(t.Region)
	if !ok {
		return "", postern.Host{}, false
	}
	h := postern.Host{Tenant: t.Name, Organization: t.Organization, Public: true, Backends: slices.Clone(region.Backends[app.ID])}
	if c != nil && c.Phase.Enforced() {
		h.Public = false
		if c.Phase == postern.CutoverEnforcing {
			h.Drain = postern.Drain{Before: c.EnforcedAt, Until: c.DrainUntil}
		}
	}
	return p.Host(t.Name), h, true
}

// CompileGrant makes what an endpoint may reach: its tenants in the segment of
// its service, if it is approved, accepted and its account is proven. Accepted
// is not authorized: whatever is not in a grant is refused.
func CompileGrant(p *postern.Platform, e postern.Endpoint, tenants []postern.Tenant, accounts []postern.Account) (postern.EndpointGrant, bool) {
	_, segment, ok := p.Region(e.ServiceRegion)
	if !ok || !carried(e) || e.Removing || e.Approval.At.IsZero() || !proven(accounts, e, nil) {
		return postern.EndpointGrant{}, false
	}
	g := postern.EndpointGrant{Organization: e.Organization, Region: e.ServiceRegion, Hosts: reachable(p, e, segment, tenants)}
	return g, len(g.Hosts) > 0
}

// carried tells whether AWS carries an endpoint's traffic, or is just about
// to. One that is pending for another reason, such as a state that Postern does
// not know, is not let in.
func carried(e postern.Endpoint) bool {
	connecting := postern.FindCondition(e.Conditions, postern.Connected).Reason == postern.ReasonConnecting
	return e.State == postern.EndpointReady || e.State == postern.EndpointPending && connecting
}

// reachable lists the hosts of the endpoint's tenants, sorted: its own
// organization's, in the segment, and only the named ones if any were named.
func reachable(p *postern.Platform, e postern.Endpoint, segment postern.Segment, tenants []postern.Tenant) []string {
	var hosts []string
	for _, t := range tenants {
		_, s, ok := p.Region(t.Region)
		if !ok || s.ID != segment.ID || t.Organization != e.Organization {
			continue
		}
		if len(e.Tenants) == 0 || slices.Contains(e.Tenants, t.Name) {
			hosts = append(hosts, p.Host(t.Name))
		}
	}
	slices.Sort(hosts)
	return hosts
}

// Hosts lists what an endpoint reaches while it is ready.
func Hosts(p *postern.Platform, e postern.Endpoint, tenants []postern.Tenant) []string {
	_, segment, ok := p.Region(e.ServiceRegion)
	if !ok {
		return nil
	}
	return reachable(p, e, segment, tenants)
}
