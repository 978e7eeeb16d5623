package cli_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-net/postern/client"
)

// scripted answers the API of one tenant's cutovers with the answers given, one
// after the other, and then with the last one for ever.
type scripted struct {
	mu      sync.Mutex
	answers []client.Cutover
	older   []client.Cutover
	down    int // so many calls fail after the first
	calls   []string
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	if len(s.calls) > 1 && s.down > 0 {
		s.down--
		panic(http.ErrAbortHandler)
	}
	var answer any = s.answers[0]
	if r.URL.Path == "/v1/cutovers" {
		answer = client.Page[client.Cutover]{Items: append([]client.Cutover{s.answers[0]}, s.older...)}
	}
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // whoever hangs up has seen enough
}

func (s *scripted) said(call string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if strings.Contains(c, call) {
			return true
		}
	}
	return false
}

func cutoverIn(state string, falseOnes ...string) client.Cutover {
	c := client.Cutover{ID: "cut_1", Spec: client.CutoverSpec{Tenant: "example"}, Status: client.CutoverStatus{State: state}}
	for _, t := range falseOnes {
		c.Status.Conditions = append(c.Status.Conditions, client.Condition{Type: t, Status: "False", Message: "waits for " + t})
	}
	return c
}

func serveCutovers(t *testing.T, s *scripted) *terminal {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return &terminal{env: map[string]string{"POSTERN_API": srv.URL, "POSTERN_TOKEN": "x"}}
}

// What is watched is told once per change, in the order in which things come
// to hold, and an API that is away for a while does not end it.
func TestCutoverWatch(t *testing.T) {
	t.Parallel()
	backed := cutoverIn("rolled-back")
	backed.Status.EndedBy, backed.Status.EndedWhy = "ada", "too early"
	for _, c := range []struct {
		name    string
		answers []client.Cutover
		status  int
		says    string
	}{
		{"to its end", []client.Cutover{
			cutoverIn("rehearsing", "NodesAcknowledged", "DNSPublished"), cutoverIn("rehearsing", "NodesAcknowledged"), cutoverIn("rehearsing", "NodesAcknowledged"),
			cutoverIn("enforcing", "PublicClients"), cutoverIn("complete", "DNSPublished"),
		}, 0, "example: rehearsing: waits for DNSPublished\nexample: rehearsing: waits for NodesAcknowledged\nexample: enforcing\nexample: complete\n"},
		{"back", []client.Cutover{cutoverIn("rehearsing"), backed}, 1, "example: rehearsing\nexample: rolled-back\npostern: the cutover was rolled back by ada: too early\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			term := serveCutovers(t, &scripted{answers: c.answers})
			if status := term.run(t.Context(), "cutover", "watch", "example"); status != c.status || term.err.String() != c.says {
				t.Errorf("ended with %d:\n%s\nwant\n%s", status, term.err.String(), c.says)
			}
			if !strings.Contains(term.out.String(), "cut_1") {
				t.Errorf("printed %q", term.out.String())
			}
		})
	}
	t.Run("without the API", func(t *testing.T) {
		t.Parallel()
		// Three attempts are one call.
		term := serveCutovers(t, &scripted{answers: []client.Cutover{cutoverIn("rehearsing"), cutoverIn("complete")}, down: 6})
		if status := term.run(t.Context(), "cutover", "watch", "example"); status != 0 || strings.Count(term.err.String(), "; still watching\n") != 1 {
			t.Errorf("ended with %d: %s", status, term.err.String())
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		term := serveCutovers(t, &scripted{answers: []client.Cutover{cutoverIn("rehearsing")}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan int, 1)
		go func() { done <- term.run(ctx, "cutover", "watch", "example") }()
		if err := until(ctx, func() (bool, error) { return strings.Contains(term.err.String(), "rehearsing"), nil }); err != nil {
			t.Error(err)
		}
		cancel()
		if status := <-done; status != 1 || !strings.HasSuffix(term.err.String(), "\npostern: interrupted\n") {
			t.Errorf("ended with %d: %s", status, term.err.String())
		}
	})
}

// A tenant becomes public only after a yes, and nothing is asked where there is
// nothing to go back from.
func TestCutoverRollbackAsks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, state, answer string
		args                []string
		asked, sent         bool
	}{
		{"no", "complete", "n\n", nil, true, false},
		{"no answer", "rehearsing", "", nil, true, false},
		{"yes", "complete", "y\n", nil, true, true},
		{"told before", "enforcing", "", []string{"--yes"}, false, true},
		{"rolled back already", "rolled-back", "", nil, false, true}, // the API refuses it
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{answers: []client.Cutover{cutoverIn(c.state)}}
			term := serveCutovers(t, s)
			term.in = c.answer
			status := term.run(t.Context(), append([]string{"cutover", "rollback", "example"}, c.args...)...)
			if asked := strings.Contains(term.err.String(), "Go on? [y/N]"); asked != c.asked || s.said("POST /v1/cutovers/cut_1/rollback") != c.sent || (status == 0) != c.sent {
				t.Errorf("ended with %d, calls %v: %s", status, s.calls, term.err.String())
			}
		})
	}
}

// The cutover that is meant is the one that counts, or the one that began last.
func TestWhichCutoverIsMeant(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	named := func(id, state string, hours int) client.Cutover {
		c := cutoverIn(state)
		c.ID, c.Status.StartedAt = id, noon.Add(time.Duration(hours)*time.Hour)
		return c
	}
	for want, all := range map[string][]client.Cutover{
		"cut_current": {named("cut_a", "rolled-back", 5), named("cut_current", "complete", 1), named("cut_b", "rolled-back", 2)},
		"cut_last":    {named("cut_c", "rolled-back", 1), named("cut_last", "rolled-back", 3), named("cut_d", "rolled-back", 2)},
	} {
		term := serveCutovers(t, &scripted{answers: all[:1], older: all[1:]})
		if status := term.run(t.Context(), "cutover", "status", "example"); status != 0 || !strings.Contains(term.out.String(), want) {
			t.Errorf("ended with %d: %s%s; want %s", status, term.out.String(), term.err.String(), want)
		}
	}
}
