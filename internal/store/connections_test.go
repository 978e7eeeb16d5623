package store_test

import (
	"crypto/sha256"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

func exampleConnection() postern.DataConnection {
	return postern.DataConnection{
		ID: "dc_a", Organization: "example-corp", Tenant: "example", Kind: postern.KindStarburstTrino, Region: "us-east-1",
		Zones:    []string{"use1-az1", "use1-az3"},
		Service:  postern.ServiceRef{Region: "us-east-1", ID: "vpce-svc-0471015b106ad1d47", Name: "com.amazonaws.vpce.us-east-1.vpce-svc-0471015b106ad1d47"},
		Hostname: "starburst.example.com", Ports: []uint16{443, 8443}, CreatedBy: "ada", CreatedAt: noon,
		ProvenAt: noon.Add(1), ServiceOwner: "111111111111", MadeSince: noon.Add(2 * time.Second), SecurityGroupID: "sg-1", EndpointID: "vpce-1",
		DNSNames: []string{"b", "a"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, MissingSince: noon.Add(3 * time.Second),
		ReadyAt: noon.Add(4 * time.Second), State: postern.DataConnectionReady, VerifyAsked: noon.Add(5 * time.Second), CheckedAt: noon.Add(6 * time.Second),
		Conditions: []postern.Condition{{Type: postern.Ready, Status: postern.True, Reason: postern.ReasonBytesPass, Message: "m", Since: noon}},
	}
}

// sameConnection compares what is stored to a microsecond.
var sameConnection = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateApproxTime(time.Microsecond), cmpopts.EquateEmpty()}

func createConnection(t *testing.T, s *store.Store, c postern.DataConnection) postern.DataConnection {
	t.Helper()
	update(t, s, func(tx *store.Tx) (err error) { c, err = tx.CreateConnection(c); return err })
	return c
}

func findConnection(t *testing.T, s *store.Store) (c postern.DataConnection) {
	t.Helper()
	view(t, s, func(tx *store.Tx) (err error) { c, err = tx.FindConnection("dc_a"); return err })
	return c
}

func TestConnectionsComeBackAsTheyWereWritten(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	want := exampleConnection()
	for i := range reflect.TypeOf(want).NumField() {
		f := reflect.TypeOf(want).Field(i)
		if f.Name != "Removing" && f.Name != "ResourceVersion" && reflect.ValueOf(want).Field(i).IsZero() {
			t.Errorf("the example leaves %s out: nobody sees whether it is stored", f.Name)
		}
	}
	want = createConnection(t, s, want)
	if diff := cmp.Diff(want, findConnection(t, s), sameConnection); diff != "" || want.ResourceVersion != 1 {
		t.Error(diff)
	}
	changed := want
	changed.Removing, changed.ProvenAt, changed.ServiceOwner, changed.MadeSince = true, noon.Add(time.Hour), "222222222222", noon.Add(2*time.Hour)
	changed.SecurityGroupID, changed.EndpointID, changed.DNSNames, changed.Addresses = "sg-2", "vpce-2", nil, nil
	changed.MissingSince, changed.ReadyAt, changed.State, changed.Conditions = time.Time{}, time.Time{}, postern.DataConnectionFailed, nil
	changed.VerifyAsked = noon.Add(3 * time.Hour)
	update(t, s, func(tx *store.Tx) (err error) { changed, err = tx.UpdateConnection(changed); return err })
	if diff := cmp.Diff(changed, findConnection(t, s), sameConnection); diff != "" || changed.ResourceVersion != 2 {
		t.Error(diff)
	}
	// That it was looked at is no change.
	update(t, s, func(tx *store.Tx) error { return tx.NoteConnectionChecked(changed, noon.Add(4*time.Hour)) })
	if got := findConnection(t, s); got.ResourceVersion != 2 || !got.CheckedAt.Equal(noon.Add(4*time.Hour)) {
		t.Errorf("version %d, checked at %s", got.ResourceVersion, got.CheckedAt)
	}
	// Who asked after it was read was not served, whenever that look began.
	update(t, s, func(tx *store.Tx) error { return tx.NoteConnectionChecked(want, noon.Add(5*time.Hour)) })
	if got := findConnection(t, s); !got.CheckedAt.Before(got.VerifyAsked) {
		t.Errorf("checked at %s, asked at %s", got.CheckedAt, got.VerifyAsked)
	}
	wantCode(t, s, postern.CodeConflict, func(tx *store.Tx) error { _, err := tx.UpdateConnection(want); return err })
	wantCode(t, s, postern.CodeConflict, func(tx *store.Tx) error { return tx.DeleteConnection(want, noon) })
	wantCode(t, s, postern.CodeNotFound, func(tx *store.Tx) error { _, err := tx.FindConnection("dc_x"); return err })
}

// A hostname is whose it was proven to be, at most once, however many ask for
// it; who has not proven it learns nothing from asking.
func TestAHostnameBelongsToWhoProvesIt(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	of := func(id, organization, tenant string) postern.DataConnection {
		c := exampleConnection()
		c.ID, c.Organization, c.Tenant, c.ProvenAt = id, organization, tenant, time.Time{}
		return c
	}
	first := createConnection(t, s, of("dc_a", "example-corp", "example"))
	second := createConnection(t, s, of("dc_b", "globex", "globex")) // nobody told globex
	for _, tenant := range []string{"example", "example-dev"} {
		err := s.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.CreateConnection(of("dc_c", "example-corp", tenant))
			return err
		})
		var e *postern.Error
		if !errors.As(err, &e) || e.Code != postern.CodeConflict || e.Reason != postern.ReasonHostnameTaken || !strings.Contains(e.Message, "dc_a") {
			t.Errorf("a second one of %s: %v", tenant, err)
		}
	}
	prove := func(c postern.DataConnection) error {
		c.ProvenAt = noon
		return s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.UpdateConnection(c); return err })
	}
	if err := prove(second); err != nil {
		t.Fatal(err)
	}
	var e *postern.Error
	if err := prove(first); !errors.As(err, &e) || e.Code != postern.CodeConflict || e.Reason != postern.ReasonHostnameTaken || strings.Contains(e.Error(), "dc_b") {
		t.Errorf("proven by two: %v", err)
	}
	view(t, s, func(tx *store.Tx) error {
		c, err := tx.FindProvenConnection("starburst.example.com")
		if c.ID != "dc_b" {
			t.Errorf("it is of %q", c.ID)
		}
		return err
	})
	update(t, s, func(tx *store.Tx) error {
		c, err := tx.FindConnection("dc_b")
		return errors.Join(err, tx.DeleteConnection(c, noon))
	})
	if err := prove(first); err != nil {
		t.Errorf("free again: %v", err)
	}
	wantCode(t, s, postern.CodeNotFound, func(tx *store.Tx) error { _, err := tx.FindProvenConnection("other.example.com"); return err })
}

