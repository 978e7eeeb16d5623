package plan_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

// checkStep checks what must hold for every step of every cutover.
func checkStep(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, before, after postern.Cutover, v plan.CutoverView,
) {
	t.Helper()
	order := []postern.CutoverPhase{postern.CutoverRehearsing, postern.CutoverEnforcing, postern.CutoverWithdrawing, postern.CutoverComplete}
	from, to := slices.Index(order, before.Phase), slices.Index(order, after.Phase)
	switch {
	case after.Phase == before.Phase:
	case after.Phase == postern.CutoverRolledBack:
		if before.Phase != postern.CutoverRehearsing {
			t.Fatalf("rolled back by itself from %s", before.Phase)
		}
	case to != from+1:
		t.Fatalf("from %s to %s", before.Phase, after.Phase)
	case after.Phase == postern.CutoverEnforcing:
		since := v.Now.Sub(after.PublishedAt)
		public := v.Arrivals.PublicSources
		if !v.DNS.Wanted || after.RedirectedAt.IsZero() || after.PublishedAt.IsZero() || since < v.Rules.TTL+v.Rules.Observe ||
			!v.Arrivals.LastPrivate.After(after.PublishedAt) || v.Ready == 0 ||
			len(v.Arrivals.PrivateRefused) > 0 && !slices.Contains(before.Acknowledged, postern.BlockerPrivateRefused) ||
			len(public) > 0 && !slices.Contains(before.Acknowledged, postern.BlockerPublicClients) ||
			len(plan.Waiting(v.Nodes, v.Routes.Revision, v.Rules.NodeSilence, v.Now)) > 0 {
			t.Fatalf("enforced although %+v", v)
		}
	case after.Phase == postern.CutoverWithdrawing:
		revision := before.EnforceRevision
		if revision == 0 {
			revision = v.Routes.Revision
		}
		if v.Routes.Public || v.Now.Before(after.DrainUntil) || len(plan.Waiting(v.Nodes, revision, v.Rules.NodeSilence, v.Now)) > 0 {
			t.Fatalf("withdrew although %+v, %+v", after, v)
		}
	case after.Phase == postern.CutoverComplete:
		if after.WithdrawnAt.IsZero() || v.Now.Sub(after.WithdrawnAt) < v.Rules.TTL || !v.DNS.Wanted ||
			after.EnforceRevision == 0 || len(plan.Waiting(v.Nodes, after.EnforceRevision, v.Rules.NodeSilence, v.Now)) > 0 {
			t.Fatalf("complete although %+v, %+v", after, v)
		}
	}
	switch {
	case before.RedirectedAt.IsZero() && !after.RedirectedAt.IsZero():
		if !v.DNS.Wanted || after.FallbackAt.IsZero() || v.Now.Sub(after.FallbackAt) < v.Rules.TTL || v.Ready == 0 {
			t.Fatalf("led to the privatelink name although %+v, %+v", after, v)
		}
	case before.SettledAt.IsZero() && !after.SettledAt.IsZero():
		if (!after.RedirectedAt.IsZero() || after.LedBefore) && (!v.DNS.Wanted || after.RestoredAt.IsZero() || v.Now.Sub(after.RestoredAt) < v.Rules.TTL) {
			t.Fatalf("took the fallback away although %+v, %+v", after, v)
		}
	}
	if before.Phase.Enforced() && (after.EnforcedAt != before.EnforcedAt || after.DrainUntil != before.DrainUntil) {
		t.Fatalf("the drain moved: %+v to %+v", before, after)
	}
	moved := after.Phase != before.Phase || !after.RedirectedAt.Equal(before.RedirectedAt)
	if again := plan.Cutover(after, v).After; !moved && !cmp.Equal(again, after) {
		t.Fatalf("the same view gave something else: %s", cmp.Diff(after, again))
	}
	if !before.Moving() && !cmp.Equal(before, after) {
		t.Fatalf("a cutover at rest moved: %s", cmp.Diff(before, after))
	}
	same := before
	same.Phase, same.Conditions, same.PublishedAt, same.EnforcedAt, same.DrainUntil = after.Phase, after.Conditions, after.PublishedAt, after.EnforcedAt, after.DrainUntil
	same.EnforceRevision, same.WithdrawnAt, same.EndedAt, same.EndedBy, same.EndedWhy = after.EnforceRevision, after.WithdrawnAt, after.EndedAt, after.EndedBy, after.EndedWhy
	same.FallbackAt, same.RedirectedAt, same.FailingSince, same.RestoredAt, same.SettledAt = after.FallbackAt, after.RedirectedAt, after.FailingSince, after.RestoredAt, after.SettledAt
	if diff := cmp.Diff(same, after); diff != "" {
		t.Fatalf("changed what is not its business: %s", diff)
	}
}

