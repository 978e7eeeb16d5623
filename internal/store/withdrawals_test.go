package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

func TestWithdrawals(t *testing.T) {
	s := open(t)
	deleted := postern.Withdrawal{Kind: postern.WithdrawnTenant, Tenant: "example", Organization: "example-corp", At: noon}
	off := postern.Withdrawal{Kind: postern.WithdrawnSCIM, Tenant: "globex", Organization: "globex", At: noon}
	update(t, s, func(tx *store.Tx) error { return tx.AddWithdrawal(deleted) })
	update(t, s, func(tx *store.Tx) error { return tx.AddWithdrawal(off) })
	all := func(want ...postern.Withdrawal) {
		t.Helper()
		view(t, s, func(tx *store.Tx) error {
			got, err := tx.ListWithdrawals("")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			return err
		})
	}
	all(deleted, off)
	view(t, s, func(tx *store.Tx) error {
		if got, err := tx.ListWithdrawals("globex"); err != nil || len(got) != 1 || got[0] != off {
			t.Errorf("globex's: %+v, %v", got, err)
		}
		return nil
	})
	off.Revision, off.Told = 7, true
	update(t, s, func(tx *store.Tx) error { return tx.UpdateWithdrawal(off) })
	all(deleted, off)

	// Taken away again: what was known of the time before is not of now.
	again := off
	again.At, again.Revision, again.Told = noon.Add(time.Second), 0, false
	update(t, s, func(tx *store.Tx) error { return tx.AddWithdrawal(again) })
	all(deleted, again)
	for name, write := range map[string]func(*store.Tx) error{
		"update": func(tx *store.Tx) error { return tx.UpdateWithdrawal(off) },
		"delete": func(tx *store.Tx) error { return tx.DeleteWithdrawal(off) },
	} {
		if err := s.Update(t.Context(), write); postern.CodeOf(err) != postern.CodeConflict {
			t.Errorf("%s of the one before: %v", name, err)
		}
	}
	update(t, s, func(tx *store.Tx) error { return tx.DeleteWithdrawal(deleted) })
	all(again)
	update(t, s, func(tx *store.Tx) error { return tx.OfferAgain(postern.WithdrawnSCIM, "globex") })
	all()
}
