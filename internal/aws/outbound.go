package aws

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/postern-net/postern"
)

// The tags that everything carries which is made for a data connection. What
// lacks them is never touched.
const (
	tagPlatform   = "postern:platform"
	tagConnection = "postern:connection"
)

const (
	actServices       = "ec2:DescribeVpcEndpointServices"
	actEndpoints      = "ec2:DescribeVpcEndpoints"
	actInterfaces     = "ec2:DescribeNetworkInterfaces"
	actCreateEndpoint = "ec2:CreateVpcEndpoint"
	actModifyEndpoint = "ec2:ModifyVpcEndpoint"
	actDeleteEndpoint = "ec2:DeleteVpcEndpoints"
)

// FindService looks a customer's endpoint service up, as the platform's
// principal. The answer is nil when there is none for it: AWS says the same of a
// service that does not exist and of one that does not admit the caller.
func (c *Cloud) FindService(ctx context.Context, svc postern.ServiceRef) (*postern.EndpointService, error) {
	cl, err := c.client(svc)
	if err != nil {
		return nil, err
	}
	in := &ec2.DescribeVpcEndpointServicesInput{ServiceNames: []string{svc.Name}}
	var found *postern.EndpointService
	err = everyPage(actServices, func(token *string) (*string, error) {
		in.NextToken = token
		page, err := cl.DescribeVpcEndpointServices(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, d := range page.ServiceDetails {
			if awssdk.ToString(d.ServiceName) == svc.Name {
				found = endpointService(svc, d)
			}
		}
		return page.NextToken, nil
	})
	switch {
	case hasCode(err, "InvalidServiceName"):
		return nil, nil //nolint:nilnil // no such service is a good answer
	case err != nil:
		return nil, translate(actServices, err)
	}
	return found, nil
}

func endpointService(svc postern.ServiceRef, d types.ServiceDetail) *postern.EndpointService {
	out := &postern.EndpointService{
		Ref: svc, Owner: awssdk.ToString(d.Owner), AcceptanceRequired: awssdk.ToBool(d.AcceptanceRequired),
		// Answers from before IPv6 name no type, and mean this one.
		IPv4:  len(d.SupportedIpAddressTypes) == 0 || slices.Contains(d.SupportedIpAddressTypes, types.ServiceConnectivityTypeIpv4),
		Zones: slices.Sorted(slices.Values(d.AvailabilityZoneIds)),
	}
	for _, t := range d.ServiceType {
		out.Interface = out.Interface || t.ServiceType == types.ServiceTypeInterface
	}
	return out
}

// taggedWith filters what carries a platform's tag.
func taggedWith(platform string) []types.Filter {
	return []types.Filter{{Name: awssdk.String("tag:" + tagPlatform), Values: []string{platform}}}
}

func tagsOf(kind types.ResourceType, platform, connection string) []types.TagSpecification {
	return []types.TagSpecification{{ResourceType: kind, Tags: []types.Tag{
		{Key: awssdk.String(tagPlatform), Value: awssdk.String(platform)},
		{Key: awssdk.String(tagConnection), Value: awssdk.String(connection)},
		{Key: awssdk.String("Name"), Value: awssdk.String(groupName(connection))},
	}}}
}

// connectionTag is the connection's ID of what a platform made; "" for anything
// else, whatever the filter did.
func connectionTag(tags []types.Tag, platform string) string {
	id, of := "", ""
	for _, t := range tags {
		switch awssdk.ToString(t.Key) {
		case tagConnection:
			id = awssdk.ToString(t.Value)
		case tagPlatform:
			of = awssdk.ToString(t.Value)
		}
	}
	if of != platform || postern.CheckConnectionID("", id) != nil {
		return ""
	}
	return id
}

// OutboundEndpoints lists the interface endpoints that a platform made in a
// region for data connections, by ID, with the addresses of their network
// interfaces: all, or an error. One that was made a moment ago may be missing
// (eventual consistency).
func (c *Cloud) OutboundEndpoints(ctx context.Context, region, platform string) ([]postern.OutboundEndpoint, error) {
	cl, err := c.client(postern.ServiceRef{Region: region})
	if err != nil {
		return nil, err
	}
	in := &ec2.DescribeVpcEndpointsInput{MaxResults: awssdk.Int32(pageSize), Filters: taggedWith(platform)}
	var out []postern.OutboundEndpoint
	interfaces := map[string][]string{} // by endpoint
	err = everyPage(actEndpoints, func(token *string) (*string, error) {
		in.NextToken = token
		page, err := cl.DescribeVpcEndpoints(ctx, in)
		if err != nil {
			return nil, translate(actEndpoints, err)
		}
		for _, e := range page.VpcEndpoints {
			if id := connectionTag(e.Tags, platform); id != "" {
				out = append(out, outboundEndpoint(e, id))
				interfaces[awssdk.ToString(e.VpcEndpointId)] = e.NetworkInterfaceIds
			}
		}
		return page.NextToken, nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b postern.OutboundEndpoint) int { return strings.Compare(a.ID, b.ID) })
	return out, c.addAddresses(ctx, cl, out, interfaces)
}

func outboundEndpoint(e types.VpcEndpoint, connection string) postern.OutboundEndpoint {
	out := postern.OutboundEndpoint{
		ID: awssdk.ToString(e.VpcEndpointId), ConnectionID: connection, ServiceName: awssdk.ToString(e.ServiceName),
		State: connectionState(string(e.State)), Subnets: slices.Sorted(slices.Values(e.SubnetIds)), CreatedAt: awssdk.ToTime(e.CreationTimestamp).UTC(),
		Failure: awssdk.ToString(e.FailureReason),
	}
	if out.Failure == "" && e.LastError != nil {
		out.Failure = awssdk.ToString(e.LastError.Message)
	}
	for _, g := range e.Groups {
		out.Groups = append(out.Groups, awssdk.ToString(g.GroupId))
	}
	for _, d := range e.DnsEntries {
		if name := awssdk.ToString(d.DnsName); name != "" {
			out.DNSNames = append(out.DNSNames, name)
		}
	}
	return out
}

// addAddresses finds the addresses of the endpoints' network interfaces: what is
// connected to is what EC2 says that they have, not what a name resolves to. An
// interface that is gone is no error, so that it is asked for by a filter.
func (c *Cloud) addAddresses(ctx context.Context, cl *ec2.Client, endpoints []postern.OutboundEndpoint, interfaces map[string][]string) error {
	var ids []string
	for _, e := range endpoints {
		if e.State != postern.ConnectionDeleting && e.State != postern.ConnectionDeleted {
			ids = append(ids, interfaces[e.ID]...)
		}
	}
	found := map[string]netip.Addr{}
	err := inBatches(ids, filterValues, func(batch []string) error {
		in := &ec2.DescribeNetworkInterfacesInput{
			MaxResults: awssdk.Int32(pageSize), Filters: []types.Filter{{Name: awssdk.String("network-interface-id"), Values: batch}},
		}
		return everyPage(actInterfaces, func(token *string) (*string, error) {
			in.NextToken = token
			page, err := cl.DescribeNetworkInterfaces(ctx, in)
			if err != nil {
				return nil, translate(actInterfaces, err)
			}
			for _, n := range page.NetworkInterfaces {
				if a, err := netip.ParseAddr(awssdk.ToString(n.PrivateIpAddress)); err == nil {
					found[awssdk.ToString(n.NetworkInterfaceId)] = a
				}
			}
			return page.NextToken, nil
		})
	})
	for i := range endpoints {
		for _, id := range interfaces[endpoints[i].ID] {
			if a, ok := found[id]; ok {
				endpoints[i].Addresses = append(endpoints[i].Addresses, a)
			}
		}
		slices.SortFunc(endpoints[i].Addresses, netip.Addr.Compare)
	}
	return err
}

// CreateOutboundEndpoint makes the endpoint of a data connection. The
// connection's ID is the client token: however often it is asked, AWS makes one.
// Private DNS stays off: the hostname is nobody's but the customer's.
func (c *Cloud) CreateOutboundEndpoint(ctx context.Context, n postern.NewOutboundEndpoint) (id string, err error) {
	cl, err := c.client(n.Service)
	if err != nil {
		return "", err
	}
	out, err := cl.CreateVpcEndpoint(ctx, &ec2.CreateVpcEndpointInput{
		VpcEndpointType: types.VpcEndpointTypeInterface, ServiceName: awssdk.String(n.Service.Name), VpcId: awssdk.String(n.VPC),
		SubnetIds: n.Subnets, SecurityGroupIds: []string{n.Group}, IpAddressType: types.IpAddressTypeIpv4, PrivateDnsEnabled: awssdk.Bool(false),
		ClientToken: awssdk.String(n.ConnectionID), TagSpecifications: tagsOf(types.ResourceTypeVpcEndpoint, n.Platform, n.ConnectionID),
	})
	if err != nil {
		return "", refusedEndpoint(err)
	}
	if out.VpcEndpoint != nil {
		id = awssdk.ToString(out.VpcEndpoint.VpcEndpointId)
	}
	c.log.LogAttrs(ctx, slog.LevelInfo, "made an interface endpoint", slog.String("connection", n.ConnectionID), slog.String("endpoint", id))
	return id, nil
}

// refusedEndpoint words why AWS made no endpoint, where a person can act on it.
func refusedEndpoint(err error) error {
	say := func(code postern.Code, message, fix string) error {
		return fmt.Errorf("%w: %w", &postern.Error{Code: code, Message: message, Fix: fix}, err)
	}
	switch {
	case hasCode(err, "IdempotentParameterMismatch"):
		return say(postern.CodeConflict, "AWS made the endpoint before, with other settings, and does not list it yet", "wait")
	case hasCode(err, "InvalidServiceName"):
		return say(postern.CodeNotFound, "the service does not admit the platform any more", "allow the platform's principal on it")
	case hasCode(err, "VpcEndpointLimitExceeded"):
		return say(postern.CodeConflict, "the platform's network has as many endpoints as AWS's quota allows", "the vendor raises the quota of interface endpoints per VPC")
	case hasCode(err, "InsufficientFreeAddressesInSubnet"):
		return say(postern.CodeConflict, "a subnet of the platform's network has no free address", "the vendor makes room in its subnets")
	}
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "InvalidParameter" && strings.Contains(api.ErrorMessage(), "availability zone") {
		return say(postern.CodeConflict, "the service is not in the zone of one of the platform's subnets", "check outbound.networks of the platform file: the zones of its subnets")
	}
	return translate(actCreateEndpoint, err)
}

// ChangeEndpointGroups gives an endpoint of the platform's own other security
// groups, in one call: it is never without any.
func (c *Cloud) ChangeEndpointGroups(ctx context.Context, region, endpoint string, add, remove []string) error {
	cl, err := c.client(postern.ServiceRef{Region: region})
	if err != nil {
		return err
	}
	if _, err := cl.ModifyVpcEndpoint(ctx, &ec2.ModifyVpcEndpointInput{
		VpcEndpointId: awssdk.String(endpoint), AddSecurityGroupIds: add, RemoveSecurityGroupIds: remove,
	}); err != nil {
		return translate(actModifyEndpoint, err)
	}
	c.log.LogAttrs(ctx, slog.LevelInfo, "changed the security groups of an endpoint", slog.String("endpoint", endpoint), slog.Any("added", add), slog.Any("removed", remove))
	return nil
}

// DeleteOutboundEndpoints deletes endpoints of the platform's own. Those that
// are gone, or going, are no failure. The map has an error for each that AWS
// refused to delete; it answers a batch in which some fail as a success.
func (c *Cloud) DeleteOutboundEndpoints(ctx context.Context, region string, ids []string) (map[string]error, error) {
	failed := map[string]error{}
	cl, err := c.client(postern.ServiceRef{Region: region})
	if err != nil {
		return failed, err
	}
	return failed, inBatches(ids, decisionBatch, func(batch []string) error {
		out, err := cl.DeleteVpcEndpoints(ctx, &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: batch})
		if err != nil {
			return translate(actDeleteEndpoint, err)
		}
		for _, item := range out.Unsuccessful {
			if item.Error != nil && strings.HasSuffix(awssdk.ToString(item.Error.Code), "NotFound") {
				continue
			}
			failed[awssdk.ToString(item.ResourceId)] = itemError(actDeleteEndpoint, item)
		}
		c.log.LogAttrs(ctx, slog.LevelInfo, "deleted interface endpoints", slog.Any("endpoints", batch), slog.Int("unsuccessful", len(failed)))
		return nil
	})
}
