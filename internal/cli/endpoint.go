package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

// The states of an endpoint, and of a data connection, that a command decides by.
const (
	stateRequested = "requested"
	stateReady     = "ready"
	stateRemoving  = "removing"
)

func (a *app) endpoint() *cobra.Command {
	return group("endpoint", "Claim VPC endpoints and look at them",
		`An endpoint is an interface VPC endpoint in your AWS account that is connected to one of the platform's
endpoint services. Claiming it says which tenants it is for. Until it is claimed, approved and
accepted, no byte passes; afterwards it reaches its tenants and nothing else.`,
		"  postern endpoint claim vpce-0d363d9ea82658bec --tenant example --wait\n  postern endpoint show vpce-0d363d9ea82658bec",
		a.endpointClaim(), a.endpointList(), a.endpointShow(), a.endpointUpdate(), a.endpointApprove(), a.endpointRemove(), a.endpointUnclaimed())
}

func (a *app) endpointList() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use: "list", Short: "List claimed endpoints", Args: takes(),
		Long: `List prints the claimed endpoints of an organization, or all that the token sees.

States: requested (waits for an operator), pending-acceptance (AWS is about to be told), pending (AWS is
connecting it), ready (bytes pass), rejected, disconnected, expired, failed (a new endpoint is needed),
removing.`,
		Example: "  postern endpoint list\n  postern endpoint list --state requested",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			es, err := s.Endpoints(ctx, a.askedOrganization(), state)
			if err != nil {
				return err
			}
			if a.settings.output != asJSON && len(es) == 0 {
				return a.note("no claimed endpoint")
			}
			return a.print(client.Page[client.Endpoint]{Items: es}, func() string { return endpointTable(es) })
		}),
	}
	cmd.Flags().StringVar(&state, "state", "", "only those in this `STATE`")
	return cmd
}

func (a *app) endpointShow() *cobra.Command {
	return &cobra.Command{
		Use: "show VPCE", Short: "Show an endpoint and what it waits for", Args: takes("VPCE"),
		Long: `Show prints a claimed endpoint with its conditions: what holds, what does not yet, and what to do about
it. "Reaches" lists the hostnames that it reaches now.`,
		Example: "  postern endpoint show vpce-0d363d9ea82658bec",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			e, err := s.Endpoint(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(e, func() string { return endpointText(e) })
		}),
	}
}

func (a *app) endpointUpdate() *cobra.Command {
	var tenants []string
	var all bool
	cmd := &cobra.Command{
		Use:   "update VPCE {--tenant NAME… | --all-tenants}",
		Short: "Change which tenants an endpoint may reach",
		Long: `Update replaces the list of tenants that a claimed endpoint may reach. With --all-tenants it reaches all
that the organization has in the endpoint's segment, now and later. Where operators approve claims, an
endpoint that may reach more than before waits for their approval again.`,
		Example: "  postern endpoint update vpce-0d363d9ea82658bec --tenant example --tenant example-dev\n  postern endpoint update vpce-0d363d9ea82658bec --all-tenants",
		Args:    takes("VPCE"),
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			e, err := func() (client.Endpoint, error) {
				if all {
					return s.UpdateEndpointAllTenants(ctx, args[0])
				}
				return s.UpdateEndpoint(ctx, args[0], tenants)
			}()
			if err != nil {
				return err
			}
			return a.print(e, func() string { return endpointText(e) })
		}),
	}
	cmd.Flags().StringArrayVar(&tenants, "tenant", nil, "`NAME` of a tenant that it may reach; may be given several times")
	cmd.Flags().BoolVar(&all, "all-tenants", false, "all tenants of the segment")
	notBoth(cmd, "tenant", "all-tenants")
	oneOf(cmd, "tenant", "all-tenants")
	return cmd
}

