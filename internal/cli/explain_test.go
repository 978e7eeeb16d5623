package cli_test

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-net/postern/client"
)

// What is at the other end need not be Postern, or not be well.
func TestErrorsAreSaidPlainly(t *testing.T) {
	t.Parallel()
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body) // whoever hangs up has seen enough
		}
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		args   []string
		want   string
	}{
		{"a web page", answer(200, "text/html", "<html>"), nil, "the server at URL does not answer as Postern's API does; check the address"},
		{"JSON of another kind", answer(200, "application/json", "[1]"), nil, "the server at URL does not answer as Postern's API does; check the address"},
		{"not found by somebody else", answer(404, "text/plain", "no"), nil, "the server answered 404 Not Found and not as Postern's API does; check the address"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) }, nil, "the server answered 302 Found and not as Postern's API does; check the address"},
		{
			"a problem with a request ID", answer(500, "application/problem+json", `{"type":"urn:postern:problem:internal","title":"internal error","status":500,"detail":"it broke","request_id":"r1"}`), nil,
			"it broke (request r1)",
		},
		{
			"control characters", answer(400, "application/problem+json", `{"type":"urn:postern:problem:invalid","title":"x","status":400,"detail":"red \u001b[31m\r"}`), nil,
			"red \uFFFD[31m\uFFFD",
		},
		{"it hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, []string{"--timeout", "50ms"}, "the API at URL did not answer within 50ms; try again, or with a longer --timeout"},
		{"it hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, "cannot reach the API at URL: the connection was cut; try again"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(c.answer)
			defer srv.Close()
			term := &terminal{env: map[string]string{"POSTERN_API": srv.URL, "POSTERN_TOKEN": "secret-words"}}
			status := term.run(t.Context(), append([]string{"whoami"}, c.args...)...)
			if want := "postern: " + strings.ReplaceAll(c.want, "URL", srv.URL) + "\n"; status != 1 || term.err.String() != want {
				t.Errorf("ended with %d\n got %q\nwant %q", status, term.err.String(), want)
			}
			if term.out.String() != "" {
				t.Errorf("printed %s", term.out.String())
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret-words" {
			t.Errorf("authorized by %q", r.Header.Get("Authorization"))
		}
		_, _ = io.WriteString(w, `{"name":"ada","role":"admin"}`) // whoever hangs up has seen enough
	}))
	t.Cleanup(srv.Close)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo) // handshakes are meant to fail
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(srv.URL, "127.0.0.1", "localhost", 1) // a name that is not in the certificate
	plain := strings.Replace(srv.URL, "https", "http", 1)
	noTLS := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(noTLS.Close)
	wrong := strings.Replace(noTLS.URL, "http", "https", 1)
	for _, c := range []struct {
		name, url, ca string
		status        int
		want          string
	}{
		{"trusted", srv.URL, ca, 0, ""},
		{"not trusted", srv.URL, "", 1, "postern: cannot reach the API at " + srv.URL + ": its certificate is signed by an unknown authority; give the authority's certificate with --ca-file\n"},
		{"https to a clear-text port", wrong, "", 1, "postern: cannot reach the API at " + wrong + ": it does not speak TLS there; check the address, its port, and http or https\n"},
		{"another name", other, ca, 1, "postern: cannot reach the API at " + other + ": its certificate is for another name; check the address\n"},
		{"http to a TLS port", plain, "", 1, "postern: the server answered 400 Bad Request and not as Postern's API does; check the address\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			term := &terminal{env: map[string]string{"POSTERN_API": c.url, "POSTERN_TOKEN": "secret-words", "POSTERN_CA_FILE": c.ca}}
			if status := term.run(t.Context(), "whoami"); status != c.status || term.err.String() != c.want {
				t.Errorf("ended with %d: %s", status, term.err.String())
			}
		})
	}
}

// A server that relays the challenge of somebody else's organization gets no
// signature for it.
func TestAChallengeForAnotherOrganizationIsNotSigned(t *testing.T) {
	for name, ch := range map[string]client.Challenge{
		"openly":    {Organization: "mallory", Nonce: "n", Header: "X-Postern-Binding", Binding: "immuta;mallory;n", Regions: []string{virginia}},
		"secretly":  {Organization: "example-corp", Nonce: "n", Header: "X-Postern-Binding", Binding: "immuta;mallory;n", Regions: []string{virginia}},
		"elsewhere": {Organization: "example-corp", Nonce: "n", Header: "X-Vault-AWS-IAM-Server-ID", Binding: "immuta;example-corp;n", Regions: []string{virginia}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v1/account-challenges" {
					t.Errorf("the proof was sent: %s", r.URL.Path)
				}
				w.WriteHeader(http.StatusCreated)
				if err := json.NewEncoder(w).Encode(ch); err != nil {
					t.Errorf("answer: %v", err)
				}
			}))
			defer srv.Close()
			t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-words")
			term := &terminal{env: map[string]string{"POSTERN_API": srv.URL, "POSTERN_TOKEN": "x", "POSTERN_ORGANIZATION": "example-corp"}}
			if status := term.run(t.Context(), "account", "prove"); status != 1 || !strings.Contains(term.err.String(), "check the API's address") {
				t.Errorf("ended with %d: %s", status, term.err.String())
			}
		})
	}
}
