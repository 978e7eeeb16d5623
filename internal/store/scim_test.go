package store_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

func TestTenantSCIM(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	for i, want := range []*postern.SCIMIngress{
		{EnabledBy: "ada", EnabledAt: noon},
		{Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}, EnabledBy: "ada", EnabledAt: noon},
		nil,
	} {
		var written postern.Tenant
		update(t, s, func(tx *store.Tx) error {
			v, err := tx.FindTenant("example")
			if err != nil {
				return err
			}
			v.SCIM = want
			written, err = tx.UpdateTenantSCIM(v)
			return err
		})
		view(t, s, func(tx *store.Tx) error {
			got, err := tx.FindTenant("example")
			if err != nil {
				return err
			}
			if diff := cmp.Diff(want, got.SCIM, cmpopts.EquateComparable(netip.Prefix{})); diff != "" || got.ResourceVersion != int64(i+2) || written.ResourceVersion != got.ResourceVersion {
				t.Errorf("version %d, written %d: %s", got.ResourceVersion, written.ResourceVersion, diff)
			}
			other, err := tx.FindTenant("globex")
			if other.SCIM != nil || other.ResourceVersion != 1 {
				t.Errorf("another tenant has %+v", other)
			}
			return err
		})
	}
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.UpdateTenantSCIM(postern.Tenant{Name: "example", ResourceVersion: 1, SCIM: &postern.SCIMIngress{}})
		return err
	})
	if postern.CodeOf(err) != postern.CodeConflict {
		t.Errorf("a change of an old version: %v", err)
	}
}
