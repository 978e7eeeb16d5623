package control_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// withdrawals lists the events about what was taken away.
func (s *scene) withdrawals() (out []string) {
	s.t.Helper()
	s.view(func(tx *store.Tx) error {
		es, err := tx.ListEvents("example-corp", 0, 1000)
		for _, e := range es {
			if strings.HasSuffix(e.Action, "withdrawn") {
				out = append(out, e.Action+" "+e.Subject+": "+e.Message)
			}
		}
		return err
	})
	return out
}

func (s *scene) deleteTenant() {
	s.update(func(tx *store.Tx) error {
		v, err := tx.FindTenant("example")
		return errors.Join(err, tx.DeleteTenant(v), tx.AppendEvent(postern.Event{Action: "test"}),
			tx.AddWithdrawal(postern.Withdrawal{Kind: postern.WithdrawnTenant, Tenant: "example", Organization: "example-corp", At: s.clock()}))
	})
}

// said demands the events so far, by how each begins and what it holds.
func (s *scene) said(want ...[2]string) {
	s.t.Helper()
	got := s.withdrawals()
	if len(got) != len(want) {
		s.t.Fatalf("events: %q, want %q", got, want)
	}
	for i, w := range want {
		if !strings.HasPrefix(got[i], w[0]) || !strings.Contains(got[i], w[1]) {
			s.t.Fatalf("events: %q, want %q", got, want)
		}
	}
}

// That a deleted tenant is refused everywhere is told when every node has said
// so, and not before; who does not is named, once.
func TestWithdrawalWaitsForNodes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.round(s.loop(), time.Second) // both nodes obey a table with the tenant
	s.deleteTenant()
	s.obeys = nil
	s.round(s.loop(), time.Second) // published, and nobody has answered
	s.round(s.loop(), time.Second)
	s.said()
	s.obeys = []string{"n1"}
	s.pass(time.Second)
	s.round(s.loop(), time.Minute)
	s.said()
	for range 3 {
		s.round(s.loop(), time.Second)
	}
	late := [2]string{"tenant.not-withdrawn example", "by node n2, which may"}
	s.said(late)
	s.obeys = []string{"n1", "n2"}
	s.pass(time.Second)
	for range 2 {
		s.round(s.loop(), time.Second)
	}
	s.said(late, [2]string{"tenant.withdrawn example", "every node obeys, or is fenced"})
}

// A fenced node is not waited for.
func TestWithdrawalDoesNotWaitForFencedNodes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.round(s.loop(), time.Second)
	s.update(func(tx *store.Tx) error {
		n, err := tx.FindNode("n2")
		_, err2 := tx.FenceNode(n, "ada", s.clock())
		return errors.Join(err, err2, tx.AppendEvent(postern.Event{Action: "test"}))
	})
	s.deleteTenant()
	s.obeys = []string{"n1"}
	s.round(s.loop(), time.Second)
	s.round(s.loop(), time.Second)
	s.said([2]string{"tenant.withdrawn example", "its hosts"})
}

// What is offered again before everybody obeyed is not waited for any more, and a
// node that obeys a later table obeys this one.
func TestStillOffer(t *testing.T) {
	t.Parallel()
	nodes := []postern.Node{{ID: "old", AppliedRevision: 6}, {ID: "fenced", Fenced: true}, {ID: "same", AppliedRevision: 7}, {ID: "later", AppliedRevision: 8}}
	for revision, want := range map[int64]string{0: "later old same", 7: "old", 9: "later old same", 6: ""} {
		if got := strings.Join(plan.StillOffer(postern.Withdrawal{Revision: revision}, nodes), " "); got != want {
			t.Errorf("of revision %d: %q, want %q", revision, got, want)
		}
	}
}
