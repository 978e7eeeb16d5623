package api_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/api"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/store"
)

func TestClaim(t *testing.T) {
	w := newWorld(t)
	one, two := w.create("example-corp", virginia), w.create("example-corp", ireland)
	before := len(w.events())
	got := must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{one, two}))
	if len(got.Endpoints) != 2 || got.DryRun || got.Endpoints[0].Status.State != "requested" || got.Endpoints[0].Status.Owner != w.customer["example-corp"].ID {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]string{"endpoint.claimed", "endpoint.claimed"}, w.events()[before:]); diff != "" {
		t.Error(diff)
	}
	w.rest()
	for id, host := range map[string]string{one: "example.hosted.example.com", two: "example-eu.hosted.example.com"} {
		e := must[client.Endpoint](w, "viewer", "GET", "/v1/endpoints/"+id, nil)
		if diff := cmp.Diff([]string{host}, e.Status.Hostnames); diff != "" || e.Status.State != "ready" || e.Status.ApprovedBy != "policy" || len(e.Status.DNSNames) == 0 {
			t.Errorf("%+v %s", e, diff)
		}
		for _, c := range e.Status.Conditions {
			if c.Status != "True" {
				t.Errorf("%+v", c)
			}
		}
	}
	tenant := must[client.Tenant](w, "viewer", "GET", "/v1/tenants/example", nil)
	if diff := cmp.Diff([]string{one}, tenant.Status.VPCEndpointIDs); diff != "" || tenant.Status.State != "private-and-public" {
		t.Errorf("%+v %s", tenant, diff)
	}
}

func TestClaimNamesTenants(t *testing.T) {
	w := newWorld(t)
	one, two := w.create("example-corp", virginia), w.create("example-corp", ireland)
	got := must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{one, two}, "example-eu", "example"))
	if diff := cmp.Diff([]string{"example"}, got.Endpoints[0].Spec.Tenants); diff != "" {
		t.Errorf("the endpoint of a segment is claimed for the tenants of it: %s", diff)
	}
	w.refused(http.StatusConflict, "conflict", "admin", "DELETE", "/v1/tenants/example", nil)
}

func TestClaimFindsWhatAWSListedJustNow(t *testing.T) {
	w := newWorld(t)
	id := w.create("example-corp", oregon) // the loop has not looked since
	must[client.ClaimResult](w, "operator", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}))
}

