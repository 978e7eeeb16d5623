package postern_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/postern-net/postern"
)

// examplePlatform is a small platform on which nothing is wrong: two segments,
// three regions, a per-tenant app and a shared one.
func examplePlatform() *postern.Platform {
	region := func(id, svc, zone string) postern.Region {
		return postern.Region{
			ID: id, Title: id, ServiceName: "com.amazonaws.vpce." + id + "." + svc, AvailabilityZones: []string{zone + "-az1", zone + "-az2"},
			Backends:            map[string][]netip.AddrPort{"govern": {netip.MustParseAddrPort("10.0.1.5:443")}},
			LoadBalancerSources: []netip.Prefix{netip.MustParsePrefix("10.0.9.0/24")},
		}
	}
	return &postern.Platform{
		Name: "example", Title: "Example SaaS",
		Domains: postern.Domains{Hosted: "hosted.example.com", PrivateLink: "privatelink.example.com"},
		Segments: []postern.Segment{
			{ID: "na", Title: "NA", Regions: []postern.Region{
				region("us-east-1", "vpce-svc-0000000000000000a", "use1"), region("us-west-2", "vpce-svc-0000000000000000b", "usw2"),
			}},
			{ID: "eu", Title: "EU", Regions: []postern.Region{region("eu-west-2", "vpce-svc-0000000000000000c", "euw2")}},
		},
		Apps: []postern.App{
			{ID: "govern", Title: "Govern", Port: 443},
			{ID: "request", Title: "Request", Port: 443, Hosts: []string{"app.example.com"}, Requires: "govern", SingleSegment: true},
		},
		Integrations: []postern.Integration{{ID: "okta", Title: "Okta SCIM", PublicException: "scim"}},
		Outbound:     postern.Outbound{Regions: []string{"us-east-1"}, Principal: "arn:aws:iam::111122223333:root"},
	}
}

