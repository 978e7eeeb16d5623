package api_test

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

// newCutoverWorld has a public side in Virginia, an integration, and a ready
// endpoint that reaches tenant example; a node that obeys is there.
func newCutoverWorld(t *testing.T) (w *world, vpce string) {
	t.Helper()
	w = newWorld(t)
	home := &w.platform.Segments[0].Regions[0]
	home.PublicIngress = []netip.Addr{netip.MustParseAddr("192.0.2.10")}
	home.Backends = map[string][]netip.AddrPort{"govern": {netip.MustParseAddrPort("10.0.0.1:443")}}
	w.platform.Integrations = []postern.Integration{{ID: "spark", Title: "Spark"}}
	vpce = w.create("example-corp", virginia)
	must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{vpce}))
	w.rest()
	w.update(func(tx *store.Tx) error {
		_, _, err := tx.UpsertNode(postern.Node{
			ID: "n1", Regions: []string{virginia}, BootID: "boot-of-n1", AppliedRevision: 1 << 40, LastSeen: w.clock().Add(time.Hour),
		})
		return err
	})
	return w, vpce
}

// proven lets a probe come through an endpoint, and every backend be isolated.
func (w *world) proven(vpce string) {
	w.t.Helper()
	p := must[client.Probe](w, "example", "POST", "/v1/tenants/example/probes", nil)
	w.update(func(tx *store.Tx) error {
		return errors.Join(
			tx.AddArrivals([]postern.ArrivalCount{{
				Region: virginia, Listener: "private", EndpointID: vpce, ServerName: p.ServerName, Denial: postern.DenyUnknownHost,
				Organization: "example-corp", Count: 1, FirstSeen: w.clock(), LastSeen: w.clock(),
			}}),
			tx.SaveIsolation(postern.Isolation{Node: "n1", Address: "10.0.0.1:443", Isolated: true, At: w.clock()}),
		)
	})
}

func request(acknowledged ...string) client.CutoverRequest {
	return client.CutoverRequest{Tenant: "example", Acknowledged: acknowledged}
}

func names(bs []client.Blocker) (out []string) {
	for _, b := range bs {
		out = append(out, b.Name+" "+b.Blocks)
	}
	return out
}

// What stands against a cutover is told by name, with what was seen; it starts
// when all of it is mended or accepted.
func TestACutoverStartsOnlyWithoutBlockers(t *testing.T) {
	w, vpce := newCutoverWorld(t)
	preflight := func() []client.Blocker {
		return must[client.Page[client.Blocker]](w, "viewer", "GET", "/v1/tenants/example/preflight", nil).Items
	}
	if diff := cmp.Diff([]string{"PathUnproven start", "BackendNotIsolated start", "Integrations start"}, names(preflight())); diff != "" {
		t.Fatal(diff)
	}
	p := w.refused(http.StatusConflict, "conflict", "example", "POST", "/v1/cutovers", request(postern.BlockerIntegrations))
	var said []string
	for _, e := range p.Errors {
		said = append(said, e.Field+" "+e.Message+"; "+e.Fix)
	}
	if len(said) != 2 || !strings.Contains(said[0], "acknowledged PathUnproven: ") || !strings.Contains(said[0], "["+vpce+"]") ||
		!strings.Contains(said[0], "acknowledge PathUnproven") || !strings.Contains(said[1], "BackendNotIsolated: ") || !strings.Contains(said[1], "10.0.0.1:443") {
		t.Errorf("refused with %v", said)
	}
	w.proven(vpce)
	if diff := cmp.Diff([]string{"Integrations start"}, names(preflight())); diff != "" {
		t.Error(diff)
	}
	// Who still comes publicly is found out by the rehearsal: it may begin.
	w.update(func(tx *store.Tx) error {
		return tx.AddArrivals([]postern.ArrivalCount{{
			Region: virginia, Listener: "public", Source: "198.51.100.7", ServerName: "example.hosted.example.com", Organization: "example-corp",
			Count: 1, FirstSeen: w.clock(), LastSeen: w.clock(),
		}})
	})
	bs := preflight()
	if diff := cmp.Diff([]string{"PublicClients enforce", "Integrations start"}, names(bs)); diff != "" || !slices.Equal(bs[0].Evidence, []string{"198.51.100.7"}) {
		t.Errorf("%v: %s", bs, diff)
	}
	w.refused(http.StatusConflict, "conflict", "example", "POST", "/v1/cutovers", request())
	c := must[client.Cutover](w, "example", "POST", "/v1/cutovers", request("Integrations", "Integrations"))
	want := client.Cutover{
		ID: c.ID, Spec: client.CutoverSpec{Tenant: "example", Acknowledged: []string{"Integrations"}}, ResourceVersion: "1",
		Status: client.CutoverStatus{State: "rehearsing", Organization: "example-corp", Conditions: []client.Condition{}, StartedBy: "example", StartedAt: w.clock()},
	}
	if diff := cmp.Diff(want, c); diff != "" || !strings.HasPrefix(c.ID, "cut_") {
		t.Error(diff)
	}
	if bs := preflight(); !bs[1].Acknowledged || bs[0].Acknowledged {
		t.Errorf("what was accepted is not told: %+v", bs)
	}
	if es := w.events(); es[len(es)-1] != "cutover.started" {
		t.Errorf("events %v", es)
	}
	// A second one is refused as such, even while something stands against one.
	for _, body := range []client.CutoverRequest{request(), request("Integrations")} {
		if p := w.refused(http.StatusConflict, "conflict", "example", "POST", "/v1/cutovers", body); p.Errors[0].Field != "tenant" {
			t.Errorf("%+v", p.Errors)
		}
	}
}

