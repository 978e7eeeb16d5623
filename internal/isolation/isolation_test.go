package isolation_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/backend"
	"github.com/postern-net/postern/internal/isolation"
	"github.com/postern-net/postern/test/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a backend behind the listener of package backend.
func serve(t *testing.T, h http.Handler) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnContext = backend.ConnContext
	s.Listener = &backend.Listener{Listener: s.Listener, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func TestProbe(t *testing.T) {
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	if isolated, detail := isolation.Probe(t.Context(), serve(t, backend.Handler(ok)), "example.hosted.test", "other.hosted.test"); !isolated {
		t.Errorf("a backend with the middleware counts as open: %s", detail)
	}
	isolated, detail := isolation.Probe(t.Context(), serve(t, ok), "example.hosted.test", "other.hosted.test")
	if isolated || !strings.Contains(detail, "answers 200") {
		t.Errorf("a backend that serves every host: isolated %v, %s", isolated, detail)
	}
	if isolated, detail := isolation.Probe(t.Context(), loopback.Free(t), "example.hosted.test", "other.hosted.test"); isolated || !strings.Contains(detail, "does not answer") {
		t.Errorf("a backend that is down: isolated %v, %s", isolated, detail)
	}
}

// Every backend is asked once, however many hosts lead to it.
func TestProbeAll(t *testing.T) {
	guarded := serve(t, backend.Handler(http.NotFoundHandler()))
	open := serve(t, http.NotFoundHandler())
	found := isolation.ProbeAll(t.Context(), postern.Routes{Hosts: map[string]postern.Host{
		"a.hosted.test": {Backends: []netip.AddrPort{guarded}},
		"b.hosted.test": {Backends: []netip.AddrPort{guarded, open}},
	}}, 0)
	got := map[string]bool{}
	for _, f := range found {
		got[f.Address] = f.Isolated
	}
	if len(found) != 2 || !got[guarded.String()] || got[open.String()] {
		t.Errorf("%+v, want %s isolated and %s not", found, guarded, open)
	}
}

// A backend that refuses hosts that it does not know, and serves those that it
// knows to whoever was admitted for another, is not isolated.
func TestProbeAllAsksForNeighbours(t *testing.T) {
	known := map[string]bool{"a.hosted.test": true, "b.hosted.test": true, "c.hosted.test": true}
	at := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !known[r.Host] {
			w.WriteHeader(http.StatusMisdirectedRequest)
		}
	}))
	routes := postern.Routes{Hosts: map[string]postern.Host{}}
	for name := range known {
		routes.Hosts[name] = postern.Host{Backends: []netip.AddrPort{at}}
	}
	asked := map[string]bool{}
	for round := range len(known) {
		found := isolation.ProbeAll(t.Context(), routes, round)
		if len(found) != 1 || found[0].Isolated {
			t.Fatalf("round %d: %+v", round, found)
		}
		asked[found[0].Detail] = true
	}
	if len(asked) != len(known) {
		t.Errorf("the same neighbours each time: %v", asked)
	}
}
