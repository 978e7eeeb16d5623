package aws_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/aws"
)

const (
	vpc     = "vpc-0a1b2c3d4e5f60718"
	subnet  = "subnet-0a1b2c3d4e5f60718"
	egress  = "sg-0a1b2c3d4e5f60718"
	tagged  = `<tagSet><item><key>postern:platform</key><value>acme</value></item><item><key>postern:connection</key><value>dc_a</value></item></tagSet>`
	foreign = `<tagSet><item><key>postern:platform</key><value>other</value></item><item><key>postern:connection</key><value>dc_a</value></item></tagSet>`
)

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestAServiceIsFound(t *testing.T) {
	row := func(name, owner, more string) string {
		return `<serviceDetailSet><item><serviceName>` + name + `</serviceName><owner>` + owner + `</owner>` + more + `</item></serviceDetailSet>`
	}
	good := `<serviceType><item><serviceType>Interface</serviceType></item></serviceType><acceptanceRequired>true</acceptanceRequired>
<availabilityZoneIdSet><item>use1-az4</item><item>use1-az2</item></availabilityZoneIdSet><supportedIpAddressTypeSet><item>ipv4</item></supportedIpAddressTypeSet>`
	want := &postern.EndpointService{Ref: service, Owner: "111122223333", Interface: true, IPv4: true, AcceptanceRequired: true, Zones: []string{"use1-az2", "use1-az4"}}
	for name, c := range map[string]struct {
		replies []reply
		want    *postern.EndpointService
	}{
		"seen":           {[]reply{answer("DescribeVpcEndpointServices", row(service.Name, "111122223333", good))}, want},
		"on page two":    {[]reply{answer("DescribeVpcEndpointServices", "<nextToken>two</nextToken>"), answer("DescribeVpcEndpointServices", row(service.Name, "111122223333", good))}, want},
		"not seen":       {[]reply{refusal(400, "InvalidServiceName")}, nil},
		"another's name": {[]reply{answer("DescribeVpcEndpointServices", row("com.amazonaws.us-east-1.s3", "amazon", good))}, nil},
		"gateway, IPv6 only, no acceptance": {
			[]reply{answer("DescribeVpcEndpointServices", row(service.Name, "111122223333",
				`<serviceType><item><serviceType>Gateway</serviceType></item></serviceType><acceptanceRequired>false</acceptanceRequired><supportedIpAddressTypeSet><item>ipv6</item></supportedIpAddressTypeSet>`))},
			&postern.EndpointService{Ref: service, Owner: "111122223333"},
		},
	} {
		cloud, w := newWire(t, map[string][]reply{"DescribeVpcEndpointServices": c.replies})
		got, err := cloud.FindService(t.Context(), service)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if q := w.sent("DescribeVpcEndpointServices")[0]; q.Get("ServiceName.1") != service.Name {
			t.Errorf("%s: asked for %v", name, q)
		}
	}
	cloud, _ := newWire(t, map[string][]reply{"DescribeVpcEndpointServices": {refusal(403, "UnauthorizedOperation")}})
	if got, err := cloud.FindService(t.Context(), service); got != nil || postern.CodeOf(err) != postern.CodeForbidden || !strings.Contains(err.Error(), "ec2:DescribeVpcEndpointServices") {
		t.Errorf("%v, %v", got, err)
	}
}

