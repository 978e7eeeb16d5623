package sandbox

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/postern-net/postern/client"
)

// Connected is a tenant that answers through an endpoint.
type Connected struct {
	Organization, Tenant, Network string
	EndpointID, EndpointHost      string // its DNS name
	Address                       netip.Addr
}

// Connect does for every organization what its network engineer would do, as
// far as it is not done yet: prove the account, create an endpoint, claim it
// for all tenants. It calls each when an organization is through.
func (s *Sandbox) Connect(ctx context.Context, each func(Connected)) error {
	st := s.newStory()
	var err error
	if st.catalogue, err = s.admin.Regions(ctx, "", ""); err != nil {
		return err
	}
	for _, c := range customers(s.platform) {
		done, err := st.connect(ctx, c)
		if err != nil {
			return fmt.Errorf("connect %s: %w", c.title, err)
		}
		each(done)
	}
	return nil
}

func (st *story) connect(ctx context.Context, c customer) (Connected, error) {
	p, n := st.person(c.id), c.networks[0]
	out := Connected{Organization: c.id, Tenant: c.tenants[0].Name, Network: n.name}
	if _, err := p.api.Account(ctx, p.account.ID); client.HasCode(err, "not_found") {
		if err := p.prove(ctx); err != nil {
			return out, err
		}
	} else if err != nil {
		return out, err
	}
	ready, err := p.api.Endpoints(ctx, c.id, "ready")
	if err != nil {
		return out, err
	}
	for _, e := range ready {
		if e.Status.ServiceRegion == n.region && len(e.Spec.Tenants) == 0 {
			st.ids[c.id] = e.ID
		}
	}
	if st.ids[c.id] == "" {
		if err := st.create(ctx, p, c.id, n.name, st.offer(n.region)); err != nil {
			return out, err
		}
		if err := st.claimReady(ctx, p, c.id); err != nil {
			return out, err
		}
	}
	if err := st.door(ctx, p, c.id, n.name, n.region); err != nil {
		return out, err
	}
	out.EndpointID, out.Address = st.ids[c.id], st.doors[c.id]
	_, out.EndpointHost, err = p.endpointState(ctx, n.region, out.EndpointID)
	if err != nil {
		return out, err
	}
	return out, until(ctx, func() error { return st.answered(ctx, n.name, c.id, out.Tenant) })
}

// logged waits for a line of the ingress's access log that tells of an
// admitted connection of an endpoint to a host.
func (s *Sandbox) logged(ctx context.Context, endpoint, host string) (line string, err error) {
	err = until(ctx, func() error {
		f, err := os.Open(s.path("access.log"))
		if err != nil {
			return err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if t := lines.Text(); strings.Contains(t, endpoint) && strings.Contains(t, `"`+host+`"`) && strings.Contains(t, `"connection closed"`) {
				line = t
			}
		}
		if line == "" {
			return fmt.Errorf("the access log has no line for %s and %s", endpoint, host)
		}
		return lines.Err()
	})
	return line, err
}

// clientHello is a real ClientHello for a server name, as crypto/tls sends it.
func clientHello(ctx context.Context, serverName string) ([]byte, error) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		defer theirs.Close()
		_ = tls.Client(theirs, &tls.Config{ServerName: serverName, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx) // nobody answers
	}()
	b := make([]byte, 16<<10)
	n, err := ours.Read(b)
	return b[:n], err
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
