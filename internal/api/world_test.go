package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/api"
	"github.com/postern-net/postern/internal/aws"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/nodelink"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
	"github.com/postern-net/postern/test/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	virginia = "us-east-1"
	oregon   = "us-west-2"
	ireland  = "eu-west-1"
)

// world is an API over a store, a loop and the stand-in for AWS, with two
// customers. Example Corp has tenants in both segments, Globex in one; the
// accounts of both are proven. Every token is named as its key in tokens.
type world struct {
	t        *testing.T
	aws      *localaws.Server
	cloud    *aws.Cloud
	platform *postern.Platform
	store    *store.Store
	loop     *control.Loop
	hub      *nodelink.Hub
	api      *api.Server
	config   api.Config
	log      *logBuffer
	secrets  []string // must not be in the log
	customer map[string]localaws.Account
	vpcs     map[string]localaws.VPC       // of a customer, in Virginia and Ireland
	clusters map[string]postern.ServiceRef // of a customer, in Virginia: the service in front of its cluster
	texts    map[string][]string           // what public DNS says

	mu    sync.Mutex
	now   time.Time
	asked int // public DNS
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// The tokens' secrets, by the name of the token.
var tokens = map[string]postern.Token{
	"admin":    {Role: postern.RoleAdmin},
	"operator": {Role: postern.RoleOperator},
	"example":  {Role: postern.RoleOrgAdmin, Organization: "example-corp"},
	"viewer":   {Role: postern.RoleOrgView, Organization: "example-corp"},
	"globex":   {Role: postern.RoleOrgAdmin, Organization: "globex"},
	"node":     {Role: postern.RoleNode},
	"workload": {Role: postern.RoleWorkload, Organization: "example-corp", Tenant: "example"},
}

func secretOf(token string) string { return "postern_secret-of-" + token }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, now: time.Now().UTC().Truncate(time.Second), log: &logBuffer{}, hub: nodelink.NewHub(), customer: map[string]localaws.Account{}, vpcs: map[string]localaws.VPC{},
		clusters: map[string]postern.ServiceRef{}, texts: map[string][]string{},
	}
	w.startAWS()
	w.openStore()
	logger := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	rules := plan.Rules{Automatic: true, MissingGrace: 10 * time.Second}
	w.loop = control.New(control.Config{
		Platform: w.platform, Store: w.store, Cloud: w.cloud, Rules: rules, Resync: time.Minute, Settle: time.Second,
		Publish: w.hub.Publish, Now: w.clock, Logger: logger, Outbound: w.cloud, Texts: w,
	})
	w.config = api.Config{
		Platform: w.platform, Store: w.store, Cloud: w.cloud, Loop: w.loop, Hub: w.hub, Rules: rules, Now: w.clock, Logger: logger, Version: "v1",
	}
	w.api = api.New(w.config)
	w.seed()
	w.rest()
	t.Cleanup(func() {
		for _, s := range w.secrets {
			if strings.Contains(w.log.String(), s) {
				t.Errorf("the log holds the secret %q", s)
			}
		}
	})
	return w
}

