package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

func exampleEndpoint() postern.Endpoint {
	return postern.Endpoint{
		ID: "vpce-0000000000000000a", Organization: "example-corp", Tenants: []string{"example", "example-dev"},
		Approval:      postern.Approval{By: "policy", At: noon},
		ServiceRegion: "us-east-1", EndpointRegion: "us-west-2", Owner: "111111111111", DNSNames: []string{"b", "a"},
		State: postern.EndpointReady, MissingSince: noon.Add(time.Minute), CreatedAt: noon,
		Conditions: []postern.Condition{{Type: postern.Ready, Status: postern.True, Reason: postern.ReasonBytesPass, Message: "m", Since: noon}},
	}
}

// dump renders everything that can be listed.
func dump(t *testing.T, s *store.Store) string {
	t.Helper()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	view(t, s, func(tx *store.Tx) error {
		organizations, e1 := tx.ListOrganizations("", store.Page{})
		tenants, e2 := tx.ListTenants("", store.Page{})
		accounts, e3 := tx.ListAccounts("", store.Page{})
		endpoints, e4 := tx.ListEndpoints("", "", store.Page{})
		tokens, e5 := tx.ListTokens(store.Page{})
		events, e6 := tx.ListEvents("", 0, 1000)
		routes, e7 := tx.FindRoutes()
		return errors.Join(e1, e2, e3, e4, e5, e6, e7, enc.Encode([]any{organizations, tenants, accounts, endpoints, tokens, events, routes}))
	})
	return b.String()
}

func TestObjectsComeBackAsTheyWereWritten(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	e := exampleEndpoint()
	update(t, s, func(tx *store.Tx) error { _, err := tx.CreateEndpoint(e); return err })
	view(t, s, func(tx *store.Tx) error {
		o, e1 := tx.FindOrganization("example-corp")
		v, e2 := tx.FindTenant("example")
		a, e3 := tx.FindAccount("111111111111")
		got, e4 := tx.FindEndpoint(e.ID)
		e.ResourceVersion = 1
		for _, diff := range []string{
			cmp.Diff(postern.Organization{ID: "example-corp", Title: "T example-corp", ResourceVersion: 1, CreatedAt: noon}, o),
			cmp.Diff(postern.Tenant{Name: "example", Organization: "example-corp", Region: "us-east-1", ResourceVersion: 1, CreatedAt: noon}, v),
			cmp.Diff(postern.Account{
				ID: "111111111111", Organization: "example-corp", PrincipalARN: "arn:aws:iam::111111111111:user/a",
				State: postern.AccountActive, ProvenAt: noon, ResourceVersion: 1,
			}, a),
			cmp.Diff(e, got),
		} {
			if diff != "" {
				t.Error(diff)
			}
		}
		return errors.Join(e1, e2, e3, e4)
	})
}

func TestAbsentObjectsAreNotFound(t *testing.T) {
	s := open(t)
	for kind, find := range map[string]func(*store.Tx) error{
		"organization": func(tx *store.Tx) error { _, err := tx.FindOrganization("x"); return err },
		"tenant":       func(tx *store.Tx) error { _, err := tx.FindTenant("x"); return err },
		"account":      func(tx *store.Tx) error { _, err := tx.FindAccount("x"); return err },
		"endpoint":     func(tx *store.Tx) error { _, err := tx.FindEndpoint("x"); return err },
		"token":        func(tx *store.Tx) error { _, err := tx.FindToken("x"); return err },
		"revoke":       func(tx *store.Tx) error { return tx.RevokeToken("x", noon) },
	} {
		t.Run(kind, func(t *testing.T) { wantCode(t, s, postern.CodeNotFound, find) })
	}
}

