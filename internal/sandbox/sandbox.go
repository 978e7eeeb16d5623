package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/sandbox/trino"
	"github.com/postern-net/postern/internal/serve"
)

// Options say how a sandbox runs.
type Options struct {
	StateDir  string            // made if it is not there; a second start continues from it
	Platform  *postern.Platform // as a vendor describes it, without backends
	HTTPSPort *uint16           // nil: 443 or 8443; 0: any
	DNSPort   *uint16           // nil: 53 or 8053; 0: any
	// Pool is where every address of the world is, which this process must be
	// able to listen on: VPCs in its first half, the internet in its second.
	// The zero value stands for loopback addresses.
	Pool    netip.Prefix
	Logger  *slog.Logger
	Version string
	// Serve runs Postern with a config file until the returned stop; nil: in
	// this process. It is called for the control plane (serve.yaml) and each
	// node (node-a.yaml, node-b.yaml).
	Serve func(ctx context.Context, config string) (stop func(), err error)
	// SCIMApp is a server that answers /scim/v2 for every tenant's app, over
	// plain HTTP on this machine; nil: the app's own stand-in.
	SCIMApp *url.URL
	// SCIMACME is where the SCIM doors' certificates come from; nil: files, from
	// the sandbox's own authority.
	SCIMACME *serve.ACME
	// AllowFaults lets calls to the stand-in be broken; for tests.
	AllowFaults bool
	// Approval is the operator's policy of claims, as the config knows it; "":
	// "policy".
	Approval string
	// Cutover replaces the cutovers' timing; nil: quick enough for a person who
	// waits.
	Cutover *serve.Cutover
}

// Sandbox is a running world.
type Sandbox struct {
	options   Options
	dir       string
	Notes     []string // what a person should know, such as another port
	platform  *postern.Platform
	ground    ground
	places    places
	authority *authority
	httpsPort uint16
	dnsPort   uint16
	resync    time.Duration
	api       netip.AddrPort // where Postern's API listens
	apiURL    string
	adminURL  string
	aws       *localaws.Server
	nodes     map[string]*node
	egress    *node
	clusters  map[string]*trino.Cluster // by organization
	switches  map[string]string         // URL, likewise
	admin     *client.Client
	people    map[string]*client.Client // by organization
	control   *process
	scim      scimApp
	stops     []func()
	stopOnce  sync.Once
}

// Timing of the sandbox's loop: quick enough for a person who waits.
const (
	resync = time.Second
	settle = 200 * time.Millisecond
)

// Start opens the world: files, stand-in, apps, Postern, organizations, and
// sandbox.json last. It opens everything or nothing.
func Start(ctx context.Context, o Options) (*Sandbox, error) {
	g, err := groundOf(o.Pool, o.Platform)
	if err != nil {
		return nil, err
	}
	s := &Sandbox{options: o, dir: o.StateDir, ground: g, resync: resync, people: map[string]*client.Client{}, nodes: map[string]*node{}}
	for _, open := range []func(context.Context) error{s.lay, s.openAWS, s.openApps, s.openClusters, s.openControl, s.openNodes, s.openEgress, s.populate, s.describe} {
		if err := open(ctx); err != nil {
			s.Stop()
			return nil, err
		}
	}
	return s, nil
}

// Stop ends everything, the last opened first. It may be called twice.
func (s *Sandbox) Stop() {
	s.stopOnce.Do(func() {
		for _, stop := range slices.Backward(s.stops) {
			stop()
		}
	})
}

func (s *Sandbox) path(name string) string { return filepath.Join(s.dir, name) }

// lay makes the directory, the ports, the world and the files that describe it.
func (s *Sandbox) lay(ctx context.Context) error {
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		return err
	}
	s.dir = dir
	for _, d := range []string{dir, filepath.Join(dir, "tokens")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("the state directory: %w", err)
		}
	}
	lock, err := serve.LockDir(dir)
	if err != nil {
		return err
	}
	s.stops = append(s.stops, func() { _ = lock.Close() }) // nothing was written to it
	note := ""
	if s.httpsPort, note, err = choosePort(ctx, "--https-port", s.options.HTTPSPort, defaultHTTPS, otherHTTPS, s.ground.ingress.Next()); err != nil {
		return err
	}
	s.note(note)
	if s.dnsPort, note, err = choosePort(ctx, "--dns-port", s.options.DNSPort, defaultDNS, otherDNS, s.ground.resolver); err != nil {
		return err
	}
	s.note(note)
	seed, err := s.seed()
	if err != nil {
		return err
	}
	if s.places, err = layOut(s.options.Platform, seed, s.ground, s.httpsPort); err != nil {
		return err
	}
	s.platform = s.places.platform
	if s.authority, err = openAuthority(s.path("ca.pem"), s.path("ca.key")); err != nil {
		return err
	}
	return s.places.world.Write(s.path("world.yaml"))
}

func (s *Sandbox) note(text string) {
	if text != "" {
		s.Notes = append(s.Notes, text)
	}
}

// seed makes the secrets of this sandbox's access keys; it is drawn once.
func (s *Sandbox) seed() (string, error) {
	b, err := os.ReadFile(s.path("seed"))
	if errors.Is(err, fs.ErrNotExist) {
		b = []byte(rand.Text())
		err = writeFile(s.path("seed"), b)
	}
	return strings.TrimSpace(string(b)), err
}

