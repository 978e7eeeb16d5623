package postern_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-net/postern"
)

var sameAddresses = cmpopts.EquateComparable(netip.AddrPort{})

func TestSharedBackends(t *testing.T) {
	p := examplePlatform()
	a, b := netip.MustParseAddrPort("10.0.2.1:443"), netip.MustParseAddrPort("10.0.2.2:443")
	p.Segments[0].Regions[0].Backends["request"] = []netip.AddrPort{a, b}
	for region, want := range map[string][]netip.AddrPort{
		"us-east-1": {a, b}, // its own
		"us-west-2": {a, b}, // the segment's
		"eu-west-2": nil,    // another segment's are out of reach
		"sa-east-1": nil,
	} {
		if diff := cmp.Diff(want, p.SharedBackends("request", region), sameAddresses); diff != "" {
			t.Errorf("%s: %s", region, diff)
		}
	}
	if _, ok := p.SharedApp("request"); !ok {
		t.Error("no shared app request")
	}
	for _, id := range []string{"govern", "none"} {
		if _, ok := p.SharedApp(id); ok {
			t.Errorf("%s is shared", id)
		}
	}
}

func TestRoutesInARegion(t *testing.T) {
	east, west := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:443")}, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:443")}
	tenants := postern.Host{Tenant: "example", Organization: "a", Backends: east}
	shared := postern.Host{Shared: true, Public: true, RegionBackends: map[string][]netip.AddrPort{"us-east-1": east, "us-west-2": west}}
	r := postern.Routes{Revision: 7, Hosts: map[string]postern.Host{"example.example.com": tenants, "app.example.com": shared}}
	for region, want := range map[string][]netip.AddrPort{"us-east-1": east, "us-west-2": west, "eu-west-1": nil} {
		here, err := r.In(region)
		if err != nil || here.Revision != 7 {
			t.Fatalf("%s: %+v, %v", region, here, err)
		}
		if diff := cmp.Diff(want, here.Hosts["app.example.com"].Backends, sameAddresses); diff != "" {
			t.Errorf("%s: %s", region, diff)
		}
		if diff := cmp.Diff(tenants, here.Hosts["example.example.com"], sameAddresses); diff != "" {
			t.Errorf("%s, the tenant's: %s", region, diff)
		}
	}
	if r.Hosts["app.example.com"].Backends != nil {
		t.Error("the table was changed")
	}
	for says, h := range map[string]postern.Host{
		"name whose host it is":     {Public: true, Backends: east},
		"neither tenant nor":        {Shared: true, Organization: "a"},
		"a shared host has neither": {Shared: true, Tenant: "example", Organization: "a"},
	} {
		r.Hosts["x.example.com"] = h
		if _, err := r.In("us-east-1"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v; want %q", h, err, says)
		}
	}
}
