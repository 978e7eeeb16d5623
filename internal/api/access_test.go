package api_test

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

// Who may call what. Every route has a row here, written by hand: a change of
// a route's roles is a change of this table.
var mayCall = map[string]string{
	"GET /v1/whoami":                  "admin operator example viewer node",
	"GET /v1/regions":                 "admin operator example viewer",
	"GET /v1/platform":                "admin operator example viewer",
	"GET /v1/organizations":           "admin operator example viewer",
	"POST /v1/organizations":          "admin",
	"GET /v1/organizations/{id}":      "admin operator example viewer",
	"DELETE /v1/organizations/{id}":   "admin",
	"GET /v1/tenants":                 "admin operator example viewer",
	"POST /v1/tenants":                "admin",
	"GET /v1/tenants/{id}":            "admin operator example viewer",
	"DELETE /v1/tenants/{id}":         "admin",
	"POST /v1/account-challenges":     "admin example",
	"POST /v1/accounts":               "admin example",
	"GET /v1/accounts":                "admin operator example viewer",
	"GET /v1/accounts/{id}":           "admin operator example viewer",
	"DELETE /v1/accounts/{id}":        "admin example",
	"POST /v1/endpoint-claims":        "admin operator example",
	"GET /v1/endpoints":               "admin operator example viewer",
	"GET /v1/endpoints/{id}":          "admin operator example viewer",
	"PATCH /v1/endpoints/{id}":        "admin operator example",
	"DELETE /v1/endpoints/{id}":       "admin operator example",
	"POST /v1/endpoints/{id}/approve": "admin operator",
	"GET /v1/connections":             "admin operator example viewer",
	"GET /v1/events":                  "admin operator example viewer",
	"GET /v1/events/watch":            "admin operator example viewer",
	"GET /v1/denials":                 "admin operator example viewer",
	"GET /v1/plan":                    "admin operator",
	"GET /v1/tokens":                  "admin",
	"POST /v1/tokens":                 "admin",
	"DELETE /v1/tokens/{id}":          "admin",

	"GET /v1/data-connections":              "admin operator example viewer",
	"POST /v1/data-connections":             "admin operator example",
	"GET /v1/data-connections/{id}":         "admin operator example viewer",
	"POST /v1/data-connections/{id}/verify": "admin operator example",
	"DELETE /v1/data-connections/{id}":      "admin operator example",
	"GET /v1/outbound-regions":              "admin operator example viewer",
	"GET /v1/workload-tokens":               "admin operator example viewer",
	"POST /v1/workload-tokens":              "admin operator example",
	"DELETE /v1/workload-tokens/{id}":       "admin operator example",

	"GET /v1/organizations/{id}/apps":       "admin operator example viewer",
	"GET /v1/organizations/{id}/apps/{app}": "admin operator example viewer",
	"PUT /v1/organizations/{id}/apps/{app}": "admin operator example",

	"GET /v1/tenants/{id}/scim":          "admin operator example viewer",
	"PUT /v1/tenants/{id}/scim":          "admin operator example",
	"GET /v1/tenants/{id}/preflight":     "admin operator example viewer",
	"GET /v1/tenants/{id}/dns":           "admin operator example viewer",
	"GET /v1/tenants/{id}/probes":        "admin operator example viewer",
	"POST /v1/tenants/{id}/probes":       "admin operator example",
	"GET /v1/cutovers":                   "admin operator example viewer",
	"POST /v1/cutovers":                  "admin operator example",
	"GET /v1/cutovers/{id}":              "admin operator example viewer",
	"POST /v1/cutovers/{id}/acknowledge": "admin operator example",
	"POST /v1/cutovers/{id}/rollback":    "admin operator example",

	"GET /v1/nodes":                   "admin operator",
	"GET /v1/nodes/{id}":              "admin operator",
	"POST /v1/nodes/{id}/fence":       "admin operator",
	"POST /v1/nodes/{id}/unfence":     "admin operator",
	"DELETE /v1/nodes/{id}":           "admin operator",
	"POST /v1/nodelink/registrations": "node",
	"POST /v1/nodelink/reports":       "node",
	"POST /v1/nodelink/backends":      "node",
	"POST /v1/nodelink/clusters":      "node",
	"GET /v1/nodelink/routes":         "node",
}

