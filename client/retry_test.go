package client_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-net/postern/client"
)

// replies serves one problem for each request, in order, and the last for ever.
func replies(t *testing.T, problems ...string) (*client.Client, *atomic.Int64) {
	t.Helper()
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i := min(int(n.Add(1)), len(problems)) - 1
		status, body, _ := strings.Cut(problems[i], " ")
		code := map[string]int{"400": 400, "429": 429, "503": 503}[status]
		if code == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "60")
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(srv.Close)
	c, err := client.New(srv.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, &n
}

const (
	unavailable = `503 {"type":"urn:postern:problem:unavailable","title":"not available","status":503,"detail":"STS does not answer"}`
	spentNonce  = `400 {"type":"urn:postern:problem:invalid","title":"invalid","status":400,"errors":[{"field":"nonce","message":"not an open challenge"}]}`
	throttled   = `429 {"type":"urn:postern:problem:throttled","title":"too many requests","status":429}`
)

// What went wrong is the first attempt, not that the second found its
// challenge spent.
func TestAProofThatIsSentAgainIntoASpentChallenge(t *testing.T) {
	t.Parallel()
	c, n := replies(t, unavailable, spentNonce)
	_, err := c.ProveAccount(t.Context(), client.Proof{})
	if !client.HasCode(err, "unavailable") || !strings.Contains(err.Error(), "ask for a new one") || n.Load() != 2 {
		t.Errorf("%v after %d requests", err, n.Load())
	}
	c, n = replies(t, spentNonce)
	if _, err := c.ProveAccount(t.Context(), client.Proof{}); !client.HasCode(err, "invalid") || n.Load() != 1 {
		t.Errorf("%v after %d requests", err, n.Load())
	}
}

func TestALongRetryAfterIsTheCallers(t *testing.T) {
	t.Parallel()
	c, n := replies(t, throttled)
	start := time.Now()
	_, err := c.WhoAmI(t.Context())
	if !client.HasCode(err, "throttled") || n.Load() != 1 || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %d requests and %s", err, n.Load(), time.Since(start))
	}
}
