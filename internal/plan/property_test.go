package plan_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

// world is a desired state and an observation of any kind, right or absurd.
type world struct {
	desired  plan.Desired
	observed plan.Observed
	rules    plan.Rules
}

var (
	organizations = []string{"a", "b"}
	accountIDs    = []string{"111111111111", "222222222222", "333333333333"}
	serviceRegion = []string{"us-east-1", "us-west-2", "eu-west-1", "sa-east-1"} // the last is not the platform's
	connStates    = []postern.ConnectionState{"pendingAcceptance", "pending", "available", "deleting", "deleted", "rejected", "failed", "expired", "partial"}
)

func drawWorld(t *rapid.T) world {
	w := world{observed: plan.Observed{Services: map[string]plan.Service{}}}
	w.rules = plan.Rules{Automatic: rapid.Bool().Draw(t, "automatic"), MissingGrace: grace}
	for i := range rapid.IntRange(0, 4).Draw(t, "tenants") {
		w.desired.Tenants = append(w.desired.Tenants, postern.Tenant{
			Name: fmt.Sprintf("t%d", i), Organization: rapid.SampledFrom(organizations).Draw(t, "tenant of"), Region: rapid.SampledFrom(serviceRegion).Draw(t, "home"),
		})
	}
	for _, id := range accountIDs {
		if rapid.Bool().Draw(t, "proven "+id) {
			w.desired.Accounts = append(w.desired.Accounts, postern.Account{
				ID: id, Organization: rapid.SampledFrom(organizations).Draw(t, "account of"),
				State: rapid.SampledFrom([]postern.AccountState{postern.AccountActive, postern.AccountActive, postern.AccountRemoving}).Draw(t, "account is"),
			})
		}
	}
	for _, p := range recorded(accountIDs...) {
		if rapid.Bool().Draw(t, "added by Postern") {
			if rapid.Bool().Draw(t, "was absent") {
				p.AbsentSince = noon.Add(-time.Duration(rapid.Int64Range(0, int64(2*grace)).Draw(t, "absent for")))
			}
			w.desired.Principals = append(w.desired.Principals, p)
		}
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		w.desired.Endpoints = append(w.desired.Endpoints, drawEndpoint(t, fmt.Sprintf("vpce-%d", i)))
	}
	for _, region := range thePlatform().RegionIDs() {
		if rapid.IntRange(0, 3).Draw(t, "answers "+region) == 0 {
			continue
		}
		var s plan.Service
		for i := range 6 { // the last two are nobody's claims
			if rapid.Bool().Draw(t, "listed") {
				s.Connections = append(s.Connections, postern.Connection{
					EndpointID: fmt.Sprintf("vpce-%d", i), ServiceRegion: region, Owner: rapid.SampledFrom(accountIDs).Draw(t, "owner"),
					State: rapid.SampledFrom(connStates).Draw(t, "connection is"),
				})
			}
		}
		for _, id := range accountIDs {
			if rapid.Bool().Draw(t, "allowed") {
				s.Principals = append(s.Principals, principal(id))
			}
		}
		w.observed.Services[region] = s
	}
	return w
}

func drawEndpoint(t *rapid.T, id string) postern.Endpoint {
	e := postern.Endpoint{
		ID: id, Organization: rapid.SampledFrom(organizations).Draw(t, "claimed by"), Owner: rapid.SampledFrom(append(accountIDs, "")).Draw(t, "owner was"),
		ServiceRegion: rapid.SampledFrom(serviceRegion).Draw(t, "service region"), State: rapid.SampledFrom(postern.EndpointStates()).Draw(t, "was"),
		Tenants: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"t0", "t1", "t2"}), 0, 2, rapid.ID).Draw(t, "tenants"),
	}
	if rapid.Bool().Draw(t, "approved") {
		e.Approval = postern.Approval{By: "ada", At: noon.Add(-time.Hour)}
	}
	if e.Removing = rapid.IntRange(0, 3).Draw(t, "removing") == 0; e.Removing {
		e.State = postern.EndpointRemoving
	}
	if rapid.Bool().Draw(t, "missing") {
		e.MissingSince = noon.Add(-time.Duration(rapid.Int64Range(0, int64(2*grace)).Draw(t, "missing for")))
	}
	return e
}

func (w world) decide(now time.Time) plan.Round {
	return plan.Decide(thePlatform(), w.desired, w.observed, w.rules, now)
}

func (w world) holds(organization, accountID string) bool {
	return slices.ContainsFunc(w.desired.Accounts, func(a postern.Account) bool {
		return a.ID == accountID && a.Organization == organization && a.State == postern.AccountActive
	})
}

func (w world) endpoint(id string) (postern.Endpoint, bool) {
	i := slices.IndexFunc(w.desired.Endpoints, func(e postern.Endpoint) bool { return e.ID == id })
	if i < 0 {
		return postern.Endpoint{}, false
	}
	return w.desired.Endpoints[i], true
}