// Whatever happens, a cutover obeys its rules at every step.
func TestCutoverObeysItsRules(t *testing.T) {
	reached := map[postern.CutoverPhase]int{}
	rapid.Check(t, func(t *rapid.T) {
		minutes := func(label string, most int) time.Duration {
			return time.Duration(rapid.IntRange(0, most).Draw(t, label)) * time.Minute
		}
		// Mostly right, so that runs get far.
		mostly := func(label string) bool { return rapid.IntRange(0, 9).Draw(t, label) > 0 }
		rules := plan.CutoverRules{
			TTL: time.Minute, Observe: minutes("observe", 5), Window: 3 * time.Minute, Clients: 2, Drain: minutes("drain", 2), NodeSilence: time.Minute,
		}
		c := postern.Cutover{ID: "cut_1", Tenant: "t", Organization: "o", Phase: postern.CutoverRehearsing}
		if rapid.Bool().Draw(t, "accepted") {
			c.Acknowledged = []string{postern.BlockerPublicClients}
		}
		now, revision := noon, int64(5)
		nodes := []postern.Node{{ID: "n0", LastSeen: now, AppliedRevision: revision}, {ID: "n1", LastSeen: now, AppliedRevision: revision}}
		var rows []postern.ArrivalCount
		public, drains := true, true
		for range rapid.IntRange(1, 30).Draw(t, "rounds") {
			now = now.Add(minutes("later", 2))
			if c.Phase.Enforced() && public && mostly("compiled") {
				public = false
				revision++
			}
			if c.Phase == postern.CutoverWithdrawing && drains && mostly("compiled") {
				drains = false
				revision++
			}
			for i := range nodes {
				if mostly("heard of") {
					nodes[i].LastSeen = now
					nodes[i].AppliedRevision = revision
				}
				nodes[i].Fenced = rapid.IntRange(0, 9).Draw(t, "fenced") == 0
			}
			if mostly("private client") {
				rows = append(rows, postern.ArrivalCount{Listener: "private", LastSeen: now})
			}
			if rapid.IntRange(0, 4).Draw(t, "app down") == 0 {
				rows = append(rows, postern.ArrivalCount{Listener: "private", Denial: postern.DenyBackendDown, LastSeen: now.Add(-time.Second)})
			}
			if rapid.IntRange(0, 2).Draw(t, "public client") == 0 {
				rows = append(rows, postern.ArrivalCount{Listener: "public", Source: fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "source")), LastSeen: now})
			}
			ready := 1
			if rapid.IntRange(0, 19).Draw(t, "endpoint died") == 0 {
				ready = 0
			}
			v := plan.CutoverView{
				Rules: rules, Now: now, Ready: ready, DNS: plan.DNSView{Wanted: mostly("zones answer")},
				Arrivals: plan.Arrivals(rows, "o", plan.ArrivalTimes{
					Since: c.PublishedAt, Late: c.PublishedAt.Add(rules.TTL), Window: now.Add(-rules.Window), Before: c.RedirectedAt.Add(-rules.Window),
				}), Nodes: slices.Clone(nodes),
				Routes: plan.RouteView{Revision: revision, Public: public, Drains: drains && !public},
			}
			v.DNS.Contradicted = !v.DNS.Wanted && rapid.Bool().Draw(t, "one says otherwise")
			step := plan.Cutover(c, v)
			checkStep(t, c, step.After, v)
			if (step.Event != "") != (step.After.Phase != c.Phase || step.After.RedirectedAt != c.RedirectedAt) {
				t.Fatalf("from %s to %s with event %q", c.Phase, step.After.Phase, step.Event)
			}
			c = step.After
			reached[c.Phase]++
		}
	})
	for _, p := range postern.CutoverPhases() {
		if reached[p] == 0 {
			t.Errorf("no run was ever %s: %v", p, reached)
		}
	}
}