// What must be mended cannot be accepted.
func TestOnlyKnownNamesAreAcknowledged(t *testing.T) {
	w, vpce := newCutoverWorld(t)
	w.proven(vpce)
	for _, name := range []string{"Everything", "", "integrations", postern.BlockerNoEndpoint, postern.BlockerNodes, postern.BlockerNoPublicDNS} {
		p := w.refused(http.StatusBadRequest, "invalid", "example", "POST", "/v1/cutovers", request("Integrations", name))
		if p.Errors[0].Field != "acknowledged[1]" {
			t.Errorf("%q: %+v", name, p.Errors)
		}
	}
	c := must[client.Cutover](w, "example", "POST", "/v1/cutovers", request("Integrations"))
	path := "/v1/cutovers/" + c.ID + "/acknowledge"
	if p := w.refused(http.StatusBadRequest, "invalid", "example", "POST", path, client.Acknowledgement{Blockers: []string{"PublicClients", "NodesNotReady"}}); p.Errors[0].Field != "blockers[1]" {
		t.Errorf("%+v", p.Errors)
	}
	w.refused(http.StatusUnprocessableEntity, "invalid", "example", "POST", path, client.Acknowledgement{Blockers: []string{}})
	for range 2 {
		c = must[client.Cutover](w, "operator", "POST", path, client.Acknowledgement{Blockers: []string{"PublicClients", "PublicClients"}})
	}
	if diff := cmp.Diff([]string{"Integrations", "PublicClients"}, c.Spec.Acknowledged); diff != "" {
		t.Error(diff)
	}
	if p := w.refused(http.StatusConflict, "conflict", "example", "POST", path, client.Acknowledgement{Blockers: []string{"PathUnproven"}}, `If-Match: "1"`); p.Errors[0].Field != "If-Match" {
		t.Errorf("%+v", p.Errors)
	}
	if es := w.events(); !slices.Contains(es, "cutover.acknowledged") {
		t.Errorf("events %v", es)
	}
}

// From wherever it is, a person rolls it back, once; then another may begin.
func TestAPersonRollsBack(t *testing.T) {
	w, vpce := newCutoverWorld(t)
	w.proven(vpce)
	for _, phase := range postern.CutoverPhases() {
		if phase == postern.CutoverRolledBack {
			continue
		}
		c := must[client.Cutover](w, "example", "POST", "/v1/cutovers", request("Integrations"))
		w.update(func(tx *store.Tx) error {
			row, err := tx.FindCutover(c.ID)
			if err != nil {
				return err
			}
			row.Phase = phase
			_, err = tx.UpdateCutover(row)
			return err
		})
		path := "/v1/cutovers/" + c.ID
		p := w.refused(http.StatusConflict, "conflict", "example", "POST", path+"/rollback", client.Rollback{}, `If-Match: "1"`)
		if p.Errors[0].Field != "If-Match" {
			t.Errorf("%+v", p.Errors)
		}
		back := must[client.Cutover](w, "operator", "POST", path+"/rollback", client.Rollback{Reason: "the BI tool"}, `If-Match: "2"`)
		if back.Status.State != "rolled-back" || back.Status.EndedBy != "operator" || back.Status.EndedWhy != "the BI tool" || back.Status.EndedAt != w.clock() {
			t.Errorf("from %s: %+v", phase, back.Status)
		}
		if diff := cmp.Diff(back, must[client.Cutover](w, "viewer", "GET", path, nil)); diff != "" {
			t.Error(diff)
		}
		w.refused(http.StatusConflict, "conflict", "example", "POST", path+"/rollback", client.Rollback{})
		w.refused(http.StatusConflict, "conflict", "example", "POST", path+"/acknowledge", client.Acknowledgement{Blockers: []string{"PublicClients"}})
	}
	all := must[client.Page[client.Cutover]](w, "viewer", "GET", "/v1/cutovers?tenant=example", nil).Items
	if len(all) != 4 {
		t.Errorf("%d cutovers are listed, want 4", len(all))
	}
	c := must[client.Cutover](w, "example", "POST", "/v1/cutovers", request("Integrations"))
	if got := must[client.Cutover](w, "example", "POST", "/v1/cutovers/"+c.ID+"/rollback", client.Rollback{}); got.Status.EndedWhy != "no reason given" {
		t.Errorf("without a reason: %+v", got.Status)
	}
	w.refused(http.StatusUnprocessableEntity, "invalid", "example", "POST", "/v1/cutovers/"+c.ID+"/rollback", client.Rollback{Reason: strings.Repeat("x", 501)})
}

