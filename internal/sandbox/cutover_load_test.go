package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/postern-net/postern/internal/platformfile"
)

// TestCutoverUnderLoad takes a tenant's public access away while its network
// asks for it 200 times a second, each time by a new connection to the standard
// hostname's endpoint: nobody private may notice.
func TestCutoverUnderLoad(t *testing.T) {
	if os.Getenv("POSTERN_E2E") == "" {
		t.Skip("200 requests a second need the machine for themselves; run it with `make e2e`")
	}
	p, err := platformfile.Load("immuta")
	if err != nil {
		t.Fatal(err)
	}
	var anyPort uint16
	s, err := Start(t.Context(), Options{StateDir: t.TempDir(), Platform: p, HTTPSPort: &anyPort, DNSPort: &anyPort, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	if err := s.Connect(ctx, func(Connected) {}); err != nil {
		t.Fatal(err)
	}
	st := s.newStory()
	ready, err := st.example.api.Endpoints(ctx, "example-corp", "ready")
	if err != nil || len(ready) == 0 {
		t.Fatalf("%d ready endpoints: %v", len(ready), err)
	}
	st.ids["first"] = ready[0].ID
	name := p.PrivateLinkHost("example")
	if err := st.example.createCNAME(ctx, st.vpc("example-corp"), p.Domains.PrivateLink, name, ready[0].Status.DNSNames[0]); err != nil {
		t.Fatal(err)
	}
	if err := until(ctx, func() error { _, err := st.visitor("example-corp").resolve(ctx, name); return err }); err != nil {
		t.Fatal(err)
	}

	// Before the rehearsal the standard hostname does not lead to the endpoint,
	// so the load goes by the name that the customer's own DNS answers.
	at, err := st.visitor("example-corp").resolve(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	st.doors["first"] = at
	const rate = 200
	start := time.Now()
	load := startLoad(ctx, rate, 5*rate, func(ctx context.Context) error {
		r, err := st.visit(ctx, "example-corp", "first", "example", "example")
		if err == nil && (r.status != 200 || r.app.VPCEndpointID != st.ids["first"]) {
			err = fmt.Errorf("status %d through %q", r.status, r.app.VPCEndpointID)
		}
		return err
	})
	err = st.wholeCutover(ctx)
	took := time.Since(start)
	sent, failed := load.stop()
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	if least := int(took.Seconds() * rate * 0.9); sent < least { // it would prove less than it says
		t.Fatalf("%d requests in %s, want at least %d", sent, took, least)
	}
	t.Logf("%d requests in %s, %.0f a second, 0 failed", sent, took.Round(time.Millisecond), float64(sent)/took.Seconds())
}

// wholeCutover starts one, sees the VPC by the standard hostname in the
// rehearsal and at the end, and waits until it is complete.
func (st *story) wholeCutover(ctx context.Context) error {
	c, err := st.rehearse(ctx, "example", "Integrations", "PathUnproven", "BackendNotIsolated", "PublicClients")
	if err != nil {
		return err
	}
	if err := until(ctx, func() error { return st.privately(ctx, "example-corp", "example", "first") }); err != nil {
		return err
	}
	err = until(ctx, func() error {
		now, err := st.example.api.Cutover(ctx, c.ID)
		if err == nil && now.Status.State == "rolled-back" {
			return fmt.Errorf("%w: rolled back: %s", errFinal, now.Status.EndedWhy)
		}
		if err == nil && now.Status.State != "complete" {
			err = fmt.Errorf("the cutover is %s: %s", now.Status.State, cutoverConditions(now))
		}
		return err
	})
	if err != nil {
		return err
	}
	return st.privately(ctx, "example-corp", "example", "first")
}
