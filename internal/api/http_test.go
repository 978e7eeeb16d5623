package api_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/api"
	"github.com/postern-net/postern/internal/platformfile"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestOpenAPI(t *testing.T) {
	p, err := platformfile.Builtin("immuta")
	if err != nil {
		t.Fatal(err)
	}
	got, err := api.New(api.Config{Platform: p, Version: "v1"}).OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("openapi.yaml", got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("internal/api/openapi.yaml differs; if that is meant, go test ./internal/api -run OpenAPI -update\n%s", diff)
	}
}

func TestMalformedRequestsAreProblemsToo(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, method, path string
		body               any
		header             string
		status             int
		code, field        string
	}{
		{"no JSON", "POST", "/v1/organizations", "{", "", 400, "invalid", ""},
		{"no body", "POST", "/v1/organizations", nil, "", 400, "invalid", ""},
		{"a missing field", "POST", "/v1/organizations", `{"id":"a"}`, "", 422, "invalid", ""},
		{"an unknown field", "POST", "/v1/organizations", `{"id":"a","spec":{"titel":"b"}}`, "", 422, "invalid", "spec.titel"},
		{"a wrong type", "POST", "/v1/organizations", `{"id":7,"spec":{}}`, "", 422, "invalid", "id"},
		{"another content type", "POST", "/v1/organizations", `a=b`, "Content-Type: application/x-www-form-urlencoded", 415, "invalid", ""},
		{"too large", "POST", "/v1/organizations", `{"id":"` + strings.Repeat("a", 2<<20) + `"}`, "", 413, "invalid", ""},
		{"a bad label", "POST", "/v1/organizations", client.Organization{ID: "A.B"}, "", 400, "invalid", "id"},
		{"a page size of 0", "GET", "/v1/tenants?page_size=0", nil, "", 422, "invalid", "page_size"},
		{"a page size of 1001", "GET", "/v1/tenants?page_size=1001", nil, "", 422, "invalid", "page_size"},
		{"a bad page token", "GET", "/v1/tenants?page_token=%21", nil, "", 400, "invalid", "page_token"},
		{"a page token that is no query", "GET", "/v1/tenants?page_token=%%%", nil, "", 400, "invalid", "page_token"},
		{"a page token of a record that is no query", "GET", "/v1/events?page_size=2&page_token=%zz", nil, "", 400, "invalid", "page_token"},
		{"a filter that is no query", "GET", "/v1/endpoints?organization=%", nil, "", 400, "invalid", "organization"},
		{"a token named as Postern's policy", "POST", "/v1/tokens", `{"spec":{"name":" Policy","role":"operator"}}`, "", 400, "invalid", "spec.name"},
		{"another list's page token", "GET", "/v1/events?page_token=YWJj", nil, "", 400, "invalid", "page_token"},
		{"an unknown state", "GET", "/v1/endpoints?state=fine", nil, "", 400, "invalid", "state"},
		{"an unsupported region", "GET", "/v1/regions?region=us-east-2", nil, "", 400, "invalid", "region"},
		{"a long ID", "GET", "/v1/tenants/" + strings.Repeat("a", 200), nil, "", 422, "invalid", "path.id"},
		{"no such route", "GET", "/v1/nothing", nil, "", 404, "not_found", ""},
		{"no such method", "PUT", "/v1/tenants", nil, "", 404, "not_found", ""},
		{"a tenant of no organization", "POST", "/v1/tenants", client.Tenant{ID: "a", Spec: client.TenantSpec{Organization: "nobody", Region: virginia}}, "", 404, "not_found", ""},
		{"a tenant in a zone", "POST", "/v1/tenants", client.Tenant{ID: "a", Spec: client.TenantSpec{Organization: "globex", Region: "us-east-1a"}}, "", 400, "invalid", "spec.region"},
		{"a tenant that is there", "POST", "/v1/tenants", client.Tenant{ID: "example", Spec: client.TenantSpec{Organization: "globex", Region: virginia}}, "", 409, "conflict", "id"},
		{"a token of an unknown role", "POST", "/v1/tokens", `{"spec":{"name":"a","role":"root"}}`, "", 422, "invalid", "spec.role"},
		{"a token of no organization", "POST", "/v1/tokens", `{"spec":{"name":"a","role":"organization-admin"}}`, "", 400, "invalid", "spec.organization"},
		{"a token of an absent organization", "POST", "/v1/tokens", `{"spec":{"name":"a","role":"organization-admin","organization":"nobody"}}`, "", 404, "not_found", ""},
		{"an organization that has tenants", "DELETE", "/v1/organizations/globex", nil, "", 409, "conflict", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var headers []string
			if c.header != "" {
				headers = []string{c.header}
			}
			p := w.refused(c.status, c.code, "admin", c.method, c.path, c.body, headers...)
			if len(p.Errors) > 0 && (p.Errors[0].Message == "" || c.field != "" && p.Errors[0].Field != c.field) {
				t.Errorf("%+v, want field %q", p.Errors, c.field)
			}
		})
	}
}

