package api_test

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

// withApp adds the shared app of the seeds, with backends in one segment.
func (w *world) withApp() {
	w.platform.Apps = append(w.platform.Apps, postern.App{
		ID: "request", Title: "Request", Port: 443, Hosts: []string{"app.example.com", "market.example.com"}, Requires: "govern", SingleSegment: true,
	})
	w.platform.Segments[0].Regions[1].Backends = map[string][]netip.AddrPort{"request": {netip.MustParseAddrPort("10.0.0.9:443")}}
}

// private makes a tenant's cutover complete.
func (w *world) private(tenant, organization string) {
	w.update(func(tx *store.Tx) error {
		_, err := tx.CreateCutover(postern.Cutover{ID: "cut_" + tenant, Tenant: tenant, Organization: organization, Phase: postern.CutoverComplete, EndedAt: w.clock()})
		return err
	})
}

func app(enabled bool) any { return map[string]any{"spec": client.AppAccessSpec{Enabled: enabled}} }

func reasons(a client.AppAccess) (out []string) {
	for _, c := range a.Status.Conditions {
		out = append(out, c.Type+"="+c.Reason)
	}
	return out
}

func TestAppComesAndGoes(t *testing.T) {
	w := newWorld(t)
	w.withApp()
	const path = "/v1/organizations/globex/apps/request"
	off := must[client.AppAccess](w, "globex", "GET", path, nil)
	if off.Spec.Enabled || off.ResourceVersion != "0" || !slices.Equal(reasons(off), []string{"Ready=NotEnabled", "RequiredAppPrivate=RequiredPublic", "SingleSegment=OneSegment"}) {
		t.Errorf("before: %+v", off)
	}
	p := w.refused(http.StatusConflict, "conflict", "globex", "PUT", path, app(true))
	if len(p.Errors) != 1 || p.Errors[0].Field != "RequiredAppPrivate" || !strings.Contains(p.Errors[0].Message, "must be private first") {
		t.Errorf("Govern is public: %+v", p)
	}
	w.private("globex", "globex")
	endpoint := w.create("globex", virginia) // in the segment of its tenant
	w.rest()
	must[client.ClaimResult](w, "globex", "POST", "/v1/endpoint-claims", claim("globex", []string{endpoint}))
	w.rest()
	on := must[client.AppAccess](w, "globex", "PUT", path, app(true), `If-Match: "0"`)
	if !on.Spec.Enabled || on.ResourceVersion != "1" || on.Status.ChangedBy != "globex" || len(on.Status.Customer) != 1 || on.Status.Customer[0].VPCEndpointID != endpoint {
		t.Fatalf("on: %+v", on)
	}
	records := on.Status.Customer[0].Records
	if len(records) != 2 || records[0].Name != "app.example.com" || records[1].Name != "market.example.com" || records[0].Type != "CNAME" || !strings.HasPrefix(records[0].Value, endpoint) {
		t.Errorf("records: %+v", records)
	}
	dns := must[client.TenantDNS](w, "globex", "GET", "/v1/tenants/globex/dns", nil)
	if len(dns.Customer) != 1 || !slices.Equal(dns.Customer[0].Apps, records) {
		t.Errorf("the tenant's DNS: %+v", dns.Customer)
	}
	w.refused(http.StatusConflict, "conflict", "globex", "PUT", path, app(false), `If-Match: "0"`)
	if same := must[client.AppAccess](w, "operator", "PUT", path, app(true)); same.ResourceVersion != "1" {
		t.Errorf("the same again: %+v", same)
	}
	if list := must[client.Page[client.AppAccess]](w, "globex", "GET", "/v1/organizations/globex/apps", nil).Items; len(list) != 1 || list[0].ID != "request" || !list[0].Spec.Enabled {
		t.Errorf("list: %+v", list)
	}
	gone := must[client.AppAccess](w, "globex", "PUT", path, app(false))
	if gone.Spec.Enabled || len(gone.Status.Customer) > 0 || gone.ResourceVersion != "2" {
		t.Errorf("off again: %+v", gone)
	}
	var actions []string
	for _, e := range must[client.Page[client.Event]](w, "globex", "GET", "/v1/events", nil).Items {
		if strings.HasPrefix(e.Action, "app.") {
			actions = append(actions, e.Action)
		}
	}
	if !slices.Equal(actions, []string{"app.enabled", "app.disabled"}) {
		t.Errorf("events: %v", actions)
	}
}

func TestAppIsRefused(t *testing.T) {
	w := newWorld(t)
	w.withApp()
	w.private("example", "example-corp")
	p := w.refused(http.StatusConflict, "conflict", "example", "PUT", "/v1/organizations/example-corp/apps/request", app(true))
	if len(p.Errors) != 1 || p.Errors[0].Field != "SingleSegment" || !strings.Contains(p.Errors[0].Message, "example in na; example-eu in eu") {
		t.Errorf("in two segments: %+v", p)
	}
	w.refused(http.StatusForbidden, "forbidden", "viewer", "PUT", "/v1/organizations/example-corp/apps/request", app(true))
	w.refused(http.StatusNotFound, "not_found", "example", "PUT", "/v1/organizations/example-corp/apps/govern", app(true))
	w.refused(http.StatusNotFound, "not_found", "example", "GET", "/v1/organizations/example-corp/apps/none", nil)
	for _, path := range []string{"/v1/organizations/{x}/apps", "/v1/organizations/{x}/apps/request"} {
		foreign := w.refused(http.StatusNotFound, "not_found", "example", "GET", strings.ReplaceAll(path, "{x}", "globex"), nil)
		absent := w.refused(http.StatusNotFound, "not_found", "example", "GET", strings.ReplaceAll(path, "{x}", "nobody"), nil)
		if strings.ReplaceAll(foreign.Detail, "globex", "X") != strings.ReplaceAll(absent.Detail, "nobody", "X") {
			t.Errorf("%s tells absent from foreign: %q, %q", path, foreign.Detail, absent.Detail)
		}
	}
	w.refused(http.StatusNotFound, "not_found", "example", "PUT", "/v1/organizations/globex/apps/request", app(true))

	// Where the platform does not serve it, there is nothing to reach.
	w.platform.Segments[0].Regions[1].Backends = nil
	w.private("globex", "globex")
	p = w.refused(http.StatusConflict, "conflict", "globex", "PUT", "/v1/organizations/globex/apps/request", app(true))
	if len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Message, "in no region") {
		t.Errorf("without backends: %+v", p)
	}
}

