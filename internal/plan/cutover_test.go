package plan_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

// theRules are those that operators get who set none.
var theRules = plan.CutoverRules{
	TTL: time.Minute, Observe: 24 * time.Hour, Window: time.Hour, Clients: 3, Drain: 5 * time.Minute, NodeSilence: 30 * time.Second,
}

// preparing is a cutover whose fallback may be led to.
func preparing() (postern.Cutover, plan.CutoverView) {
	c, v := rehearsed()
	c.FallbackAt, c.RedirectedAt, c.PublishedAt = noon.Add(-time.Minute), time.Time{}, time.Time{}
	return c, v
}

// rehearsed is a rehearsal whose observation is over and that may enforce.
func rehearsed() (postern.Cutover, plan.CutoverView) {
	c := postern.Cutover{
		ID: "cut_1", Tenant: "example", Organization: "example-corp", Phase: postern.CutoverRehearsing,
		StartedBy: "ada", StartedAt: noon.Add(-25 * time.Hour), FallbackAt: noon.Add(-25 * time.Hour), RedirectedAt: noon.Add(-24*time.Hour - 2*time.Minute),
		PublishedAt: noon.Add(-24*time.Hour - time.Minute),
	}
	return c, plan.CutoverView{
		Rules: theRules, Now: noon, Ready: 1, DNS: plan.DNSView{Wanted: true},
		Arrivals: plan.ArrivalView{LastPrivate: noon.Add(-time.Minute)},
		Nodes:    []postern.Node{{ID: "n1", AppliedRevision: 7, LastSeen: noon}, {ID: "n2", AppliedRevision: 7, LastSeen: noon}},
		Routes:   plan.RouteView{Revision: 7, Public: true},
	}
}

// enforcing is a cutover that may withdraw.
func enforcing() (postern.Cutover, plan.CutoverView) {
	c, v := rehearsed()
	c.Phase, c.EnforcedAt, c.DrainUntil, c.EnforceRevision = postern.CutoverEnforcing, noon.Add(-5*time.Minute), noon, 7
	v.Routes.Public = false
	return c, v
}

// withdrawing is a cutover that may complete.
func withdrawing() (postern.Cutover, plan.CutoverView) {
	c, v := enforcing()
	c.Phase, c.WithdrawnAt = postern.CutoverWithdrawing, noon.Add(-time.Minute)
	return c, v
}

// rolledBack is a cutover that was rolled back and may settle.
func rolledBack() (postern.Cutover, plan.CutoverView) {
	c, v := rehearsed()
	c.Phase, c.EndedAt, c.EndedBy, c.RestoredAt = postern.CutoverRolledBack, noon.Add(-2*time.Minute), "ada", noon.Add(-time.Minute)
	return c, v
}

// falseOnes lists what a cutover waits for.
func falseOnes(cs []postern.Condition) (out []postern.Reason) {
	for _, c := range cs {
		if c.Status != postern.True {
			out = append(out, c.Reason)
		}
	}
	return out
}

