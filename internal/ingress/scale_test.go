package ingress_test

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/relay"
)

// large are the routes of a platform with so many tenants and endpoints: five
// tenants to an organization, and as many organizations as endpoints.
func large(tenants, endpoints int) postern.Routes {
	r := postern.Routes{Revision: 1, Hosts: make(map[string]postern.Host, tenants), Endpoints: make(map[string]postern.EndpointGrant, endpoints)}
	granted := make([][]string, endpoints)
	for i := range tenants {
		at := i % endpoints
		granted[at] = append(granted[at], name(i))
		r.Hosts[name(i)] = postern.Host{
			Tenant: fmt.Sprintf("tenant-%07d", i), Organization: owner(at), Public: i%2 == 0,
			Backends: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i % 7), 1}), 443), backends[1]},
		}
	}
	for i := range endpoints {
		r.Endpoints[id(i)] = postern.EndpointGrant{Organization: owner(i), Region: region, Hosts: granted[i]}
	}
	return r
}

func name(i int) string  { return fmt.Sprintf("tenant-%07d.hosted.immutacloud.com", i) }
func owner(i int) string { return fmt.Sprintf("organization-%07d", i) }
func id(i int) string    { return fmt.Sprintf("vpce-%017x", i) }

// sizes are the tenants and endpoints that the table is made for; more by
// POSTERN_TENANTS.
func sizes(t testing.TB) (tenants, endpoints int) {
	t.Helper()
	tenants = 100_000
	if s := os.Getenv("POSTERN_TENANTS"); s != "" {
		var err error
		if tenants, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	return tenants, max(tenants/5, 1)
}

// Whatever its size, the table finds what is in it and nothing else, and the
// decision allocates nothing but the header for the backend.
func TestLargeTable(t *testing.T) {
	tenants, endpoints := 10_000, 2000
	in := newIngress(t, relay.New(relay.Config{}))
	apply(t, in, large(tenants, endpoints))
	for i := range tenants {
		at := i % endpoints
		if v := in.MatchPrivate(private(id(at), name(i))); v.Deny != "" || v.Organization != owner(at) || v.Backends[0].Addr().As4()[2] != byte(i%7) {
			t.Fatalf("tenant %d: %+v", i, v)
		}
		if v := in.MatchPrivate(private(id((at+1)%endpoints), name(i))); v.Deny != postern.DenyNotAuthorized {
			t.Fatalf("tenant %d through another's endpoint: %+v", i, v)
		}
		if v := in.MatchPublic(public(name(i))); (v.Deny == "") != (i%2 == 0) {
			t.Fatalf("tenant %d publicly: %+v", i, v)
		}
	}
	if v := in.MatchPrivate(private(id(0), name(tenants))); v.Deny != postern.DenyUnknownHost {
		t.Errorf("one tenant too many: %+v", v)
	}
	if v := in.MatchPrivate(private(id(endpoints), name(0))); v.Deny != postern.DenyUnknownEndpoint {
		t.Errorf("one endpoint too many: %+v", v)
	}
	for what, tc := range map[string]struct {
		arrival *relay.Arrival
		most    float64
	}{
		"admitted":         {private(id(7), name(7)), 1},
		"not granted":      {private(id(7), name(8)), 0},
		"unknown host":     {private(id(7), name(tenants)), 0},
		"unknown endpoint": {private(id(endpoints), name(7)), 0},
	} {
		if n := testing.AllocsPerRun(1000, func() { in.MatchPrivate(tc.arrival) }); n > tc.most {
			t.Errorf("%s: %v allocations, want %v at most", what, n, tc.most)
		}
	}
}

func BenchmarkMatchPrivate(b *testing.B) {
	tenants, endpoints := sizes(b)
	in := newIngress(b, relay.New(relay.Config{}))
	apply(b, in, large(tenants, endpoints))
	arrivals := make([]*relay.Arrival, 1024)
	for i := range arrivals {
		n := i * 7919 % tenants
		arrivals[i] = private(id(n%endpoints), name(n))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if v := in.MatchPrivate(arrivals[i%len(arrivals)]); v.Deny != "" {
			b.Fatal(v.Deny)
		}
	}
}

// BenchmarkApply replaces a table by one with another tenant, as each delta
// does, while a goroutine judges connections; it reports how long the worst of
// ten thousand judgements took, what the table takes, and what it takes to
// collect garbage around it.
func BenchmarkApply(b *testing.B) {
	tenants, endpoints := sizes(b)
	in := newIngress(b, relay.New(relay.Config{}))
	r := large(tenants, endpoints)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	apply(b, in, r)
	runtime.GC()
	runtime.ReadMemStats(&after)

	stop := make(chan struct{})
	var took []time.Duration
	var judging sync.WaitGroup
	judging.Go(func() {
		a := private(id(7), name(7))
		for {
			select {
			case <-stop:
				return
			default:
			}
			start := time.Now()
			in.MatchPrivate(a)
			if took = append(took, time.Since(start)); len(took) > 20_000_000 {
				took = took[:0]
			}
		}
	})
	for b.Loop() {
		r.Revision++
		delete(r.Hosts, name(int(r.Revision-2)%tenants))
		r.Hosts[name(int(r.Revision)%tenants)] = postern.Host{Tenant: "t", Organization: owner(0), Backends: backends}
		apply(b, in, r)
	}
	close(stop)
	judging.Wait()
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Nanoseconds()) }
	b.ReportMetric(at(.5), "p50-ns/lookup")
	b.ReportMetric(at(.9999), "p99.99-ns/lookup")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(tenants), "B/tenant")
	r = postern.Routes{} // so that only the table is left to be marked
	debug.FreeOSMemory()
	start := time.Now()
	runtime.GC()
	b.ReportMetric(float64(time.Since(start).Microseconds()), "µs/GC")
	runtime.KeepAlive(in)
}