// apply is the store after a round.
func (w world) apply(r plan.Round) world {
	w.desired.Endpoints = slices.Clone(w.desired.Endpoints)
	for _, c := range r.Endpoints {
		i := slices.IndexFunc(w.desired.Endpoints, func(e postern.Endpoint) bool { return e.ID == c.Before.ID })
		if c.Delete {
			w.desired.Endpoints = slices.Delete(w.desired.Endpoints, i, i+1)
		} else {
			w.desired.Endpoints[i] = c.After
		}
	}
	w.desired.Principals = slices.Clone(w.desired.Principals)
	for _, c := range r.Principals {
		w.desired.Principals = slices.DeleteFunc(w.desired.Principals, func(p postern.AddedPrincipal) bool {
			return p.ServiceID == c.After.ServiceID && p.Principal == c.After.Principal
		})
		if !c.Delete {
			w.desired.Principals = append(w.desired.Principals, c.After)
		}
	}
	w.desired.Accounts = slices.DeleteFunc(slices.Clone(w.desired.Accounts), func(a postern.Account) bool { return slices.Contains(r.Forget, a) })
	return w
}

func TestNothingUnclaimedUnapprovedOrUnprovenIsAccepted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		round := w.decide(noon)
		for _, a := range round.Actions {
			if a.Kind != plan.Accept && a.Kind != plan.Reject {
				continue
			}
			e, claimed := w.endpoint(a.Target)
			service, observed := w.observed.Services[a.Service.Region]
			i := slices.IndexFunc(service.Connections, func(c postern.Connection) bool { return c.EndpointID == a.Target })
			if !claimed || !observed || i < 0 || e.ServiceRegion != a.Service.Region || e.Organization != a.Organization {
				t.Fatalf("%+v is not of a claim that AWS lists", a)
			}
			c := service.Connections[i]
			proven := w.holds(e.Organization, c.Owner)
			if a.Kind == plan.Reject {
				if proven && !e.Removing {
					t.Fatalf("%+v although it is claimed and proven", a)
				}
				continue
			}
			approved := !e.Approval.At.IsZero() || w.rules.Automatic
			if e.Removing || !approved || !proven || c.State != postern.ConnectionPendingAcceptance {
				t.Fatalf("%+v of %+v, %+v", a, e, c)
			}
		}
	})
}

func TestGrantsAreConfined(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		p := thePlatform()
		for _, d := range []plan.Desired{w.desired, w.apply(w.decide(noon)).desired} {
			w.desired = d
			routes := plan.Compile(p, d)
			for id, g := range routes.Endpoints {
				e, ok := w.endpoint(id)
				connecting := postern.FindCondition(e.Conditions, postern.Connected).Reason == postern.ReasonConnecting
				carried := e.State == postern.EndpointReady || e.State == postern.EndpointPending && connecting
				if !ok || e.Removing || e.Approval.At.IsZero() || !carried || !w.holds(e.Organization, e.Owner) || g.Organization != e.Organization || g.Region != e.ServiceRegion {
					t.Fatalf("%+v is granted to %+v", g, e)
				}
				_, segment, _ := p.Region(e.ServiceRegion)
				for _, name := range g.Hosts {
					h, ok := routes.Hosts[name]
					i := slices.IndexFunc(d.Tenants, func(v postern.Tenant) bool { return v.Name == h.Tenant })
					if !ok || i < 0 || h.Organization != e.Organization || d.Tenants[i].Organization != e.Organization {
						t.Fatalf("%s, %+v, is granted to %+v", name, h, e)
					}
					if _, of, _ := p.Region(d.Tenants[i].Region); of.ID != segment.ID {
						t.Fatalf("%s of segment %s is granted in %s", name, of.ID, segment.ID)
					}
					if len(e.Tenants) > 0 && !slices.Contains(e.Tenants, h.Tenant) {
						t.Fatalf("%s is granted to %+v, which does not name it", name, e)
					}
				}
			}
		}
	})
}

func TestPrincipalsOfStrangersAreNotTouched(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		round := w.decide(noon)
		for _, a := range round.Actions {
			if a.Kind != plan.AllowPrincipal && a.Kind != plan.DisallowPrincipal {
				continue
			}
			i := slices.IndexFunc(w.desired.Accounts, func(c postern.Account) bool { return principal(c.ID) == a.Target })
			if i < 0 {
				t.Fatalf("%+v is of no account that Postern knows", a)
			}
			c := w.desired.Accounts[i]
			if a.Kind == plan.AllowPrincipal && c.State != postern.AccountActive {
				t.Fatalf("%+v of %+v", a, c)
			}
			known := func(d plan.Desired) bool {
				return slices.ContainsFunc(d.Principals, func(p postern.AddedPrincipal) bool { return p.ServiceID == a.Service.ID && p.Principal == a.Target })
			}
			if a.Kind == plan.DisallowPrincipal && !known(w.desired) {
				t.Fatalf("%+v although Postern did not put it there", a)
			}
			if a.Kind == plan.AllowPrincipal && !known(w.apply(round).desired) {
				t.Fatalf("%+v is not recorded before it is done", a)
			}
		}
	})
}

