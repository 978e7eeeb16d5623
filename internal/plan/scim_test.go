package plan_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

var sameAddresses = cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{})

// scimPlatform has a SCIM ingress in us-east-1 and none elsewhere.
func scimPlatform() *postern.Platform {
	p := publicPlatform()
	p.Domains.SCIM = "scim.example.com"
	p.Segments[0].Regions[0].SCIMIngress = []netip.Addr{netip.MustParseAddr("192.0.2.20"), netip.MustParseAddr("192.0.2.21")}
	return p
}

func TestSCIMRoute(t *testing.T) {
	source := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	d := plan.Desired{Tenants: []postern.Tenant{
		{Name: "example", Organization: "a", Region: "us-east-1", SCIM: &postern.SCIMIngress{Sources: source}},
		{Name: "silent", Organization: "a", Region: "us-east-1"},
		{Name: "west", Organization: "a", Region: "us-west-2", SCIM: &postern.SCIMIngress{}}, // no such door there
	}}
	want := map[string]postern.SCIMRoute{"example.scim.example.com": {
		Tenant: "example", Organization: "a", Region: "us-east-1", Upstream: "example.hosted.example.com",
		Sources: source, Backends: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:443")},
	}}
	if diff := cmp.Diff(want, plan.Compile(scimPlatform(), d).SCIM, sameAddresses); diff != "" {
		t.Error(diff)
	}
	zones := plan.CompileZones(scimPlatform(), d, time.Minute)
	if diff := cmp.Diff(map[string][]postern.Record{"example.scim.example.com": records(60, "A", "192.0.2.20", "192.0.2.21")}, zones.Zones["scim.example.com"].Records); diff != "" {
		t.Error(diff)
	}
	if err := zones.Validate(); err != nil {
		t.Error(err)
	}
	if r := plan.Compile(thePlatform(), d); r.SCIM != nil {
		t.Errorf("a platform without a SCIM domain routes %v", r.SCIM)
	}
}

// Turning a SCIM ingress on or off changes that one route and its records, and
// nothing else, whatever the tenant's cutover has come to; and no cutover
// changes a SCIM route.
func TestTogglingSCIMOpensNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for _, tenant := range w.desired.Tenants {
			if phase := rapid.SampledFrom(append(postern.CutoverPhases(), "")).Draw(t, "phase"); phase != "" && phase != postern.CutoverRolledBack {
				w.desired.Cutovers = append(w.desired.Cutovers, postern.Cutover{Tenant: tenant.Name, Phase: phase})
			}
		}
		on := w.desired
		on.Tenants = slices.Clone(w.desired.Tenants)
		for i := range on.Tenants {
			if rapid.Bool().Draw(t, "on") {
				on.Tenants[i].SCIM = &postern.SCIMIngress{Sources: rapid.SampledFrom([][]netip.Prefix{nil, {}, {netip.MustParsePrefix("192.0.2.0/24")}}).Draw(t, "sources")}
			}
		}
		p := scimPlatform()
		before, after := plan.Compile(p, w.desired), plan.Compile(p, on)
		if before.SCIM != nil {
			t.Fatalf("nobody asked for %v", before.SCIM)
		}
		if diff := cmp.Diff(before, after, sameAddresses, cmpopts.IgnoreFields(postern.Routes{}, "SCIM")); diff != "" {
			t.Fatalf("it changed other routes: %s", diff)
		}
		zones, with := plan.CompileZones(p, w.desired, time.Minute), plan.CompileZones(p, on, time.Minute)
		delete(zones.Zones, p.Domains.SCIM)
		delete(with.Zones, p.Domains.SCIM)
		if diff := cmp.Diff(zones, with); diff != "" {
			t.Fatalf("it changed other zones: %s", diff)
		}
		public := on
		public.Cutovers = nil
		if diff := cmp.Diff(plan.Compile(p, public).SCIM, after.SCIM, sameAddresses); diff != "" {
			t.Fatalf("a cutover changed a SCIM route: %s", diff)
		}
		for name, r := range after.SCIM {
			if _, ok := after.Hosts[name]; ok || r.Region != "us-east-1" {
				t.Fatalf("%s: %+v", name, r)
			}
		}
		// A table that is stored and read again is the same, or every look at it
		// would make a new revision.
		b, err := json.Marshal(after)
		var stored postern.Routes
		if err != nil || json.Unmarshal(b, &stored) != nil || !reflect.DeepEqual(stored, after) {
			t.Fatalf("not the same after storing: %v %s", err, b)
		}
	})
}

func TestPreflightWithSCIM(t *testing.T) {
	for name, c := range map[string]struct {
		p    *postern.Platform
		scim *postern.SCIMIngress
		want []string
	}{
		"off":             {scimPlatform(), nil, []string{"Spark", "SCIM (or ask for a public scim ingress)"}},
		"on":              {scimPlatform(), &postern.SCIMIngress{}, []string{"Spark"}},
		"on, and nowhere": {publicPlatform(), &postern.SCIMIngress{}, []string{"Spark", "SCIM (or ask for a public scim ingress)"}},
	} {
		c.p.Integrations = []postern.Integration{{ID: "spark", Title: "Spark"}, {ID: "scim", Title: "SCIM", PublicException: "scim"}}
		var got []string
		for _, b := range plan.Preflight(c.p, plan.PreflightView{Tenant: postern.Tenant{Name: "example", Region: "us-east-1", SCIM: c.scim}, Nodes: 1}) {
			if b.Name == postern.BlockerIntegrations {
				got = b.Evidence
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