func TestRemovedConnectionsAreRemembered(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	touched, untouched := exampleConnection(), exampleConnection()
	untouched.ID, untouched.Hostname, untouched.MadeSince = "dc_b", "other.example.com", time.Time{}
	for _, c := range []postern.DataConnection{touched, untouched} {
		c = createConnection(t, s, c)
		update(t, s, func(tx *store.Tx) error { return tx.DeleteConnection(c, noon) })
	}
	view(t, s, func(tx *store.Tx) error {
		got, err := tx.ListRemovedConnections()
		if diff := cmp.Diff([]postern.RemovedConnection{{ID: "dc_a", Region: "us-east-1", RemovedAt: noon}}, got); diff != "" {
			t.Error(diff)
		}
		return err
	})
}

func TestConnectionsFilterAndPage(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	for i, c := range []struct {
		organization, tenant, hostname string
		state                          postern.DataConnectionState
	}{
		{"example-corp", "example", "a.example.com", postern.DataConnectionReady},
		{"example-corp", "example-dev", "b.example.com", postern.DataConnectionRequested},
		{"globex", "globex", "a.example.com", postern.DataConnectionReady},
	} {
		v := exampleConnection()
		v.ID, v.ProvenAt = "dc_"+string(rune('a'+i)), time.Time{}
		v.Organization, v.Tenant, v.Hostname, v.State = c.organization, c.tenant, c.hostname, c.state
		createConnection(t, s, v)
	}
	for _, c := range []struct {
		filter store.ConnectionFilter
		page   store.Page
		want   string
	}{
		{store.ConnectionFilter{}, store.Page{}, "abc"},
		{store.ConnectionFilter{}, store.Page{Limit: 2}, "ab"},
		{store.ConnectionFilter{}, store.Page{After: "dc_a"}, "bc"},
		{store.ConnectionFilter{Organization: "example-corp"}, store.Page{}, "ab"},
		{store.ConnectionFilter{Tenant: "globex"}, store.Page{}, "c"},
		{store.ConnectionFilter{Hostname: "a.example.com"}, store.Page{}, "ac"},
		{store.ConnectionFilter{State: postern.DataConnectionRequested}, store.Page{}, "b"},
		{store.ConnectionFilter{Organization: "globex", State: postern.DataConnectionRequested}, store.Page{}, ""},
	} {
		var got string
		view(t, s, func(tx *store.Tx) error {
			cs, err := tx.ListConnections(c.filter, c.page)
			for _, v := range cs {
				got += strings.TrimPrefix(v.ID, "dc_")
			}
			return err
		})
		if got != c.want {
			t.Errorf("%+v: got %q, want %q", c, got, c.want)
		}
	}
}

