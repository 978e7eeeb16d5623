package sandbox

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/postern-net/postern/internal/localaws"
)

// route53 is the AWS SDK as a customer would use it.
func (p person) route53() *route53.Client {
	return route53.New(route53.Options{Region: "us-east-1", Credentials: p.credentials(), BaseEndpoint: awssdk.String(p.awsURL)})
}

// createCNAME makes a record in the private hosted zone of a network, and the
// zone if it is not there yet.
func (p person) createCNAME(ctx context.Context, v localaws.VPC, zone, name, value string) error {
	id, err := p.privateZone(ctx, v, zone)
	if err != nil {
		return err
	}
	_, err = p.route53().ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: awssdk.String(id),
		ChangeBatch: &types.ChangeBatch{Changes: []types.Change{{
			Action: types.ChangeActionUpsert,
			ResourceRecordSet: &types.ResourceRecordSet{
				Name: awssdk.String(name), Type: types.RRTypeCname, TTL: awssdk.Int64(1),
				ResourceRecords: []types.ResourceRecord{{Value: awssdk.String(value)}},
			},
		}}},
	})
	return err
}

// createAlias makes a private hosted zone of a name in a network, with an alias
// to an endpoint at its top, where a CNAME cannot be.
func (p person) createAlias(ctx context.Context, v localaws.VPC, name, endpoint string) error {
	out, err := p.ec2(v.Region).DescribeVpcEndpoints(ctx, &ec2.DescribeVpcEndpointsInput{VpcEndpointIds: []string{endpoint}})
	if err != nil {
		return err
	}
	if len(out.VpcEndpoints) != 1 || len(out.VpcEndpoints[0].DnsEntries) == 0 {
		return fmt.Errorf("AWS tells no DNS name of %s", endpoint)
	}
	target := out.VpcEndpoints[0].DnsEntries[0]
	id, err := p.privateZone(ctx, v, name)
	if err != nil {
		return err
	}
	_, err = p.route53().ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: awssdk.String(id),
		ChangeBatch: &types.ChangeBatch{Changes: []types.Change{{
			Action: types.ChangeActionUpsert,
			ResourceRecordSet: &types.ResourceRecordSet{
				Name: awssdk.String(name), Type: types.RRTypeA,
				AliasTarget: &types.AliasTarget{DNSName: target.DnsName, HostedZoneId: target.HostedZoneId},
			},
		}}},
	})
	return err
}

func (p person) privateZone(ctx context.Context, v localaws.VPC, zone string) (string, error) {
	zones, err := p.zones(ctx)
	if err != nil {
		return "", err
	}
	for _, z := range zones {
		full, err := p.route53().GetHostedZone(ctx, &route53.GetHostedZoneInput{Id: z.Id})
		if err != nil {
			return "", err
		}
		for _, of := range full.VPCs {
			if awssdk.ToString(of.VPCId) == v.ID && strings.TrimSuffix(awssdk.ToString(z.Name), ".") == zone {
				return awssdk.ToString(z.Id), nil
			}
		}
	}
	out, err := p.route53().CreateHostedZone(ctx, &route53.CreateHostedZoneInput{
		Name: awssdk.String(zone), CallerReference: awssdk.String(rand.Text()),
		VPC: &types.VPC{VPCId: awssdk.String(v.ID), VPCRegion: types.VPCRegion(v.Region)},
	})
	if err != nil {
		return "", err
	}
	return awssdk.ToString(out.HostedZone.Id), nil
}

func (p person) zones(ctx context.Context) ([]types.HostedZone, error) {
	out, err := p.route53().ListHostedZones(ctx, &route53.ListHostedZonesInput{})
	if err != nil {
		return nil, err
	}
	return out.HostedZones, nil
}

// deleteZones deletes every hosted zone of the account with its records.
func (p person) deleteZones(ctx context.Context) (deleted int, err error) {
	zones, err := p.zones(ctx)
	if err != nil {
		return 0, err
	}
	for _, z := range zones {
		sets, err := p.route53().ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: z.Id})
		if err != nil {
			return deleted, err
		}
		var changes []types.Change
		for _, s := range sets.ResourceRecordSets {
			if s.Type != types.RRTypeSoa && s.Type != types.RRTypeNs {
				changes = append(changes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: &s})
			}
		}
		if len(changes) > 0 {
			if _, err := p.route53().ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{HostedZoneId: z.Id, ChangeBatch: &types.ChangeBatch{Changes: changes}}); err != nil {
				return deleted, err
			}
		}
		if _, err := p.route53().DeleteHostedZone(ctx, &route53.DeleteHostedZoneInput{Id: z.Id}); err != nil {
			return deleted, err
		}
		deleted++
	}
	return deleted, nil
}
