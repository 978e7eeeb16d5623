package sandbox

import (
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

// openPostern writes the files that an operator would write, and runs Postern
// from them.
func (s *Sandbox) openPostern(ctx context.Context) error {
	loopback := netip.MustParseAddr("127.0.0.1")
	apiPort, err := tryPort(ctx, loopback, 0)
	if err != nil {
		return err
	}
	adminPort, err := tryPort(ctx, loopback, 0)
	if err != nil {
		return err
	}
	s.apiURL, s.adminURL = fmt.Sprintf("http://127.0.0.1:%d", apiPort), fmt.Sprintf("http://127.0.0.1:%d", adminPort)
	key := s.places.accounts["platform"].AccessKeys[0]
	c := serve.Config{
		Platform: s.path("platform.yaml"), StateDir: s.path("postern"), Roles: []string{serve.RoleControl, serve.RoleIngress},
		API:      serve.API{Listen: netip.AddrPortFrom(loopback, apiPort), AdminTokenFile: s.path("admin.token")},
		Admin:    serve.Admin{Listen: netip.AddrPortFrom(loopback, adminPort)},
		AWS:      serve.AWS{EndpointURL: s.aws.EndpointURL(), AccessKeyID: key.ID, SecretAccessKeyFile: s.path("platform.secret")},
		Approval: "policy", Resync: resync, Settle: settle, AccessLog: s.path("access.log"),
		Log: serve.Log{Format: "text", Level: "info"}, ShutdownTimeout: 500 * time.Millisecond,
	}
	for _, r := range s.platform.RegionIDs() {
		c.Ingress = append(c.Ingress, serve.Ingress{
			Region:  r,
			Private: netip.AddrPortFrom(s.places.private[r], s.httpsPort),
			Public:  netip.AddrPortFrom(s.places.public[r], s.httpsPort),
		})
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
	start := s.options.Serve
	if start == nil {
		start = s.serveHere
	}
	stop, err := start(ctx, s.path("serve.yaml"))
	if err != nil {
		return err
	}
	s.stops = append(s.stops, stop)
	return s.awaitPostern(ctx)
}

// serveHere runs Postern in this process.
func (s *Sandbox) serveHere(ctx context.Context, config string) (func(), error) {
	c, p, err := serve.LoadConfig(config)
	if err != nil {
		return nil, err
	}
	server := serve.New(c, p, serve.Options{Version: s.options.Version, Logger: s.options.Logger.With("of", "postern")})
	return server.Stop, server.Start(ctx)
}

// awaitPostern waits until Postern says that it can do its work.
func (s *Sandbox) awaitPostern(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := until(ctx, func() error { return healthy(ctx, s.adminURL+"/readyz") }); err != nil {
		return fmt.Errorf("postern did not get ready: %w", err)
	}
	return nil
}

// populate makes the sandbox's organizations, their tenants and tokens, unless
// an earlier start did.
func (s *Sandbox) populate(ctx context.Context) error {
	var err error
	if s.admin, err = s.client(s.path("admin.token")); err != nil {
		return err
	}
	for _, c := range customers(s.platform) {
		if err := s.populateOrganization(ctx, c); err != nil {
			return fmt.Errorf("organization %s: %w", c.id, err)
		}
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
	if _, err := os.Stat(s.tokenFile(c.id)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t, err := s.admin.CreateToken(ctx, client.TokenSpec{Name: c.id + "-network-engineer", Role: "organization-admin", Organization: c.id})
	if err != nil {
		return err
	}
	return writeFile(s.tokenFile(c.id), []byte(t.Secret+"\n"))
}