func (a *app) endpointApprove() *cobra.Command {
	return &cobra.Command{
		Use: "approve VPCE…", Short: "Let endpoints in that wait for approval (operators)", Args: takes("VPCE…"),
		Long: `Approve decides for claims that the platform's policy leaves to an operator. What is approved already
stays so.`,
		Example: "  postern endpoint list --state requested\n  postern endpoint approve vpce-0d363d9ea82658bec",
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			var approved []client.Endpoint
			for _, id := range args {
				e, err := within(ctx, s, func(ctx context.Context) (client.Endpoint, error) { return s.ApproveEndpoint(ctx, id) })
				if err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				approved = append(approved, e)
			}
			return a.print(client.Page[client.Endpoint]{Items: approved}, func() string { return endpointTable(approved) })
		}),
	}
}

func (a *app) endpointRemove() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "remove VPCE", Short: "Take a claim back; AWS rejects the connection", Args: takes("VPCE"),
		Long: `Remove takes an endpoint's claim back: it reaches nothing from then on, and AWS is told to reject its
connection. If it carries traffic, you are asked first. The endpoint itself stays in your AWS account
until you delete it there; to use the platform again, create a new one.`,
		Example: "  postern endpoint remove vpce-0d363d9ea82658bec\n  postern endpoint remove vpce-0d363d9ea82658bec --yes",
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			e, err := within(ctx, s, func(ctx context.Context) (client.Endpoint, error) { return s.Endpoint(ctx, args[0]) })
			if err != nil {
				return err
			}
			if e.Status.State == stateReady {
				if err := a.confirm(yes, fmt.Sprintf("endpoint %s carries traffic of %s, which ends", e.ID, reaches(e))); err != nil {
					return err
				}
			}
			_, err = within(ctx, s, func(ctx context.Context) (any, error) { return nil, s.DeleteEndpoint(ctx, e.ID) })
			if err != nil {
				return err
			}
			return a.done("endpoint %s is being removed", e.ID)
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) endpointUnclaimed() *cobra.Command {
	return &cobra.Command{
		Use: "unclaimed", Short: "List connections that nobody claimed", Args: takes(),
		Long: `Unclaimed lists the endpoint connections at AWS that no claim names. They are never accepted. Yours are
those of your proven accounts; operators see all.`,
		Example: "  postern endpoint unclaimed",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			claimed := false
			cs, err := s.Connections(ctx, a.askedOrganization(), &claimed)
			if err != nil {
				return err
			}
			return printList(a, cs, "no unclaimed connection", []string{"ENDPOINT", "ACCOUNT", "ORGANIZATION", "SERVICE REGION", "STATE AT AWS", "CREATED"}, func(c client.Connection) []string {
				return []string{c.VPCEndpointID, c.Owner, c.Organization, c.ServiceRegion, c.State, at(c.CreatedAt)}
			})
		}),
	}
}

func endpointTable(es []client.Endpoint) string {
	t := newTable("ENDPOINT", "ORGANIZATION", "TENANTS", "SEGMENT", "SERVICE REGION", "STATE")
	for _, e := range es {
		t.row(e.ID, e.Spec.Organization, tenantsOf(e), e.Status.Segment, e.Status.ServiceRegion, e.Status.State)
	}
	return t.text()
}

func endpointText(e client.Endpoint) string {
	var b block
	b.add("Endpoint", e.ID)
	b.add("Organization", e.Spec.Organization)
	b.add("Tenants", tenantsOf(e))
	b.add("State", e.Status.State)
	b.add("Segment", e.Status.Segment)
	b.add("Service region", e.Status.ServiceRegion)
	b.add("Endpoint region", e.Status.EndpointRegion)
	b.add("AWS account", e.Status.Owner)
	if e.Status.ApprovedBy != "" {
		b.add("Approved", "by "+e.Status.ApprovedBy+", "+at(e.Status.ApprovedAt))
	}
	b.add("DNS names", e.Status.DNSNames...)
	b.add("Reaches", e.Status.Hostnames...)
	b.add("Claimed", at(e.CreatedAt))
	return b.text() + conditions(e.Status.Conditions)
}

func tenantsOf(e client.Endpoint) string {
	if len(e.Spec.Tenants) == 0 {
		return "all of the segment"
	}
	return comma(e.Spec.Tenants)
}

func reaches(e client.Endpoint) string {
	if len(e.Status.Hostnames) == 0 {
		return "its tenants"
	}
	return comma(e.Status.Hostnames)
}
