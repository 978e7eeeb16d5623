// Package plan computes, from what is wanted and what was observed, what
// should be so and what to do. Its functions are pure: values in, values out,
// the clock is an argument. internal/control feeds them and does what they say.
package plan

import (
	"slices"
	"time"

	"github.com/postern-net/postern"
)

// Desired is everything that was asked for, as it is stored.
type Desired struct {
	Tenants   []postern.Tenant
	Accounts  []postern.Account
	Endpoints []postern.Endpoint
	Cutovers  []postern.Cutover // the current one of each tenant that has one
	Apps      []postern.AppAccess
	// Withdrawals are what nodes may still offer and is not wanted any more.
	Withdrawals []postern.Withdrawal
	// Principals are what Postern put on the allow-lists.
	Principals []postern.AddedPrincipal
	// Connections are the data connections, and Workloads who may use them, by
	// the hash of their credential.
	Connections []postern.DataConnection
	Workloads   map[string]postern.Workload
}

// Observed is what one look at the cloud found.
type Observed struct {
	// Services holds the services that answered, by region. A region that is
	// not in it was not observed: nothing is concluded about it.
	Services map[string]Service
	// Failed holds, by endpoint ID, why AWS last refused to accept it.
	Failed map[string]string
}

// Service is one of the platform's endpoint services as AWS has it.
type Service struct {
	Connections []postern.Connection
	Principals  []string
}

// Rules are the operator's settings that plans depend on.
type Rules struct {
	// Automatic approves every claim of an endpoint whose account is proven;
	// otherwise an operator approves each.
	Automatic bool
	// MissingGrace is how long an endpoint or a principal may be absent from
	// AWS's listings, which are eventually consistent, before it counts as gone.
	MissingGrace time.Duration
	Cutover      CutoverRules
	Looks        LookRules
}

// ActionKind names what an [Action] does.
type ActionKind string

// What can be done at AWS.
const (
	AllowPrincipal    ActionKind = "allow-principal"
	DisallowPrincipal ActionKind = "disallow-principal"
	Accept            ActionKind = "accept-connection"
	Reject            ActionKind = "reject-connection"
)

// Action is one thing to do at AWS. Doing it twice is harmless.
type Action struct {
	Kind         ActionKind
	Service      postern.ServiceRef
	Target       string // endpoint ID or principal ARN
	Organization string
	Why          string
}

// Round is what one round decided.
type Round struct {
	Endpoints []EndpointChange
	// Principals are records to write before the actions are done: a crash
	// between the two must not leave at AWS what nobody takes off again.
	Principals []PrincipalChange
	Forget     []postern.Account // accounts of which nothing is left at AWS
	Actions    []Action
	// Unsettled: something is on its way, so look again soon.
	Unsettled bool
}

// EndpointChange is an endpoint before and after; Delete: nothing is left of it.
type EndpointChange struct {
	Before, After postern.Endpoint
	Delete        bool
}

// PrincipalChange is a record to write; Delete: to drop.
type PrincipalChange struct {
	After  postern.AddedPrincipal
	Delete bool
}

// Decide computes one round for all objects.
func Decide(p *postern.Platform, d Desired, o Observed, r Rules, now time.Time) Round {
	var out Round
	tenants, accounts := by(d.Tenants, tenantsOrganization), by(d.Accounts, accountsOrganization)
	connections := map[string]map[string][]postern.Connection{} // by region and endpoint
	for region, s := range o.Services {
		connections[region] = by(s.Connections, connectionsEndpoint)
	}
	for _, e := range d.Endpoints {
		region, segment, ok := p.Region(e.ServiceRegion)
		if !ok { // the platform gave the region up: nothing there is ours to touch
			if e.Removing {
				out.Endpoints = append(out.Endpoints, EndpointChange{Before: e, After: e, Delete: true})
			}
			continue
		}
		view := EndpointView{Rules: r, Now: now, AcceptError: o.Failed[e.ID], HasTenant: len(reachable(p, e, segment, tenants[e.Organization])) > 0}
		_, view.Observed = o.Services[e.ServiceRegion]
		if c := connections[e.ServiceRegion][e.ID]; len(c) > 0 {
			view.Connection = &c[0]
		}
		view.OwnerProven = proven(accounts[e.Organization], e, view.Connection)
		step := Endpoint(e, view)
		if step.Delete || !sameEndpoint(e, step.After) {
			out.Endpoints = append(out.Endpoints, EndpointChange{Before: e, After: step.After, Delete: step.Delete})
		}
		if step.Action != "" {
			out.Actions = append(out.Actions, Action{Kind: step.Action, Service: region.Service(), Target: e.ID, Organization: e.Organization, Why: step.Why})
		}
		out.Unsettled = out.Unsettled || unsettled(step.After)
	}
	ps := principals(p, d, o, r, now)
	out.Actions = append(out.Actions, ps.actions...)
	out.Principals, out.Forget = ps.changes, ps.forget
	out.Unsettled = out.Unsettled || ps.leaving
	out.Unsettled = out.Unsettled || slices.ContainsFunc(d.Accounts, func(a postern.Account) bool { return a.State == postern.AccountRemoving })
	return out
}

// proven tells whether the account that owns an endpoint is one that the
// endpoint's organization holds. What AWS says now counts before what was
// stored.
func proven(accounts []postern.Account, e postern.Endpoint, c *postern.Connection) bool {
	owner := e.Owner
	if c != nil {
		owner = c.Owner
	}
	return slices.ContainsFunc(accounts, func(a postern.Account) bool {
		return a.ID == owner && a.Organization == e.Organization && a.State == postern.AccountActive
	})
}

// unsettled tells whether an endpoint's state will change by itself.
func unsettled(e postern.Endpoint) bool {
	switch e.State {
	case postern.EndpointPendingAcceptance, postern.EndpointPending, postern.EndpointRemoving:
		return true
	case postern.EndpointRequested, postern.EndpointReady:
		return !e.MissingSince.IsZero() // it is about to count as deleted
	case postern.EndpointRejected, postern.EndpointDisconnected, postern.EndpointExpired, postern.EndpointFailed:
	}
	return false
}
