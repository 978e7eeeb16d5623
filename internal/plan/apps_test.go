package plan_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

const sharedHost = "app.example.com"

// appPlatform has the shared app of the seeds, in us-east-1 and eu-west-1.
func appPlatform() *postern.Platform {
	p := thePlatform()
	p.Apps[1].Requires, p.Apps[1].SingleSegment = "govern", true
	p.Segments[0].Regions[0].Backends["request"] = []netip.AddrPort{netip.MustParseAddrPort("10.0.1.1:443")}
	p.Segments[1].Regions[0].Backends["request"] = []netip.AddrPort{netip.MustParseAddrPort("10.0.1.3:443")}
	return p
}

func theApp() postern.App {
	a, _ := appPlatform().App("request")
	return a
}

// organizationA has a tenant in each given region, a ready endpoint in the
// first of them, and the app, if it is on.
func organizationA(on bool, regions ...string) plan.Desired {
	d := plan.Desired{Accounts: []postern.Account{account("111111111111", "a")}}
	for i, r := range regions {
		d.Tenants = append(d.Tenants, postern.Tenant{Name: fmt.Sprintf("t%d", i), Organization: "a", Region: r, CreatedAt: noon.Add(time.Duration(i))})
	}
	if len(regions) > 0 {
		d.Endpoints = []postern.Endpoint{{
			ID: "vpce-1", Organization: "a", Owner: "111111111111", ServiceRegion: regions[0], State: postern.EndpointReady, Approval: postern.Approval{By: "policy", At: noon},
		}}
	}
	d.Apps = []postern.AppAccess{{App: "request", Organization: "a", Enabled: on, ChangedAt: noon}}
	if len(d.Tenants) > 0 {
		d.Cutovers = []postern.Cutover{{Tenant: "t0", Organization: "a", Phase: postern.CutoverComplete, EndedAt: noon}}
	}
	return d
}

func TestSharedHostsAreReachedByWhoAskedForThem(t *testing.T) {
	with := func(d plan.Desired, change func(*plan.Desired)) plan.Desired { change(&d); return d }
	for name, tc := range map[string]struct {
		d    plan.Desired
		want bool
	}{
		"on":                       {organizationA(true, "us-east-1"), true},
		"on, in two regions":       {organizationA(true, "us-east-1", "us-west-2"), true},
		"through another region":   {organizationA(true, "us-west-2"), true},
		"not private yet":          {with(organizationA(true, "us-east-1"), func(d *plan.Desired) { d.Cutovers[0].Phase = postern.CutoverWithdrawing }), false},
		"public again":             {with(organizationA(true, "us-east-1"), func(d *plan.Desired) { d.Cutovers[0].Phase = postern.CutoverRolledBack }), false},
		"never private":            {with(organizationA(true, "us-east-1"), func(d *plan.Desired) { d.Cutovers = nil }), false},
		"another's is private":     {with(organizationA(true, "us-east-1"), func(d *plan.Desired) { d.Cutovers[0].Tenant = "b" }), false},
		"in a region given up":     {with(organizationA(true, "us-east-1", "sa-east-1"), func(d *plan.Desired) { d.Cutovers[0].Tenant = "t1" }), false},
		"one of two is private":    {with(organizationA(true, "us-east-1", "us-west-2"), func(d *plan.Desired) { d.Cutovers[0].Tenant = "t1" }), true},
		"its tenant is gone":       {with(organizationA(true, "us-east-1", "us-west-2"), func(d *plan.Desired) { d.Tenants = d.Tenants[1:] }), false},
		"off":                      {organizationA(false, "us-east-1"), false},
		"in two segments":          {organizationA(true, "us-east-1", "eu-west-1"), false},
		"another organization's":   {with(organizationA(true, "us-east-1"), func(d *plan.Desired) { d.Apps[0].Organization = "b" }), false},
		"another app":              {with(organizationA(true, "us-east-1"), func(d *plan.Desired) { d.Apps[0].App = "govern" }), false},
		"an endpoint of no tenant": {with(organizationA(true, "us-east-1"), func(d *plan.Desired) { d.Endpoints[0].ServiceRegion = "eu-west-1" }), false},
		"not accepted":             {with(organizationA(true, "us-east-1"), func(d *plan.Desired) { d.Endpoints[0].State = postern.EndpointPendingAcceptance }), false},
		"others in other segments": {with(organizationA(true, "us-east-1"), func(d *plan.Desired) {
			d.Tenants = append(d.Tenants, postern.Tenant{Name: "b", Organization: "b", Region: "eu-west-1"})
		}), true},
	} {
		r := plan.Compile(appPlatform(), tc.d)
		g := r.Endpoints["vpce-1"]
		if got := slices.Contains(g.Hosts, sharedHost); got != tc.want || !slices.IsSorted(g.Hosts) {
			t.Errorf("%s: the endpoint reaches %v", name, g.Hosts)
		}
		want := postern.Host{Shared: true, Public: true, RegionBackends: map[string][]netip.AddrPort{
			"us-east-1": {netip.MustParseAddrPort("10.0.1.1:443")}, "us-west-2": {netip.MustParseAddrPort("10.0.1.1:443")}, "eu-west-1": {netip.MustParseAddrPort("10.0.1.3:443")},
		}}
		if diff := cmp.Diff(want, r.Hosts[sharedHost], sameAddresses); diff != "" {
			t.Errorf("%s: the host is not public for everybody: %s", name, diff)
		}
	}
	if _, ok := plan.Compile(thePlatform(), organizationA(true, "us-east-1")).Hosts[sharedHost]; ok {
		t.Error("an app without backends has a host")
	}
}

