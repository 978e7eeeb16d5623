package postern_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern"
)

func TestCheckEndpointAddress(t *testing.T) {
	for _, v := range []string{"10.0.1.5", "172.16.0.1", "192.168.1.1", "100.64.3.4", "198.18.0.9", "198.19.255.1"} {
		if err := postern.CheckEndpointAddress("f", netip.MustParseAddr(v)); err != nil {
			t.Errorf("refused %s: %v", v, err)
		}
	}
	for v, says := range map[string]string{
		"169.254.169.254": "metadata", "fd00:ec2::254": "metadata", "169.254.170.2": "credentials", "fd00:ec2::253": "metadata",
		"127.0.0.1": "loopback", "127.80.0.3": "loopback", "::1": "loopback", "0.0.0.0": "unspecified", "0.1.2.3": "unspecified", "::": "unspecified",
		"169.254.0.1": "link-local", "fe80::1": "link-local", "fe80::1%eth0": "", "224.0.0.1": "multicast", "239.255.255.250": "multicast", "ff02::1": "multicast",
		"255.255.255.255": "broadcast", "240.0.0.1": "reserved",
		"64:ff9b::169.254.169.254": "NAT64", "64:ff9b:1::a00:1": "NAT64", "2002:a9fe:a9fe::1": "6to4", "192.88.99.1": "6to4", "2001::1": "Teredo",
		"::ffff:10.0.0.1": "IPv4-mapped", "::ffff:169.254.169.254": "IPv4-mapped", "::10.0.0.1": "IPv4-compatible",
		"fd12:3456::1": "not an IPv4 address", "2600:1f18::1": "not an IPv4 address",
		"8.8.8.8": "public", "52.94.236.248": "public", "203.0.113.9": "public", "100.128.0.1": "public", "172.32.0.1": "public", "198.20.0.1": "public", "11.0.0.1": "public",
	} {
		err := postern.CheckEndpointAddress("f", netip.MustParseAddr(v))
		if err == nil || err.Reason != postern.ReasonForbiddenTarget || !strings.Contains(err.Message, says) {
			t.Errorf("%s: %v; want it refused as %s", v, err, says)
		}
	}
	if err := postern.CheckEndpointAddress("f", netip.Addr{}); err == nil {
		t.Error("took no address")
	}
	// The sandbox's cloud is on loopback addresses, and only the part of them
	// that it says passes.
	pool := netip.MustParsePrefix("127.80.0.0/12")
	for v, want := range map[string]bool{"127.80.3.4": true, "127.0.0.1": false, "127.96.0.1": false, "::ffff:127.80.3.4": false, "169.254.169.254": false, "10.0.0.1": true} {
		if err := postern.CheckEndpointAddress("f", netip.MustParseAddr(v), pool); (err == nil) != want {
			t.Errorf("%s with a pool: %v", v, err)
		}
	}
}

