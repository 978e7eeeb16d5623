package cli_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/api"
	"github.com/postern-net/postern/internal/aws"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/platformfile"
	"github.com/postern-net/postern/internal/store"
	"github.com/postern-net/postern/test/loopback"
)

// world is a running control plane in front of the stand-in for AWS, with one
// node: what a command line meets.
type world struct {
	url       string
	tokens    map[string]string // secrets by name
	customers map[string]localaws.Account
	networks  map[string]localaws.VPC // of the customers, in us-east-1
	cloud     *localaws.Server
	door      uint16 // port of the platform's load balancer
	plane     *plane
	outbound  outbound
	store     *store.Store
	stop      func()
}

const virginia = "us-east-1"

// newWorld starts one below dir. With automatic, claims need no operator.
func newWorld(ctx context.Context, dir string, automatic bool) (_ *world, err error) {
	w := &world{tokens: map[string]string{}, customers: map[string]localaws.Account{}, networks: map[string]localaws.VPC{}}
	platform, err := platformfile.Builtin("immuta")
	if err != nil {
		return nil, err
	}
	platform.Segments[0].Regions[0].SCIMIngress = []netip.Addr{netip.MustParseAddr("192.0.2.20")}
	if w.plane, err = startPlane(ctx, platform); err != nil {
		return nil, err
	}
	vendor, err := w.startCloud(ctx, platform)
	if err != nil {
		return nil, err
	}
	cloud, err := aws.New(aws.Config{
		Regions: platform.RegionIDs(), EndpointURL: w.cloud.EndpointURL(), Logger: slog.New(slog.DiscardHandler),
		Credentials: aws.Credentials{AccessKeyID: vendor.ID, SecretAccessKey: vendor.Secret},
	})
	if err != nil {
		return nil, err
	}
	if w.store, err = store.Open(ctx, filepath.Join(dir, "postern.db")); err != nil {
		return nil, err
	}
	if err := w.addTokens(ctx); err != nil {
		return nil, err
	}
	rules := plan.Rules{Automatic: automatic, MissingGrace: time.Second, Cutover: cutoverRules}
	loop := control.New(control.Config{
		Platform: platform, Store: w.store, Cloud: cloud, Rules: rules, Resync: 200 * time.Millisecond, Settle: 50 * time.Millisecond,
		Publish: w.plane.publish, PublishZones: w.plane.publishZones, Names: w.plane.checker(),
		Outbound: cloud, Texts: &w.outbound, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	srv := httptest.NewServer(api.New(api.Config{
		Platform: platform, Store: w.store, Cloud: cloud, Loop: loop, Rules: rules, Now: time.Now,
		Logger: slog.New(slog.DiscardHandler), Version: "test",
	}))
	w.url = srv.URL
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := loop.Run(ctx); err != nil {
			panic(err)
		}
	})
	wg.Go(func() {
		if err := w.plane.link(ctx, w.store, w.outbound.look); err != nil {
			panic(err)
		}
	})
	w.stop = func() {
		cancel()
		w.plane.stop()
		srv.CloseClientConnections()
		srv.Close()
		wg.Wait()
		cloud.Close()
		w.cloud.Close()
		_ = w.store.Close() // the test is over
	}
	return w, nil
}