// A start that is sent again is the same start, whatever became of it.
func TestACutoverStartsOnce(t *testing.T) {
	w, vpce := newCutoverWorld(t)
	w.proven(vpce)
	body := request("Integrations")
	first := must[client.Cutover](w, "example", "POST", "/v1/cutovers", body, "Idempotency-Key: k")
	must[client.Cutover](w, "example", "POST", "/v1/cutovers/"+first.ID+"/rollback", client.Rollback{})
	if diff := cmp.Diff(first, must[client.Cutover](w, "example", "POST", "/v1/cutovers", body, "Idempotency-Key: k")); diff != "" {
		t.Error(diff)
	}
	if all := must[client.Page[client.Cutover]](w, "admin", "GET", "/v1/cutovers", nil).Items; len(all) != 1 {
		t.Errorf("%d cutovers", len(all))
	}
	probe := must[client.Probe](w, "example", "POST", "/v1/tenants/example/probes", nil, "Idempotency-Key: p")
	if again := must[client.Probe](w, "example", "POST", "/v1/tenants/example/probes", nil, "Idempotency-Key: p"); again != probe {
		t.Errorf("%+v, then %+v", probe, again)
	}
}

// To another organization a cutover, a probe and the DNS of a tenant are as
// absent as if they never were.
func TestCutoversOfOthersAreAbsent(t *testing.T) {
	w, vpce := newCutoverWorld(t)
	w.proven(vpce)
	c := must[client.Cutover](w, "example", "POST", "/v1/cutovers", request("Integrations"))
	absent := func(token, method, path string, body any) string {
		return w.refused(http.StatusNotFound, "not_found", token, method, path, body).Detail
	}
	for _, r := range []struct {
		method, path string
		body         any
	}{
		{"GET", "/v1/tenants/NAME/preflight", nil},
		{"GET", "/v1/tenants/NAME/dns", nil},
		{"GET", "/v1/tenants/NAME/probes", nil},
		{"POST", "/v1/tenants/NAME/probes", nil},
	} {
		foreign := absent("globex", r.method, strings.Replace(r.path, "NAME", "example", 1), r.body)
		never := absent("globex", r.method, strings.Replace(r.path, "NAME", "exampl2", 1), r.body)
		if strings.ReplaceAll(foreign, "example", "exampl2") != never {
			t.Errorf("%s %s: %q, of one that never was %q", r.method, r.path, foreign, never)
		}
	}
	absent("globex", "POST", "/v1/cutovers", request("Integrations"))
	absent("globex", "GET", "/v1/cutovers/"+c.ID, nil)
	absent("globex", "POST", "/v1/cutovers/"+c.ID+"/rollback", client.Rollback{})
	absent("globex", "POST", "/v1/cutovers/"+c.ID+"/acknowledge", client.Acknowledgement{Blockers: []string{"PublicClients"}})
	for _, q := range []string{"", "?tenant=example", "?organization=example-corp"} {
		if a := w.send("globex", "GET", "/v1/cutovers"+q, nil); a.status != http.StatusOK || a.body != `{"items":[]}`+"\n" {
			t.Errorf("%s: %d %s", q, a.status, a.body)
		}
	}
	if got := must[client.Cutover](w, "example", "GET", "/v1/cutovers/"+c.ID, nil); got.Status.State != "rehearsing" {
		t.Errorf("somebody else changed it: %+v", got)
	}
}