func TestCutoverSteps(t *testing.T) {
	const (
		rehearse, enforce, withdraw = postern.CutoverRehearsing, postern.CutoverEnforcing, postern.CutoverWithdrawing
		complete, back              = postern.CutoverComplete, postern.CutoverRolledBack
	)
	for _, tc := range []struct {
		name   string
		from   func() (postern.Cutover, plan.CutoverView)
		change func(*postern.Cutover, *plan.CutoverView)
		want   postern.CutoverPhase
		waits  []postern.Reason // what is not True then
		says   string           // part of a message or of the event
	}{
		{"a resolver may remember that there was no fallback", preparing, func(c *postern.Cutover, _ *plan.CutoverView) {
			c.FallbackAt = noon.Add(-time.Minute + time.Second)
		}, rehearse, []postern.Reason{postern.ReasonWaitsForTime}, "as a fallback"},
		{"a server does not know the fallback", preparing, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.DNS = plan.DNSView{Contradicted: true, Detail: "192.0.2.53:53 says nothing"}
		}, rehearse, []postern.Reason{postern.ReasonNotPublished, postern.ReasonWaitsForTime}, "192.0.2.53:53 says nothing"},
		{"what is not led to cannot fail", preparing, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Ready, v.Arrivals.WindowSources, v.DNS = 0, 99, plan.DNSView{Detail: "192.0.2.53:53: no answer"}
		}, rehearse, []postern.Reason{postern.ReasonNotPublished, postern.ReasonNoEndpointReady}, ""},
		{"nobody is led to where no endpoint is ready", preparing, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Ready = 0
		}, rehearse, []postern.Reason{postern.ReasonNoEndpointReady}, "no endpoint that reaches the tenant is ready"},
		{"the servers were asked a while ago", preparing, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Asked = noon.Add(-time.Second)
		}, rehearse, []postern.Reason{postern.ReasonWaitsForTime}, ""},
		{name: "a good rehearsal enforces", from: rehearsed, want: enforce},
		{"servers that do not answer hold it", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.DNS = plan.DNSView{Detail: "192.0.2.53:53: no answer"}
		}, rehearse, []postern.Reason{postern.ReasonNotPublished}, "192.0.2.53:53: no answer"},
		{"nothing begins before it was published", rehearsed, func(c *postern.Cutover, _ *plan.CutoverView) {
			c.PublishedAt = time.Time{}
		}, rehearse, []postern.Reason{postern.ReasonNotSeen, postern.ReasonWaitsForTime}, ""},
		{"a second before the observation is over", rehearsed, func(c *postern.Cutover, _ *plan.CutoverView) {
			c.PublishedAt = c.PublishedAt.Add(time.Second)
		}, rehearse, []postern.Reason{postern.ReasonWaitsForTime}, ""},
		{"who comes publicly counts from the TTL on, so the observation begins there", rehearsed, func(c *postern.Cutover, _ *plan.CutoverView) {
			c.PublishedAt = noon.Add(-24 * time.Hour)
		}, rehearse, []postern.Reason{postern.ReasonWaitsForTime}, ""},
		{"a server says something else: the observation begins anew", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.DNS = plan.DNSView{Contradicted: true, Detail: "192.0.2.53:53 says A 192.0.2.1"}
		}, rehearse, []postern.Reason{postern.ReasonNotPublished, postern.ReasonNotSeen, postern.ReasonWaitsForTime}, "192.0.2.53:53 says A"},
		{"the TTL counts where nothing is observed", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			v.Rules.Observe = 0
			c.PublishedAt, v.Arrivals.LastPrivate = noon.Add(-time.Minute+time.Second), noon
		}, rehearse, []postern.Reason{postern.ReasonWaitsForTime}, ""},
		{"and has passed", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			v.Rules.Observe = 0
			c.PublishedAt, v.Arrivals.LastPrivate = noon.Add(-time.Minute), noon
		}, enforce, nil, ""},
		{"nobody comes privately", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Arrivals.LastPrivate = time.Time{}
		}, rehearse, []postern.Reason{postern.ReasonNotSeen}, "postern dns example"},
		{"only before it was published", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			v.Arrivals.LastPrivate = c.PublishedAt.Add(-time.Second)
		}, rehearse, []postern.Reason{postern.ReasonNotSeen}, ""},
		{"not lately any more", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			c.PublishedAt, v.Arrivals.LastPrivate = noon.Add(-100*time.Hour), noon.Add(-24*time.Hour-time.Second)
		}, rehearse, []postern.Reason{postern.ReasonNotSeen}, ""},
		{"a client still comes publicly", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Arrivals.PublicSources, v.Arrivals.WindowSources = []string{"198.51.100.7"}, 1
		}, rehearse, []postern.Reason{postern.ReasonStillPublic}, "198.51.100.7; route them through the endpoint"},
		{"and is accepted", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			v.Arrivals.PublicSources, v.Arrivals.WindowSources = []string{"198.51.100.7"}, 1
			c.Acknowledged = []string{postern.BlockerIntegrations, postern.BlockerPublicClients}
		}, enforce, nil, ""},
		{"another blocker's acknowledgement is none", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			v.Arrivals.PublicSources = []string{"198.51.100.7"}
			c.Acknowledged = []string{postern.BlockerIntegrations}
		}, rehearse, []postern.Reason{postern.ReasonStillPublic}, ""},
		{"a node is behind", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Nodes[0].AppliedRevision = 6
		}, rehearse, []postern.Reason{postern.ReasonWaitsForNodes}, "waits for node n1;"},
		{"a node is silent", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Nodes[1].LastSeen = noon.Add(-30*time.Second - 1)
		}, rehearse, []postern.Reason{postern.ReasonWaitsForNodes}, "postern node fence"},
		{"a node that has just been heard of", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Nodes[1].LastSeen = noon.Add(-30 * time.Second)
		}, enforce, nil, ""},
		{"a fenced node is not waited for", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Nodes[0] = postern.Node{ID: "n1", Fenced: true}
		}, enforce, nil, ""},
		{"no endpoint is ready, and nobody came", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Ready, v.Arrivals.LastPrivate = 0, time.Time{}
		}, rehearse, []postern.Reason{postern.ReasonNoEndpointReady, postern.ReasonNotSeen}, "postern endpoint list"},
		{"none is ready for five seconds", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			v.Ready, v.Arrivals.LastPrivate, c.FailingSince = 0, time.Time{}, noon.Add(-5*time.Second)
		}, back, nil, "whoever has private DNS in place is led to one"},
		{"a network's clients are refused", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Arrivals.PrivateRefused = []string{"vpce-b (not_authorized)"}
		}, rehearse, []postern.Reason{postern.ReasonPrivateRefused}, "vpce-b (not_authorized); have their network's DNS name"},
		{"and that is accepted", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			v.Arrivals.PrivateRefused, c.Acknowledged = []string{"vpce-b (not_authorized)"}, []string{postern.BlockerPrivateRefused}
		}, enforce, nil, ""},
		{"the clients of before have gone, and nobody comes privately", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			c.PublishedAt, v.Arrivals = noon.Add(-time.Hour), plan.ArrivalView{GoneSources: 2, WindowSources: 1}
		}, back, nil, "2 have not come since"},
		{"the endpoint that carried clients is gone", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Ready = 0
		}, back, nil, "no endpoint that reaches the tenant is ready"},
		{"the app does not answer those who came", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			c.FailingSince, v.Arrivals.LastPrivateFailed = noon.Add(-5*time.Second), noon
		}, back, nil, "does not answer them"},
		{"one failure is an accident", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Arrivals.LastPrivateFailed = noon
		}, enforce, nil, ""},
		{"two in a row within seconds may be one", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			c.FailingSince, v.Arrivals.LastPrivateFailed = noon.Add(-4*time.Second), noon
		}, enforce, nil, ""},
		{"it answered again since", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Arrivals.LastPrivateFailed = noon.Add(-2 * time.Minute)
		}, enforce, nil, ""},
		{"it did not answer before anybody got through", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Arrivals.LastPrivate, v.Arrivals.LastPrivateFailed = time.Time{}, noon
		}, rehearse, []postern.Reason{postern.ReasonNotSeen}, ""},
		{"three come publicly in the window and nobody privately", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			c.PublishedAt, v.Arrivals = noon.Add(-time.Hour), plan.ArrivalView{WindowSources: 3}
		}, back, nil, "while 3 clients came publicly"},
		{"a second before the window is over", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			c.PublishedAt, v.Arrivals = noon.Add(-time.Hour+time.Second), plan.ArrivalView{WindowSources: 3}
		}, rehearse, []postern.Reason{postern.ReasonNotSeen, postern.ReasonWaitsForTime}, ""},
		{"two come publicly", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			c.PublishedAt, v.Arrivals = noon.Add(-time.Hour), plan.ArrivalView{WindowSources: 2}
		}, rehearse, []postern.Reason{postern.ReasonNotSeen, postern.ReasonWaitsForTime}, ""},
		{"many come publicly and one privately", rehearsed, func(c *postern.Cutover, v *plan.CutoverView) {
			c.PublishedAt, v.Arrivals = noon.Add(-time.Hour), plan.ArrivalView{LastPrivate: noon, WindowSources: 99}
		}, rehearse, []postern.Reason{postern.ReasonWaitsForTime}, ""},
		{"they come privately no more, while three come publicly", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Arrivals = plan.ArrivalView{LastPrivate: noon.Add(-time.Hour), WindowSources: 3}
		}, back, nil, "private access probably broke"},
		{"nobody comes at all for an hour", rehearsed, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Arrivals = plan.ArrivalView{LastPrivate: noon.Add(-time.Hour)}
		}, enforce, nil, ""},

		{name: "drained and in step, it withdraws", from: enforcing, want: withdraw},
		{"the table that refuses is not there yet", enforcing, func(c *postern.Cutover, v *plan.CutoverView) {
			c.EnforceRevision, v.Routes.Public = 0, true
		}, enforce, []postern.Reason{postern.ReasonWaitsForNodes}, "is being made"},
		{"nodes must obey that table", enforcing, func(c *postern.Cutover, v *plan.CutoverView) {
			c.EnforceRevision, v.Routes.Revision, v.Nodes[1].AppliedRevision = 0, 8, 8
		}, enforce, []postern.Reason{postern.ReasonWaitsForNodes}, "waits for node n1;"},
		{"a node is cut off", enforcing, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Nodes[0].LastSeen = noon.Add(-time.Hour)
		}, enforce, []postern.Reason{postern.ReasonWaitsForNodes}, "waits for node n1;"},
		{"a second before the drain is over", enforcing, func(c *postern.Cutover, _ *plan.CutoverView) {
			c.DrainUntil = noon.Add(time.Second)
		}, enforce, []postern.Reason{postern.ReasonWaitsForTime}, ""},
		{"a dead endpoint does not make it public", enforcing, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Ready, v.Arrivals = 0, plan.ArrivalView{LastPrivate: noon.Add(-time.Minute), LastPrivateFailed: noon, WindowSources: 9}
		}, withdraw, nil, ""},

		{name: "withdrawn for the TTL, it is complete", from: withdrawing, want: complete},
		{"the zones' servers lag", withdrawing, func(c *postern.Cutover, v *plan.CutoverView) {
			c.WithdrawnAt, v.DNS = time.Time{}, plan.DNSView{Detail: "192.0.2.53:53 says A 192.0.2.1"}
		}, withdraw, []postern.Reason{postern.ReasonNotPublished, postern.ReasonWaitsForTime}, "192.0.2.53:53 says A"},
		{"resolvers may have the old answer", withdrawing, func(c *postern.Cutover, _ *plan.CutoverView) {
			c.WithdrawnAt = noon.Add(-time.Minute + time.Second)
		}, withdraw, []postern.Reason{postern.ReasonWaitsForTime}, ""},
		{"the TTL counts from the answer", withdrawing, func(c *postern.Cutover, _ *plan.CutoverView) {
			c.WithdrawnAt = time.Time{}
		}, withdraw, []postern.Reason{postern.ReasonWaitsForTime}, ""},
		{"a node may keep public connections by its clock", withdrawing, func(c *postern.Cutover, v *plan.CutoverView) {
			c.EnforceRevision, v.Routes.Drains = 0, true
		}, withdraw, []postern.Reason{postern.ReasonWaitsForNodes}, "cuts the last public connections is being made"},
		{"a node has not cut them yet", withdrawing, func(c *postern.Cutover, v *plan.CutoverView) {
			c.EnforceRevision, v.Routes.Revision, v.Nodes[0].AppliedRevision = 0, 8, 8
		}, withdraw, []postern.Reason{postern.ReasonWaitsForNodes}, "waits for node n2;"},
		{"a dead endpoint does not make it public either", withdrawing, func(_ *postern.Cutover, v *plan.CutoverView) {
			v.Ready = 0
		}, complete, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, v := tc.from()
			if tc.change != nil {
				tc.change(&c, &v)
			}
			step := plan.Cutover(c, v)
			redirected := !step.After.RedirectedAt.Equal(c.RedirectedAt)
			if step.After.Phase != tc.want || (step.Event != "") != (tc.want != c.Phase || redirected) {
				t.Fatalf("%s, event %q; want %s", step.After.Phase, step.Event, tc.want)
			}
			if tc.want == c.Phase {
				if diff := cmp.Diff(tc.waits, falseOnes(step.After.Conditions)); diff != "" {
					t.Errorf("waits for: %s", diff)
				}
			}
			said := step.Event
			for _, x := range step.After.Conditions {
				said += "\n" + x.Message
			}
			if !strings.Contains(said, tc.says) {
				t.Errorf("%q is not in: %s", tc.says, said)
			}
			checkStep(t, c, step.After, v)
		})
	}
}

