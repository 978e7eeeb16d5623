package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

func (a *app) tenant() *cobra.Command {
	return group("tenant", "Create and look at tenants",
		`A tenant is one instance of the platform in its home region, with a hostname that never changes,
whatever path leads to it. Which global segment it is in follows from the region.`,
		"  postern tenant create example --organization example-corp --region us-east-1\n  postern tenant show example",
		a.tenantCreate(), a.tenantList(), a.tenantShow(), a.tenantProbe(), a.tenantSCIM(), a.tenantDelete())
}

func (a *app) tenantCreate() *cobra.Command {
	var region string
	var acknowledged []string
	cmd := &cobra.Command{
		Use:   "create NAME --region REGION",
		Short: "Create a tenant",
		Long: `Create makes a tenant of an organization. NAME becomes the first part of its hostname. A region that the
platform is not in is refused, and the nearest one named.`,
		Example: "  postern tenant create example --organization example-corp --region us-east-1",
		Args:    takes("NAME"),
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			organization, err := s.organization(ctx)
			if err != nil {
				return err
			}
			t, err := s.CreateTenant(ctx, client.Tenant{ID: args[0], Spec: client.TenantSpec{Organization: organization, Region: region}}, acknowledged...)
			if err != nil {
				return err
			}
			return a.print(t, func() string { return tenantText(t) })
		}),
	}
	cmd.Flags().StringVar(&region, "region", "", "home `REGION`, such as us-east-1")
	cmd.Flags().StringArrayVar(&acknowledged, "acknowledge", nil, "`APP` that the organization may lose private access to, because its tenants would be in several segments; may be given more than once")
	oneOf(cmd, "region")
	return cmd
}

func (a *app) tenantList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List tenants", Args: takes(),
		Long:    "List prints the tenants of an organization, or all that the token sees.",
		Example: "  postern tenant list\n  postern tenant list --organization example-corp",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			ts, err := s.Tenants(ctx, a.askedOrganization())
			if err != nil {
				return err
			}
			return printList(a, ts, "no tenant", []string{"NAME", "ORGANIZATION", "REGION", "SEGMENT", "STATE", "HOSTNAME"}, func(t client.Tenant) []string {
				return []string{t.ID, t.Spec.Organization, t.Spec.Region, t.Status.Segment, t.Status.State, t.Status.Hostname}
			})
		}),
	}
}

func (a *app) tenantShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a tenant", Args: takes("NAME"),
		Long: `Show prints a tenant: its hostname, the name that your own DNS must answer with the VPC endpoint, and
the ready endpoints that reach it.`,
		Example: "  postern tenant show example",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			t, err := s.Tenant(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(t, func() string { return tenantText(t) })
		}),
	}
}

func (a *app) tenantDelete() *cobra.Command {
	var yes bool
	var acknowledged []string
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a tenant", Args: takes("NAME"),
		Long: `Delete removes a tenant. If a ready endpoint reaches it, its traffic ends, and you are asked first. When every
node has acknowledged that, or is fenced, the event tenant.withdrawn tells (postern events); no other
organization can have the name before. Where it is the last private one and the organization has an app
that is only for those, as Request is, that is refused unless you accept it by name.`,
		Example: "  postern tenant delete example-dev\n  postern tenant delete example-dev --yes",
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			t, err := within(ctx, s, func(ctx context.Context) (client.Tenant, error) { return s.Tenant(ctx, args[0]) })
			if err != nil {
				return err
			}
			if ids := t.Status.VPCEndpointIDs; len(ids) > 0 {
				if err := a.confirm(yes, fmt.Sprintf("tenant %s carries traffic of %s, which ends", t.ID, comma(ids))); err != nil {
					return err
				}
			}
			_, err = within(ctx, s, func(ctx context.Context) (any, error) { return nil, s.DeleteTenant(ctx, t.ID, acknowledged...) })
			if err != nil {
				return err
			}
			return a.done("tenant %s is deleted", t.ID)
		}),
	}
	yesFlag(cmd, &yes)
	cmd.Flags().StringArrayVar(&acknowledged, "acknowledge", nil, "`APP` that the organization may lose private access to, because no other tenant of it is private; may be given more than once")
	return cmd
}

func tenantText(t client.Tenant) string {
	var b block
	b.add("Name", t.ID)
	b.add("Organization", t.Spec.Organization)
	b.add("Region", t.Spec.Region)
	b.add("Segment", t.Status.Segment)
	b.add("State", t.Status.State)
	b.add("Hostname", t.Status.Hostname)
	b.add("In your DNS", t.Status.PrivateLinkHostname)
	b.add("Endpoints", t.Status.VPCEndpointIDs...)
	b.add("Created", at(t.CreatedAt))
	return b.text()
}