func TestTakenKeysAreConflicts(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	update(t, s, func(tx *store.Tx) error { _, err := tx.CreateEndpoint(exampleEndpoint()); return err })
	for kind, create := range map[string]func(*store.Tx) error{
		"organization": func(tx *store.Tx) error {
			_, err := tx.CreateOrganization(postern.Organization{ID: "globex"})
			return err
		},
		"tenant": func(tx *store.Tx) error {
			_, err := tx.CreateTenant(postern.Tenant{Name: "example", Organization: "globex", Region: "us-east-1"})
			return err
		},
		"endpoint": func(tx *store.Tx) error {
			e := exampleEndpoint()
			e.Organization, e.Tenants = "globex", nil
			_, err := tx.CreateEndpoint(e)
			return err
		},
		"another's account": func(tx *store.Tx) error {
			_, err := tx.ProveAccount(postern.Account{ID: "111111111111", Organization: "globex", ProvenAt: noon})
			return err
		},
		"another's tenant": func(tx *store.Tx) error {
			e := exampleEndpoint()
			e.ID, e.Tenants = "vpce-0000000000000000b", []string{"globex"}
			_, err := tx.CreateEndpoint(e)
			return err
		},
		"a tenant that is gone": func(tx *store.Tx) error {
			e := exampleEndpoint()
			e.ID, e.Tenants = "vpce-0000000000000000b", []string{"gone"}
			_, err := tx.CreateEndpoint(e)
			return err
		},
	} {
		before := dump(t, s)
		t.Run(kind, func(t *testing.T) { wantCode(t, s, postern.CodeConflict, create) })
		if after := dump(t, s); after != before {
			t.Errorf("%s: the refused write changed\n%s\nto\n%s", kind, before, after)
		}
	}
}

func TestStaleVersionsAreConflicts(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	update(t, s, func(tx *store.Tx) error {
		e, err := tx.CreateEndpoint(exampleEndpoint())
		if err != nil {
			return err
		}
		e.State = postern.EndpointPending
		if e, err = tx.UpdateEndpoint(e); err != nil {
			return err
		}
		if e.ResourceVersion != 2 {
			t.Errorf("an update makes version %d of 1", e.ResourceVersion)
		}
		return err
	})
	stale := exampleEndpoint()
	stale.ResourceVersion = 1
	for what, write := range map[string]func(*store.Tx) error{
		"update":  func(tx *store.Tx) error { _, err := tx.UpdateEndpoint(stale); return err },
		"delete":  func(tx *store.Tx) error { return tx.DeleteEndpoint(stale) },
		"tenants": func(tx *store.Tx) error { _, err := tx.SetEndpointTenants(stale, nil); return err },
		"account": func(tx *store.Tx) error {
			_, err := tx.UpdateAccount(postern.Account{ID: "111111111111", ResourceVersion: 9})
			return err
		},
		"delete account": func(tx *store.Tx) error {
			return tx.DeleteAccount(postern.Account{ID: "111111111111", ResourceVersion: 9})
		},
		"delete tenant":   func(tx *store.Tx) error { return tx.DeleteTenant(postern.Tenant{Name: "globex", ResourceVersion: 9}) },
		"absent endpoint": func(tx *store.Tx) error { return tx.DeleteEndpoint(postern.Endpoint{ID: "x", ResourceVersion: 1}) },
	} {
		before := dump(t, s)
		t.Run(what, func(t *testing.T) { wantCode(t, s, postern.CodeConflict, write) })
		if after := dump(t, s); after != before {
			t.Errorf("%s: the refused write changed\n%s\nto\n%s", what, before, after)
		}
	}
}

func TestAccountsAreProvenByOneOrganizationAtATime(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	again := postern.Account{ID: "111111111111", Organization: "example-corp", PrincipalARN: "arn:aws:iam::111111111111:role/b", ProvenAt: noon.Add(time.Hour)}
	update(t, s, func(tx *store.Tx) error {
		a, err := tx.ProveAccount(again)
		if a.ResourceVersion != 2 || a.PrincipalARN != again.PrincipalARN || !a.ProvenAt.Equal(again.ProvenAt) {
			t.Errorf("proven once more: %+v", a)
		}
		a.State = postern.AccountRemoving
		_, err2 := tx.UpdateAccount(a)
		return errors.Join(err, err2)
	})
	wantCode(t, s, postern.CodeConflict, func(tx *store.Tx) error { _, err := tx.ProveAccount(again); return err })
	update(t, s, func(tx *store.Tx) error {
		a, err := tx.FindAccount(again.ID)
		return errors.Join(err, tx.DeleteAccount(a))
	})
	update(t, s, func(tx *store.Tx) error {
		again.Organization = "globex"
		_, err := tx.ProveAccount(again)
		return err
	})
}