// What a step notes of itself.
func TestCutoverNotesWhatItDid(t *testing.T) {
	c, v := rehearsed()
	if s := plan.Cutover(c, v).After; s.EnforcedAt != noon || s.DrainUntil != noon.Add(5*time.Minute) || !s.EndedAt.IsZero() {
		t.Errorf("enforced with %+v", s)
	}
	c.PublishedAt = time.Time{}
	if s := plan.Cutover(c, v).After; s.PublishedAt != noon {
		t.Errorf("published with %+v", s)
	}
	v.Arrivals.LastPrivateFailed, c.PublishedAt = noon.Add(-time.Second), noon.Add(-time.Hour)
	if s := plan.Cutover(c, v).After; s.FailingSince != noon.Add(-time.Second) {
		t.Errorf("fails with %+v", s)
	}
	c.FailingSince, v.Arrivals.LastPrivate = noon.Add(-time.Minute), noon
	if s := plan.Cutover(c, v).After; !s.FailingSince.IsZero() {
		t.Errorf("works again with %+v", s)
	}
	c, v = preparing()
	if step := plan.Cutover(c, v); step.After.RedirectedAt != noon || step.Event == "" || !step.After.PublishedAt.IsZero() {
		t.Errorf("redirected with %+v", step)
	}
	c.FallbackAt = time.Time{}
	if s := plan.Cutover(c, v).After; s.FallbackAt != noon || !s.RedirectedAt.IsZero() {
		t.Errorf("the fallback is seen with %+v", s)
	}
	c, v = rehearsed()
	v.Ready = 0
	if s := plan.Cutover(c, v).After; s.EndedAt != noon || s.EndedBy != "loop" || s.EndedWhy == "" || !s.EnforcedAt.IsZero() {
		t.Errorf("rolled back with %+v", s)
	}
	c, v = enforcing()
	c.EnforceRevision, v.Nodes[0].AppliedRevision, v.Nodes[1].AppliedRevision, v.Routes.Revision = 0, 8, 8, 8
	if s := plan.Cutover(c, v).After; s.EnforceRevision != 0 || s.Phase != postern.CutoverWithdrawing { // the next one is to be obeyed anew
		t.Errorf("obeyed with %+v", s)
	}
	c, v = withdrawing()
	if s := plan.Cutover(c, v).After; s.EndedAt != noon || s.EndedBy != "loop" || s.WithdrawnAt != c.WithdrawnAt {
		t.Errorf("complete with %+v", s)
	}
}