// Everything that stands against a claim is said at once, each with its field
// and what to do, and nothing is stored.
func TestClaimRefuses(t *testing.T) {
	w := newWorld(t)
	good := w.create("example-corp", virginia)
	european := w.create("example-corp", ireland)
	claimed := w.create("example-corp", virginia)
	rejected := w.create("example-corp", virginia)
	foreign := w.create("globex", virginia)
	must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{claimed, rejected}))
	w.rest()
	must[struct{}](w, "example", "DELETE", "/v1/endpoints/"+rejected, nil)
	w.rest()
	const absent = "vpce-0123456789abcdef0"
	for _, c := range []struct {
		name   string
		claim  client.Claim
		status int
		code   string
		says   []string // "field: part of the message", in order
	}{
		{"no endpoint", claim("example-corp", []string{}), 400, "invalid", []string{"vpc_endpoint_ids: not between 1 and 50"}},
		{
			"bad forms", claim("example-corp", []string{"vpce-svc-0471015b106ad1d47", good, good}, "A", "example", "example"), 400, "invalid",
			[]string{"vpc_endpoint_ids[0]: not a VPC endpoint ID", "vpc_endpoint_ids[2]: duplicate endpoint", "tenants[0]: not usable", "tenants[2]: duplicate tenant"},
		},
		{"absent", claim("example-corp", []string{absent}), 404, "not_found", []string{"vpc_endpoint_ids[0]: no such endpoint of a proven account"}},
		{"foreign", claim("example-corp", []string{foreign}), 404, "not_found", []string{"vpc_endpoint_ids[0]: no such endpoint of a proven account"}},
		{"claimed", claim("example-corp", []string{claimed}), 409, "conflict", []string{"vpc_endpoint_ids[0]: is claimed already"}},
		{"final", claim("example-corp", []string{rejected}), 409, "conflict", []string{"vpc_endpoint_ids[0]: is rejected at AWS, which is final"}},
		{"another's tenant", claim("example-corp", []string{good}, "globex"), 400, "invalid", []string{
			"tenants[0]: not a tenant of organization example-corp", "vpc_endpoint_ids[0]: is in segment na, and no tenant that the claim names is",
		}},
		{"another segment", claim("example-corp", []string{good}, "example-eu"), 400, "invalid", []string{
			"vpc_endpoint_ids[0]: is in segment na, and no tenant", "tenants[0]: is in a segment that none of the endpoints is in",
		}},
		{"one tenant too many", claim("example-corp", []string{good}, "example", "example-eu"), 400, "invalid", []string{"tenants[1]: is in a segment that none of the endpoints"}},
		{"one endpoint too many", claim("example-corp", []string{good, european}, "example"), 400, "invalid", []string{"vpc_endpoint_ids[1]: is in segment eu, and no tenant"}},
		{
			"everything at once", claim("example-corp", []string{absent, claimed, rejected, european, good}, "nobody", "example"), 400, "invalid",
			[]string{
				"tenants[0]: not a tenant", "vpc_endpoint_ids[0]: no such endpoint", "vpc_endpoint_ids[1]: is claimed", "vpc_endpoint_ids[2]: is rejected",
				"vpc_endpoint_ids[3]: is in segment eu",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, path := range []string{"/v1/endpoint-claims?dry_run=true", "/v1/endpoint-claims"} {
				p := w.refused(c.status, c.code, "example", "POST", path, c.claim)
				for i, e := range p.Errors {
					if i >= len(c.says) || !strings.HasPrefix(e.Field+": "+e.Message, c.says[i]) || e.Fix == "" {
						t.Errorf("problem %d: %+v", i, e)
					}
				}
				if len(p.Errors) != len(c.says) {
					t.Errorf("%d problems, want %d: %+v", len(p.Errors), len(c.says), p.Errors)
				}
			}
			if es := must[client.Page[client.Endpoint]](w, "example", "GET", "/v1/endpoints", nil).Items; len(es) != 1 {
				t.Errorf("a refused claim left %+v", es)
			}
		})
	}
	// A segment in which the organization has no tenant any more.
	must[client.Tenant](w, "admin", "POST", "/v1/tenants", client.Tenant{ID: "globex-eu", Spec: client.TenantSpec{Organization: "globex", Region: ireland}})
	w.rest()
	only := w.create("globex", ireland)
	must[struct{}](w, "admin", "DELETE", "/v1/tenants/globex-eu", nil)
	p := w.refused(http.StatusBadRequest, "invalid", "globex", "POST", "/v1/endpoint-claims", claim("globex", []string{only}))
	if !strings.Contains(p.Detail, "where the organization has no tenant") {
		t.Error(p.Detail)
	}
}

func TestAnUnprovenOrganizationClaimsNothing(t *testing.T) {
	w := newWorld(t)
	id := w.create("globex", virginia)
	must[struct{}](w, "globex", "DELETE", "/v1/accounts/"+w.customer["globex"].ID, nil)
	w.refused(http.StatusNotFound, "not_found", "globex", "POST", "/v1/endpoint-claims", claim("globex", []string{id}))
}

