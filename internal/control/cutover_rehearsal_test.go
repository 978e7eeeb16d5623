package control_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

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
		n := asking.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
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
