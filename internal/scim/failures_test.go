package scim_test

import (
	"bufio"
	"fmt"
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
		panic(http.ErrAbortHandler) // an answer could still be in time
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
	until(t, "the request is logged", func() bool { return strings.Contains(w.logged(), `"status":499`) })
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
		until(t, "the request is logged", func() bool { return strings.Contains(w.logged(), `"status":499`) })
		if n := w.denials()[postern.DenyBackendDown]; n != 0 {
			t.Errorf("counted %d times against the backend", n)
		}
	})
}

// An app that answers before the upload ends, and reads on, gets all of it.
func TestAnswersBeforeTheUploadEnds(t *testing.T) {
	t.Parallel()
	const pieces, size = 20, 1000
	for name, tc := range map[string]struct {
		fields, first, end string
		piece              func(string) string
	}{
		"chunked": {"Transfer-Encoding: chunked", "5\r\nfirst\r\n", "0\r\n\r\n", func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }},
		"sized":   {fmt.Sprintf("Content-Length: %d", 5+pieces*size), "first", "", func(s string) string { return s }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			got := make(chan string, 1)
			w.app.mu.Lock()
			w.app.serve = func(rw http.ResponseWriter, r *http.Request) {
				rc := http.NewResponseController(rw)
				_ = rc.EnableFullDuplex()
				_, _ = io.ReadFull(r.Body, make([]byte, 5))
				_, _ = io.WriteString(rw, "seen")
				_ = rc.Flush()
				rest, err := io.ReadAll(r.Body)
				got <- fmt.Sprintf("%d bytes, %v", len(rest), err)
			}
			w.app.mu.Unlock()
			for range 3 {
				c, err := w.dial(host, "http/1.1")
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(c, post(tc.fields, tc.first))
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				for range pieces {
					_, _ = io.WriteString(c, tc.piece(strings.Repeat("x", size)))
				}
				_, _ = io.WriteString(c, tc.end)
				if g := <-got; g != fmt.Sprintf("%d bytes, <nil>", pieces*size) {
					t.Fatalf("the app got %s", g)
				}
				if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "seen" {
					t.Fatalf("answered %q, %v", b, err)
				}
				_ = resp.Body.Close()
			}
		})
	}
}

// An app that answers and does not read on ends the connection, with its answer
// whole: what is left of the upload is never the next request.
func TestAnswersInsteadOfTheUpload(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *scim.Config) { c.Limits.RequestTimeout = time.Minute })
	w.app.mu.Lock()
	w.app.serve = func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Connection", "close") // else net/http waits for the upload here too
		http.Error(rw, "too many operations", http.StatusRequestEntityTooLarge)
	}
	w.app.mu.Unlock()
	c, err := w.dial(host, "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, post(fmt.Sprintf("Content-Length: %d", len("first")+len(plain)), "first"))
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close || err != nil || string(b) != "too many operations\n" {
		t.Errorf("%s, close %t: %q, %v", resp.Status, resp.Close, b, err)
	}
	_ = resp.Body.Close()
	_, _ = io.WriteString(c, plain) // within the body
	if b, err := io.ReadAll(r); len(b) > 0 || err != nil && !isClosed(err) {
		t.Errorf("the rest of the body was answered: %q, %v", b, err)
	}
	if n := len(w.app.requests()); n != 1 {
		t.Errorf("the app got %d requests", n)
	}
}

// An upload that turns out to be too large when the answer has begun ends the
// connection.
func TestTooLargeAfterTheAnswerBegan(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *scim.Config) { c.Limits.MaxBody, c.Limits.RequestTimeout = 10, time.Hour })
	w.app.mu.Lock()
	w.app.serve = func(rw http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(rw)
		_ = rc.EnableFullDuplex()
		_, _ = io.WriteString(rw, "seen")
		_ = rc.Flush()
		_, _ = io.Copy(io.Discard, r.Body)
	}
	w.app.mu.Unlock()
	c, err := w.dial(host, "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, post("Transfer-Encoding: chunked", "5\r\nhello\r\n"))
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusOK || !resp.Close {
		t.Fatal(resp, err)
	}
	defer resp.Body.Close()
	_, _ = io.WriteString(c, "A\r\n0123456789\r\n")
	if b, err := io.ReadAll(r); strings.Contains(string(b), "HTTP/1.1") || err != nil && !isClosed(err) {
		t.Errorf("%q, %v", b, err)
	}
}
