package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

// The name of a tenant that was deleted is nobody else's while a node may lead
// that one's endpoints to its hosts.
func TestANameIsNotAnothersWhileNodesOfferIt(t *testing.T) {
	w := newWorld(t)
	w.withSCIM()
	w.update(func(tx *store.Tx) error {
		_, _, err := tx.UpsertNode(postern.Node{ID: "stale", LastSeen: w.clock()})
		return err
	})
	admin := func(method, path string, in any) { must[struct{}](w, "admin", method, path, in) }
	create := func(organization string) {
		t.Helper()
		must[client.Tenant](w, "admin", "POST", "/v1/tenants", client.Tenant{ID: "acme", Spec: client.TenantSpec{Organization: organization, Region: virginia}})
	}
	refused := func(organization string) {
		t.Helper()
		p := w.refused(http.StatusConflict, "conflict", "admin", "POST", "/v1/tenants", client.Tenant{ID: "acme", Spec: client.TenantSpec{Organization: organization, Region: virginia}})
		if len(p.Errors) != 1 || p.Errors[0].Field != "id" || !strings.Contains(p.Errors[0].Message, "node stale") || !strings.Contains(p.Errors[0].Fix, "postern node fence") {
			t.Errorf("%+v", p)
		}
	}
	must[client.Organization](w, "admin", "POST", "/v1/organizations", client.Organization{ID: "acme", Spec: client.OrganizationSpec{Title: "Acme"}})
	create("acme")
	must[client.SCIMIngress](w, "admin", "PUT", "/v1/tenants/acme/scim", scim(true))
	admin("DELETE", "/v1/tenants/acme", nil)
	refused("globex")

	// Its own organization may have it again; the SCIM ingress that it does not
	// have again is waited for.
	create("acme")
	if got := must[client.SCIMIngress](w, "admin", "GET", "/v1/tenants/acme/scim", nil).Status.WaitsFor; len(got) != 1 || got[0] != "stale" {
		t.Errorf("its SCIM ingress waits for %v", got)
	}
	admin("DELETE", "/v1/tenants/acme", nil)
	refused("globex")

	// An organization of the same name is another one.
	admin("DELETE", "/v1/organizations/acme", nil)
	w.advance(time.Second)
	must[client.Organization](w, "admin", "POST", "/v1/organizations", client.Organization{ID: "acme", Spec: client.OrganizationSpec{Title: "Acme II"}})
	refused("acme")

	must[client.Node](w, "admin", "POST", "/v1/nodes/stale/fence", nil)
	create("globex")
	w.view(func(tx *store.Tx) error {
		all, err := tx.ListWithdrawals("acme")
		for _, w := range all {
			if w.Kind == postern.WithdrawnTenant {
				t.Errorf("what is offered again is waited for: %+v", w)
			}
		}
		return err
	})
}
