package egress_test

import (
	"net/http"
	"testing"

	"github.com/postern-net/postern/internal/egress"
)

// A flood of refusals costs the log no more than its rate, and does not drive
// out who is admitted; the next record tells how many were left out.
func TestLogKeepsToItsRate(t *testing.T) {
	w := newWorld(t, func(c *egress.Config) { c.LogRate = 1 })
	const refusals = 40
	for range refusals {
		if a := tunnelTo(t, dial(t, w.connect), exampleHost, w.port, exampleToken); a.status != http.StatusProxyAuthRequired {
			t.Fatalf("without a table: %+v", a)
		}
	}
	refused := func() (lines, omitted int) {
		for _, r := range w.records(t) {
			if r["msg"] == "connection refused" {
				lines++
				n, _ := r["omitted"].(float64)
				omitted += int(n)
			}
		}
		return lines, omitted
	}
	if n, _ := refused(); n < 1 || n > refusals/2 {
		t.Errorf("%d of %d refusals logged, at one a second", n, refusals)
	}
	w.apply(t)
	if who, err := w.get(t, w.byBearer(t, exampleToken), exampleHost); err != nil || who != "example" {
		t.Fatalf("%q, %v", who, err)
	}
	waitFor(t, "who is admitted is logged", func() bool {
		for _, r := range w.records(t) {
			if r["msg"] == "connection opened" {
				return true
			}
		}
		return false
	})
	waitFor(t, "what was left out is told", func() bool {
		tunnelTo(t, dial(t, w.connect), exampleHost, w.port, "wrong")
		lines, omitted := refused()
		return lines+omitted >= refusals
	})
}
