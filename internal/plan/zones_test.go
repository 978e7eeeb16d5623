package plan_test

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

func records(ttl uint32, kind string, values ...string) (out []postern.Record) {
	for _, v := range values {
		out = append(out, postern.Record{Type: kind, TTL: ttl, Value: v})
	}
	return out
}

// What the public DNS says, and whom the ingress lets in, per phase.
func TestZonesAndRoutesPerPhase(t *testing.T) {
	const host, link = "example.hosted.example.com", "example.privatelink.example.com"
	public, alias := records(60, "A", "192.0.2.10", "192.0.2.11"), records(60, "CNAME", link)
	enforced, until := noon.Add(-time.Minute), noon.Add(time.Minute)
	phase := func(p postern.CutoverPhase) postern.Cutover {
		return postern.Cutover{Tenant: "example", Phase: p, RedirectedAt: enforced, EnforcedAt: enforced, DrainUntil: until}
	}
	preparing, settled := phase(postern.CutoverRehearsing), phase(postern.CutoverRolledBack)
	preparing.RedirectedAt, settled.SettledAt = time.Time{}, noon
	for name, want := range map[string]struct {
		cutover       postern.Cutover // of no tenant: there is none
		hosted, link  []postern.Record
		public, drain bool
	}{
		"none":              {postern.Cutover{}, public, nil, true, false},
		"preparing":         {preparing, public, public, true, false},
		"rehearsing":        {phase(postern.CutoverRehearsing), alias, public, true, false},
		"enforcing":         {phase(postern.CutoverEnforcing), alias, public, false, true},
		"withdrawing":       {phase(postern.CutoverWithdrawing), alias, nil, false, false},
		"complete":          {phase(postern.CutoverComplete), alias, nil, false, false},
		"rolled back":       {phase(postern.CutoverRolledBack), public, public, true, false},
		"settled":           {settled, public, nil, true, false},
		"that nobody knows": {phase("new"), public, nil, true, false}, // it refuses nobody
	} {
		t.Run(name, func(t *testing.T) {
			d := plan.Desired{Tenants: []postern.Tenant{
				{Name: "example", Organization: "a", Region: "us-east-1"}, {Name: "other", Organization: "b", Region: "us-east-1"},
			}}
			if want.cutover.Tenant != "" {
				d.Cutovers = []postern.Cutover{want.cutover}
			}
			z := plan.CompileZones(publicPlatform(), d, time.Minute)
			other := map[string][]postern.Record{"other.hosted.example.com": public}
			hosted, privatelink := map[string][]postern.Record{host: want.hosted}, map[string][]postern.Record{}
			maps.Copy(hosted, other) // nobody's cutover concerns another tenant
			if want.link != nil {
				privatelink[link] = want.link
			}
			if diff := cmp.Diff(postern.Zones{Zones: map[string]postern.Zone{
				"hosted.example.com": {Records: hosted}, "privatelink.example.com": {Records: privatelink},
			}}, z); diff != "" {
				t.Errorf("zones: %s", diff)
			}
			if err := z.Validate(); err != nil {
				t.Error(err)
			}
			r := plan.Compile(publicPlatform(), d)
			h := postern.Host{Tenant: "example", Organization: "a", Public: want.public, Backends: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:443")}}
			if want.drain {
				h.Drain = postern.Drain{Before: enforced, Until: until}
			}
			if diff := cmp.Diff(h, r.Hosts[host], cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("route: %s", diff)
			}
			if !r.Hosts["other.hosted.example.com"].Public {
				t.Error("another tenant is refused publicly")
			}
		})
	}
}

func TestZonesWithoutAPublicSide(t *testing.T) {
	d := plan.Desired{Tenants: []postern.Tenant{{Name: "example", Region: "us-west-2"}, {Name: "gone", Region: "sa-east-1"}}}
	z := plan.CompileZones(publicPlatform(), d, time.Minute)
	if err := z.Validate(); err != nil {
		t.Error(err)
	}
	for apex, zone := range z.Zones {
		if len(zone.Records) > 0 {
			t.Errorf("%s: %v", apex, zone.Records)
		}
	}
}

// A TTL below a second would be none at all.
func TestZonesHaveATTL(t *testing.T) {
	for d, want := range map[time.Duration]uint32{0: 1, time.Millisecond: 1, time.Second: 1, 90 * time.Second: 90} {
		hosted, _ := plan.TenantRecords(publicPlatform(), postern.Tenant{Name: "example", Region: "us-east-1"}, nil, d)
		if hosted[0].TTL != want {
			t.Errorf("%v: %d s", d, hosted[0].TTL)
		}
	}
}
