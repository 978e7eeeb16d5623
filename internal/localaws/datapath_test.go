package localaws_test

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	pp "github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/postern-net/postern/internal/localaws"
)

// TestHeaderIsAWSs reads with an independent parser what a target receives.
func TestHeaderIsAWSs(t *testing.T) {
	f := newFixture(t, nil)
	e := f.ready("use1-az2")
	from, to := f.vpc.Host("use1-az4", 10), f.address(e, "")
	c, err := f.dial(from, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	up := f.target.accept(t)
	raw := make([]byte, 105)
	if _, err := io.ReadFull(up, raw); err != nil {
		t.Fatal(err)
	}
	if string(raw[100:]) != "hello" {
		t.Fatalf("the header is not 100 bytes long: %q", raw)
	}
	h, err := pp.Read(newReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if h.SourceAddr.String() != c.LocalAddr().String() || h.DestinationAddr.String() != c.RemoteAddr().String() {
		t.Errorf("%s → %s", h.SourceAddr, h.DestinationAddr)
	}
	tlvs, err := h.TLVs()
	if err != nil {
		t.Fatal(err)
	}
	if got := tlvparse.FindAWSVPCEndpointID(tlvs); got != *e.VpcEndpointId {
		t.Errorf("endpoint %q, want %q", got, *e.VpcEndpointId)
	}
	if got := netip.MustParseAddrPort(up.RemoteAddr().String()).Addr(); got != f.hub.Host("use1-az2", 5) {
		t.Errorf("the target saw %s, not the node of the interface's zone", got)
	}
	// And back.
	if _, err := io.WriteString(up, "answer"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNoTrafficBeforeAcceptance(t *testing.T) {
	f := newFixture(t, nil)
	e := f.create(f.example, f.vpc, "use1-az2")
	to := f.address(e, "")
	f.expectRefused(f.vpc.Host("", 10), to)
	f.accept(*e.VpcEndpointId)
	f.await(*e.VpcEndpointId, "available")
	f.expectPassage(f.vpc.Host("", 10), to)
}

func TestOnlyFromItsVPC(t *testing.T) {
	f := newFixture(t, nil)
	to := f.address(f.ready("use1-az2"), "")
	for _, from := range []netip.Addr{f.other.Host("", 10), f.hub.Host("", 10), netip.MustParseAddr("127.0.0.1")} {
		f.expectRefused(from, to)
	}
	f.expectPassage(f.vpc.Host("use1-az1", 10), to)
}

func TestSecurityGroupIsEnforcedAtOnce(t *testing.T) {
	f := newFixture(t, nil)
	c := f.ec2(f.example)
	group, err := c.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: aws.String("door"), Description: aws.String("the door"), VpcId: &f.vpc.ID})
	if err != nil {
		t.Fatal(err)
	}
	in := f.request(f.vpc, "use1-az2")
	in.SecurityGroupIds = []string{*group.GroupId}
	out, err := c.CreateVpcEndpoint(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	f.accept(*out.VpcEndpoint.VpcEndpointId)
	f.await(*out.VpcEndpoint.VpcEndpointId, "available")
	from, to := f.vpc.Host("", 10), f.address(*out.VpcEndpoint, "")
	f.expectRefused(from, to) // no rule yet

	rule := func(protocol string, low, high uint16, cidr string) []types.IpPermission {
		return []types.IpPermission{{
			IpProtocol: &protocol, FromPort: aws.Int32(int32(low)), ToPort: aws.Int32(int32(high)),
			IpRanges: []types.IpRange{{CidrIp: &cidr}},
		}}
	}
	host := from.String() + "/32"
	for _, p := range [][]types.IpPermission{
		rule("tcp", f.port+1, f.port+1, host),
		rule("udp", f.port, f.port, host),
		rule("tcp", f.port, f.port, f.vpc.Host("", 11).String()+"/32"),
	} {
		if _, err := c.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group.GroupId, IpPermissions: p}); err != nil {
			t.Fatal(err)
		}
		f.expectRefused(from, to)
	}
	admit := rule("tcp", f.port-1, f.port+1, host)
	added, err := c.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group.GroupId, IpPermissions: admit})
	if err != nil {
		t.Fatal(err)
	}
	f.expectPassage(from, to)
	f.expectRefused(f.vpc.Host("", 12), to)

	_, err = c.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group.GroupId, IpPermissions: admit})
	wantCode(t, err, "InvalidPermission.Duplicate")
	ids := []string{*added.SecurityGroupRules[0].SecurityGroupRuleId}
	if _, err := c.RevokeSecurityGroupIngress(t.Context(), &ec2.RevokeSecurityGroupIngressInput{GroupId: group.GroupId, SecurityGroupRuleIds: ids}); err != nil {
		t.Fatal(err)
	}
	f.expectRefused(from, to)
	_, err = c.RevokeSecurityGroupIngress(t.Context(), &ec2.RevokeSecurityGroupIngressInput{GroupId: group.GroupId, IpPermissions: admit})
	wantCode(t, err, "InvalidPermission.NotFound")

	_, err = c.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: group.GroupId})
	wantCode(t, err, "DependencyViolation")
	// With the default group instead, the VPC's hosts are in again.
	if _, err := c.ModifyVpcEndpoint(t.Context(), &ec2.ModifyVpcEndpointInput{
		VpcEndpointId: out.VpcEndpoint.VpcEndpointId, AddSecurityGroupIds: []string{f.vpc.DefaultSecurityGroup}, RemoveSecurityGroupIds: []string{*group.GroupId},
	}); err != nil {
		t.Fatal(err)
	}
	f.expectPassage(from, to)
	if _, err := c.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: group.GroupId}); err != nil {
		t.Error(err)
	}
}

