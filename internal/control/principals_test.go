package control_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/store"
)

// What an operator allowed by hand stays, whatever becomes of the account.
func TestAPrincipalAddedByHandStays(t *testing.T) {
	w := newWorld(t)
	r := w.platform.Segments[1].Regions[0]
	if err := w.cloud.ChangePrincipals(t.Context(), r.Service(), []string{postern.AccountPrincipal(ireland, w.example.ID)}, nil); err != nil {
		t.Fatal(err)
	}
	l := control.New(w.config())
	w.settle(l)
	w.removeAccount()
	w.rest(l)
	if diff := cmp.Diff([]string{ireland}, w.allowed()); diff != "" {
		t.Error(diff)
	}
	w.view(func(tx *store.Tx) error {
		as, e1 := tx.ListAccounts("", store.Page{})
		ps, e2 := tx.ListPrincipals()
		if len(as)+len(ps) > 0 {
			t.Errorf("left: %+v %+v", as, ps)
		}
		return errors.Join(e1, e2)
	})
}

// hiding lists no principal for a while, as a listing that lags behind.
type hiding struct {
	control.Cloud
	until func() bool
}

func (h *hiding) Principals(ctx context.Context, svc postern.ServiceRef) ([]string, error) {
	ps, err := h.Cloud.Principals(ctx, svc)
	if h.until() {
		ps = nil
	}
	return ps, err
}

func TestAListingThatLagsLeavesNoPrincipalBehind(t *testing.T) {
	w := newWorld(t)
	w.settle(control.New(w.config()))
	end := w.clock().Add(grace / 2)
	c := w.config()
	c.Cloud = &hiding{Cloud: w.cloud, until: func() bool { return w.clock().Before(end) }}
	w.removeAccount()
	w.rest(control.New(c))
	if got := w.allowed(); len(got) > 0 {
		t.Errorf("the account is forgotten, and still allowed in %v", got)
	}
}

// hanging is a cloud in which one region does not answer at all.
type hanging struct {
	control.Cloud
	region string
}

func (h hanging) Connections(ctx context.Context, svc postern.ServiceRef) ([]postern.Connection, error) {
	if svc.Region == h.region {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.Cloud.Connections(ctx, svc)
}

func TestARegionThatHangsHoldsNobodyUp(t *testing.T) {
	w := newWorld(t)
	w.settle(control.New(w.config()))
	id := w.create()
	w.claim(id)
	c := w.config()
	c.Cloud, c.Listing = hanging{w.cloud, oregon}, 2*time.Second
	l := control.New(c)
	start := time.Now()
	if actions, err := l.Preview(t.Context()); err != nil || len(actions) != 1 {
		t.Errorf("the plan: %+v, %v", actions, err)
	}
	if _, err := l.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("a plan and a round took %s", took)
	}
	if !slices.Contains(w.actions(0), "connection.accepted") {
		t.Error("the claim in another region waits for the one that hangs")
	}
}
