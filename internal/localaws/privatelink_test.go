package localaws_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/postern-net/postern/internal/localaws"
)

func (f *fixture) connections(filters ...types.Filter) []types.VpcEndpointConnection {
	f.t.Helper()
	out, err := f.ec2(f.platform).DescribeVpcEndpointConnections(f.t.Context(), &ec2.DescribeVpcEndpointConnectionsInput{Filters: filters})
	if err != nil {
		f.t.Fatal(err)
	}
	return out.VpcEndpointConnections
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: &name, Values: values}
}

// TestLife follows an endpoint from creation to oblivion, from both sides.
func TestLife(t *testing.T) {
	clock := newClock()
	f := newFixture(t, func(f *fixture) {
		f.cfg.Clock = clock.now
		f.cfg.Timing = localaws.Timing{Available: time.Second, DNS: time.Second, Delete: time.Second, Linger: time.Minute}
	})
	state := func(id string) string { return string(f.describe(id).State) }
	e := f.create(f.example, f.vpc, "use1-az2", "use1-az4")
	id := *e.VpcEndpointId
	if e.State != "pendingAcceptance" || len(e.DnsEntries) != 0 || *e.OwnerId != f.example.ID || len(e.NetworkInterfaceIds) != 2 {
		t.Fatalf("%+v", e)
	}
	clock.pass(time.Second)
	e = f.describe(id)
	if len(e.DnsEntries) != 3 || *e.DnsEntries[0].HostedZoneId != "Z7HUB22UULQXV" {
		t.Fatalf("%+v", e.DnsEntries)
	}
	regional, domain, _ := strings.Cut(*e.DnsEntries[0].DnsName, ".")
	if domain != f.service+".us-east-1.vpce.amazonaws.com" || !strings.HasPrefix(regional, id+"-") || len(regional) != len(id)+9 {
		t.Errorf("regional name %s.%s", regional, domain)
	}
	if zonal := *e.DnsEntries[1].DnsName; !strings.HasPrefix(zonal, regional+"-us-east-1") {
		t.Errorf("zonal name %s", zonal)
	}
	f.accept(id)
	if got := state(id); got != "pending" {
		t.Errorf("just accepted: %s", got)
	}
	clock.pass(time.Second)
	if got := state(id); got != "available" {
		t.Errorf("accepted: %s", got)
	}
	f.gone(id)
	if got := state(id); got != "deleting" {
		t.Errorf("just deleted: %s", got)
	}
	clock.pass(time.Second)
	if got := f.connections(); len(got) != 1 || got[0].VpcEndpointState != "deleted" {
		t.Errorf("deleted, seen by the provider: %+v", got)
	}
	if got := state(id); got != "deleted" {
		t.Errorf("deleted: %s", got)
	}
	clock.pass(time.Minute)
	if got := f.connections(); len(got) != 0 {
		t.Errorf("long deleted: %+v", got)
	}
	_, err := f.ec2(f.example).DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{VpcEndpointIds: []string{id}})
	wantCode(t, err, "InvalidVpcEndpointId.NotFound")
}