func TestClaimDryRunStoresNothing(t *testing.T) {
	w := newWorld(t)
	id := w.create("example-corp", virginia)
	before := w.events()
	got := must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims?dry_run=true", claim("example-corp", []string{id}), "Idempotency-Key: k")
	if !got.DryRun || len(got.Actions) != 1 || got.Actions[0].Kind != "accept-connection" || got.Actions[0].Target != id || got.Endpoints[0].Status.State != "pending-acceptance" {
		t.Errorf("%+v", got)
	}
	w.rest()
	if diff := cmp.Diff(before, w.events()); diff != "" {
		t.Errorf("a dry run is recorded: %s", diff)
	}
	w.refused(http.StatusNotFound, "not_found", "example", "GET", "/v1/endpoints/"+id, nil)
	if e, err := w.aws.Endpoint(id); err != nil || e.State != "pendingAcceptance" {
		t.Errorf("at AWS: %+v, %v", e, err)
	}
	// The same key does the real thing afterwards.
	if got := must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}), "Idempotency-Key: k"); got.DryRun {
		t.Errorf("%+v", got)
	}
}

func TestConcurrentClaimsHaveOneWinner(t *testing.T) {
	w := newWorld(t)
	id := w.create("example-corp", virginia)
	got := map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			a := w.send("example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}))
			mu.Lock()
			defer mu.Unlock()
			got[a.status]++
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[int]int{201: 1, 409: 5}, got); diff != "" {
		t.Error(diff)
	}
}

// meanwhile is a cloud during whose answers something else happens.
type meanwhile struct {
	api.Cloud
	happens func()
}

func (c meanwhile) FindConnections(ctx context.Context, svc postern.ServiceRef, ids []string) (map[string]postern.Connection, error) {
	found, err := c.Cloud.FindConnections(ctx, svc, ids)
	c.happens()
	return found, err
}