func TestPlatformValidate(t *testing.T) {
	if err := examplePlatform().Validate(); err != nil {
		t.Fatalf("the example is refused: %v", err)
	}
	first := func(p *postern.Platform) *postern.Region { return &p.Segments[0].Regions[0] }
	for _, c := range []struct {
		name  string
		spoil func(*postern.Platform)
		field string // of the one error
		says  string
	}{
		{"name", func(p *postern.Platform) { p.Name = "Example SaaS" }, "name", "DNS label"},
		{"hosted", func(p *postern.Platform) { p.Domains.Hosted = "hosted" }, "domains.hosted", "not a hostname"},
		{"same zones", func(p *postern.Platform) { p.Domains.PrivateLink = p.Domains.Hosted }, "domains.privatelink", "overlaps"},
		{"privatelink under hosted", func(p *postern.Platform) { p.Domains.PrivateLink = "p." + p.Domains.Hosted }, "domains.privatelink", "overlaps"},
		{"hosted under privatelink", func(p *postern.Platform) { p.Domains.Hosted = "h." + p.Domains.PrivateLink }, "domains.privatelink", "overlaps"},
		{"segment twice", func(p *postern.Platform) { p.Segments[1].ID = "na" }, "segments[1].id", "duplicate segment"},
		{"empty segment", func(p *postern.Platform) { p.Segments[1].Regions = nil }, "segments[1].regions", "no region"},
		{"region twice across segments", func(p *postern.Platform) {
			p.Segments[1].Regions[0].ID = "us-east-1"
			p.Segments[1].Regions[0].ServiceName = "com.amazonaws.vpce.us-east-1.vpce-svc-0000000000000000c"
		}, "segments[1].regions[0].id", "duplicate region"},
		{"service twice", func(p *postern.Platform) {
			p.Segments[0].Regions = append(p.Segments[0].Regions, *first(p))
			p.Segments[0].Regions[2].ID = "us-east-1"
		}, "", "duplicate endpoint service"},
		{"zone for a region", func(p *postern.Platform) { first(p).ID = "us-east-1a" }, "", `leave out the last letter: "us-east-1"`},
		{"service of another region", func(p *postern.Platform) {
			first(p).ServiceName = "com.amazonaws.vpce.us-east-2.vpce-svc-0000000000000000a"
		}, "segments[0].regions[0].vpc_endpoint_service_name", "a service of us-east-2, not of us-east-1"},
		{"the seeds' sample service", func(p *postern.Platform) {
			first(p).ServiceName = "com.amazonaws.vpce.us-east-1.vpce-svc-0d12345ddd89101112"
		}, "segments[0].regions[0].vpc_endpoint_service_name", "not an endpoint service name"},
		{"no zone", func(p *postern.Platform) { first(p).AvailabilityZones = nil }, "segments[0].regions[0].availability_zone_ids", "no Availability Zone"},
		{"zone name", func(p *postern.Platform) { first(p).AvailabilityZones[1] = "us-east-1a" }, "segments[0].regions[0].availability_zone_ids[1]", "use1-az3"},
		{"zone twice", func(p *postern.Platform) { first(p).AvailabilityZones[1] = "use1-az1" }, "segments[0].regions[0].availability_zone_ids[1]", "duplicate"},
		{"public backend", func(p *postern.Platform) {
			first(p).Backends["govern"] = []netip.AddrPort{netip.MustParseAddrPort("8.8.8.8:443")}
		}, "segments[0].regions[0].backends.govern[0]", "a public address"},
		{"public backend, mapped", func(p *postern.Platform) {
			first(p).Backends["govern"] = []netip.AddrPort{netip.MustParseAddrPort("[::ffff:8.8.8.8]:443")}
		}, "segments[0].regions[0].backends.govern[0]", "a public address"},
		{"metadata service as a backend", func(p *postern.Platform) {
			first(p).Backends["govern"] = []netip.AddrPort{netip.MustParseAddrPort("169.254.169.254:80")}
		}, "segments[0].regions[0].backends.govern[0]", "a public address"},
		{"backend without a port", func(p *postern.Platform) {
			first(p).Backends["govern"] = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:0")}
		}, "segments[0].regions[0].backends.govern[0]", "not an address with a port"},
		{"no backend", func(p *postern.Platform) { first(p).Backends["govern"] = nil }, "segments[0].regions[0].backends.govern", "no address"},
		{"backend of no app", func(p *postern.Platform) {
			first(p).Backends["none"] = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:443")}
		}, "segments[0].regions[0].backends.none", "no such app"},
		{"every source", func(p *postern.Platform) {
			first(p).LoadBalancerSources[0] = netip.MustParsePrefix("0.0.0.0/0")
		}, "segments[0].regions[0].load_balancer_sources[0]", "trusts every address"},
		{"every IPv6 source", func(p *postern.Platform) { first(p).LoadBalancerSources[0] = netip.MustParsePrefix("::/0") }, "segments[0].regions[0].load_balancer_sources[0]", "trusts every address"},
		{"no source", func(p *postern.Platform) { first(p).LoadBalancerSources[0] = netip.Prefix{} }, "segments[0].regions[0].load_balancer_sources[0]", "not a network"},
		{"no app", func(p *postern.Platform) {
			p.Apps = nil
			for i := range p.Segments {
				for j := range p.Segments[i].Regions {
					p.Segments[i].Regions[j].Backends = nil
				}
			}
		}, "apps", "no app"},
		{"app twice", func(p *postern.Platform) { p.Apps[1].ID, p.Apps[1].Requires = "govern", "" }, "apps[1].id", "duplicate app"},
		{"port 0", func(p *postern.Platform) { p.Apps[0].Port = 0 }, "apps[0].port", "not a TCP port"},
		{"port 65536", func(p *postern.Platform) { p.Apps[0].Port = 65536 }, "apps[0].port", "not a TCP port"},
		{"host twice", func(p *postern.Platform) { p.Apps[1].Hosts = []string{"app.example.com", "app.example.com"} }, "apps[1].hosts[1]", "duplicate host"},
		{"a host among the tenants'", func(p *postern.Platform) { p.Apps[1].Hosts[0] = "app.hosted.example.com" }, "apps[1].hosts[0]", "where tenants' hosts are"},
		{"a host that is the private zone", func(p *postern.Platform) { p.Apps[1].Hosts[0] = "privatelink.example.com" }, "apps[1].hosts[0]", "where tenants' hosts are"},
		{"requires nothing that is", func(p *postern.Platform) { p.Apps[1].Requires = "none" }, "apps[1].requires", "no such other app"},
		{"requires itself", func(p *postern.Platform) { p.Apps[1].Requires = "request" }, "apps[1].requires", "no such other app"},
		{"two per-tenant apps", func(p *postern.Platform) { p.Apps[1].Hosts = nil }, "apps", "more than one app without hosts"},
		{"integration twice", func(p *postern.Platform) { p.Integrations = append(p.Integrations, p.Integrations[0]) }, "integrations[1].id", "duplicate integration"},
		{"unknown exception", func(p *postern.Platform) { p.Integrations[0].PublicException = "all" }, "integrations[0].public_exception", "unknown public exception"},
		{"outbound region twice", func(p *postern.Platform) { p.Outbound.Regions = []string{"us-east-1", "us-east-1"} }, "outbound.regions[1]", "duplicate region"},
		{"outbound without principal", func(p *postern.Platform) { p.Outbound.Principal = "" }, "outbound.principal_arn", "missing"},
		{"any principal", func(p *postern.Platform) { p.Outbound.Principal = "*" }, "outbound.principal_arn", "not an IAM principal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := examplePlatform()
			c.spoil(p)
			err := p.Validate()
			if err == nil {
				t.Fatal("it is taken")
			}
			var es postern.Errors
			if !errors.As(err, &es) {
				t.Fatalf("not a list of problems: %T", err)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q does not say %q", err, c.says)
			}
			if c.field != "" && (len(es) != 1 || es[0].Field != c.field) {
				t.Errorf("want one problem of %s, got:\n%v", c.field, err)
			}
		})
	}
}

