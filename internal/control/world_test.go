package control_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/aws"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
	"github.com/postern-net/postern/test/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	virginia = "us-east-1"
	oregon   = "us-west-2"
	ireland  = "eu-west-1"
	grace    = 10 * time.Second
)

// world is the stand-in for AWS with a platform of two segments and a
// customer, and a store. Its clock is moved by hand.
type world struct {
	t        *testing.T
	aws      *localaws.Server
	cloud    *aws.Cloud
	platform *postern.Platform
	store    *store.Store
	example  localaws.Account
	// platformAccount is the platform's own.
	platformAccount localaws.Account

	vpc localaws.VPC // Example's, in Virginia
	log *logBuffer

	mu        sync.Mutex
	now       time.Time
	published []postern.Routes
}

// logBuffer is what the loop logged; several goroutines write it.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String is the end of the log.
func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.buf.String()
	return all[max(0, len(all)-4000):]
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Now().UTC().Truncate(time.Second), log: &logBuffer{}}
	pool := localaws.DefaultPool().Addr().As4()
	pool[1] += byte(os.Getpid() % 16) // not the networks of other test processes
	b := localaws.NewBuilder("control", netip.PrefixFrom(netip.AddrFrom4(pool), 16))
	vendor := b.AddAccount("platform")
	w.example = b.AddAccount("example-corp")
	w.platform = &postern.Platform{
		Name: "example", Domains: postern.Domains{Hosted: "hosted.example.com", PrivateLink: "privatelink.example.com"},
		Segments: []postern.Segment{{ID: "na"}, {ID: "eu"}}, Apps: []postern.App{{ID: "govern", Port: 443}},
	}
	target := netip.MustParseAddrPort("127.0.0.1:9")
	var port uint16
	for i, region := range []string{virginia, oregon, ireland} {
		hub := b.AddVPC(vendor.ID, region, "hub")
		if port == 0 {
			port = loopback.MustPort(t, hub.Host("", 4))
		}
		zone := hub.Subnets[0].ZoneID
		lb := b.AddLoadBalancer(hub, "ingress", 5, []string{zone}, localaws.LoadListener{Port: port, Targets: []netip.AddrPort{target}})
		id := localaws.StableServiceID(vendor.ID, region, "postern")
		b.AddEndpointService(localaws.EndpointService{ID: id, Account: vendor.ID, Region: region, LoadBalancers: []string{lb.ARN}, AcceptanceRequired: true})
		s := &w.platform.Segments[i/2]
		s.Regions = append(s.Regions, postern.Region{
			ID: region, ServiceName: "com.amazonaws.vpce." + region + "." + id, AvailabilityZones: []string{zone},
			Backends: map[string][]netip.AddrPort{"govern": {netip.MustParseAddrPort("10.0.0.1:443")}},
		})
	}
	if err := w.platform.Validate(); err != nil {
		t.Fatal(err)
	}
	w.vpc = b.AddVPC(w.example.ID, virginia, "example", w.platform.Segments[0].Regions[0].AvailabilityZones...)
	made, err := b.World()
	if err != nil {
		t.Fatal(err)
	}
	w.start(localaws.Config{World: made, Clock: w.clock, Timing: localaws.Timing{Available: 2 * time.Second, DNS: -1, Delete: time.Second, Linger: 5 * time.Second}}, vendor)
	w.openStore()
	return w
}

func (w *world) start(c localaws.Config, vendor localaws.Account) {
	w.t.Helper()
	w.platformAccount = vendor
	var err error
	if w.aws, err = localaws.New(c); err != nil {
		w.t.Fatal(err)
	}
	if err := w.aws.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.aws.Close)
	if w.cloud, err = aws.New(aws.Config{
		Regions: w.platform.RegionIDs(), EndpointURL: w.aws.EndpointURL(), Attempts: 1,
		Credentials: aws.Credentials{AccessKeyID: vendor.AccessKeys[0].ID, SecretAccessKey: vendor.AccessKeys[0].Secret},
	}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.cloud.Close)
}

// emptyDatabase is a database with its schema: making that is what takes time.
var emptyDatabase = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "postern-test")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "postern.db")
	s, err := store.Open(context.Background(), path)
	if err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func (w *world) openStore() {
	w.t.Helper()
	b, err := emptyDatabase()
	if err != nil {
		w.t.Fatal(err)
	}
	path := filepath.Join(w.t.TempDir(), "postern.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if w.store, err = store.Open(w.t.Context(), path); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = w.store.Close() })
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) publish(r postern.Routes) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.published = append(w.published, r)
}

// routes is what was published last.
func (w *world) routes() postern.Routes {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.published) == 0 {
		return postern.Routes{}
	}
	return w.published[len(w.published)-1]
}

// config is the loop's, with a policy that approves.
func (w *world) config() control.Config {
	return control.Config{
		Platform: w.platform, Store: w.store, Cloud: w.cloud, Rules: plan.Rules{Automatic: true, MissingGrace: grace},
		Resync: time.Minute, Settle: time.Second, Publish: w.publish, Now: w.clock, Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	}
}