// What was rolled back keeps the fallback until no resolver can remember the
// way over the privatelink name.
func TestRolledBackCutoversSettle(t *testing.T) {
	for name, tc := range map[string]struct {
		change            func(*postern.Cutover, *plan.CutoverView)
		settled, restored bool
	}{
		"restored for the TTL": {func(*postern.Cutover, *plan.CutoverView) {}, true, true},
		"a second less":        {func(c *postern.Cutover, _ *plan.CutoverView) { c.RestoredAt = c.RestoredAt.Add(time.Second) }, false, true},
		"just restored":        {func(c *postern.Cutover, _ *plan.CutoverView) { c.RestoredAt = time.Time{} }, false, true},
		"a server lags": {func(_ *postern.Cutover, v *plan.CutoverView) {
			v.DNS = plan.DNSView{Contradicted: true, Detail: "192.0.2.53:53 says CNAME"}
		}, false, false},
		"a server is silent":     {func(_ *postern.Cutover, v *plan.CutoverView) { v.DNS = plan.DNSView{Detail: "no answer"} }, false, true},
		"nothing ever led there": {func(c *postern.Cutover, v *plan.CutoverView) { c.RedirectedAt, v.DNS = time.Time{}, plan.DNSView{} }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			c, v := rolledBack()
			tc.change(&c, &v)
			step := plan.Cutover(c, v)
			if got := step.After; got.SettledAt.IsZero() == tc.settled || got.RestoredAt.IsZero() == tc.restored || got.Moving() == tc.settled || step.Event != "" {
				t.Errorf("%+v, event %q", got, step.Event)
			}
			checkStep(t, c, step.After, v)
		})
	}
}