func TestOrganizationsGoLast(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	remove := func(tx *store.Tx) error {
		o, err := tx.FindOrganization("globex")
		return errors.Join(err, tx.DeleteOrganization(o))
	}
	wantCode(t, s, postern.CodeConflict, remove)
	update(t, s, func(tx *store.Tx) error {
		v, err := tx.FindTenant("globex")
		return errors.Join(err, tx.DeleteTenant(v))
	})
	wantCode(t, s, postern.CodeConflict, remove) // its account is left
	update(t, s, func(tx *store.Tx) error {
		a, err := tx.FindAccount("222222222222")
		made, err2 := tx.CreateToken(postern.Token{ID: "tok_g", Name: "g", Role: postern.RoleOrgAdmin, Organization: "globex"}, []byte("g"))
		if !made {
			t.Error("no token")
		}
		return errors.Join(err, err2, tx.DeleteAccount(a), tx.CreateChallenge(postern.Challenge{Nonce: "n", Organization: "globex", ExpiresAt: noon}, noon))
	})
	update(t, s, remove)
	wantCode(t, s, postern.CodeNotFound, func(tx *store.Tx) error { _, err := tx.FindTokenByHash([]byte("g"), noon); return err })
	wantCode(t, s, postern.CodeInvalid, func(tx *store.Tx) error { _, err := tx.TakeChallenge("n", "globex", noon); return err })
}

func TestTenantsThatAClaimNamesStay(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	remove := func(tx *store.Tx) error {
		v, err := tx.FindTenant("example")
		return errors.Join(err, tx.DeleteTenant(v))
	}
	update(t, s, func(tx *store.Tx) error { _, err := tx.CreateEndpoint(exampleEndpoint()); return err })
	wantCode(t, s, postern.CodeConflict, remove)
	update(t, s, func(tx *store.Tx) error {
		e, err := tx.FindEndpoint(exampleEndpoint().ID)
		if err != nil {
			return err
		}
		e, err = tx.SetEndpointTenants(e, []string{"example-dev"})
		if diff := cmp.Diff([]string{"example-dev"}, e.Tenants); diff != "" || e.ResourceVersion != 2 {
			t.Errorf("version %d, tenants %s", e.ResourceVersion, diff)
		}
		return err
	})
	update(t, s, remove)
	update(t, s, func(tx *store.Tx) error { // the names go with the endpoint
		e, err := tx.FindEndpoint(exampleEndpoint().ID)
		v, err2 := tx.FindTenant("example-dev")
		return errors.Join(err, err2, tx.DeleteEndpoint(e), tx.DeleteTenant(v))
	})
}

func TestListsFilterAndPage(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	update(t, s, func(tx *store.Tx) error {
		for i := range 5 {
			e := postern.Endpoint{
				ID: fmt.Sprintf("vpce-%017x", i), Organization: []string{"example-corp", "globex"}[i%2],
				State: []postern.EndpointState{postern.EndpointReady, postern.EndpointPending}[i/3], CreatedAt: noon,
			}
			if _, err := tx.CreateEndpoint(e); err != nil {
				return err
			}
		}
		return nil
	})
	ids := func(organization string, state postern.EndpointState, p store.Page) string {
		var out []string
		view(t, s, func(tx *store.Tx) error {
			es, err := tx.ListEndpoints(organization, state, p)
			for _, e := range es {
				out = append(out, e.ID[len(e.ID)-1:])
			}
			return err
		})
		return strings.Join(out, "")
	}
	for _, c := range []struct {
		organization string
		state        postern.EndpointState
		page         store.Page
		want         string
	}{
		{"", "", store.Page{}, "01234"},
		{"", "", store.Page{Limit: 2}, "01"},
		{"", "", store.Page{Limit: 2, After: "vpce-00000000000000001"}, "23"},
		{"", "", store.Page{After: "vpce-00000000000000004"}, ""},
		{"globex", "", store.Page{}, "13"},
		{"", postern.EndpointPending, store.Page{}, "34"},
		{"example-corp", postern.EndpointPending, store.Page{}, "4"},
		{"nobody", "", store.Page{}, ""},
	} {
		if got := ids(c.organization, c.state, c.page); got != c.want {
			t.Errorf("%+v: got %q, want %q", c, got, c.want)
		}
	}
	view(t, s, func(tx *store.Tx) error {
		all, e1 := tx.ListOrganizations("", store.Page{})
		one, e2 := tx.ListOrganizations("globex", store.Page{})
		tenants, e3 := tx.ListTenants("example-corp", store.Page{After: "example"})
		accounts, e4 := tx.ListAccounts("globex", store.Page{Limit: 1})
		if len(all) != 2 || len(one) != 1 || len(tenants) != 1 || tenants[0].Name != "example-dev" || len(accounts) != 1 || accounts[0].ID != "222222222222" {
			t.Errorf("got %v, %v, %v, %v", all, one, tenants, accounts)
		}
		return errors.Join(e1, e2, e3, e4)
	})
}