// startCloud builds the platform's services and two customers. It returns the
// platform's access key.
func (w *world) startCloud(ctx context.Context, platform *postern.Platform) (localaws.AccessKey, error) {
	pool := localaws.DefaultPool().Addr().As4()
	pool[1] += byte(os.Getpid() % 16) // another part of it in packages that are tested at the same time
	b := localaws.NewBuilder("a test", netip.PrefixFrom(netip.AddrFrom4(pool), 16))
	vendor := b.AddAccount("platform")
	for _, name := range []string{"example-corp", "globex"} {
		w.customers[name] = b.AddAccount(name)
		w.networks[name] = b.AddVPC(w.customers[name].ID, virginia, name, "use1-az2", "use1-az4")
	}
	var err error
	if w.door, err = loopback.Port(ctx, w.networks["example-corp"].Host("", 250)); err != nil {
		return localaws.AccessKey{}, err
	}
	for _, s := range platform.Segments {
		for _, r := range s.Regions {
			v := b.AddVPC(vendor.ID, r.ID, r.ID, r.AvailabilityZones...)
			lb := b.AddLoadBalancer(v, "ingress", 5, r.AvailabilityZones,
				localaws.LoadListener{Port: w.door, Targets: []netip.AddrPort{w.plane.private}})
			b.AddEndpointService(localaws.EndpointService{
				ID: r.Service().ID, Account: vendor.ID, Region: r.ID, LoadBalancers: []string{lb.ARN}, AcceptanceRequired: true,
			})
		}
	}
	w.addClusters(b, vendor.ID, platform)
	cfg := localaws.Config{Timing: localaws.Timing{Available: 20 * time.Millisecond, DNS: -1, Delete: -1}}
	if cfg.World, err = b.World(); err != nil {
		return localaws.AccessKey{}, err
	}
	if w.cloud, err = localaws.New(cfg); err != nil {
		return localaws.AccessKey{}, err
	}
	return vendor.AccessKeys[0], w.cloud.Start(ctx)
}

func (w *world) addTokens(ctx context.Context) error {
	return w.store.Update(ctx, func(tx *store.Tx) error {
		for _, t := range []postern.Token{
			{Name: "admin", Role: postern.RoleAdmin},
			{Name: "operator", Role: postern.RoleOperator},
			{Name: "example-corp", Role: postern.RoleOrgAdmin, Organization: "example-corp"},
			{Name: "globex", Role: postern.RoleOrgAdmin, Organization: "globex"},
		} {
			if t.Organization != "" {
				if _, err := tx.CreateOrganization(postern.Organization{ID: t.Organization, Title: t.Organization, CreatedAt: time.Now()}); err != nil {
					return err
				}
			}
			secret := "secret-of-" + t.Name
			w.tokens[t.Name] = secret
			hash := sha256.Sum256([]byte(secret))
			t.ID, t.CreatedAt = "tok_"+t.Name, time.Now()
			if _, err := tx.CreateToken(t, hash[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// ec2 is a customer's own client of AWS.
func (w *world) ec2(customer string) *ec2.Client {
	key := w.customers[customer].AccessKeys[0]
	return ec2.New(ec2.Options{
		Region: virginia, BaseEndpoint: awssdk.String(w.cloud.EndpointURL()), Retryer: awssdk.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, ""),
	})
}

// createEndpoint creates an interface endpoint as soon as AWS permits it.
func (w *world) createEndpoint(ctx context.Context, customer string) (string, error) {
	platform, err := platformfile.Builtin("immuta")
	if err != nil {
		return "", err
	}
	region, _, _ := platform.Region(virginia)
	network := w.networks[customer]
	in := &ec2.CreateVpcEndpointInput{
		VpcId: &network.ID, VpcEndpointType: types.VpcEndpointTypeInterface, ServiceName: &region.ServiceName,
		SubnetIds: []string{network.Subnets[0].ID}, ClientToken: awssdk.String(rand.Text()), // it may be sent again
	}
	var id string
	err = until(ctx, func() (bool, error) {
		out, err := w.ec2(customer).CreateVpcEndpoint(ctx, in)
		if err != nil {
			return false, err
		}
		id = *out.VpcEndpoint.VpcEndpointId
		return true, nil
	})
	return id, err
}

func (w *world) deleteEndpoint(ctx context.Context, customer, id string) error {
	out, err := w.ec2(customer).DeleteVpcEndpoints(ctx, &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{id}})
	if err == nil && len(out.Unsuccessful) > 0 {
		err = fmt.Errorf("delete %s: %s", id, *out.Unsuccessful[0].Error.Code)
	}
	return err
}

// clientAddress is one of a client in Example Corp's network.
func (w *world) clientAddress() netip.Addr { return w.networks["example-corp"].Host("", 40) }

// until repeats what may fail for a while.
func until(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it did not come true: %w", errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

func startWorld(t *testing.T, automatic bool) *world {
	t.Helper()
	w, err := newWorld(t.Context(), t.TempDir(), automatic)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	return w
}