// Whatever the world is: a shared host is in no grant but those of an
// organization that asked for it, is private and has one segment; turning an app on or off
// changes nothing but that; and it stays public for everybody.
func TestAppsOpenNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		own := organizationA(false, rapid.SampledFrom([]string{"us-east-1", "eu-west-1"}).Draw(t, "its own region")) // so that it happens
		own.Accounts[0].ID, own.Endpoints[0].Owner, own.Endpoints[0].ID = "999999999999", "999999999999", "vpce-own"
		own.Tenants[0].Name = "own"
		w.desired.Accounts = append(w.desired.Accounts, own.Accounts...)
		w.desired.Endpoints = append(w.desired.Endpoints, own.Endpoints...)
		w.desired.Tenants = append(w.desired.Tenants, own.Tenants...)
		for _, tenant := range w.desired.Tenants {
			phase := rapid.SampledFrom(append(postern.CutoverPhases(), "", postern.CutoverComplete)).Draw(t, "cutover of "+tenant.Name)
			if phase != "" {
				w.desired.Cutovers = append(w.desired.Cutovers, postern.Cutover{Tenant: tenant.Name, Organization: tenant.Organization, Phase: phase})
			}
		}
		p, off, on := appPlatform(), w.desired, w.desired
		for _, o := range organizations {
			if rapid.Bool().Draw(t, "asked for it: "+o) {
				on.Apps = append(on.Apps, postern.AppAccess{App: "request", Organization: o, Enabled: rapid.Bool().Draw(t, "on: "+o)})
			}
		}
		before, after := plan.Compile(p, off), plan.Compile(p, on)
		if diff := cmp.Diff(before.Hosts, after.Hosts, sameAddresses); diff != "" {
			t.Fatalf("hosts changed: %s", diff)
		}
		if !after.Hosts[sharedHost].Public || !after.Hosts[sharedHost].Shared {
			t.Fatalf("%+v", after.Hosts[sharedHost])
		}
		for id, g := range after.Endpoints {
			segments, private := map[string]bool{}, false
			for _, tenant := range on.Tenants {
				if _, s, ok := p.Region(tenant.Region); ok && tenant.Organization == g.Organization {
					segments[s.ID] = true
					private = private || slices.ContainsFunc(on.Cutovers, func(c postern.Cutover) bool { return c.Tenant == tenant.Name && c.Phase == postern.CutoverComplete })
				}
			}
			asked := slices.ContainsFunc(on.Apps, func(a postern.AppAccess) bool { return a.Organization == g.Organization && a.Enabled })
			if got := slices.Contains(g.Hosts, sharedHost); got != (asked && private && len(segments) == 1) {
				t.Fatalf("%s of %s reaches the app: %v; asked for: %v, private first: %v, segments %v", id, g.Organization, got, asked, private, segments)
			}
			g.Hosts = slices.DeleteFunc(slices.Clone(g.Hosts), func(h string) bool { return h == sharedHost })
			if diff := cmp.Diff(before.Endpoints[id], g); diff != "" {
				t.Fatalf("the grant of %s changed otherwise: %s", id, diff)
			}
		}
		if len(before.Endpoints) != len(after.Endpoints) {
			t.Fatal("another endpoint is let in")
		}
		b, err := json.Marshal(after)
		var stored postern.Routes
		if err != nil || json.Unmarshal(b, &stored) != nil || !reflect.DeepEqual(stored, after) {
			t.Fatalf("not the same after storing: %v %s", err, b)
		}
	})
}