func TestChallengesAreSpentOnce(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	c := postern.Challenge{Nonce: "nonce", Organization: "example-corp", ExpiresAt: noon.Add(time.Minute)}
	update(t, s, func(tx *store.Tx) error { return tx.CreateChallenge(c, noon) })
	take := func(nonce, organization string, now time.Time) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			got, err := tx.TakeChallenge(nonce, organization, now)
			if err == nil && got.Binding("p") != c.Binding("p") {
				t.Errorf("took %+v", got)
			}
			return err
		}
	}
	wantCode(t, s, postern.CodeInvalid, take("nonce", "globex", noon))
	wantCode(t, s, postern.CodeInvalid, take("other", "example-corp", noon))
	wantCode(t, s, postern.CodeInvalid, take("nonce", "example-corp", noon.Add(2*time.Minute)))

	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if s.Update(t.Context(), take("nonce", "example-corp", noon)) == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 8 spent the same challenge", won.Load())
	}
	// A new challenge drops those that expired, and only those.
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(
			tx.CreateChallenge(postern.Challenge{Nonce: "old", Organization: "globex", ExpiresAt: noon.Add(-time.Minute)}, noon),
			tx.CreateChallenge(postern.Challenge{Nonce: "young", Organization: "globex", ExpiresAt: noon.Add(time.Minute)}, noon),
			tx.CreateChallenge(postern.Challenge{Nonce: "new", Organization: "globex", ExpiresAt: noon.Add(time.Minute)}, noon))
	})
	wantCode(t, s, postern.CodeInvalid, take("old", "globex", noon.Add(-2*time.Minute)))
	update(t, s, func(tx *store.Tx) error { _, err := tx.TakeChallenge("young", "globex", noon); return err })
}

func TestRoutesNeverRegress(t *testing.T) {
	s := open(t)
	view(t, s, func(tx *store.Tx) error {
		r, err := tx.FindRoutes()
		if r.Revision != 0 || len(r.Hosts) > 0 {
			t.Errorf("a new database has %+v", r)
		}
		return err
	})
	r := postern.Routes{
		Revision: 5, Hosts: map[string]postern.Host{"a": {Tenant: "a", Organization: "o", Public: true}},
		Endpoints: map[string]postern.EndpointGrant{"vpce-1": {Organization: "o", Region: "us-east-1", Hosts: []string{"a"}}},
	}
	update(t, s, func(tx *store.Tx) error { return tx.SaveRoutes(r) })
	for _, revision := range []int64{4, 5} {
		wantCode(t, s, postern.CodeConflict, func(tx *store.Tx) error { return tx.SaveRoutes(postern.Routes{Revision: revision}) })
	}
	view(t, s, func(tx *store.Tx) error {
		got, err := tx.FindRoutes()
		if diff := cmp.Diff(r, got, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
		return err
	})
	update(t, s, func(tx *store.Tx) error { return tx.SaveRoutes(postern.Routes{Revision: 6}) })
}
