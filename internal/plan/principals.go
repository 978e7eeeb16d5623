package plan

import (
	"slices"
	"time"

	"github.com/postern-net/postern"
)

// principalsStep is what a round makes of the allow-lists.
type principalsStep struct {
	actions []Action
	changes []PrincipalChange
	forget  []postern.Account
	leaving bool // a principal is on its way off a list
}

// principals compares the allow-lists with who should be on them. An account's
// principal belongs on the services of every segment in which its organization
// has a tenant. Postern takes off a list only what it put there, by its own
// record: what an operator put there by hand is left alone.
//
// An account that is being removed goes last: routes, then connections, then
// the principal, then the row.
func principals(p *postern.Platform, d Desired, o Observed, r Rules, now time.Time) (out principalsStep) {
	endpoints, tenants := by(d.Endpoints, endpointsOrganization), by(d.Tenants, tenantsOrganization)
	records := by(d.Principals, func(r postern.AddedPrincipal) string { return r.Principal })
	listed := map[string]map[string]bool{} // principals, by region
	for region, s := range o.Services {
		listed[region] = make(map[string]bool, len(s.Principals))
		for _, arn := range s.Principals {
			listed[region][arn] = true
		}
	}
	for _, a := range d.Accounts {
		held := slices.ContainsFunc(endpoints[a.Organization], func(e postern.Endpoint) bool { return e.Owner == a.ID })
		left := held
		for _, s := range p.Segments {
			v := principalView{account: a, wanted: hasTenant(p, tenants[a.Organization], a.Organization, s.ID), rules: r, now: now}
			if a.State == postern.AccountRemoving {
				v.wanted = held
			}
			for _, region := range s.Regions {
				arn := postern.AccountPrincipal(region.ID, a.ID)
				v.record, v.recorded = added(records[arn], region.Service().ID, arn)
				_, observed := o.Services[region.ID]
				if !observed {
					left = left || v.recorded
					continue
				}
				v.listed = listed[region.ID][arn]
				step := principal(v)
				left = left || step.left
				out.leaving = out.leaving || step.left && !v.wanted
				if step.change != nil {
					out.changes = append(out.changes, *step.change)
				}
				if step.action != "" {
					out.actions = append(out.actions, Action{
						Kind: step.action, Service: region.Service(), Target: v.record.Principal, Organization: a.Organization, Why: why(step.action, a, s),
					})
				}
			}
		}
		if a.State == postern.AccountRemoving && !left {
			out.forget = append(out.forget, a)
		}
	}
	return out
}

// principalView is what is known about one principal on one service's list.
type principalView struct {
	account  postern.Account
	wanted   bool
	listed   bool
	record   postern.AddedPrincipal // of this principal and service, stored or not
	recorded bool                   // Postern put it on the list
	rules    Rules
	now      time.Time
}

// principalStep is what one round makes of it.
type principalStep struct {
	action ActionKind // AllowPrincipal, DisallowPrincipal or ""
	change *PrincipalChange
	left   bool // something of it is, or may be, on the list
}

// principal decides about one principal on one service's list. Listings lag: a
// principal that was added a moment ago may not be in one, so that it counts
// as gone only when it was absent for the grace.
func principal(v principalView) principalStep {
	after := v.record
	after.AbsentSince = time.Time{}
	step := principalStep{left: v.recorded}
	switch {
	case v.wanted:
		if !v.listed && v.account.State == postern.AccountActive {
			step.action, step.left = AllowPrincipal, true
		}
	case !v.recorded: // by hand, or not there
		return step
	case v.listed:
		step.action = DisallowPrincipal
	case v.record.AbsentSince.IsZero():
		after.AbsentSince = v.now
	default:
		after = v.record
	}
	switch gone := !after.AbsentSince.IsZero() && v.now.Sub(after.AbsentSince) >= v.rules.MissingGrace; {
	case gone:
		step.left, step.change = false, &PrincipalChange{After: after, Delete: true}
	case !v.recorded && step.action == AllowPrincipal, v.recorded && !after.AbsentSince.Equal(v.record.AbsentSince):
		step.change = &PrincipalChange{After: after}
	}
	return step
}

// added finds the record of a principal, or makes the one that would be stored.
func added(records []postern.AddedPrincipal, service, principal string) (postern.AddedPrincipal, bool) {
	i := slices.IndexFunc(records, func(r postern.AddedPrincipal) bool { return r.ServiceID == service && r.Principal == principal })
	if i < 0 {
		return postern.AddedPrincipal{ServiceID: service, Principal: principal}, false
	}
	return records[i], true
}

func why(k ActionKind, a postern.Account, s postern.Segment) string {
	switch {
	case k == AllowPrincipal:
		return "the account is proven and the organization has tenants in segment " + s.ID
	case a.State == postern.AccountRemoving:
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
