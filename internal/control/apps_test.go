package control_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

// apps lists the events of apps so far.
func (s *scene) apps() (out []string) {
	s.t.Helper()
	s.view(func(tx *store.Tx) error {
		es, err := tx.ListEvents("example-corp", 0, 1000)
		for _, e := range es {
			if strings.HasPrefix(e.Action, "app.") {
				out = append(out, e.Action+" "+e.Subject+": "+e.Message)
			}
		}
		return err
	})
	return out
}

// Whoever loses an app by something else, or gets it back, finds an event that
// says why; each of them once, over restarts too.
func TestAppsThatAreLostAreAnEvent(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.platform.Apps = append(s.platform.Apps, postern.App{ID: "request", Port: 443, Hosts: []string{"app.example.com"}, Requires: "govern", SingleSegment: true})
	s.platform.Segments[0].Regions[0].Backends["request"] = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.9:443")}
	if err := s.platform.Validate(); err != nil {
		t.Fatal(err)
	}
	set := func(enabled bool) {
		s.update(func(tx *store.Tx) error {
			a, err := tx.FindAppAccess("example-corp", "request")
			a.Enabled, a.ChangedBy, a.ChangedAt = enabled, "ada", s.clock()
			_, err2 := tx.SaveAppAccess(a)
			return errors.Join(err, err2, tx.AppendEvent(postern.Event{Action: "test"}))
		})
	}
	cutover := func(phase postern.CutoverPhase) {
		s.update(func(tx *store.Tx) error {
			c, err := tx.FindCutover("cut_1")
			c.Phase, c.EndedAt = phase, s.clock()
			_, err2 := tx.UpdateCutover(c)
			return errors.Join(err, err2, tx.AppendEvent(postern.Event{Action: "test"}))
		})
	}
	grants := func() bool { return slices.Contains(s.routes().Endpoints[exampleVPCE].Hosts, "app.example.com") }
	s.start()
	cutover(postern.CutoverComplete)
	var want []string
	for _, step := range []struct {
		name    string
		do      func()
		event   string // the beginning of the new one; "": there is none
		reached bool
	}{
		{"nobody asked for it", func() {}, "", false},
		{"turned on", func() { set(true) }, "app.ready example-corp: app request: BytesPass, reached through vpce-", true},
		{"the same again", func() {}, "", true},
		{"rolled back", func() { cutover(postern.CutoverRolledBack) }, "app.lost example-corp: app request: RequiredPublic, govern must be private first", false},
		{"private again", func() { cutover(postern.CutoverComplete) }, "app.ready example-corp", true},
		{"turned off", func() { set(false) }, "", false},
		{"on again", func() { set(true) }, "app.ready example-corp", true},
		{"its endpoint is gone", func() { s.cloud.gone = true }, "app.lost example-corp: app request: NoEndpoint, ", false},
		{"back", func() { s.cloud.gone = false }, "app.ready example-corp", true},
		{"the tenant is deleted", func() {
			s.update(func(tx *store.Tx) error {
				v, err := tx.FindTenant("example")
				return errors.Join(err, tx.DeleteTenant(v), tx.AppendEvent(postern.Event{Action: "test"}))
			})
		}, "app.lost example-corp: app request: RequiredPublic, the organization has no tenant", false},
	} {
		step.do()
		for range 2 {
			if _, err := s.loop().Round(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if step.event != "" {
			want = append(want, step.event)
		}
		got := s.apps()
		if len(got) != len(want) || len(got) > 0 && !strings.HasPrefix(got[len(got)-1], want[len(want)-1]) {
			t.Fatalf("%s: %q, want %q", step.name, got, want)
		}
		if grants() != step.reached {
			t.Fatalf("%s: the table grants it: %v", step.name, grants())
		}
	}
}
