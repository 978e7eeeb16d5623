package control_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

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
		if leftOut(n) {
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
