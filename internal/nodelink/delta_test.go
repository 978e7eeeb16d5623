package nodelink_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/nodelink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var sameRoutes = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}, netip.Prefix{})}

// drawRoutes draws a table out of few names, so that tables have much in common.
func drawRoutes(t *rapid.T, revision int64) postern.Routes {
	r := postern.Routes{
		Revision: revision, Hosts: map[string]postern.Host{}, Endpoints: map[string]postern.EndpointGrant{},
		Connections: map[string]postern.ConnectionRoute{}, Workloads: map[string]postern.Workload{},
	}
	for i := range 5 {
		if rapid.Bool().Draw(t, "host there") {
			h := postern.Host{Organization: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "organization"), Public: rapid.Bool().Draw(t, "public")}
			if rapid.Bool().Draw(t, "backends") {
				h.Backends = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 443)}
			}
			if rapid.Bool().Draw(t, "drains") {
				h.Drain = postern.Drain{Before: time.Unix(100, 0).UTC(), Until: time.Unix(int64(rapid.IntRange(100, 102).Draw(t, "until")), 0).UTC()}
			}
			if rapid.IntRange(0, 3).Draw(t, "shared") == 0 {
				h.Organization, h.Shared = "", true
				h.RegionBackends = map[string][]netip.AddrPort{rapid.SampledFrom([]string{"us-east-1", "eu-west-1"}).Draw(t, "region"): h.Backends}
			}
			r.Hosts[fmt.Sprintf("t%d.example.com", i)] = h
		}
		if rapid.IntRange(0, 3).Draw(t, "SCIM host there") == 0 {
			if r.SCIM == nil {
				r.SCIM = map[string]postern.SCIMRoute{}
			}
			r.SCIM[fmt.Sprintf("t%d.scim.example.com", i)] = postern.SCIMRoute{
				Tenant: "t", Organization: "a", Region: "us-east-1", Upstream: "t.example.com",
				Sources: rapid.SliceOfN(rapid.SampledFrom([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}), 0, 2).Draw(t, "sources"),
			}
		}
		if rapid.Bool().Draw(t, "endpoint there") {
			r.Endpoints[fmt.Sprintf("vpce-0000000%d", i)] = postern.EndpointGrant{
				Organization: "a", Region: "us-east-1", Hosts: rapid.SliceOfN(rapid.SampledFrom([]string{"x.example", "y.example"}), 0, 2).Draw(t, "hosts"),
			}
		}
		if rapid.Bool().Draw(t, "connection there") {
			r.Connections[fmt.Sprintf("trino%d.example.com", i)] = drawConnection(t, i)
		}
		if rapid.IntRange(0, 2).Draw(t, "check there") == 0 {
			if r.Checks == nil {
				r.Checks = map[string]postern.ConnectionCheck{}
			}
			r.Checks[fmt.Sprintf("dc_%d", i)] = postern.ConnectionCheck{
				Kind: postern.KindStarburstTrino, Hostname: "trino.example.com", Region: "us-east-1", Ports: []uint16{443},
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(rapid.IntRange(0, 1).Draw(t, "checked address"))})},
				Every:     time.Minute, Asked: time.Unix(int64(rapid.IntRange(100, 102).Draw(t, "asked")), 0).UTC(),
			}
		}
		if rapid.Bool().Draw(t, "workload there") {
			r.Workloads[postern.WorkloadKey([]byte{byte(i)})] = postern.Workload{
				Tenant: "a", Organization: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "workload of"),
				ExpiresAt: time.Unix(int64(rapid.IntRange(100, 102).Draw(t, "expires")), 0).UTC(),
			}
		}
	}
	return r
}

func drawConnection(t *rapid.T, i int) postern.ConnectionRoute {
	c := postern.ConnectionRoute{
		ID: fmt.Sprintf("dc_%d", i), Tenant: "a", Organization: "a", Region: "us-east-1",
		Ports: rapid.SampledFrom([][]uint16{{443}, {443, 8443}}).Draw(t, "ports"), Ready: rapid.Bool().Draw(t, "ready"),
	}
	if c.Ready {
		c.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(rapid.IntRange(0, 1).Draw(t, "address"))})}
	} else {
		c.Reason, c.Message = postern.ReasonCertificateExpired, "expired; renew it"
	}
	return c
}

