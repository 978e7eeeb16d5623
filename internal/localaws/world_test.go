package localaws_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-net/postern/internal/localaws"
)

func mustAddr(t *testing.T, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func small(t *testing.T, seed string) localaws.World {
	t.Helper()
	b := localaws.NewBuilder(seed, localaws.DefaultPool())
	a := b.AddAccount("platform")
	v := b.AddVPC(a.ID, virginia, "hub", "use1-az2", "use1-az4")
	lb := b.AddLoadBalancer(v, "ingress", 5, []string{"use1-az2"}, localaws.LoadListener{Port: 443, Targets: []netip.AddrPort{netip.AddrPortFrom(v.Host("", 20), 8443)}})
	b.AddEndpointService(localaws.EndpointService{
		ID: localaws.StableServiceID(a.ID, virginia, "ingress"), Account: a.ID, Region: virginia, LoadBalancers: []string{lb.ARN},
		AcceptanceRequired: true, SupportedRegions: []string{oregon}, AllowedPrincipals: []string{"*"},
	})
	w, err := b.World()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestBuilderIsDeterministic(t *testing.T) {
	a, b, c := small(t, "seed"), small(t, "seed"), small(t, "another")
	cmpAddr := cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})
	if diff := cmp.Diff(a, b, cmpAddr); diff != "" {
		t.Error(diff)
	}
	if a.Accounts[0].AccessKeys[0].Secret == c.Accounts[0].AccessKeys[0].Secret {
		t.Error("the seed does not make the secret")
	}
	if a.VPCs[0].ID != c.VPCs[0].ID || a.Accounts[0].ID != c.Accounts[0].ID {
		t.Error("the seed makes identifiers")
	}
	if got := a.VPCs[0].Resolver().String(); got != "127.80.0.2" {
		t.Errorf("resolver at %s", got)
	}
}