func TestRejectedLingersAndStaysWithItsOwner(t *testing.T) {
	clock := newClock()
	f := newFixture(t, func(f *fixture) {
		f.cfg.Clock = clock.now
		f.cfg.Timing.Linger = time.Minute
	})
	id := *f.create(f.example, f.vpc, "use1-az2").VpcEndpointId
	reject := &ec2.RejectVpcEndpointConnectionsInput{ServiceId: &f.service, VpcEndpointIds: []string{id}}
	p := f.ec2(f.platform)
	if out, err := p.RejectVpcEndpointConnections(t.Context(), reject); err != nil || len(out.Unsuccessful) != 0 {
		t.Fatal(out, err)
	}
	if got := f.connections(); len(got) != 1 || got[0].VpcEndpointState != "rejected" {
		t.Fatalf("%+v", got)
	}
	accepted, err := p.AcceptVpcEndpointConnections(t.Context(), &ec2.AcceptVpcEndpointConnectionsInput{ServiceId: &f.service, VpcEndpointIds: []string{id}})
	if err != nil || len(accepted.Unsuccessful) != 1 {
		t.Fatal(accepted, err)
	}
	// A rejected connection does not keep its service.
	if out, err := p.DeleteVpcEndpointServiceConfigurations(t.Context(), &ec2.DeleteVpcEndpointServiceConfigurationsInput{ServiceIds: []string{f.service}}); err != nil || len(out.Unsuccessful) != 0 {
		t.Fatal(out, err)
	}
	if got := f.connections(); len(got) != 1 {
		t.Errorf("a rejected row outlives its service: %+v", got)
	}
	clock.pass(time.Minute)
	if got := f.connections(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if got := f.describe(id); got.State != "rejected" {
		t.Errorf("its owner sees %s", got.State)
	}
}

func TestPartialFailureIsNoError(t *testing.T) {
	f := newFixture(t, nil)
	id := *f.create(f.example, f.vpc, "use1-az2").VpcEndpointId
	accept := &ec2.AcceptVpcEndpointConnectionsInput{ServiceId: &f.service, VpcEndpointIds: []string{"vpce-0aaaaaaaaaaaaaaaa", id}}
	out, err := f.ec2(f.platform).AcceptVpcEndpointConnections(t.Context(), accept)
	if err != nil || len(out.Unsuccessful) != 1 || *out.Unsuccessful[0].ResourceId != "vpce-0aaaaaaaaaaaaaaaa" || *out.Unsuccessful[0].Error.Code != "InvalidVpcEndpoint.NotFound" {
		t.Fatal(out, err)
	}
	f.await(id, "available")
	out, err = f.ec2(f.platform).AcceptVpcEndpointConnections(t.Context(), accept)
	if err != nil || len(out.Unsuccessful) != 2 || *out.Unsuccessful[1].Error.Code != "InvalidState" {
		t.Fatal(out, err)
	}
	deleted, err := f.ec2(f.globex).DeleteVpcEndpoints(t.Context(), &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{id}})
	if err != nil || len(deleted.Unsuccessful) != 1 || *deleted.Unsuccessful[0].Error.Code != "InvalidVpcEndpoint.NotFound" {
		t.Error("another account's endpoint:", deleted, err)
	}
	services, err := f.ec2(f.platform).DeleteVpcEndpointServiceConfigurations(t.Context(), &ec2.DeleteVpcEndpointServiceConfigurationsInput{ServiceIds: []string{f.service, "vpce-svc-0aaaaaaaaaaaaaaaa"}})
	if err != nil || len(services.Unsuccessful) != 2 || *services.Unsuccessful[0].Error.Code != "ExistingVpcEndpointConnections" || *services.Unsuccessful[1].Error.Code != "InvalidVpcEndpointService.NotFound" {
		t.Error(services, err)
	}
	_, err = f.ec2(f.globex).AcceptVpcEndpointConnections(t.Context(), accept)
	wantCode(t, err, "InvalidVpcEndpointServiceId.NotFound")
}

func TestCreateRefuses(t *testing.T) {
	f := newFixture(t, nil)
	group := f.other.DefaultSecurityGroup
	for name, c := range map[string]struct {
		change func(*ec2.CreateVpcEndpointInput)
		code   string
	}{
		"default type":  {func(in *ec2.CreateVpcEndpointInput) { in.VpcEndpointType = "" }, "InvalidParameter"},
		"unknown type":  {func(in *ec2.CreateVpcEndpointInput) { in.VpcEndpointType = "Door" }, "InvalidVpcEndpointType"},
		"another's VPC": {func(in *ec2.CreateVpcEndpointInput) { in.VpcId = &f.other.ID }, "InvalidVpcId.NotFound"},
		"no such service": {func(in *ec2.CreateVpcEndpointInput) {
			in.ServiceName = aws.String(strings.Replace(f.name, "0c", "0d", 1))
		}, "InvalidServiceName"},
		"service ID":           {func(in *ec2.CreateVpcEndpointInput) { in.ServiceName = &f.service }, "InvalidServiceName"},
		"region not supported": {func(in *ec2.CreateVpcEndpointInput) { in.ServiceRegion = aws.String(oregon) }, "InvalidServiceName"},
		"one bad zone": {func(in *ec2.CreateVpcEndpointInput) {
			in.SubnetIds = append(in.SubnetIds, subnetOf(t, f.vpc, "use1-az1"))
		}, "InvalidParameter"},
		"same zone twice":   {func(in *ec2.CreateVpcEndpointInput) { in.SubnetIds = append(in.SubnetIds, in.SubnetIds[0]) }, "DuplicateSubnetsInSameZone"},
		"no such subnet":    {func(in *ec2.CreateVpcEndpointInput) { in.SubnetIds = []string{"subnet-0aaaaaaaaaaaaaaaa"} }, "InvalidSubnetId.NotFound"},
		"another's subnet":  {func(in *ec2.CreateVpcEndpointInput) { in.SubnetIds = []string{f.other.Subnets[0].ID} }, "InvalidSubnetId.NotFound"},
		"another's group":   {func(in *ec2.CreateVpcEndpointInput) { in.SecurityGroupIds = []string{group} }, "InvalidGroup.NotFound"},
		"private DNS":       {func(in *ec2.CreateVpcEndpointInput) { in.PrivateDnsEnabled = aws.Bool(true) }, "InvalidParameter"},
		"IPv6":              {func(in *ec2.CreateVpcEndpointInput) { in.IpAddressType = types.IpAddressTypeIpv6 }, "UnsupportedOperation"},
		"unknown parameter": {func(in *ec2.CreateVpcEndpointInput) { in.RouteTableIds = []string{"rtb-1"} }, "UnknownParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			in := f.request(f.vpc, "use1-az2")
			c.change(in)
			_, err := f.ec2(f.example).CreateVpcEndpoint(t.Context(), in)
			wantCode(t, err, c.code)
		})
	}
	if got := f.connections(); len(got) != 0 {
		t.Errorf("%d endpoints exist", len(got))
	}
}