// overTheWire is what a node decodes of a value that was sent.
func overTheWire[T any](t interface{ Fatal(...any) }, v T) (out T) {
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The snapshot of any revision equals the fold of the deltas that lead to it.
func TestSnapshotIsTheFoldOfDeltas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := drawRoutes(t, 1)
		folded := overTheWire(t, before)
		revision := int64(1)
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			revision += int64(rapid.IntRange(1, 3).Draw(t, "revisions on"))
			after := drawRoutes(t, revision)
			d := overTheWire(t, nodelink.Diff(before, after))
			kept := overTheWire(t, folded)
			next, err := d.Apply(folded)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(kept, folded, sameRoutes); diff != "" {
				t.Fatalf("Apply changed its argument:\n%s", diff)
			}
			if diff := cmp.Diff(after, next, sameRoutes); diff != "" {
				t.Fatalf("the fold differs from the snapshot:\n%s", diff)
			}
			before, folded = after, next
		}
	})
}

// A delta holds what differs and nothing else.
func TestDiffIsSmall(t *testing.T) {
	from, to := table(1, "a", "b", "c"), table(2, "a", "c", "d")
	d := nodelink.Diff(from, to)
	if len(d.SetHosts) != 1 || !slices.Equal(d.DropHosts, []string{"b.example.com"}) || len(d.SetEndpoints) != 1 || len(d.DropEndpoints) != 1 ||
		len(d.SetConnections) != 1 || !slices.Equal(d.DropConnections, []string{"trino.b.example.com"}) || len(d.SetWorkloads) != 1 || len(d.DropWorkloads) != 1 ||
		len(d.SetChecks) != 1 || len(d.DropChecks) != 1 {
		t.Errorf("%+v", d)
	}
}