func TestCheckConnections(t *testing.T) {
	key := postern.WorkloadKey([]byte("secret"))
	good := func() postern.Routes {
		return postern.Routes{
			Revision: 1,
			Connections: map[string]postern.ConnectionRoute{
				"trino.example.com": {
					ID: "dc_1", Tenant: "example", Organization: "example-corp", Region: "us-east-1", Ports: []uint16{443, 8443},
					Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.5")}, Ready: true,
				},
				"trino.globex.com": {
					ID: "dc_2", Tenant: "globex", Organization: "globex-inc", Region: "us-east-1", Ports: []uint16{443},
					Reason: postern.ReasonPrivateCA, Message: "use a publicly trusted one",
				},
			},
			Workloads: map[string]postern.Workload{key: {Tenant: "example", Organization: "example-corp", ExpiresAt: time.Unix(9, 0)}},
			Checks: map[string]postern.ConnectionCheck{"dc_2": {
				Kind: postern.KindStarburstTrino, Hostname: "trino.globex.com", Region: "us-east-1", Ports: []uint16{443},
				Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.6")}, Every: time.Minute,
			}},
		}
	}
	check := func(change func(*postern.ConnectionCheck)) func(postern.Routes) {
		return func(r postern.Routes) {
			c := r.Checks["dc_2"]
			change(&c)
			r.Checks["dc_2"] = c
		}
	}
	if err := good().CheckConnections(); err != nil {
		t.Fatal(err)
	}
	if err := (postern.Routes{}).CheckConnections(); err != nil {
		t.Fatal(err)
	}
	edit := func(host string, change func(*postern.ConnectionRoute)) func(postern.Routes) {
		return func(r postern.Routes) {
			c := r.Connections[host]
			change(&c)
			r.Connections[host] = c
		}
	}
	for name, c := range map[string]struct {
		change func(postern.Routes)
		says   string
	}{
		"ready without an address": {edit("trino.example.com", func(c *postern.ConnectionRoute) { c.Addresses = nil }), "none, of a connection that is ready"},
		"not ready without why":    {edit("trino.globex.com", func(c *postern.ConnectionRoute) { c.Reason = "" }), "say why"},
		"no port":                  {edit("trino.example.com", func(c *postern.ConnectionRoute) { c.Ports = nil }), "ports"},
		"port 0":                   {edit("trino.example.com", func(c *postern.ConnectionRoute) { c.Ports = []uint16{0} }), "ports[0]"},
		"ports unsorted":           {edit("trino.example.com", func(c *postern.ConnectionRoute) { c.Ports = []uint16{8443, 443} }), "ports[1]"},
		"ports doubled":            {edit("trino.example.com", func(c *postern.ConnectionRoute) { c.Ports = []uint16{443, 443} }), "ports[1]"},
		"no tenant":                {edit("trino.example.com", func(c *postern.ConnectionRoute) { c.Tenant = "" }), "tenant"},
		"no organization":          {edit("trino.example.com", func(c *postern.ConnectionRoute) { c.Organization = "" }), "organization"},
		"no region":                {edit("trino.example.com", func(c *postern.ConnectionRoute) { c.Region = "" }), "region"},
		"a zone's name":            {edit("trino.example.com", func(c *postern.ConnectionRoute) { c.Region = "us-east-1a" }), "region"},
		"no ID":                    {edit("trino.example.com", func(c *postern.ConnectionRoute) { c.ID = "" }), ".id"},
		"an ID twice":              {edit("trino.globex.com", func(c *postern.ConnectionRoute) { c.ID = "dc_1" }), "duplicate"},
		"upper case":               {func(r postern.Routes) { r.Connections["Trino.example.com"] = r.Connections["trino.example.com"] }, "lower case"},
		"an address as the name":   {func(r postern.Routes) { r.Connections["[::1]"] = r.Connections["trino.example.com"] }, "not a hostname"},
		"a token as it is":         {func(r postern.Routes) { r.Workloads["secret"] = r.Workloads[key] }, "SHA-256"},
		"a workload of nobody":     {func(r postern.Routes) { r.Workloads[key] = postern.Workload{Tenant: "example"} }, "organization"},
		"a tenant of two": {func(r postern.Routes) {
			r.Workloads[key] = postern.Workload{Tenant: "example", Organization: "globex-inc"}
		}, "belongs to one organization"},
		"a check of nothing":         {func(r postern.Routes) { r.Checks["trino"] = r.Checks["dc_2"] }, "not a data connection's ID"},
		"a check by address":         {check(func(c *postern.ConnectionCheck) { c.Hostname = "[::1]" }), "checks[\"dc_2\"].hostname"},
		"a check anywhere":           {check(func(c *postern.ConnectionCheck) { c.Region = "" }), "checks[\"dc_2\"].region"},
		"a check of no port":         {check(func(c *postern.ConnectionCheck) { c.Ports = nil }), "checks[\"dc_2\"].ports"},
		"a check that leads nowhere": {check(func(c *postern.ConnectionCheck) { c.Addresses = nil }), "checks[\"dc_2\"].addresses"},
		"a check all the time":       {check(func(c *postern.ConnectionCheck) { c.Every = 0 }), "checks[\"dc_2\"].every"},
		"a workload of no tenant":    {func(r postern.Routes) { r.Workloads[key] = postern.Workload{Organization: "example-corp"} }, "tenant"},
	} {
		r := good()
		c.change(r)
		if err := r.CheckConnections(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", name, err, c.says)
		}
	}
	// What leads where none may is void, and the rest is not.
	if void := good().VoidConnections(); len(void) != 0 {
		t.Errorf("%v", void)
	}
	for name, c := range map[string]struct {
		change func(postern.Routes)
		void   []string
		says   string
	}{
		"metadata": {edit("trino.example.com", func(c *postern.ConnectionRoute) {
			c.Addresses = append(c.Addresses, netip.MustParseAddr("169.254.169.254"))
		}), []string{"trino.example.com"}, "metadata"},
		"loopback": {edit("trino.example.com", func(c *postern.ConnectionRoute) { c.Addresses[0] = netip.MustParseAddr("127.0.0.1") }), []string{"trino.example.com"}, "loopback"},
		"public":   {edit("trino.globex.com", func(c *postern.ConnectionRoute) { c.Addresses = []netip.Addr{netip.MustParseAddr("9.9.9.9")} }), []string{"trino.globex.com"}, "public"},
		"another tenant's endpoint": {edit("trino.globex.com", func(c *postern.ConnectionRoute) {
			c.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.5")}
		}), []string{"trino.example.com", "trino.globex.com"}, "several tenants"},
		"two of one tenant": {func(r postern.Routes) {
			c := r.Connections["trino.example.com"]
			c.ID = "dc_3"
			r.Connections["second.example.com"] = c
		}, nil, ""},
	} {
		r := good()
		c.change(r)
		if err := r.CheckConnections(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		void := r.VoidConnections()
		if got := slices.Sorted(maps.Keys(void)); !slices.Equal(got, c.void) {
			t.Errorf("%s: void are %v, want %v", name, got, c.void)
		}
		for _, err := range void {
			if err.Reason != postern.ReasonForbiddenTarget || !strings.Contains(err.Message, c.says) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if got := postern.WorkloadKey(nil); got != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Error(got)
	}
}
