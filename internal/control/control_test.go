package control_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

func TestAClaimBecomesReady(t *testing.T) {
	w := newWorld(t)
	l := control.New(w.config())
	w.settle(l)
	if diff := cmp.Diff([]string{virginia, oregon, ireland}, w.allowed()); diff != "" {
		t.Errorf("the principal is allowed in: %s", diff)
	}
	before := len(w.actions(0))
	id := w.create()
	w.rest(l)
	if got := w.connection(id); got != postern.ConnectionPendingAcceptance {
		t.Errorf("a connection that nobody claimed is %s", got)
	}
	if cs := l.Connections(); len(cs) != 1 || cs[0].EndpointID != id {
		t.Errorf("AWS listed %+v", cs)
	}
	w.claim(id)
	w.rest(l)
	e := w.endpoint(id)
	if e.State != postern.EndpointReady || e.Approval.By != "policy" || e.Owner != w.example.ID || len(e.DNSNames) == 0 || w.connection(id) != postern.ConnectionAvailable {
		t.Errorf("%+v at AWS: %s", e, w.connection(id))
	}
	for _, c := range e.Conditions {
		if c.Status != postern.True {
			t.Errorf("condition %+v", c)
		}
	}
	want := []string{"endpoint.claimed", "endpoint.state", "connection.accepted", "endpoint.state", "endpoint.state"}
	if diff := cmp.Diff(want, w.actions(int64(before))); diff != "" {
		t.Errorf("events: %s", diff)
	}
	grant := postern.EndpointGrant{Organization: "example-corp", Region: virginia, Hosts: []string{"example.hosted.example.com"}}
	if diff := cmp.Diff(map[string]postern.EndpointGrant{id: grant}, w.routes().Endpoints); diff != "" {
		t.Errorf("published: %s", diff)
	}
}

func TestNobodyApprovedStaysOut(t *testing.T) {
	w := newWorld(t)
	c := w.config()
	c.Rules.Automatic = false
	l := control.New(c)
	w.settle(l)
	id := w.create()
	w.claim(id)
	w.rest(l)
	if e := w.endpoint(id); e.State != postern.EndpointRequested || w.connection(id) != postern.ConnectionPendingAcceptance || len(w.routes().Endpoints) > 0 {
		t.Errorf("%s, at AWS %s, published %v", e.State, w.connection(id), w.routes().Endpoints)
	}
	w.update(func(tx *store.Tx) error {
		e, err := tx.FindEndpoint(id)
		if err != nil {
			return err
		}
		e.Approval = postern.Approval{By: "ada", At: w.clock()}
		_, err = tx.UpdateEndpoint(e)
		return err
	})
	w.rest(l)
	if e := w.endpoint(id); e.State != postern.EndpointReady || e.Approval.By != "ada" {
		t.Errorf("%s, approved by %s", e.State, e.Approval.By)
	}
}

func TestADeletedEndpointDisconnects(t *testing.T) {
	w := newWorld(t)
	l := control.New(w.config())
	id := w.ready(l)
	w.drop(id)
	w.rest(l)
	e := w.endpoint(id)
	if c := postern.FindCondition(e.Conditions, postern.Connected); e.State != postern.EndpointDisconnected || c.Reason != postern.ReasonDeleted {
		t.Errorf("%s, %+v", e.State, c)
	}
	if len(w.routes().Endpoints) > 0 {
		t.Errorf("still published: %v", w.routes().Endpoints)
	}
	w.advance(grace) // AWS forgets it, Postern does not
	w.rest(l)
	if got := w.endpoint(id).State; got != postern.EndpointDisconnected {
		t.Error(got)
	}
}

