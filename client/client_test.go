package client_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/api"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/platformfile"
	"github.com/postern-net/postern/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "postern_the-secret-of-the-test"

// world is the real API over a store, behind a server that may misbehave.
type world struct {
	t      *testing.T
	store  *store.Store
	api    *api.Server
	server *httptest.Server
	client *client.Client

	mu     sync.Mutex
	broken func(http.ResponseWriter, *http.Request) bool // true: it dealt with the request
	seen   []*http.Request
}

// idle is a loop that has seen nothing: nothing here needs the cloud.
type idle struct{}

func (idle) Connections() []postern.Connection              { return nil }
func (idle) Preview(context.Context) ([]plan.Action, error) { return nil, nil }
func (idle) Preflight(context.Context, string) ([]postern.Blocker, error) {
	return nil, nil
}

func (idle) TenantDNS(context.Context, string) (plan.TenantDNS, error) {
	return plan.TenantDNS{}, nil
}

func (idle) PreviewConnection(_ context.Context, c postern.DataConnection) (postern.DataConnection, []plan.ConnectionAction, error) {
	return c, nil, nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	p, err := platformfile.Builtin("immuta")
	if err != nil {
		t.Fatal(err)
	}
	if w.store, err = store.Open(t.Context(), filepath.Join(t.TempDir(), "postern.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	hash := sha256.Sum256([]byte(token))
	w.update(func(tx *store.Tx) error {
		_, err := tx.CreateToken(postern.Token{ID: "tok_test", Name: "test", Role: postern.RoleAdmin}, hash[:])
		return err
	})
	w.api = api.New(api.Config{Platform: p, Store: w.store, Loop: idle{}, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	w.server = httptest.NewServer(w)
	t.Cleanup(w.server.Close)
	w.client = w.connect(client.Options{Token: token})
	return w
}

func (w *world) connect(o client.Options) *client.Client {
	w.t.Helper()
	c, err := client.New(w.server.URL, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.seen = append(w.seen, r)
	misbehave := w.broken
	w.mu.Unlock()
	if misbehave == nil || !misbehave(rw, r) {
		w.api.ServeHTTP(rw, r)
	}
}

// requests returns what arrived since it was called last.
func (w *world) requests() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

func (w *world) misbehave(how func(http.ResponseWriter, *http.Request) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = how
}

// dropAnswers lets the API do what is asked, and cuts the connection instead
// of answering, n times.
func (w *world) dropAnswers(n int) {
	w.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		w.mu.Lock()
		n--
		drop := n >= 0
		w.mu.Unlock()
		if drop {
			w.api.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		return false
	})
}

func (w *world) update(fn func(*store.Tx) error) {
	w.t.Helper()
	if err := w.store.Update(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func TestNewRefusesToShowTheToken(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"https://postern.example.com", "https://postern.example.com/", "http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://10.0.0.1:8443/base"} {
		c, err := client.New(good, client.Options{Token: token})
		if err != nil {
			t.Errorf("%s: %v", good, err)
			continue
		}
		c.Close()
	}
	for _, bad := range []string{
		"http://postern.example.com", "http://10.0.0.1", "http://0.0.0.0", "http://localhost.example.com", "ftp://127.0.0.1", "postern.example.com", "", "https://", "://",
	} {
		if _, err := client.New(bad, client.Options{Token: token}); err == nil {
			t.Errorf("%q is taken", bad)
		} else if strings.Contains(err.Error(), token) {
			t.Errorf("the error shows the token: %v", err)
		}
	}
}

func TestAWriteWhoseAnswerIsLostIsDoneOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dropAnswers(2)
	o, err := w.client.CreateOrganization(t.Context(), client.Organization{ID: "acme"})
	if err != nil || o.ID != "acme" || o.ResourceVersion != "1" {
		t.Fatalf("%+v, %v", o, err)
	}
	seen := w.requests()
	keys := map[string]bool{}
	for _, r := range seen {
		keys[r.Header.Get("Idempotency-Key")] = true
	}
	if len(seen) != 3 || len(keys) != 1 || keys[""] {
		t.Errorf("%d requests with keys %v", len(seen), keys)
	}
	es, err := w.client.Events(t.Context(), "", 0)
	if err != nil || len(es) != 1 {
		t.Errorf("%+v, %v", es, err)
	}
	w.requests()
	if _, err := w.client.CreateOrganization(t.Context(), client.Organization{ID: "acme"}); !client.HasCode(err, "conflict") {
		t.Errorf("another call is another request: %v", err)
	}
	if again := w.requests(); len(again) != 1 || keys[again[0].Header.Get("Idempotency-Key")] {
		t.Errorf("the key was used for two calls, or a refusal was sent again")
	}
}

func TestADeletionWhoseAnswerIsLostSucceeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.client.CreateOrganization(t.Context(), client.Organization{ID: "acme"}); err != nil {
		t.Fatal(err)
	}
	w.dropAnswers(1)
	if err := w.client.DeleteOrganization(t.Context(), "acme"); err != nil {
		t.Error(err)
	}
	w.misbehave(nil)
	if err := w.client.DeleteOrganization(t.Context(), "acme"); !client.HasCode(err, "not_found") {
		t.Errorf("of what was never there: %v", err)
	}
}

func TestWhatMayPassIsTriedAgain(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]int{503: 3, 429: 3, 500: 1, 401: 1, 409: 1} {
		w := newWorld(t)
		w.misbehave(func(rw http.ResponseWriter, _ *http.Request) bool {
			rw.Header().Set("Content-Type", "application/problem+json")
			rw.WriteHeader(status)
			fmt.Fprintf(rw, `{"type":"urn:postern:problem:some","title":"t","status":%d,"detail":"in detail"}`, status)
			return true
		})
		_, err := w.client.WhoAmI(t.Context())
		var e *client.Error
		if !errors.As(err, &e) || e.Status != status || e.Code() != "some" || err.Error() != "in detail" {
			t.Errorf("%d: %v", status, err)
		}
		if n := len(w.requests()); n != want {
			t.Errorf("%d: sent %d times, want %d", status, n, want)
		}
	}
}

func TestTheCallersContextEndsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.misbehave(func(rw http.ResponseWriter, _ *http.Request) bool {
		cancel()
		rw.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	if _, err := w.client.WhoAmI(ctx); err == nil {
		t.Error("no error")
	}
	if n := len(w.requests()); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

func TestAServerThatStallsIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	defer close(release)
	w.misbehave(func(rw http.ResponseWriter, r *http.Request) bool {
		_, _ = io.WriteString(rw, `{"name":`)
		_ = http.NewResponseController(rw).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return true
	})
	c := w.connect(client.Options{Token: token, Timeout: 30 * time.Millisecond})
	if _, err := c.WhoAmI(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestTheTokenFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var stolen []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen = append(stolen, r.Header.Get("Authorization")) }))
	defer elsewhere.Close()
	w.misbehave(func(rw http.ResponseWriter, r *http.Request) bool {
		http.Redirect(rw, r, elsewhere.URL, http.StatusTemporaryRedirect)
		return true
	})
	_, err := w.client.WhoAmI(t.Context())
	if err == nil || len(stolen) > 0 || !strings.Contains(err.Error(), "not as Postern's API does") {
		t.Errorf("%v, asked elsewhere: %v", err, stolen)
	}
}

func TestProblemsAreRendered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.client.CreateTenant(t.Context(), client.Tenant{ID: "A.B", Spec: client.TenantSpec{Organization: "acme", Region: "us-east-1a"}})
	want := `id: not usable as a DNS label (got "A.B"); use 1 to 63 lower-case letters, digits and inner hyphens
spec.region: an Availability Zone, not a region (got "us-east-1a"); leave out the last letter: "us-east-1"`
	if err == nil || err.Error() != want || !client.HasCode(err, "invalid") {
		t.Errorf("%v", err)
	}
	var e *client.Error
	if !errors.As(err, &e) || e.RequestID == "" || e.Status != http.StatusBadRequest {
		t.Errorf("%+v", e)
	}
	stranger := w.connect(client.Options{Token: "postern_unknown"})
	if _, err := stranger.WhoAmI(t.Context()); !client.HasCode(err, "unauthenticated") || strings.Contains(err.Error(), "postern_unknown") {
		t.Error(err)
	}
	if client.HasCode(errors.New("x"), "invalid") || client.HasCode(nil, "invalid") {
		t.Error("an error that is not the API's has a code")
	}
	if got := (&client.Error{Problem: client.Problem{Title: "t"}}).Error(); got != "t" {
		t.Error(got)
	}
	w.server.Close()
	if _, err := w.client.WhoAmI(t.Context()); err == nil || strings.Contains(err.Error(), token) || !strings.Contains(err.Error(), "reach the API") {
		t.Error(err)
	}
}

func TestListsFollowTheirPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var want, got []string
	w.update(func(tx *store.Tx) error {
		for i := range 205 {
			id := fmt.Sprintf("o%03d", i)
			want = append(want, id)
			if _, err := tx.CreateOrganization(postern.Organization{ID: id}); err != nil {
				return err
			}
		}
		return nil
	})
	os, err := w.client.Organizations(t.Context())
	for _, o := range os {
		got = append(got, o.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if n := len(w.requests()); n != 3 {
		t.Errorf("%d pages", n)
	}
}

// Every call reaches a route of the API, with arguments that need escaping.
func TestEveryCallHasARoute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, c := t.Context(), w.client
	const id = "a/b?c#d%"
	yes := true
	discard := func(_ any, err error) error { return err }
	for name, call := range map[string]func() error{
		"WhoAmI":             func() error { return discard(c.WhoAmI(ctx)) },
		"Regions":            func() error { return discard(c.Regions(ctx, "", "us-east-1")) },
		"Organizations":      func() error { return discard(c.Organizations(ctx)) },
		"Organization":       func() error { return discard(c.Organization(ctx, id)) },
		"CreateOrganization": func() error { return discard(c.CreateOrganization(ctx, client.Organization{ID: id})) },
		"DeleteOrganization": func() error { return c.DeleteOrganization(ctx, id) },
		"Tenants":            func() error { return discard(c.Tenants(ctx, id)) },
		"Tenant":             func() error { return discard(c.Tenant(ctx, id)) },
		"CreateTenant":       func() error { return discard(c.CreateTenant(ctx, client.Tenant{ID: id})) },
		"DeleteTenant":       func() error { return c.DeleteTenant(ctx, id) },
		"CreateChallenge":    func() error { return discard(c.CreateChallenge(ctx, id)) },
		"ProveAccount":       func() error { return discard(c.ProveAccount(ctx, client.Proof{Organization: id, Region: "us-east-1"})) },
		"Accounts":           func() error { return discard(c.Accounts(ctx, id)) },
		"Account":            func() error { return discard(c.Account(ctx, id)) },
		"DeleteAccount":      func() error { return c.DeleteAccount(ctx, id) },
		"ClaimEndpoints": func() error {
			return discard(c.ClaimEndpoints(ctx, client.Claim{Organization: id, VPCEndpointIDs: []string{id}}, true))
		},
		"Endpoints":                func() error { return discard(c.Endpoints(ctx, id, "ready")) },
		"Endpoint":                 func() error { return discard(c.Endpoint(ctx, id)) },
		"UpdateEndpoint":           func() error { return discard(c.UpdateEndpoint(ctx, id, nil)) },
		"UpdateEndpointAllTenants": func() error { return discard(c.UpdateEndpointAllTenants(ctx, id)) },
		"ApproveEndpoint":          func() error { return discard(c.ApproveEndpoint(ctx, id)) },
		"DeleteEndpoint":           func() error { return c.DeleteEndpoint(ctx, id) },
		"Connections":              func() error { return discard(c.Connections(ctx, id, &yes)) },
		"Denials":                  func() error { return discard(c.Denials(ctx, id)) },
		"Events":                   func() error { return discard(c.Events(ctx, id, 3)) },
		"Tokens":                   func() error { return discard(c.Tokens(ctx)) },
		"CreateToken":              func() error { return discard(c.CreateToken(ctx, client.TokenSpec{Name: "x", Role: "node"})) },
		"DeleteToken":              func() error { return c.DeleteToken(ctx, id) },
		"Plan":                     func() error { return discard(c.Plan(ctx)) },
	} {
		err := call()
		var e *client.Error
		switch {
		case err == nil:
		case !errors.As(err, &e):
			t.Errorf("%s: %v", name, err)
		case e.Status != http.StatusNotFound && e.Status != http.StatusBadRequest, strings.Contains(e.Detail, "no such route"), e.Status == http.StatusNotFound && !strings.Contains(e.Detail, `"a/b?c#d%"`):
			t.Errorf("%s: %d %v", name, e.Status, err)
		}
	}
}