func TestQuotaOfAVPC(t *testing.T) {
	f := newFixture(t, nil)
	for range 50 {
		f.create(f.example, f.vpc)
	}
	_, err := f.ec2(f.example).CreateVpcEndpoint(t.Context(), f.request(f.vpc))
	wantCode(t, err, "VpcEndpointLimitExceeded")
}

// TestAllowList: outside of it the service does not exist, wherever one looks.
func TestAllowList(t *testing.T) {
	var ada, role localaws.AccessKey
	f := newFixture(t, func(f *fixture) {
		ada = localaws.AccessKey{ID: "AKIAUSERUSERUSERUSER", Secret: "u", Principal: "arn:aws:iam::" + f.globex.ID + ":user/people/ada"}
		role = localaws.AccessKey{ID: "AKIAROLEROLEROLEROLE", Secret: "r", Principal: "arn:aws:sts::" + f.globex.ID + ":assumed-role/network/x"}
		for i := range f.cfg.World.Accounts {
			if f.cfg.World.Accounts[i].ID == f.globex.ID {
				f.cfg.World.Accounts[i].AccessKeys = append(f.cfg.World.Accounts[i].AccessKeys, ada, role)
			}
		}
	})
	p := f.ec2(f.platform)
	allow := func(add, remove []string) *ec2.ModifyVpcEndpointServicePermissionsOutput {
		t.Helper()
		out, err := p.ModifyVpcEndpointServicePermissions(t.Context(), &ec2.ModifyVpcEndpointServicePermissionsInput{ServiceId: &f.service, AddAllowedPrincipals: add, RemoveAllowedPrincipals: remove})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	try := func(k localaws.AccessKey) error {
		c := f.ec2Key(k)
		listed, err := c.DescribeVpcEndpointServices(t.Context(), &ec2.DescribeVpcEndpointServicesInput{ServiceNames: []string{f.name}})
		_, createErr := c.CreateVpcEndpoint(t.Context(), f.request(f.other, "use1-az2"))
		if (err == nil) != (createErr == nil) {
			t.Errorf("listed: %v, created: %v", err, createErr)
		}
		if err == nil && len(listed.ServiceDetails) != 1 {
			t.Errorf("%+v", listed)
		}
		return createErr
	}
	key := f.globex.AccessKeys[0]
	if err := try(key); err != nil {
		t.Error(err)
	}
	allow(nil, []string{rootOf(f.globex)})
	for _, k := range []localaws.AccessKey{key, ada, role} {
		wantCode(t, try(k), "InvalidServiceName")
	}
	// Accepted or waiting, endpoints stay when their principal goes.
	if got := f.connections(filter("vpc-endpoint-owner", f.globex.ID)); len(got) != 1 {
		t.Errorf("%d connections of globex", len(got))
	}
	user := "arn:aws:iam::" + f.globex.ID + ":user/ada"
	if out := allow([]string{user, user}, nil); len(out.AddedPrincipals) != 1 || out.AddedPrincipals[0].PrincipalType != types.PrincipalTypeUser || !*out.ReturnValue {
		t.Errorf("%+v", out)
	}
	if err := try(ada); err != nil {
		t.Error(err)
	}
	wantCode(t, try(role), "InvalidServiceName")
	allow([]string{"arn:aws:iam::" + f.globex.ID + ":role/network"}, []string{user})
	if err := try(role); err != nil {
		t.Error(err)
	}
	wantCode(t, try(ada), "InvalidServiceName")
	allow([]string{"*"}, nil)
	if err := try(key); err != nil {
		t.Error(err)
	}
	_, err := p.ModifyVpcEndpointServicePermissions(t.Context(), &ec2.ModifyVpcEndpointServicePermissionsInput{ServiceId: &f.service, AddAllowedPrincipals: []string{f.globex.ID}})
	wantCode(t, err, "InvalidPrincipal")
	_, err = f.ec2(f.globex).DescribeVpcEndpointServicePermissions(t.Context(), &ec2.DescribeVpcEndpointServicePermissionsInput{ServiceId: &f.service})
	wantCode(t, err, "InvalidVpcEndpointServiceId.NotFound")
	out, err := p.DescribeVpcEndpointServicePermissions(t.Context(), &ec2.DescribeVpcEndpointServicePermissionsInput{ServiceId: &f.service, Filters: []types.Filter{filter("principal-type", "Role")}})
	if err != nil || len(out.AllowedPrincipals) != 1 {
		t.Error(out, err)
	}
	// The owner needs no entry.
	allow(nil, []string{"*", rootOf(f.example)})
	if _, err := p.CreateVpcEndpoint(t.Context(), f.request(f.hub, "use1-az2")); err != nil {
		t.Error(err)
	}
}

func TestServiceConfigurations(t *testing.T) {
	f := newFixture(t, nil)
	p := f.ec2(f.platform)
	_, err := p.CreateVpcEndpointServiceConfiguration(t.Context(), &ec2.CreateVpcEndpointServiceConfigurationInput{NetworkLoadBalancerArns: []string{f.lb.ARN}})
	wantCode(t, err, "InvalidParameter") // one service for a load balancer
	_, err = p.CreateVpcEndpointServiceConfiguration(t.Context(), &ec2.CreateVpcEndpointServiceConfigurationInput{})
	wantCode(t, err, "InvalidParameter")
	_, err = f.ec2(f.globex).CreateVpcEndpointServiceConfiguration(t.Context(), &ec2.CreateVpcEndpointServiceConfigurationInput{NetworkLoadBalancerArns: []string{f.spare.ARN}})
	wantCode(t, err, "InvalidLoadBalancer.NotFound")
	out, err := p.CreateVpcEndpointServiceConfiguration(t.Context(), &ec2.CreateVpcEndpointServiceConfigurationInput{NetworkLoadBalancerArns: []string{f.spare.ARN}})
	if err != nil {
		t.Fatal(err)
	}
	made := out.ServiceConfiguration
	if !*made.AcceptanceRequired || !slices.Equal(made.AvailabilityZoneIds, []string{"use1-az2", "use1-az4"}) && !slices.Equal(made.AvailabilityZoneIds, []string{"use1-az4", "use1-az2"}) {
		t.Errorf("%+v", made)
	}
	if made.ServiceState != types.ServiceStateAvailable || *made.ServiceName != "com.amazonaws.vpce.us-east-1."+*made.ServiceId {
		t.Errorf("%+v", made)
	}
	// Nobody is allowed yet.
	name := *made.ServiceName
	in := f.request(f.vpc, "use1-az2")
	in.ServiceName = &name
	_, err = f.ec2(f.example).CreateVpcEndpoint(t.Context(), in)
	wantCode(t, err, "InvalidServiceName")
	if _, err := p.ModifyVpcEndpointServicePermissions(t.Context(), &ec2.ModifyVpcEndpointServicePermissionsInput{ServiceId: made.ServiceId, AddAllowedPrincipals: []string{rootOf(f.example)}}); err != nil {
		t.Fatal(err)
	}
	// Without acceptance the answer already says pending.
	if _, err := p.ModifyVpcEndpointServiceConfiguration(t.Context(), &ec2.ModifyVpcEndpointServiceConfigurationInput{ServiceId: made.ServiceId, AcceptanceRequired: aws.Bool(false)}); err != nil {
		t.Fatal(err)
	}
	e, err := f.ec2(f.example).CreateVpcEndpoint(t.Context(), in)
	if err != nil || e.VpcEndpoint.State != "pending" {
		t.Fatal(e, err)
	}
	f.await(*e.VpcEndpoint.VpcEndpointId, "available")
	_, err = p.ModifyVpcEndpointServiceConfiguration(t.Context(), &ec2.ModifyVpcEndpointServiceConfigurationInput{ServiceId: made.ServiceId, RemoveNetworkLoadBalancerArns: []string{f.spare.ARN}})
	wantCode(t, err, "ExistingVpcEndpointConnections")
	all, err := p.DescribeVpcEndpointServiceConfigurations(t.Context(), &ec2.DescribeVpcEndpointServiceConfigurationsInput{})
	if err != nil || len(all.ServiceConfigurations) != 2 {
		t.Error(all, err)
	}
	none, err := f.ec2(f.platform, oregon).DescribeVpcEndpointServiceConfigurations(t.Context(), &ec2.DescribeVpcEndpointServiceConfigurationsInput{})
	if err != nil || len(none.ServiceConfigurations) != 0 {
		t.Error("seen in another region:", none, err)
	}
	_, err = p.DescribeVpcEndpointServiceConfigurations(t.Context(), &ec2.DescribeVpcEndpointServiceConfigurationsInput{ServiceIds: []string{"vpce-svc-0aaaaaaaaaaaaaaaa"}})
	wantCode(t, err, "InvalidVpcEndpointServiceId.NotFound")
}

func TestCrossRegion(t *testing.T) {
	f := newFixture(t, nil)
	p, c := f.ec2(f.platform), f.ec2(f.example, oregon)
	in := f.request(f.far, "usw2-az1")
	_, err := c.CreateVpcEndpoint(t.Context(), in)
	wantCode(t, err, "InvalidServiceName") // the region of the name is not this one
	in.ServiceRegion = aws.String(virginia)
	_, err = c.CreateVpcEndpoint(t.Context(), in)
	wantCode(t, err, "InvalidServiceName") // and the service is not offered here
	modify := func(add, remove []string) error {
		_, err := p.ModifyVpcEndpointServiceConfiguration(t.Context(), &ec2.ModifyVpcEndpointServiceConfigurationInput{ServiceId: &f.service, AddSupportedRegions: add, RemoveSupportedRegions: remove})
		return err
	}
	if err := modify([]string{oregon}, nil); err != nil {
		t.Fatal(err)
	}
	services, err := c.DescribeVpcEndpointServices(t.Context(), &ec2.DescribeVpcEndpointServicesInput{ServiceRegions: []string{virginia}})
	if err != nil || len(services.ServiceDetails) != 1 {
		t.Error(services, err)
	}
	out, err := c.CreateVpcEndpoint(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	id := *out.VpcEndpoint.VpcEndpointId
	if *out.VpcEndpoint.ServiceRegion != virginia {
		t.Error(*out.VpcEndpoint.ServiceRegion)
	}
	if got := f.connections(filter("vpc-endpoint-region", "cross-region")); len(got) != 1 || *got[0].VpcEndpointRegion != oregon {
		t.Errorf("%+v", got)
	}
	f.accept(id)
	f.await(id, "available")
	info, err := f.Endpoint(id)
	if err != nil {
		t.Fatal(err)
	}
	f.expectPassage(f.far.Host("", 10), mustAddr(t, info.Addresses[0]))
	wantCode(t, modify(nil, []string{virginia}), "InvalidParameter") // never the home region
	if err := modify(nil, []string{oregon}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, modify(nil, []string{oregon}), "InvalidParameter") // once
	conf, err := p.DescribeVpcEndpointServiceConfigurations(t.Context(), &ec2.DescribeVpcEndpointServiceConfigurationsInput{})
	if err != nil || len(conf.ServiceConfigurations[0].SupportedRegions) != 2 || *conf.ServiceConfigurations[0].SupportedRegions[1].ServiceState != "Closed" {
		t.Error(conf, err)
	}
}

func TestANewEndpointMayBeMissing(t *testing.T) {
	f := newFixture(t, func(f *fixture) { f.cfg.Timing.HiddenDescribes = 2 })
	id := *f.create(f.example, f.vpc, "use1-az2").VpcEndpointId
	describe := func() error {
		_, err := f.ec2(f.example).DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{VpcEndpointIds: []string{id}})
		return err
	}
	for i, want := range []int{0, 0, 1} {
		if got := f.connections(); len(got) != want {
			t.Errorf("listing %d has %d connections, want %d", i, len(got), want)
		}
	}
	wantCode(t, describe(), "InvalidVpcEndpointId.NotFound")
	wantCode(t, describe(), "InvalidVpcEndpointId.NotFound")
	if err := describe(); err != nil {
		t.Error(err)
	}
}

// TestZoneNamesDifferPerAccount: names are mapped per account, IDs are not.
func TestZoneNamesDifferPerAccount(t *testing.T) {
	f := newFixture(t, func(f *fixture) {
		for i := range f.cfg.World.Accounts {
			if f.cfg.World.Accounts[i].ID == f.globex.ID {
				f.cfg.World.Accounts[i].HiddenZones = []string{"use1-az6"}
			}
		}
	})
	mapping := func(a localaws.Account) map[string]string {
		out, err := f.ec2(a).DescribeAvailabilityZones(t.Context(), &ec2.DescribeAvailabilityZonesInput{})
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]string{}
		for _, z := range out.AvailabilityZones {
			m[*z.ZoneId] = *z.ZoneName
		}
		return m
	}
	ours, theirs, globex := mapping(f.example), mapping(f.platform), mapping(f.globex)
	if len(ours) != 6 || len(theirs) != 6 || len(globex) != 5 {
		t.Fatal(ours, theirs, globex)
	}
	differ := 0
	for id, name := range ours {
		if theirs[id] != name {
			differ++
		}
	}
	if differ == 0 {
		t.Error("both accounts have the same names")
	}
	subnets, err := f.ec2(f.example).DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter("vpc-id", f.vpc.ID), filter("availability-zone-id", "use1-az4")}})
	if err != nil || len(subnets.Subnets) != 1 || *subnets.Subnets[0].AvailabilityZone != ours["use1-az4"] {
		t.Error(subnets, err)
	}
	// Only the zones that both sides have.
	out, err := f.ec2(f.globex).DescribeVpcEndpointServices(t.Context(), &ec2.DescribeVpcEndpointServicesInput{})
	if err != nil || len(out.ServiceDetails) != 1 {
		t.Fatal(out, err)
	}
	ids := slices.Sorted(slices.Values(out.ServiceDetails[0].AvailabilityZoneIds))
	if !slices.Equal(ids, []string{"use1-az2", "use1-az4"}) || *out.ServiceDetails[0].Owner != f.platform.ID {
		t.Errorf("%+v", out.ServiceDetails[0])
	}
	for i, id := range out.ServiceDetails[0].AvailabilityZoneIds {
		if out.ServiceDetails[0].AvailabilityZones[i] != globex[id] {
			t.Errorf("%s is not called %s here", id, out.ServiceDetails[0].AvailabilityZones[i])
		}
	}
}

