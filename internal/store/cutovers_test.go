package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

func exampleCutover(id string) postern.Cutover {
	return postern.Cutover{
		ID: id, Tenant: "example", Organization: "example-corp", Phase: postern.CutoverRehearsing, StartedBy: "ada", StartedAt: noon,
	}
}

func createCutover(t *testing.T, s *store.Store, c postern.Cutover) (made postern.Cutover) {
	t.Helper()
	update(t, s, func(tx *store.Tx) (err error) { made, err = tx.CreateCutover(c); return err })
	return made
}

func findCutover(t *testing.T, s *store.Store, id string) (c postern.Cutover) {
	t.Helper()
	view(t, s, func(tx *store.Tx) (err error) { c, err = tx.FindCutover(id); return err })
	return c
}

func TestCutoversComeBackAsTheyWereWritten(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	made := createCutover(t, s, exampleCutover("cut_1"))
	want := exampleCutover("cut_1")
	want.Acknowledged, want.Conditions, want.ResourceVersion = []string{}, []postern.Condition{}, 1
	if diff := cmp.Diff(want, findCutover(t, s, "cut_1")); diff != "" {
		t.Error(diff)
	}
	at := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }
	want.Phase, want.Acknowledged = postern.CutoverComplete, []string{postern.BlockerIntegrations, postern.BlockerPublicClients}
	want.Conditions = []postern.Condition{{Type: postern.DNSPublished, Status: postern.True, Reason: postern.ReasonPublished, Message: "m", Since: at(1)}}
	want.PublishedAt, want.EnforcedAt, want.DrainUntil, want.EnforceRevision = at(2), at(3), at(4), 77
	want.WithdrawnAt, want.EndedAt, want.EndedBy, want.EndedWhy = at(5), at(6), "loop", "why"
	want.FallbackAt, want.RedirectedAt, want.FailingSince, want.RestoredAt, want.SettledAt = at(7), at(8), at(10), at(11), at(12)
	written := want
	written.ResourceVersion = made.ResourceVersion
	// What a cutover is of does not change.
	written.Tenant, written.Organization, written.StartedBy, written.StartedAt = "globex", "globex", "eve", at(9)
	update(t, s, func(tx *store.Tx) error {
		got, err := tx.UpdateCutover(written)
		if got.ResourceVersion != 2 {
			t.Errorf("version %d", got.ResourceVersion)
		}
		return err
	})
	want.ResourceVersion = 2
	if diff := cmp.Diff(want, findCutover(t, s, "cut_1")); diff != "" {
		t.Error(diff)
	}
	wantCode(t, s, postern.CodeConflict, func(tx *store.Tx) error { _, err := tx.UpdateCutover(written); return err })
	wantCode(t, s, postern.CodeNotFound, func(tx *store.Tx) error { _, err := tx.FindCutover("cut_2"); return err })
	wantCode(t, s, postern.CodeNotFound, func(tx *store.Tx) error { _, err := tx.FindCurrentCutover("globex"); return err })
}

