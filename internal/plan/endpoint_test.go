package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const grace = time.Minute

// situation is what one round knows of one endpoint, said by what differs from
// a claimed, approved endpoint of a proven account that AWS carries.
type situation struct {
	name      string
	endpoint  func(*postern.Endpoint)
	view      func(*plan.EndpointView)
	at        postern.ConnectionState // "": AWS does not list it
	want      postern.EndpointState
	reason    postern.Reason // of Connected
	action    plan.ActionKind
	deleted   bool
	notReady  bool // although the state is ready
	noReason  bool // Connected is not looked at
	unproven  bool
	unchecked bool
}

func TestEndpoint(t *testing.T) {
	unapproved := func(e *postern.Endpoint) { e.Approval = postern.Approval{} }
	removing := func(e *postern.Endpoint) { e.Removing = true }
	in := func(s postern.EndpointState) func(*postern.Endpoint) {
		return func(e *postern.Endpoint) { e.State = s }
	}
	missing := func(since time.Duration) func(*postern.Endpoint) {
		return func(e *postern.Endpoint) { e.State, e.MissingSince = postern.EndpointReady, noon.Add(-since) }
	}
	automatic := func(v *plan.EndpointView) { v.Rules.Automatic = true }
	unobserved := func(v *plan.EndpointView) { v.Observed = false }
	unproven := func(v *plan.EndpointView) { v.OwnerProven = false }
	for _, c := range []situation{
		// What AWS says of an approved endpoint.
		{name: "waits at AWS", at: "pendingAcceptance", want: "pending-acceptance", reason: postern.ReasonWaitsForAcceptance, action: plan.Accept},
		{
			name: "AWS refused to accept", at: "pendingAcceptance", want: "pending-acceptance", reason: postern.ReasonAcceptFailed, action: plan.Accept,
			view: func(v *plan.EndpointView) { v.AcceptError = "no permission" },
		},
		{name: "accepted", at: "pending", want: "pending", reason: postern.ReasonConnecting},
		{name: "carried", at: "available", want: "ready", reason: postern.ReasonAvailable},
		{name: "carried to no tenant", at: "available", want: "ready", reason: postern.ReasonAvailable, notReady: true, view: func(v *plan.EndpointView) { v.HasTenant = false }},
		{name: "being deleted by the customer", at: "deleting", want: "disconnected", reason: postern.ReasonDeleted},
		{name: "deleted by the customer", at: "deleted", want: "disconnected", reason: postern.ReasonDeleted},
		{name: "rejected", at: "rejected", want: "rejected", reason: postern.ReasonRejected},
		{name: "expired", at: "expired", want: "expired", reason: postern.ReasonExpired},
		{name: "failed", at: "failed", want: "failed", reason: postern.ReasonFailed},
		{name: "a state to come", at: "partial", endpoint: in("ready"), want: "pending", reason: postern.ReasonNotObserved},
		{name: "a final state is not final for AWS", at: "available", endpoint: in("disconnected"), want: "ready", reason: postern.ReasonAvailable},

		// Approval.
		{name: "nobody approved", at: "pendingAcceptance", endpoint: unapproved, want: "requested", reason: postern.ReasonWaitsForAcceptance},
		{name: "accepted at AWS by hand, nobody approved", at: "available", endpoint: unapproved, want: "requested", reason: postern.ReasonAvailable},
		{name: "being accepted by hand, nobody approved", at: "pending", endpoint: unapproved, want: "requested", reason: postern.ReasonConnecting},
		{name: "the policy approves", at: "pendingAcceptance", endpoint: unapproved, view: automatic, want: "pending-acceptance", reason: postern.ReasonWaitsForAcceptance, action: plan.Accept},
		{
			name: "the policy does not approve the unproven", at: "pendingAcceptance", endpoint: unapproved, want: "rejected", reason: postern.ReasonWaitsForAcceptance, action: plan.Reject, unproven: true,
			view: func(v *plan.EndpointView) { automatic(v); unproven(v) },
		},

		// The account.
		{name: "its account is not proven any more", at: "available", view: unproven, want: "rejected", reason: postern.ReasonAvailable, action: plan.Reject, unproven: true},
		{name: "unproven and rejected", at: "rejected", view: unproven, want: "rejected", reason: postern.ReasonRejected, unproven: true},
		{name: "unproven and gone", at: "deleted", view: unproven, want: "disconnected", reason: postern.ReasonDeleted, unproven: true},

		// Absence.
		{name: "AWS does not answer", endpoint: in("ready"), view: unobserved, want: "ready", reason: postern.ReasonNotObserved},
		{name: "AWS does not answer, long missing", endpoint: missing(time.Hour), view: unobserved, want: "ready", reason: postern.ReasonNotObserved},
		{name: "not listed", endpoint: in("ready"), want: "ready", reason: postern.ReasonNotListed},
		{name: "not listed for a while", endpoint: missing(grace - 1), want: "ready", reason: postern.ReasonNotListed},
		{name: "not listed for too long", endpoint: missing(grace), want: "disconnected", reason: postern.ReasonDeleted},
		{name: "final and forgotten by AWS", endpoint: in("rejected"), want: "rejected", noReason: true},
		{name: "listed again", at: "available", endpoint: missing(grace), want: "ready", reason: postern.ReasonAvailable},

		// Taking the claim back.
		{name: "removing, pending", at: "pendingAcceptance", endpoint: removing, want: "removing", reason: postern.ReasonRemoving, action: plan.Reject},
		{name: "removing, accepted", at: "pending", endpoint: removing, want: "removing", reason: postern.ReasonRemoving, action: plan.Reject},
		{name: "removing, carried", at: "available", endpoint: removing, want: "removing", reason: postern.ReasonRemoving, action: plan.Reject},
		{name: "removing, in a state to come", at: "partial", endpoint: removing, want: "removing", reason: postern.ReasonRemoving, action: plan.Reject},
		{name: "removing, carried, unproven", at: "available", endpoint: removing, view: unproven, want: "removing", reason: postern.ReasonRemoving, action: plan.Reject, unchecked: true},
		{name: "removing, rejected", at: "rejected", endpoint: removing, want: "removing", reason: postern.ReasonRemoving, deleted: true},
		{name: "removing, deleted", at: "deleting", endpoint: removing, want: "removing", reason: postern.ReasonRemoving, deleted: true},
		{name: "removing, failed", at: "failed", endpoint: removing, want: "removing", reason: postern.ReasonRemoving, deleted: true},
		{name: "removing, expired", at: "expired", endpoint: removing, want: "removing", reason: postern.ReasonRemoving, deleted: true},
		{name: "removing, not listed yet", endpoint: removing, want: "removing", reason: postern.ReasonRemoving},
		{
			name: "removing, not listed", want: "removing", reason: postern.ReasonRemoving, deleted: true,
			endpoint: func(e *postern.Endpoint) { missing(grace)(e); removing(e) },
		},
		{
			name: "removing, AWS does not answer", want: "removing", reason: postern.ReasonRemoving, view: unobserved,
			endpoint: func(e *postern.Endpoint) { missing(grace)(e); removing(e) },
		},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t) })
	}
}