func TestOutboundEndpointsAreListed(t *testing.T) {
	row := func(id, state, tags, more string) string {
		return `<item><vpcEndpointId>` + id + `</vpcEndpointId><serviceName>` + service.Name + `</serviceName><state>` + state + `</state>
<creationTimestamp>2026-11-20T10:00:24.350Z</creationTimestamp>` + tags + more + `</item>`
	}
	full := `<groupSet><item><groupId>` + egress + `</groupId></item></groupSet><subnetIdSet><item>` + subnet + `</item></subnetIdSet>
<networkInterfaceIdSet><item>eni-2</item><item>eni-1</item><item>eni-gone</item></networkInterfaceIdSet>
<dnsEntrySet><item><dnsName>regional.example</dnsName></item><item><dnsName>zonal.example</dnsName></item></dnsEntrySet>`
	set := func(rows ...string) string { return "<vpcEndpointSet>" + strings.Join(rows, "") + "</vpcEndpointSet>" }
	cloud, w := newWire(t, map[string][]reply{
		"DescribeVpcEndpoints": {
			answer("DescribeVpcEndpoints", set(row(two, "Available", tagged, full), row(three, "available", foreign, ""))+"<nextToken>two</nextToken>"),
			answer("DescribeVpcEndpoints", set(row(one, "failed", tagged, "<lastError><message>no room</message><code>x</code></lastError>"), row(four, "deleting", tagged, full),
				row("vpce-0d363d9ea82658be5", "available", "", full))),
		},
		"DescribeNetworkInterfaces": {answer("DescribeNetworkInterfaces", `<networkInterfaceSet>
<item><networkInterfaceId>eni-1</networkInterfaceId><privateIpAddress>10.0.0.9</privateIpAddress></item>
<item><networkInterfaceId>eni-2</networkInterfaceId><privateIpAddress>10.0.0.10</privateIpAddress></item></networkInterfaceSet>`)},
	})
	got, err := cloud.OutboundEndpoints(t.Context(), "us-east-1", "acme")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 20, 10, 0, 24, 350e6, time.UTC)
	base := postern.OutboundEndpoint{ConnectionID: "dc_a", ServiceName: service.Name, CreatedAt: at}
	failed, ready := base, base
	failed.ID, failed.State, failed.Failure = one, postern.ConnectionFailed, "no room"
	ready.ID, ready.State, ready.Groups, ready.Subnets = two, postern.ConnectionAvailable, []string{egress}, []string{subnet}
	ready.DNSNames, ready.Addresses = []string{"regional.example", "zonal.example"}, []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.10")}
	going := ready
	going.ID, going.State = four, postern.ConnectionDeleting
	if diff := cmp.Diff([]postern.OutboundEndpoint{failed, ready, going}, got, sameAddr); diff != "" {
		t.Error(diff)
	}
	q := w.sent("DescribeVpcEndpoints")
	if len(q) != 2 || q[0].Get("Filter.1.Name") != "tag:postern:platform" || q[0].Get("Filter.1.Value.1") != "acme" || q[1].Get("NextToken") != "two" {
		t.Errorf("asked %v", q)
	}
	// By a filter: one that is gone must not fail the rest.
	if n := w.sent("DescribeNetworkInterfaces")[0]; n.Get("Filter.1.Name") != "network-interface-id" || n.Has("NetworkInterfaceId.1") {
		t.Errorf("asked %v", n)
	}
	cloud, _ = newWire(t, map[string][]reply{
		"DescribeVpcEndpoints":      {answer("DescribeVpcEndpoints", set(row(two, "available", tagged, full)))},
		"DescribeNetworkInterfaces": {refusal(503, "RequestLimitExceeded")},
	})
	if _, err := cloud.OutboundEndpoints(t.Context(), "us-east-1", "acme"); postern.CodeOf(err) != postern.CodeThrottled {
		t.Errorf("a listing without addresses is no listing: %v", err)
	}
}

func TestAnEndpointIsAskedForOnce(t *testing.T) {
	cloud, w := newWire(t, map[string][]reply{"CreateVpcEndpoint": {answer("CreateVpcEndpoint", "<vpcEndpoint><vpcEndpointId>"+one+"</vpcEndpointId></vpcEndpoint>")}})
	id, err := cloud.CreateOutboundEndpoint(t.Context(), postern.NewOutboundEndpoint{
		Platform: "acme", ConnectionID: "dc_a", Service: service, VPC: vpc, Subnets: []string{subnet}, Group: egress,
	})
	if err != nil || id != one {
		t.Fatalf("%s, %v", id, err)
	}
	got := w.sent("CreateVpcEndpoint")[0]
	for k, want := range map[string]string{
		"VpcEndpointType": "Interface", "ServiceName": service.Name, "VpcId": vpc, "SubnetId.1": subnet, "SubnetId.2": "", "SecurityGroupId.1": egress,
		"IpAddressType": "ipv4", "PrivateDnsEnabled": "false", "ClientToken": "dc_a", "TagSpecification.1.ResourceType": "vpc-endpoint",
		"TagSpecification.1.Tag.1.Key": "postern:platform", "TagSpecification.1.Tag.1.Value": "acme",
		"TagSpecification.1.Tag.2.Key": "postern:connection", "TagSpecification.1.Tag.2.Value": "dc_a",
	} {
		if got.Get(k) != want {
			t.Errorf("%s = %q, want %q", k, got.Get(k), want)
		}
	}
}

