package serve

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/postern-net/postern/internal/aws"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/hostproof"
	"github.com/postern-net/postern/internal/store"
)

// resolvConf names the machine's resolvers.
const resolvConf = "/etc/resolv.conf"

// outbound gives the loop what it needs to make data connections: AWS and public
// DNS. Where the regions or networks are gone that there were, it still takes off
// AWS what is to be removed; left are the regions where there may be something.
func (s *Server) outbound(c *control.Config, cloud *aws.Cloud, left []string) error {
	if len(s.platform.Outbound.Regions)+len(left) == 0 {
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

// regions are those that the cloud adapter is asked about: the platform's, and
// those where something is left.
func (s *Server) regions(left []string) []string {
	all := slices.Concat(s.platform.RegionIDs(), s.platform.Outbound.Regions, left)
	slices.Sort(all)
	return slices.Compact(all)
}

// leftIn are the regions of stored data connections and of those that were
// removed, whether or not the platform file still has them. None comes to them
// later: a request names a region of the file.
func (s *Server) leftIn(ctx context.Context) (regions []string, err error) {
	err = s.store.View(ctx, func(tx *store.Tx) error {
		connections, e1 := tx.ListConnections(store.ConnectionFilter{}, store.Page{})
		removed, e2 := tx.ListRemovedConnections()
		for _, c := range connections {
			regions = append(regions, c.Region)
		}
		for _, r := range removed {
			regions = append(regions, r.Region)
		}
		return errors.Join(e1, e2)
	})
	return regions, err
}
