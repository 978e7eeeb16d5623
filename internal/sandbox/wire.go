package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/platformfile"
	"github.com/postern-net/postern/internal/serve"
	"github.com/postern-net/postern/internal/strictyaml"
)

// loopback is where the API and the admin listeners are.
var loopback = netip.MustParseAddr("127.0.0.1")

// openControl writes the files that an operator would write for the control
// plane, and runs it from them.
func (s *Sandbox) openControl(ctx context.Context) error {
	api, err := loopbackPort(ctx)
	if err != nil {
		return err
	}
	admin, err := loopbackPort(ctx)
	if err != nil {
		return err
	}
	s.api, s.apiURL, s.adminURL = api, "http://"+api.String(), "http://"+admin.String()
	key := s.places.accounts["platform"].AccessKeys[0]
	c := serve.Config{
		Platform: s.path("platform.yaml"), StateDir: s.path("postern"), Roles: []string{serve.RoleControl, serve.RoleDNS},
		API:      serve.API{Listen: api, AdminTokenFile: s.path("admin.token")},
		Admin:    serve.Admin{Listen: admin},
		AWS:      serve.AWS{EndpointURL: s.aws.EndpointURL(), AccessKeyID: key.ID, SecretAccessKeyFile: s.path("platform.secret")},
		Approval: cmp.Or(s.options.Approval, "policy"), Resync: resync, Settle: settle,
		DNS: serve.DNS{
			Listen: []netip.AddrPort{s.nameserver()}, TTL: time.Second,
			Resolvers: []netip.AddrPort{netip.AddrPortFrom(s.ground.resolver, s.dnsPort)},
		},
		Cutover: serve.Cutover{
			Observe: 4 * time.Second, Window: 10 * time.Second, Clients: 3, Drain: time.Second, NodeSilence: 8 * time.Second,
		},
		Log: serve.Log{Format: "text", Level: "info"}, ShutdownTimeout: shutdownTimeout,
	}
	if s.options.Cutover != nil {
		c.Cutover = *s.options.Cutover
	}
	described, err := platformfile.Marshal(s.platform)
	if err != nil {
		return err
	}
	config, err := strictyaml.Encode(c)
	if err != nil {
		return err
	}
	if err := errors.Join(
		writeFile(s.path("platform.yaml"), described),
		writeFile(s.path("platform.secret"), []byte(key.Secret+"\n")),
		writeFile(s.path("serve.yaml"), config),
	); err != nil {
		return err
	}
	if s.control, err = s.openProcess(ctx, s.path("serve.yaml")); err != nil {
		return err
	}
	s.stops = append(s.stops, s.control.close)
	if err := s.awaitReady(ctx, "the control plane", s.adminURL); err != nil {
		return err
	}
	s.admin, err = s.client(s.path("admin.token"))
	return err
}

// shutdownTimeout keeps a person who stops the sandbox waiting for less than
// two seconds.
const shutdownTimeout = 500 * time.Millisecond

// loopbackPort is a port on which nobody listens, another one with each call.
func loopbackPort(ctx context.Context) (netip.AddrPort, error) {
	port, err := tryPort(ctx, loopback, 0)
	return netip.AddrPortFrom(loopback, port), err
}

// serve runs Postern from a config file, where the options say.
func (s *Sandbox) serve(ctx context.Context, config string) (stop func(), err error) {
	if s.options.Serve != nil {
		return s.options.Serve(ctx, config)
	}
	return s.serveHere(ctx, config)
}

// serveHere runs Postern in this process.
func (s *Sandbox) serveHere(ctx context.Context, config string) (func(), error) {
	c, p, err := serve.LoadConfig(config)
	if err != nil {
		return nil, err
	}
	server := serve.New(c, p, serve.Options{Version: s.options.Version, Logger: s.options.Logger.With("of", "postern"), Clusters: s.lookAtClusters()})
	return server.Stop, server.Start(ctx)
}

// awaitReady waits until a process says that it can do its work.
func (s *Sandbox) awaitReady(ctx context.Context, what, adminURL string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := until(ctx, func() error { return healthy(ctx, adminURL+"/readyz") }); err != nil {
		return fmt.Errorf("%s did not get ready: %w", what, err)
	}
	return nil
}

// populate makes the sandbox's organizations, their tenants and tokens, unless
// an earlier start did.
func (s *Sandbox) populate(ctx context.Context) error {
	for _, c := range customers(s.platform) {
		if err := s.populateOrganization(ctx, c); err != nil {
			return fmt.Errorf("organization %s: %w", c.id, err)
		}
		var err error
		if s.people[c.id], err = s.client(s.tokenFile(c.id)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sandbox) populateOrganization(ctx context.Context, c customer) error {
	_, err := s.admin.CreateOrganization(ctx, client.Organization{ID: c.id, Spec: client.OrganizationSpec{Title: c.title}})
	if err != nil && !client.HasCode(err, "conflict") {
		return err
	}
	for _, t := range c.tenants {
		_, err := s.admin.CreateTenant(ctx, client.Tenant{ID: t.Name, Spec: client.TenantSpec{Organization: c.id, Region: t.Region}})
		if err != nil && !client.HasCode(err, "conflict") {
			return err
		}
	}
	if cluster, ok := s.places.outbound.clusters[c.id]; ok {
		if err := s.makeWorkloadToken(ctx, cluster.tenant); err != nil {
			return err
		}
	}
	return s.makeToken(ctx, s.tokenFile(c.id), client.TokenSpec{Name: c.id + "-network-engineer", Role: "organization-admin", Organization: c.id})
}

// makeToken puts a new token into a file, unless an earlier start did.
func (s *Sandbox) makeToken(ctx context.Context, file string, spec client.TokenSpec) error {
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t, err := s.admin.CreateToken(ctx, spec)
	if err != nil {
		return err
	}
	return writeFile(file, []byte(t.Secret+"\n"))
}
