package sandbox_test

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/sandbox"
)

// A pool that cannot hold the world is refused before anything is written.
func TestPoolIsRefused(t *testing.T) {
	var anyPort uint16
	for name, pool := range map[string]string{
		"IPv6":      "2001:db8::/32",
		"too small": "127.96.0.0/20",
		"host bits": "127.96.0.1/12",
		"no room":   "127.96.0.0/16",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sandbox.Start(t.Context(), sandbox.Options{
				StateDir: t.TempDir(), Platform: platform(t, "immuta"), HTTPSPort: &anyPort, DNSPort: &anyPort,
				Pool: netip.MustParsePrefix(pool), Logger: slog.New(slog.DiscardHandler),
			})
			var e *postern.Error
			if !errors.As(err, &e) || e.Field != "--pool" || e.Value != pool || e.Fix == "" {
				t.Fatalf("got %v, want a refusal of --pool %s with what to give instead", err, pool)
			}
		})
	}
}

// Every address of the world is in the pool: VPCs in its first half, the
// internet and AWS's API in its second. Only the platform's own API and health
// are elsewhere, on 127.0.0.1.
func TestPool(t *testing.T) {
	var anyPort uint16
	pool := netip.MustParsePrefix("127.96.0.0/15") // as good as routed addresses, and nothing to set up
	networks, internet := netip.MustParsePrefix("127.96.0.0/16"), netip.MustParsePrefix("127.97.0.0/16")
	s, err := sandbox.Start(t.Context(), sandbox.Options{
		StateDir: t.TempDir(), Platform: platform(t, "immuta"), HTTPSPort: &anyPort, DNSPort: &anyPort,
		Pool: pool, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	f := s.File()
	inside := func(what string, at netip.Addr, block netip.Prefix) {
		t.Helper()
		if !block.Contains(at) {
			t.Errorf("%s is %s, want one in %s", what, at, block)
		}
	}
	for _, all := range []map[string]netip.Addr{f.Resolvers, f.Sources} {
		for name, at := range all {
			block := networks
			if name == "public" || name == "internet" {
				block = internet
			}
			inside(name, at, block)
		}
	}
	seen := map[netip.Addr]string{}
	for id, n := range f.Nodes {
		for region, at := range n.Private {
			inside(id+" private "+region, at, networks)
		}
		for region, at := range n.Public {
			inside(id+" public "+region, at, internet)
			if other, ok := seen[at]; ok {
				t.Errorf("%s is a door of %s and of %s", at, other, id+" "+region)
			}
			seen[at] = id + " " + region
		}
	}
	aws, err := netip.ParseAddrPort(trimScheme(t, f.AWS.EndpointURL))
	if err != nil {
		t.Fatal(err)
	}
	inside("AWS's API", aws.Addr(), internet)
	if err := s.Connect(t.Context(), func(sandbox.Connected) {}); err != nil {
		t.Errorf("the organizations cannot be connected: %v", err)
	}
}

// Without a pool the addresses are those that scripts know.
func TestAddressesWithoutPool(t *testing.T) {
	f := start(t, t.TempDir(), platform(t, "immuta")).File()
	for what, pair := range map[string][2]string{
		"the internet's client":     {f.Sources["internet"].String(), "127.64.0.10"},
		"the public resolver":       {f.Resolvers["public"].String(), "127.64.0.2"},
		"Example Corp's client":     {f.Sources["example-corp"].String(), "127.80.112.10"},
		"Example Corp's resolver":   {f.Resolvers["example-corp"].String(), "127.80.112.2"},
		"node-a's first door":       {f.Nodes["node-a"].Public["us-east-1"].String(), "127.64.1.1"},
		"node-b's first door":       {f.Nodes["node-b"].Public["us-east-1"].String(), "127.64.3.1"},
		"the SCIM door":             {f.Ingress.SCIM["us-east-1"].String(), "127.64.2.1"},
		"node-a's first inner door": {f.Nodes["node-a"].Private["us-east-1"].String(), "127.80.0.20"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %s, want %s", what, pair[0], pair[1])
		}
	}
	aws, err := netip.ParseAddrPort(trimScheme(t, f.AWS.EndpointURL))
	if err != nil || aws.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("AWS's API is at %s (%v), want 127.0.0.1", aws, err)
	}
}

func trimScheme(t *testing.T, url string) string {
	t.Helper()
	const scheme = "http://"
	if len(url) < len(scheme) || url[:len(scheme)] != scheme {
		t.Fatalf("%q is no http URL", url)
	}
	return url[len(scheme):]
}
