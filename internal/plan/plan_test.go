package plan_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

// thePlatform has two segments: na with two regions, eu with one.
func thePlatform() *postern.Platform {
	region := func(id, last string) postern.Region {
		return postern.Region{
			ID: id, ServiceName: "com.amazonaws.vpce." + id + ".vpce-svc-0000000000000000" + last, AvailabilityZones: []string{"use1-az1"},
			Backends: map[string][]netip.AddrPort{"govern": {netip.MustParseAddrPort("10.0.0." + last + ":443")}},
		}
	}
	return &postern.Platform{
		Name: "example", Domains: postern.Domains{Hosted: "hosted.example.com", PrivateLink: "privatelink.example.com"},
		Segments: []postern.Segment{
			{ID: "na", Regions: []postern.Region{region("us-east-1", "1"), region("us-west-2", "2")}},
			{ID: "eu", Regions: []postern.Region{region("eu-west-1", "3")}},
		},
		Apps: []postern.App{{ID: "govern", Port: 443}, {ID: "request", Port: 443, Hosts: []string{"app.example.com"}}},
	}
}

func everywhere(principals ...string) map[string]plan.Service {
	out := map[string]plan.Service{}
	for _, r := range thePlatform().RegionIDs() {
		out[r] = plan.Service{Principals: principals}
	}
	return out
}

func principal(account string) string { return postern.AccountPrincipal("us-east-1", account) }

func account(id, organization string) postern.Account {
	return postern.Account{ID: id, Organization: organization, State: postern.AccountActive}
}

// recorded is that Postern put an account's principal on every list.
func recorded(accounts ...string) (out []postern.AddedPrincipal) {
	for _, s := range thePlatform().Segments {
		for _, r := range s.Regions {
			for _, a := range accounts {
				out = append(out, postern.AddedPrincipal{ServiceID: r.Service().ID, Principal: principal(a)})
			}
		}
	}
	return out
}

// absent is that they have been off the lists for some time.
func absent(d time.Duration, added []postern.AddedPrincipal) []postern.AddedPrincipal {
	for i := range added {
		added[i].AbsentSince = noon.Add(-d)
	}
	return added
}

// brief renders actions as "kind region target".
func brief(actions []plan.Action) []string {
	var out []string
	for _, a := range actions {
		out = append(out, string(a.Kind)+" "+a.Service.Region+" "+a.Target)
	}
	slices.Sort(out)
	return out
}

