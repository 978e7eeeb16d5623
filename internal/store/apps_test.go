package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

func TestAppAccess(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	find := func() (a postern.AppAccess) {
		view(t, s, func(tx *store.Tx) (err error) { a, err = tx.FindAppAccess("example-corp", "request"); return err })
		return a
	}
	if diff := cmp.Diff(postern.AppAccess{App: "request", Organization: "example-corp"}, find()); diff != "" {
		t.Errorf("nobody asked for it: %s", diff)
	}
	for i, enabled := range []bool{true, false, true} {
		want := find()
		want.Enabled, want.ChangedBy, want.ChangedAt = enabled, "ada", noon
		var written postern.AppAccess
		update(t, s, func(tx *store.Tx) (err error) { written, err = tx.SaveAppAccess(want); return err })
		want.ResourceVersion = int64(i + 1)
		if diff := cmp.Diff(want, find()) + cmp.Diff(want, written); diff != "" {
			t.Error(diff)
		}
	}
	for _, version := range []int64{0, 2, 4} {
		err := s.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.SaveAppAccess(postern.AppAccess{App: "request", Organization: "example-corp", ResourceVersion: version})
			return err
		})
		if postern.CodeOf(err) != postern.CodeConflict {
			t.Errorf("a change of version %d: %v", version, err)
		}
	}
	view(t, s, func(tx *store.Tx) error {
		for organization, want := range map[string]int{"": 1, "example-corp": 1, "globex": 0} {
			if all, err := tx.ListAppAccess(organization); err != nil || len(all) != want {
				t.Errorf("of %q: %v, %v", organization, all, err)
			}
		}
		return nil
	})
}

// Whether it is ready is noted without a change of its version, and not over
// what somebody changed meanwhile; and it survives such a change.
func TestMarkApp(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	a := postern.AppAccess{App: "request", Organization: "example-corp", Enabled: true, ChangedBy: "ada", ChangedAt: noon}
	update(t, s, func(tx *store.Tx) (err error) { a, err = tx.SaveAppAccess(a); return err })
	a.Ready = true
	update(t, s, func(tx *store.Tx) error { return tx.MarkApp(a) })
	a.Enabled = false
	update(t, s, func(tx *store.Tx) (err error) { a, err = tx.SaveAppAccess(a); return err })
	view(t, s, func(tx *store.Tx) error {
		got, err := tx.FindAppAccess("example-corp", "request")
		if diff := cmp.Diff(a, got); diff != "" || !got.Ready {
			t.Error(diff)
		}
		return err
	})
	a.ResourceVersion--
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.MarkApp(a) }); postern.CodeOf(err) != postern.CodeConflict {
		t.Errorf("over a change: %v", err)
	}
}
