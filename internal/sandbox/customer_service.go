package sandbox

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	r53 "github.com/aws/aws-sdk-go-v2/service/route53/types"
)

// allow changes who may create endpoints to the person's endpoint service.
func (p person) allow(ctx context.Context, region, service string, add, remove []string) error {
	_, err := p.ec2(region).ModifyVpcEndpointServicePermissions(ctx, &ec2.ModifyVpcEndpointServicePermissionsInput{
		ServiceId: awssdk.String(service), AddAllowedPrincipals: add, RemoveAllowedPrincipals: remove,
	})
	return err
}

// allowed lists who may.
func (p person) allowed(ctx context.Context, region, service string) ([]string, error) {
	out, err := p.ec2(region).DescribeVpcEndpointServicePermissions(ctx, &ec2.DescribeVpcEndpointServicePermissionsInput{ServiceId: awssdk.String(service)})
	if err != nil {
		return nil, err
	}
	var arns []string
	for _, a := range out.AllowedPrincipals {
		arns = append(arns, awssdk.ToString(a.Principal))
	}
	return arns, nil
}

// requireAcceptance turns the setting of the person's service on or off.
func (p person) requireAcceptance(ctx context.Context, region, service string, on bool) error {
	_, err := p.ec2(region).ModifyVpcEndpointServiceConfiguration(ctx, &ec2.ModifyVpcEndpointServiceConfigurationInput{
		ServiceId: awssdk.String(service), AcceptanceRequired: awssdk.Bool(on),
	})
	return err
}

// arrivals lists the endpoints that asked for a connection to the person's
// service and are not gone, with AWS's word for each one's state in lower case.
func (p person) arrivals(ctx context.Context, region, service string) (map[string]string, error) {
	out, err := p.ec2(region).DescribeVpcEndpointConnections(ctx, &ec2.DescribeVpcEndpointConnectionsInput{
		Filters: []types.Filter{{Name: awssdk.String("service-id"), Values: []string{service}}},
	})
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, c := range out.VpcEndpointConnections {
		if state := strings.ToLower(string(c.VpcEndpointState)); state != "deleted" && state != "deleting" && state != "rejected" {
			found[awssdk.ToString(c.VpcEndpointId)] = state
		}
	}
	return found, nil
}

// accept lets an endpoint in, as its owner was told to wait for.
func (p person) accept(ctx context.Context, region, service, endpoint string) error {
	out, err := p.ec2(region).AcceptVpcEndpointConnections(ctx, &ec2.AcceptVpcEndpointConnectionsInput{ServiceId: awssdk.String(service), VpcEndpointIds: []string{endpoint}})
	if err != nil {
		return err
	}
	for _, u := range out.Unsuccessful {
		return fmt.Errorf("accept %s: %s", awssdk.ToString(u.ResourceId), awssdk.ToString(u.Error.Message))
	}
	return nil
}

// publish makes a TXT record in the person's public zone, and the zone if it is
// not there yet.
func (p person) publish(ctx context.Context, zone, name, text string) error {
	zones, err := p.zones(ctx)
	if err != nil {
		return err
	}
	id := ""
	for _, z := range zones {
		if strings.TrimSuffix(awssdk.ToString(z.Name), ".") == zone && (z.Config == nil || !z.Config.PrivateZone) {
			id = awssdk.ToString(z.Id)
		}
	}
	if id == "" {
		out, err := p.route53().CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: awssdk.String(zone), CallerReference: awssdk.String(rand.Text())})
		if err != nil {
			return err
		}
		id = awssdk.ToString(out.HostedZone.Id)
	}
	made, err := p.route53().ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: awssdk.String(id),
		ChangeBatch: &r53.ChangeBatch{Changes: []r53.Change{{
			Action: r53.ChangeActionUpsert,
			ResourceRecordSet: &r53.ResourceRecordSet{
				Name: awssdk.String(name), Type: r53.RRTypeTxt, TTL: awssdk.Int64(1), ResourceRecords: []r53.ResourceRecord{{Value: awssdk.String(`"` + text + `"`)}},
			},
		}}},
	})
	if err != nil {
		return err
	}
	// Whoever asked a resolver before would have it remember that there is none.
	return until(ctx, func() error {
		c, err := p.route53().GetChange(ctx, &route53.GetChangeInput{Id: made.ChangeInfo.Id})
		if err == nil && c.ChangeInfo.Status != r53.ChangeStatusInsync {
			err = fmt.Errorf("the change of %s is %s", name, c.ChangeInfo.Status)
		}
		return err
	})
}