func TestNetworks(t *testing.T) {
	f := newFixture(t, nil)
	c := f.ec2(f.example)
	vpcs, err := c.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
	if err != nil || len(vpcs.Vpcs) != 1 || *vpcs.Vpcs[0].VpcId != f.vpc.ID || *vpcs.Vpcs[0].CidrBlock != f.vpc.CIDR.String() {
		t.Error(vpcs, err)
	}
	_, err = c.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{VpcIds: []string{f.other.ID}})
	wantCode(t, err, "InvalidVpcID.NotFound")
	_, err = c.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{SubnetIds: []string{f.other.Subnets[0].ID}})
	wantCode(t, err, "InvalidSubnetID.NotFound")
	subnets, err := c.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
	if err != nil || len(subnets.Subnets) != 4 || *subnets.Subnets[0].AvailableIpAddressCount != 251 {
		t.Error(subnets, err)
	}
	groups, err := c.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{filter("vpc-id", f.vpc.ID)}})
	if err != nil || len(groups.SecurityGroups) != 1 || *groups.SecurityGroups[0].GroupName != "default" {
		t.Error(groups, err)
	}
	_, err = c.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{GroupIds: []string{f.other.DefaultSecurityGroup}})
	wantCode(t, err, "InvalidGroup.NotFound")
	_, err = c.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: &f.vpc.DefaultSecurityGroup})
	wantCode(t, err, "CannotDelete")
	create := &ec2.CreateSecurityGroupInput{GroupName: aws.String("default"), Description: aws.String("again"), VpcId: &f.vpc.ID}
	_, err = c.CreateSecurityGroup(t.Context(), create)
	wantCode(t, err, "InvalidGroup.Duplicate")
	create.VpcId = &f.other.ID
	_, err = c.CreateSecurityGroup(t.Context(), create)
	wantCode(t, err, "InvalidVpcID.NotFound")
}
