package api_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/client/accountproof"
	"github.com/postern-net/postern/internal/store"
)

// prove signs the answer to a challenge with a customer's keys, for real.
func (w *world) prove(customer string, c client.Challenge) client.Proof {
	w.t.Helper()
	k := w.customer[customer].AccessKeys[0]
	p, err := accountproof.Sign(w.t.Context(), credentials.NewStaticCredentialsProvider(k.ID, k.Secret, ""), c, virginia, w.clock())
	if err != nil {
		w.t.Fatal(err)
	}
	w.secrets = append(w.secrets, p.Authorization, c.Nonce)
	return p
}

func (w *world) challenge(token, organization string) client.Challenge {
	w.t.Helper()
	return must[client.Challenge](w, token, "POST", "/v1/account-challenges", client.ChallengeRequest{Organization: organization})
}

func TestAccountProof(t *testing.T) {
	w := newWorld(t)
	c := w.challenge("example", "example-corp")
	if c.Header != postern.BindingHeader || c.Binding != "example;example-corp;"+c.Nonce || !c.ExpiresAt.After(w.clock()) || len(c.Regions) != 3 {
		t.Errorf("%+v", c)
	}
	p := w.prove("stranger", c)
	a := must[client.Account](w, "example", "POST", "/v1/accounts", p)
	if a.ID != w.customer["stranger"].ID || a.Spec.Organization != "example-corp" || a.Status.State != "active" || !strings.Contains(a.Status.PrincipalARN, a.ID) {
		t.Errorf("%+v", a)
	}
	replayed := w.refused(http.StatusBadRequest, "invalid", "example", "POST", "/v1/accounts", p)
	if replayed.Errors[0].Field != "nonce" {
		t.Errorf("%+v", replayed.Errors)
	}
	// Once more, with a new challenge: the same account, a new version.
	again := must[client.Account](w, "example", "POST", "/v1/accounts", w.prove("stranger", w.challenge("example", "example-corp")))
	if again.ResourceVersion != "2" {
		t.Errorf("%+v", again)
	}
	// It is nobody else's meanwhile.
	taken := w.refused(http.StatusConflict, "conflict", "globex", "POST", "/v1/accounts", w.prove("stranger", w.challenge("globex", "globex")))
	if strings.Contains(taken.Detail, "example-corp") {
		t.Errorf("it tells whose the account is: %s", taken.Detail)
	}
}

func TestAccountProofRefuses(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		proof func() client.Proof
		field string
	}{
		"an unknown nonce": {func() client.Proof {
			p := w.prove("stranger", w.challenge("example", "example-corp"))
			p.Nonce = "unknown"
			return p
		}, "nonce"},
		"another organization's nonce": {func() client.Proof {
			p := w.prove("stranger", w.challenge("globex", "globex"))
			p.Organization = "example-corp"
			return p
		}, "nonce"},
		"another challenge's signature": {func() client.Proof {
			p := w.prove("stranger", w.challenge("example", "example-corp"))
			p.Nonce = w.challenge("example", "example-corp").Nonce
			return p
		}, ""},
		"an expired challenge": {func() client.Proof {
			p := w.prove("stranger", w.challenge("example", "example-corp"))
			w.advance(11 * time.Minute)
			return p
		}, "nonce"},
		"a region that is not the platform's": {func() client.Proof {
			p := w.prove("stranger", w.challenge("example", "example-corp"))
			p.Region = "sa-east-1"
			return p
		}, "region"},
		"a host for a region": {func() client.Proof {
			p := w.prove("stranger", w.challenge("example", "example-corp"))
			p.Region = "us-east-1.evil.example/"
			return p
		}, "region"},
		"a broken signature": {func() client.Proof {
			p := w.prove("stranger", w.challenge("example", "example-corp"))
			p.Authorization = p.Authorization[:len(p.Authorization)-4] + "0000"
			return p
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := w.send("example", "POST", "/v1/accounts", c.proof())
			p := a.problem(t)
			if a.status < 400 || a.status >= 500 {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if c.field != "" && (len(p.Errors) != 1 || p.Errors[0].Field != c.field) {
				t.Errorf("%s", a.body)
			}
		})
	}
	if as := must[client.Page[client.Account]](w, "example", "GET", "/v1/accounts", nil).Items; len(as) != 1 {
		t.Errorf("proven all the same: %+v", as)
	}
}

