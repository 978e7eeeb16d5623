package aws_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
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
	"github.com/postern-net/postern/internal/aws"
	"github.com/postern-net/postern/internal/localaws"
)

// standIn is the adapter in front of the stand-in for AWS, which verifies
// signatures and keeps AWS's state machine.
type standIn struct {
	*aws.Cloud
	customer localaws.Account
	network  localaws.VPC
	url      string
}

func newStandIn(t *testing.T) standIn {
	t.Helper()
	pool := localaws.DefaultPool().Addr().As4()
	pool[1] += byte(os.Getpid() % 16) // another part of it in packages that are tested at the same time
	b := localaws.NewBuilder("a test", netip.PrefixFrom(netip.AddrFrom4(pool), 16))
	vendor, customer := b.AddAccount("platform"), b.AddAccount("example-corp")
	zones := []string{"use1-az2", "use1-az4"}
	network, hub := b.AddVPC(customer.ID, "us-east-1", "example", zones...), b.AddVPC(vendor.ID, "us-east-1", "hub", zones...)
	ln, err := net.Listen("tcp", netip.AddrPortFrom(network.Host("", 250), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(ln.Addr().String()).Port()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	lb := b.AddLoadBalancer(hub, "ingress", 5, zones, localaws.LoadListener{Port: port, Targets: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}})
	b.AddEndpointService(localaws.EndpointService{
		ID: service.ID, Account: vendor.ID, Region: "us-east-1", LoadBalancers: []string{lb.ARN}, AcceptanceRequired: true,
	})
	cfg := localaws.Config{Timing: localaws.Timing{Available: time.Millisecond, DNS: -1, Delete: -1}}
	if cfg.World, err = b.World(); err != nil {
		t.Fatal(err)
	}
	srv, err := localaws.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	cloud := newCloud(t, srv.EndpointURL(), func(c *aws.Config) {
		c.Credentials = aws.Credentials{AccessKeyID: vendor.AccessKeys[0].ID, SecretAccessKey: vendor.AccessKeys[0].Secret}
	})
	return standIn{Cloud: cloud, customer: customer, network: network, url: srv.EndpointURL()}
}

// create creates an endpoint in the customer's account.
func (s standIn) create(ctx context.Context) (string, error) {
	key := s.customer.AccessKeys[0]
	cl := ec2.New(ec2.Options{
		Region: "us-east-1", BaseEndpoint: awssdk.String(s.url), Retryer: awssdk.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, ""),
	})
	out, err := cl.CreateVpcEndpoint(ctx, &ec2.CreateVpcEndpointInput{
		VpcId: &s.network.ID, VpcEndpointType: types.VpcEndpointTypeInterface, ServiceName: awssdk.String(service.Name),
		SubnetIds: []string{s.network.Subnets[0].ID},
	})
	if err != nil {
		return "", err
	}
	return *out.VpcEndpoint.VpcEndpointId, nil
}

// reaches waits until a connection is in a state.
func (s standIn) reaches(t *testing.T, id string, want postern.ConnectionState) postern.Connection {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := s.FindConnections(ctx, service, []string{id})
		conn, ok := found[id]
		if err == nil && ok && conn.State == want {
			return conn
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s is %s, listed: %v, %v; want %s", id, conn.State, ok, err, want)
		case <-tick.C:
		}
	}
}

// The three gates, in order and back.
func TestAgainstTheStandIn(t *testing.T) {
	s := newStandIn(t)
	ctx := t.Context()
	root := "arn:aws:iam::" + s.customer.ID + ":root"

	if _, err := s.create(ctx); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Fatalf("a stranger's create: %v", err)
	}
	for range 2 { // the second time there is nothing to do
		if err := s.ChangePrincipals(ctx, service, []string{root}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Principals(ctx, service); err != nil || !slices.Equal(got, []string{root}) {
		t.Fatalf("principals %v, %v", got, err)
	}
	id, err := s.create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	conn := s.reaches(t, id, postern.ConnectionPendingAcceptance)
	if conn.Owner != s.customer.ID || conn.EndpointRegion != "us-east-1" || conn.ServiceID != service.ID {
		t.Errorf("got %+v", conn)
	}
	for range 2 {
		failed, err := s.Accept(ctx, service, []string{id, one})
		if err != nil || failed[id] != nil || postern.CodeOf(failed[one]) != postern.CodeNotFound {
			t.Fatalf("accept: %v, %v", failed, err)
		}
	}
	if conn = s.reaches(t, id, postern.ConnectionAvailable); len(conn.DNSNames) == 0 || !strings.HasPrefix(conn.DNSNames[0], id+"-") {
		t.Errorf("DNS names %v", conn.DNSNames)
	}
	for range 2 {
		if failed, err := s.Reject(ctx, service, []string{id, one}); err != nil || len(failed) != 0 {
			t.Fatalf("reject: %v, %v", failed, err)
		}
	}
	s.reaches(t, id, postern.ConnectionRejected)
	if failed, err := s.Accept(ctx, service, []string{id}); err != nil || postern.CodeOf(failed[id]) != postern.CodeConflict {
		t.Errorf("accept what is rejected: %v, %v", failed, err)
	}
	for range 2 {
		if err := s.ChangePrincipals(ctx, service, nil, []string{root}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.create(ctx); err == nil {
		t.Error("a removed principal creates endpoints")
	}
	absent := postern.ServiceRef{Region: "us-east-1", ID: "vpce-svc-0123456789abcdef0"}
	if _, err := s.Principals(ctx, absent); postern.CodeOf(err) != postern.CodeNotFound {
		t.Errorf("an absent service: %v", err)
	}
}

func TestListingsArePaged(t *testing.T) {
	s := newStandIn(t)
	var want []string
	for i := range 250 { // more than one change, and more than one page of the smallest size
		want = append(want, fmt.Sprintf("arn:aws:iam::%012d:root", i))
	}
	if err := s.ChangePrincipals(t.Context(), service, want, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Principals(t.Context(), service); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d principals, %v", len(got), err)
	}
}

func TestProofsAgainstTheStandIn(t *testing.T) {
	s := newStandIn(t)
	key := s.customer.AccessKeys[0]
	prove := func(bound, secret string) client.Proof {
		t.Helper()
		ch := client.Challenge{Header: postern.BindingHeader, Binding: bound, Organization: "example-corp", Nonce: "n0nce"}
		p, err := accountproof.Sign(t.Context(), static{AccessKeyID: key.ID, SecretAccessKey: secret}, ch, "us-east-1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	got, err := s.CallerIdentity(t.Context(), prove(binding, key.Secret), binding)
	if want := (postern.Caller{Account: s.customer.ID, ARN: "arn:aws:iam::" + s.customer.ID + ":root"}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, p := range map[string]client.Proof{
		"for another platform": prove("other;example-corp;n0nce", key.Secret),
		"with another secret":  prove(binding, "guessed"),
	} {
		if got, err := s.CallerIdentity(t.Context(), p, binding); postern.CodeOf(err) != postern.CodeInvalid || got != (postern.Caller{}) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}
