package control_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// What stands against a cutover, of what the store and the zones know.
func TestPreflightOfWhatIsStored(t *testing.T) {
	s := newScene(t)
	l := s.loop()
	s.rounds(l, 1)
	blockers := func() map[string][]string {
		bs, err := l.Preflight(t.Context(), "example")
		if err != nil {
			t.Fatal(err)
		}
		out := map[string][]string{}
		for _, b := range bs {
			out[b.Name] = b.Evidence
		}
		return out
	}
	want := func(what string, names ...string) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(blockers())); !slices.Equal(got, names) {
			t.Errorf("%s: %v, want %v", what, got, names)
		}
	}
	isolated := func(node string, ok bool) {
		s.update(func(tx *store.Tx) error {
			return tx.SaveIsolation(postern.Isolation{Node: node, Address: "10.0.0.1:443", Isolated: ok, Detail: "of " + node, At: s.clock()})
		})
	}
	probe := func(nonce string) {
		s.update(func(tx *store.Tx) error {
			return errors.Join(tx.CreateProbe(postern.Probe{Nonce: nonce, Tenant: "example", CreatedAt: s.clock()}), tx.AddArrivals([]postern.ArrivalCount{{
				Region: virginia, Listener: "private", EndpointID: exampleVPCE, ServerName: s.platform.ProbeHost("example", nonce),
				Denial: postern.DenyUnknownHost, Count: 1, FirstSeen: s.clock(), LastSeen: s.clock(),
			}}))
		})
	}
	want("nothing was proven", postern.BlockerNotIsolated, postern.BlockerPathUnproven)
	probe("n")
	want("the path was proven", postern.BlockerNotIsolated)
	isolated("n1", true)
	want("a node found it isolated")
	isolated("n2", false)
	want("another got through", postern.BlockerNotIsolated)
	if got := blockers()[postern.BlockerNotIsolated]; !slices.Equal(got, []string{"10.0.0.1:443: of n2"}) {
		t.Errorf("evidence %v", got)
	}
	isolated("n2", true)
	isolated("n1", false)
	want("the first of them got through", postern.BlockerNotIsolated)
	isolated("n1", true)
	s.pass(10*time.Minute + time.Second)
	want("what was found is old", postern.BlockerNotIsolated)
	isolated("n1", true)
	s.comes(publicly)
	want("a client comes publicly", postern.BlockerPublicClients)
	s.pass(24*time.Hour - time.Second)
	isolated("n1", true)
	want("the path was proven a day ago", postern.BlockerPathUnproven, postern.BlockerPublicClients)
	probe("again")
	want("it came almost a day ago", postern.BlockerPublicClients)
	s.pass(time.Second)
	isolated("n1", true)
	want("longer ago")
	s.obeys = []string{"n2"}
	s.pass(time.Minute)
	want("a node is silent", postern.BlockerNodes)
	fence := func(id string) {
		s.update(func(tx *store.Tx) error {
			n, err := tx.FindNode(id)
			if err != nil {
				return err
			}
			_, err = tx.FenceNode(n, "ada", s.clock())
			return err
		})
	}
	fence("n1")
	want("it is fenced")
	fence("n2")
	want("all are fenced: nobody serves", postern.BlockerNodes)
	if _, err := l.Preflight(t.Context(), "nobody"); postern.CodeOf(err) != postern.CodeNotFound {
		t.Errorf("of no tenant: %v", err)
	}
}

func TestTenantDNS(t *testing.T) {
	s := newScene(t)
	l := s.loop()
	s.rounds(l, 1)
	look := func() plan.TenantDNS {
		d, err := l.TenantDNS(t.Context(), "example")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := look(); d.Differs != "" || len(d.Wanted[exampleHost]) != 1 || len(d.Wanted[exampleLink]) != 0 || len(d.Endpoints) != 1 {
		t.Errorf("public: %+v", d)
	}
	s.start()
	s.rounds(l, 1)
	if d := look(); d.Wanted[exampleHost][0].Type != "A" || d.Wanted[exampleLink][0].Type != "A" || d.Differs != "" {
		t.Errorf("preparing: %+v", d)
	}
	s.servers.hold(true)
	s.rounds(l, 1)
	if d := look(); d.Wanted[exampleHost][0].Type != "CNAME" || d.Wanted[exampleLink][0].Type != "A" || !strings.Contains(d.Differs, exampleHost) {
		t.Errorf("rehearsing: %+v", d)
	}
	s.servers.hold(false)
	s.cloud.gone = true
	s.rounds(l, 1)
	if d := look(); d.Differs != "" || len(d.Endpoints) != 0 {
		t.Errorf("without its endpoint: %+v", d)
	}
	if _, err := l.TenantDNS(t.Context(), "nobody"); postern.CodeOf(err) != postern.CodeNotFound {
		t.Errorf("of no tenant: %v", err)
	}
	// Without servers that are known, nothing counts as published.
	c := s.config()
	c.Names = nil
	d, err := control.New(c).TenantDNS(t.Context(), "example")
	if err != nil || d.Differs != "no server of the zones is configured" {
		t.Errorf("%+v, %v", d, err)
	}
}

// Zones get a new revision only when they change, and never an earlier one.
func TestZonesArePublishedOnce(t *testing.T) {
	s := newScene(t)
	var seen []int64
	c := s.config()
	c.PublishZones = func(z postern.Zones) { s.servers.publish(z); seen = append(seen, z.Revision) }
	l := control.New(c)
	s.rounds(l, 2)
	s.start()
	s.rounds(l, 2)
	s.rounds(control.New(c), 1)
	if !slices.IsSorted(seen) || seen[0] != 1 || seen[len(seen)-1] != 3 { // a fallback, and what leads to it
		t.Errorf("revisions %v", seen)
	}
}