// What a claim rests on is looked at again when it is stored.
func TestAClaimThatTheWorldOvertookIsAConflict(t *testing.T) {
	for name, happens := range map[string]func(w *world){
		"the account is removed": func(w *world) {
			must[struct{}](w, "example", "DELETE", "/v1/accounts/"+w.customer["example-corp"].ID, nil)
		},
		"the tenant is deleted": func(w *world) { must[struct{}](w, "admin", "DELETE", "/v1/tenants/example", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id := w.create("example-corp", virginia)
			c := w.config
			c.Cloud = meanwhile{Cloud: w.cloud, happens: sync.OnceFunc(func() { happens(w) })}
			a := w.sendTo(t.Context(), api.New(c), "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}, "example"))
			if a.status != http.StatusConflict {
				t.Errorf("%d %s", a.status, a.body)
			}
			w.view(func(tx *store.Tx) error {
				es, err := tx.ListEndpoints("", "", store.Page{})
				if len(es) > 0 {
					t.Errorf("stored all the same: %+v", es)
				}
				return err
			})
		})
	}
}

func (w *world) view(fn func(*store.Tx) error) {
	w.t.Helper()
	if err := w.store.View(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func TestClaimWithoutAnAnswerOfAWS(t *testing.T) {
	w := newWorld(t)
	id := w.create("example-corp", virginia)
	if _, err := w.aws.Faults().Add(localaws.Fault{Kind: localaws.FaultError, Code: "InternalError", Account: "platform"}); err != nil {
		t.Fatal(err)
	}
	p := w.refused(http.StatusServiceUnavailable, "unavailable", "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}))
	if strings.Contains(p.Detail, "RequestID") || strings.Contains(p.Detail, "operation error") {
		t.Errorf("the cause is shown: %s", p.Detail)
	}
	if !strings.Contains(w.log.String(), p.RequestID) || !strings.Contains(w.log.String(), "InternalError") {
		t.Error("the cause is not in the log, by the request's ID")
	}
}

func TestEndpointLife(t *testing.T) {
	w := newWorld(t)
	id := w.create("example-corp", virginia)
	must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}))
	w.rest()
	must[client.Tenant](w, "admin", "POST", "/v1/tenants", client.Tenant{ID: "example-dev", Spec: client.TenantSpec{Organization: "example-corp", Region: "us-west-2"}})

	p := w.refused(http.StatusBadRequest, "invalid", "example", "PATCH", "/v1/endpoints/"+id, client.EndpointUpdate{Tenants: []string{"example", "example-eu", "globex", "example"}})
	if len(p.Errors) != 3 || p.Errors[0].Field != "tenants[1]" || p.Errors[1].Field != "tenants[2]" || p.Errors[2].Field != "tenants[3]" {
		t.Errorf("%+v", p.Errors)
	}
	e := must[client.Endpoint](w, "example", "PATCH", "/v1/endpoints/"+id, client.EndpointUpdate{Tenants: []string{"example-dev"}})
	if diff := cmp.Diff([]string{"example-dev.hosted.example.com"}, e.Status.Hostnames); diff != "" {
		t.Error(diff)
	}
	for what, body := range map[string]string{
		"no list": `{}`, "null": `{"tenants":null}`, "an empty list": `{"tenants":[]}`, "not all": `{"all_tenants":false}`, "both": `{"tenants":["example"],"all_tenants":true}`,
	} {
		if p := w.refused(http.StatusBadRequest, "invalid", "example", "PATCH", "/v1/endpoints/"+id, body); !strings.HasSuffix(p.Errors[0].Field, "tenants") || p.Errors[0].Fix == "" {
			t.Errorf("%s: %+v", what, p.Errors)
		}
	}
	e = must[client.Endpoint](w, "example", "PATCH", "/v1/endpoints/"+id, client.EndpointUpdate{AllTenants: true})
	if diff := cmp.Diff([]string{"example-dev.hosted.example.com", "example.hosted.example.com"}, e.Status.Hostnames); diff != "" {
		t.Error(diff)
	}

	must[struct{}](w, "example", "DELETE", "/v1/endpoints/"+id, nil)
	must[struct{}](w, "example", "DELETE", "/v1/endpoints/"+id, nil) // again, while it is going
	w.refused(http.StatusConflict, "conflict", "example", "PATCH", "/v1/endpoints/"+id, client.EndpointUpdate{AllTenants: true})
	w.refused(http.StatusConflict, "conflict", "operator", "POST", "/v1/endpoints/"+id+"/approve", nil)
	if got := must[client.Endpoint](w, "example", "GET", "/v1/endpoints/"+id, nil).Status; got.State != "removing" || len(got.Hostnames) > 0 {
		t.Errorf("%+v", got)
	}
	w.rest()
	w.refused(http.StatusNotFound, "not_found", "example", "GET", "/v1/endpoints/"+id, nil)
	if e, err := w.aws.Endpoint(id); err != nil || e.State != "rejected" {
		t.Errorf("at AWS: %+v, %v", e, err)
	}
}

func TestApproval(t *testing.T) {
	w := newWorld(t)
	id := w.create("example-corp", virginia)
	must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}))
	e := must[client.Endpoint](w, "operator", "POST", "/v1/endpoints/"+id+"/approve", nil)
	if e.Status.ApprovedBy != "operator" || e.Status.ApprovedAt.IsZero() {
		t.Errorf("%+v", e.Status)
	}
	n := len(w.events())
	if again := must[client.Endpoint](w, "admin", "POST", "/v1/endpoints/"+id+"/approve", nil); again.Status.ApprovedBy != "operator" || len(w.events()) != n {
		t.Errorf("approved twice: %+v", again.Status)
	}
}

func TestConnections(t *testing.T) {
	w := newWorld(t)
	claimedID, openID := w.create("example-corp", virginia), w.create("example-corp", virginia)
	w.rest()
	must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{claimedID}))
	for query, want := range map[string][]string{"?claimed=true": {claimedID}, "?claimed=false": {openID}} {
		var got []string
		for _, c := range must[client.Page[client.Connection]](w, "viewer", "GET", "/v1/connections"+query, nil).Items {
			got = append(got, c.VPCEndpointID)
			if c.Organization != "example-corp" || c.ServiceName != w.platform.Segments[0].Regions[0].ServiceName || c.State != "pendingAcceptance" {
				t.Errorf("%+v", c)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	plan := must[client.Page[client.Action]](w, "operator", "GET", "/v1/plan", nil)
	if len(plan.Items) != 1 || plan.Items[0].Target != claimedID {
		t.Errorf("the plan: %+v", plan.Items)
	}
}
