package scim_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/scim"
)

// A client of which half has gone gets no answer that the app did not give:
// least of all an empty 200 for a user that was not created.
func TestWhoIsGoneIsNotToldOfSuccess(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	begun := make(chan struct{})
	w.app.mu.Lock()
	w.app.serve = func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		_, _ = io.ReadAll(r.Body)
		<-r.Context().Done()
	}
	w.app.mu.Unlock()
	c, err := w.dial(host, "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, post("Content-Length: 2", "{}"))
	<-begun
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil && !isClosed(err) {
		t.Errorf("answered %q, %v", b, err)
	}
	until(t, "the request is logged", func() bool { return strings.Contains(w.log.String(), `"status":499`) })
	if n := w.denials()[postern.DenyBackendDown]; n != 0 {
		t.Errorf("counted %d times against the backend", n)
	}
}

// A body that does not come is not the backend's fault, and neither is one that
// breaks off.
func TestBodiesThatDoNotCome(t *testing.T) {
	t.Parallel()
	for name, http2 := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, func(c *scim.Config) { c.Limits.RequestTimeout = 200 * time.Millisecond })
			body, write := io.Pipe()
			defer write.Close()
			go func() { _, _ = io.WriteString(write, "hel") }()
			resp, _ := w.do(w.client(http2), "POST", "/scim/v2/Users", body)
			if resp.StatusCode != http.StatusRequestTimeout {
				t.Error(resp.Status)
			}
			if d := w.denials(); d[postern.DenySlowBody] != 1 || d[postern.DenyBackendDown] != 0 {
				t.Errorf("counted as %v", d)
			}
		})
	}
	t.Run("broken off", func(t *testing.T) {
		t.Parallel()
		w := start(t, nil)
		c, err := w.dial(host, "http/1.1")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, post("Content-Length: 5", "hel"))
		until(t, "it reaches the backend", func() bool { return w.app.connections() > 0 })
		_ = c.CloseWrite()
		if b, err := io.ReadAll(c); len(b) > 0 || err != nil && !isClosed(err) {
			t.Errorf("answered %q, %v", b, err)
		}
		until(t, "the request is logged", func() bool { return strings.Contains(w.log.String(), `"status":499`) })
		if n := w.denials()[postern.DenyBackendDown]; n != 0 {
			t.Errorf("counted %d times against the backend", n)
		}
	})
}