// rehearsal is a scripted world around one cutover, stepped every minute.
type rehearsal struct {
	t        *testing.T
	start    time.Time
	c        postern.Cutover
	nodes    []postern.Node
	revision int64
	public   bool
	drains   bool
	zones    map[string]time.Time // when they were asked to change
	lag      time.Duration        // of the zones' servers
	rows     map[string]*postern.ArrivalCount
	ready    int
	log      []string // "1h2m0s enforcing"
}

func newRehearsal(t *testing.T) *rehearsal {
	now := time.Now()
	return &rehearsal{
		t: t, start: now, revision: 41, public: true, ready: 1, lag: 2 * time.Minute,
		c:     postern.Cutover{ID: "cut_1", Tenant: "example", Phase: postern.CutoverRehearsing, StartedAt: now},
		nodes: []postern.Node{{ID: "n1"}, {ID: "n2"}}, zones: map[string]time.Time{"fallback": now},
		rows: map[string]*postern.ArrivalCount{},
	}
}

func (r *rehearsal) comes(listener, source string, d postern.Denial) {
	r.rows[listener+source+string(d)] = &postern.ArrivalCount{Listener: listener, Source: source, Denial: d, LastSeen: time.Now()}
}

// round is one round of the loop, as control makes it.
func (r *rehearsal) round() {
	now := time.Now()
	if public := !r.c.Phase.Enforced(); public != r.public {
		r.public = public
		r.revision++
	}
	if drains := r.c.Phase == postern.CutoverEnforcing; drains != r.drains {
		r.drains = drains
		r.revision++
	}
	asked, changes := r.zones[r.says()]
	wanted := !changes || now.Sub(asked) >= r.lag
	var rows []postern.ArrivalCount
	for _, a := range r.rows {
		rows = append(rows, *a)
	}
	since := r.c.PublishedAt
	if since.IsZero() {
		since = now
	}
	late := since.Add(theRules.TTL)
	if lately := now.Add(-theRules.Lately()); lately.After(late) {
		late = lately
	}
	v := plan.CutoverView{
		Rules: theRules, Now: now, Ready: r.ready, DNS: plan.DNSView{Wanted: wanted, Detail: "192.0.2.53:53 lags"},
		Arrivals: plan.Arrivals(rows, "", plan.ArrivalTimes{Since: since, Late: late, Window: now.Add(-theRules.Window), Before: since}), Nodes: slices.Clone(r.nodes),
		Routes: plan.RouteView{Revision: r.revision, Public: r.public, Drains: r.drains},
	}
	step := plan.Cutover(r.c, v)
	checkStep(r.t, r.c, step.After, v)
	before := r.says()
	if step.After.Phase != r.c.Phase {
		r.log = append(r.log, fmt.Sprintf("%s %s", now.Sub(r.start), step.After.Phase))
	}
	if r.c = step.After; r.says() != before {
		r.zones[r.says()] = now
	}
}

// says is what the cutover wants the zones to say.
func (r *rehearsal) says() string {
	switch {
	case r.c.RedirectedAt.IsZero():
		return "fallback"
	case r.c.Phase == postern.CutoverRehearsing || r.c.Phase == postern.CutoverEnforcing:
		return "led, with a fallback"
	}
	return string(r.c.Phase)
}

// play runs rounds, a minute apart, for a time. Before each, what happens is
// told how long after the start it is.
func (r *rehearsal) play(d time.Duration, happens func(since time.Duration)) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for range d / time.Minute {
		<-tick.C
		happens(time.Since(r.start))
		r.round()
	}
}

