package control_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

const (
	exampleHost = "example.hosted.example.com"
	exampleLink = "example.privatelink.example.com"
	exampleVPCE = "vpce-0000000000000000a"
	exampleAcct = "111111111111"
)

// steady is a cloud in which one endpoint is connected, or gone.
type steady struct {
	control.Cloud
	gone bool
}

func (c *steady) Connections(_ context.Context, svc postern.ServiceRef) ([]postern.Connection, error) {
	state := postern.ConnectionAvailable
	if c.gone {
		state = postern.ConnectionDeleted
	}
	return []postern.Connection{{EndpointID: exampleVPCE, ServiceRegion: svc.Region, Owner: exampleAcct, State: state}}, nil
}

func (c *steady) Principals(context.Context, postern.ServiceRef) ([]string, error) {
	return []string{postern.AccountPrincipal(virginia, exampleAcct)}, nil
}

// servers are the zones' servers: they answer what was published last, unless
// they lag.
type servers struct {
	mu    sync.Mutex
	zones postern.Zones
	lag   bool
	next  postern.Zones
}

func (s *servers) publish(z postern.Zones) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next = z; !s.lag {
		s.zones = z
	}
}

// hold makes the servers lag, or catch up.
func (s *servers) hold(lag bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lag = lag; !lag {
		s.zones = s.next
	}
}

func (s *servers) answer(name string) []postern.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	apex, _ := s.zones.ZoneOf(name)
	return s.zones.Zones[apex].Records[name]
}

func (s *servers) Differs(_ context.Context, name string, wanted []postern.Record) (string, bool) {
	if got := s.answer(name); !slices.Equal(got, wanted) {
		return fmt.Sprintf("it says %v for %s, not %v", got, name, wanted), true
	}
	return "", false
}

// scene is a tenant with a ready endpoint, two nodes and the zones' servers,
// over a real store.
type scene struct {
	*world
	cloud   *steady
	servers *servers
	// obeys are the nodes that are linked: they apply what is published, and
	// report it with each minute that passes.
	obeys []string
	seq   int64
	// step is called at every point where the loop touches the world.
	step func(point string)
}

func newScene(t *testing.T) *scene {
	t.Helper()
	w := &world{t: t, now: time.Now().UTC().Truncate(time.Second), log: &logBuffer{}}
	w.platform = &postern.Platform{
		Name: "example", Domains: postern.Domains{Hosted: "hosted.example.com", PrivateLink: "privatelink.example.com"},
		Apps: []postern.App{{ID: "govern", Port: 443}},
		Segments: []postern.Segment{{ID: "na", Regions: []postern.Region{{
			ID: virginia, ServiceName: "com.amazonaws.vpce.us-east-1.vpce-svc-0000000000000000a", AvailabilityZones: []string{"use1-az1"},
			Backends:      map[string][]netip.AddrPort{"govern": {netip.MustParseAddrPort("10.0.0.1:443")}},
			PublicIngress: []netip.Addr{netip.MustParseAddr("192.0.2.10")},
		}}}},
	}
	if err := w.platform.Validate(); err != nil {
		t.Fatal(err)
	}
	w.openStore()
	s := &scene{world: w, cloud: &steady{}, servers: &servers{}, obeys: []string{"n1", "n2"}, step: func(string) {}}
	w.update(func(tx *store.Tx) error {
		_, e1 := tx.CreateOrganization(postern.Organization{ID: "example-corp", CreatedAt: w.clock()})
		_, e2 := tx.CreateTenant(postern.Tenant{Name: "example", Organization: "example-corp", Region: virginia})
		_, e3 := tx.ProveAccount(postern.Account{ID: exampleAcct, Organization: "example-corp", ProvenAt: w.clock()})
		_, e4 := tx.CreateEndpoint(postern.Endpoint{
			ID: exampleVPCE, Organization: "example-corp", ServiceRegion: virginia, Owner: exampleAcct, State: postern.EndpointReady,
			Approval: postern.Approval{By: "ada", At: w.clock()}, CreatedAt: w.clock(),
		})
		for _, id := range []string{"n1", "n2"} {
			_, _, err := tx.UpsertNode(postern.Node{ID: id, Regions: []string{virginia}, BootID: "boot-of-" + id, LastSeen: w.clock()})
			e4 = errors.Join(e4, err)
		}
		return errors.Join(e1, e2, e3, e4)
	})
	return s
}

