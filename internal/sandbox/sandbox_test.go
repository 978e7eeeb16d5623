package sandbox_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/platformfile"
	"github.com/postern-net/postern/internal/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func platform(t *testing.T, name string) *postern.Platform {
	t.Helper()
	p, err := platformfile.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func start(t *testing.T, dir string, p *postern.Platform) *sandbox.Sandbox {
	t.Helper()
	var anyPort uint16
	s, err := sandbox.Start(t.Context(), sandbox.Options{
		StateDir: dir, Platform: p, HTTPSPort: &anyPort, DNSPort: &anyPort, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func check(t *testing.T, s *sandbox.Sandbox) {
	t.Helper()
	passed := s.Check(t.Context(), func(step sandbox.Step) {
		t.Logf("%v %s %s: %s", step.Passed, step.Duration.Round(time.Millisecond), step.Name, step.Detail)
	})
	if !passed {
		t.Fatal("the story did not pass")
	}
}

// The story is nobody's in particular: another vendor's file, with its own
// segments and domains, plays it too.
func TestAnotherVendor(t *testing.T) {
	if !testing.Short() { // it mostly waits, but not under the race detector
		t.Parallel()
	}
	check(t, start(t, t.TempDir(), platform(t, "../platformfile/testdata/northwind-cloud.yaml")))
}

// A second start continues: what was connected stays connected, by the same
// endpoints.
func TestSecondStart(t *testing.T) {
	dir, p := t.TempDir(), platform(t, "immuta")
	connect := func() map[string]string {
		s := start(t, dir, p)
		defer s.Stop()
		ids := map[string]string{}
		if err := s.Connect(t.Context(), func(c sandbox.Connected) { ids[c.Organization] = c.EndpointID }); err != nil {
			t.Fatal(err)
		}
		return ids
	}
	first := connect()
	second := connect()
	if len(first) != 4 {
		t.Fatalf("%d organizations were connected, want 4", len(first))
	}
	for organization, id := range first {
		if second[organization] != id {
			t.Errorf("%s was connected by %s and is by %s after a restart", organization, id, second[organization])
		}
	}
}

// Every key of sandbox.json that scripts rely on has a value.
func TestFile(t *testing.T) {
	s := start(t, t.TempDir(), platform(t, "immuta"))
	f := s.File()
	for _, organization := range []string{"example-corp", "globex"} {
		if f.API.Tokens[organization] == "" || f.AWS.Accounts[organization].AccessKeyID == "" ||
			!f.Resolvers[organization].IsValid() || !f.Sources[organization].IsValid() {
			t.Errorf("something of %s is missing: %+v", organization, f)
		}
	}
	if !f.Sources["internet"].IsValid() || !f.Resolvers["public"].IsValid() || f.AWS.Accounts["platform"].ID == "" {
		t.Errorf("something common is missing: %+v", f)
	}
	for _, region := range platform(t, "immuta").RegionIDs() {
		if !f.Ingress.Private[region].IsValid() || !f.Ingress.Public[region].IsValid() || !f.Ingress.SCIM[region].IsValid() {
			t.Errorf("an ingress of %s is missing", region)
		}
	}
	if f.Hosts["example"] != "example.hosted.immutacloud.com" {
		t.Errorf("host of tenant example: %q", f.Hosts["example"])
	}
	c, err := client.New(f.API.URL, client.Options{Token: "postern_wrong"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WhoAmI(t.Context()); !client.HasCode(err, "unauthenticated") {
		t.Errorf("a wrong token: %v", err)
	}
}

// Two processes must not act on the same state.
func TestSameStateTwice(t *testing.T) {
	dir, p := t.TempDir(), platform(t, "immuta")
	start(t, dir, p)
	var anyPort uint16
	s, err := sandbox.Start(context.WithoutCancel(t.Context()), sandbox.Options{
		StateDir: dir, Platform: p, HTTPSPort: &anyPort, DNSPort: &anyPort, Logger: slog.New(slog.DiscardHandler),
	})
	if err == nil {
		s.Stop()
		t.Fatal("a second sandbox started on the same state")
	}
	if postern.CodeOf(err) != postern.CodeConflict {
		t.Errorf("%v, want a conflict", err)
	}
}
