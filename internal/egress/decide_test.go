package egress_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/egress"
)

func TestDecide(t *testing.T) {
	w := newWorld(t)
	other := func(r *postern.Routes) {
		r.Connections["far.example.com"] = postern.ConnectionRoute{
			ID: "dc_far", Tenant: "example", Organization: "example-corp", Region: "eu-west-1", Ports: []uint16{w.port}, Addresses: []netip.Addr{secondAt}, Ready: true,
		}
		r.Connections["bad.example.com"] = postern.ConnectionRoute{
			ID: "dc_bad", Tenant: "example", Organization: "example-corp", Region: region, Ports: []uint16{w.port}, Reason: postern.ReasonPrivateCA, Message: "use a public one",
			Addresses: []netip.Addr{netip.MustParseAddr("127.80.1.3")},
		}
	}
	if d := w.Decide(egress.Request{Tenant: "example", Host: exampleHost, Port: w.port}); d.Deny != postern.DenyNotReady || len(d.Targets) != 0 {
		t.Errorf("without a table: %+v", d)
	}
	w.apply(t, other)
	for name, c := range map[string]struct {
		ask    egress.Request
		deny   postern.Denial
		reason postern.Reason
		id     string
	}{
		"its own":              {egress.Request{"example", exampleHost, w.port}, "", "", "dc_example"},
		"another tenant's":     {egress.Request{"example", globexHost, w.port}, postern.DenyUnknownHost, "", ""},
		"nobody's":             {egress.Request{"example", "nobody.example.com", w.port}, postern.DenyUnknownHost, "", ""},
		"of no tenant":         {egress.Request{"", exampleHost, w.port}, postern.DenyUnknownHost, "", ""},
		"of a tenant that is":  {egress.Request{"initech", exampleHost, w.port}, postern.DenyUnknownHost, "", ""},
		"a name below":         {egress.Request{"example", "x." + exampleHost, w.port}, postern.DenyUnknownHost, "", ""},
		"the name above":       {egress.Request{"example", "example.com", w.port}, postern.DenyUnknownHost, "", ""},
		"an address":           {egress.Request{"example", exampleAt.String(), w.port}, postern.DenyUnknownHost, "", ""},
		"another port":         {egress.Request{"example", exampleHost, 22}, postern.DenyWrongPort, "", "dc_example"},
		"another port, theirs": {egress.Request{"example", globexHost, 22}, postern.DenyUnknownHost, "", ""},
		"another region":       {egress.Request{"example", "far.example.com", w.port}, postern.DenyWrongRegion, "", "dc_far"},
		"not ready":            {egress.Request{"example", "bad.example.com", w.port}, postern.DenyNotReady, postern.ReasonPrivateCA, "dc_bad"},
	} {
		d := w.Decide(c.ask)
		if d.Deny != c.deny || d.Reason != c.reason || d.ConnectionID != c.id || (d.Deny == "") != (len(d.Targets) > 0) || (d.Deny == "") != (d.Message == "") {
			t.Errorf("%s: %+v", name, d)
		}
	}
	theirs, nobodys := w.Decide(egress.Request{"example", globexHost, w.port}), w.Decide(egress.Request{"example", "nobody.example.com", w.port})
	if fmt.Sprint(theirs) != fmt.Sprint(nobodys) {
		t.Errorf("%+v and %+v differ", theirs, nobodys)
	}
}