func TestPrincipals(t *testing.T) {
	const one, two = "111111111111", "222222222222"
	tenants := []postern.Tenant{{Name: "a", Organization: "a", Region: "us-west-2"}, {Name: "b", Organization: "b", Region: "eu-west-1"}}
	removing := account(one, "a")
	removing.State = postern.AccountRemoving
	held := postern.Endpoint{ID: "vpce-1", Organization: "a", Owner: one, ServiceRegion: "us-east-1", Removing: true}
	without := func(services map[string]plan.Service, region string) map[string]plan.Service {
		delete(services, region)
		return services
	}
	for _, c := range []struct {
		name     string
		desired  plan.Desired
		services map[string]plan.Service
		want     []string
		forget   bool
	}{
		{
			"allowed in every region of the tenants' segment",
			plan.Desired{Tenants: tenants, Accounts: []postern.Account{account(one, "a")}},
			everywhere(),
			[]string{"allow-principal us-east-1 " + principal(one), "allow-principal us-west-2 " + principal(one)},
			false,
		},
		{"nothing to do", plan.Desired{Tenants: tenants, Accounts: []postern.Account{account(two, "b")}}, map[string]plan.Service{
			"us-east-1": {}, "us-west-2": {}, "eu-west-1": {Principals: []string{principal(two)}},
		}, nil, false},
		{"strangers stay", plan.Desired{Tenants: tenants}, everywhere(principal(one), "*"), nil, false},
		{
			"an account without a tenant in the segment",
			plan.Desired{Tenants: tenants[1:], Accounts: []postern.Account{account(one, "a")}, Principals: recorded(one)},
			everywhere(principal(one)),
			[]string{"disallow-principal eu-west-1 " + principal(one), "disallow-principal us-east-1 " + principal(one), "disallow-principal us-west-2 " + principal(one)},
			false,
		},
		{
			"but not what was put there by hand",
			plan.Desired{Tenants: tenants[1:], Accounts: []postern.Account{account(one, "a")}, Principals: recorded(one)[1:2]},
			everywhere(principal(one)),
			[]string{"disallow-principal us-west-2 " + principal(one)},
			false,
		},
		{
			"a region that was not observed is left alone",
			plan.Desired{Tenants: tenants, Accounts: []postern.Account{account(one, "a")}},
			without(everywhere(), "us-east-1"),
			[]string{"allow-principal us-west-2 " + principal(one)},
			false,
		},
		{
			"removal waits for the endpoints",
			plan.Desired{Tenants: tenants, Accounts: []postern.Account{removing}, Endpoints: []postern.Endpoint{held}, Principals: recorded(one)},
			everywhere(principal(one)), nil, false,
		},
		{
			"then takes the principal off",
			plan.Desired{Tenants: tenants, Accounts: []postern.Account{removing}, Principals: recorded(one)},
			everywhere(principal(one)),
			[]string{"disallow-principal eu-west-1 " + principal(one), "disallow-principal us-east-1 " + principal(one), "disallow-principal us-west-2 " + principal(one)},
			false,
		},
		{
			"but leaves it where it was put by hand",
			plan.Desired{Tenants: tenants, Accounts: []postern.Account{removing}},
			everywhere(principal(one)), nil, true,
		},
		{
			"a listing without it may only lag",
			plan.Desired{Tenants: tenants, Accounts: []postern.Account{removing}, Principals: recorded(one)},
			everywhere(), nil, false,
		},
		{
			"and goes on to lag for the grace",
			plan.Desired{Tenants: tenants, Accounts: []postern.Account{removing}, Principals: absent(grace-1, recorded(one))},
			everywhere(), nil, false,
		},
		{
			"then the account is forgotten",
			plan.Desired{Tenants: tenants, Accounts: []postern.Account{removing}, Principals: absent(grace, recorded(one))},
			everywhere(), nil, true,
		},
		{
			"but not while a region is unknown",
			plan.Desired{Tenants: tenants, Accounts: []postern.Account{removing}, Principals: absent(grace, recorded(one))},
			without(everywhere(), "eu-west-1"), nil, false,
		},
		{
			"nor when it shows again",
			plan.Desired{Tenants: tenants, Accounts: []postern.Account{removing}, Principals: absent(grace, recorded(one))},
			everywhere(principal(one)),
			[]string{"disallow-principal eu-west-1 " + principal(one), "disallow-principal us-east-1 " + principal(one), "disallow-principal us-west-2 " + principal(one)},
			false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			round := plan.Decide(thePlatform(), c.desired, plan.Observed{Services: c.services}, plan.Rules{MissingGrace: grace}, noon)
			actions := slices.DeleteFunc(round.Actions, func(a plan.Action) bool { return a.Kind == plan.Reject })
			if diff := cmp.Diff(c.want, brief(actions)); diff != "" {
				t.Error(diff)
			}
			if (len(round.Forget) == 1) != c.forget {
				t.Errorf("forgets %v", round.Forget)
			}
		})
	}
}

func TestDecideLooksAgainSoonWhileSomethingIsOnItsWay(t *testing.T) {
	connected := func(s postern.ConnectionState) map[string]plan.Service {
		out := everywhere(principal("111111111111"))
		if s != "" {
			out["us-east-1"] = plan.Service{Principals: out["us-east-1"].Principals, Connections: []postern.Connection{{EndpointID: "vpce-1", Owner: "111111111111", State: s}}}
		}
		return out
	}
	e := postern.Endpoint{ID: "vpce-1", Organization: "a", Owner: "111111111111", ServiceRegion: "us-east-1", State: postern.EndpointReady}
	e.Approval = postern.Approval{By: "ada", At: noon}
	unapproved := e
	unapproved.Approval = postern.Approval{}
	for _, c := range []struct {
		name     string
		endpoint postern.Endpoint
		state    postern.ConnectionState
		want     bool
	}{
		{"carried", e, postern.ConnectionAvailable, false},
		{"accepted", e, postern.ConnectionPending, true},
		{"to be accepted", e, postern.ConnectionPendingAcceptance, true},
		{"waits for a person", unapproved, postern.ConnectionPendingAcceptance, false},
		{"rejected", e, postern.ConnectionRejected, false},
		{"not listed", e, "", true},
	} {
		d := plan.Desired{
			Tenants: []postern.Tenant{{Name: "a", Organization: "a", Region: "us-east-1"}}, Accounts: []postern.Account{account("111111111111", "a")},
			Endpoints: []postern.Endpoint{c.endpoint},
		}
		if got := plan.Decide(thePlatform(), d, plan.Observed{Services: connected(c.state)}, plan.Rules{MissingGrace: grace}, noon); got.Unsettled != c.want {
			t.Errorf("%s: unsettled %v, want %v", c.name, got.Unsettled, c.want)
		}
	}
}