// A tenant has one cutover that counts, in whatever phase; those that were
// rolled back do not stand in the way of the next.
func TestATenantHasOneCurrentCutover(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	c := createCutover(t, s, exampleCutover("cut_1"))
	for _, p := range postern.CutoverPhases() {
		update(t, s, func(tx *store.Tx) (err error) {
			c.Phase = p
			c, err = tx.UpdateCutover(c)
			return err
		})
		if p == postern.CutoverRolledBack {
			wantCode(t, s, postern.CodeNotFound, func(tx *store.Tx) error { _, err := tx.FindCurrentCutover("example"); return err })
			continue
		}
		wantCode(t, s, postern.CodeConflict, func(tx *store.Tx) error { _, err := tx.CreateCutover(exampleCutover("cut_2")); return err })
	}
	listed := func() (ids []string) {
		view(t, s, func(tx *store.Tx) error {
			cs, err := tx.ListCurrentCutovers()
			for _, c := range cs {
				ids = append(ids, c.ID)
			}
			return err
		})
		return ids
	}
	if got := listed(); !slices.Equal(got, []string{"cut_1"}) {
		t.Errorf("rolled back and not settled: %v", got)
	}
	createCutover(t, s, exampleCutover("cut_2"))
	if got := listed(); !slices.Equal(got, []string{"cut_2"}) {
		t.Errorf("the next one leaves %v", got)
	}
	c = findCutover(t, s, "cut_1")
	dev := exampleCutover("cut_3")
	dev.Tenant = "example-dev"
	createCutover(t, s, dev)
	globex := exampleCutover("cut_4")
	globex.Tenant, globex.Organization = "globex", "globex"
	createCutover(t, s, globex)
	// The one that was rolled back may not come back beside it.
	wantRefused := c
	wantRefused.Phase = postern.CutoverRehearsing
	if err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.UpdateCutover(wantRefused); return err }); err == nil {
		t.Error("a tenant has two current cutovers")
	}
	for what, tc := range map[string]struct {
		list func(*store.Tx) ([]postern.Cutover, error)
		want []string
	}{
		"current":         {func(tx *store.Tx) ([]postern.Cutover, error) { return tx.ListCurrentCutovers() }, []string{"cut_2", "cut_3", "cut_4"}},
		"all":             {func(tx *store.Tx) ([]postern.Cutover, error) { return tx.ListCutovers("", "", store.Page{}) }, []string{"cut_1", "cut_2", "cut_3", "cut_4"}},
		"an organization": {func(tx *store.Tx) ([]postern.Cutover, error) { return tx.ListCutovers("globex", "", store.Page{}) }, []string{"cut_4"}},
		"a tenant":        {func(tx *store.Tx) ([]postern.Cutover, error) { return tx.ListCutovers("", "example", store.Page{}) }, []string{"cut_1", "cut_2"}},
		"another's tenant": {
			func(tx *store.Tx) ([]postern.Cutover, error) {
				return tx.ListCutovers("globex", "example", store.Page{})
			}, nil,
		},
		"a page": {
			func(tx *store.Tx) ([]postern.Cutover, error) {
				return tx.ListCutovers("", "", store.Page{After: "cut_1", Limit: 2})
			}, []string{"cut_2", "cut_3"},
		},
	} {
		view(t, s, func(tx *store.Tx) error {
			cs, err := tc.list(tx)
			var ids []string
			for _, c := range cs {
				ids = append(ids, c.ID)
			}
			if diff := cmp.Diff(tc.want, ids); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
			return err
		})
	}
}

// The next tenant of a name is not private because the one before was, and its
// probes prove nothing.
func TestADeletedTenantTakesItsCutoversAlong(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	createCutover(t, s, exampleCutover("cut_1"))
	update(t, s, func(tx *store.Tx) error {
		return tx.CreateProbe(postern.Probe{Nonce: "n", Tenant: "example", CreatedAt: noon})
	})
	update(t, s, func(tx *store.Tx) error {
		v, err := tx.FindTenant("example")
		if err != nil {
			return err
		}
		return tx.DeleteTenant(v)
	})
	update(t, s, func(tx *store.Tx) error {
		_, err := tx.CreateTenant(postern.Tenant{Name: "example", Organization: "globex", Region: "us-east-1", CreatedAt: noon})
		return err
	})
	view(t, s, func(tx *store.Tx) error {
		cs, e1 := tx.ListCutovers("", "", store.Page{})
		ps, e2 := tx.ListProbes("example")
		if len(cs)+len(ps) > 0 || e1 != nil || e2 != nil {
			t.Errorf("%v, %v, %v, %v", cs, ps, e1, e2)
		}
		return nil
	})
}

// Conditions change often and wake nobody; what a person must hear of has an
// event.
func TestCutoversWakeOnlyWithEvents(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	c := createCutover(t, s, exampleCutover("cut_1"))
	wake, cancel := s.Subscribe()
	defer cancel()
	woken := func() bool {
		select {
		case <-wake:
			return true
		default:
			return false
		}
	}
	step := func(event bool) {
		update(t, s, func(tx *store.Tx) (err error) {
			c.EndedWhy += "x"
			if c, err = tx.UpdateCutover(c); err != nil || !event {
				return err
			}
			return tx.AppendEvent(postern.Event{At: noon, Action: "cutover.enforcing"})
		})
	}
	if step(false); woken() {
		t.Error("woken without an event")
	}
	if step(true); !woken() {
		t.Error("not woken by an event")
	}
}

