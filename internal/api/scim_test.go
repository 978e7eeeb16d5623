package api_test

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
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

// Who turns it off, or narrows it, is told which nodes have not acknowledged
// that; who turns it on for everybody waits for none.
func TestSCIMIngressTellsWhoHasNotFollowed(t *testing.T) {
	w := newWorld(t)
	w.withSCIM()
	w.update(func(tx *store.Tx) error {
		for _, n := range []postern.Node{{ID: "n1"}, {ID: "n2"}, {ID: "gone"}} {
			n.LastSeen = w.clock()
			if _, _, err := tx.UpsertNode(n); err != nil {
				return err
			}
		}
		return nil
	})
	const path = "/v1/tenants/example/scim"
	waits := func(of client.SCIMIngress, want ...string) {
		t.Helper()
		if !slices.Equal(of.Status.WaitsFor, want) {
			t.Errorf("waits for %v, want %v", of.Status.WaitsFor, want)
		}
	}
	put := func(spec any) client.SCIMIngress { return must[client.SCIMIngress](w, "example", "PUT", path, spec) }
	obey := func(revision int64, ids ...string) {
		w.update(func(tx *store.Tx) error {
			for _, id := range ids {
				n, err := tx.FindNode(id)
				n.AppliedRevision = revision
				if _, _, err2 := tx.UpsertNode(n); err != nil || err2 != nil {
					return errors.Join(err, err2)
				}
			}
			return nil
		})
	}
	waits(put(scim(true)))
	waits(put(scim(true, "192.0.2.0/24")), "gone", "n1", "n2") // no table says so yet
	waits(put(scim(false)), "gone", "n1", "n2")
	w.rest()
	var published int64
	w.view(func(tx *store.Tx) error {
		r, err := tx.FindRoutes()
		published = r.Revision
		return err
	})
	obey(published, "n2")
	waits(must[client.SCIMIngress](w, "example", "GET", path, nil), "gone", "n1")
	obey(published+1, "n1")
	waits(must[client.SCIMIngress](w, "example", "GET", path, nil), "gone")
	must[client.Node](w, "admin", "POST", "/v1/nodes/gone/fence", nil)
	waits(must[client.SCIMIngress](w, "example", "GET", path, nil))
	w.rest()
	var told []string
	for _, e := range must[client.Page[client.Event]](w, "example", "GET", "/v1/events", nil).Items {
		if e.Action == "tenant.withdrawn" {
			told = append(told, e.Subject+": "+e.Message)
		}
	}
	if len(told) != 1 || !strings.HasPrefix(told[0], "example: the change of its SCIM-only public ingress") {
		t.Errorf("events %q", told)
	}
	obey(published, "n1")
	waits(put(scim(true)))
	waits(put(scim(false)), "n1", "n2")
	waits(put(scim(true, "192.0.2.0/24")), "n1", "n2") // which may still admit everybody
	waits(put(scim(false)), "n1", "n2")
	waits(put(scim(true))) // offered again
	w.view(func(tx *store.Tx) error {
		all, err := tx.ListWithdrawals("example")
		if len(all) > 0 {
			t.Errorf("still waits: %+v", all)
		}
		return err
	})
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
