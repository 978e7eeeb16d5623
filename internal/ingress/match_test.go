package ingress_test

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/ingress"
	"github.com/postern-net/postern/internal/proxyproto"
	"github.com/postern-net/postern/internal/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	region     = "us-east-1"
	exampleID  = "vpce-00eafc458ec97b833"
	devID      = "vpce-0d363d9ea82658bec"
	globexID   = "vpce-08d2bf15fac5001c9"
	elsewhere  = "vpce-0123abcd"
	strangerID = "vpce-0ffffffffffffffff"

	example = "example.hosted.immutacloud.com"
	dev     = "example-dev.hosted.immutacloud.com"
	globex  = "globex.hosted.immutacloud.com"
	request = "request.immutacloud.com"
)

var (
	backends = []netip.AddrPort{netip.MustParseAddrPort("10.9.0.1:443"), netip.MustParseAddrPort("10.9.0.2:443")}
	client   = netip.MustParseAddrPort("10.0.0.5:49153")
	target   = netip.MustParseAddrPort("10.1.0.7:443")
	peer     = netip.MustParseAddrPort("198.51.100.7:50000")
	local    = netip.MustParseAddrPort("192.0.2.1:443")
)

// routes are the seeds' platform in small: two organizations and an app that
// they share.
func routes(revision int64) postern.Routes {
	return postern.Routes{
		Revision: revision,
		Hosts: map[string]postern.Host{
			example: {Tenant: "example", Organization: "example-corp", Backends: backends},
			dev:     {Tenant: "example-dev", Organization: "example-corp", Public: true, Backends: backends},
			globex:  {Tenant: "globex", Organization: "globex", Public: true, Backends: backends},
			request: {Shared: true, RegionBackends: map[string][]netip.AddrPort{region: backends, "eu-west-1": {netip.MustParseAddrPort("10.9.9.9:443")}}},
		},
		Endpoints: map[string]postern.EndpointGrant{
			exampleID: {Organization: "example-corp", Region: region, Hosts: []string{example, dev, request}},
			devID:     {Organization: "example-corp", Region: region, Hosts: []string{dev}},
			globexID:  {Organization: "globex", Region: region, Hosts: []string{globex, request}},
			elsewhere: {Organization: "example-corp", Region: "eu-west-1", Hosts: []string{example}},
		},
	}
}