func TestWorldFileRoundTrip(t *testing.T) {
	w := small(t, "seed")
	path := filepath.Join(t.TempDir(), "world.yaml")
	if err := w.Write(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	got, err := localaws.LoadWorld(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestANodeNeedsNoAddress(t *testing.T) {
	w := small(t, "seed")
	w.LoadBalancers[0].Nodes[0].Address = netip.Addr{}
	path := filepath.Join(t.TempDir(), "world.yaml")
	if err := w.Write(path); err != nil {
		t.Fatal(err)
	}
	if got, err := localaws.LoadWorld(path); err != nil || got.LoadBalancers[0].Nodes[0].Address.IsValid() {
		t.Error(got.LoadBalancers, err)
	}
}

// Each problem of a world file, of its form and of its rules, has its line.
func TestWorldFileIsStrict(t *testing.T) {
	const good = `accounts:
  - {id: "111122223333", name: platform, access_keys: []}
regions:
  - name: us-east-1
    availability_zone_ids: [use1-az1, use1-az2]
vpcs:
  - id: vpc-00000000
    account: "111122223333"
    region: us-east-1
    cidr: 127.80.0.0/20
    default_security_group: sg-00000000
    subnets:
      - {id: subnet-00000000, availability_zone_id: use1-az1, cidr: 127.80.0.0/24}
      - {id: subnet-00000001, availability_zone_id: use1-az1, cidr: 127.80.1.0/24}
`
	path := filepath.Join(t.TempDir(), "world.yaml")
	load := func(text string) error {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := localaws.LoadWorld(path)
		return err
	}
	if err := load(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, with, want string }{
		{"availability_zone_ids: [", "zones: [", `:5:5: regions[0].zones: unknown key; the keys here are availability_zone_ids, name`},
		{"regions:", "regons:", `:3:1: regons: unknown key; did you mean "regions"?`},
		{"use1-az2]", "us-east-1b]", `:5:39: regions[0].availability_zone_ids[1]: an Availability Zone name`},
		{"use1-az2]", "use1-az1]", `:5:39: regions[0].availability_zone_ids[1]: named twice`},
		{"az1, cidr: 127.80.1", "az3, cidr: 127.80.1", `:14:53: vpcs[0].subnets[1].availability_zone_id: not a zone of us-east-1 (got "use1-az3")`},
		{"cidr: 127.80.0.0/20", "cidr: 127.80.0.0", `:10:11: vpcs[0].cidr: not a network such as "10.0.1.0/24" (got "127.80.0.0")`},
		{"    cidr: 127.80.0.0/20\n", "", `:7:5: vpcs[0].cidr: missing; write it as "127.80.0.0/20"`},
		{good, "", `: an empty file; start from the one that every sandbox writes, world.yaml`},
	} {
		if err := load(strings.Replace(good, c.old, c.with, 1)); err == nil || !strings.Contains(err.Error(), path+c.want) {
			t.Errorf("%q instead of %q:\ngot  %v\nwant %s", c.with, c.old, err, path+c.want)
		}
	}
	if _, err := localaws.LoadWorld(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestValidateTellsEverything(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*localaws.World)
		want   string
	}{
		"account":             {func(w *localaws.World) { w.Accounts[0].ID = "1" }, "accounts[0].id: not an AWS account ID"},
		"account twice":       {func(w *localaws.World) { w.Accounts = append(w.Accounts, w.Accounts[0]) }, "accounts[1].id: named twice"},
		"secret":              {func(w *localaws.World) { w.Accounts[0].AccessKeys[0].Secret = "" }, "accounts[0].access_keys[0].secret: missing"},
		"key":                 {func(w *localaws.World) { w.Accounts[0].AccessKeys[0].ID = "x" }, "accounts[0].access_keys[0].id"},
		"principal":           {func(w *localaws.World) { w.Accounts[0].AccessKeys[0].Principal = "me" }, "accounts[0].access_keys[0].principal_arn"},
		"zone name":           {func(w *localaws.World) { w.Regions[0].ZoneIDs[0] = "us-east-1a" }, "regions[0].availability_zone_ids[0]: an Availability Zone name"},
		"region":              {func(w *localaws.World) { w.VPCs[0].Region = "us-east-9" }, "vpcs[0].region: no such region"},
		"VPC's owner":         {func(w *localaws.World) { w.VPCs[0].Account = "123456789012" }, "vpcs[0].account: no such account"},
		"VPC's ID":            {func(w *localaws.World) { w.VPCs[0].ID = "hub" }, "vpcs[0].id"},
		"host bits":           {func(w *localaws.World) { w.VPCs[0].CIDR = netip.MustParsePrefix("127.80.0.1/20") }, "vpcs[0].cidr: not an IPv4 network"},
		"overlap":             {func(w *localaws.World) { w.VPCs[0].Subnets[1].CIDR = w.VPCs[0].Subnets[0].CIDR }, "overlaps subnets[0]"},
		"subnet outside":      {func(w *localaws.World) { w.VPCs[0].Subnets[0].CIDR = netip.MustParsePrefix("127.90.0.0/24") }, "not within the VPC's network"},
		"subnet's zone":       {func(w *localaws.World) { w.VPCs[0].Subnets[0].ZoneID = "usw2-az1" }, "not a zone of us-east-1"},
		"load balancer":       {func(w *localaws.World) { w.LoadBalancers[0].ARN = "x" }, "load_balancers[0].arn"},
		"its region":          {func(w *localaws.World) { w.LoadBalancers[0].Region = oregon }, "names another region"},
		"its port":            {func(w *localaws.World) { w.LoadBalancers[0].Listeners[0].Port = 0 }, "listeners[0].port"},
		"its target":          {func(w *localaws.World) { w.LoadBalancers[0].Listeners[0].Targets[0] = netip.AddrPort{} }, "targets[0]"},
		"service ID":          {func(w *localaws.World) { w.EndpointServices[0].ID = "vpce-svc-0d12345ddd89101112" }, "endpoint_services[0].id"},
		"no load balancer":    {func(w *localaws.World) { w.EndpointServices[0].LoadBalancers = nil }, "needs at least one"},
		"unknown balancer":    {func(w *localaws.World) { w.EndpointServices[0].LoadBalancers[0] = "x" }, "no such load balancer"},
		"allowed principal":   {func(w *localaws.World) { w.EndpointServices[0].AllowedPrincipals = []string{"123456789012"} }, "allowed_principals[0]"},
		"supported region":    {func(w *localaws.World) { w.EndpointServices[0].SupportedRegions[0] = "x" }, "supported_regions[0]"},
		"two at the same NLB": {func(w *localaws.World) { w.EndpointServices = append(w.EndpointServices, w.EndpointServices[0]) }, "belongs to endpoint_services[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			w := small(t, "seed")
			c.change(&w)
			if err := w.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, err := localaws.New(localaws.Config{World: w}); err == nil {
				t.Error("a server takes it")
			}
		})
	}
}

func TestBuilderReportsMistakes(t *testing.T) {
	for name, build := range map[string]func(*localaws.Builder){
		"pool": func(b *localaws.Builder) {
			b.AddVPC("1", virginia, "a", "use1-az1")
			b.AddVPC("1", virginia, "b", "use1-az1")
		},
		"key":    func(b *localaws.Builder) { b.AddAccessKey("123456789012", "") },
		"region": func(b *localaws.Builder) { b.AddVPC(b.AddAccount("x").ID, "nowhere", "a") },
	} {
		b := localaws.NewBuilder("s", netip.MustParsePrefix("127.80.0.0/20"))
		build(b)
		if _, err := b.World(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := localaws.NewBuilder("s", netip.MustParsePrefix("127.80.0.0/24")).World(); err == nil {
		t.Error("a pool that is too small is taken")
	}
}

// FuzzLoadWorld: no file crashes the server.
func FuzzLoadWorld(f *testing.F) {
	f.Add([]byte("accounts: []\nregions: []\nvpcs: []\n"))
	f.Add([]byte("accounts:\n- id: '123456789012'\n  name: x\nregions:\n- {name: us-east-1, availability_zone_ids: [use1-az1]}\nvpcs:\n- {id: vpc-00000000, cidr: 10.0.0.0/16, subnets: [{cidr: 10.0.0.0/24}]}\n"))
	f.Add([]byte("regions: !0\n000000000")) // the YAML library panics
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "world.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := localaws.LoadWorld(path)
		if err != nil {
			return
		}
		s, err := localaws.New(localaws.Config{World: w})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	})
}