func TestWhatBreaksInsideIsNotShown(t *testing.T) {
	w := newWorld(t)
	c := w.config
	c.Cloud = panicking{}
	a := w.sendTo(t.Context(), api.New(c), "example", "POST", "/v1/accounts", client.Proof{
		Organization: "example-corp", Nonce: w.challenge("example", "example-corp").Nonce, Region: virginia, Authorization: "a", Date: "d",
	})
	if p := a.problem(t); a.status != http.StatusInternalServerError || p.Type != "urn:postern:problem:internal" || strings.Contains(a.body, "wires") || p.RequestID == "" {
		t.Errorf("a panic: %d %s", a.status, a.body)
	}
	if !strings.Contains(w.log.String(), "crossed wires") || !strings.Contains(w.log.String(), "account_test.go") && !strings.Contains(w.log.String(), "http_test.go") {
		t.Error("the panic is not in the log with its stack")
	}
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	p := w.refused(http.StatusInternalServerError, "internal", "admin", "GET", "/v1/tenants", nil)
	if strings.Contains(p.Detail, "sql") || strings.Contains(p.Detail, "database") {
		t.Errorf("a broken store: %s", p.Detail)
	}
	if !strings.Contains(w.log.String(), "request_id="+p.RequestID+" error=") {
		t.Error("the error is not in the log, by the request's ID")
	}
}

type panicking struct{ api.Cloud }

func (panicking) CallerIdentity(context.Context, client.Proof, string) (postern.Caller, error) {
	panic("crossed wires")
}

func TestPaging(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		must[client.Organization](w, "admin", "POST", "/v1/organizations", client.Organization{ID: fmt.Sprintf("o%d", i)})
	}
	for list, want := range map[string]int{"/v1/organizations": 7, "/v1/tenants": 3, "/v1/accounts": 2, "/v1/tokens": len(tokens), "/v1/events": len(w.events())} {
		seen := map[string]bool{}
		path, pages := list+"?page_size=2", 0
		for {
			page := must[client.Page[map[string]any]](w, "admin", "GET", path, nil)
			pages++
			if len(page.Items) > 2 {
				t.Errorf("%s: a page of %d", list, len(page.Items))
			}
			for _, item := range page.Items {
				seen[fmt.Sprint(item["id"], item["seq"])] = true
			}
			if page.NextPageToken == "" {
				break
			}
			path = list + "?page_size=2&page_token=" + page.NextPageToken
		}
		if len(seen) != want || pages != (want+1)/2 {
			t.Errorf("%s: %d items on %d pages, want %d: %v", list, len(seen), pages, want, seen)
		}
	}
	if a := w.send("admin", "GET", "/v1/endpoints", nil); a.body != `{"items":[]}`+"\n" {
		t.Errorf("an empty list is %s", a.body)
	}
}