// startAWS makes a platform of three regions in two segments.
func (w *world) startAWS() {
	t := w.t
	pool := localaws.DefaultPool().Addr().As4()
	pool[1] += byte(os.Getpid() % 16) // not the networks of other test processes
	b := localaws.NewBuilder("api", netip.PrefixFrom(netip.AddrFrom4(pool), 16))
	vendor := b.AddAccount("platform")
	for _, name := range []string{"example-corp", "globex", "stranger"} {
		w.customer[name] = b.AddAccount(name)
		w.secrets = append(w.secrets, w.customer[name].AccessKeys[0].Secret)
	}
	w.platform = &postern.Platform{
		Name: "example", Domains: postern.Domains{Hosted: "hosted.example.com", PrivateLink: "privatelink.example.com"},
		Segments: []postern.Segment{{ID: "na"}, {ID: "eu"}}, Apps: []postern.App{{ID: "govern", Port: 443}},
	}
	var port uint16
	for i, region := range []string{virginia, oregon, ireland} {
		hub := b.AddVPC(vendor.ID, region, "hub")
		if port == 0 {
			port = loopback.MustPort(t, hub.Host("", 4))
		}
		zone := hub.Subnets[0].ZoneID
		lb := b.AddLoadBalancer(hub, "ingress", 5, []string{zone}, localaws.LoadListener{Port: port, Targets: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}})
		id := localaws.StableServiceID(vendor.ID, region, "postern")
		b.AddEndpointService(localaws.EndpointService{ID: id, Account: vendor.ID, Region: region, LoadBalancers: []string{lb.ARN}, AcceptanceRequired: true})
		s := &w.platform.Segments[i/2]
		s.Regions = append(s.Regions, postern.Region{ID: region, Title: region, ServiceName: "com.amazonaws.vpce." + region + "." + id, AvailabilityZones: []string{zone}})
		for _, name := range []string{"example-corp", "globex"} {
			w.vpcs[name+region] = b.AddVPC(w.customer[name].ID, region, name, zone)
		}
	}
	w.addClusters(b, vendor.ID, port)
	made, err := b.World()
	if err != nil {
		t.Fatal(err)
	}
	if w.aws, err = localaws.New(localaws.Config{World: made, Clock: w.clock, Timing: localaws.Timing{Available: time.Second, DNS: -1, Delete: time.Second}}); err != nil {
		t.Fatal(err)
	}
	if err := w.aws.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.aws.Close)
	if w.cloud, err = aws.New(aws.Config{
		Regions: w.platform.RegionIDs(), EndpointURL: w.aws.EndpointURL(), Attempts: 1, Clock: w.clock,
		Credentials: aws.Credentials{AccessKeyID: vendor.AccessKeys[0].ID, SecretAccessKey: vendor.AccessKeys[0].Secret},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.cloud.Close)
}

// addClusters puts a network of the platform into Virginia, and an endpoint
// service in front of each customer's cluster.
func (w *world) addClusters(b *localaws.Builder, vendor string, port uint16) {
	out := b.AddVPC(vendor, virginia, "outbound", "use1-az2", "use1-az4")
	network := postern.OutboundNetwork{Region: virginia, VPC: out.ID, EgressGroup: out.DefaultSecurityGroup}
	for _, s := range out.Subnets {
		network.Subnets = append(network.Subnets, postern.OutboundSubnet{ID: s.ID, Zone: s.ZoneID})
	}
	w.platform.Outbound = postern.Outbound{
		Regions: []string{virginia, oregon}, Principal: "arn:aws:iam::" + vendor + ":root", Networks: []postern.OutboundNetwork{network},
	}
	for _, name := range []string{"example-corp", "globex"} {
		v := b.AddVPC(w.customer[name].ID, virginia, name+"-trino", "use1-az2")
		lb := b.AddLoadBalancer(v, "trino", 5, []string{"use1-az2"}, localaws.LoadListener{Port: port, Targets: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}})
		s := localaws.EndpointService{
			ID: localaws.StableServiceID(w.customer[name].ID, virginia, "trino"), Account: w.customer[name].ID, Region: virginia,
			LoadBalancers: []string{lb.ARN}, AcceptanceRequired: true, AllowedPrincipals: []string{w.platform.Outbound.Principal},
		}
		b.AddEndpointService(s)
		w.clusters[name] = postern.ServiceRef{Region: virginia, ID: s.ID, Name: s.ServiceName()}
	}
}

// Texts is what public DNS says.
func (w *world) Texts(_ context.Context, name string) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	return w.texts[name], nil
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

func (w *world) seed() {
	w.update(func(tx *store.Tx) error {
		var errs []error
		for _, id := range []string{"example-corp", "globex"} {
			_, err := tx.CreateOrganization(postern.Organization{ID: id, Title: id, CreatedAt: w.clock()})
			_, err2 := tx.ProveAccount(postern.Account{ID: w.customer[id].ID, Organization: id, PrincipalARN: "arn:aws:iam::" + w.customer[id].ID + ":root", ProvenAt: w.clock()})
			errs = append(errs, err, err2)
		}
		for name, where := range map[string][2]string{
			"example": {"example-corp", virginia}, "example-eu": {"example-corp", ireland}, "globex": {"globex", oregon},
		} {
			_, err := tx.CreateTenant(postern.Tenant{Name: name, Organization: where[0], Region: where[1], CreatedAt: w.clock()})
			errs = append(errs, err)
		}
		for name, v := range tokens {
			v.ID, v.Name, v.CreatedAt = "tok_"+name, name, w.clock()
			hash := sha256.Sum256([]byte(secretOf(name)))
			_, err := tx.CreateToken(v, hash[:])
			errs = append(errs, err)
			w.secrets = append(w.secrets, secretOf(name))
		}
		return errors.Join(errs...)
	})
}

