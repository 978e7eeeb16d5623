package localaws_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"go.uber.org/goleak"

	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/test/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	virginia = "us-east-1"
	oregon   = "us-west-2"
)

// fixture is a running stand-in with a platform that has a service in
// Virginia, and two customers.
type fixture struct {
	*localaws.Server
	t        testing.TB
	cfg      localaws.Config
	platform localaws.Account
	example  localaws.Account
	globex   localaws.Account
	hub      localaws.VPC // of the platform
	vpc      localaws.VPC // of Example, in zones az1, az2, az4, az6
	other    localaws.VPC // of Globex
	far      localaws.VPC // of Example, in Oregon
	lb       localaws.LoadBalancer
	spare    localaws.LoadBalancer
	service  string // ID; acceptance is required
	name     string // its name
	port     uint16 // of the load balancer
	dnsPort  uint16
	patience time.Duration // with resolvers
	target   *target
}

// pool is a part of the default pool, another one in parallel processes.
func pool() netip.Prefix {
	a := localaws.DefaultPool().Addr().As4()
	a[1] += byte(os.Getpid() % 16)
	return netip.PrefixFrom(netip.AddrFrom4(a), 16)
}

func newFixture(t testing.TB, change func(*fixture)) *fixture {
	t.Helper()
	f := &fixture{t: t, patience: 30 * time.Second, target: newTarget(t), service: "vpce-svc-0c33df1aaf78a8955"}
	f.name = "com.amazonaws.vpce.us-east-1." + f.service
	b := localaws.NewBuilder("a test", pool())
	f.platform, f.example, f.globex = b.AddAccount("platform"), b.AddAccount("example-corp"), b.AddAccount("globex")
	zones := []string{"use1-az2", "use1-az4", "use1-az6"}
	f.hub = b.AddVPC(f.platform.ID, virginia, "hub", zones...)
	f.vpc = b.AddVPC(f.example.ID, virginia, "example", "use1-az1", "use1-az2", "use1-az4", "use1-az6")
	f.other = b.AddVPC(f.globex.ID, virginia, "globex", zones...)
	f.far = b.AddVPC(f.example.ID, oregon, "example-west")
	f.port, f.dnsPort = loopback.MustPort(t, f.vpc.Host("", 250)), loopback.MustPort(t, f.vpc.Resolver())
	f.lb = b.AddLoadBalancer(f.hub, "ingress", 5, zones, localaws.LoadListener{Port: f.port, Targets: []netip.AddrPort{f.target.addr}})
	f.spare = b.AddLoadBalancer(f.hub, "spare", 6, zones[:2], localaws.LoadListener{Port: f.port, Targets: []netip.AddrPort{f.target.addr}})
	b.AddEndpointService(localaws.EndpointService{
		ID: f.service, Account: f.platform.ID, Region: virginia, LoadBalancers: []string{f.lb.ARN}, AcceptanceRequired: true,
		AllowedPrincipals: []string{rootOf(f.example), rootOf(f.globex)},
	})
	var err error
	f.cfg = localaws.Config{
		Timing: localaws.Timing{Available: time.Millisecond, DNS: -1, Delete: time.Millisecond, Change: time.Millisecond},
		DNS:    localaws.DNS{Port: f.dnsPort, Public: f.hub.Host("", 4)},
	}
	if f.cfg.World, err = b.World(); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(f)
	}
	f.start()
	return f
}

