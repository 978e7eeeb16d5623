package plan

import (
	"slices"

	"github.com/postern-net/postern"
)

// principals compares the allow-lists with who should be on them. An account's
// principal belongs on the services of every segment in which its organization
// has a tenant. Principals of accounts that Postern never knew were put there
// by hand and are left alone.
//
// An account that is being removed goes last: routes, then connections, then
// the principal, then the row.
func principals(p *postern.Platform, d Desired, o Observed) (actions []Action, forget []postern.Account) {
	for _, a := range d.Accounts {
		held := slices.ContainsFunc(d.Endpoints, func(e postern.Endpoint) bool { return e.Owner == a.ID && e.Organization == a.Organization })
		left := held
		for _, s := range p.Segments {
			wanted := hasTenant(p, d.Tenants, a.Organization, s.ID)
			if a.State == postern.AccountRemoving {
				wanted = held
			}
			for _, r := range s.Regions {
				service, observed := o.Services[r.ID]
				if !observed {
					left = true
					continue
				}
				act := Action{Service: r.Service(), Target: postern.AccountPrincipal(r.ID, a.ID), Organization: a.Organization}
				allowed := slices.Contains(service.Principals, act.Target)
				switch {
				case allowed && !wanted:
					act.Kind, act.Why = DisallowPrincipal, disallowWhy(a)
					actions, left = append(actions, act), true
				case !allowed && wanted && a.State == postern.AccountActive:
					act.Kind, act.Why = AllowPrincipal, "the account is proven and the organization has tenants in segment "+s.ID
					actions = append(actions, act)
				}
			}
		}
		if a.State == postern.AccountRemoving && !left {
			forget = append(forget, a)
		}
	}
	return actions, forget
}

func disallowWhy(a postern.Account) string {
	if a.State == postern.AccountRemoving {
		return "the account was removed from its organization"
	}
	return "the organization has no tenant in this segment any more"
}

func hasTenant(p *postern.Platform, tenants []postern.Tenant, organization, segment string) bool {
	return slices.ContainsFunc(tenants, func(t postern.Tenant) bool {
		_, s, ok := p.Region(t.Region)
		return ok && t.Organization == organization && s.ID == segment
	})
}
