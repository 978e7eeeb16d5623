package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/sandbox"
)

func adminOf(t *testing.T, s *sandbox.Sandbox) *client.Client {
	t.Helper()
	f := s.File()
	secret, err := os.ReadFile(f.API.AdminTokenFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(f.API.URL, client.Options{Token: strings.TrimSpace(string(secret))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// await waits until something holds.
func await(t *testing.T, holds func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := holds(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-tick.C:
		}
	}
}

// is waits until the API says so of nodes.
func is(t *testing.T, c *client.Client, want map[string]string) {
	t.Helper()
	await(t, func(ctx context.Context) error {
		nodes, err := c.Nodes(ctx)
		if err != nil {
			return err
		}
		got := map[string]string{}
		for _, n := range nodes {
			got[n.ID] = n.Status.State
		}
		for id, state := range want {
			if got[id] != state {
				return fmt.Errorf("node %s is %q, want %q (%v)", id, got[id], state, got)
			}
		}
		return nil
	})
}

// The sandbox has two nodes. One whose link is cut falls behind and catches up;
// one that is stopped starts again, with the control plane or without.
func TestNodes(t *testing.T) {
	s := start(t, t.TempDir(), platform(t, "../platformfile/testdata/northwind-cloud.yaml"))
	f, c := s.File(), adminOf(t, s)
	is(t, c, map[string]string{"node-a": "ready", "node-b": "ready"})
	for _, id := range []string{"node-a", "node-b"} {
		for _, region := range platform(t, "../platformfile/testdata/northwind-cloud.yaml").RegionIDs() {
			if n := f.Nodes[id]; !n.Private[region].IsValid() || !n.Public[region].IsValid() || n.AdminURL == "" || n.TokenFile == "" {
				t.Errorf("something of %s in %s is missing: %+v", id, region, n)
			}
		}
	}
	region := platform(t, "../platformfile/testdata/northwind-cloud.yaml").RegionIDs()[0]
	if f.Nodes["node-a"].Private[region] != f.Ingress.Private[region] || f.Nodes["node-b"].Private[region] == f.Ingress.Private[region] ||
		f.Nodes["node-a"].Public[region] != f.Ingress.Public[region] || f.Nodes["node-b"].Public[region] == f.Ingress.Public[region] {
		t.Errorf("%+v, and the ingress is %+v", f.Nodes, f.Ingress)
	}

	if err := s.CutLink("node-b"); err != nil {
		t.Fatal(err)
	}
	const extra = "node-test"
	if _, err := c.CreateOrganization(t.Context(), client.Organization{ID: extra}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateTenant(t.Context(), client.Tenant{ID: extra, Spec: client.TenantSpec{Organization: extra, Region: region}}); err != nil {
		t.Fatal(err)
	}
	is(t, c, map[string]string{"node-a": "ready", "node-b": "behind"})
	if err := s.RestoreLink("node-b"); err != nil {
		t.Fatal(err)
	}
	is(t, c, map[string]string{"node-a": "ready", "node-b": "ready"})

	if err := s.CutLink("node-b"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.StopNode("node-b"); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := s.StartNode(t.Context(), "node-b"); err != nil {
			t.Fatal(err)
		}
	}
	if err := ready(t.Context(), f.Nodes["node-b"].AdminURL); err != nil {
		t.Errorf("started without its link: %v", err)
	}
	for _, err := range []error{s.CutLink("node-c"), s.RestoreLink("node-c"), s.StopNode("node-c"), s.StartNode(t.Context(), "node-c")} {
		if err == nil {
			t.Error("a node that is none")
		}
	}
}

// A sandbox starts with a node that a person fenced, and says so.
func TestStartWithAFencedNode(t *testing.T) {
	dir, p := t.TempDir(), platform(t, "../platformfile/testdata/northwind-cloud.yaml")
	first := start(t, dir, p)
	c := adminOf(t, first)
	if _, err := c.FenceNode(t.Context(), "node-b"); err != nil {
		t.Fatal(err)
	}
	await(t, func(ctx context.Context) error {
		if ready(ctx, first.File().Nodes["node-b"].AdminURL) == nil {
			return errors.New("it is ready")
		}
		return nil
	})
	first.Stop()
	second := start(t, dir, p)
	if notes := strings.Join(second.Notes, "\n"); !strings.Contains(notes, "node-b is fenced and refuses everything") {
		t.Errorf("notes: %s", notes)
	}
	is(t, adminOf(t, second), map[string]string{"node-a": "ready", "node-b": "fenced"})
}

// ready asks a process whether it can do its work.
func ready(ctx context.Context, adminURL string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, adminURL+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s says %s", adminURL, resp.Status)
	}
	return nil
}
