package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

func (a *app) connections() *cobra.Command {
	return group("connections", "Let a tenant's workloads reach your clusters privately",
		`A data connection lets the platform's workloads of one tenant reach one of your clusters, such as Starburst
(Trino), over AWS PrivateLink and in no other way. You put an endpoint service in front of the cluster;
the platform makes an endpoint to it. Before it does, it wants to know two things: that the hostname is
yours, by a TXT record, and that the service is, by its AWS account (postern account prove). You then
accept the endpoint, and the platform looks at the cluster's certificate through it, now and always.

The service must require acceptance, be in an Availability Zone that "postern connections regions" lists,
and admit the principal that it names. The cluster must speak TLS with a publicly trusted certificate for
the hostname.`,
		`  postern connections regions
  postern connections create --tenant example --region us-east-1 --zone-id use1-az4 \
      --service com.amazonaws.vpce.us-east-1.vpce-svc-0471015b106ad1d47 \
      --hostname starburst.example.com --port 443 --wait
  postern connections show starburst.example.com`,
		a.connectionsCreate(), a.connectionsList(), a.connectionsShow(), a.connectionsVerify(), a.connectionsDelete(), a.connectionsRegions())
}

func (a *app) connectionsCreate() *cobra.Command {
	var spec client.DataConnectionSpec
	var dryRun, wait bool
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "create --tenant NAME --region REGION --zone-id ID… --service SERVICE --hostname NAME --port PORT…",
		Short: "Ask for a connection to a cluster", Args: takes(),
		Long: `Create asks for a data connection. Everything that is wrong with the request is told at once, each problem
with its reason in brackets (docs/outbound.md), and nothing is created then.

With --dry-run nothing is created either: the platform looks at your service, and the command prints what
it found, the record that proves the hostname, and what would be done.

When you have published the record, say so with "postern connections verify". Public DNS is not asked for
it before, but every few minutes: resolvers remember for a while that there was none.

With --wait the command tells what the connection waits for, and ends when it is ready, with status 0, or
when it cannot become so as it is.`,
		Example: `  postern connections create --tenant example --region us-east-1 --zone-id use1-az2 --zone-id use1-az4 \
      --service vpce-svc-0471015b106ad1d47 --hostname starburst.example.com --port 443
  postern connections create … --dry-run
  postern connections create … --wait`,
		RunE: a.online(func(ctx context.Context, s session, _ []string) error {
			result, err := within(ctx, s, func(ctx context.Context) (client.DataConnectionResult, error) {
				return s.CreateDataConnection(ctx, spec, dryRun)
			})
			if err != nil {
				return err
			}
			if dryRun || !wait {
				return a.print(result, func() string { return requestedText(result) })
			}
			w := connectionWatch{session: s, patience: patience}
			last, waitErr := w.follow(ctx, result.Connection)
			if err := a.print(last, func() string { return connectionText(last) }); err != nil {
				return err
			}
			return waitErr
		}),
	}
	f := cmd.Flags()
	f.StringVar(&spec.Tenant, "tenant", "", "`NAME` of the tenant whose workloads are to reach it")
	f.StringVar(&spec.Region, "region", "", "AWS `REGION` of the endpoint service")
	f.StringArrayVar(&spec.AvailabilityZones, "zone-id", nil, "`ID` of an Availability Zone of the service's load balancer, such as use1-az4; may be given several times")
	f.StringVar(&spec.ServiceName, "service", "", "`NAME` or ID of the endpoint service")
	f.StringVar(&spec.Hostname, "hostname", "", "`NAME` of the cluster, which its certificate is for")
	f.IntSliceVar(&spec.Ports, "port", nil, "TCP `PORT` of the cluster; may be given several times")
	f.StringVar(&spec.Kind, "kind", "", "`KIND` of cluster; left out: starburst-trino")
	f.StringVar(&spec.Protocol, "protocol", "", "tcp, which is the only one")
	f.StringVar(&spec.IPAddressType, "ip-address-type", "", "ipv4, which is the only one")
	f.BoolVar(&dryRun, "dry-run", false, "change nothing; look, and print what would be done")
	f.BoolVar(&wait, "wait", false, "follow the connection until it is ready")
	f.DurationVar(&patience, "wait-timeout", 30*time.Minute, "how long to wait")
	notBoth(cmd, "dry-run", "wait")
	return cmd
}