func TestDeleteAndRejectCutConnections(t *testing.T) {
	f := newFixture(t, nil)
	for name, cut := range map[string]func(id string) error{
		"delete": func(id string) error {
			_, err := f.ec2(f.example).DeleteVpcEndpoints(t.Context(), &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{id}})
			return err
		},
		"reject": func(id string) error {
			_, err := f.ec2(f.platform).RejectVpcEndpointConnections(t.Context(), &ec2.RejectVpcEndpointConnectionsInput{ServiceId: &f.service, VpcEndpointIds: []string{id}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := f.ready("use1-az2")
			from, to := f.vpc.Host("", 10), f.address(e, "")
			c, err := f.dial(from, to)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "x"); err != nil {
				t.Fatal(err)
			}
			up := f.target.accept(t)
			if _, err := io.ReadFull(up, make([]byte, 101)); err != nil {
				t.Fatal(err)
			}
			if err := cut(*e.VpcEndpointId); err != nil {
				t.Fatal(err)
			}
			for side, conn := range map[string]io.Reader{"client": c, "target": up} {
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the %s read %v, want a reset", side, err)
				}
			}
			f.expectRefused(from, to)
		})
	}
}

func TestSubnetsCanBeAddedAndRemoved(t *testing.T) {
	f := newFixture(t, nil)
	e := f.ready("use1-az2")
	id, from := *e.VpcEndpointId, f.vpc.Host("", 10)
	first, second := subnetOf(t, f.vpc, "use1-az2"), subnetOf(t, f.vpc, "use1-az6")
	old := f.address(e, first)
	modify := func(add, remove []string) error {
		_, err := f.ec2(f.example).ModifyVpcEndpoint(t.Context(), &ec2.ModifyVpcEndpointInput{VpcEndpointId: &id, AddSubnetIds: add, RemoveSubnetIds: remove})
		return err
	}
	if err := modify([]string{second}, []string{first}); err != nil {
		t.Fatal(err)
	}
	e = f.describe(id)
	if len(e.SubnetIds) != 1 || e.SubnetIds[0] != second || len(e.DnsEntries) != 2 {
		t.Fatalf("%v, %d names", e.SubnetIds, len(e.DnsEntries))
	}
	f.expectPassage(from, f.address(e, second))
	f.expectRefused(from, old)
	wantCode(t, modify([]string{subnetOf(t, f.vpc, "use1-az1")}, nil), "InvalidParameter")
	wantCode(t, modify([]string{second}, nil), "DuplicateSubnetsInSameZone")
	if len(f.describe(id).SubnetIds) != 1 {
		t.Error("a failed modification left something behind")
	}
}