func TestEveryRouteWithEveryRole(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	for _, r := range w.api.Routes() {
		name := r.Method + " " + r.Path
		seen[name] = true
		row, ok := mayCall[name]
		if !ok {
			t.Errorf("%s has no row in the table", name)
			continue
		}
		path := strings.ReplaceAll(r.Path, "{id}", "absent")
		for token := range tokens {
			if token == "globex" {
				continue // the same role as example
			}
			a := w.send(token, r.Method, path, nil)
			if slices.Contains(strings.Fields(row), token) {
				if a.status == http.StatusForbidden || a.status == http.StatusUnauthorized || a.status >= 500 {
					t.Errorf("%s with %s: %d %s", name, token, a.status, a.body)
				}
				continue
			}
			w.refused(http.StatusForbidden, "forbidden", token, r.Method, path, nil)
		}
		for what, header := range map[string]string{
			"no token": "X-None: x", "an unknown token": "Authorization: Bearer postern_unknown", "another scheme": "Authorization: Basic " + secretOf("admin"),
			"an empty token": "Authorization: Bearer ", "a hash": "Authorization: Bearer tok_admin",
		} {
			p := w.refused(http.StatusUnauthorized, "unauthenticated", "", r.Method, path, nil, header)
			if p.Type == "" {
				t.Errorf("%s with %s", name, what)
			}
		}
	}
	for name := range mayCall {
		if !seen[name] {
			t.Errorf("the table has a row for %s, which is no route", name)
		}
	}
}