// rest runs rounds until nothing is left to do, a second apart.
func (w *world) rest(l *control.Loop) {
	w.t.Helper()
	for range 20 {
		settled, err := l.Round(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if settled {
			return
		}
		w.advance(time.Second)
	}
	w.t.Fatalf("not at rest after 20 rounds; log:\n%s", w.log)
}

func (w *world) update(fn func(*store.Tx) error) {
	w.t.Helper()
	if err := w.store.Update(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) view(fn func(*store.Tx) error) {
	w.t.Helper()
	if err := w.store.View(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// settle stores Example Corp with its account proven and one tenant per
// segment, and lets its principal be allowed.
func (w *world) settle(l *control.Loop) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		_, e1 := tx.CreateOrganization(postern.Organization{ID: "example-corp", CreatedAt: w.clock()})
		_, e2 := tx.CreateTenant(postern.Tenant{Name: "example", Organization: "example-corp", Region: oregon})
		_, e3 := tx.CreateTenant(postern.Tenant{Name: "example-eu", Organization: "example-corp", Region: ireland})
		_, e4 := tx.ProveAccount(postern.Account{ID: w.example.ID, Organization: "example-corp", ProvenAt: w.clock()})
		return errors.Join(e1, e2, e3, e4, tx.AppendEvent(postern.Event{Action: "test"}))
	})
	w.rest(l)
}

func (w *world) customer() *ec2.Client { return w.clientOf(w.example) }

func (w *world) clientOf(a localaws.Account) *ec2.Client {
	k := a.AccessKeys[0]
	return ec2.New(ec2.Options{
		Region: virginia, BaseEndpoint: awssdk.String(w.aws.EndpointURL()), Retryer: awssdk.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(k.ID, k.Secret, ""),
	})
}

// create makes an interface endpoint as the customer does.
func (w *world) create() string {
	w.t.Helper()
	out, err := w.customer().CreateVpcEndpoint(w.t.Context(), &ec2.CreateVpcEndpointInput{
		VpcId: &w.vpc.ID, ServiceName: &w.platform.Segments[0].Regions[0].ServiceName, VpcEndpointType: types.VpcEndpointTypeInterface,
		SubnetIds: []string{w.vpc.Subnets[0].ID},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.VpcEndpoint.VpcEndpointId
}

// drop deletes an endpoint as the customer does.
func (w *world) drop(id string) {
	w.t.Helper()
	if _, err := w.customer().DeleteVpcEndpoints(w.t.Context(), &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{id}}); err != nil {
		w.t.Fatal(err)
	}
}

// claim stores a claim as the API does.
func (w *world) claim(id string) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		_, err := tx.CreateEndpoint(postern.Endpoint{
			ID: id, Organization: "example-corp", ServiceRegion: virginia, Owner: w.example.ID, State: postern.EndpointRequested, CreatedAt: w.clock(),
		})
		return errors.Join(err, tx.AppendEvent(postern.Event{At: w.clock(), Actor: "test", Action: "endpoint.claimed", Subject: id}))
	})
}

// ready makes, claims and settles an endpoint.
func (w *world) ready(l *control.Loop) string {
	w.t.Helper()
	w.settle(l)
	id := w.create()
	w.claim(id)
	w.rest(l)
	if got := w.endpoint(id).State; got != postern.EndpointReady {
		w.t.Fatalf("the endpoint is %s; log:\n%s", got, w.log)
	}
	return id
}

// endpoint reads one; the zero value: it is gone.
func (w *world) endpoint(id string) (e postern.Endpoint) {
	w.t.Helper()
	w.view(func(tx *store.Tx) (err error) {
		e, err = tx.FindEndpoint(id)
		if postern.CodeOf(err) == postern.CodeNotFound {
			return nil
		}
		return err
	})
	return e
}

// connection is the state of an endpoint as the platform sees it at AWS.
func (w *world) connection(id string) postern.ConnectionState {
	w.t.Helper()
	found, err := w.cloud.FindConnections(w.t.Context(), w.platform.Segments[0].Regions[0].Service(), []string{id})
	if err != nil {
		w.t.Fatal(err)
	}
	return found[id].State
}

// allowed lists the regions in whose service Example's principal is allowed.
func (w *world) allowed() (regions []string) {
	w.t.Helper()
	for _, s := range w.platform.Segments {
		for _, r := range s.Regions {
			ps, err := w.cloud.Principals(w.t.Context(), r.Service())
			if err != nil {
				w.t.Fatal(err)
			}
			if slices.Contains(ps, postern.AccountPrincipal(r.ID, w.example.ID)) {
				regions = append(regions, r.ID)
			}
		}
	}
	return regions
}

// actions lists the actions of the events since a sequence number.
func (w *world) actions(after int64) (out []string) {
	w.t.Helper()
	w.view(func(tx *store.Tx) error {
		es, err := tx.ListEvents("", after, 1000)
		for _, e := range es {
			out = append(out, e.Action)
		}
		return err
	})
	return out
}

// removeAccount marks the account and its endpoints as the API does.
func (w *world) removeAccount() {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		a, err := tx.FindAccount(w.example.ID)
		if err != nil {
			return err
		}
		a.State = postern.AccountRemoving
		if _, err := tx.UpdateAccount(a); err != nil {
			return err
		}
		es, err := tx.ListEndpoints("example-corp", "", store.Page{})
		for _, e := range es {
			e.Removing, e.State = true, postern.EndpointRemoving
			if _, err := tx.UpdateEndpoint(e); err != nil {
				return err
			}
		}
		return errors.Join(err, tx.AppendEvent(postern.Event{At: w.clock(), Action: "account.removing"}))
	})
}

func (w *world) fault(f localaws.Fault) {
	w.t.Helper()
	if _, err := w.aws.Faults().Add(f); err != nil {
		w.t.Fatal(err)
	}
}

// running runs the loop until the test, or stop, ends it.
func (w *world) running(l *control.Loop) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}
