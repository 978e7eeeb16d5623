package e2e_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/client/accountproof"
	"github.com/postern-net/postern/internal/sandbox"
)

// theCustomer is the organization that works while the server is killed.
const theCustomer = "example-corp"

// customer proves an account, makes endpoints with the AWS SDK, claims them and
// takes claims back, as a network engineer's script would.
type customer struct {
	t       *testing.T
	api     *client.Client
	keys    awssdk.CredentialsProvider
	account string
	ec2     *ec2.Client
	service string
	zones   []string // that the service is in
}

func newCustomer(t *testing.T, f sandbox.File, p *postern.Platform) *customer {
	t.Helper()
	secret, err := os.ReadFile(f.API.Tokens[theCustomer])
	if err != nil {
		t.Fatal(err)
	}
	api, err := client.New(f.API.URL, client.Options{Token: strings.TrimSpace(string(secret)), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	a, home := f.AWS.Accounts[theCustomer], p.Segments[0].Regions[0]
	keys := credentials.NewStaticCredentialsProvider(a.AccessKeyID, a.SecretAccessKey, "")
	return &customer{
		t: t, api: api, keys: keys, account: a.ID, service: home.ServiceName, zones: home.AvailabilityZones,
		ec2: ec2.New(ec2.Options{Region: home.ID, BaseEndpoint: awssdk.String(f.AWS.EndpointURL), Credentials: keys}),
	}
}

// drive works until ctx ends, and notes what was acknowledged. Of every two
// claims it takes one back; before it asks for that, it notes that it will,
// because a request whose answer was lost may have been done. It keeps only a
// few claims: AWS's quota is 50 endpoints in a VPC.
func (c *customer) drive(ctx context.Context, j *journal) {
	const keep = 8
	for n := 0; ctx.Err() == nil; n++ {
		wait(c.t, 200*time.Millisecond)
		if n%4 == 0 && c.prove(ctx) == nil {
			j.note("account", c.account)
		}
		id, err := c.create(ctx)
		if err != nil {
			c.t.Logf("create an endpoint: %v", err) // until the allow-list has its principal
			continue
		}
		if _, err := c.api.ClaimEndpoints(ctx, client.Claim{Organization: theCustomer, VPCEndpointIDs: []string{id}}, false); err != nil {
			c.drop(id)
			continue
		}
		j.note("claim", id)
		if n%2 == 0 && n < 2*keep {
			continue
		}
		j.note("removing", id)
		if c.api.DeleteEndpoint(ctx, id) == nil {
			j.note("removed", id)
			c.drop(id)
		}
	}
}

func (c *customer) prove(ctx context.Context) error {
	challenge, err := c.api.CreateChallenge(ctx, theCustomer)
	if err != nil {
		return err
	}
	proof, err := accountproof.Sign(ctx, c.keys, challenge, challenge.Regions[0], time.Now())
	if err != nil {
		return err
	}
	_, err = c.api.ProveAccount(ctx, proof)
	return err
}

// create makes an interface endpoint in a subnet of a zone that the service is in.
func (c *customer) create(ctx context.Context) (string, error) {
	subnets, err := c.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{})
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(subnets.Subnets, func(s types.Subnet) bool { return slices.Contains(c.zones, awssdk.ToString(s.AvailabilityZoneId)) })
	if i < 0 {
		return "", fmt.Errorf("%s has no subnet in a zone of the service", theCustomer)
	}
	made, err := c.ec2.CreateVpcEndpoint(ctx, &ec2.CreateVpcEndpointInput{
		VpcEndpointType: types.VpcEndpointTypeInterface, ServiceName: &c.service,
		VpcId: subnets.Subnets[i].VpcId, SubnetIds: []string{*subnets.Subnets[i].SubnetId},
	})
	if err != nil {
		return "", err
	}
	return *made.VpcEndpoint.VpcEndpointId, nil
}

// drop deletes an endpoint at AWS; one that stays costs only a place in the
// quota.
func (c *customer) drop(id string) {
	if _, err := c.ec2.DeleteVpcEndpoints(c.t.Context(), &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{id}}); err != nil {
		c.t.Logf("delete %s: %v", id, err)
	}
}

// check asks for what was acknowledged: accounts and claims are there, claims
// that were taken back are on their way out or gone.
func (c *customer) check(j *journal) {
	c.t.Helper()
	accounts, err := c.api.Accounts(c.t.Context(), theCustomer)
	if err != nil {
		c.t.Fatal(err)
	}
	endpoints, err := c.api.Endpoints(c.t.Context(), theCustomer, "")
	if err != nil {
		c.t.Fatal(err)
	}
	state := map[string]string{}
	for _, a := range accounts {
		state[a.ID] = a.Status.State
	}
	for _, e := range endpoints {
		state[e.ID] = e.Status.State
	}
	want, count := map[string]string{}, map[string]int{}
	for _, line := range j.lines(c.t) {
		kind, id, _ := strings.Cut(line, " ")
		switch kind {
		case "account", "claim", "removing", "removed":
			want[id] = kind
			count[kind]++
		}
	}
	for id, kind := range want {
		got, there := state[id]
		switch {
		case kind == "account" && got != "active",
			kind == "claim" && (!there || got == "removing"),
			kind == "removed" && there && got != "removing":
			c.t.Errorf("%s was acknowledged as %s, and is %q", id, kind, got)
		}
	}
	c.t.Logf("acknowledged: %d proofs, %d claims, %d taken back", count["account"], count["claim"], count["removed"])
	if count["account"] == 0 || count["claim"] < 3 || count["removed"] == 0 {
		c.t.Error("too little was acknowledged: the test proves nothing")
	}
}