func TestAClaimTakenBackIsRejected(t *testing.T) {
	w := newWorld(t)
	l := control.New(w.config())
	id := w.ready(l)
	w.update(func(tx *store.Tx) error {
		e, err := tx.FindEndpoint(id)
		if err != nil {
			return err
		}
		e.Removing, e.State = true, postern.EndpointRemoving
		_, err = tx.UpdateEndpoint(e)
		return err
	})
	w.rest(l)
	if w.endpoint(id).ID != "" || w.connection(id) != postern.ConnectionRejected || len(w.routes().Endpoints) > 0 {
		t.Errorf("row %+v, at AWS %s, published %v", w.endpoint(id), w.connection(id), w.routes().Endpoints)
	}
}

// What is taken away goes in the order of the gates, backwards: the route,
// the connection, the principal, the account.
func TestAnAccountGoesInOrder(t *testing.T) {
	w := newWorld(t)
	l := control.New(w.config())
	id := w.ready(l)
	w.removeAccount()
	var order []string
	note := func(what string, holds bool) {
		if holds && !slices.Contains(order, what) {
			order = append(order, what)
		}
	}
	account := func() bool {
		var n int
		w.view(func(tx *store.Tx) error {
			as, err := tx.ListAccounts("", store.Page{})
			n = len(as)
			return err
		})
		return n > 0
	}
	c := w.config()
	look := func() { // between any two steps, and before the first
		note("route", len(w.routes().Endpoints) == 0)
		if len(order) == 0 {
			t.Error("AWS is asked before the route is gone")
		}
		note("connection", w.connection(id) == postern.ConnectionRejected)
		note("principal", len(w.allowed()) == 0)
		note("account", !account())
	}
	c.Cloud = &watched{Cloud: w.cloud, step: func(string) { look() }}
	l = control.New(c)
	w.rest(l)
	look()
	if diff := cmp.Diff([]string{"route", "connection", "principal", "account"}, order); diff != "" {
		t.Error(diff)
	}
	if w.endpoint(id).ID != "" {
		t.Errorf("the claim is left: %+v", w.endpoint(id))
	}
}