func TestNothingIsConcludedAboutWhatWasNotObserved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		round := w.decide(noon)
		for _, a := range round.Actions {
			if _, ok := w.observed.Services[a.Service.Region]; !ok {
				t.Fatalf("%+v in a region that did not answer", a)
			}
		}
		for _, c := range round.Endpoints {
			_, _, ours := thePlatform().Region(c.Before.ServiceRegion)
			_, seen := w.observed.Services[c.Before.ServiceRegion]
			if ours && !seen && (c.Delete || c.After.State == postern.EndpointDisconnected && c.Before.State != postern.EndpointDisconnected) {
				t.Fatalf("%+v counts as gone although AWS did not answer", c)
			}
			if c.Delete && !c.Before.Removing {
				t.Fatalf("%+v is deleted although nobody took it back", c)
			}
		}
		for _, a := range round.Forget {
			for _, p := range w.desired.Principals {
				if _, seen := w.observed.Services[regionOf(p.ServiceID)]; p.Principal == principal(a.ID) && !seen {
					t.Fatalf("%+v is forgotten although %s, where it was added, did not answer", a, regionOf(p.ServiceID))
				}
			}
		}
	})
}

func regionOf(service string) string {
	for _, s := range thePlatform().Segments {
		for _, r := range s.Regions {
			if r.Service().ID == service {
				return r.ID
			}
		}
	}
	return ""
}

func TestDecideReachesAFixedPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for range 3 { // a row that goes lets an account's principal go, and that lets the account go
			w = w.apply(w.decide(noon))
		}
		last := w.decide(noon)
		if len(last.Endpoints)+len(last.Forget)+len(last.Principals) > 0 {
			t.Fatalf("an unchanged world still changes %s", cmp.Diff(plan.Round{}, last))
		}
		again := w.apply(last).decide(noon)
		if diff := cmp.Diff(last, again); diff != "" {
			t.Fatalf("the same world is decided in two ways: %s", diff)
		}
	})
}

// Doing what the plan says, in a cloud that obeys, ends: nothing is left to do
// and nothing that should carry traffic does not.
func TestDecideConvergesInACloudThatObeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for _, r := range thePlatform().RegionIDs() { // it answers
			if _, ok := w.observed.Services[r]; !ok {
				w.observed.Services[r] = plan.Service{}
			}
		}
		now := noon
		for range 10 {
			round := w.decide(now)
			w = w.apply(round)
			w.obey(round.Actions)
			now = now.Add(grace)
		}
		last := w.decide(now)
		if len(last.Endpoints)+len(last.Forget)+len(last.Actions)+len(last.Principals) > 0 {
			t.Fatalf("still at work after ten rounds: %s", cmp.Diff(plan.Round{}, last))
		}
		for _, e := range w.desired.Endpoints {
			if e.Removing {
				t.Fatalf("%+v is still being removed", e)
			}
		}
		for _, a := range w.desired.Accounts {
			if a.State == postern.AccountRemoving {
				held := slices.ContainsFunc(w.desired.Endpoints, func(e postern.Endpoint) bool { return e.Owner == a.ID })
				if !held {
					t.Fatalf("%+v is still being removed", a)
				}
			}
		}
	})
}

// obey does what was asked, and lets AWS's own transitions happen.
func (w world) obey(actions []plan.Action) {
	for region, s := range w.observed.Services {
		s.Connections = slices.Clone(s.Connections)
		for i := range s.Connections {
			c := &s.Connections[i]
			if c.State == postern.ConnectionPending || c.State == "partial" {
				c.State = postern.ConnectionAvailable
			}
			for _, a := range actions {
				if a.Service.Region == region && a.Target == c.EndpointID {
					c.State = map[plan.ActionKind]postern.ConnectionState{plan.Accept: postern.ConnectionPending, plan.Reject: postern.ConnectionRejected}[a.Kind]
				}
			}
		}
		for _, a := range actions {
			switch {
			case a.Service.Region != region:
			case a.Kind == plan.AllowPrincipal:
				s.Principals = append(slices.Clone(s.Principals), a.Target)
			case a.Kind == plan.DisallowPrincipal:
				s.Principals = slices.DeleteFunc(slices.Clone(s.Principals), func(p string) bool { return p == a.Target })
			}
		}
		w.observed.Services[region] = s
	}
}