// Whatever the table says, an egress is not led to a place that is no
// endpoint's: the connection is refused, and the others of the table are not.
func TestForbiddenTargets(t *testing.T) {
	w := newWorld(t)
	w.apply(t)
	for _, v := range []string{
		"169.254.169.254", "fd00:ec2::254", "169.254.170.2", "169.254.1.1", "fe80::1", // metadata, link-local
		"127.0.0.1", "127.96.0.1", "::1", "0.0.0.0", "::", // loopback but for the pool, unspecified
		"224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1",
		"64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:a9fe:a9fe::1", "192.88.99.1", "2001:0:a9fe:a9fe::1", // NAT64, 6to4, Teredo
		"::ffff:10.0.0.1", "::ffff:127.80.1.1", "::a9fe:a9fe", "fd12::1", "2600::1", // mapped, compatible, IPv6 of any kind
		"8.8.8.8", "203.0.113.7", "100.63.255.255", "172.32.0.1", // public
		globexAt.String(), // another tenant's endpoint
	} {
		w.routes = w.table()
		w.apply(t, change(exampleHost, func(c *postern.ConnectionRoute) { c.Addresses = []netip.Addr{exampleAt, netip.MustParseAddr(v)} }))
		d := w.Decide(egress.Request{Tenant: "example", Host: exampleHost, Port: w.port})
		if d.Deny != postern.DenyForbiddenTarget || d.Reason != postern.ReasonForbiddenTarget || len(d.Targets) != 0 {
			t.Errorf("%s: %+v", v, d)
		}
		if a := tunnelTo(t, dial(t, w.connect), exampleHost, w.port, exampleToken); a.status != 403 || a.problem.Reason != string(postern.ReasonForbiddenTarget) {
			t.Errorf("%s: %+v", v, a)
		}
		if who, err := w.get(t, w.client(t, nil, w.example), exampleHost); err == nil {
			t.Errorf("%s: straight to %s", v, who)
		}
		// The other tenant's is not held up, unless it shares the address.
		if who, err := w.get(t, w.byBasic(t, globexToken), globexHost); (err == nil && who == "globex") != (v != globexAt.String()) {
			t.Errorf("%s: the other tenant gets %q, %v", v, who, err)
		}
	}
	w.routes = w.table()
	w.apply(t)
	if who, err := w.get(t, w.byBasic(t, exampleToken), exampleHost); err != nil || who != "example" {
		t.Errorf("%q, %v", who, err)
	}
	// A private network of a tenant is reached by no name and no address.
	for _, target := range []string{"10.0.0.5", "192.168.1.1", "172.16.0.1", "169.254.169.254", "[::1]", "[fd00:ec2::254]", "127.0.0.1", "127.80.2.1", "2130706433", "0x7f000001"} {
		a := ask(t, dial(t, w.connect), fmt.Sprintf("CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\nProxy-Authorization: Bearer %s\r\n\r\n", target, target, exampleToken))
		if a.status != 403 || a.problem.Denial != string(postern.DenyForbiddenTarget) {
			t.Errorf("%s: %+v", target, a)
		}
	}
	// Names that resolve to such addresses, here or at a public resolver, are
	// no connection's, and nothing is resolved.
	for _, target := range []string{"localhost.localdomain", "localtest.me", "metadata.google.internal", "instance-data.ec2.internal", "169-254-169-254.nip.io", "ip6-localhost.example.com"} {
		a := tunnelTo(t, dial(t, w.connect), target, 443, exampleToken)
		if a.status != 403 || a.problem.Denial != string(postern.DenyUnknownHost) {
			t.Errorf("%s: %+v", target, a)
		}
	}
}

// Of any table and any request, what is admitted is the tenant's own ready
// connection in this region, on one of its ports, by its own addresses.
func TestDecideProperty(t *testing.T) {
	w := newWorld(t)
	tenants := []string{"a", "b", "c"}
	revision := int64(0)
	rapid.Check(t, func(t *rapid.T) {
		revision++
		r := postern.Routes{Revision: revision, Connections: map[string]postern.ConnectionRoute{}}
		for i := range rapid.IntRange(0, 6).Draw(t, "connections") {
			owner := rapid.IntRange(0, 2).Draw(t, "tenant")
			c := postern.ConnectionRoute{
				ID: fmt.Sprintf("dc_%d", i), Tenant: tenants[owner], Organization: "org-" + tenants[owner], Region: rapid.SampledFrom([]string{region, "eu-west-1"}).Draw(t, "region"),
				Ports: rapid.SampledFrom([][]uint16{{443}, {443, 8443}, {8443}}).Draw(t, "ports"), Ready: rapid.Bool().Draw(t, "ready"), Reason: postern.ReasonPrivateCA,
			}
			for j := range rapid.IntRange(1, 2).Draw(t, "addresses") {
				c.Addresses = append(c.Addresses, netip.AddrFrom4([4]byte{10, byte(owner), byte(i), byte(j)}))
			}
			r.Connections[fmt.Sprintf("h%d.example.com", i)] = c
		}
		if _, err := w.Apply(r); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			q := egress.Request{
				Tenant: rapid.SampledFrom(append(tenants, "", "d")).Draw(t, "asks"), Host: fmt.Sprintf("h%d.example.com", rapid.IntRange(0, 6).Draw(t, "host")),
				Port: rapid.SampledFrom([]uint16{443, 8443, 80}).Draw(t, "port"),
			}
			d := w.Decide(q)
			c, ok := r.Connections[q.Host]
			may := ok && c.Tenant == q.Tenant && c.Ready && c.Region == region && slices.Contains(c.Ports, q.Port)
			if (d.Deny == "") != may {
				t.Fatalf("%+v of %+v: %+v", q, c, d)
			}
			var want []netip.AddrPort
			if may {
				for _, a := range c.Addresses {
					want = append(want, netip.AddrPortFrom(a, q.Port))
				}
			}
			if !slices.Equal(d.Targets, want) {
				t.Fatalf("%+v leads to %v, want %v", q, d.Targets, want)
			}
		}
	})
}

func TestNewRefuses(t *testing.T) {
	if _, err := egress.New(egress.Config{Region: "us-east-1a"}); postern.CodeOf(err) != postern.CodeInvalid {
		t.Error(err)
	}
	if _, err := egress.New(egress.Config{Region: region}); err == nil {
		t.Error("made without an engine")
	}
}