func TestCurrent(t *testing.T) {
	back := postern.Cutover{ID: "back", Tenant: "a", Phase: postern.CutoverRolledBack}
	settled := back
	settled.ID, settled.SettledAt = "settled", noon
	counts := postern.Cutover{ID: "counts", Tenant: "a", Phase: postern.CutoverComplete}
	other := postern.Cutover{ID: "other", Tenant: "b", Phase: postern.CutoverRehearsing}
	for _, tc := range []struct {
		cs   []postern.Cutover
		want string
	}{
		{nil, ""},
		{[]postern.Cutover{other, settled}, ""},
		{[]postern.Cutover{other, settled, back}, "back"},
		{[]postern.Cutover{other, back, counts}, "counts"},
		{[]postern.Cutover{counts, back}, "counts"},
	} {
		got := ""
		if c := plan.Current(tc.cs, "a"); c != nil {
			got = c.ID
		}
		if got != tc.want {
			t.Errorf("of %v: %q, want %q", tc.cs, got, tc.want)
		}
	}
}

func TestArrivalsSumsUp(t *testing.T) {
	at := func(m int) time.Time { return noon.Add(time.Duration(m) * time.Minute) }
	row := func(listener, source string, d postern.Denial, last int) postern.ArrivalCount {
		return postern.ArrivalCount{Listener: listener, Source: source, Denial: d, LastSeen: at(last)}
	}
	from := func(a postern.ArrivalCount, endpoint, organization string) postern.ArrivalCount {
		a.EndpointID, a.Organization = endpoint, organization
		return a
	}
	got := plan.Arrivals([]postern.ArrivalCount{
		row("private", "", "", -9),                     // before
		row("private", "", "", 3),                      //
		row("private", "", "", 2),                      //
		row("private", "", postern.DenyBackendDown, 4), // let in, and the app was down
		row("private", "", postern.DenyNotAuthorized, 5),
		from(row("private", "", "", 1), "vpce-a", "o"),
		from(row("private", "", postern.DenyNotAuthorized, 0), "vpce-a", "o"), // it works since
		from(row("private", "", postern.DenyNotAuthorized, 1), "vpce-b", "o"),
		from(row("private", "", postern.DenyBackendDown, 2), "vpce-b", "o"),
		from(row("private", "", postern.DenyNotAuthorized, -3), "vpce-c", "o"), // before
		from(row("private", "", postern.DenyNotAuthorized, 3), "vpce-d", "another"),
		row("public", "a", "", 0),
		row("public", "b", "", 11),
		row("public", "b", "", 12), // in another region
		row("public", "c", "", 10), // not later than late
		row("public", "d", postern.DenyNotPublic, 13),
		row("public", "e", "", -1), // there before, and gone
		row("public", "f", "", -6), // long gone
		row("public", "aa", "", 11),
		row("public", "", "", 12), // folded by the node
	}, "o", plan.ArrivalTimes{Since: at(0), Late: at(10), Window: at(9), Before: at(-5)})
	want := plan.ArrivalView{
		LastPrivate: at(3), LastPrivateFailed: at(4), PrivateRefused: []string{"vpce-b (backend_unreachable)"},
		PublicSources: []string{"aa", "b", plan.Folded}, WindowSources: 4, GoneSources: 3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadyEndpoints(t *testing.T) {
	tenant := postern.Tenant{Name: "example", Organization: "a", Region: "us-west-2"}
	good := postern.Endpoint{
		ID: "vpce-1", Organization: "a", Owner: "111111111111", ServiceRegion: "us-east-1", State: postern.EndpointReady,
		Approval: postern.Approval{By: "ada", At: noon},
	}
	for name, tc := range map[string]struct {
		change func(*postern.Endpoint)
		want   []string
	}{
		"in another region of the segment": {func(*postern.Endpoint) {}, []string{"vpce-1"}},
		"named for the tenant":             {func(e *postern.Endpoint) { e.Tenants = []string{"example"} }, []string{"vpce-1"}},
		"named for another":                {func(e *postern.Endpoint) { e.Tenants = []string{"other"} }, nil},
		"in another segment":               {func(e *postern.Endpoint) { e.ServiceRegion = "eu-west-1" }, nil},
		"pending":                          {func(e *postern.Endpoint) { e.State = postern.EndpointPending }, nil},
		"being removed":                    {func(e *postern.Endpoint) { e.Removing = true }, nil},
		"of an account that is not proven": {func(e *postern.Endpoint) { e.Owner = "222222222222" }, nil},
		"of another organization":          {func(e *postern.Endpoint) { e.Organization = "b" }, nil},
	} {
		e := good
		tc.change(&e)
		d := plan.Desired{
			Tenants: []postern.Tenant{tenant}, Endpoints: []postern.Endpoint{e},
			Accounts: []postern.Account{account("111111111111", "a")},
		}
		if got := plan.ReadyEndpoints(thePlatform(), tenant, d); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What a node reports counts only as far as this control plane made it, and
// nobody obeys where nobody serves.
func TestCutoverTrustsNoNodeBeyondItsOwnTable(t *testing.T) {
	for name, change := range map[string]func(*plan.CutoverView){
		"a node is ahead, as after a restore": func(v *plan.CutoverView) { v.Nodes[1].AppliedRevision = 500 },
		"every node is fenced":                func(v *plan.CutoverView) { v.Nodes[0].Fenced, v.Nodes[1].Fenced = true, true },
		"there is no node":                    func(v *plan.CutoverView) { v.Nodes = nil },
		"a node came back with an old table":  func(v *plan.CutoverView) { v.Nodes[1].AppliedRevision = 6 },
	} {
		t.Run(name, func(t *testing.T) {
			v := plan.CutoverView{
				Rules: theRules, Now: noon, Ready: 1, DNS: plan.DNSView{Wanted: true}, Routes: plan.RouteView{Revision: 7},
				Nodes: []postern.Node{{ID: "n1", AppliedRevision: 7, LastSeen: noon}, {ID: "n2", AppliedRevision: 7, LastSeen: noon}},
			}
			c := postern.Cutover{
				Tenant: "example", Phase: postern.CutoverWithdrawing, EnforceRevision: 7, PublishedAt: noon.Add(-time.Hour),
				EnforcedAt: noon.Add(-time.Hour), WithdrawnAt: noon.Add(-time.Hour),
			}
			if got := plan.Cutover(c, v).After.Phase; got != postern.CutoverComplete {
				t.Fatalf("with both nodes in step it is %s", got)
			}
			change(&v)
			if got := plan.Cutover(c, v).After.Phase; got != postern.CutoverWithdrawing {
				t.Errorf("withdrawing became %s", got)
			}
			c.Phase = postern.CutoverEnforcing
			if got := plan.Cutover(c, v).After.Phase; got != postern.CutoverEnforcing {
				t.Errorf("enforcing became %s", got)
			}
		})
	}
}