func TestZonesNeverRegress(t *testing.T) {
	s := open(t)
	zones := func() (z postern.Zones) {
		view(t, s, func(tx *store.Tx) (err error) { z, err = tx.FindZones(); return err })
		return z
	}
	if z := zones(); z.Revision != 0 {
		t.Errorf("an empty database has %+v", z)
	}
	want := postern.Zones{Revision: 5, Zones: map[string]postern.Zone{"hosted.example.com": {Records: map[string][]postern.Record{
		"example.hosted.example.com": {{Type: "A", TTL: 60, Value: "192.0.2.1"}},
	}}}}
	update(t, s, func(tx *store.Tx) error { return tx.SaveZones(want) })
	for _, revision := range []int64{5, 4} {
		wantCode(t, s, postern.CodeConflict, func(tx *store.Tx) error { return tx.SaveZones(postern.Zones{Revision: revision}) })
	}
	if diff := cmp.Diff(want, zones()); diff != "" {
		t.Error(diff)
	}
}

func TestArrivalsOfOneHost(t *testing.T) {
	s := open(t)
	row := func(host, source string, last time.Time) postern.ArrivalCount {
		return postern.ArrivalCount{Region: "us-east-1", Listener: "public", ServerName: host, Source: source, Count: 1, FirstSeen: noon, LastSeen: last}
	}
	update(t, s, func(tx *store.Tx) error {
		return tx.AddArrivals([]postern.ArrivalCount{row("a", "2", noon), row("a", "1", noon.Add(time.Second)), row("b", "3", noon), row("a", "4", noon.Add(-1))})
	})
	view(t, s, func(tx *store.Tx) error {
		as, err := tx.ListArrivals("a", noon)
		if diff := cmp.Diff([]postern.ArrivalCount{row("a", "1", noon.Add(time.Second)), row("a", "2", noon)}, as); diff != "" {
			t.Error(diff)
		}
		return err
	})
}

// A probe proves the path only of its own tenant, and only through an endpoint
// of the tenant's own organization.
func TestProbes(t *testing.T) {
	endpoint := func(id, organization string) postern.Endpoint {
		return postern.Endpoint{ID: id, Organization: organization, ServiceRegion: "us-east-1", State: postern.EndpointReady, CreatedAt: noon}
	}
	const own, foreign, unclaimed = "vpce-0000000000000000a", "vpce-0000000000000000b", "vpce-0000000000000000c"
	good := postern.ArrivalCount{
		Region: "us-east-1", Listener: "private", EndpointID: own, ServerName: "nonce.probe.example.privatelink.example.com",
		Denial: postern.DenyUnknownHost, Organization: "example-corp", Count: 1, FirstSeen: noon, LastSeen: noon.Add(time.Minute),
	}
	for _, tc := range []struct {
		name   string
		change func(*postern.ArrivalCount)
		proven bool
	}{
		{"through its own endpoint", func(*postern.ArrivalCount) {}, true},
		{"through another organization's", func(a *postern.ArrivalCount) { a.EndpointID = foreign }, false},
		{"through one that nobody claimed", func(a *postern.ArrivalCount) { a.EndpointID = unclaimed }, false},
		{"through none", func(a *postern.ArrivalCount) { a.EndpointID, a.Listener, a.Source = "", "public", "198.51.100.7" }, false},
		{"by the public listener", func(a *postern.ArrivalCount) { a.Listener = "public" }, false},
		{"with another nonce", func(a *postern.ArrivalCount) { a.ServerName = "other.probe.example.privatelink.example.com" }, false},
		{"with another tenant's name", func(a *postern.ArrivalCount) { a.ServerName = "nonce.probe.example-dev.privatelink.example.com" }, false},
		{"with no probe's name", func(a *postern.ArrivalCount) { a.ServerName = "nonce.example.privatelink.example.com" }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := open(t)
			twoCustomers(t, s)
			update(t, s, func(tx *store.Tx) error {
				for _, e := range []postern.Endpoint{endpoint(own, "example-corp"), endpoint(foreign, "globex")} {
					if _, err := tx.CreateEndpoint(e); err != nil {
						return err
					}
				}
				return tx.CreateProbe(postern.Probe{Nonce: "nonce", Tenant: "example", CreatedAt: noon})
			})
			wake, cancel := s.Subscribe()
			defer cancel()
			a := good
			tc.change(&a)
			// A node that reports twice proves once.
			for range 2 {
				update(t, s, func(tx *store.Tx) error { return tx.AddArrivals([]postern.ArrivalCount{a}) })
				a.LastSeen = a.LastSeen.Add(time.Hour)
			}
			want := postern.Probe{Nonce: "nonce", Tenant: "example", CreatedAt: noon}
			var events int
			if tc.proven {
				want.EndpointID, want.SeenAt = own, noon.Add(time.Minute)
				events = 1
			}
			view(t, s, func(tx *store.Tx) error {
				ps, e1 := tx.ListProbes("example")
				if diff := cmp.Diff([]postern.Probe{want}, ps); diff != "" || e1 != nil {
					t.Errorf("%s %v", diff, e1)
				}
				es, err := tx.ListEvents("example-corp", 0, 10)
				if len(es) != events || events > 0 && (es[0].Action != "tenant.probe" || es[0].Subject != "example") {
					t.Errorf("events %+v", es)
				}
				return err
			})
			select {
			case <-wake:
				if !tc.proven {
					t.Error("woken by nothing")
				}
			default:
				if tc.proven {
					t.Error("not woken")
				}
			}
		})
	}
}

