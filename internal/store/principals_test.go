package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

func TestPrincipals(t *testing.T) {
	s, err := store.Open(t.Context(), t.TempDir()+"/postern.db")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	one := postern.AddedPrincipal{ServiceID: "vpce-svc-1", Principal: "arn:aws:iam::111111111111:root"}
	two := postern.AddedPrincipal{ServiceID: "vpce-svc-2", Principal: one.Principal}
	gone := one
	gone.AbsentSince = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		name string
		do   func(*store.Tx) error
		want []postern.AddedPrincipal
	}{
		{"added", func(tx *store.Tx) error { return tx.SavePrincipal(one) }, []postern.AddedPrincipal{one}},
		{"added again", func(tx *store.Tx) error { return tx.SavePrincipal(one) }, []postern.AddedPrincipal{one}},
		{"on another service", func(tx *store.Tx) error { return tx.SavePrincipal(two) }, []postern.AddedPrincipal{one, two}},
		{"absent", func(tx *store.Tx) error { return tx.SavePrincipal(gone) }, []postern.AddedPrincipal{gone, two}},
		{"dropped", func(tx *store.Tx) error { return tx.DeletePrincipal(one) }, []postern.AddedPrincipal{two}},
		{"dropped again", func(tx *store.Tx) error { return tx.DeletePrincipal(one) }, []postern.AddedPrincipal{two}},
	} {
		if err := s.Update(t.Context(), step.do); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		var got []postern.AddedPrincipal
		if err := s.View(t.Context(), func(tx *store.Tx) (err error) { got, err = tx.ListPrincipals(); return err }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s: %s", step.name, diff)
		}
	}
}
