package scim_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/postern-net/postern/internal/scim"
)

// A flood of refusals costs the log no more than its rate, and does not drive
// out who is admitted.
func TestLogKeepsToItsRate(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *scim.Config) { c.LogRate = 1 })
	const refusals = 40
	for range refusals {
		if _, err := w.dial("nobody.scim.example.com"); err == nil {
			t.Fatal("a host of nobody is served")
		}
	}
	if resp, _ := w.do(w.client(true), "GET", "/scim/v2/Users", nil); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	until(t, "the request is logged", func() bool { return strings.Contains(w.logged(), `"status":200`) })
	lines := strings.Count(w.logged(), "request refused")
	if lines < 1 || lines > refusals/2 {
		t.Errorf("%d of %d refusals logged, at one a second", lines, refusals)
	}
	left := testCount(t, w.registry, "postern_scim_log_omitted_total", "refused")
	if int(left)+lines != refusals {
		t.Errorf("%d were logged and %v left out, of %d", lines, left, refusals)
	}
}

// Nobody waits for a log that cannot be written.
func TestLogIsWaitedForByNobody(t *testing.T) {
	t.Parallel()
	read, write := io.Pipe()
	w := start(t, func(c *scim.Config) { c.AccessLog = slog.New(slog.NewJSONHandler(write, nil)) })
	t.Cleanup(func() { _ = read.Close() }) // before the door is shut, which waits for its log
	for range 3 {
		if _, err := w.dial("nobody.scim.example.com"); err == nil {
			t.Fatal("a host of nobody is served")
		}
		if resp, _ := w.do(w.client(true), "GET", "/scim/v2/Users", nil); resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
}