// Who adds a tenant in another segment is told what it breaks, and must accept
// it by name.
func TestATenantInAnotherSegmentIsToldWhatItBreaks(t *testing.T) {
	w := newWorld(t)
	w.withApp()
	w.private("globex", "globex")
	must[client.AppAccess](w, "globex", "PUT", "/v1/organizations/globex/apps/request", app(true))
	tenant := func(id, region string) client.Tenant {
		return client.Tenant{ID: id, Spec: client.TenantSpec{Organization: "globex", Region: region}}
	}
	p := w.refused(http.StatusConflict, "conflict", "admin", "POST", "/v1/tenants", tenant("globex-eu", ireland))
	if len(p.Errors) != 1 || p.Errors[0].Value != "request" || !strings.Contains(p.Errors[0].Message, "globex in na; globex-eu in eu") || !strings.Contains(p.Errors[0].Fix, "--acknowledge request") {
		t.Errorf("%+v", p)
	}
	w.refused(http.StatusConflict, "conflict", "admin", "POST", "/v1/tenants?acknowledge=other", tenant("globex-eu", ireland))
	must[client.Tenant](w, "admin", "POST", "/v1/tenants", tenant("globex-east", virginia)) // the same segment
	must[client.Tenant](w, "admin", "POST", "/v1/tenants?acknowledge=request", tenant("globex-eu", ireland))
	got := must[client.AppAccess](w, "globex", "GET", "/v1/organizations/globex/apps/request", nil)
	if !slices.Equal(reasons(got), []string{"Ready=NotReady", "RequiredAppPrivate=RequiredPrivate", "SingleSegment=SeveralSegments"}) {
		t.Errorf("afterwards: %v", reasons(got))
	}
	must[client.Tenant](w, "admin", "POST", "/v1/tenants", tenant("globex-eu-2", ireland)) // nothing is left to break
	w.refused(http.StatusConflict, "conflict", "admin", "POST", "/v1/tenants", tenant("globex-eu", ireland))
}

// Who deletes the last private tenant is told what goes with it, and must accept
// it by name; who rolls it back is told afterwards.
func TestTheLastPrivateTenantTakesAppsAlong(t *testing.T) {
	for name, lose := range map[string]func(*world){
		"deleted": func(w *world) {
			const path = "/v1/tenants/globex"
			p := w.refused(http.StatusConflict, "conflict", "admin", "DELETE", path, nil)
			if len(p.Errors) != 1 || p.Errors[0].Value != "request" || !strings.Contains(p.Errors[0].Message, "could be private first") || !strings.Contains(p.Errors[0].Fix, "--acknowledge request") {
				w.t.Errorf("%+v", p)
			}
			w.refused(http.StatusConflict, "conflict", "admin", "DELETE", path+"?acknowledge=other", nil)
			must[struct{}](w, "admin", "DELETE", path+"?acknowledge=request", nil)
		},
		"rolled back": func(w *world) {
			c := must[client.Cutover](w, "globex", "POST", "/v1/cutovers/cut_globex/rollback", client.Rollback{})
			if !slices.Equal(c.Status.LostApps, []string{"request"}) {
				w.t.Errorf("%+v", c.Status)
			}
			events := must[client.Page[client.Event]](w, "globex", "GET", "/v1/events", nil).Items
			if !slices.ContainsFunc(events, func(e client.Event) bool {
				return e.Action == "cutover.rolled-back" && strings.HasSuffix(e.Message, "; with it goes private access to app request")
			}) {
				w.t.Errorf("%+v", events)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.withApp()
			w.private("globex", "globex")
			must[client.Tenant](w, "admin", "POST", "/v1/tenants", client.Tenant{ID: "globex-east", Spec: client.TenantSpec{Organization: "globex", Region: virginia}})
			must[client.AppAccess](w, "globex", "PUT", "/v1/organizations/globex/apps/request", app(true))
			w.private("globex-east", "globex")
			if c := must[client.Cutover](w, "globex", "POST", "/v1/cutovers/cut_globex-east/rollback", client.Rollback{}); len(c.Status.LostApps) > 0 {
				t.Errorf("one of two: %v", c.Status.LostApps)
			}
			must[struct{}](w, "admin", "DELETE", "/v1/tenants/globex-east", nil)
			lose(w)
			got := must[client.AppAccess](w, "globex", "GET", "/v1/organizations/globex/apps/request", nil)
			if !slices.Contains(reasons(got), "RequiredAppPrivate=RequiredPublic") {
				t.Errorf("afterwards: %v", reasons(got))
			}
		})
	}
}