func newIngress(t testing.TB, e ingress.Engine) *ingress.Ingress {
	t.Helper()
	in, err := ingress.New(ingress.Config{Region: region, Engine: e, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func apply(t testing.TB, in *ingress.Ingress, r postern.Routes) {
	t.Helper()
	if changed, err := in.Apply(r); !changed || err != nil {
		t.Fatalf("Apply: %v, %v", changed, err)
	}
}

func private(endpoint, name string) *relay.Arrival {
	return &relay.Arrival{
		Listener: ingress.Private, Peer: peer, Local: local,
		Proxy: proxyproto.Header{Source: client, Destination: target, VPCEndpointID: endpoint},
		Hello: clienthello.Hello{ServerName: name},
	}
}

func public(name string) *relay.Arrival {
	return &relay.Arrival{Listener: ingress.Public, Peer: peer, Local: local, Hello: clienthello.Hello{ServerName: name}}
}

func TestMatchPrivate(t *testing.T) {
	t.Parallel()
	in := newIngress(t, relay.New(relay.Config{}))
	r := routes(1)
	// A table that the control plane should never make.
	r.Endpoints["vpce-0bad0bad"] = postern.EndpointGrant{Organization: "globex", Region: region, Hosts: []string{example, "gone.hosted.immutacloud.com"}}
	apply(t, in, r)
	for _, tc := range []struct {
		name     string
		endpoint string
		host     string
		want     postern.Denial
		account  string
	}{
		{"its tenant", exampleID, example, "", "example-corp"},
		{"its other tenant", exampleID, dev, "", "example-corp"},
		{"an endpoint for one tenant", devID, dev, "", "example-corp"},
		{"that endpoint for the other tenant", devID, example, postern.DenyNotAuthorized, "example-corp"},
		{"another organization's tenant", globexID, example, postern.DenyNotAuthorized, "globex"},
		{"another organization's public tenant", exampleID, globex, postern.DenyNotAuthorized, "example-corp"},
		{"shared app", exampleID, request, "", "example-corp"},
		{"shared app, for the other", globexID, request, "", "globex"},
		{"shared app, not granted", devID, request, postern.DenyNotAuthorized, "example-corp"},
		{"endpoint of another region", elsewhere, example, postern.DenyWrongRegion, "example-corp"},
		{"endpoint that nobody claimed", strangerID, example, postern.DenyUnknownEndpoint, ""},
		{"no endpoint", "", example, postern.DenyNoEndpoint, ""},
		{"no endpoint, public host", "", globex, postern.DenyNoEndpoint, ""},
		{"no name", exampleID, "", postern.DenyNoServerName, "example-corp"},
		{"unknown name", exampleID, "nobody.hosted.immutacloud.com", postern.DenyUnknownHost, "example-corp"},
		{"granted, but no host", "vpce-0bad0bad", "gone.hosted.immutacloud.com", postern.DenyUnknownHost, "globex"},
		{"granted, but another's", "vpce-0bad0bad", example, postern.DenyNotAuthorized, "globex"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v := in.MatchPrivate(private(tc.endpoint, tc.host))
			if whose := r.Hosts[tc.host].Tenant; v.Deny == "" && v.Tenant != whose {
				t.Errorf("of tenant %q, want %q", v.Tenant, whose)
			}
			if v.Deny != tc.want || v.Organization != tc.account {
				t.Fatalf("denial %q on the account of %q, want %q, %q", v.Deny, v.Organization, tc.want, tc.account)
			}
			checkVerdict(t, v, proxyproto.Header{
				Source: client, Destination: target, VPCEndpointID: tc.endpoint, Authority: tc.host, Organization: tc.account,
			})
		})
	}
}

func TestMatchPublic(t *testing.T) {
	t.Parallel()
	in := newIngress(t, relay.New(relay.Config{}))
	apply(t, in, routes(1))
	proxied := public(globex)
	proxied.Proxy = proxyproto.Header{Source: client, Destination: target}
	viaEndpoint := public(globex)
	viaEndpoint.Proxy = proxyproto.Header{Source: client, Destination: target, VPCEndpointID: globexID}
	for _, tc := range []struct {
		name    string
		arrival *relay.Arrival
		want    postern.Denial
		header  proxyproto.Header
	}{
		{"public host", public(globex), "", proxyproto.Header{Source: peer, Destination: local, Authority: globex, Organization: "globex"}},
		{"behind a load balancer", proxied, "", proxyproto.Header{Source: client, Destination: target, Authority: globex, Organization: "globex"}},
		{"through an endpoint", viaEndpoint, postern.DenyUnknownEndpoint, proxyproto.Header{}},
		{"private host", public(example), postern.DenyNotPublic, proxyproto.Header{}},
		{"private shared host", public(request), postern.DenyNotPublic, proxyproto.Header{}},
		{"unknown host", public("nobody.hosted.immutacloud.com"), postern.DenyUnknownHost, proxyproto.Header{}},
		{"no name", public(""), postern.DenyNoServerName, proxyproto.Header{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v := in.MatchPublic(tc.arrival)
			if v.Deny != tc.want {
				t.Fatalf("denial %q, want %q", v.Deny, tc.want)
			}
			checkVerdict(t, v, tc.header)
		})
	}
}

func checkVerdict(t *testing.T, v relay.Verdict, want proxyproto.Header) {
	t.Helper()
	if v.Deny != "" {
		if v.Backends != nil || v.Prologue != nil {
			t.Errorf("denied, but with %+v", v)
		}
		return
	}
	if !slices.Equal(v.Backends, backends) {
		t.Errorf("backends %v", v.Backends)
	}
	h, n, err := proxyproto.Parse(v.Prologue)
	if err != nil || n != len(v.Prologue) {
		t.Fatalf("prologue: %d of %d bytes, %v", n, len(v.Prologue), err)
	}
	if h != want {
		t.Errorf("the backend is told %+v, want %+v", h, want)
	}
}

// Without a table nothing is admitted, by no listener.
func TestNoTable(t *testing.T) {
	t.Parallel()
	in := newIngress(t, relay.New(relay.Config{}))
	if v := in.MatchPrivate(private(exampleID, example)); v.Deny != postern.DenyUnknownEndpoint {
		t.Errorf("private: %q", v.Deny)
	}
	if v := in.MatchPublic(public(globex)); v.Deny != postern.DenyUnknownHost {
		t.Errorf("public: %q", v.Deny)
	}
	if _, ok := in.Revision(); ok {
		t.Error("a revision without a table")
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	admits := func(in *ingress.Ingress) bool { return in.MatchPrivate(private(exampleID, example)).Deny == "" }
	without := func(revision int64) postern.Routes {
		r := routes(revision)
		delete(r.Endpoints, exampleID)
		return r
	}
	unsound := func(change func(*postern.Routes)) postern.Routes {
		r := without(9)
		change(&r)
		return r
	}
	for _, tc := range []struct {
		name    string
		next    postern.Routes
		changed bool
		ok      bool
	}{
		{"newer", without(6), true, true},
		{"the same revision", without(5), false, true},
		{"older", without(4), false, true},
		{"host in upper case", unsound(func(r *postern.Routes) { r.Hosts["Example.com"] = postern.Host{Organization: "a"} }), false, false},
		{"tenant of nobody", unsound(func(r *postern.Routes) { r.Hosts["a.example"] = postern.Host{Tenant: "a"} }), false, false},
		{"host of nobody", unsound(func(r *postern.Routes) { r.Hosts["a.example"] = postern.Host{Public: true, Backends: backends} }), false, false},
		{"shared host of a tenant", unsound(func(r *postern.Routes) {
			r.Hosts["a.example"] = postern.Host{Shared: true, Tenant: "a", Organization: "a"}
		}), false, false},
		{"shared host of an organization", unsound(func(r *postern.Routes) { r.Hosts["a.example"] = postern.Host{Shared: true, Organization: "a"} }), false, false},
		{"organization is no label", unsound(func(r *postern.Routes) { r.Hosts["a.example"] = postern.Host{Organization: "A b"} }), false, false},
		{"backend without port", unsound(func(r *postern.Routes) {
			r.Hosts["a.example"] = postern.Host{Organization: "a", Backends: []netip.AddrPort{netip.AddrPortFrom(client.Addr(), 0)}}
		}), false, false},
		{"endpoint is none", unsound(func(r *postern.Routes) {
			r.Endpoints["vpce-1"] = postern.EndpointGrant{Organization: "a", Region: region}
		}), false, false},
		{"endpoint of nobody", unsound(func(r *postern.Routes) { r.Endpoints[strangerID] = postern.EndpointGrant{Region: region} }), false, false},
		{"endpoint of no region", unsound(func(r *postern.Routes) { r.Endpoints[strangerID] = postern.EndpointGrant{Organization: "a"} }), false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			in := newIngress(t, relay.New(relay.Config{}))
			apply(t, in, routes(5))
			changed, err := in.Apply(tc.next)
			if changed != tc.changed || (err == nil) != tc.ok {
				t.Errorf("Apply: %v, %v", changed, err)
			}
			if admits(in) == tc.changed {
				t.Errorf("the table in force is the wrong one")
			}
			if r, ok := in.Revision(); !ok || r != max(5, min(tc.next.Revision, 6)) && tc.ok {
				t.Errorf("revision %d, %v", r, ok)
			}
		})
	}
}

// Withdrawn is as if there never was a table: not even an earlier revision is
// refused afterwards.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	in := newIngress(t, relay.New(relay.Config{}))
	in.Withdraw()
	apply(t, in, routes(5))
	in.Withdraw()
	if v := in.MatchPrivate(private(exampleID, example)); v.Deny != postern.DenyUnknownEndpoint {
		t.Errorf("private: %q", v.Deny)
	}
	if v := in.MatchPublic(public(globex)); v.Deny != postern.DenyUnknownHost {
		t.Errorf("public: %q", v.Deny)
	}
	if _, ok := in.Revision(); ok {
		t.Error("a revision without a table")
	}
	apply(t, in, routes(4))
	if v := in.MatchPrivate(private(exampleID, example)); v.Deny != "" {
		t.Errorf("after the next table: %q", v.Deny)
	}
}

func TestApplyCopies(t *testing.T) {
	t.Parallel()
	in := newIngress(t, relay.New(relay.Config{}))
	r := routes(1)
	apply(t, in, r)
	r.Endpoints[globexID] = postern.EndpointGrant{Organization: "globex", Region: region, Hosts: []string{example}}
	r.Endpoints[devID].Hosts[0] = example
	if v := in.MatchPrivate(private(devID, example)); v.Deny != postern.DenyNotAuthorized {
		t.Errorf("a change after Apply had an effect: %+v", v)
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	t.Parallel()
	good := ingress.Config{Region: region, Engine: relay.New(relay.Config{}), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
	for name, change := range map[string]func(*ingress.Config){
		"region":     func(c *ingress.Config) { c.Region = "us-east-1a" },
		"engine":     func(c *ingress.Config) { c.Engine = nil },
		"logger":     func(c *ingress.Config) { c.Logger = nil },
		"registerer": func(c *ingress.Config) { c.Registerer = nil },
	} {
		c := good
		change(&c)
		if _, err := ingress.New(c); err == nil {
			t.Errorf("wrong %s accepted", name)
		}
	}
	if _, err := ingress.New(good); err != nil {
		t.Fatal(err)
	}
	if _, err := ingress.New(good); err == nil {
		t.Error("the same metrics registered twice")
	}
}

// Whatever the table says, what is admitted is granted: the endpoint is in the
// table with this region, the host is in its grant, and it is no other
// organization's.
func TestAdmittedIsGranted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		organizations := rapid.SampledFrom([]string{"a", "b"})
		names := []string{"a.example", "b.example", "shared.example", "c.example"}
		ids := []string{"vpce-00000001", "vpce-00000002", "vpce-00000003"}
		r := postern.Routes{Revision: 1, Hosts: map[string]postern.Host{}, Endpoints: map[string]postern.EndpointGrant{}}
		for _, n := range rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(t, "hosts") {
			h := postern.Host{Organization: organizations.Draw(t, "organization"), Public: rapid.Bool().Draw(t, "public"), Backends: backends}
			switch rapid.IntRange(0, 2).Draw(t, "whose") {
			case 0:
				h.Tenant = "t"
			case 1:
				h = postern.Host{Shared: true, Public: h.Public, RegionBackends: map[string][]netip.AddrPort{region: backends}}
			}
			r.Hosts[n] = h
		}
		for _, id := range rapid.SliceOfDistinct(rapid.SampledFrom(ids), rapid.ID).Draw(t, "endpoints") {
			r.Endpoints[id] = postern.EndpointGrant{
				Organization: organizations.Draw(t, "organization"), Region: rapid.SampledFrom([]string{region, "eu-west-1"}).Draw(t, "region"),
				Hosts: rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(t, "grant"),
			}
		}
		in, err := ingress.New(ingress.Config{Region: region, Engine: relay.New(relay.Config{}), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Apply(r); err != nil {
			t.Fatal(err)
		}
		for _, n := range append(names, "") {
			h, exists := r.Hosts[n]
			if got := in.MatchPublic(public(n)).Deny == ""; got != (exists && h.Public) {
				t.Errorf("public %q: admitted %v", n, got)
			}
			for _, id := range append(ids, "") {
				g, granted := r.Endpoints[id]
				want := exists && granted && g.Region == region && slices.Contains(g.Hosts, n) && (h.Shared || h.Organization == g.Organization)
				v := in.MatchPrivate(private(id, n))
				if (v.Deny == "") != want {
					t.Errorf("%q through %q: denial %q, admitted should be %v", n, id, v.Deny, want)
				}
				if again := in.MatchPrivate(private(id, n)); !cmp.Equal(v.Prologue, again.Prologue) {
					t.Errorf("%q through %q: another prologue the second time", n, id)
				}
			}
		}
	})
}