func TestRestartKeepsEndpoints(t *testing.T) {
	path := filepath.Join(t.TempDir(), "aws.json")
	f := newFixture(t, func(f *fixture) { f.cfg.StatePath = path })
	e := f.ready("use1-az2", "use1-az4")
	from, to := f.vpc.Host("", 10), f.address(e, subnetOf(t, f.vpc, "use1-az4"))
	principal := "arn:aws:iam::123456789012:root"
	if _, err := f.ec2(f.platform).ModifyVpcEndpointServicePermissions(t.Context(), &ec2.ModifyVpcEndpointServicePermissionsInput{
		ServiceId: &f.service, AddAllowedPrincipals: []string{principal}, RemoveAllowedPrincipals: []string{rootOf(f.globex)},
	}); err != nil {
		t.Fatal(err)
	}
	f.expectPassage(from, to)
	f.Close()
	f.expectRefused(from, to)
	f.start()
	f.expectPassage(from, to)
	again := f.describe(*e.VpcEndpointId)
	if *again.DnsEntries[0].DnsName != *e.DnsEntries[0].DnsName || again.State != "available" {
		t.Errorf("%+v", again)
	}
	out, err := f.ec2(f.platform).DescribeVpcEndpointServicePermissions(t.Context(), &ec2.DescribeVpcEndpointServicePermissionsInput{ServiceId: &f.service})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range out.AllowedPrincipals {
		got = append(got, *p.Principal)
	}
	if s := strings.Join(got, " "); !strings.Contains(s, principal) || strings.Contains(s, rootOf(f.globex)) {
		t.Errorf("allowed: %s", s)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestStartRefusesAForeignState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "aws.json")
	f := newFixture(t, func(f *fixture) { f.cfg.StatePath = path })
	f.create(f.example, f.vpc, "use1-az2")
	f.Close()
	b := localaws.NewBuilder("another world", pool())
	w, err := b.World()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := localaws.New(localaws.Config{World: w, StatePath: path}); err == nil || !strings.Contains(err.Error(), "the world lacks") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := localaws.New(f.cfg); err == nil {
		t.Error("a broken state file was taken")
	}
}

// TestNothingChangesWhenTheStateCannotBeSaved: what was not made durable was
// not done.
func TestNothingChangesWhenTheStateCannotBeSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(f *fixture) { f.cfg.StatePath = filepath.Join(dir, "aws.json") })
	e := f.ready("use1-az2")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	_, err := f.ec2(f.example).DeleteVpcEndpoints(t.Context(), &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{*e.VpcEndpointId}})
	wantCode(t, err, "InternalError")
	if got := f.describe(*e.VpcEndpointId); got.State != "available" {
		t.Errorf("state %s", got.State)
	}
	f.expectPassage(f.vpc.Host("", 10), f.address(e, ""))
}

func TestAnAddressThatIsTakenFailsTheEndpoint(t *testing.T) {
	f := newFixture(t, nil)
	e := f.create(f.example, f.vpc, "use1-az2")
	occupy(t, netip.AddrPortFrom(f.address(e, ""), f.port))
	f.accept(*e.VpcEndpointId)
	f.await(*e.VpcEndpointId, "failed")
	if got := f.describe(*e.VpcEndpointId); got.LastError == nil || !strings.Contains(*got.LastError.Message, "in use") {
		t.Errorf("%+v", got.LastError)
	}
}