func TestDecideLeavesRegionsAloneThatThePlatformGaveUp(t *testing.T) {
	e := postern.Endpoint{ID: "vpce-1", Organization: "a", ServiceRegion: "sa-east-1", State: postern.EndpointReady}
	decide := func() plan.Round {
		return plan.Decide(thePlatform(), plan.Desired{Endpoints: []postern.Endpoint{e}}, plan.Observed{Services: everywhere()}, plan.Rules{}, noon)
	}
	if round := decide(); len(round.Endpoints)+len(round.Actions) > 0 {
		t.Errorf("touches it: %+v", round)
	}
	e.Removing = true
	if round := decide(); len(round.Endpoints) != 1 || !round.Endpoints[0].Delete || len(round.Actions) > 0 {
		t.Errorf("a claim there cannot be taken back: %+v", round)
	}
}

func TestCompile(t *testing.T) {
	p := thePlatform()
	tenants := []postern.Tenant{
		{Name: "a1", Organization: "a", Region: "us-east-1"},
		{Name: "a2", Organization: "a", Region: "us-west-2"},
		{Name: "a3", Organization: "a", Region: "eu-west-1"},
		{Name: "b1", Organization: "b", Region: "us-east-1"},
		{Name: "lost", Organization: "a", Region: "sa-east-1"},
	}
	d := plan.Desired{Tenants: tenants, Accounts: []postern.Account{account("111111111111", "a"), account("222222222222", "b")}}
	got := plan.Compile(p, d)
	want := map[string]postern.Host{}
	for i, region := range []string{"1", "2", "3", "1"} {
		v := tenants[i]
		want[v.Name+".hosted.example.com"] = postern.Host{
			Tenant: v.Name, Organization: v.Organization, Public: true, Backends: []netip.AddrPort{netip.MustParseAddrPort("10.0.0." + region + ":443")},
		}
	}
	if diff := cmp.Diff(want, got.Hosts, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}

	connected := func(r postern.Reason) []postern.Condition {
		return []postern.Condition{{Type: postern.Connected, Status: postern.False, Reason: r}}
	}
	good := postern.Endpoint{
		ID: "vpce-1", Organization: "a", Owner: "111111111111", ServiceRegion: "us-west-2", State: postern.EndpointReady,
		Approval: postern.Approval{By: "policy", At: noon},
	}
	for _, c := range []struct {
		name   string
		change func(*postern.Endpoint, *plan.Desired)
		want   []string
	}{
		{"all of the segment", nil, []string{"a1.hosted.example.com", "a2.hosted.example.com"}},
		{"while AWS connects it", func(e *postern.Endpoint, _ *plan.Desired) {
			e.State, e.Conditions = postern.EndpointPending, connected(postern.ReasonConnecting)
		}, []string{"a1.hosted.example.com", "a2.hosted.example.com"}},
		{"in a state that nobody knows", func(e *postern.Endpoint, _ *plan.Desired) {
			e.State, e.Conditions = postern.EndpointPending, connected(postern.ReasonNotObserved)
		}, nil},
		{"pending for no known reason", func(e *postern.Endpoint, _ *plan.Desired) { e.State = postern.EndpointPending }, nil},
		{"named tenants only", func(e *postern.Endpoint, _ *plan.Desired) { e.Tenants = []string{"a2"} }, []string{"a2.hosted.example.com"}},
		{"a name of another segment", func(e *postern.Endpoint, _ *plan.Desired) { e.Tenants = []string{"a3"} }, nil},
		{"a name of another organization", func(e *postern.Endpoint, _ *plan.Desired) { e.Tenants = []string{"b1"} }, nil},
		{"the other segment", func(e *postern.Endpoint, _ *plan.Desired) { e.ServiceRegion = "eu-west-1" }, []string{"a3.hosted.example.com"}},
		{"not approved", func(e *postern.Endpoint, _ *plan.Desired) { e.Approval = postern.Approval{} }, nil},
		{"not accepted", func(e *postern.Endpoint, _ *plan.Desired) { e.State = postern.EndpointPendingAcceptance }, nil},
		{"rejected", func(e *postern.Endpoint, _ *plan.Desired) { e.State = postern.EndpointRejected }, nil},
		{"being removed", func(e *postern.Endpoint, _ *plan.Desired) { e.Removing = true }, nil},
		{"owned by nobody proven", func(e *postern.Endpoint, _ *plan.Desired) { e.Owner = "333333333333" }, nil},
		{"owned by another organization", func(e *postern.Endpoint, _ *plan.Desired) { e.Owner = "222222222222" }, nil},
		{"its account is being removed", func(_ *postern.Endpoint, d *plan.Desired) { d.Accounts[0].State = postern.AccountRemoving }, nil},
		{"a region given up", func(e *postern.Endpoint, _ *plan.Desired) { e.ServiceRegion = "sa-east-1" }, nil},
	} {
		e, d := good, plan.Desired{Tenants: d.Tenants, Accounts: slices.Clone(d.Accounts)}
		if c.change != nil {
			c.change(&e, &d)
		}
		d.Endpoints = []postern.Endpoint{e}
		grants := plan.Compile(p, d).Endpoints
		if c.want == nil {
			if len(grants) > 0 {
				t.Errorf("%s: granted %v", c.name, grants)
			}
			continue
		}
		if diff := cmp.Diff(map[string]postern.EndpointGrant{"vpce-1": {Organization: "a", Region: e.ServiceRegion, Hosts: c.want}}, grants); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestHostsIsWhatAnEndpointWouldReach(t *testing.T) {
	e := postern.Endpoint{Organization: "a", ServiceRegion: "us-west-2"}
	got := plan.Hosts(thePlatform(), e, []postern.Tenant{{Name: "x", Organization: "a", Region: "us-east-1"}, {Name: "y", Organization: "b", Region: "us-east-1"}})
	if diff := cmp.Diff([]string{"x.hosted.example.com"}, got); diff != "" {
		t.Error(diff)
	}
	e.ServiceRegion = "sa-east-1"
	if got := plan.Hosts(thePlatform(), e, nil); got != nil {
		t.Errorf("reaches %v from a region that is given up", got)
	}
}

// What is put on a list is recorded first, and a record lives until the
// principal has been off the list for the grace.
func TestPrincipalsAreRecorded(t *testing.T) {
	const one = "111111111111"
	tenants := []postern.Tenant{{Name: "a", Organization: "a", Region: "eu-west-1"}}
	removing := account(one, "a")
	removing.State = postern.AccountRemoving
	record := recorded(one)[2:]
	since := func(d time.Duration) postern.AddedPrincipal { return absent(d, recorded(one)[2:])[0] }
	for _, c := range []struct {
		name    string
		account postern.Account
		records []postern.AddedPrincipal
		listed  bool
		want    []plan.PrincipalChange
	}{
		{"before it is added", account(one, "a"), nil, false, []plan.PrincipalChange{{After: record[0]}}},
		{"once", account(one, "a"), record, false, nil},
		{"not when somebody else added it", account(one, "a"), nil, true, nil},
		{"first seen absent", removing, record, false, []plan.PrincipalChange{{After: since(0)}}},
		{"absent for a while", removing, []postern.AddedPrincipal{since(grace - 1)}, false, nil},
		{"absent for good", removing, []postern.AddedPrincipal{since(grace)}, false, []plan.PrincipalChange{{After: since(grace), Delete: true}}},
		{"shown again", removing, []postern.AddedPrincipal{since(grace)}, true, []plan.PrincipalChange{{After: record[0]}}},
		{"wanted again", account(one, "a"), []postern.AddedPrincipal{since(grace)}, false, []plan.PrincipalChange{{After: record[0]}}},
	} {
		services := everywhere()
		if c.listed {
			services = everywhere(principal(one))
		}
		round := plan.Decide(thePlatform(), plan.Desired{Tenants: tenants, Accounts: []postern.Account{c.account}, Principals: c.records},
			plan.Observed{Services: services}, plan.Rules{MissingGrace: grace}, noon)
		if diff := cmp.Diff(c.want, round.Principals); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}
