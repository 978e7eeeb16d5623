package localaws_test

import (
	"io"
	"net/netip"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/postern-net/postern/internal/localaws"
)

// A rule that admits a group admits the hosts that are in it, and a host of a
// group of its own is not in the default one.
func TestHostsOfAGroup(t *testing.T) {
	const group = "sg-0123456789abcdef0"
	var inside netip.Addr
	f := newFixture(t, func(f *fixture) {
		inside = f.vpc.Host("", 10)
		for i := range f.cfg.World.VPCs {
			if v := &f.cfg.World.VPCs[i]; v.ID == f.vpc.ID {
				v.Groups = []localaws.HostGroup{{ID: group, Name: "egress", Hosts: []netip.Addr{inside}}}
			}
		}
	})
	c := f.ec2(f.example)
	endpointFor := func(groups ...string) netip.Addr {
		in := f.request(f.vpc, "use1-az2")
		in.SecurityGroupIds = groups
		out, err := c.CreateVpcEndpoint(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		f.accept(*out.VpcEndpoint.VpcEndpointId)
		f.await(*out.VpcEndpoint.VpcEndpointId, "available")
		return f.address(*out.VpcEndpoint, "")
	}
	own, err := c.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: aws.String("endpoint"), Description: aws.String("x"), VpcId: &f.vpc.ID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: own.GroupId, IpPermissions: []types.IpPermission{{
		IpProtocol: aws.String("tcp"), FromPort: aws.Int32(int32(f.port)), ToPort: aws.Int32(int32(f.port)), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: aws.String(group)}},
	}}}); err != nil {
		t.Fatal(err)
	}
	outside := f.vpc.Host("", 11)
	to := endpointFor(*own.GroupId)
	f.expectPassage(inside, to)
	f.expectRefused(outside, to)

	byDefault := endpointFor(f.vpc.DefaultSecurityGroup)
	f.expectPassage(outside, byDefault)
	f.expectRefused(inside, byDefault)
}

// A load balancer without proxy_protocol_v2 sends the client's bytes and nothing
// else.
func TestPlainListener(t *testing.T) {
	f := newFixture(t, func(f *fixture) {
		for i := range f.cfg.World.LoadBalancers {
			f.cfg.World.LoadBalancers[i].Listeners[0].Plain = true
		}
	})
	c, err := f.dial(f.vpc.Host("use1-az4", 10), f.address(f.ready("use1-az2"), ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(f.target.accept(t), got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}
