package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/client/accountproof"
	"github.com/postern-net/postern/internal/localaws"
)

// person is somebody of an organization at work: with the organization's
// token at Postern, and its keys at AWS.
type person struct {
	organization string
	api          *client.Client
	account      localaws.Account
	awsURL       string
}

func (p person) credentials() awssdk.CredentialsProvider {
	k := p.account.AccessKeys[0]
	return credentials.NewStaticCredentialsProvider(k.ID, k.Secret, k.SessionToken)
}

// ec2 is the AWS SDK as a customer would use it.
func (p person) ec2(region string) *ec2.Client {
	return ec2.New(ec2.Options{
		Region: region, Credentials: p.credentials(), BaseEndpoint: awssdk.String(p.awsURL),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = 2 }),
	})
}

// proof signs a challenge with the account's keys.
func (p person) proof(ctx context.Context, ch client.Challenge) (client.Proof, error) {
	return accountproof.Sign(ctx, p.credentials(), ch, ch.Regions[0], time.Now())
}

// prove proves the account for the organization.
func (p person) prove(ctx context.Context) error {
	ch, err := p.api.CreateChallenge(ctx, p.organization)
	if err != nil {
		return err
	}
	proof, err := p.proof(ctx, ch)
	if err != nil {
		return err
	}
	_, err = p.api.ProveAccount(ctx, proof)
	return err
}

// createEndpoint makes an interface endpoint in a network of the person's
// account, with a subnet in each zone that the service is in.
func (p person) createEndpoint(ctx context.Context, v localaws.VPC, o client.Offer) (string, error) {
	in := &ec2.CreateVpcEndpointInput{
		VpcEndpointType: types.VpcEndpointTypeInterface, VpcId: awssdk.String(v.ID), ServiceName: awssdk.String(o.ServiceName),
		SecurityGroupIds: []string{v.DefaultSecurityGroup},
	}
	for _, s := range v.Subnets {
		if slices.Contains(o.AvailabilityZones, s.ZoneID) {
			in.SubnetIds = append(in.SubnetIds, s.ID)
		}
	}
	out, err := p.ec2(v.Region).CreateVpcEndpoint(ctx, in)
	if err != nil {
		return "", err
	}
	return awssdk.ToString(out.VpcEndpoint.VpcEndpointId), nil
}

// awsCode is AWS's code of an error, or "".
func awsCode(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// endpoints lists the account's endpoints that AWS still has, in a region.
func (p person) endpoints(ctx context.Context, region string) ([]types.VpcEndpoint, error) {
	out, err := p.ec2(region).DescribeVpcEndpoints(ctx, &ec2.DescribeVpcEndpointsInput{})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out.VpcEndpoints, func(e types.VpcEndpoint) bool {
		return strings.EqualFold(string(e.State), "deleted") || strings.EqualFold(string(e.State), "deleting")
	}), nil
}

func (p person) deleteEndpoints(ctx context.Context, region string, ids ...string) error {
	out, err := p.ec2(region).DeleteVpcEndpoints(ctx, &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: ids})
	if err != nil {
		return err
	}
	for _, u := range out.Unsuccessful {
		return fmt.Errorf("delete %s: %s", awssdk.ToString(u.ResourceId), awssdk.ToString(u.Error.Message))
	}
	return nil
}

// endpointState is AWS's word for an endpoint's state, in lower case, and its
// DNS name.
func (p person) endpointState(ctx context.Context, region, id string) (state, name string, err error) {
	out, err := p.ec2(region).DescribeVpcEndpoints(ctx, &ec2.DescribeVpcEndpointsInput{VpcEndpointIds: []string{id}})
	if err != nil {
		return "", "", err
	}
	if len(out.VpcEndpoints) != 1 {
		return "", "", fmt.Errorf("AWS lists %d endpoints with ID %s", len(out.VpcEndpoints), id)
	}
	e := out.VpcEndpoints[0]
	if len(e.DnsEntries) > 0 {
		name = awssdk.ToString(e.DnsEntries[0].DnsName)
	}
	return strings.ToLower(string(e.State)), name, nil
}