func (s *scene) Differs(ctx context.Context, name string, wanted []postern.Record) (string, bool) {
	s.step("ask")
	return s.servers.Differs(ctx, name, wanted)
}

// config has the rules that operators get who set none.
func (s *scene) config() control.Config {
	c := s.world.config()
	c.Cloud, c.Names = s.cloud, s
	c.Rules.Cutover = plan.CutoverRules{
		TTL: time.Minute, Observe: 24 * time.Hour, Window: time.Hour, Clients: 3, Drain: 5 * time.Minute, NodeSilence: 30 * time.Second,
	}
	c.Publish = func(r postern.Routes) { s.publish(r); s.step("routes") }
	c.PublishZones = func(z postern.Zones) { s.servers.publish(z); s.step("zones") }
	return c
}

// loop is a new process.
func (s *scene) loop() *control.Loop { return control.New(s.config()) }

// start stores a cutover as the API does.
func (s *scene) start() {
	s.t.Helper()
	s.update(func(tx *store.Tx) error {
		_, err := tx.CreateCutover(postern.Cutover{
			ID: "cut_1", Tenant: "example", Organization: "example-corp", Phase: postern.CutoverRehearsing,
			StartedBy: "ada", StartedAt: s.clock(),
		})
		return errors.Join(err, tx.AppendEvent(postern.Event{At: s.clock(), Actor: "ada", Action: "cutover.started", Subject: "cut_1"}))
	})
}

func (s *scene) cutover() (c postern.Cutover) {
	s.t.Helper()
	s.view(func(tx *store.Tx) (err error) { c, err = tx.FindCutover("cut_1"); return err })
	return c
}

// comes lets clients come, as a node reports it.
func (s *scene) comes(as ...postern.ArrivalCount) {
	s.t.Helper()
	for i := range as {
		as[i].Region, as[i].ServerName, as[i].Count, as[i].FirstSeen, as[i].LastSeen = virginia, exampleHost, 1, s.clock(), s.clock()
	}
	s.update(func(tx *store.Tx) error { return tx.AddArrivals(as) })
}

var (
	privately = postern.ArrivalCount{Listener: "private", EndpointID: exampleVPCE, Organization: "example-corp"}
	publicly  = postern.ArrivalCount{Listener: "public", Source: "198.51.100.7", Organization: "example-corp"}
)

// pass lets time pass, in which the nodes that are linked report.
func (s *scene) pass(d time.Duration) {
	s.t.Helper()
	s.advance(d)
	s.seq++
	s.update(func(tx *store.Tx) error {
		for _, id := range s.obeys {
			r := postern.NodeReport{Node: id, BootID: "boot-of-" + id, Seq: s.seq, AppliedRevision: s.routes().Revision}
			if _, err := tx.ReportNode(r, s.clock()); err != nil {
				return err
			}
		}
		return nil
	})
}

// rounds lets a loop go round n times, a minute apart.
func (s *scene) rounds(l *control.Loop, n int) {
	s.t.Helper()
	for range n {
		s.round(l, time.Minute)
	}
}