// A field that Diff does not know would never reach a node.
func TestDiffKnowsEveryField(t *testing.T) {
	known := []string{"Revision", "Hosts", "Endpoints", "Connections", "Workloads", "Checks", "SCIM"}
	for f := range reflect.TypeFor[postern.Routes]().Fields() {
		if !slices.Contains(known, f.Name) {
			t.Errorf("postern.Routes has a field %s: teach it to Diff, Delta.Apply and this test", f.Name)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	from, to := table(3, "a", "b"), table(4, "a", "c")
	good := nodelink.Diff(from, to)
	if _, err := good.Apply(from); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		to     postern.Routes
		change func(*nodelink.Delta)
		says   string
	}{
		"an earlier revision": {table(2, "a", "b"), nil, "of revision 3 does not apply to revision 2"},
		"a later revision":    {to, nil, "does not apply"},
		"no table":            {postern.Routes{}, nil, "does not apply to revision 0"},
		"backwards":           {from, func(d *nodelink.Delta) { d.To = 2 }, "goes back to 2"},
		"on the spot":         {from, func(d *nodelink.Delta) { d.To = 3 }, "goes back to 3"},
		"drops what is not there": {from, func(d *nodelink.Delta) {
			d.DropHosts = append(d.DropHosts, "zz.example.com")
		}, `drops host "zz.example.com"`},
		"drops a connection that is not there": {from, func(d *nodelink.Delta) {
			d.DropConnections = append(d.DropConnections, "zz.example.com")
		}, `drops connection "zz.example.com"`},
		"drops a workload that is not there": {from, func(d *nodelink.Delta) {
			d.DropWorkloads = append(d.DropWorkloads, "zz")
		}, `drops workload "zz"`},
		"drops a check that is not there": {from, func(d *nodelink.Delta) {
			d.DropChecks = append(d.DropChecks, "zz")
		}, `drops check "zz"`},
		"loses a check":                  {from, func(d *nodelink.Delta) { d.SetChecks = nil }, "makes another table"},
		"loses a connection":             {from, func(d *nodelink.Delta) { d.SetConnections = nil }, "makes another table"},
		"loses a workload's end":         {from, func(d *nodelink.Delta) { d.DropWorkloads = nil }, "makes another table"},
		"loses a change":                 {from, func(d *nodelink.Delta) { d.SetHosts = nil }, "makes another table"},
		"another table of that revision": {table(3, "a", "b", "z"), nil, "makes another table"},
		"no sum":                         {from, func(d *nodelink.Delta) { d.Sum = "" }, "makes another table"},
	} {
		d := good
		if c.change != nil {
			c.change(&d)
		}
		if r, err := d.Apply(c.to); err == nil || !strings.Contains(err.Error(), c.says) || r.Hosts != nil {
			t.Errorf("%s: %v; want %q", name, err, c.says)
		}
	}
}

func TestParseMessageRefuses(t *testing.T) {
	for _, line := range []string{
		"", "null", "{}", "[]", "7", `"ping"`, "{", "not JSON", `{"ping":{"revision":1}`,
		`{"ping":{"revision":1}} {"ping":{"revision":1}}`, `{"ping":{"revision":1}}x`,
		`{"ping":{"revision":1},"fenced":{"reason":"x"}}`,
		`{"pong":{}}`, `{"ping":{"revision":1,"more":true}}`,
		`{"snapshot":{"revision":1,"hosts":{"a.example":{"organization":"a","public":true,"backends":[],"only_on_mondays":true}},"endpoints":{}}}`,
		`{"snapshot":{"revision":"1"}}`,
	} {
		if m, err := nodelink.ParseMessage([]byte(line)); err == nil {
			t.Errorf("%q is taken for %+v", line, m)
		}
	}
	for _, line := range []string{`{"ping":{"revision":1}}`, `{"fenced":{"reason":"x"}}`, `{"snapshot":{"revision":1,"hosts":{},"endpoints":{}}}`, ` {"ping":{"revision":1}} `} {
		if _, err := nodelink.ParseMessage([]byte(line)); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	for _, m := range []nodelink.Message{
		{Ping: &nodelink.Ping{Revision: 3}}, {Fenced: &nodelink.Fence{Reason: "x"}},
	} {
		b, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	to := table(2, "a")
	delta := nodelink.Diff(table(1, "b"), to)
	for _, m := range []nodelink.Message{{Snapshot: &to}, {Delta: &delta}} {
		b, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := nodelink.ParseMessage(line)
		if err != nil {
			return
		}
		if m.Delta != nil { // whatever it says, it makes a table with its sum or none
			if r, err := m.Delta.Apply(table(m.Delta.From, "a", "b")); err == nil && nodelink.Sum(r) != m.Delta.Sum {
				t.Errorf("%s makes a table with another sum", line)
			}
		}
		again, err := nodelink.ParseMessage(marshal(t, m))
		if err != nil {
			t.Fatalf("%s does not survive: %v", line, err)
		}
		if diff := cmp.Diff(m, again, sameRoutes); diff != "" {
			t.Error(diff)
		}
	})
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// table is a route table with one entry of each kind for each tenant.
func table(revision int64, tenants ...string) postern.Routes {
	r := postern.Routes{
		Revision: revision, Hosts: map[string]postern.Host{}, Endpoints: map[string]postern.EndpointGrant{},
		Connections: map[string]postern.ConnectionRoute{}, Workloads: map[string]postern.Workload{},
	}
	for _, name := range tenants {
		host := name + ".example.com"
		r.Hosts[host] = postern.Host{Tenant: name, Organization: name, Public: true, Backends: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:443")}}
		r.Endpoints[fmt.Sprintf("vpce-%08x", name)[:13]] = postern.EndpointGrant{Organization: name, Region: "us-east-1", Hosts: []string{host}}
		r.Connections["trino."+host] = postern.ConnectionRoute{
			ID: "dc_" + name, Tenant: name, Organization: name, Region: "us-east-1", Ports: []uint16{443}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Ready: true,
		}
		r.Workloads[postern.WorkloadKey([]byte(name))] = postern.Workload{Tenant: name, Organization: name}
		if r.Checks == nil {
			r.Checks = map[string]postern.ConnectionCheck{}
		}
		r.Checks["dc_"+name] = postern.ConnectionCheck{
			Hostname: "trino." + host, Region: "us-east-1", Ports: []uint16{443}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Every: time.Minute,
		}
	}
	return r
}
