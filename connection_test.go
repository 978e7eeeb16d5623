package postern_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
)

// outboundPlatform makes data connections in Virginia, will in Oregon, and has
// the domains of the seeds.
func outboundPlatform() *postern.Platform {
	return &postern.Platform{
		Name:    "immuta",
		Domains: postern.Domains{Hosted: "hosted.immutacloud.com", PrivateLink: "privatelink.immutacloud.com"},
		Apps:    []postern.App{{ID: "request", Port: 443, Hosts: []string{"app.immutacloud.com"}}},
		Outbound: postern.Outbound{
			Regions: []string{"us-east-1", "us-west-2"}, Principal: "arn:aws:iam::111122223333:root",
			Networks: []postern.OutboundNetwork{{
				Region: "us-east-1", VPC: "vpc-0a1b2c3d4e5f60718", EgressGroup: "sg-0a1b2c3d4e5f60718",
				Subnets: []postern.OutboundSubnet{{"subnet-0a1b2c3d4e5f60718", "use1-az2"}, {"subnet-0a1b2c3d4e5f60719", "use1-az4"}},
			}},
		},
	}
}

func goodRequest() postern.ConnectionRequest {
	return postern.ConnectionRequest{
		Tenant: "example", Kind: "starburst-trino", Region: "us-east-1", Zones: []string{"use1-az4", "use1-az3"},
		Service: "com.amazonaws.vpce.us-east-1.vpce-svc-0471015b106ad1d47", Hostname: "starburst.example.com", Ports: []int{8443, 443},
	}
}

