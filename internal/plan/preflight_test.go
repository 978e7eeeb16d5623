package plan_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

// publicPlatform is thePlatform with a public side in us-east-1.
func publicPlatform() *postern.Platform {
	p := thePlatform()
	p.Segments[0].Regions[0].PublicIngress = []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.11")}
	return p
}

// Each blocker stands against a cutover for its own reason, and not without.
func TestPreflight(t *testing.T) {
	const integration = "SCIM (or ask for a public scim ingress)"
	good := func() (*postern.Platform, plan.PreflightView) {
		return publicPlatform(), plan.PreflightView{
			Tenant: postern.Tenant{Name: "example", Region: "us-east-1"}, Ready: []string{"vpce-1", "vpce-2"}, Proven: []string{"vpce-1", "vpce-2", "vpce-9"},
			Isolation: []plan.Isolation{{Address: "10.0.0.1:443", Isolated: true}}, Nodes: 2,
		}
	}
	for _, tc := range []struct {
		name     string
		change   func(*postern.Platform, *plan.PreflightView)
		want     string // name, may be acknowledged, only against enforcing
		evidence []string
	}{
		{name: "nothing", change: func(*postern.Platform, *plan.PreflightView) {}},
		{"no public side in the tenant's region", func(_ *postern.Platform, v *plan.PreflightView) { v.Tenant.Region = "us-west-2" }, "NoPublicIngress", nil},
		{"no endpoint", func(_ *postern.Platform, v *plan.PreflightView) { v.Ready = nil }, "NoReadyEndpoint", nil},
		{"no probe", func(_ *postern.Platform, v *plan.PreflightView) { v.Proven = nil }, "PathUnproven may", []string{"vpce-1", "vpce-2"}},
		{"a probe through one of two", func(_ *postern.Platform, v *plan.PreflightView) { v.Proven = []string{"vpce-2"} }, "PathUnproven may", []string{"vpce-1"}},
		{"a probe through an endpoint that is gone", func(_ *postern.Platform, v *plan.PreflightView) { v.Proven = []string{"vpce-9"} }, "PathUnproven may", []string{"vpce-1", "vpce-2"}},
		{"a backend that answers", func(_ *postern.Platform, v *plan.PreflightView) {
			v.Isolation = append(v.Isolation, plan.Isolation{Address: "10.0.0.2:443", Detail: "answers 200"})
		}, "BackendNotIsolated may", []string{"10.0.0.2:443: answers 200"}},
		{"no backend that is known", func(_ *postern.Platform, v *plan.PreflightView) { v.Isolation = nil }, "BackendNotIsolated may", nil},
		{"public clients", func(_ *postern.Platform, v *plan.PreflightView) { v.PublicSources = []string{"198.51.100.7"} }, "PublicClients may enforce", []string{"198.51.100.7"}},
		{"integrations", func(p *postern.Platform, _ *plan.PreflightView) {
			p.Integrations = []postern.Integration{{ID: "spark", Title: "Spark"}, {ID: "scim", Title: "SCIM", PublicException: "scim"}}
		}, "Integrations may", []string{"Spark", integration}},
		{"no node", func(_ *postern.Platform, v *plan.PreflightView) { v.Nodes = 0 }, "NodesNotReady", nil},
		{"a node that is behind", func(_ *postern.Platform, v *plan.PreflightView) { v.Waiting = []string{"n1"} }, "NodesNotReady", []string{"n1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, v := good()
			tc.change(p, &v)
			var got []string
			var evidence []string
			for _, b := range plan.Preflight(p, v) {
				name := b.Name
				if b.Acknowledgeable {
					name += " may"
				}
				if b.EnforceOnly {
					name += " enforce"
				}
				got, evidence = append(got, name), append(evidence, b.Evidence...)
				if b.Message == "" {
					t.Errorf("%s says nothing", b.Name)
				}
			}
			if strings.Join(got, ", ") != tc.want {
				t.Errorf("%v, want %s", got, tc.want)
			}
			if diff := cmp.Diff(tc.evidence, evidence); diff != "" {
				t.Errorf("evidence: %s", diff)
			}
		})
	}
}

func TestAgainstStart(t *testing.T) {
	blockers := []postern.Blocker{
		{Name: "must"}, {Name: "may", Acknowledgeable: true}, {Name: "later", Acknowledgeable: true, EnforceOnly: true},
	}
	for accepted, want := range map[string]string{
		"": "must may", "may": "must", "must": "must may", "must may later": "must", "later": "must may",
	} {
		var names []string
		for _, b := range plan.AgainstStart(blockers, strings.Fields(accepted)) {
			names = append(names, b.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("with %q accepted: %q, want %q", accepted, got, want)
		}
	}
}

func TestWaiting(t *testing.T) {
	nodes := []postern.Node{
		{ID: "z", AppliedRevision: 6, LastSeen: noon},
		{ID: "ok", AppliedRevision: 7, LastSeen: noon.Add(-theRules.NodeSilence)},
		{ID: "ahead", AppliedRevision: 8, LastSeen: noon},
		{ID: "fenced", Fenced: true},
		{ID: "a", AppliedRevision: 7, LastSeen: noon.Add(-theRules.NodeSilence - 1)},
	}
	if got := plan.Waiting(nodes, 7, theRules.NodeSilence, noon); !slices.Equal(got, []string{"a", "z"}) {
		t.Errorf("waits for %v", got)
	}
}