func (c situation) check(t *testing.T) {
	e := postern.Endpoint{
		ID: "vpce-0000000000000000a", Organization: "example-corp", ServiceRegion: "us-east-1", Owner: "111111111111",
		Approval: postern.Approval{By: "ada", At: noon.Add(-time.Hour)}, State: postern.EndpointRequested,
	}
	v := plan.EndpointView{Observed: true, OwnerProven: true, HasTenant: true, Rules: plan.Rules{MissingGrace: grace}, Now: noon}
	if c.at != "" {
		v.Connection = &postern.Connection{EndpointID: e.ID, Owner: e.Owner, EndpointRegion: "us-west-2", State: c.at, DNSNames: []string{"a"}}
	}
	if c.endpoint != nil {
		c.endpoint(&e)
	}
	if c.view != nil {
		c.view(&v)
	}
	s := plan.Endpoint(e, v)
	if s.After.State != c.want || s.Action != c.action || s.Delete != c.deleted {
		t.Errorf("got state %q, action %q, delete %v; want %q, %q, %v", s.After.State, s.Action, s.Delete, c.want, c.action, c.deleted)
	}
	if (s.Why == "") != (s.Action == "") {
		t.Errorf("action %q with reason %q", s.Action, s.Why)
	}
	connected := postern.FindCondition(s.After.Conditions, postern.Connected)
	if connected.Reason != c.reason && !c.noReason {
		t.Errorf("Connected is %+v, want %s", connected, c.reason)
	}
	c.checkConditions(t, s.After)
	again := v
	again.Now = noon.Add(time.Second)
	if c.at != "" && !s.Delete {
		if diff := cmp.Diff(s, plan.Endpoint(s.After, again)); diff != "" {
			t.Errorf("the same world a second later changes it:\n%s", diff)
		}
	}
}

