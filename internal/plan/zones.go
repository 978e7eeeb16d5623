package plan

import (
	"time"

	"github.com/postern-net/postern"
)

// CompileZones makes the platform's public DNS of what is stored, without a
// revision.
//
//	                           <t>.hosted              <t>.privatelink
//	public                     A public ingress        –
//	rehearsing, at first       A public ingress        A public ingress (fallback)
//	rehearsing                 CNAME <t>.privatelink   A public ingress (fallback)
//	enforcing                  CNAME <t>.privatelink   A public ingress (refuses)
//	withdrawing on             CNAME <t>.privatelink   –
//	rolled-back, not settled   A public ingress        A public ingress (fallback)
//
// The two are zones of their own: an answer stops at the CNAME, so that a
// resolver asks the customer's private zone for the rest. A third one holds the
// hosts of the SCIM-only ingress, those that were asked for.
func CompileZones(p *postern.Platform, d Desired, ttl time.Duration) postern.Zones {
	hosted, privatelink, scim := map[string][]postern.Record{}, map[string][]postern.Record{}, map[string][]postern.Record{}
	cutovers := by(d.Cutovers, cutoversTenant)
	for _, t := range d.Tenants {
		h, l := TenantRecords(p, t, Current(cutovers[t.Name], t.Name), ttl)
		if len(h) > 0 {
			hosted[p.Host(t.Name)] = h
		}
		if len(l) > 0 {
			privatelink[p.PrivateLinkHost(t.Name)] = l
		}
		if s := SCIMRecords(p, t, ttl); len(s) > 0 {
			scim[p.SCIMHost(t.Name)] = s
		}
	}
	z := postern.Zones{Zones: map[string]postern.Zone{p.Domains.Hosted: {Records: hosted}, p.Domains.PrivateLink: {Records: privatelink}}}
	if p.Domains.SCIM != "" {
		z.Zones[p.Domains.SCIM] = postern.Zone{Records: scim}
	}
	return z
}

// seconds is a TTL as records have it.
func seconds(ttl time.Duration) uint32 {
	return uint32(max(ttl, time.Second) / time.Second) //nolint:gosec // a TTL is small
}

// TenantRecords are the public records of a tenant's two names.
func TenantRecords(p *postern.Platform, t postern.Tenant, c *postern.Cutover, ttl time.Duration) (hosted, privatelink []postern.Record) {
	region, _, _ := p.Region(t.Region)
	var public []postern.Record
	for _, a := range region.PublicIngress {
		public = append(public, postern.Record{Type: postern.RecordA, TTL: seconds(ttl), Value: a.String()})
	}
	if c == nil {
		return public, nil
	}
	leads := []postern.Record{{Type: postern.RecordCNAME, TTL: seconds(ttl), Value: p.PrivateLinkHost(t.Name)}}
	switch c.Phase {
	case postern.CutoverRehearsing:
		if c.RedirectedAt.IsZero() {
			return public, public
		}
		return leads, public
	case postern.CutoverEnforcing:
		return leads, public
	case postern.CutoverWithdrawing, postern.CutoverComplete:
		return leads, nil
	case postern.CutoverRolledBack:
		if c.Moving() {
			return public, public
		}
	}
	return public, nil
}

// TenantDNS is a tenant's public DNS and its private counterparts.
type TenantDNS struct {
	Wanted    map[string][]postern.Record // by name: what the public zones are to say
	Differs   string                      // which server says otherwise; "": none
	Endpoints []postern.Endpoint          // ready ones that reach the tenant
}