func TestProbesAreDrawnAndSeen(t *testing.T) {
	w, vpce := newCutoverWorld(t)
	p := must[client.Probe](w, "example", "POST", "/v1/tenants/example/probes", nil)
	nonce, ok := strings.CutSuffix(p.ServerName, ".probe.example.privatelink.example.com")
	if !ok || len(nonce) < 20 || p.VPCEndpointID != "" || !p.SeenAt.IsZero() {
		t.Errorf("%+v", p)
	}
	if e := postern.CheckHostname("name", p.ServerName); e != nil {
		t.Error(e)
	}
	if other := must[client.Probe](w, "example", "POST", "/v1/tenants/example/probes", nil); other.ServerName == p.ServerName {
		t.Error("the same name twice")
	}
	w.update(func(tx *store.Tx) error {
		return tx.AddArrivals([]postern.ArrivalCount{{
			Region: virginia, Listener: "private", EndpointID: vpce, ServerName: p.ServerName, Denial: postern.DenyUnknownHost,
			Organization: "example-corp", Count: 1, FirstSeen: w.clock(), LastSeen: w.clock(),
		}})
	})
	p.VPCEndpointID, p.SeenAt = vpce, w.clock()
	all := must[client.Page[client.Probe]](w, "viewer", "GET", "/v1/tenants/example/probes", nil).Items
	if len(all) != 2 || !slices.Contains(all, p) {
		t.Errorf("%+v, want %+v among them", all, p)
	}
	w.refused(http.StatusForbidden, "forbidden", "viewer", "POST", "/v1/tenants/example/probes", nil)
}

func TestDNSOfATenant(t *testing.T) {
	w, vpce := newCutoverWorld(t)
	w.proven(vpce)
	dns := func() client.TenantDNS {
		return must[client.TenantDNS](w, "viewer", "GET", "/v1/tenants/example/dns", nil)
	}
	d := dns()
	want := []client.DNSRecord{{Name: "example.hosted.example.com", Type: "A", TTL: 1, Value: "192.0.2.10"}}
	if diff := cmp.Diff(want, d.Vendor); diff != "" || d.Published || d.Detail != "no server of the zones is configured" {
		t.Errorf("%+v %s", d, diff)
	}
	names := must[client.Endpoint](w, "viewer", "GET", "/v1/endpoints/"+vpce, nil).Status.DNSNames
	network := []client.NetworkDNS{{
		VPCEndpointID: vpce, ServiceRegion: virginia, Record: client.DNSRecord{Name: "example.privatelink.example.com", Type: "CNAME", Value: names[0]},
	}}
	if diff := cmp.Diff(network, d.Customer); diff != "" {
		t.Error(diff)
	}
	must[client.Cutover](w, "example", "POST", "/v1/cutovers", request("Integrations"))
	fallback := client.DNSRecord{Name: "example.privatelink.example.com", Type: "A", TTL: 1, Value: "192.0.2.10"}
	if diff := cmp.Diff(append(want, fallback), dns().Vendor); diff != "" {
		t.Errorf("until the fallback is known: %s", diff)
	}
	w.update(func(tx *store.Tx) error {
		c, err := tx.FindCurrentCutover("example")
		if err != nil {
			return err
		}
		c.RedirectedAt = w.clock()
		_, err = tx.UpdateCutover(c)
		return err
	})
	want = []client.DNSRecord{{Name: "example.hosted.example.com", Type: "CNAME", TTL: 1, Value: "example.privatelink.example.com"}, fallback}
	if diff := cmp.Diff(want, dns().Vendor); diff != "" {
		t.Errorf("rehearsing: %s", diff)
	}
	// AWS names an endpoint some time after it was created.
	w.update(func(tx *store.Tx) error {
		e, err := tx.FindEndpoint(vpce)
		if err != nil {
			return err
		}
		e.DNSNames = nil
		_, err = tx.UpdateEndpoint(e)
		return err
	})
	if d := dns(); len(d.Customer) > 0 {
		t.Errorf("of an endpoint without a name: %+v", d.Customer)
	}
	if a := w.send("viewer", "GET", "/v1/tenants/example-eu/dns", nil); !strings.Contains(a.body, `"vendor":[]`) || !strings.Contains(a.body, `"customer":[]`) {
		t.Errorf("of a tenant without a public side: %d %s", a.status, a.body)
	}
}
