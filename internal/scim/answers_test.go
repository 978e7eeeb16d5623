package scim_test

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
)

// Only what a SCIM client needs comes out: not in the header, nor ahead of it or
// behind the body.
func TestOnlyKnownFieldsComeBack(t *testing.T) {
	t.Parallel()
	for name, http2 := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			w.app.mu.Lock()
			w.app.serve = func(rw http.ResponseWriter, _ *http.Request) {
				h := rw.Header()
				h.Set("Link", "</early>; rel=preload")
				h.Set("Set-Cookie", "early=1")
				rw.WriteHeader(http.StatusEarlyHints)
				for field, value := range map[string]string{
					"Access-Control-Allow-Origin": "*", "Alt-Svc": `h3=":443"`, "Clear-Site-Data": `"cookies"`, "Connection": "X-Hop", "X-Hop": "1",
					"Keep-Alive": "timeout=1", "Proxy-Authenticate": "Basic", "Refresh": "0; url=https://" + upstream, "Server": "internal/1.2 10.0.0.5",
					"Strict-Transport-Security": "max-age=0", "Trailer": "Set-Cookie, Etag", "Upgrade": "h2c", "X-Accel-Redirect": "/internal",
					"ETag": `W/"1"`, "X-Request-Id": "7", "Retry-After": "1",
				} {
					h.Set(field, value)
				}
				h["Content-Type"] = nil
				_, _ = io.WriteString(rw, "<script>")
				h.Set("Set-Cookie", "late=1")
				h.Set(http.TrailerPrefix+"Alt-Svc", `h3=":443"`)
			}
			w.app.mu.Unlock()
			resp, body := w.do(w.client(http2), "GET", "/scim/v2/Users", nil)
			delete(resp.Header, "Date")
			want := http.Header{
				"Etag": {`W/"1"`}, "X-Request-Id": {"7"}, "Retry-After": {"1"}, "Strict-Transport-Security": {"max-age=31536000"}, "X-Content-Type-Options": {"nosniff"},
			}
			if diff := cmp.Diff(want, resp.Header); diff != "" || resp.StatusCode != http.StatusOK || body != "<script>" {
				t.Errorf("%s %q:\n%s", resp.Status, body, diff)
			}
			if len(resp.Trailer) > 0 {
				t.Errorf("trailers %v", slices.Sorted(maps.Keys(resp.Trailer)))
			}
		})
	}
}

// An answer that can be read in two ways is none.
func TestAmbiguousAnswers(t *testing.T) {
	t.Parallel()
	const second = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
	for name, tc := range map[string]struct {
		answer string
		status int
		body   string
	}{
		"two lengths":               {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", 502, ""},
		"a length that is none":     {"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab", 502, ""},
		"an unknown coding":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 502, ""},
		"another protocol":          {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 502, ""},
		"no protocol":               {"hello\r\n\r\n", 502, ""},
		"a blank ahead of a colon":  {"HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nab", 200, "ab"},
		"a length and chunks":       {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 200, "ab"},
		"another answer behind it":  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab" + second, 200, "ab"},
		"another one behind chunks": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" + second, 200, "ab"},
		"one behind none":           {"HTTP/1.1 204 No Content\r\n\r\n" + second, 204, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			w.app.mu.Lock()
			w.app.serve = func(rw http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.RequestURI, "next") {
					_, _ = io.WriteString(rw, "next")
					return
				}
				c, _, err := http.NewResponseController(rw).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_, _ = io.WriteString(c, tc.answer)
				if strings.HasSuffix(tc.answer, second) {
					_, _ = io.Copy(io.Discard, c) // it could be taken for good
				}
			}
			w.app.mu.Unlock()
			if resp, body := w.do(w.client(false), "GET", "/scim/v2/Users", nil); resp.StatusCode != tc.status || tc.status < 500 && body != tc.body {
				t.Errorf("%s %q", resp.Status, body)
			}
			if resp, body := w.do(w.client(false), "GET", "/scim/v2/Users/next", nil); resp.StatusCode != http.StatusOK || body != "next" {
				t.Errorf("another client: %s %q", resp.Status, body)
			}
			if failed := w.denials()[postern.DenyBackendDown]; (failed == 1) != (tc.status == 502) {
				t.Errorf("counted %d times against the backend", failed)
			}
		})
	}
}