// What AWS refuses is worded so that somebody can act on it, without AWS's own
// words.
func TestRefusedEndpoints(t *testing.T) {
	zone := reply{status: 400, body: `<Response><Errors><Error><Code>InvalidParameter</Code><Message>The VPC endpoint service x does not support the availability zone of the subnet: subnet-1.</Message></Error></Errors><RequestID>r</RequestID></Response>`}
	for says, r := range map[string]reply{
		"with other settings":         refusal(400, "IdempotentParameterMismatch"),
		"does not admit the platform": refusal(400, "InvalidServiceName"),
		"AWS's quota":                 refusal(400, "VpcEndpointLimitExceeded"),
		"no free address":             refusal(400, "InsufficientFreeAddressesInSubnet"),
		"not in the zone":             zone,
		"ec2:CreateVpcEndpoint":       refusal(403, "UnauthorizedOperation"),
	} {
		cloud, _ := newWire(t, map[string][]reply{"CreateVpcEndpoint": {r}})
		_, err := cloud.CreateOutboundEndpoint(t.Context(), postern.NewOutboundEndpoint{ConnectionID: "dc_a", Service: service, VPC: vpc})
		var e *postern.Error
		if err == nil || !errors.As(err, &e) || !strings.Contains(e.Message, says) || e.Fix == "" || strings.Contains(e.Error(), "words of AWS") {
			t.Errorf("%s: %v", says, err)
		}
	}
}

func TestDeletionsAreRepeatable(t *testing.T) {
	gone := `<item><error><code>InvalidVpcEndpoint.NotFound</code><message>m</message></error><resourceId>` + one + `</resourceId></item>`
	stuck := `<item><error><code>IncorrectState</code><message>m</message></error><resourceId>` + two + `</resourceId></item>`
	cloud, _ := newWire(t, map[string][]reply{
		"DeleteVpcEndpoints":  {answer("DeleteVpcEndpoints", "<unsuccessful>"+gone+stuck+"</unsuccessful>")},
		"DeleteSecurityGroup": {refusal(400, "DependencyViolation"), refusal(400, "InvalidGroup.NotFound"), answer("DeleteSecurityGroup", "<return>true</return>"), refusal(403, "UnauthorizedOperation")},
		"CreateSecurityGroup": {refusal(400, "InvalidGroup.Duplicate"), refusal(400, "InvalidVpcID.NotFound")},
	})
	failed, err := cloud.DeleteOutboundEndpoints(t.Context(), "us-east-1", []string{one, two})
	if err != nil || len(failed) != 1 || postern.CodeOf(failed[two]) != postern.CodeConflict {
		t.Errorf("%v, %v", failed, err)
	}
	for i, want := range []postern.Code{postern.CodeConflict, "", "", postern.CodeForbidden} {
		err := cloud.DeleteOutboundGroup(t.Context(), "us-east-1", egress)
		if (err == nil) != (want == "") || err != nil && postern.CodeOf(err) != want {
			t.Errorf("%d: %v, want %q", i, err, want)
		}
	}
	if err := cloud.CreateOutboundGroup(t.Context(), "us-east-1", vpc, "acme", "dc_a"); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	if err := cloud.CreateOutboundGroup(t.Context(), "us-east-1", vpc, "acme", "dc_a"); postern.CodeOf(err) != postern.CodeNotFound {
		t.Errorf("no VPC: %v", err)
	}
}