func (r *rehearsal) heard(ids ...string) {
	for i := range r.nodes {
		if slices.Contains(ids, r.nodes[i].ID) {
			r.nodes[i].LastSeen, r.nodes[i].AppliedRevision = time.Now(), r.revision
		}
	}
}

// A whole cutover with the values that operators get who set none: the
// customer's DNS is late, one client stays public for two hours, and a node is
// cut off when the day is over.
func TestARehearsalOfADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRehearsal(t)
		r.play(28*time.Hour, func(since time.Duration) {
			r.heard("n1")
			if since < 20*time.Hour || since >= 27*time.Hour {
				r.heard("n2")
			}
			if since < 2*time.Hour {
				r.comes("public", "198.51.100.7", "")
			}
			if since >= 30*time.Minute && since%(10*time.Minute) == 0 {
				r.comes("private", "", "")
			}
			waits, checked := map[time.Duration][]postern.Reason{
				25 * time.Hour: {postern.ReasonWaitsForNodes, postern.ReasonStillPublic}, // the public client's last visit is not a day ago
				26 * time.Hour: {postern.ReasonWaitsForNodes},
			}[since]
			if diff := cmp.Diff(waits, falseOnes(r.c.Conditions)); checked && diff != "" {
				t.Errorf("after %s it waits for: %s", since, diff)
			}
		})
		// Nodes acknowledge a minute later, the drain takes five, the zones'
		// servers two, and the TTL one more.
		want := []string{"27h0m0s enforcing", "27h5m0s withdrawing", "27h8m0s complete"}
		if diff := cmp.Diff(want, r.log); diff != "" {
			t.Error(diff)
		}
		if got := r.c.PublishedAt.Sub(r.start); got != 5*time.Minute { // the fallback after 2 and led to after 3
			t.Errorf("published after %s", got)
		}
	})
}

// A rehearsal that nobody disturbs enforces when the day is over, and no
// minute earlier.
func TestAnUndisturbedRehearsal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRehearsal(t)
		r.play(25*time.Hour, func(time.Duration) {
			r.heard("n1", "n2")
			r.comes("private", "", "")
		})
		want := []string{"24h6m0s enforcing", "24h11m0s withdrawing", "24h14m0s complete"}
		if diff := cmp.Diff(want, r.log); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRehearsalsThatGoBackByThemselves(t *testing.T) {
	for name, tc := range map[string]struct {
		happens func(r *rehearsal, since time.Duration)
		want    string
	}{
		"three come publicly and nobody privately": {func(r *rehearsal, _ time.Duration) {
			for _, s := range []string{"a", "b", "c"} {
				r.comes("public", s, "")
			}
		}, "1h5m0s rolled-back"},
		"the third comes after four hours": {func(r *rehearsal, since time.Duration) {
			r.comes("public", "a", "")
			r.comes("public", "b", "")
			if since >= 4*time.Hour {
				r.comes("public", "c", "")
			}
		}, "4h0m0s rolled-back"},
		"the endpoint dies": {func(r *rehearsal, since time.Duration) {
			r.comes("private", "", "")
			if since == 3*time.Hour {
				r.ready = 0
			}
		}, "3h0m0s rolled-back"},
		"the app fails": {func(r *rehearsal, since time.Duration) {
			if since < 3*time.Hour {
				r.comes("private", "", "")
			} else {
				r.comes("private", "", postern.DenyBackendDown)
			}
		}, "3h1m0s rolled-back"},
		"private access breaks, and the public clients stay": {func(r *rehearsal, since time.Duration) {
			for _, s := range []string{"a", "b", "c"} {
				r.comes("public", s, "")
			}
			if since <= 2*time.Hour {
				r.comes("private", "", "")
			}
		}, "3h0m0s rolled-back"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRehearsal(t)
				r.play(6*time.Hour, func(since time.Duration) {
					r.heard("n1", "n2")
					tc.happens(r, since)
				})
				if diff := cmp.Diff([]string{tc.want}, r.log); diff != "" {
					t.Error(diff)
				}
				if r.c.EndedBy != "loop" || r.c.EndedWhy == "" {
					t.Errorf("%+v", r.c)
				}
			})
		})
	}
}