func (a *app) connectionsList() *cobra.Command {
	var tenant, state string
	cmd := &cobra.Command{
		Use: "list", Short: "List data connections", Args: takes(),
		Long: `List prints the data connections of an organization, or all that the token sees.

States: requested (the hostname is not proven yet), awaiting-authorization (the service does not admit the
platform's principal, or its account is not proven), provisioning, pending-acceptance (accept the endpoint
on your service), verifying, ready, degraded (it was ready, and workloads are refused), failed (it goes no
further until what "show" names is mended), removing.`,
		Example: "  postern connections list\n  postern connections list --tenant example --state degraded",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			cs, err := s.DataConnections(ctx, client.DataConnectionFilter{Organization: a.askedOrganization(), Tenant: tenant, State: state})
			if err != nil {
				return err
			}
			return printList(a, cs, "no data connection", []string{"CONNECTION", "TENANT", "HOSTNAME", "PORTS", "REGION", "STATE"}, func(c client.DataConnection) []string {
				return []string{c.ID, c.Spec.Tenant, c.Spec.Hostname, portsOf(c), c.Spec.Region, c.Status.State}
			})
		}),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "only those of the tenant of this `NAME`")
	cmd.Flags().StringVar(&state, "state", "", "only those in this `STATE`")
	return cmd
}

func (a *app) connectionsShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CONNECTION", Short: "Show a data connection and what it waits for", Args: takes("CONNECTION"),
		Long: `Show prints a data connection, by its ID or hostname, with its conditions: the first that is not True is
the one to mend, and its message says how.`,
		Example: "  postern connections show starburst.example.com\n  postern connections show dc_2f6c1b7d9a0e4c35",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			c, err := s.dataConnection(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(c, func() string { return connectionText(c) })
		}),
	}
}

func (a *app) connectionsVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify CONNECTION", Short: "Look at DNS, the service and the cluster now", Args: takes("CONNECTION"),
		Long: `Verify has the platform look now at what the connection waits for: the TXT record of its hostname, the
endpoint service, or the cluster and its certificate through the endpoint. It is looked at again and again
anyway; this is for whoever has just mended something. The command prints the connection as it is
afterwards. Exit status 0 means that it is ready.`,
		Example: "  postern connections verify starburst.example.com",
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			c, err := within(ctx, s, func(ctx context.Context) (client.DataConnection, error) {
				c, err := s.dataConnection(ctx, args[0])
				if err != nil {
					return c, err
				}
				return s.VerifyDataConnection(ctx, c.ID)
			})
			if err != nil {
				return err
			}
			w := connectionWatch{session: s, patience: verifyPatience}
			if c, err = w.verified(ctx, c); err != nil {
				return err
			}
			if err := a.print(c, func() string { return connectionText(c) }); err != nil || c.Status.State == stateReady {
				return err
			}
			return fmt.Errorf("%s is %s: %s", c.Spec.Hostname, c.Status.State, connectionWaits(c))
		}),
	}
}

func (a *app) connectionsDelete() *cobra.Command {
	var yes, wait bool
	var patience time.Duration
	cmd := &cobra.Command{
		Use: "delete CONNECTION", Short: "Take a data connection away", Args: takes("CONNECTION"),
		Long: `Delete takes the connection's route away at once, so that no workload reaches the cluster any more; then
its endpoint and security group are deleted at AWS. If it is ready, you are asked first. With --wait the
command ends when nothing is left.`,
		Example: "  postern connections delete starburst.example.com\n  postern connections delete starburst.example.com --yes --wait",
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			c, err := within(ctx, s, func(ctx context.Context) (client.DataConnection, error) { return s.dataConnection(ctx, args[0]) })
			if err != nil {
				return err
			}
			if c.Status.State == stateReady {
				if err := a.confirm(yes, fmt.Sprintf("workloads of tenant %s reach %s, which ends", c.Spec.Tenant, c.Spec.Hostname)); err != nil {
					return err
				}
			}
			if _, err = within(ctx, s, func(ctx context.Context) (any, error) { return nil, s.DeleteDataConnection(ctx, c.ID) }); err != nil {
				return err
			}
			if !wait {
				return a.done("data connection %s is being removed", c.ID)
			}
			w := connectionWatch{session: s, patience: patience}
			if err := w.gone(ctx, c); err != nil {
				return err
			}
			return a.done("data connection %s is gone, and nothing of it is left at AWS", c.ID)
		}),
	}
	yesFlag(cmd, &yes)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until nothing of it is left")
	cmd.Flags().DurationVar(&patience, "wait-timeout", 30*time.Minute, "how long to wait")
	return cmd
}