func TestWatchEventsGoesOnFromTheLastSeq(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	record := func(n int) {
		w.update(func(tx *store.Tx) error {
			for range n {
				if err := tx.AppendEvent(postern.Event{Action: "a", Message: strings.Repeat("long ", 2000)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	record(3)
	// Each stream is cut by the server after two events.
	w.misbehave(func(rw http.ResponseWriter, r *http.Request) bool {
		w.api.ServeHTTP(&cutting{ResponseWriter: rw, left: 2}, r)
		return true
	})
	var seqs []int64
	var after int64
	for len(seqs) < 6 {
		err := w.client.WatchEvents(t.Context(), "", after, func(e client.Event) bool {
			seqs, after = append(seqs, e.Seq), e.Seq
			if len(seqs) == 3 {
				record(3) // while it watches
			}
			return len(seqs) < 6
		})
		if (err == nil) != (len(seqs) == 6) {
			t.Fatalf("after %v: %v", seqs, err)
		}
	}
	if diff := cmp.Diff([]int64{1, 2, 3, 4, 5, 6}, seqs); diff != "" {
		t.Error(diff)
	}
}

// cutting aborts a stream after some events.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cutting) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "data:") {
		if c.left == 0 {
			return 0, errors.New("cut")
		}
		c.left--
	}
	return c.ResponseWriter.Write(b)
}

func TestWatchEventsEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.update(func(tx *store.Tx) error { return tx.AppendEvent(postern.Event{Action: "a"}) })
	if err := w.client.WatchEvents(ctx, "", 0, func(client.Event) bool { cancel(); return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("its context ended: %v", err)
	}
	stranger := w.connect(client.Options{Token: "postern_unknown"})
	if err := stranger.WatchEvents(t.Context(), "", 0, func(client.Event) bool { return true }); !client.HasCode(err, "unauthenticated") {
		t.Errorf("refused: %v", err)
	}
	w.misbehave(func(rw http.ResponseWriter, _ *http.Request) bool {
		_, _ = io.WriteString(rw, "data: {garbage\n\n")
		return true
	})
	if err := w.client.WatchEvents(t.Context(), "", 0, func(client.Event) bool { return true }); err == nil || !strings.Contains(err.Error(), "decode an event") {
		t.Errorf("garbage: %v", err)
	}
}