func TestChangesAreConditional(t *testing.T) {
	w := newWorld(t)
	id := w.create("example-corp", virginia)
	must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}))
	path, body := "/v1/endpoints/"+id, client.EndpointUpdate{Tenants: []string{"example"}}
	old := w.send("example", "GET", path, nil).header.Get("ETag")
	if old != `"1"` {
		t.Errorf("ETag %s", old)
	}
	changed := w.send("example", "PATCH", path, body, "If-Match: "+old)
	if changed.status != http.StatusOK || changed.header.Get("ETag") != `"2"` {
		t.Errorf("%d %v %s", changed.status, changed.header, changed.body)
	}
	for _, c := range []struct{ method, path, token string }{
		{"PATCH", path, "example"},
		{"DELETE", path, "example"},
		{"POST", path + "/approve", "operator"},
		{"DELETE", "/v1/tenants/example-eu", "admin"},
		{"DELETE", "/v1/organizations/globex", "admin"},
	} {
		var b any
		if c.method == "PATCH" {
			b = body
		}
		p := w.refused(http.StatusConflict, "conflict", c.token, c.method, c.path, b, `If-Match: "999"`)
		if p.Errors[0].Field != "If-Match" {
			t.Errorf("%s %s: %+v", c.method, c.path, p.Errors)
		}
	}
	n := len(w.events())
	for _, good := range []string{`"2"`, `W/"2"`, "*"} {
		if a := w.send("example", "PATCH", path, body, "If-Match: "+good); a.status != http.StatusOK || a.header.Get("ETag") != `"2"` {
			t.Errorf("If-Match %s: %d %v %s", good, a.status, a.header, a.body)
		}
	}
	if len(w.events()) != n {
		t.Error("what changes nothing is recorded")
	}
}

func TestIdempotencyKeys(t *testing.T) {
	w := newWorld(t)
	body := client.Organization{ID: "acme", Spec: client.OrganizationSpec{Title: "Acme"}}
	first := w.send("admin", "POST", "/v1/organizations", body, "Idempotency-Key: k")
	n := len(w.events())
	second := w.send("admin", "POST", "/v1/organizations", body, "Idempotency-Key: k")
	if first.status != http.StatusCreated || second.status != http.StatusCreated || first.body != second.body || len(w.events()) != n {
		t.Errorf("%d %s, then %d %s", first.status, first.body, second.status, second.body)
	}
	p := w.refused(http.StatusConflict, "conflict", "admin", "POST", "/v1/organizations", client.Organization{ID: "other"}, "Idempotency-Key: k")
	if p.Errors[0].Field != "Idempotency-Key" {
		t.Errorf("%+v", p.Errors)
	}
	w.refused(http.StatusConflict, "conflict", "admin", "POST", "/v1/tenants", client.Tenant{ID: "k", Spec: client.TenantSpec{Organization: "acme", Region: virginia}}, "Idempotency-Key: k")
	w.refused(http.StatusConflict, "conflict", "admin", "POST", "/v1/organizations", body) // no key: a new request

	// A refused request is not remembered.
	tenant := client.Tenant{ID: "t", Spec: client.TenantSpec{Organization: "later", Region: virginia}}
	w.refused(http.StatusNotFound, "not_found", "admin", "POST", "/v1/tenants", tenant, "Idempotency-Key: t")
	must[client.Organization](w, "admin", "POST", "/v1/organizations", client.Organization{ID: "later"})
	must[client.Tenant](w, "admin", "POST", "/v1/tenants", tenant, "Idempotency-Key: t")

	// A claim is answered as it was, whatever became of it.
	id := w.create("example-corp", virginia)
	before := w.send("example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}), "Idempotency-Key: k")
	w.rest()
	after := w.send("example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}), "Idempotency-Key: k")
	if before.status != http.StatusCreated || after.body != before.body {
		t.Errorf("%d %s, then %d %s", before.status, before.body, after.status, after.body)
	}
	// Another token's key is another key.
	w.refused(http.StatusConflict, "conflict", "operator", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}), "Idempotency-Key: k")
}