// Every form of a peer is read, and can be taken out.
func TestGroupRulesAreReadAndChanged(t *testing.T) {
	cloud, w := newWire(t, map[string][]reply{
		"DescribeSecurityGroups": {answer("DescribeSecurityGroups", `<securityGroupInfo><item><groupId>`+egress+`</groupId>`+tagged+`<ipPermissions>
<item><ipProtocol>tcp</ipProtocol><fromPort>443</fromPort><toPort>443</toPort><groups><item><groupId>sg-0b</groupId></item></groups>
<ipRanges><item><cidrIp>10.0.0.0/8</cidrIp></item></ipRanges><ipv6Ranges><item><cidrIpv6>::/0</cidrIpv6></item></ipv6Ranges><prefixListIds><item><prefixListId>pl-1</prefixListId></item></prefixListIds></item>
<item><ipProtocol>-1</ipProtocol><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges></item></ipPermissions></item>
<item><groupId>sg-0c</groupId>`+foreign+`</item></securityGroupInfo>`)},
		"RevokeSecurityGroupIngress":    {answer("RevokeSecurityGroupIngress", "<return>true</return>"), refusal(400, "InvalidPermission.NotFound"), answer("RevokeSecurityGroupIngress", "<return>true</return>")},
		"AuthorizeSecurityGroupIngress": {refusal(400, "InvalidPermission.Duplicate"), refusal(400, "RulesPerSecurityGroupLimitExceeded")},
	})
	got, err := cloud.OutboundGroups(t.Context(), "us-east-1", "acme")
	rules := []postern.GroupRule{
		{Protocol: "-1", From: -1, To: -1, Peer: "0.0.0.0/0"},
		{Protocol: "tcp", From: 443, To: 443, Peer: "10.0.0.0/8"},
		{Protocol: "tcp", From: 443, To: 443, Peer: "::/0"},
		{Protocol: "tcp", From: 443, To: 443, Peer: "pl-1"},
		{Protocol: "tcp", From: 443, To: 443, Peer: "sg-0b"},
	}
	if diff := cmp.Diff([]postern.OutboundGroup{{ID: egress, ConnectionID: "dc_a", Rules: rules}}, got); diff != "" || err != nil {
		t.Fatalf("%v\n%s", err, diff)
	}
	add := []postern.GroupRule{{Protocol: "tcp", From: 443, To: 443, Peer: egress}}
	if err := cloud.ChangeGroupRules(t.Context(), "us-east-1", egress, add, rules); err != nil {
		t.Error(err)
	}
	if err := cloud.ChangeGroupRules(t.Context(), "us-east-1", egress, add, nil); postern.CodeOf(err) != postern.CodeInternal {
		t.Errorf("too many rules: %v", err)
	}
	var peers []string
	for _, q := range w.sent("RevokeSecurityGroupIngress") {
		for _, key := range []string{"IpPermissions.1.IpRanges.1.CidrIp", "IpPermissions.1.Ipv6Ranges.1.CidrIpv6", "IpPermissions.1.PrefixListIds.1.PrefixListId", "IpPermissions.1.Groups.1.GroupId"} {
			if q.Get(key) != "" {
				peers = append(peers, q.Get(key)+q.Get("IpPermissions.1.FromPort"))
			}
		}
	}
	if want := []string{"0.0.0.0/0", "10.0.0.0/8443", "::/0443", "pl-1443", "sg-0b443"}; !slices.Equal(peers, want) {
		t.Errorf("revoked %v, want %v", peers, want)
	}
}

