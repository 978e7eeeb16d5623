package aws

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/postern-net/postern"
)

const (
	actGroups      = "ec2:DescribeSecurityGroups"
	actCreateGroup = "ec2:CreateSecurityGroup"
	actDeleteGroup = "ec2:DeleteSecurityGroup"
	actAuthorize   = "ec2:AuthorizeSecurityGroupIngress"
	actRevoke      = "ec2:RevokeSecurityGroupIngress"
)

// groupName is the name of a connection's security group. Names are unique in a
// VPC, which is what makes there be one: CreateSecurityGroup has no client token.
func groupName(connection string) string { return "postern-" + connection }

// OutboundGroups lists the security groups that a platform made in a region for
// data connections, by ID: all, or an error.
func (c *Cloud) OutboundGroups(ctx context.Context, region, platform string) ([]postern.OutboundGroup, error) {
	cl, err := c.client(postern.ServiceRef{Region: region})
	if err != nil {
		return nil, err
	}
	in := &ec2.DescribeSecurityGroupsInput{MaxResults: awssdk.Int32(pageSize), Filters: taggedWith(platform)}
	var out []postern.OutboundGroup
	err = everyPage(actGroups, func(token *string) (*string, error) {
		in.NextToken = token
		page, err := cl.DescribeSecurityGroups(ctx, in)
		if err != nil {
			return nil, translate(actGroups, err)
		}
		for _, g := range page.SecurityGroups {
			if id := connectionTag(g.Tags, platform); id != "" {
				out = append(out, postern.OutboundGroup{ID: awssdk.ToString(g.GroupId), ConnectionID: id, Rules: groupRules(g.IpPermissions)})
			}
		}
		return page.NextToken, nil
	})
	slices.SortFunc(out, func(a, b postern.OutboundGroup) int { return strings.Compare(a.ID, b.ID) })
	return out, err
}

// groupRules takes permissions apart: one rule for each peer.
func groupRules(permissions []types.IpPermission) (out []postern.GroupRule) {
	for _, p := range permissions {
		rule := postern.GroupRule{Protocol: awssdk.ToString(p.IpProtocol), From: -1, To: -1}
		if p.FromPort != nil && p.ToPort != nil {
			rule.From, rule.To = int(*p.FromPort), int(*p.ToPort)
		}
		add := func(peer *string) {
			rule.Peer = awssdk.ToString(peer)
			out = append(out, rule)
		}
		for _, g := range p.UserIdGroupPairs {
			add(g.GroupId)
		}
		for _, r := range p.IpRanges {
			add(r.CidrIp)
		}
		for _, r := range p.Ipv6Ranges {
			add(r.CidrIpv6)
		}
		for _, l := range p.PrefixListIds {
			add(l.PrefixListId)
		}
	}
	slices.SortFunc(out, func(a, b postern.GroupRule) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Peer, b.Peer))
	})
	return out
}

// permissions puts rules together again, as calls want them.
func permissions(rules []postern.GroupRule) (out []types.IpPermission) {
	for _, r := range rules {
		p := types.IpPermission{IpProtocol: awssdk.String(r.Protocol)}
		if r.Protocol != "-1" {
			p.FromPort, p.ToPort = awssdk.Int32(int32(r.From)), awssdk.Int32(int32(r.To)) //nolint:gosec // ports, or -1
		}
		peer := awssdk.String(r.Peer)
		switch {
		case strings.HasPrefix(r.Peer, "sg-"):
			p.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: peer}}
		case strings.HasPrefix(r.Peer, "pl-"):
			p.PrefixListIds = []types.PrefixListId{{PrefixListId: peer}}
		case strings.Contains(r.Peer, ":"):
			p.Ipv6Ranges = []types.Ipv6Range{{CidrIpv6: peer}}
		default:
			p.IpRanges = []types.IpRange{{CidrIp: peer}}
		}
		out = append(out, p)
	}
	return out
}

// CreateOutboundGroup makes the security group of a data connection's endpoint,
// which admits nobody yet. One of its name that is there already is no error.
func (c *Cloud) CreateOutboundGroup(ctx context.Context, region, vpc, platform, connection string) error {
	cl, err := c.client(postern.ServiceRef{Region: region})
	if err != nil {
		return err
	}
	_, err = cl.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: awssdk.String(groupName(connection)), VpcId: awssdk.String(vpc),
		Description:       awssdk.String("Postern: who may use the endpoint of data connection " + connection),
		TagSpecifications: tagsOf(types.ResourceTypeSecurityGroup, platform, connection),
	})
	if err != nil && !hasCode(err, "InvalidGroup.Duplicate") {
		return translate(actCreateGroup, err)
	}
	c.log.LogAttrs(ctx, slog.LevelInfo, "made a security group", slog.String("connection", connection))
	return nil
}

// ChangeGroupRules takes rules out of a security group of the platform's own,
// and then puts others in. What is so already is no error.
func (c *Cloud) ChangeGroupRules(ctx context.Context, region, group string, add, remove []postern.GroupRule) error {
	cl, err := c.client(postern.ServiceRef{Region: region})
	if err != nil {
		return err
	}
	// One call for each: a batch in which one is so already fails as a whole.
	for _, r := range permissions(remove) {
		_, err := cl.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: awssdk.String(group), IpPermissions: []types.IpPermission{r}})
		if err != nil && !hasCode(err, "InvalidPermission.NotFound") {
			return translate(actRevoke, err)
		}
	}
	for _, r := range permissions(add) {
		_, err := cl.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: awssdk.String(group), IpPermissions: []types.IpPermission{r}})
		if err != nil && !hasCode(err, "InvalidPermission.Duplicate") {
			return translate(actAuthorize, err)
		}
	}
	c.log.LogAttrs(ctx, slog.LevelInfo, "changed the rules of a security group", slog.String("group", group), slog.Int("added", len(add)), slog.Int("removed", len(remove)))
	return nil
}

// DeleteOutboundGroup deletes a security group of the platform's own; one that
// is gone is no error. While network interfaces of an endpoint use it, which
// they do for a while after the endpoint is deleted, it is a conflict.
func (c *Cloud) DeleteOutboundGroup(ctx context.Context, region, group string) error {
	cl, err := c.client(postern.ServiceRef{Region: region})
	if err != nil {
		return err
	}
	_, err = cl.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: awssdk.String(group)})
	switch {
	case err == nil, hasCode(err, "InvalidGroup.NotFound"):
		c.log.LogAttrs(ctx, slog.LevelInfo, "deleted a security group", slog.String("group", group))
		return nil
	case hasCode(err, "DependencyViolation"):
		return fmt.Errorf("%w: %w", &postern.Error{Code: postern.CodeConflict, Message: "the security group is still in use", Fix: "wait until the endpoint's interfaces are gone"}, err)
	}
	return translate(actDeleteGroup, err)
}
