package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

// platformPort is where a hosted platform is, whatever leads to it.
const platformPort = "443"

func (a *app) tenantProbe() *cobra.Command {
	var p probe
	cmd := &cobra.Command{
		Use: "probe NAME", Short: "Prove that a network reaches a tenant through an endpoint", Args: takes("NAME"),
		Long: `Probe proves a path: it draws a server name that is good for one proof, connects to the platform with it
from this machine, and waits until the platform has seen it come through an endpoint. Run it in the
network whose path is to be proven. The connection itself is refused, as it should be.

Without --connect it goes where the tenant's privatelink name leads here, so that it proves your DNS as
well. Where this program cannot run, use --by-hand: it prints a command for a machine of that network,
and waits.`,
		Example: `  postern tenant probe example
  postern tenant probe example --connect vpce-0d363d9ea82658bec-e4wo04x9.vpce-svc-0d12345ddd89101112.us-east-1.vpce.amazonaws.com:443
  postern tenant probe example --by-hand --wait-timeout 1h`,
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			return p.run(ctx, s, args[0])
		}),
	}
	cmd.Flags().StringVar(&p.connect, "connect", "", "`ADDRESS:PORT` to connect to (default the privatelink name, port 443)")
	cmd.Flags().StringVar(&p.source, "source", "", "`ADDRESS` of this machine to connect from")
	cmd.Flags().BoolVar(&p.byHand, "by-hand", false, "print how to send it from elsewhere, and wait")
	cmd.Flags().DurationVar(&p.patience, "wait-timeout", 30*time.Second, "how long to wait until it was seen")
	notBoth(cmd, "by-hand", "connect")
	notBoth(cmd, "by-hand", "source")
	also(cmd, p.check)
	return cmd
}

// probe is one proof of a path.
type probe struct {
	connect, source string
	byHand          bool
	patience        time.Duration
}

func (p *probe) check(cmd *cobra.Command) error {
	if p.connect != "" {
		if _, port, err := net.SplitHostPort(p.connect); err != nil || port == "" {
			return usagef(cmd, "--connect %q is not an address with a port, such as 10.0.1.5:443", p.connect)
		}
	}
	if p.source != "" {
		if _, err := netip.ParseAddr(p.source); err != nil {
			return usagef(cmd, "--source %q is not an IP address", p.source)
		}
	}
	return nil
}

func (p *probe) run(ctx context.Context, s session, tenant string) error {
	t, err := within(ctx, s, func(ctx context.Context) (client.Tenant, error) { return s.Tenant(ctx, tenant) })
	if err != nil {
		return err
	}
	drawn, err := within(ctx, s, func(ctx context.Context) (client.Probe, error) { return s.CreateProbe(ctx, tenant) })
	if err != nil {
		return err
	}
	to := p.connect
	if to == "" {
		to = net.JoinHostPort(t.Status.PrivateLinkHostname, platformPort)
	}
	hand := fmt.Sprintf("openssl s_client -connect %s -servername %s </dev/null", to, drawn.ServerName)
	reached := ""
	if p.byHand {
		if err := s.app.note("run this in the network whose path is to be proven; it is refused with a TLS alert, as it should be:"); err != nil {
			return err
		}
		if err := s.app.note("  %s", hand); err != nil {
			return err
		}
	} else if reached, err = p.send(ctx, to, drawn.ServerName, s.app.settings.timeout); err != nil {
		return fmt.Errorf("the probe was not sent to %s: %s; from a machine in the network: %s", to, sendFailure(err), hand)
	}
	seen, err := s.awaitProbe(ctx, drawn, p.patience)
	if err != nil {
		return err
	}
	if seen.VPCEndpointID == "" {
		if reached != "" {
			return fmt.Errorf("the probe was sent to %s, and in %s the platform did not see it come through an endpoint of yours: that address is probably not your endpoint's; see postern dns %s", reached, p.patience, tenant)
		}
		return fmt.Errorf("in %s the platform did not see the probe come through an endpoint of yours", p.patience)
	}
	a := s.app
	return a.print(seen, func() string {
		return clean(fmt.Sprintf("The path through %s to tenant %s is proven.", seen.VPCEndpointID, tenant)) + "\n"
	})
}

// send connects and says hello with the server name. Whatever the other side
// does with that is no matter: it is refused on purpose. It returns the address
// that was reached.
func (p *probe) send(ctx context.Context, to, serverName string, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d net.Dialer
	if p.source != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.IP(netip.MustParseAddr(p.source).AsSlice())}
	}
	conn, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	reached := conn.RemoteAddr().String()
	c := tls.Client(conn, &tls.Config{ServerName: serverName, MinVersion: tls.VersionTLS12})
	if err := c.HandshakeContext(ctx); err != nil && ctx.Err() != nil {
		return "", fmt.Errorf("%s does not answer: %w", reached, ctx.Err())
	}
	return reached, nil
}

// sendFailure says in a few words why a connection did not come about.
func sendFailure(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		return "no answer in time; check the endpoint's security groups and the routes"
	}
	why, _ := reason(err)
	return why
}

// awaitProbe waits until a probe was seen; one that was not has no endpoint.
func (s session) awaitProbe(ctx context.Context, drawn client.Probe, patience time.Duration) (client.Probe, error) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		all, err := within(ctx, s, func(ctx context.Context) ([]client.Probe, error) { return s.Probes(ctx, drawn.Tenant) })
		if err != nil {
			return drawn, err
		}
		for _, p := range all {
			if strings.EqualFold(p.ServerName, drawn.ServerName) && p.VPCEndpointID != "" {
				return p, nil
			}
		}
		select {
		case <-ctx.Done():
			return drawn, ctx.Err()
		case <-deadline.C:
			return drawn, nil
		case <-tick.C:
		}
	}
}