// start makes a server of the configuration; again after Close, a restart.
func (f *fixture) start() {
	f.t.Helper()
	s, err := localaws.New(f.cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := s.Start(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(s.Close)
	f.Server = s
}

func rootOf(a localaws.Account) string { return "arn:aws:iam::" + a.ID + ":root" }

func provider(k localaws.AccessKey) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(k.ID, k.Secret, k.SessionToken)
}

// ec2 is a client of an account, in Virginia unless a region is given, that
// never retries.
func (f *fixture) ec2(a localaws.Account, region ...string) *ec2.Client {
	return f.ec2Key(a.AccessKeys[0], region...)
}

func (f *fixture) ec2Key(k localaws.AccessKey, region ...string) *ec2.Client {
	return ec2.New(ec2.Options{
		Region: append(region, virginia)[0], BaseEndpoint: aws.String(f.EndpointURL()), Credentials: provider(k), Retryer: aws.NopRetryer{},
	})
}

func (f *fixture) sts(k localaws.AccessKey) *sts.Client {
	return sts.New(sts.Options{Region: virginia, BaseEndpoint: aws.String(f.EndpointURL()), Credentials: provider(k), Retryer: aws.NopRetryer{}})
}

func subnetOf(t testing.TB, v localaws.VPC, zone string) string {
	t.Helper()
	for _, s := range v.Subnets {
		if s.ZoneID == zone {
			return s.ID
		}
	}
	t.Fatalf("%s has no subnet in %s", v.ID, zone)
	return ""
}

// request is a CreateVpcEndpoint that succeeds.
func (f *fixture) request(v localaws.VPC, zones ...string) *ec2.CreateVpcEndpointInput {
	in := &ec2.CreateVpcEndpointInput{VpcId: &v.ID, ServiceName: &f.name, VpcEndpointType: types.VpcEndpointTypeInterface}
	for _, z := range zones {
		in.SubnetIds = append(in.SubnetIds, subnetOf(f.t, v, z))
	}
	return in
}

func (f *fixture) create(a localaws.Account, v localaws.VPC, zones ...string) types.VpcEndpoint {
	f.t.Helper()
	out, err := f.ec2(a).CreateVpcEndpoint(f.t.Context(), f.request(v, zones...))
	if err != nil {
		f.t.Fatal(err)
	}
	return *out.VpcEndpoint
}

// ready is an accepted endpoint of Example's that carries traffic.
func (f *fixture) ready(zones ...string) types.VpcEndpoint {
	f.t.Helper()
	e := f.create(f.example, f.vpc, zones...)
	f.accept(*e.VpcEndpointId)
	f.await(*e.VpcEndpointId, "available")
	return f.describe(*e.VpcEndpointId)
}

func (f *fixture) accept(ids ...string) {
	f.t.Helper()
	out, err := f.ec2(f.platform).AcceptVpcEndpointConnections(f.t.Context(), &ec2.AcceptVpcEndpointConnectionsInput{ServiceId: &f.service, VpcEndpointIds: ids})
	if err != nil || len(out.Unsuccessful) > 0 {
		f.t.Fatal(err, out)
	}
}

func (f *fixture) describe(id string) types.VpcEndpoint {
	f.t.Helper()
	out, err := f.ec2(f.example).DescribeVpcEndpoints(f.t.Context(), &ec2.DescribeVpcEndpointsInput{VpcEndpointIds: []string{id}})
	if err != nil {
		f.t.Fatal(err)
	}
	return out.VpcEndpoints[0]
}

func (f *fixture) await(id, state string) {
	f.t.Helper()
	var last string
	eventually(f.t, func() bool {
		info, err := f.Endpoint(id) // an error: no longer listed, state ""
		last = info.State
		return last == state && (err == nil || state == "")
	}, func() string { return fmt.Sprintf("%s is %q, want %q", id, last, state) })
}

// eventually waits for a condition.
func eventually(t testing.TB, holds func() bool, what func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatal(what())
		case <-tick.C:
		}
	}
}

// wantCode checks that an error is AWS's of a code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// target accepts connections; each is on conns.
type target struct {
	addr  netip.AddrPort
	conns chan *net.TCPConn
}

func newTarget(t testing.TB) *target {
	t.Helper()
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	tg := &target{addr: netip.MustParseAddrPort(ln.Addr().String()), conns: make(chan *net.TCPConn, 16)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			tg.conns <- c
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
		close(tg.conns)
		for c := range tg.conns {
			_ = c.Close()
		}
	})
	return tg
}

func (tg *target) accept(t testing.TB) *net.TCPConn {
	t.Helper()
	select {
	case c := <-tg.conns:
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return c
	case <-time.After(30 * time.Second):
		t.Fatal("the target was not reached")
		return nil
	}
}

// dial connects from an address to an endpoint's interface.
func (f *fixture) dial(from, to netip.Addr) (*net.TCPConn, error) {
	f.t.Helper()
	c, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.TCPAddrFromAddrPort(netip.AddrPortFrom(to, f.port)))
	if err != nil {
		return nil, err
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c, c.SetDeadline(time.Now().Add(30 * time.Second))
}

// address is where an endpoint's interface in a zone is, by the EC2 API.
func (f *fixture) address(e types.VpcEndpoint, subnet string) netip.Addr {
	f.t.Helper()
	out, err := f.ec2(f.example).DescribeNetworkInterfaces(f.t.Context(), &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: e.NetworkInterfaceIds})
	if err != nil {
		f.t.Fatal(err)
	}
	i := slices.IndexFunc(out.NetworkInterfaces, func(n types.NetworkInterface) bool { return subnet == "" || *n.SubnetId == subnet })
	if i < 0 {
		f.t.Fatalf("%s has no interface in %q", *e.VpcEndpointId, subnet)
	}
	return netip.MustParseAddr(*out.NetworkInterfaces[i].PrivateIpAddress)
}

// expectPassage sends a word and wants the target to see it behind a header.
func (f *fixture) expectPassage(from, to netip.Addr) {
	f.t.Helper()
	c, err := f.dial(from, to)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		f.t.Fatal(err)
	}
	up := f.target.accept(f.t)
	buf := make([]byte, 105)
	if _, err := io.ReadFull(up, buf); err != nil {
		f.t.Fatal(err)
	}
	if !strings.HasSuffix(string(buf), "hello") {
		f.t.Fatalf("the target read %q", buf)
	}
}

// expectRefused wants a reset, or nobody listening, and no word to the target.
func (f *fixture) expectRefused(from, to netip.Addr) {
	f.t.Helper()
	c, err := f.dial(from, to)
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.ECONNREFUSED) {
		f.t.Fatalf("got %v, want a refused connection", err)
	}
	select {
	case <-f.target.conns:
		f.t.Fatal("the target was reached")
	default:
	}
}

// occupy takes an address until the test ends.
func occupy(t *testing.T, at netip.AddrPort) {
	t.Helper()
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
}

func newReader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

// clock is a time that passes only when told to.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time       { return time.Unix(0, c.nanos.Load()) }
func (c *clock) pass(d time.Duration) { c.nanos.Add(int64(d)) }
