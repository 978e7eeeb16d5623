package ingress_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/ingress"
	"github.com/postern-net/postern/internal/relay"
)

var (
	cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	noon    = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

func at(a *relay.Arrival, t time.Time) *relay.Arrival {
	a.At = t
	return a
}

func TestReport(t *testing.T) {
	t.Parallel()
	in := newIngress(t, relay.New(relay.Config{}))
	admitted := relay.Verdict{Organization: "example-corp"}
	first := at(private(exampleID, example), noon.Add(2*time.Second))
	first.HelloBytes = hello(t, example)
	in.Opened(first, admitted)
	in.Opened(at(private(exampleID, example), noon), admitted)
	in.Opened(at(private(exampleID, example), noon.Add(time.Second)), admitted)
	in.Refused(at(private(globexID, example), noon), relay.Verdict{Deny: postern.DenyNotAuthorized, Organization: "globex"})
	in.Refused(at(public(example), noon), relay.Verdict{Deny: postern.DenyNotPublic, Organization: "example-corp"})
	in.Probed(at(private("", ""), noon))

	want := ingress.Report{Probes: 1, Sightings: []ingress.Sighting{
		{Listener: "private", VPCEndpointID: exampleID, Host: example, Organization: "example-corp", Count: 3, First: noon, Last: noon.Add(2 * time.Second), JA4: clienthello.JA4(first.HelloBytes)},
		{Listener: "private", VPCEndpointID: globexID, Host: example, Organization: "globex", Denial: postern.DenyNotAuthorized, Count: 1, First: noon, Last: noon},
		{Listener: "public", Source: peer.Addr(), Host: example, Organization: "example-corp", Denial: postern.DenyNotPublic, Count: 1, First: noon, Last: noon},
	}}
	for _, read := range []func() ingress.Report{in.Report, in.Drain} {
		if d := cmp.Diff(want, read(), cmpAddr, cmpopts.IgnoreFields(ingress.Report{}, "Since")); d != "" {
			t.Errorf("report (-want +got):\n%s", d)
		}
	}
	if r := in.Report(); len(r.Sightings) != 0 || r.Probes != 0 || r.Since.IsZero() {
		t.Errorf("after Drain: %+v", r)
	}
}

// A client that came long ago and never left would be cut off by a cutover like
// one that comes every minute, and is as good a witness that a path works: it is
// reported as there.
func TestClientsThatStayAreReported(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		arrival func() *relay.Arrival
		want    ingress.Sighting
	}{
		"public":  {func() *relay.Arrival { return public(example) }, ingress.Sighting{Listener: "public", Source: peer.Addr(), Host: example, Organization: "example-corp"}},
		"private": {func() *relay.Arrival { return private(exampleID, example) }, ingress.Sighting{Listener: "private", VPCEndpointID: exampleID, Host: example, Organization: "example-corp"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := newIngress(t, relay.New(relay.Config{}))
				admitted := relay.Verdict{Organization: "example-corp"}
				a := at(tc.arrival(), time.Now())
				in.Opened(a, admitted)
				in.Opened(at(tc.arrival(), time.Now()), admitted)
				seen := func() []ingress.Sighting { return in.Drain().Sightings }
				if got := seen(); len(got) != 1 || got[0].Count != 2 {
					t.Fatalf("%+v", got)
				}
				there := func(what string) {
					t.Helper()
					want := tc.want
					want.First, want.Last = time.Now(), time.Now()
					if d := cmp.Diff([]ingress.Sighting{want}, seen(), cmpAddr); d != "" {
						t.Errorf("%s: %s", what, d)
					}
				}
				<-time.After(10*time.Second - 1)
				if got := seen(); len(got) != 0 {
					t.Errorf("reported too soon again: %+v", got)
				}
				<-time.After(1)
				there("both are open")
				in.Closed(a, admitted, relay.Stats{})
				there("one is closed")
				<-time.After(10 * time.Second)
				there("one is open")
				in.Closed(a, admitted, relay.Stats{})
				there("the last is closed")
				<-time.After(time.Minute)
				if got := seen(); len(got) != 0 {
					t.Errorf("nobody is there: %+v", got)
				}
			})
		})
	}
}

// Whoever asks for many things neither grows the report without bound nor
// drives the admitted out of it, and every connection is counted.
func TestReportIsBounded(t *testing.T) {
	t.Parallel()
	in := newIngress(t, relay.New(relay.Config{}))
	const asked = 2 * ingress.MaxSightings
	for i := range asked {
		in.Refused(at(private(exampleID, fmt.Sprintf("host%d.example", i)), noon), relay.Verdict{Deny: postern.DenyUnknownHost, Organization: "example-corp"})
	}
	for i := range asked {
		a := at(public(globex), noon)
		a.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 1)
		in.Opened(a, relay.Verdict{Organization: "globex"})
	}
	r := in.Drain()
	if n := len(r.Sightings); n < ingress.MaxSightings || n > ingress.MaxSightings+4 {
		t.Errorf("%d sightings", n)
	}
	var total, admitted, folded int64
	for _, s := range r.Sightings {
		total += s.Count
		if s.Denial == "" && s.Source.IsValid() {
			admitted++
		}
		if s.Host == "" {
			folded += s.Count
		}
	}
	if total != 2*asked {
		t.Errorf("%d of %d connections counted", total, 2*asked)
	}
	if admitted < ingress.MaxSightings/2-1 {
		t.Errorf("%d sightings of the admitted are left", admitted)
	}
	if folded != r.Folded {
		t.Errorf("%d folded, the report says %d", folded, r.Folded)
	}
}