func (s *Sandbox) openAWS(ctx context.Context) error {
	server, err := localaws.New(localaws.Config{
		World: s.places.world, Listen: netip.AddrPortFrom(s.ground.aws, 0).String(), StatePath: s.path("localaws.json"), AllowFaults: s.options.AllowFaults,
		DNS:    localaws.DNS{Port: s.dnsPort, Public: s.ground.resolver, Zones: s.zones()},
		Logger: s.options.Logger.With("of", "localaws"),
	})
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	s.aws = server
	s.stops = append(s.stops, server.Close)
	return nil
}

// zones are the platform's public zones, and where they are served.
func (s *Sandbox) zones() map[string]netip.AddrPort {
	out := map[string]netip.AddrPort{}
	for _, apex := range []string{s.platform.Domains.Hosted, s.platform.Domains.PrivateLink, s.platform.Domains.SCIM} {
		if apex != "" {
			out[apex] = s.nameserver()
		}
	}
	return out
}

// AWS is the stand-in, for tests that break its calls.
func (s *Sandbox) AWS() *localaws.Server { return s.aws }

// File describes the running sandbox.
func (s *Sandbox) File() File {
	f := File{
		API:    FileAPI{URL: s.apiURL, AdminURL: s.adminURL, AdminTokenFile: s.path("admin.token"), Tokens: map[string]string{}},
		AWS:    FileAWS{EndpointURL: s.aws.EndpointURL(), Accounts: map[string]FileAccount{}},
		CAFile: s.path("ca.pem"), HTTPSPort: s.httpsPort, DNSPort: s.dnsPort, AccessLog: s.path("access.log"),
		Resolvers: map[string]netip.Addr{"public": s.ground.resolver},
		Sources:   map[string]netip.Addr{"internet": s.ground.client},
		Ingress:   FileIngress{Private: s.places.private, Public: s.places.public, SCIM: s.places.scim},
		Nodes:     map[string]FileNode{},
		Hosts:     map[string]any{},
		Egress:    s.fileEgress(),
		Trino:     s.fileTrino(),
	}
	scim := map[string]string{}
	for id, at := range s.places.nodes {
		f.Nodes[id] = FileNode{Private: at.private, Public: at.public, AdminURL: s.nodes[id].adminURL, TokenFile: s.tokenFile(id)}
	}
	for name, a := range s.places.accounts {
		k := a.AccessKeys[0]
		f.AWS.Accounts[name] = FileAccount{ID: a.ID, AccessKeyID: k.ID, SecretAccessKey: k.Secret}
	}
	for name, v := range s.places.networks {
		f.Resolvers[name], f.Sources[name] = v.Resolver(), s.places.source(name)
	}
	for _, c := range customers(s.platform) {
		f.API.Tokens[c.id] = s.tokenFile(c.id)
		for _, t := range c.tenants {
			f.Hosts[t.Name] = s.platform.Host(t.Name)
			if s.platform.Domains.SCIM != "" {
				scim[t.Name] = s.platform.SCIMHost(t.Name)
			}
		}
	}
	f.Hosts["scim"] = scim // no tenant can have that name
	for _, a := range sharedApps(s.platform) {
		f.Hosts[a.ID] = a.Hosts
	}
	return f
}

func (s *Sandbox) describe(context.Context) error { return s.File().write(s.dir) }

// tokenFile is where the token of an organization's admin, or of a node, is.
func (s *Sandbox) tokenFile(name string) string {
	return filepath.Join(s.dir, "tokens", name+".token")
}

// nameserver is where the platform's public zones are served.
func (s *Sandbox) nameserver() netip.AddrPort {
	return netip.AddrPortFrom(s.ground.nameserver, s.dnsPort)
}

// person is an organization's network engineer.
func (s *Sandbox) person(organization string) person {
	return person{organization: organization, api: s.people[organization], account: s.places.accounts[organization], awsURL: s.aws.EndpointURL()}
}

// visitor is a client in a network, or on the internet.
func (s *Sandbox) visitor(network string) visitor {
	v := visitor{source: s.ground.client, resolver: netip.AddrPortFrom(s.ground.resolver, s.dnsPort), roots: s.authority.pool()}
	if vpc, ok := s.places.networks[network]; ok {
		v.source, v.resolver = s.places.source(network), netip.AddrPortFrom(vpc.Resolver(), s.dnsPort)
	}
	return v
}

// rounds waits until the loop has looked at AWS a few times more.
func (s *Sandbox) rounds(ctx context.Context, n int) error {
	for range n {
		if _, err := s.admin.Plan(ctx); err != nil {
			return err
		}
		timer := time.NewTimer(s.resync)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
	return nil
}

// client makes an API client with the token in a file.
func (s *Sandbox) client(tokenFile string) (*client.Client, error) {
	b, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, err
	}
	c, err := client.New(s.apiURL, client.Options{Token: strings.TrimSpace(string(b))})
	if err == nil {
		s.stops = append(s.stops, c.Close)
	}
	return c, err
}

func healthy(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	asker := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := asker.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