// With AWS down, what was let in stays in, and the conditions say what is
// known; what is revoked goes all the same.
func TestAWSDown(t *testing.T) {
	w := newWorld(t)
	l := control.New(w.config())
	id := w.ready(l)
	before := w.routes()
	w.fault(localaws.Fault{Kind: localaws.FaultError, Code: "InternalError"})
	l = control.New(w.config()) // a restart does not change it
	if err := l.PublishStored(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.advance(time.Minute)
	for range 3 {
		if _, err := l.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, w.routes(), cmp.Comparer(func(a, b postern.Host) bool { return a.Tenant == b.Tenant })); diff != "" {
		t.Errorf("the routes changed: %s", diff)
	}
	e := w.endpoint(id)
	if c := postern.FindCondition(e.Conditions, postern.Connected); c.Reason != postern.ReasonNotObserved || e.State != postern.EndpointReady {
		t.Errorf("%s, %+v", e.State, c)
	}
	if _, err := l.Preview(t.Context()); postern.CodeOf(err) != postern.CodeUnavailable {
		t.Errorf("a plan without a look at AWS: %v", err)
	}
	if !strings.Contains(w.log.String(), "AWS did not answer") {
		t.Errorf("the log does not say so:\n%s", w.log)
	}
	w.removeAccount()
	if _, err := l.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(w.routes().Endpoints) > 0 {
		t.Errorf("a revocation waits for AWS: %v", w.routes().Endpoints)
	}
	if w.endpoint(id).ID == "" {
		t.Error("the claim is forgotten while its connection is not known to be rejected")
	}
	w.aws.Faults().Clear()
	w.rest(l)
	if !slices.Contains(w.actions(0), "connection.rejected") || len(w.allowed()) > 0 { // AWS may have forgotten it since
		t.Errorf("afterwards: %s, allowed in %v", w.connection(id), w.allowed())
	}
}

func TestOneRegionDownLeavesTheOthers(t *testing.T) {
	w := newWorld(t)
	l := control.New(w.config())
	w.settle(l)
	w.fault(localaws.Fault{Kind: localaws.FaultError, Code: "InternalError", Region: oregon})
	id := w.create()
	w.claim(id)
	w.rest(l)
	if got := w.endpoint(id).State; got != postern.EndpointReady {
		t.Errorf("the endpoint in Virginia is %s", got)
	}
	w.fault(localaws.Fault{Kind: localaws.FaultError, Code: "InternalError", Region: virginia})
	if _, err := l.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if cs := l.Connections(); len(cs) != 1 {
		t.Errorf("what AWS listed before is forgotten: %v", cs)
	}
}

func TestARefusedAcceptanceIsSaid(t *testing.T) {
	w := newWorld(t)
	l := control.New(w.config())
	w.settle(l)
	id := w.create()
	w.claim(id)
	w.fault(localaws.Fault{
		Kind: localaws.FaultError, Action: "AcceptVpcEndpointConnections", Code: "UnauthorizedOperation", Status: 403,
		Message: "You are not authorized to perform this operation.",
	})
	for range 3 {
		if _, err := l.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e := w.endpoint(id)
	c := postern.FindCondition(e.Conditions, postern.Connected)
	if e.State != postern.EndpointPendingAcceptance || c.Reason != postern.ReasonAcceptFailed || !strings.Contains(c.Message, "AcceptVpcEndpointConnections") {
		t.Errorf("%s, %+v", e.State, c)
	}
	if !strings.Contains(w.log.String(), "an action at AWS failed") || slices.Contains(w.actions(0), "connection.accepted") {
		t.Errorf("the failure is not logged, or recorded as done:\n%s", w.log)
	}
	w.aws.Faults().Clear()
	w.rest(l)
	if got := w.endpoint(id).State; got != postern.EndpointReady {
		t.Errorf("afterwards: %s", got)
	}
}

// A call that takes effect and whose answer is lost is done once.
func TestALostAnswerIsHealed(t *testing.T) {
	for _, action := range []string{"AcceptVpcEndpointConnections", "ModifyVpcEndpointServicePermissions", "DescribeVpcEndpointConnections"} {
		t.Run(action, func(t *testing.T) {
			w := newWorld(t)
			w.fault(localaws.Fault{Kind: localaws.FaultDrop, Action: action, Times: 1})
			l := control.New(w.config())
			w.ready(l)
			if n := count(w.actions(0), "connection.accepted"); n > 1 {
				t.Errorf("accepted %d times", n)
			}
		})
	}
}

func count(list []string, v string) (n int) {
	for _, x := range list {
		if x == v {
			n++
		}
	}
	return n
}

// While AWS's listings lag behind, an action is done again, which is harmless,
// but recorded once.
func TestActionsAreRecordedOnce(t *testing.T) {
	w := newWorld(t)
	w.settle(control.New(w.config()))
	id := w.create()
	w.claim(id)
	c := w.config()
	c.Cloud = &stale{Cloud: w.cloud}
	l := control.New(c)
	for range 4 {
		if _, err := l.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(w.actions(0), "connection.accepted"); n != 1 {
		t.Errorf("recorded %d times", n)
	}
}

// stale lists every connection as it was at first.
type stale struct {
	control.Cloud
	first map[string][]postern.Connection
}

func (s *stale) Connections(ctx context.Context, svc postern.ServiceRef) ([]postern.Connection, error) {
	if svc.Region != virginia {
		return nil, nil
	}
	if s.first == nil {
		cs, err := s.Cloud.Connections(ctx, svc)
		if err != nil {
			return nil, err
		}
		s.first = map[string][]postern.Connection{svc.Region: cs}
	}
	return s.first[svc.Region], nil
}

func TestPreviewDoesNothing(t *testing.T) {
	w := newWorld(t)
	l := control.New(w.config())
	w.settle(l)
	id := w.create()
	w.claim(id)
	before, events := w.endpoint(id), len(w.actions(0))
	actions, err := l.Preview(t.Context())
	if err != nil || len(actions) != 1 || actions[0].Kind != plan.Accept || actions[0].Target != id {
		t.Errorf("%+v, %v", actions, err)
	}
	if diff := cmp.Diff(before, w.endpoint(id)); diff != "" || len(w.actions(0)) != events || w.connection(id) != postern.ConnectionPendingAcceptance {
		t.Errorf("a preview changed something: %s", diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Preview(ctx); err == nil {
		t.Error("a preview that was given up succeeded")
	}
	if len(l.Connections()) != 1 {
		t.Error("a preview that was given up hides what AWS listed")
	}
}

// An object that changes while a round looks at AWS is left to the next one.
func TestAChangeDuringARoundWins(t *testing.T) {
	w := newWorld(t)
	l := control.New(w.config())
	id := w.ready(l)
	w.drop(id)
	meanwhile := sync.OnceFunc(func() {
		w.update(func(tx *store.Tx) error {
			e, err := tx.FindEndpoint(id)
			if err == nil {
				_, err = tx.SetEndpointTenants(e, []string{"example"})
			}
			return err
		})
	})
	c := w.config()
	// The clock is read after the row was, and before it is written.
	c.Now = func() time.Time {
		meanwhile()
		return w.clock()
	}
	racing := control.New(c)
	if _, err := racing.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := w.endpoint(id); e.State != postern.EndpointReady || !slices.Equal(e.Tenants, []string{"example"}) {
		t.Errorf("the round overwrote the change: %+v", e)
	}
	w.rest(racing)
	if got := w.endpoint(id).State; got != postern.EndpointDisconnected {
		t.Errorf("the next round did not follow: %s", got)
	}
}

func TestRevisionsGrowOnlyWithTheRoutes(t *testing.T) {
	w := newWorld(t)
	l := control.New(w.config())
	w.ready(l)
	first := w.routes().Revision
	for range 3 {
		if _, err := l.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l = control.New(w.config())
	w.rest(l)
	if got := w.routes().Revision; got != first {
		t.Errorf("revision %d became %d without a change", first, got)
	}
	w.update(func(tx *store.Tx) error {
		_, err := tx.CreateTenant(postern.Tenant{Name: "second", Organization: "example-corp", Region: virginia})
		return err
	})
	w.rest(l)
	if got := w.routes().Revision; got != first+1 {
		t.Errorf("revision %d became %d after one change", first, got)
	}
	byRevision := map[int64]postern.Routes{}
	var last int64
	for _, r := range w.published {
		if r.Revision < last {
			t.Errorf("revision %d was published after %d", r.Revision, last)
		}
		last = r.Revision
		if old, ok := byRevision[r.Revision]; ok && !slices.Equal(slices.Sorted(maps.Keys(old.Hosts)), slices.Sorted(maps.Keys(r.Hosts))) {
			t.Errorf("revision %d means two tables", r.Revision)
		}
		byRevision[r.Revision] = r
	}
}

func TestWhatIsStoredIsPublishedBeforeAWSIsAsked(t *testing.T) {
	w := newWorld(t)
	id := w.ready(control.New(w.config()))
	calls := len(w.aws.Faults().Calls())
	start := func() postern.Routes {
		w.published = nil
		if err := control.New(w.config()).PublishStored(t.Context()); err != nil {
			t.Fatal(err)
		}
		return w.routes()
	}
	if _, ok := start().Endpoints[id]; !ok {
		t.Errorf("a restart refuses who was let in: %v", w.routes())
	}
	w.removeAccount() // and the process dies before anything follows from it
	if r := start(); r.Revision == 0 || len(r.Endpoints) > 0 {
		t.Errorf("a restart lets in who was revoked: %v", r)
	}
	if len(w.aws.Faults().Calls()) != calls {
		t.Error("AWS was asked")
	}
}