// Strangers who knock with many names leave the organizations' denials alone.
func TestReportKeepsOrganizations(t *testing.T) {
	t.Parallel()
	in := newIngress(t, relay.New(relay.Config{}))
	const asked = ingress.MaxSightings
	for i := range asked {
		in.Refused(at(public(fmt.Sprintf("host%d.example", i)), noon), relay.Verdict{Deny: postern.DenyUnknownHost})
	}
	const theirs = 3000
	for i := range theirs {
		in.Refused(at(private(exampleID, fmt.Sprintf("host%d.example", i)), noon), relay.Verdict{Deny: postern.DenyUnknownHost, Organization: "example-corp"})
	}
	var nobodys, kept int
	var total int64
	for _, s := range in.Drain().Sightings {
		total += s.Count
		if s.Organization == "" {
			nobodys++
		} else if s.Host != "" {
			kept++
		}
	}
	if kept != theirs || nobodys > 1001 || total != asked+theirs {
		t.Errorf("%d of %d denials of an organization are told apart, with %d of nobody; %d of %d connections counted", kept, theirs, nobodys, total, asked+theirs)
	}
	// What an organization has too much of stays on its account.
	for i := range asked {
		in.Refused(at(private(exampleID, fmt.Sprintf("host%d.example", i)), noon), relay.Verdict{Deny: postern.DenyUnknownHost, Organization: "example-corp"})
	}
	total = 0
	for _, s := range in.Drain().Sightings {
		if s.Organization == "example-corp" {
			total += s.Count
		}
	}
	if total != asked {
		t.Errorf("%d of %d denials are on the organization's account", total, asked)
	}
}

// A refusal from before the match goes on the account of the endpoint's owner.
func TestRefusalsAreAttributed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		a     *relay.Arrival
		deny  postern.Denial
		table bool
		want  string
	}{
		{"not TLS", private(exampleID, ""), postern.DenyNotTLS, true, "example-corp"},
		{"bad hello", private(globexID, ""), postern.DenyBadHello, true, "globex"},
		{"no hello in time", private(globexID, ""), postern.DenyHelloTimeout, true, "globex"},
		{"overload", private(exampleID, ""), postern.DenyOverload, true, "example-corp"},
		{"an endpoint of another region", private(elsewhere, ""), postern.DenyNotTLS, true, "example-corp"},
		{"an endpoint at the public listener", &relay.Arrival{Listener: ingress.Public, Proxy: private(exampleID, "").Proxy}, postern.DenyUnknownEndpoint, true, "example-corp"},
		{"nobody's endpoint", private(strangerID, ""), postern.DenyNotTLS, true, ""},
		{"no endpoint", private("", ""), postern.DenyNotTLS, true, ""},
		{"the internet", public(""), postern.DenyNotTLS, true, ""},
		{"no table", private(exampleID, ""), postern.DenyNotTLS, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			in := newIngress(t, relay.New(relay.Config{}))
			if tc.table {
				apply(t, in, routes(1))
			}
			in.Refused(tc.a, relay.Verdict{Deny: tc.deny})
			got := in.Drain().Sightings
			if len(got) != 1 || got[0].Organization != tc.want || got[0].Denial != tc.deny {
				t.Errorf("reported %+v, want on the account of %q", got, tc.want)
			}
		})
	}
}

func BenchmarkMatch(b *testing.B) {
	in := newIngress(b, relay.New(relay.Config{}))
	r := postern.Routes{Revision: 1, Hosts: map[string]postern.Host{}, Endpoints: map[string]postern.EndpointGrant{}}
	for i := range 100_000 {
		name := fmt.Sprintf("tenant%d.hosted.immutacloud.com", i)
		r.Hosts[name] = postern.Host{Tenant: fmt.Sprintf("tenant%d", i), Organization: "o", Backends: backends}
		r.Endpoints[fmt.Sprintf("vpce-%08x", i)] = postern.EndpointGrant{Organization: "o", Region: region, Hosts: []string{name}}
	}
	apply(b, in, r)
	for name, a := range map[string]*relay.Arrival{
		"admitted": private("vpce-0000beef", "tenant48879.hosted.immutacloud.com"),
		"denied":   private("vpce-0000beef", "tenant1.hosted.immutacloud.com"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				in.MatchPrivate(a)
			}
		})
	}
}