func (c situation) checkConditions(t *testing.T, e postern.Endpoint) {
	t.Helper()
	types := map[postern.ConditionType]bool{}
	for _, k := range e.Conditions {
		if k.Type == "" || k.Message == "" || k.Reason == "" || k.Since.IsZero() || types[k.Type] {
			t.Errorf("condition %+v", k)
		}
		types[k.Type] = true
	}
	ready := postern.FindCondition(e.Conditions, postern.Ready)
	if want := e.State == postern.EndpointReady && !c.notReady; (ready.Status == postern.True) != want {
		t.Errorf("Ready is %+v in state %s", ready, e.State)
	}
	if e.Removing || c.unchecked {
		return
	}
	proven := postern.FindCondition(e.Conditions, postern.AccountProven)
	if (proven.Status == postern.True) == c.unproven {
		t.Errorf("AccountProven is %+v", proven)
	}
	approved := postern.FindCondition(e.Conditions, postern.Approved)
	if (approved.Status == postern.True) != !e.Approval.At.IsZero() {
		t.Errorf("Approved is %+v with approval %+v", approved, e.Approval)
	}
}

func TestEndpointTakesOverWhatAWSSays(t *testing.T) {
	e := postern.Endpoint{ID: "vpce-1", Owner: "1", DNSNames: []string{"old"}, MissingSince: noon, State: postern.EndpointRequested}
	c := postern.Connection{EndpointID: "vpce-1", Owner: "2", EndpointRegion: "eu-west-1", State: postern.ConnectionAvailable}
	after := plan.Endpoint(e, plan.EndpointView{Observed: true, Connection: &c, OwnerProven: true, Now: noon}).After
	if after.Owner != "2" || after.EndpointRegion != "eu-west-1" || !after.MissingSince.IsZero() {
		t.Errorf("got %+v", after)
	}
	if diff := cmp.Diff([]string{"old"}, after.DNSNames); diff != "" {
		t.Errorf("AWS lists no DNS names at first; those that are known stay: %s", diff)
	}
	if got := postern.FindCondition(after.Conditions, postern.AccountProven).Message; got != "the organization proved that it holds AWS account 2" {
		t.Errorf("the message is about another account: %s", got)
	}
}

func TestEndpointSinceMovesWithTheStatusOnly(t *testing.T) {
	e := postern.Endpoint{ID: "vpce-1", Approval: postern.Approval{By: "ada", At: noon}, State: postern.EndpointRequested}
	look := func(state postern.ConnectionState, at time.Time) postern.Condition {
		e = plan.Endpoint(e, plan.EndpointView{
			Observed: true, OwnerProven: true, HasTenant: true, Now: at,
			Connection: &postern.Connection{EndpointID: e.ID, State: state},
		}).After
		return postern.FindCondition(e.Conditions, postern.Connected)
	}
	look(postern.ConnectionPendingAcceptance, noon)
	if got := look(postern.ConnectionPending, noon.Add(1)); !got.Since.Equal(noon) {
		t.Errorf("still not connected, but since %v", got.Since)
	}
	if got := look(postern.ConnectionAvailable, noon.Add(2)); !got.Since.Equal(noon.Add(2)) {
		t.Errorf("connected since %v", got.Since)
	}
}