func (w *world) update(fn func(*store.Tx) error) {
	w.t.Helper()
	if err := w.store.Update(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// rest runs rounds of the loop until nothing is left to do.
func (w *world) rest() {
	w.t.Helper()
	for range 20 {
		settled, err := w.loop.Round(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if settled {
			return
		}
		w.advance(time.Second)
	}
	w.t.Fatal("the loop does not come to rest")
}

// create makes an interface endpoint as a customer does.
func (w *world) create(customer, region string) string {
	w.t.Helper()
	k := w.customer[customer].AccessKeys[0]
	c := ec2.New(ec2.Options{
		Region: region, BaseEndpoint: awssdk.String(w.aws.EndpointURL()), Retryer: awssdk.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(k.ID, k.Secret, ""),
	})
	r, _, _ := w.platform.Region(region)
	v := w.vpcs[customer+region]
	out, err := c.CreateVpcEndpoint(w.t.Context(), &ec2.CreateVpcEndpointInput{
		VpcId: &v.ID, ServiceName: &r.ServiceName, VpcEndpointType: types.VpcEndpointTypeInterface, SubnetIds: []string{v.Subnets[0].ID},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.VpcEndpoint.VpcEndpointId
}

// answer is what the API said.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) decode(t *testing.T, out any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), out); err != nil {
		t.Fatalf("status %d, body %s: %v", a.status, a.body, err)
	}
}

func (a answer) problem(t *testing.T) (p client.Problem) {
	t.Helper()
	a.decode(t, &p)
	return p
}

// send sends a request with a token (by name; "": none). Headers are given as
// "Name: value".
func (w *world) send(token, method, path string, body any, headers ...string) answer {
	w.t.Helper()
	return w.sendTo(w.t.Context(), w.api, token, method, path, body, headers...)
}

func (w *world) sendTo(ctx context.Context, h http.Handler, token, method, path string, body any, headers ...string) answer {
	w.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			w.t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	r := httptest.NewRequestWithContext(ctx, method, path, in)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+secretOf(token))
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return answer{status: rec.Code, header: rec.Header(), body: rec.Body.String()}
}

// must is send for a request that has to succeed; it decodes the answer.
func must[T any](w *world, token, method, path string, body any, headers ...string) (out T) {
	w.t.Helper()
	a := w.send(token, method, path, body, headers...)
	if a.status >= 300 {
		w.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	if a.status != http.StatusNoContent {
		a.decode(w.t, &out)
	}
	return out
}

// refused checks that a request fails with a status and a code, and returns
// the problem.
func (w *world) refused(status int, code, token, method, path string, body any, headers ...string) client.Problem {
	w.t.Helper()
	a := w.send(token, method, path, body, headers...)
	p := a.problem(w.t)
	if a.status != status || p.Status != status || p.Type != "urn:postern:problem:"+code || a.header.Get("Content-Type") != "application/problem+json" {
		w.t.Errorf("%s %s: %d %s %s; want %d, %s", method, path, a.status, a.header.Get("Content-Type"), a.body, status, code)
	}
	if p.Title == "" || p.Detail == "" || p.RequestID == "" || p.RequestID != a.header.Get("X-Request-Id") || len(p.Errors) == 0 {
		w.t.Errorf("%s %s: the problem is incomplete: %s", method, path, a.body)
	}
	return p
}

// claim is the body of a claim.
func claim(organization string, endpoints []string, tenants ...string) client.Claim {
	return client.Claim{Organization: organization, VPCEndpointIDs: endpoints, Tenants: tenants}
}

// events lists the actions of everything that was recorded.
func (w *world) events() (out []string) {
	w.t.Helper()
	for _, e := range must[client.Page[client.Event]](w, "admin", "GET", "/v1/events?page_size=1000", nil).Items {
		out = append(out, e.Action)
	}
	return out
}
