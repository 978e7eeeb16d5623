package serve

import (
	"context"
	"fmt"
	"slices"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/aws"
	"github.com/postern-net/postern/internal/certcheck"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/hostproof"
)

// resolvConf names the machine's resolvers.
const resolvConf = "/etc/resolv.conf"

// outbound gives the loop what it needs to make data connections: AWS, public
// DNS and a look at clusters. Where the networks are gone that there were, it
// still takes off AWS what is to be removed.
func (s *Server) outbound(c *control.Config, cloud *aws.Cloud) error {
	if len(s.platform.Outbound.Regions) == 0 {
		return nil
	}
	c.Outbound = cloud
	if len(s.platform.Outbound.Networks) == 0 {
		return nil
	}
	servers := s.config.DNS.Resolvers
	if len(servers) == 0 {
		var err error
		if servers, err = hostproof.System(resolvConf); err != nil {
			return fmt.Errorf("dns.resolvers are not set, and the machine has none: %w", err)
		}
	}
	checker, err := certcheck.New(s.options.Clusters)
	if err != nil {
		return err
	}
	c.Texts, c.Verifier = hostproof.Resolver{Servers: servers}, verifier{checker}
	return nil
}

// verifier looks at Starburst and Trino, the one kind that there is.
type verifier struct{ *certcheck.Checker }

// Verify is the check of one connection's cluster.
func (v verifier) Verify(ctx context.Context, t control.Target) ([]postern.Finding, error) {
	return v.Check(ctx, certcheck.Target{Hostname: t.Hostname, Addresses: t.Addresses, Ports: t.Ports})
}

// regions are those that the cloud adapter is asked about.
func (s *Server) regions() []string {
	all := append(s.platform.RegionIDs(), s.platform.Outbound.Regions...)
	slices.Sort(all)
	return slices.Compact(all)
}
