package serve

import (
	"fmt"
	"slices"

	"github.com/postern-net/postern/internal/aws"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/hostproof"
)

// resolvConf names the machine's resolvers.
const resolvConf = "/etc/resolv.conf"

// outbound gives the loop what it needs to make data connections: AWS and public
// DNS. Where the networks are gone that there were, it still takes off AWS what
// is to be removed.
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
	c.Texts = hostproof.Resolver{Servers: servers}
	return nil
}

// regions are those that the cloud adapter is asked about.
func (s *Server) regions() []string {
	all := append(s.platform.RegionIDs(), s.platform.Outbound.Regions...)
	slices.Sort(all)
	return slices.Compact(all)
}