func TestPlatformAllowsPublicBackendsWhenSaid(t *testing.T) {
	p := examplePlatform()
	p.Segments[0].Regions[0].Backends["govern"][0] = netip.MustParseAddrPort("8.8.8.8:443")
	p.AllowPublicBackends = true
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
}

func TestPlatformTakesPrivateBackends(t *testing.T) {
	for _, a := range []string{"127.0.0.1:1", "172.16.0.1:443", "192.168.1.1:443", "100.64.0.1:443", "198.18.0.1:443", "[fd00::1]:443", "[::1]:443", "[::ffff:10.0.0.1]:443"} {
		p := examplePlatform()
		p.Segments[0].Regions[0].Backends["govern"][0] = netip.MustParseAddrPort(a)
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestPlatformReportsEverythingAtOnce(t *testing.T) {
	p := &postern.Platform{}
	var es postern.Errors
	if !errors.As(p.Validate(), &es) || len(es) < 5 {
		t.Errorf("want the problems of name, domains, segments and apps together, got:\n%v", es)
	}
}

func TestPlatformLooksUp(t *testing.T) {
	p := examplePlatform()
	if r, s, ok := p.Region("eu-west-2"); !ok || r.ID != "eu-west-2" || s.ID != "eu" {
		t.Errorf("region: %v %v %v", r.ID, s.ID, ok)
	}
	if _, _, ok := p.Region("eu-west-9"); ok {
		t.Error("found a region that is not there")
	}
	if a, ok := p.TenantApp(); !ok || a.ID != "govern" {
		t.Errorf("tenants' app: %v %v", a.ID, ok)
	}
	if _, ok := p.App("none"); ok {
		t.Error("found an app that is not there")
	}
	if got := p.Host("acme"); got != "acme.hosted.example.com" {
		t.Error(got)
	}
	if got := p.PrivateLinkHost("acme"); got != "acme.privatelink.example.com" {
		t.Error(got)
	}
	if got := strings.Join(p.RegionIDs(), " "); got != "us-east-1 us-west-2 eu-west-2" {
		t.Error(got)
	}
	if got := p.Segments[0].Regions[0].Service().ID; got != "vpce-svc-0000000000000000a" {
		t.Error(got)
	}
}
