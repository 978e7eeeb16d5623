package api_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/api"
	"github.com/postern-net/postern/internal/store"
)

// watching opens a watch over a real connection and returns its lines.
func (w *world) watching(token, query string, headers ...string) (lines *bufio.Scanner, stop func()) {
	w.t.Helper()
	return w.watchingOn(httptest.NewServer(w.api), token, query, headers...)
}

// watchingOn does so on a server of one's own, which stop closes.
func (w *world) watchingOn(srv *httptest.Server, token, query string, headers ...string) (lines *bufio.Scanner, stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/v1/events/watch"+query, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secretOf(token))
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	return bufio.NewScanner(resp.Body), func() {
		cancel()
		_ = resp.Body.Close()
		srv.Close()
	}
}

// next reads lines up to the next event.
func next(t *testing.T, lines *bufio.Scanner) (e client.Event) {
	t.Helper()
	for lines.Scan() {
		if data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: ")); ok {
			if err := json.Unmarshal(data, &e); err != nil {
				t.Fatal(err)
			}
			return e
		}
	}
	t.Fatalf("the stream ended: %v", lines.Err())
	return e
}

// The header comes before anything has happened; so these tests would hang if
// it did not.
func TestWatch(t *testing.T) {
	w := newWorld(t)
	all := must[client.Page[client.Event]](w, "admin", "GET", "/v1/events?page_size=1000", nil).Items
	last := all[len(all)-1].Seq
	lines, stop := w.watching("admin", "?after="+itoa(last))
	defer stop()
	must[client.Organization](w, "admin", "POST", "/v1/organizations", client.Organization{ID: "acme"})
	if e := next(t, lines); e.Seq != last+1 || e.Action != "organization.created" || e.Subject != "acme" || e.Actor != "admin" {
		t.Errorf("%+v", e)
	}
	must[struct{}](w, "admin", "DELETE", "/v1/organizations/acme", nil)
	if e := next(t, lines); e.Seq != last+2 || e.Action != "organization.deleted" {
		t.Errorf("%+v", e)
	}

	// From the start, and from where a browser was.
	again, stopAgain := w.watching("admin", "")
	defer stopAgain()
	if e := next(t, again); e.Seq != all[0].Seq {
		t.Errorf("%+v", e)
	}
	later, stopLater := w.watching("admin", "?after=1", "Last-Event-ID: "+itoa(last))
	defer stopLater()
	if e := next(t, later); e.Seq != last+1 {
		t.Errorf("%+v", e)
	}
}

// Over HTTP/2 a deadline of writing ends a stream also while nothing is written.
func TestQuietWatchOverHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := httptest.NewUnstartedServer(w.api)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	lines, stop := w.watchingOn(srv, "admin", "?after="+itoa(int64(len(w.events()))))
	defer stop()
	<-time.After(6 * time.Second) // longer than one write may take, shorter than between two pings
	must[client.Organization](w, "admin", "POST", "/v1/organizations", client.Organization{ID: "acme"})
	if e := next(t, lines); e.Subject != "acme" {
		t.Errorf("%+v", e)
	}
}

func itoa(n int64) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func TestWatchShowsOnesOwn(t *testing.T) {
	w := newWorld(t)
	start := func(actions ...string) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			var errs []error
			for _, a := range actions {
				action, organization, _ := strings.Cut(a, "@")
				errs = append(errs, tx.AppendEvent(postern.Event{At: w.clock(), Action: action, Organization: organization}))
			}
			return errors.Join(errs...)
		}
	}
	own, stop := w.watching("viewer", "?after="+itoa(int64(len(w.events()))))
	defer stop()
	foreign, stopForeign := w.watching("viewer", "?organization=globex")
	w.update(start("a@globex", "b@", "c@example-corp"))
	if e := next(t, own); e.Action != "c" {
		t.Errorf("a viewer of Example Corp was told %+v", e)
	}
	// The foreign watch is as quiet as one of nobody: it ends without a word.
	stopForeign()
	for foreign.Scan() {
		if strings.HasPrefix(foreign.Text(), "data:") {
			t.Errorf("told about Globex: %s", foreign.Text())
		}
	}
}

// streamWriter is an HTTP response that is never full.
type streamWriter struct {
	mu     sync.Mutex
	header http.Header
	body   strings.Builder
}

func (w *streamWriter) Header() http.Header              { return w.header }
func (w *streamWriter) WriteHeader(int)                  {}
func (w *streamWriter) Flush()                           {}
func (w *streamWriter) SetReadDeadline(time.Time) error  { return nil }
func (w *streamWriter) SetWriteDeadline(time.Time) error { return nil }
func (w *streamWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.body.Write(b)
}

func (w *streamWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.body.String()
}

// A watch pings while nothing happens, and ends with its token.
func TestWatchEndsWithItsToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "postern.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		hash := sha256.Sum256([]byte("secret"))
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.CreateToken(postern.Token{ID: "tok_1", Name: "a", Role: postern.RoleAdmin}, hash[:])
			return err
		}); err != nil {
			t.Fatal(err)
		}
		h := api.New(api.Config{Platform: &postern.Platform{Name: "example"}, Store: s, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
		out := &streamWriter{header: http.Header{}}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/events/watch", nil)
		r.Header.Set("Authorization", "Bearer secret")
		done := make(chan time.Time)
		go func() {
			h.ServeHTTP(out, r)
			done <- time.Now()
		}()
		time.Sleep(40 * time.Second) //nolint:forbidigo // the time of a synctest bubble
		if got := strings.Count(out.String(), ": ping\n\n"); got != 2 {
			t.Errorf("%d pings in 40 s: %q", got, out)
		}
		revoked := time.Now()
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.RevokeToken("tok_1", revoked) }); err != nil {
			t.Fatal(err)
		}
		if took := (<-done).Sub(revoked); took > 15*time.Second {
			t.Errorf("a revoked token watched for %v", took)
		}
	})
}