func TestATenantOutlivesItsConnections(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	c := createConnection(t, s, exampleConnection())
	hash := sha256.Sum256([]byte("w"))
	update(t, s, func(tx *store.Tx) error {
		_, err := tx.CreateToken(postern.Token{ID: "tok_w", Name: "w", Role: postern.RoleWorkload, Organization: "example-corp", Tenant: "example", ExpiresAt: noon.Add(time.Hour)}, hash[:])
		return err
	})
	remove := func(tx *store.Tx) error {
		v, err := tx.FindTenant("example")
		return errors.Join(err, tx.DeleteTenant(v))
	}
	wantCode(t, s, postern.CodeConflict, remove)
	update(t, s, func(tx *store.Tx) error { return tx.DeleteConnection(c, noon) })
	update(t, s, remove)
	view(t, s, func(tx *store.Tx) error {
		left, err := tx.ListWorkloads()
		if len(left) > 0 {
			t.Errorf("a deleted tenant has workloads: %v", left)
		}
		return err
	})
}

func TestWorkloadsAreListedByTheirHash(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	end := noon.Add(time.Hour)
	update(t, s, func(tx *store.Tx) error {
		var errs []error
		for _, v := range []postern.Token{
			{ID: "tok_1", Name: "one", Role: postern.RoleWorkload, Organization: "example-corp", Tenant: "example", ExpiresAt: end},
			{ID: "tok_2", Name: "two", Role: postern.RoleWorkload, Organization: "globex", Tenant: "globex", ExpiresAt: end.Add(time.Hour)},
			{ID: "tok_3", Name: "revoked", Role: postern.RoleWorkload, Organization: "globex", Tenant: "globex", ExpiresAt: end},
			{ID: "tok_4", Name: "person", Role: postern.RoleOrgAdmin, Organization: "globex"},
		} {
			hash := sha256.Sum256([]byte(v.Name))
			_, err := tx.CreateToken(v, hash[:])
			errs = append(errs, err)
		}
		return errors.Join(append(errs, tx.RevokeToken("tok_3", noon))...)
	})
	view(t, s, func(tx *store.Tx) error {
		one := postern.Workload{Tenant: "example", Organization: "example-corp", ExpiresAt: end}
		two := postern.Workload{Tenant: "globex", Organization: "globex", ExpiresAt: end.Add(time.Hour)}
		now, e1 := tx.ListWorkloads()
		if diff := cmp.Diff(map[string]postern.Workload{postern.WorkloadKey([]byte("one")): one, postern.WorkloadKey([]byte("two")): two}, now); diff != "" {
			t.Error(diff)
		}
		all, e3 := tx.ListWorkloadTokens("", "", store.Page{})
		own, e4 := tx.ListWorkloadTokens("globex", "", store.Page{})
		of, e5 := tx.ListWorkloadTokens("", "example", store.Page{})
		if len(all) != 2 || len(own) != 1 || own[0].Tenant != "globex" || len(of) != 1 || of[0].ID != "tok_1" {
			t.Errorf("%v, %v, %v", all, own, of)
		}
		return errors.Join(e1, e3, e4, e5)
	})
	update(t, s, func(tx *store.Tx) error { return tx.DropWorkloadTokens(end.Add(time.Minute)) })
	view(t, s, func(tx *store.Tx) error {
		left, e1 := tx.ListWorkloads()
		tokens, e2 := tx.ListTokens(store.Page{})
		if _, ok := left[postern.WorkloadKey([]byte("two"))]; !ok || len(left) != 1 || len(tokens) != 2 {
			t.Errorf("left are %v of %v", left, tokens)
		}
		return errors.Join(e1, e2)
	})
}
