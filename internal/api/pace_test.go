package api_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/api"
	"github.com/postern-net/postern/internal/localaws"
)

func TestPace(t *testing.T) {
	w := newWorld(t)
	c := w.config
	c.Pace = api.Pace{Burst: 3, Every: 10 * time.Second}
	h := api.New(c)
	ask := func(token string) answer {
		return w.sendTo(t.Context(), h, token, "POST", "/v1/account-challenges", client.ChallengeRequest{Organization: "example-corp"})
	}
	for range 3 {
		if a := ask("example"); a.status != http.StatusCreated {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if a := ask("example"); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "10" || a.problem(t).Type != "urn:postern:problem:throttled" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	claims := w.sendTo(t.Context(), h, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{"vpce-0123456789abcdef0"}))
	if claims.status != http.StatusTooManyRequests {
		t.Errorf("a claim: %d %s", claims.status, claims.body)
	}
	if a := ask("admin"); a.status != http.StatusCreated {
		t.Errorf("another token: %d %s", a.status, a.body)
	}
	if a := w.sendTo(t.Context(), h, "example", "GET", "/v1/endpoints", nil); a.status != http.StatusOK {
		t.Errorf("what costs nothing: %d %s", a.status, a.body)
	}
	w.advance(10 * time.Second)
	if a := ask("example"); a.status != http.StatusCreated {
		t.Errorf("later: %d %s", a.status, a.body)
	}
	if a := ask("example"); a.status != http.StatusTooManyRequests {
		t.Errorf("one came back, not two: %d %s", a.status, a.body)
	}
}

// counting is a cloud that counts what it is asked.
type counting struct {
	api.Cloud
	calls *atomic.Int64
}

func (c counting) FindConnections(ctx context.Context, svc postern.ServiceRef, ids []string) (map[string]postern.Connection, error) {
	c.calls.Add(1)
	return c.Cloud.FindConnections(ctx, svc, ids)
}

func TestAClaimAsksEachServiceOnce(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for i := range postern.MaxClaimEndpoints {
		ids = append(ids, fmt.Sprintf("vpce-0123456789abcde%02x", i))
	}
	c := w.config
	var calls atomic.Int64
	c.Cloud = counting{w.cloud, &calls}
	if a := w.sendTo(t.Context(), api.New(c), "example", "POST", "/v1/endpoint-claims", claim("example-corp", ids)); a.status != http.StatusNotFound {
		t.Errorf("%d %s", a.status, a.body)
	}
	if calls.Load() != 3 {
		t.Errorf("%d calls for three services", calls.Load())
	}
}

// A service that does not answer matters only to what was found nowhere else.
func TestAClaimFindsWhatIsThereWhileAnotherRegionIsDown(t *testing.T) {
	w := newWorld(t)
	id := w.create("example-corp", virginia)
	if _, err := w.aws.Faults().Add(localaws.Fault{Kind: localaws.FaultError, Code: "InternalError", Account: "platform", Region: ireland}); err != nil {
		t.Fatal(err)
	}
	w.refused(http.StatusServiceUnavailable, "unavailable", "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id, "vpce-0123456789abcdef0"}))
	must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}))
}

// refusing is an STS that answers one error and then works.
type refusing struct {
	api.Cloud
	code postern.Code
	left *atomic.Int64
}

func (c refusing) CallerIdentity(ctx context.Context, p client.Proof, binding string) (postern.Caller, error) {
	if c.left.Add(-1) >= 0 {
		return postern.Caller{}, &postern.Error{Code: c.code, Message: "refused", Fix: "again"}
	}
	return c.Cloud.CallerIdentity(ctx, p, binding)
}

// A proof that STS said nothing about may be sent again.
func TestAChallengeIsPutBack(t *testing.T) {
	for code, want := range map[postern.Code]int{
		postern.CodeUnavailable: http.StatusCreated, postern.CodeThrottled: http.StatusCreated, postern.CodeForbidden: http.StatusBadRequest,
	} {
		w := newWorld(t)
		c := w.config
		var left atomic.Int64
		left.Store(1)
		c.Cloud = refusing{w.cloud, code, &left}
		h := api.New(c)
		p := w.prove("stranger", w.challenge("example", "example-corp"))
		first := w.sendTo(t.Context(), h, "example", "POST", "/v1/accounts", p)
		if first.status < 400 || code == postern.CodeThrottled && first.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %v", code, first.status, first.header)
		}
		if a := w.sendTo(t.Context(), h, "example", "POST", "/v1/accounts", p); a.status != want {
			t.Errorf("after %s: %d %s, want %d", code, a.status, a.body, want)
		}
	}
}

func TestADryRunIsNotTheClaimThatWasMadeWithItsKey(t *testing.T) {
	w := newWorld(t)
	body := claim("example-corp", []string{w.create("example-corp", virginia)})
	must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", body, "Idempotency-Key: k")
	p := w.refused(http.StatusConflict, "conflict", "example", "POST", "/v1/endpoint-claims?dry_run=true", body, "Idempotency-Key: k")
	if p.Errors[0].Field != "Idempotency-Key" {
		t.Errorf("%+v", p.Errors)
	}
}

// An operator approved an endpoint with its tenants: more of them is another
// decision, fewer is not.
func TestWideningWaitsForApproval(t *testing.T) {
	for _, automatic := range []bool{false, true} {
		w := newWorld(t)
		c := w.config
		c.Rules.Automatic = automatic
		h := api.New(c)
		must[client.Tenant](w, "admin", "POST", "/v1/tenants", client.Tenant{ID: "example-dev", Spec: client.TenantSpec{Organization: "example-corp", Region: oregon}})
		id := w.create("example-corp", virginia)
		must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}))
		must[client.Endpoint](w, "operator", "POST", "/v1/endpoints/"+id+"/approve", nil)
		w.rest()
		for _, step := range []struct {
			update client.EndpointUpdate
			widens bool
		}{
			{client.EndpointUpdate{Tenants: []string{"example", "example-dev"}}, false}, // all, now and later, was more
			{client.EndpointUpdate{Tenants: []string{"example"}}, false},
			{client.EndpointUpdate{Tenants: []string{"example-dev"}}, true},
			{client.EndpointUpdate{Tenants: []string{"example", "example-dev"}}, true},
			{client.EndpointUpdate{AllTenants: true}, true},
		} {
			n := len(w.events())
			a := w.sendTo(t.Context(), h, "example", "PATCH", "/v1/endpoints/"+id, step.update)
			var e client.Endpoint
			a.decode(t, &e)
			ended := step.widens && !automatic
			if (e.Status.ApprovedBy == "") != ended || (e.Status.State == "requested") != ended || len(e.Status.Hostnames) > 0 == ended {
				t.Errorf("automatic %v, %+v: %s", automatic, step.update, a.body)
			}
			if got := w.events()[n:]; len(got) != 1 && !ended || ended && (len(got) != 2 || got[1] != "endpoint.approval-ended") {
				t.Errorf("automatic %v, %+v: recorded %v", automatic, step.update, got)
			}
			must[client.Endpoint](w, "operator", "POST", "/v1/endpoints/"+id+"/approve", nil)
			w.rest()
		}
	}
}