func TestAppConditions(t *testing.T) {
	complete := func(d plan.Desired, tenants ...string) plan.Desired {
		d.Cutovers = nil
		for _, name := range tenants {
			d.Cutovers = append(d.Cutovers, postern.Cutover{Tenant: name, Organization: "a", Phase: postern.CutoverComplete, EndedAt: noon})
		}
		return d
	}
	enforcing := organizationA(false, "us-east-1")
	enforcing.Cutovers = []postern.Cutover{{Tenant: "t0", Phase: postern.CutoverWithdrawing}}
	for name, tc := range map[string]struct {
		d    plan.Desired
		want string // condition=reason …
		says string
	}{
		"public":            {complete(organizationA(false, "us-east-1")), "Ready=NotEnabled RequiredAppPrivate=RequiredPublic SingleSegment=OneSegment", "postern cutover start t0"},
		"on its way":        {enforcing, "Ready=NotEnabled RequiredAppPrivate=RequiredPublic SingleSegment=OneSegment", "no cutover is complete of tenant t0"},
		"private":           {complete(organizationA(false, "us-east-1"), "t0"), "Ready=NotEnabled RequiredAppPrivate=RequiredPrivate SingleSegment=OneSegment", "is private for tenant t0"},
		"one of two":        {complete(organizationA(false, "us-east-1", "us-west-2"), "t1"), "Ready=NotEnabled RequiredAppPrivate=RequiredPrivate SingleSegment=OneSegment", "is private for tenant t1, and still public for t0"},
		"another's cutover": {complete(organizationA(false, "us-east-1"), "x"), "Ready=NotEnabled RequiredAppPrivate=RequiredPublic SingleSegment=OneSegment", "must be private first"},
		"in two segments":   {complete(organizationA(false, "us-east-1", "eu-west-1", "us-west-2"), "t0"), "Ready=NotEnabled RequiredAppPrivate=RequiredPrivate SingleSegment=SeveralSegments", "t0, t2 in na; t1 in eu"},
		"on":                {complete(organizationA(true, "us-east-1"), "t0"), "Ready=BytesPass RequiredAppPrivate=RequiredPrivate SingleSegment=OneSegment", "reached through vpce-1"},
		"on, public again":  {complete(organizationA(true, "us-east-1")), "Ready=NotReady RequiredAppPrivate=RequiredPublic SingleSegment=OneSegment", "until then the app is reached publicly only"},
		"on, two segments":  {complete(organizationA(true, "us-east-1", "eu-west-1"), "t0"), "Ready=NotReady RequiredAppPrivate=RequiredPrivate SingleSegment=SeveralSegments", "several segments"},
		"on, no endpoint": {func() plan.Desired {
			d := complete(organizationA(true, "us-east-1"), "t0")
			d.Endpoints = nil
			return d
		}(), "Ready=NoEndpoint RequiredAppPrivate=RequiredPrivate SingleSegment=OneSegment", "no ready endpoint"},
		"no tenant": {organizationA(false), "Ready=NotEnabled RequiredAppPrivate=RequiredPublic SingleSegment=OneSegment", "no tenant whose"},
	} {
		v := plan.App(appPlatform(), theApp(), tc.d.Apps[0], tc.d)
		var got []string
		said := false
		for _, c := range v.Conditions {
			got = append(got, string(c.Type)+"="+string(c.Reason))
			said = said || strings.Contains(c.Message, tc.says)
			if (c.Status == postern.True) != slices.Contains([]postern.Reason{postern.ReasonBytesPass, postern.ReasonRequiredPrivate, postern.ReasonOneSegment}, c.Reason) {
				t.Errorf("%s: %+v", name, c)
			}
		}
		if strings.Join(got, " ") != tc.want || !said {
			t.Errorf("%s: %v, want %s; nothing says %q in %+v", name, got, tc.want, tc.says, v.Conditions)
		}
		if (len(v.Endpoints) > 0) != strings.Contains(tc.want, "BytesPass") {
			t.Errorf("%s: endpoints %v", name, v.Endpoints)
		}
	}
	// An app that asks for nothing has Ready alone.
	p := appPlatform()
	p.Apps[1].Requires, p.Apps[1].SingleSegment = "", false
	if v := plan.App(p, p.Apps[1], postern.AppAccess{Organization: "a"}, organizationA(true, "us-east-1")); len(v.Conditions) != 1 {
		t.Errorf("%+v", v.Conditions)
	}
}