// Against the stand-in, in the roles of a data connection: the platform is the
// consumer, the customer owns the service.
func TestOutboundAgainstTheStandIn(t *testing.T) {
	s := newStandIn(t)
	// The stand-in's customer is here the one that makes endpoints.
	key := s.customer.AccessKeys[0]
	mine := awsConfigured(t, s.url, key.ID, key.Secret)
	if got, err := mine.FindService(t.Context(), service); err != nil || got != nil {
		t.Fatalf("a service that does not admit us: %+v, %v", got, err)
	}
	if err := s.ChangePrincipals(t.Context(), service, []string{"arn:aws:iam::" + s.customer.ID + ":root"}, nil); err != nil {
		t.Fatal(err)
	}
	got, err := mine.FindService(t.Context(), service)
	if err != nil || got == nil || !got.AcceptanceRequired || !got.Interface || !got.IPv4 || !slices.Equal(got.Zones, []string{"use1-az2", "use1-az4"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	for range 2 {
		if err := mine.CreateOutboundGroup(t.Context(), "us-east-1", s.network.ID, "acme", "dc_a"); err != nil {
			t.Fatal(err)
		}
	}
	groups, err := mine.OutboundGroups(t.Context(), "us-east-1", "acme")
	if err != nil || len(groups) != 1 || len(groups[0].Rules) > 0 {
		t.Fatalf("%+v, %v", groups, err)
	}
	rules := []postern.GroupRule{{Protocol: "tcp", From: 443, To: 443, Peer: s.network.DefaultSecurityGroup}}
	other := []postern.GroupRule{{Protocol: "-1", From: -1, To: -1, Peer: "10.0.0.0/8"}}
	for _, step := range [][2][]postern.GroupRule{{rules, nil}, {rules, nil}, {other, nil}, {nil, other}, {nil, other}} {
		if err := mine.ChangeGroupRules(t.Context(), "us-east-1", groups[0].ID, step[0], step[1]); err != nil {
			t.Fatal(err)
		}
	}
	if groups, err = mine.OutboundGroups(t.Context(), "us-east-1", "acme"); err != nil || !slices.Equal(groups[0].Rules, rules) {
		t.Fatalf("%+v, %v", groups, err)
	}
	n := postern.NewOutboundEndpoint{Platform: "acme", ConnectionID: "dc_a", Service: service, VPC: s.network.ID, Subnets: []string{s.network.Subnets[0].ID, s.network.Subnets[1].ID}, Group: groups[0].ID}
	id, err := mine.CreateOutboundEndpoint(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := mine.CreateOutboundEndpoint(t.Context(), n); err != nil || again != id {
		t.Errorf("asked twice: %s, %v", again, err)
	}
	n.Subnets = n.Subnets[:1]
	if _, err := mine.CreateOutboundEndpoint(t.Context(), n); postern.CodeOf(err) != postern.CodeConflict {
		t.Errorf("asked differently: %v", err)
	}
	es, err := mine.OutboundEndpoints(t.Context(), "us-east-1", "acme")
	if err != nil || len(es) != 1 || es[0].ID != id || es[0].ConnectionID != "dc_a" || es[0].State != postern.ConnectionPendingAcceptance || len(es[0].Addresses) != 2 || !slices.Equal(es[0].Groups, []string{groups[0].ID}) {
		t.Fatalf("%+v, %v", es, err)
	}
	for _, step := range [][2][]string{{{s.network.DefaultSecurityGroup}, nil}, {nil, {s.network.DefaultSecurityGroup}}} {
		if err := mine.ChangeEndpointGroups(t.Context(), "us-east-1", id, step[0], step[1]); err != nil {
			t.Fatal(err)
		}
		es, err := mine.OutboundEndpoints(t.Context(), "us-east-1", "acme")
		if want := append([]string{groups[0].ID}, step[0]...); err != nil || !slices.Equal(es[0].Groups, want) {
			t.Errorf("%+v, %v, want %v", es, err, want)
		}
	}
	if err := mine.ChangeEndpointGroups(t.Context(), "us-east-1", one, nil, []string{"sg-1"}); postern.CodeOf(err) != postern.CodeNotFound {
		t.Errorf("an endpoint that is not there: %v", err)
	}
	if err := mine.DeleteOutboundGroup(t.Context(), "us-east-1", groups[0].ID); postern.CodeOf(err) != postern.CodeConflict {
		t.Errorf("a group in use: %v", err)
	}
	for range 2 {
		if failed, err := mine.DeleteOutboundEndpoints(t.Context(), "us-east-1", []string{id, one}); err != nil || len(failed) > 0 {
			t.Fatalf("%v, %v", failed, err)
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for mine.DeleteOutboundGroup(t.Context(), "us-east-1", groups[0].ID) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the group stays in use")
		}
	}
}

// awsConfigured is the adapter with another account's key.
func awsConfigured(t *testing.T, url, id, secret string) *aws.Cloud {
	t.Helper()
	return newCloud(t, url, func(c *aws.Config) { c.Credentials = aws.Credentials{AccessKeyID: id, SecretAccessKey: secret} })
}