// Probes that nobody sent are dropped after a day; what was proven stays.
func TestProbesAreBounded(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	const own = "vpce-0000000000000000a"
	create := func(nonce string, at time.Time) {
		update(t, s, func(tx *store.Tx) error {
			return tx.CreateProbe(postern.Probe{Nonce: nonce, Tenant: "example", CreatedAt: at})
		})
	}
	create("seen", noon)
	create("forgotten", noon)
	create("young", noon.Add(time.Hour))
	update(t, s, func(tx *store.Tx) error {
		if _, err := tx.CreateEndpoint(postern.Endpoint{ID: own, Organization: "example-corp", ServiceRegion: "us-east-1", CreatedAt: noon}); err != nil {
			return err
		}
		return tx.AddArrivals([]postern.ArrivalCount{{
			Region: "us-east-1", Listener: "private", EndpointID: own, ServerName: "seen.probe.example.x", Count: 1, FirstSeen: noon, LastSeen: noon,
		}})
	})
	create("new", noon.Add(24*time.Hour+time.Second))
	view(t, s, func(tx *store.Tx) error {
		ps, err := tx.ListProbes("example")
		var nonces []string
		for _, p := range ps {
			nonces = append(nonces, p.Nonce)
		}
		if diff := cmp.Diff([]string{"new", "young", "seen"}, nonces); diff != "" {
			t.Error(diff)
		}
		return err
	})
}

func TestIsolation(t *testing.T) {
	s := open(t)
	rows := []postern.Isolation{
		{Node: "n1", Address: "10.0.0.1:443", Isolated: true, Detail: "answers 421", At: noon},
		{Node: "n2", Address: "10.0.0.1:443", Detail: "answers 200", At: noon},
		{Node: "n1", Address: "10.0.0.2:443", Detail: "does not answer", At: noon},
	}
	save := func(i postern.Isolation) { update(t, s, func(tx *store.Tx) error { return tx.SaveIsolation(i) }) }
	for _, i := range []int{2, 1, 0} {
		save(rows[i])
	}
	rows[1] = postern.Isolation{Node: "n2", Address: "10.0.0.1:443", Isolated: true, Detail: "answers 421", At: noon.Add(time.Minute)}
	save(rows[1])
	view(t, s, func(tx *store.Tx) error {
		got, err := tx.ListIsolation()
		if diff := cmp.Diff(rows, got); diff != "" {
			t.Error(diff)
		}
		return err
	})
}
