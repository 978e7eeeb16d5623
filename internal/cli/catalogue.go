package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

func (a *app) whoami() *cobra.Command {
	return &cobra.Command{
		Use:     "whoami",
		Short:   "Tell who the token is",
		Long:    "Whoami prints the name and role of the token in use, and the organization that it is confined to, if it is.",
		Example: "  postern whoami",
		Args:    takes(),
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			me, err := s.WhoAmI(ctx)
			if err != nil {
				return err
			}
			return a.print(me, func() string {
				var b block
				b.add("Name", me.Name)
				b.add("Role", me.Role)
				b.add("Organization", me.Organization)
				return b.text()
			})
		}),
	}
}

func (a *app) regions() *cobra.Command {
	var tenant, region string
	cmd := &cobra.Command{
		Use:   "regions",
		Short: "List where to create a VPC endpoint, and to which service",
		Long: `Regions lists the platform's regions with the endpoint service of each and the Availability Zone IDs
that it is in. Create the VPC endpoint in subnets of those zones; an ID such as use1-az3 is the same
zone in every AWS account, a name such as us-east-1a is not.

With --tenant or --region, the list is that of the tenant's segment, the region itself first: it is the
one to choose if you can. An endpoint in any of them reaches all your tenants of the segment.`,
		Example: "  postern regions\n  postern regions --tenant example\n  postern regions --region eu-central-1",
		Args:    takes(),
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			offers, err := s.Regions(ctx, tenant, region)
			if err != nil {
				return err
			}
			return printList(a, offers, "no region", []string{"REGION", "NAME", "SEGMENT", "ZONE IDS", "ENDPOINT SERVICE"}, func(o client.Offer) []string {
				name := o.Title
				if o.Home {
					name += " (first choice)"
				}
				return []string{o.Region, name, o.Segment, comma(o.AvailabilityZones), o.ServiceName}
			})
		}),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "for the tenant of this `NAME`")
	cmd.Flags().StringVar(&region, "region", "", "for a tenant that lives in this `REGION`")
	notBoth(cmd, "tenant", "region")
	return cmd
}