func (s *scene) round(l *control.Loop, then time.Duration) {
	s.t.Helper()
	if _, err := l.Round(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.pass(then)
}

// rehearsed brings a cutover to where it enforces with the next round.
func (s *scene) rehearsed(l *control.Loop) {
	s.t.Helper()
	s.rounds(l, 1)
	s.start()
	s.rounds(l, 3) // the fallback, what leads to it, and that it is published
	s.comes(privately)
	s.rounds(l, 1)
	if c := s.cutover(); c.Phase != postern.CutoverRehearsing || c.PublishedAt.IsZero() {
		s.t.Fatalf("%+v", c)
	}
	s.pass(23*time.Hour + 59*time.Minute)
}

// wants checks how far it is and what it waits for.
func (s *scene) wants(phase postern.CutoverPhase, waits ...postern.Reason) {
	s.t.Helper()
	c := s.cutover()
	var got []postern.Reason
	for _, x := range c.Conditions {
		if x.Status != postern.True {
			got = append(got, x.Reason)
		}
	}
	if c.Phase != phase || !slices.Equal(got, waits) {
		s.t.Fatalf("%s, waits for %v; want %s, %v: %+v", c.Phase, got, phase, waits, c.Conditions)
	}
}

// public tells whether clients are let in publicly, and what the zones say.
func (s *scene) public() string {
	kind := func(name string) string {
		rs := s.servers.answer(name)
		if len(rs) == 0 {
			return "-"
		}
		return rs[0].Type
	}
	return fmt.Sprintf("%v %s %s", s.routes().Hosts[exampleHost].Public, kind(exampleHost), kind(exampleLink))
}

func TestACutoverGoesThroughTheLoop(t *testing.T) {
	s := newScene(t)
	l := s.loop()
	s.rounds(l, 2)
	if got := s.public(); got != "true A -" {
		t.Fatalf("before: %s", got)
	}
	s.comes(publicly) // before the rehearsal; it does not count
	s.servers.hold(true)
	s.start()
	s.rounds(l, 2)
	s.wants(postern.CutoverRehearsing, postern.ReasonNotPublished, postern.ReasonWaitsForTime)
	s.servers.hold(false)
	s.rounds(l, 1)
	s.wants(postern.CutoverRehearsing, postern.ReasonWaitsForTime)
	if got := s.public(); got != "true A A" {
		t.Errorf("while a resolver may remember that there was no fallback: %s", got)
	}
	s.servers.hold(true)
	s.rounds(l, 2)
	s.wants(postern.CutoverRehearsing, postern.ReasonNotPublished, postern.ReasonNotSeen, postern.ReasonWaitsForTime)
	s.servers.hold(false)
	s.rounds(l, 1)
	s.wants(postern.CutoverRehearsing, postern.ReasonNotSeen, postern.ReasonWaitsForTime)
	if got := s.public(); got != "true CNAME A" {
		t.Errorf("rehearsing: %s", got)
	}
	s.comes(privately)
	s.pass(time.Minute)
	s.comes(publicly)
	s.rounds(l, 1)
	s.wants(postern.CutoverRehearsing, postern.ReasonStillPublic, postern.ReasonWaitsForTime)
	if m := postern.FindCondition(s.cutover().Conditions, postern.PublicClients).Message; !strings.Contains(m, "198.51.100.7") {
		t.Errorf("who still comes is not named: %s", m)
	}

	// A day after, nobody has come publicly for a day; one node is cut off.
	s.obeys = []string{"n1"}
	s.pass(25 * time.Hour)
	s.comes(privately)
	s.rounds(l, 3)
	s.wants(postern.CutoverRehearsing, postern.ReasonWaitsForNodes)
	s.obeys = []string{"n1", "n2"}
	s.pass(time.Second)
	s.rounds(l, 1)
	s.wants(postern.CutoverEnforcing) // the conditions of the rehearsal's last round
	if h := s.routes().Hosts[exampleHost]; h.Public || h.Drain.Before.IsZero() || h.Drain.Until != h.Drain.Before.Add(5*time.Minute) {
		t.Errorf("enforced with %+v", h)
	}
	if got := s.public(); got != "false CNAME A" {
		t.Errorf("enforcing: %s", got)
	}

	// It is cut off again, and never hears of it.
	s.obeys = []string{"n1"}
	s.rounds(l, 10)
	s.wants(postern.CutoverEnforcing, postern.ReasonWaitsForNodes)
	if m := postern.FindCondition(s.cutover().Conditions, postern.NodesAcknowledged).Message; !strings.Contains(m, "waits for node n2;") {
		t.Errorf("who is waited for is not named: %s", m)
	}
	s.update(func(tx *store.Tx) error {
		n, err := tx.FindNode("n2")
		if err != nil {
			return err
		}
		_, err = tx.FenceNode(n, "ada", s.clock())
		return err
	})
	s.servers.hold(true)
	s.rounds(l, 1)
	s.rounds(l, 1)
	s.wants(postern.CutoverWithdrawing, postern.ReasonNotPublished, postern.ReasonWaitsForTime)
	s.servers.hold(false)
	s.rounds(l, 1)
	s.wants(postern.CutoverWithdrawing, postern.ReasonWaitsForTime)
	if got := s.public(); got != "false CNAME -" {
		t.Errorf("withdrawing: %s", got)
	}
	s.rounds(l, 1)
	s.wants(postern.CutoverComplete)

	// At rest it stays, whatever becomes of the endpoint.
	before := s.cutover()
	s.cloud.gone = true
	s.rounds(l, 5)
	if diff := cmp.Diff(before, s.cutover()); diff != "" || s.public() != "false CNAME -" {
		t.Errorf("%s: %s", s.public(), diff)
	}
	want := []string{"cutover.started", "cutover.rehearsing", "cutover.enforcing", "cutover.withdrawing", "cutover.complete"}
	if got := slices.DeleteFunc(s.actions(0), func(a string) bool { return !strings.HasPrefix(a, "cutover.") }); !slices.Equal(got, want) {
		t.Errorf("events %v", got)
	}
}

// While a cutover moves, the loop looks at it soon again; at rest it does not.
func TestOnlyMovingCutoversKeepTheLoopBusy(t *testing.T) {
	s := newScene(t)
	l := s.loop()
	s.rounds(l, 1)
	settled := func() bool {
		ok, err := l.Round(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !settled() {
		t.Error("busy without a cutover")
	}
	s.start()
	for _, p := range postern.CutoverPhases() {
		s.force(p)
		if moving := p != postern.CutoverComplete; settled() == moving {
			t.Errorf("%s: settled %v", p, !moving)
		}
	}
	s.rounds(l, 3) // it was rolled back, and settles
	if !settled() {
		t.Error("busy with a cutover that was rolled back long ago")
	}
}

// force puts the cutover into a phase.
func (s *scene) force(p postern.CutoverPhase) {
	s.t.Helper()
	s.update(func(tx *store.Tx) error {
		c, err := tx.FindCutover("cut_1")
		if err != nil {
			return err
		}
		c.Phase, c.RedirectedAt = p, c.StartedAt
		if p.Enforced() {
			c.EnforcedAt, c.DrainUntil = s.clock(), s.clock().Add(5*time.Minute)
		}
		_, err = tx.UpdateCutover(c)
		return err
	})
}

// A person who rolls back makes the tenant public with the next publication,
// from every phase and before AWS or anybody else is asked.
func TestARollbackIsPublishedAtOnce(t *testing.T) {
	for _, p := range postern.CutoverPhases() {
		t.Run(string(p), func(t *testing.T) {
			s := newScene(t)
			s.rounds(s.loop(), 1)
			s.start()
			s.force(p)
			l := s.loop()
			if err := l.PublishStored(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.routes().Hosts[exampleHost].Public; got == p.Enforced() {
				t.Errorf("in phase %s public is %v", p, got)
			}
			before := s.routes().Revision
			s.force(postern.CutoverRolledBack)
			s.step = func(point string) {
				if point == "ask" {
					t.Error("the zones' servers were asked before")
				}
			}
			if err := l.PublishStored(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.public(); got != "true A A" || s.routes().Revision < before || p.Enforced() && s.routes().Revision == before {
				t.Errorf("afterwards: %s, revision %d after %d", got, s.routes().Revision, before)
			}
		})
	}
}

// A person who rolls back while a round is on its way wins.
func TestARollbackDuringARoundWins(t *testing.T) {
	s := newScene(t)
	l := s.loop()
	s.rehearsed(l)
	var once sync.Once
	s.step = func(point string) {
		if point == "ask" { // its row was read, and is written after this
			once.Do(func() { s.force(postern.CutoverRolledBack) })
		}
	}
	s.rounds(l, 2)
	if c := s.cutover(); c.Phase != postern.CutoverRolledBack || s.public() != "true A A" {
		t.Errorf("%s, %s", c.Phase, s.public())
	}
}

// Who was led to the privatelink name a moment before a rollback finds the
// public ingress there for as long as that is remembered.
func TestTheFallbackOutlivesARollback(t *testing.T) {
	s := newScene(t)
	l := s.loop()
	s.rehearsed(l)
	s.rounds(l, 1)
	s.wants(postern.CutoverEnforcing)
	s.servers.hold(true)
	s.force(postern.CutoverRolledBack)
	s.rounds(l, 5)
	if c := s.cutover(); !c.RestoredAt.IsZero() || s.public() != "true CNAME A" {
		t.Errorf("while the servers lag: %+v, %s", c, s.public())
	}
	s.servers.hold(false)
	s.rounds(l, 1)
	if got := s.public(); got != "true A A" {
		t.Errorf("while a resolver may remember: %s", got)
	}
	s.rounds(l, 2)
	if c := s.cutover(); c.SettledAt.IsZero() || s.public() != "true A -" {
		t.Errorf("afterwards: %+v, %s", c, s.public())
	}
}

// One that is rolled back before it led anybody anywhere settles for the one
// before it, which had.
func TestASuccessorKeepsTheFallback(t *testing.T) {
	s := newScene(t)
	l := s.loop()
	s.rehearsed(l)
	s.rounds(l, 1)
	s.force(postern.CutoverRolledBack)
	s.round(l, time.Second)
	s.update(func(tx *store.Tx) error {
		_, err := tx.CreateCutover(postern.Cutover{
			ID: "cut_2", Tenant: "example", Organization: "example-corp", Phase: postern.CutoverRehearsing, StartedBy: "ada", StartedAt: s.clock(),
		})
		return err
	})
	s.round(l, time.Second)
	s.update(func(tx *store.Tx) error {
		c, err := tx.FindCutover("cut_2")
		if err != nil {
			return err
		}
		c.Phase, c.EndedAt = postern.CutoverRolledBack, s.clock()
		_, err = tx.UpdateCutover(c)
		return err
	})
	s.round(l, time.Second)
	if got := s.public(); got != "true A A" {
		t.Errorf("while a resolver may remember the way: %s", got)
	}
	s.rounds(l, 2)
	if got := s.public(); got != "true A -" {
		t.Errorf("a TTL later: %s", got)
	}
}

// What must not enforce, though somebody comes privately or nobody comes at all.
func TestWhatARehearsalDoesNotOverlook(t *testing.T) {
	refused, down, elsewhere := privately, privately, publicly
	refused.EndpointID, refused.Denial = "vpce-0000000000000000b", postern.DenyNotAuthorized
	down.EndpointID, down.Denial = "vpce-0000000000000000c", postern.DenyBackendDown
	for name, tc := range map[string]struct {
		happens func(*scene, *control.Loop)
		want    postern.CutoverPhase
		says    string
	}{
		"two networks are refused while one works": {func(s *scene, l *control.Loop) {
			s.rehearsed(l)
			for range 5 {
				s.comes(refused, down, privately)
				s.rounds(l, 1)
			}
		}, postern.CutoverRehearsing, "vpce-0000000000000000b (not_authorized), vpce-0000000000000000c (backend_unreachable)"},
		"a nightly job among a flood of another tenant's clients": {func(s *scene, l *control.Loop) {
			s.start()
			s.rounds(l, 4)
			s.pass(12 * time.Hour)
			s.comes(privately, publicly)
			for i := range 8 {
				as := make([]postern.ArrivalCount, 2000)
				for j := range as {
					as[j] = elsewhere
					as[j].Source = fmt.Sprintf("10.%d.%d.%d", i, j/256, j%256)
					as[j].Region, as[j].ServerName, as[j].Count, as[j].FirstSeen, as[j].LastSeen = virginia, "other.hosted.example.com", 1, s.clock(), s.clock()
				}
				s.update(func(tx *store.Tx) error { return tx.AddArrivals(as) })
			}
			s.pass(12*time.Hour + time.Minute)
			s.comes(privately)
			s.rounds(l, 3)
		}, postern.CutoverRehearsing, plan.Folded},
		"private clients are led to nobody": {func(s *scene, l *control.Loop) {
			for i := range 40 {
				p := publicly
				p.Source = fmt.Sprintf("198.51.100.%d", i)
				s.comes(p)
			}
			s.start()
			s.rounds(l, 70)
		}, postern.CutoverRolledBack, "40 have not come since"},
		"no endpoint is ready to begin with": {func(s *scene, l *control.Loop) {
			s.start()
			s.cloud.gone = true
			s.rounds(l, 100)
		}, postern.CutoverRehearsing, "no endpoint that reaches the tenant is ready"},
		"the endpoint dies before anybody came": {func(s *scene, l *control.Loop) {
			s.start()
			s.rounds(l, 3)
			s.cloud.gone = true
			s.rounds(l, 3)
		}, postern.CutoverRolledBack, "whoever has private DNS in place is led to one"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			l := s.loop()
			s.rounds(l, 1)
			tc.happens(s, l)
			c := s.cutover()
			said := c.EndedWhy
			for _, x := range c.Conditions {
				if x.Status != postern.True {
					said += "\n" + x.Message
				}
			}
			if c.Phase != tc.want || !strings.Contains(said, tc.says) {
				t.Errorf("%s, want %s: %s", c.Phase, tc.want, said)
			}
		})
	}
}

// Servers that are silent are asked side by side.
func TestSilentServersHoldUpNobody(t *testing.T) {
	s := newScene(t)
	l := s.loop()
	s.rounds(l, 1)
	s.start()
	var tenants []string
	for i := range 20 {
		tenants = append(tenants, fmt.Sprint("t", i))
	}
	s.update(func(tx *store.Tx) (err error) {
		for i, name := range tenants {
			_, e1 := tx.CreateTenant(postern.Tenant{Name: name, Organization: "example-corp", Region: virginia})
			_, e2 := tx.CreateCutover(postern.Cutover{ID: fmt.Sprint("cut_t", i), Tenant: name, Organization: "example-corp", Phase: postern.CutoverRehearsing, StartedAt: s.clock()})
			err = errors.Join(err, e1, e2)
		}
		return err
	})
	var asking, most atomic.Int32
	s.step = func(point string) {
		if point != "ask" {
			return
		}
		most.Store(max(most.Load(), asking.Add(1)))
		<-time.After(10 * time.Millisecond)
		asking.Add(-1)
	}
	s.rounds(l, 1)
	if n := most.Load(); n < 4 || n > 16 {
		t.Errorf("%d were asked for side by side, want several and 16 at most", n)
	}
}

func TestARehearsalGoesBackWhenTheEndpointDies(t *testing.T) {
	s := newScene(t)
	l := s.loop()
	s.rounds(l, 1)
	s.start()
	s.rounds(l, 3)
	s.comes(privately)
	s.rounds(l, 1)
	s.cloud.gone = true
	s.rounds(l, 1)
	c := s.cutover()
	if c.Phase != postern.CutoverRolledBack || c.EndedBy != "loop" || s.public() != "true A A" {
		t.Errorf("%+v, %s", c, s.public())
	}
	if !slices.Contains(s.actions(0), "cutover.rolled-back") {
		t.Errorf("no event: %v", s.actions(0))
	}
}

// A process that dies at any moment of a cutover leaves nothing that its
// successor does not finish, and nothing that is done twice.
func TestACrashDuringACutoverConverges(t *testing.T) {
	finish := func(s *scene) string {
		s.step = func(string) {}
		l := s.loop()
		if err := l.PublishStored(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
		// At no moment after it enforced is a client let in publicly.
		s.step = func(point string) {
			if point == "routes" && s.cutover().Phase.Enforced() && s.routes().Hosts[exampleHost].Public && s.cutover().EnforceRevision > 0 {
				s.t.Error("public again after it enforced")
			}
		}
		for n := 0; n < 10 && s.cutover().Moving(); n++ {
			s.round(l, 5*time.Minute)
		}
		return fmt.Sprint(s.cutover().Phase, s.public(), slices.DeleteFunc(s.actions(0), func(a string) bool { return !strings.HasPrefix(a, "cutover.") }))
	}
	// play runs until the n-th point where the loop touches the world.
	play := func(s *scene, n int) (points []string) {
		s.rehearsed(s.loop())
		ctx, die := context.WithCancel(s.t.Context())
		defer die()
		s.step = func(p string) {
			if points = append(points, p); len(points) == n {
				die()
			}
		}
		l := s.loop()
		for s.cutover().Moving() {
			if _, _ = l.Round(ctx); ctx.Err() != nil { // whatever it says: the process is dead
				return points
			}
			s.pass(5 * time.Minute)
		}
		return points
	}
	s := newScene(t)
	points := play(s, 0)
	want := finish(s)
	if s.cutover().Phase != postern.CutoverComplete || len(points) < 25 {
		t.Fatalf("%s after %d points", want, len(points))
	}
	for n := 1; n <= len(points); n++ {
		if testing.Short() && n%4 != 0 {
			continue
		}
		t.Run(fmt.Sprintf("%d %s", n, points[n-1]), func(t *testing.T) {
			s := newScene(t)
			play(s, n)
			if got := finish(s); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

// What stands against a cutover, of what the store and the zones know.
func TestPreflightOfWhatIsStored(t *testing.T) {
	s := newScene(t)
	l := s.loop()
	s.rounds(l, 1)
	blockers := func() map[string][]string {
		bs, err := l.Preflight(t.Context(), "example")
		if err != nil {
			t.Fatal(err)
		}
		out := map[string][]string{}
		for _, b := range bs {
			out[b.Name] = b.Evidence
		}
		return out
	}
	want := func(what string, names ...string) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(blockers())); !slices.Equal(got, names) {
			t.Errorf("%s: %v, want %v", what, got, names)
		}
	}
	isolated := func(node string, ok bool) {
		s.update(func(tx *store.Tx) error {
			return tx.SaveIsolation(postern.Isolation{Node: node, Address: "10.0.0.1:443", Isolated: ok, Detail: "of " + node, At: s.clock()})
		})
	}
	probe := func(nonce string) {
		s.update(func(tx *store.Tx) error {
			return errors.Join(tx.CreateProbe(postern.Probe{Nonce: nonce, Tenant: "example", CreatedAt: s.clock()}), tx.AddArrivals([]postern.ArrivalCount{{
				Region: virginia, Listener: "private", EndpointID: exampleVPCE, ServerName: s.platform.ProbeHost("example", nonce),
				Denial: postern.DenyUnknownHost, Count: 1, FirstSeen: s.clock(), LastSeen: s.clock(),
			}}))
		})
	}
	want("nothing was proven", postern.BlockerNotIsolated, postern.BlockerPathUnproven)
	probe("n")
	want("the path was proven", postern.BlockerNotIsolated)
	isolated("n1", true)
	want("a node found it isolated")
	isolated("n2", false)
	want("another got through", postern.BlockerNotIsolated)
	if got := blockers()[postern.BlockerNotIsolated]; !slices.Equal(got, []string{"10.0.0.1:443: of n2"}) {
		t.Errorf("evidence %v", got)
	}
	isolated("n2", true)
	isolated("n1", false)
	want("the first of them got through", postern.BlockerNotIsolated)
	isolated("n1", true)
	s.pass(10*time.Minute + time.Second)
	want("what was found is old", postern.BlockerNotIsolated)
	isolated("n1", true)
	s.comes(publicly)
	want("a client comes publicly", postern.BlockerPublicClients)
	s.pass(24*time.Hour - time.Second)
	isolated("n1", true)
	want("the path was proven a day ago", postern.BlockerPathUnproven, postern.BlockerPublicClients)
	probe("again")
	want("it came almost a day ago", postern.BlockerPublicClients)
	s.pass(time.Second)
	isolated("n1", true)
	want("longer ago")
	s.obeys = []string{"n2"}
	s.pass(time.Minute)
	want("a node is silent", postern.BlockerNodes)
	fence := func(id string) {
		s.update(func(tx *store.Tx) error {
			n, err := tx.FindNode(id)
			if err != nil {
				return err
			}
			_, err = tx.FenceNode(n, "ada", s.clock())
			return err
		})
	}
	fence("n1")
	want("it is fenced")
	fence("n2")
	want("all are fenced: nobody serves", postern.BlockerNodes)
	if _, err := l.Preflight(t.Context(), "nobody"); postern.CodeOf(err) != postern.CodeNotFound {
		t.Errorf("of no tenant: %v", err)
	}
}

func TestTenantDNS(t *testing.T) {
	s := newScene(t)
	l := s.loop()
	s.rounds(l, 1)
	look := func() plan.TenantDNS {
		d, err := l.TenantDNS(t.Context(), "example")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := look(); d.Differs != "" || len(d.Wanted[exampleHost]) != 1 || len(d.Wanted[exampleLink]) != 0 || len(d.Endpoints) != 1 {
		t.Errorf("public: %+v", d)
	}
	s.start()
	s.rounds(l, 1)
	if d := look(); d.Wanted[exampleHost][0].Type != "A" || d.Wanted[exampleLink][0].Type != "A" || d.Differs != "" {
		t.Errorf("preparing: %+v", d)
	}
	s.servers.hold(true)
	s.rounds(l, 1)
	if d := look(); d.Wanted[exampleHost][0].Type != "CNAME" || d.Wanted[exampleLink][0].Type != "A" || !strings.Contains(d.Differs, exampleHost) {
		t.Errorf("rehearsing: %+v", d)
	}
	s.servers.hold(false)
	s.cloud.gone = true
	s.rounds(l, 1)
	if d := look(); d.Differs != "" || len(d.Endpoints) != 0 {
		t.Errorf("without its endpoint: %+v", d)
	}
	if _, err := l.TenantDNS(t.Context(), "nobody"); postern.CodeOf(err) != postern.CodeNotFound {
		t.Errorf("of no tenant: %v", err)
	}
	// Without servers that are known, nothing counts as published.
	c := s.config()
	c.Names = nil
	d, err := control.New(c).TenantDNS(t.Context(), "example")
	if err != nil || d.Differs != "no server of the zones is configured" {
		t.Errorf("%+v, %v", d, err)
	}
}

// Zones get a new revision only when they change, and never an earlier one.
func TestZonesArePublishedOnce(t *testing.T) {
	s := newScene(t)
	var seen []int64
	c := s.config()
	c.PublishZones = func(z postern.Zones) { s.servers.publish(z); seen = append(seen, z.Revision) }
	l := control.New(c)
	s.rounds(l, 2)
	s.start()
	s.rounds(l, 2)
	s.rounds(control.New(c), 1)
	if !slices.IsSorted(seen) || seen[0] != 1 || seen[len(seen)-1] != 3 { // a fallback, and what leads to it
		t.Errorf("revisions %v", seen)
	}
}