func TestAConnectionRequestIsParsed(t *testing.T) {
	want := postern.DataConnection{
		Tenant: "example", Kind: postern.KindStarburstTrino, Region: "us-east-1", Zones: []string{"use1-az3", "use1-az4"},
		Service: postern.ServiceRef{
			Region: "us-east-1", ID: "vpce-svc-0471015b106ad1d47", Name: "com.amazonaws.vpce.us-east-1.vpce-svc-0471015b106ad1d47",
		},
		Hostname: "starburst.example.com", Ports: []uint16{443, 8443}, State: postern.DataConnectionRequested,
	}
	byID := goodRequest()
	byID.Service, byID.Protocol, byID.IPAddressType = "vpce-svc-0471015b106ad1d47", "tcp", "ipv4"
	for name, r := range map[string]postern.ConnectionRequest{"by name": goodRequest(), "by ID, and all said": byID} {
		got, err := r.Parse(outboundPlatform())
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

// Each mistake has its reason, its field, what was seen, and what to do.
func TestAConnectionRequestIsRefusedWithReasons(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(*postern.ConnectionRequest)
		wants []string // "Reason field value" of each problem, and a part of the fix after " → "
	}{
		{"zone names", func(r *postern.ConnectionRequest) { r.Zones = []string{"us-east-1a", "use1-az2"} }, []string{`ZoneName spec.availability_zone_ids[0] us-east-1a → such as "use1-az3"`}},
		{"no zone ID", func(r *postern.ConnectionRequest) { r.Zones = []string{"az2"} }, []string{"NotAZone spec.availability_zone_ids[0] az2 → "}},
		{"no zone", func(r *postern.ConnectionRequest) { r.Zones = nil }, []string{"Missing spec.availability_zone_ids  → "}},
		{"zone twice", func(r *postern.ConnectionRequest) { r.Zones = []string{"use1-az2", "use1-az2"} }, []string{"Duplicate spec.availability_zone_ids[1] use1-az2 → once"}},
		{"too many zones", func(r *postern.ConnectionRequest) { r.Zones = make([]string, 17) }, []string{"NotAZone spec.availability_zone_ids 17 → "}},
		{"no common zone", func(r *postern.ConnectionRequest) { r.Zones = []string{"use1-az1", "use1-az6"} }, []string{"NoCommonZone spec.availability_zone_ids use1-az1,use1-az6 → one of use1-az2, use1-az4"}},
		{"unsupported region", func(r *postern.ConnectionRequest) { r.Region, r.Service = "us-west-1", "vpce-svc-0471015b106ad1d47" }, []string{"UnsupportedRegion spec.region us-west-1 → the nearest supported region is us-west-2"}},
		{"zone for region", func(r *postern.ConnectionRequest) {
			r.Region, r.Service = "us-east-1a", "vpce-svc-0471015b106ad1d47"
		}, []string{`UnsupportedRegion spec.region us-east-1a → "us-east-1"`}},
		{"region not set up", func(r *postern.ConnectionRequest) { r.Region, r.Service = "us-west-2", "vpce-svc-0471015b106ad1d47" }, []string{"RegionNotSetUp spec.region us-west-2 → ask the vendor"}},
		{"another region's service", func(r *postern.ConnectionRequest) {
			r.Service = "com.amazonaws.vpce.us-west-2.vpce-svc-0471015b106ad1d47"
		}, []string{"ServiceOfAnotherRegion spec.vpc_endpoint_service_name com.amazonaws.vpce.us-west-2.vpce-svc-0471015b106ad1d47 → "}},
		{"no service", func(r *postern.ConnectionRequest) { r.Service = "vpce-0471015b106ad1d47" }, []string{"NotAService spec.vpc_endpoint_service_name vpce-0471015b106ad1d47 → ServiceName or ServiceId"}},
		// The seeds' sample has 18 digits.
		{"seeds' filler", func(r *postern.ConnectionRequest) { r.Service = "vpce-svc-0d12345ddd89101112" }, []string{"NotAService spec.vpc_endpoint_service_name vpce-svc-0d12345ddd89101112 → "}},
		{"IPv6", func(r *postern.ConnectionRequest) { r.IPAddressType = "dualstack" }, []string{"UnsupportedAddressType spec.ip_address_type dualstack → IPv4"}},
		{"UDP", func(r *postern.ConnectionRequest) { r.Protocol = "udp" }, []string{"UnsupportedProtocol spec.protocol udp → TCP"}},
		{"IP literal", func(r *postern.ConnectionRequest) { r.Hostname = "10.0.0.1" }, []string{"IPLiteral spec.hostname 10.0.0.1 → "}},
		{"private TLD", func(r *postern.ConnectionRequest) { r.Hostname = "starburst-prod.local" }, []string{"PrivateTLD spec.hostname starburst-prod.local → "}},
		{"special use", func(r *postern.ConnectionRequest) { r.Hostname = "starburst.test" }, []string{"SpecialUseDomain spec.hostname starburst.test → "}},
		{"a tenant's own host", func(r *postern.ConnectionRequest) { r.Hostname = "example.hosted.immutacloud.com" }, []string{"PlatformName spec.hostname example.hosted.immutacloud.com → your own"}},
		{"a tenant's private host", func(r *postern.ConnectionRequest) { r.Hostname = "a.b.privatelink.immutacloud.com" }, []string{"PlatformName spec.hostname a.b.privatelink.immutacloud.com → "}},
		{"an app's host", func(r *postern.ConnectionRequest) { r.Hostname = "app.immutacloud.com" }, []string{"PlatformName spec.hostname app.immutacloud.com → "}},
		{"no port", func(r *postern.ConnectionRequest) { r.Ports = nil }, []string{"Missing spec.ports  → 443"}},
		{"bad ports", func(r *postern.ConnectionRequest) { r.Ports = []int{0, 443, 65536, -1} }, []string{"NotAPort spec.ports[0] 0 → ", "NotAPort spec.ports[2] 65536 → ", "NotAPort spec.ports[3] -1 → "}},
		{"port twice", func(r *postern.ConnectionRequest) { r.Ports = []int{443, 443} }, []string{"Duplicate spec.ports[1] 443 → once"}},
		{"too many ports", func(r *postern.ConnectionRequest) { r.Ports = make([]int, 17) }, []string{"NotAPort spec.ports 17 → "}},
		{"unknown kind", func(r *postern.ConnectionRequest) { r.Kind = "snowflake" }, []string{"UnknownKind spec.kind snowflake → starburst-trino"}},
		{"everything at once", func(r *postern.ConnectionRequest) {
			*r = postern.ConnectionRequest{
				Tenant: "Example", Kind: "x", Region: "us-east-1", Zones: []string{"us-east-1a"}, Service: "x", Hostname: "10.0.0.1",
				Ports: []int{0}, Protocol: "udp", IPAddressType: "ipv6",
			}
		}, []string{
			" spec.tenant Example → ", "UnknownKind spec.kind x → ", "ZoneName spec.availability_zone_ids[0] us-east-1a → ", "NotAService spec.vpc_endpoint_service_name x → ",
			"IPLiteral spec.hostname 10.0.0.1 → ", "NotAPort spec.ports[0] 0 → ", "UnsupportedProtocol spec.protocol udp → ", "UnsupportedAddressType spec.ip_address_type ipv6 → ",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := goodRequest()
			c.edit(&r)
			_, err := r.Parse(outboundPlatform())
			var es postern.Errors
			if !errors.As(err, &es) {
				t.Fatalf("got %v", err)
			}
			for i, e := range es {
				got, fix := fmt.Sprintf("%s %s %s", e.Reason, e.Field, e.Value), ""
				want := "nothing"
				if i < len(c.wants) {
					want, fix, _ = strings.Cut(c.wants[i], " → ")
				}
				if got != want || !strings.Contains(e.Fix, fix) || e.Message == "" || e.Fix == "" || e.Code != postern.CodeInvalid {
					t.Errorf("got %q: %v\nwant %q with a fix like %q", got, e, want, fix)
				}
				if e.Reason != "" && !slices.Contains(postern.RequestReasons(), e.Reason) {
					t.Errorf("%s is not in the list of reasons", e.Reason)
				}
			}
			if len(es) != len(c.wants) {
				t.Errorf("%d problems, want %d: %v", len(es), len(c.wants), err)
			}
		})
	}
}

func TestAPlatformWithoutOutboundTakesNoRequest(t *testing.T) {
	p := outboundPlatform()
	p.Outbound = postern.Outbound{}
	_, err := goodRequest().Parse(p)
	if err == nil || !strings.Contains(err.Error(), "this platform makes no data connections") {
		t.Error(err)
	}
}

// Tenants' traffic does not pass between segments.
func TestAConnectionStaysInItsTenantsSegment(t *testing.T) {
	p := outboundPlatform()
	p.Outbound.Regions = append(p.Outbound.Regions, "eu-west-1", "sa-east-1")
	p.Segments = []postern.Segment{
		{ID: "na", Regions: []postern.Region{{ID: "us-east-1"}, {ID: "us-west-2"}}},
		{ID: "eu", Regions: []postern.Region{{ID: "eu-west-1"}}},
	}
	home := postern.Tenant{Name: "example", Region: "us-west-2"}
	for region, refused := range map[string]bool{"us-west-2": false, "us-east-1": false, "eu-west-1": true, "sa-east-1": false} {
		err := p.CheckConnectionSegment("spec.region", region, home)
		if (err != nil) != refused || err != nil && (err.Reason != postern.ReasonAnotherSegment || !strings.Contains(err.Fix, "us-east-1, us-west-2") || strings.Contains(err.Fix, "eu-west-1")) {
			t.Errorf("%s: %v", region, err)
		}
	}
}

// A challenge is good for one organization, on one platform, for one hostname.
func TestChallengesDiffer(t *testing.T) {
	born := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	o := postern.Organization{ID: "example-corp", CreatedAt: born}
	seen := map[string]bool{}
	for _, v := range []string{
		postern.ChallengeValue("immuta", o, "a.example.com"),
		postern.ChallengeValue("immuta", o, "b.example.com"),
		postern.ChallengeValue("other", o, "a.example.com"),
		postern.ChallengeValue("immuta", postern.Organization{ID: "globex", CreatedAt: born}, "a.example.com"),
		postern.ChallengeValue("immuta", postern.Organization{ID: "example-corp", CreatedAt: born.Add(time.Second)}, "a.example.com"),
	} {
		if seen[v] || !strings.HasPrefix(v, "postern-verify=") || len(v) != len("postern-verify=")+32 {
			t.Errorf("%q", v)
		}
		seen[v] = true
	}
	// It is the same whenever it is asked for: what was published stays good.
	if !seen[postern.ChallengeValue("immuta", postern.Organization{ID: "example-corp", Title: "renamed", CreatedAt: born}, "a.example.com")] {
		t.Error("the same challenge differs")
	}
}

func TestServiceRefsOfChina(t *testing.T) {
	ref, err := postern.ParseServiceRef("f", "vpce-svc-0471015b106ad1d47", "cn-north-1")
	if want := "cn.com.amazonaws.vpce.cn-north-1.vpce-svc-0471015b106ad1d47"; err != nil || ref.Name != want {
		t.Errorf("%+v, %v", ref, err)
	}
	again, err := postern.ParseServiceRef("f", ref.Name, "cn-north-1")
	if err != nil || again != ref {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestOutboundNetworksAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*postern.OutboundNetwork)
		want string
	}{
		"region":          {func(n *postern.OutboundNetwork) { n.Region = "us-east-1a" }, "outbound.networks[0].region: an Availability Zone"},
		"another region":  {func(n *postern.OutboundNetwork) { n.Region = "eu-west-1" }, "outbound.networks[0].region: not among outbound.regions"},
		"VPC":             {func(n *postern.OutboundNetwork) { n.VPC = "subnet-0a1b2c3d4e5f60718" }, "outbound.networks[0].vpc_id: not the ID of a VPC"},
		"group":           {func(n *postern.OutboundNetwork) { n.EgressGroup = "" }, "outbound.networks[0].egress_security_group_id: not the ID of a security group"},
		"no subnet":       {func(n *postern.OutboundNetwork) { n.Subnets = nil }, "outbound.networks[0].subnets: no subnet"},
		"subnet":          {func(n *postern.OutboundNetwork) { n.Subnets[0].ID = "x" }, "outbound.networks[0].subnets[0].subnet_id: not the ID of a subnet"},
		"zone name":       {func(n *postern.OutboundNetwork) { n.Subnets[1].Zone = "us-east-1a" }, "outbound.networks[0].subnets[1].availability_zone_id: an Availability Zone name"},
		"zone twice":      {func(n *postern.OutboundNetwork) { n.Subnets[1].Zone = n.Subnets[0].Zone }, "outbound.networks[0].subnets[1].availability_zone_id: duplicate"},
		"subnet twice":    {func(n *postern.OutboundNetwork) { n.Subnets[1].ID = n.Subnets[0].ID }, "outbound.networks[0].subnets[1].subnet_id: duplicate subnet"},
		"nothing amiss":   {func(*postern.OutboundNetwork) {}, ""},
		"the old-form ID": {func(n *postern.OutboundNetwork) { n.VPC = "vpc-12345678" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := outboundPlatform()
			c.edit(&p.Outbound.Networks[0])
			err := p.Validate()
			says := err != nil && strings.Contains(err.Error(), c.want)
			if c.want == "" && strings.Contains(fmt.Sprint(err), "outbound") || c.want != "" && !says {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	p := outboundPlatform()
	p.Outbound.Networks = append(p.Outbound.Networks, p.Outbound.Networks[0])
	if err := p.Validate(); !strings.Contains(fmt.Sprint(err), "outbound.networks[1].region: duplicate region") {
		t.Error(err)
	}
}

func TestWorkloadTokensEnd(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		token postern.Token
		want  string
	}{
		"good":        {postern.Token{Name: "w", Role: postern.RoleWorkload, Tenant: "example", Organization: "example-corp", ExpiresAt: now.Add(time.Hour)}, ""},
		"no end":      {postern.Token{Name: "w", Role: postern.RoleWorkload, Tenant: "example"}, "spec.expires_at: missing"},
		"too long":    {postern.Token{Name: "w", Role: postern.RoleWorkload, Tenant: "example", ExpiresAt: now.Add(367 * 24 * time.Hour)}, "spec.expires_at: more than a year away"},
		"over":        {postern.Token{Name: "w", Role: postern.RoleWorkload, Tenant: "example", ExpiresAt: now}, "spec.expires_at: in the past"},
		"no tenant":   {postern.Token{Name: "w", Role: postern.RoleWorkload, ExpiresAt: now.Add(time.Hour)}, "spec.tenant: not usable"},
		"another one": {postern.Token{Name: "w", Role: postern.RoleOperator, Tenant: "example"}, "spec.tenant: goes only with the role workload"},
	} {
		err := c.token.Validate(now)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