func (a *app) connectionsRegions() *cobra.Command {
	return &cobra.Command{
		Use: "regions", Short: "List where data connections can be made, and the principal to authorize", Args: takes(),
		Long: `Regions lists the regions in which the platform makes data connections, with the Availability Zone IDs of
which your service must be in one at least, and the principal to add to the service's allowed principals.
A region without zones is not set up yet: ask the vendor.`,
		Example: "  postern connections regions",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			rs, err := s.OutboundRegions(ctx)
			if err != nil {
				return err
			}
			return printList(a, rs, "this platform makes no data connections", []string{"REGION", "ZONE IDS", "PRINCIPAL"}, func(r client.OutboundRegion) []string {
				return []string{r.Region, comma(r.AvailabilityZones), r.PrincipalARN}
			})
		}),
	}
}

// dataConnection finds one by its ID or its hostname.
func (s session) dataConnection(ctx context.Context, name string) (client.DataConnection, error) {
	if !strings.Contains(name, ".") {
		return s.DataConnection(ctx, name)
	}
	all, err := s.DataConnections(ctx, client.DataConnectionFilter{Organization: s.app.askedOrganization(), Hostname: name})
	switch {
	case err != nil:
		return client.DataConnection{}, err
	case len(all) == 0:
		return client.DataConnection{}, fmt.Errorf("no data connection to %s; see postern connections list", name)
	case len(all) > 1:
		return client.DataConnection{}, fmt.Errorf("%d organizations asked for %s: give the connection's ID, or --organization", len(all), name)
	}
	return all[0], nil
}

func requestedText(r client.DataConnectionResult) string {
	s := connectionText(r.Connection)
	switch {
	case r.DryRun && len(r.Actions) == 0:
		return s + "\nNothing was changed. Nothing would be done at AWS yet: see the first condition that is not True.\n"
	case r.DryRun:
		return s + "\nNothing was changed. Once the hostname is proven, at AWS would be done:\n\n" + actionTable(r.Actions)
	}
	return s + "\nAsked for. Publish the proof of the hostname, then: postern connections verify " + r.Connection.Spec.Hostname + "\n"
}

func connectionText(c client.DataConnection) string {
	st := c.Status
	var b block
	b.add("Connection", c.ID)
	b.add("Organization", st.Organization)
	b.add("Tenant", c.Spec.Tenant)
	b.add("Kind", c.Spec.Kind)
	b.add("State", st.State)
	b.add("Hostname", c.Spec.Hostname)
	b.add("Ports", portsOf(c))
	b.add("Region", c.Spec.Region)
	b.add("Zone IDs", comma(c.Spec.AvailabilityZones))
	b.add("Service", c.Spec.ServiceName)
	b.add("Service's account", st.ServiceOwner)
	b.add("Principal", st.PrincipalARN)
	b.add("Proof of hostname", st.Challenge.Name+` TXT "`+st.Challenge.Value+`"`)
	b.add("Endpoint", st.EndpointID)
	b.add("Created", at(c.CreatedAt))
	b.add("Looked at", at(st.CheckedAt))
	return b.text() + conditions(st.Conditions)
}

func portsOf(c client.DataConnection) string {
	ports := make([]string, len(c.Spec.Ports))
	for i, p := range c.Spec.Ports {
		ports[i] = strconv.Itoa(p)
	}
	return comma(ports)
}
