package api_test

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/postern-net/postern/client"
)

// withSCIM gives Virginia a SCIM ingress.
func (w *world) withSCIM() {
	w.platform.Domains.SCIM = "scim.example.com"
	w.platform.Segments[0].Regions[0].SCIMIngress = []netip.Addr{netip.MustParseAddr("192.0.2.20")}
}

func scim(enabled bool, sources ...string) any {
	return map[string]any{"spec": client.SCIMIngressSpec{Enabled: enabled, SourceRanges: sources}}
}

func TestSCIMIngressComesAndGoes(t *testing.T) {
	w := newWorld(t)
	w.withSCIM()
	const path = "/v1/tenants/example/scim"
	off := must[client.SCIMIngress](w, "viewer", "GET", path, nil)
	if off.Spec.Enabled || off.ID != "example" || off.Status.Hostname != "example.scim.example.com" || off.Status.BaseURL != "" {
		t.Errorf("before: %+v", off)
	}
	on := must[client.SCIMIngress](w, "example", "PUT", path, scim(true), `If-Match: "`+off.ResourceVersion+`"`)
	if !on.Spec.Enabled || on.Status.BaseURL != "https://example.scim.example.com/scim/v2" || on.Status.EnabledBy == "" || on.Status.EnabledAt.IsZero() || on.ResourceVersion == off.ResourceVersion {
		t.Errorf("on: %+v", on)
	}
	w.refused(http.StatusConflict, "conflict", "example", "PUT", path, scim(false), `If-Match: "`+off.ResourceVersion+`"`)
	same := must[client.SCIMIngress](w, "operator", "PUT", path, scim(true))
	if same.ResourceVersion != on.ResourceVersion || same.Status.EnabledBy != on.Status.EnabledBy {
		t.Errorf("the same again: %+v", same)
	}
	narrow := must[client.SCIMIngress](w, "example", "PUT", path, scim(true, "192.0.2.0/24", "2001:db8::/32"))
	if !slices.Equal(narrow.Spec.SourceRanges, []string{"192.0.2.0/24", "2001:db8::/32"}) {
		t.Errorf("narrow: %+v", narrow)
	}
	if got := must[client.SCIMIngress](w, "example", "PUT", path, scim(false)); got.Spec.Enabled || got.Status.EnabledBy != "" || len(got.Spec.SourceRanges) > 0 {
		t.Errorf("off again: %+v", got)
	}
	want := []string{"tenant.scim-enabled", "tenant.scim-changed", "tenant.scim-disabled"}
	var got []string
	for _, e := range must[client.Page[client.Event]](w, "example", "GET", "/v1/events", nil).Items {
		if strings.HasPrefix(e.Action, "tenant.scim") && e.Subject == "example" {
			got = append(got, e.Action)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

func TestSCIMIngressIsRefused(t *testing.T) {
	w := newWorld(t)
	w.refused(http.StatusConflict, "conflict", "example", "PUT", "/v1/tenants/example/scim", scim(true)) // no domain
	w.withSCIM()
	w.refused(http.StatusConflict, "conflict", "example", "PUT", "/v1/tenants/example-eu/scim", scim(true)) // none there
	for _, sources := range [][]string{{"192.0.2.7"}, {"192.0.2.7/24"}, {"0.0.0.0/0"}, {"example"}, {"192.0.2.0/24", "192.0.2.0/24"}, {""}} {
		w.refused(http.StatusBadRequest, "invalid", "example", "PUT", "/v1/tenants/example/scim", scim(true, sources...))
	}
	w.refused(http.StatusBadRequest, "invalid", "example", "PUT", "/v1/tenants/example/scim", scim(false, "192.0.2.0/24"))
	w.refused(http.StatusForbidden, "forbidden", "viewer", "PUT", "/v1/tenants/example/scim", scim(true))
	for _, method := range []string{"GET", "PUT"} {
		var body any
		if method == "PUT" {
			body = scim(true)
		}
		foreign := w.refused(http.StatusNotFound, "not_found", "example", method, "/v1/tenants/globex/scim", body)
		absent := w.refused(http.StatusNotFound, "not_found", "example", method, "/v1/tenants/nobody/scim", body)
		if strings.ReplaceAll(foreign.Detail, "globex", "X") != strings.ReplaceAll(absent.Detail, "nobody", "X") {
			t.Errorf("%s tells absent from foreign: %q, %q", method, foreign.Detail, absent.Detail)
		}
	}
	if got := must[client.SCIMIngress](w, "globex", "GET", "/v1/tenants/globex/scim", nil); got.Spec.Enabled {
		t.Error("another organization turned it on")
	}
}