func TestASecretIsShownOnce(t *testing.T) {
	w := newWorld(t)
	body := client.Token{Spec: client.TokenSpec{Name: "ci", Role: "operator"}}
	made := must[client.Token](w, "admin", "POST", "/v1/tokens", body, "Idempotency-Key: k")
	w.secrets = append(w.secrets, made.Secret)
	p := w.refused(http.StatusConflict, "conflict", "admin", "POST", "/v1/tokens", body, "Idempotency-Key: k")
	if !strings.Contains(p.Detail, made.ID) || strings.Contains(p.Detail, made.Secret) {
		t.Error(p.Detail)
	}
	for _, path := range []string{"/v1/tokens", "/v1/events", "/v1/whoami"} {
		if a := w.send("admin", "GET", path, nil); strings.Contains(a.body, made.Secret) || strings.Contains(a.body, secretOf("admin")) {
			t.Errorf("%s shows a secret: %s", path, a.body)
		}
	}
	if n := len(must[client.Page[client.Token]](w, "admin", "GET", "/v1/tokens", nil).Items); n != len(tokens)+1 {
		t.Errorf("%d tokens, want %d", n, len(tokens)+1)
	}
}

func TestCatalogue(t *testing.T) {
	w := newWorld(t)
	regions := func(query string) (ids []string) {
		for _, o := range must[client.Page[client.Offer]](w, "viewer", "GET", "/v1/regions"+query, nil).Items {
			ids = append(ids, o.Region)
		}
		return ids
	}
	for query, want := range map[string][]string{
		"": {virginia, oregon, ireland}, "?region=us-west-2": {oregon, virginia}, "?tenant=example-eu": {ireland},
	} {
		if diff := cmp.Diff(want, regions(query)); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	if a := w.send("viewer", "GET", "/v1/platform", nil); a.status != 200 || strings.Contains(a.body, "backends") || strings.Contains(a.body, "load_balancer_sources") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestAnOrganizationComesAndGoes(t *testing.T) {
	w := newWorld(t)
	must[client.Organization](w, "admin", "POST", "/v1/organizations", client.Organization{ID: "acme", Spec: client.OrganizationSpec{Title: "Acme"}})
	must[client.Tenant](w, "admin", "POST", "/v1/tenants", client.Tenant{ID: "acme", Spec: client.TenantSpec{Organization: "acme", Region: virginia}})
	tenant := must[client.Tenant](w, "operator", "GET", "/v1/tenants/acme", nil)
	want := client.TenantStatus{
		State: "public", Segment: "na", Hostname: "acme.hosted.example.com", PrivateLinkHostname: "acme.privatelink.example.com", VPCEndpointIDs: []string{},
	}
	if diff := cmp.Diff(want, tenant.Status); diff != "" {
		t.Error(diff)
	}
	must[struct{}](w, "admin", "DELETE", "/v1/tenants/acme", nil)
	must[struct{}](w, "admin", "DELETE", "/v1/organizations/acme", nil)
	w.refused(http.StatusNotFound, "not_found", "admin", "GET", "/v1/organizations/acme", nil)
}

// What describes the API is made when it is asked for first, by many at once.
func TestDescriptionForMany(t *testing.T) {
	w := newWorld(t)
	var asking sync.WaitGroup
	for i := range 16 {
		path := []string{"/openapi.json", "/openapi.yaml", "/openapi-3.0.json", "/openapi-3.0.yaml"}[i%4]
		asking.Go(func() {
			rec := httptest.NewRecorder()
			w.api.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
			if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "openapi") || !strings.HasPrefix(rec.Header().Get("Content-Type"), "application/openapi+") {
				t.Errorf("%s: %d %v", path, rec.Code, rec.Header())
			}
		})
	}
	asking.Wait()
}