func TestBreaksApps(t *testing.T) {
	d := organizationA(true, "us-east-1")
	for region, want := range map[string]int{"us-east-1": 0, "us-west-2": 0, "eu-west-1": 1} {
		if got := plan.BreaksApps(appPlatform(), d, postern.Tenant{Name: "new", Organization: "a", Region: region}); len(got) != want {
			t.Errorf("a tenant in %s breaks %v", region, got)
		}
	}
	for name, c := range map[string]struct {
		d plan.Desired
		t postern.Tenant
	}{
		"off":                  {organizationA(false, "us-east-1"), postern.Tenant{Name: "new", Organization: "a", Region: "eu-west-1"}},
		"another organization": {d, postern.Tenant{Name: "new", Organization: "b", Region: "eu-west-1"}},
		"broken before":        {organizationA(true, "us-east-1", "eu-west-1"), postern.Tenant{Name: "new", Organization: "a", Region: "eu-west-1"}},
	} {
		if got := plan.BreaksApps(appPlatform(), c.d, c.t); len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestLosesApps(t *testing.T) {
	t.Parallel()
	complete := func(d plan.Desired, tenants ...string) plan.Desired {
		d.Cutovers = nil
		for _, name := range tenants {
			d.Cutovers = append(d.Cutovers, postern.Cutover{Tenant: name, Organization: "a", Phase: postern.CutoverComplete, EndedAt: noon})
		}
		return d
	}
	for name, tc := range map[string]struct {
		before, after plan.Desired
		why           string // "": nothing is lost
	}{
		"the last one is public again": {organizationA(true, "us-east-1"), complete(organizationA(true, "us-east-1")), "must be private first"},
		"the last one is gone":         {organizationA(true, "us-east-1"), complete(organizationA(true)), "no tenant whose"},
		"another one is private":       {complete(organizationA(true, "us-east-1", "us-east-1"), "t0", "t1"), organizationA(true, "us-east-1", "us-east-1"), ""},
		"it is off":                    {organizationA(false, "us-east-1"), complete(organizationA(false, "us-east-1")), ""},
		"it was lost before":           {complete(organizationA(true, "us-east-1")), organizationA(true), ""},
		"it comes back":                {organizationA(true, "us-east-1", "eu-west-1"), organizationA(true, "us-east-1"), ""},
	} {
		lost := plan.LosesApps(appPlatform(), tc.before, tc.after, "a")
		if (len(lost) > 0) != (tc.why != "") || len(lost) > 0 && (lost[0].App.ID != "request" || !strings.Contains(lost[0].Why, tc.why)) {
			t.Errorf("%s: %+v", name, lost)
		}
		if other := plan.LosesApps(appPlatform(), tc.before, tc.after, "b"); len(other) > 0 {
			t.Errorf("%s: another organization loses %+v", name, other)
		}
	}
}