func TestEveryRouteIsInTheDescription(t *testing.T) {
	w := newWorld(t)
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	w.send("", "GET", "/openapi.json", nil).decode(t, &doc)
	var described, routes []string
	for path, ops := range doc.Paths {
		for method := range ops {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	for _, r := range w.api.Routes() {
		routes = append(routes, r.Method+" "+r.Path)
	}
	slices.Sort(described)
	slices.Sort(routes)
	if diff := cmp.Diff(routes, described); diff != "" {
		t.Errorf("an operation was registered past the table of routes: %s", diff)
	}
}

func TestTokensEnd(t *testing.T) {
	w := newWorld(t)
	who := func(secret string) int {
		return w.send("", "GET", "/v1/whoami", nil, "Authorization: Bearer "+secret).status
	}
	made := must[client.Token](w, "admin", "POST", "/v1/tokens", client.Token{Spec: client.TokenSpec{
		Name: "ci", Role: "organization-admin", Organization: "globex", ExpiresAt: w.clock().Add(time.Hour),
	}})
	w.secrets = append(w.secrets, made.Secret)
	if len(made.Secret) < 43 || who(made.Secret) != http.StatusOK {
		t.Fatalf("the new token does not work: %+v", made)
	}
	if got := w.send("", "GET", "/v1/whoami", nil, "Authorization: bearer "+made.Secret).status; got != http.StatusOK {
		t.Errorf("the scheme's name is case-insensitive (RFC 9110, 11.1): %d", got)
	}
	id := must[client.Identity](w, "", "GET", "/v1/whoami", nil, "Authorization: Bearer "+made.Secret)
	if diff := cmp.Diff(client.Identity{Name: "ci", Role: "organization-admin", Organization: "globex"}, id); diff != "" {
		t.Error(diff)
	}
	list := w.send("admin", "GET", "/v1/tokens", nil)
	if !strings.Contains(list.body, made.ID) || strings.Contains(list.body, "secret") {
		t.Errorf("the list lacks the token, or shows secrets: %s", list.body)
	}
	w.advance(time.Hour)
	if got := who(made.Secret); got != http.StatusUnauthorized {
		t.Errorf("expired: %d", got)
	}
	other := must[client.Token](w, "admin", "POST", "/v1/tokens", client.Token{Spec: client.TokenSpec{Name: "x", Role: "operator"}})
	must[struct{}](w, "admin", "DELETE", "/v1/tokens/"+other.ID, nil)
	if got := who(other.Secret); got != http.StatusUnauthorized {
		t.Errorf("revoked: %d", got)
	}
	w.refused(http.StatusNotFound, "not_found", "admin", "DELETE", "/v1/tokens/"+other.ID, nil)
	must[struct{}](w, "admin", "DELETE", "/v1/tokens/"+made.ID, nil)
	var revoked client.Event
	for _, e := range must[client.Page[client.Event]](w, "globex", "GET", "/v1/events", nil).Items {
		revoked = e
	}
	if revoked.Action != "token.revoked" || revoked.Subject != made.ID || revoked.Organization != "globex" {
		t.Errorf("the organization is not told that its token was revoked: %+v", revoked)
	}
}

func TestATokenOfNoOrganizationSeesNothing(t *testing.T) {
	w := newWorld(t)
	hash := sha256.Sum256([]byte("broken"))
	w.update(func(tx *store.Tx) error {
		_, err := tx.CreateToken(postern.Token{ID: "tok_broken", Name: "broken", Role: postern.RoleOrgAdmin}, hash[:])
		return err
	})
	w.refused(http.StatusForbidden, "forbidden", "", "GET", "/v1/organizations", nil, "Authorization: Bearer broken")
}

// What is absent and what is another organization's look the same, to the
// last byte.
func TestForeignLooksLikeAbsent(t *testing.T) {
	w := newWorld(t)
	foreign := w.create("globex", virginia)
	must[client.ClaimResult](w, "globex", "POST", "/v1/endpoint-claims", claim("globex", []string{foreign}))
	w.rest()
	unclaimed := w.create("globex", virginia)
	w.rest()
	const absent = "vpce-0123456789abcdef0"
	account := w.customer["globex"].ID
	for _, c := range []struct {
		method, path string // {x} is the ID
		body         func(id string) any
		foreign      string
		absent       string
		status       int
	}{
		{"GET", "/v1/organizations/{x}", nil, "globex", "nobody", 404},
		{"GET", "/v1/tenants/{x}", nil, "globex", "nobody", 404},
		{"GET", "/v1/accounts/{x}", nil, account, "999999999999", 404},
		{"DELETE", "/v1/accounts/{x}", nil, account, "999999999999", 404},
		{"GET", "/v1/endpoints/{x}", nil, foreign, absent, 404},
		{"DELETE", "/v1/endpoints/{x}", nil, foreign, absent, 404},
		{"PATCH", "/v1/endpoints/{x}", func(string) any { return client.EndpointUpdate{Tenants: []string{}} }, foreign, absent, 404},
		{"GET", "/v1/regions?tenant={x}", nil, "globex", "nobody", 404},
		{"GET", "/v1/tenants?organization={x}", nil, "globex", "nobody", 200},
		{"GET", "/v1/accounts?organization={x}", nil, "globex", "nobody", 200},
		{"GET", "/v1/endpoints?organization={x}", nil, "globex", "nobody", 200},
		{"GET", "/v1/connections?organization={x}", nil, "globex", "nobody", 200},
		{"GET", "/v1/events?organization={x}", nil, "globex", "nobody", 200},
		{"GET", "/v1/denials?organization={x}", nil, "globex", "nobody", 200},
		{"POST", "/v1/account-challenges", func(id string) any { return client.ChallengeRequest{Organization: id} }, "globex", "nobody", 404},
		{"POST", "/v1/accounts", func(id string) any {
			return client.Proof{Organization: id, Nonce: "n", Region: virginia, Authorization: "a", Date: "d"}
		}, "globex", "nobody", 404},
		{"POST", "/v1/endpoint-claims", func(id string) any { return claim(id, []string{absent}) }, "globex", "nobody", 404},
		{"POST", "/v1/endpoint-claims", func(id string) any { return claim("example-corp", []string{id}) }, foreign, absent, 404},
		{"POST", "/v1/endpoint-claims", func(id string) any { return claim("example-corp", []string{id}) }, unclaimed, absent, 404},
		{"POST", "/v1/endpoint-claims?dry_run=true", func(id string) any { return claim("example-corp", []string{id}) }, unclaimed, absent, 404},
		{"POST", "/v1/endpoint-claims", func(id string) any { return claim("example-corp", []string{absent}, id) }, "globex", "nobody", 400},
	} {
		look := func(id string) string {
			var body any
			if c.body != nil {
				body = c.body(id)
			}
			a := w.send("example", c.method, strings.ReplaceAll(c.path, "{x}", id), body)
			if a.status != c.status {
				t.Errorf("%s %s of %s: %d %s", c.method, c.path, id, a.status, a.body)
			}
			a.header.Del("X-Request-Id")
			header, err := json.Marshal(a.header)
			if err != nil {
				t.Fatal(err)
			}
			text := a.body
			var p client.Problem
			if json.Unmarshal([]byte(text), &p) == nil && p.RequestID != "" {
				text = strings.ReplaceAll(text, p.RequestID, "")
			}
			return strings.ReplaceAll(string(header)+text, id, "ID")
		}
		if diff := cmp.Diff(look(c.absent), look(c.foreign)); diff != "" {
			t.Errorf("%s %s tells absent from foreign:\n%s", c.method, c.path, diff)
		}
	}
	if got := must[client.Endpoint](w, "globex", "GET", "/v1/endpoints/"+foreign, nil).Status.State; got != "ready" {
		t.Errorf("the foreign endpoint is %s afterwards", got)
	}
}

// Lists are confined whatever is asked for.
func TestListsShowOnesOwn(t *testing.T) {
	w := newWorld(t)
	ids := []string{w.create("example-corp", virginia), w.create("globex", virginia)}
	w.rest()
	must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", ids[:1]))
	must[client.ClaimResult](w, "globex", "POST", "/v1/endpoint-claims", claim("globex", ids[1:]))
	w.update(func(tx *store.Tx) error {
		return tx.AddArrivals([]postern.ArrivalCount{
			{Listener: "private", Organization: "globex", Denial: postern.DenyNotAuthorized, ServerName: "of-globex", Count: 1, LastSeen: w.clock()},
			{Listener: "public", Denial: postern.DenyUnknownHost, ServerName: "of-nobody", Count: 1, LastSeen: w.clock()},
			{Listener: "private", Organization: "example-corp", Denial: postern.DenyNotAuthorized, ServerName: "of-example", Count: 1, LastSeen: w.clock()},
		})
	})
	for _, path := range []string{"/v1/organizations", "/v1/tenants", "/v1/accounts", "/v1/endpoints", "/v1/connections", "/v1/events", "/v1/denials"} {
		for _, token := range []string{"example", "viewer"} {
			a := w.send(token, "GET", path, nil)
			if a.status != 200 || strings.Contains(a.body, "globex") || strings.Contains(a.body, ids[1]) || strings.Contains(a.body, w.customer["globex"].ID) || strings.Contains(a.body, "nobody") {
				t.Errorf("%s with %s: %d %s", path, token, a.status, a.body)
			}
			if !strings.Contains(a.body, "example") {
				t.Errorf("%s with %s lacks its own: %s", path, token, a.body)
			}
		}
		if a := w.send("operator", "GET", path, nil); !strings.Contains(a.body, "globex") || !strings.Contains(a.body, "example") {
			t.Errorf("%s with operator: %s", path, a.body)
		}
		if path == "/v1/organizations" {
			continue
		}
		if a := w.send("operator", "GET", path+"?organization=globex", nil); !strings.Contains(a.body, "globex") || strings.Contains(a.body, "example-corp") {
			t.Errorf("%s of globex with operator: %s", path, a.body)
		}
	}
}