// A nonce is good for one attempt, also for one that fails.
func TestAFailedProofSpendsItsChallenge(t *testing.T) {
	w := newWorld(t)
	good := w.prove("stranger", w.challenge("example", "example-corp"))
	bad := good
	bad.Authorization = good.Authorization[:len(good.Authorization)-4] + "0000"
	if a := w.send("example", "POST", "/v1/accounts", bad); a.status < 400 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.refused(http.StatusBadRequest, "invalid", "example", "POST", "/v1/accounts", good)
}

func TestConcurrentProofsHaveOneWinner(t *testing.T) {
	w := newWorld(t)
	p := w.prove("stranger", w.challenge("example", "example-corp"))
	got := map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			a := w.send("example", "POST", "/v1/accounts", p)
			mu.Lock()
			defer mu.Unlock()
			got[a.status]++
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[int]int{201: 1, 400: 5}, got); diff != "" {
		t.Error(diff)
	}
}

// A repeated request with the same key gets the first one's answer, although
// its nonce is spent.
func TestAProofWhoseAnswerWasLostIsRepeated(t *testing.T) {
	w := newWorld(t)
	p := w.prove("stranger", w.challenge("example", "example-corp"))
	first := w.send("example", "POST", "/v1/accounts", p, "Idempotency-Key: k")
	second := w.send("example", "POST", "/v1/accounts", p, "Idempotency-Key: k")
	if first.status != http.StatusCreated || second.status != http.StatusCreated || first.body != second.body {
		t.Errorf("%d %s\n%d %s", first.status, first.body, second.status, second.body)
	}
	w.refused(http.StatusBadRequest, "invalid", "example", "POST", "/v1/accounts", p, "Idempotency-Key: other")
}

func TestAccountRemovalTakesItsEndpointsAlong(t *testing.T) {
	w := newWorld(t)
	id := w.create("example-corp", virginia)
	must[client.ClaimResult](w, "example", "POST", "/v1/endpoint-claims", claim("example-corp", []string{id}))
	w.rest()
	account := "/v1/accounts/" + w.customer["example-corp"].ID
	w.refused(http.StatusConflict, "conflict", "example", "DELETE", account, nil, `If-Match: "7"`)
	must[struct{}](w, "example", "DELETE", account, nil)
	must[struct{}](w, "example", "DELETE", account, nil) // again
	if got := must[client.Account](w, "example", "GET", account, nil).Status.State; got != "removing" {
		t.Error(got)
	}
	if got := must[client.Endpoint](w, "example", "GET", "/v1/endpoints/"+id, nil).Status.State; got != "removing" {
		t.Error(got)
	}
	// It is not proven again before it is gone.
	w.refused(http.StatusConflict, "conflict", "example", "POST", "/v1/accounts", w.prove("example-corp", w.challenge("example", "example-corp")))
	w.rest()
	w.refused(http.StatusNotFound, "not_found", "example", "GET", account, nil)
	w.refused(http.StatusNotFound, "not_found", "example", "GET", "/v1/endpoints/"+id, nil)
	must[client.Account](w, "example", "POST", "/v1/accounts", w.prove("example-corp", w.challenge("example", "example-corp")))
}

func TestAnOrganizationThatGoesDuringAProof(t *testing.T) {
	w := newWorld(t)
	must[client.Organization](w, "admin", "POST", "/v1/organizations", client.Organization{ID: "brief"})
	p := w.prove("stranger", w.challenge("admin", "brief"))
	w.update(func(tx *store.Tx) error {
		o, err := tx.FindOrganization("brief")
		if err != nil {
			return err
		}
		return tx.DeleteOrganization(o)
	})
	w.refused(http.StatusNotFound, "not_found", "admin", "POST", "/v1/accounts", p)
}
