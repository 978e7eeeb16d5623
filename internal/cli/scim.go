package cli

import (
	"context"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

func (a *app) tenantSCIM() *cobra.Command {
	return group("scim", "The public way in for SCIM and nothing else",
		`Identity providers often need a public endpoint to provision users by SCIM. A tenant that is private can
keep one: a host of its own that serves the SCIM protocol under /scim/v2 and refuses everything else. It is
there only if it was asked for, and changes nothing about the tenant's other ways in.`,
		"  postern tenant scim enable example --source-range 192.0.2.0/24\n  postern tenant scim show example",
		a.scimEnable(), a.scimDisable(), a.scimShow())
}

func (a *app) scimEnable() *cobra.Command {
	var sources []string
	cmd := &cobra.Command{
		Use: "enable TENANT", Short: "Turn it on, or change who may use it", Args: takes("TENANT"),
		Long: `Enable gives a tenant a SCIM-only public ingress. With --source-range only those networks may connect,
which identity providers publish; give all of them, because they replace the ones of before. Without it,
anybody may connect: what protects the tenant then is the bearer token that its app demands.`,
		Example: "  postern tenant scim enable example --source-range 192.0.2.0/24 --source-range 198.51.100.0/24\n  postern tenant scim enable example",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			return a.setSCIM(ctx, s, args[0], client.SCIMIngressSpec{Enabled: true, SourceRanges: sources})
		}),
	}
	cmd.Flags().StringArrayVar(&sources, "source-range", nil, "`NETWORK` that the identity provider comes from; may be given more than once")
	also(cmd, func(cmd *cobra.Command) error {
		for _, text := range sources {
			if _, err := netip.ParsePrefix(text); err != nil {
				return usagef(cmd, "--source-range %q is not a network, such as 192.0.2.0/24", text)
			}
		}
		return nil
	})
	return cmd
}

func (a *app) scimDisable() *cobra.Command {
	return &cobra.Command{
		Use: "disable TENANT", Short: "Turn it off", Args: takes("TENANT"),
		Long: `Disable takes the SCIM-only public ingress away. Its open connections are cut. It waits a while for the nodes
to acknowledge that, and names those that have not.`,
		Example: "  postern tenant scim disable example",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			return a.setSCIM(ctx, s, args[0], client.SCIMIngressSpec{})
		}),
	}
}

func (a *app) scimShow() *cobra.Command {
	return &cobra.Command{
		Use: "show TENANT", Short: "Show whether it is on, and its base URL", Args: takes("TENANT"),
		Long: `Show prints the base URL to configure at the identity provider, and from where it may come. "Not followed by"
are nodes that have not acknowledged yet that it was turned off, or that other networks were named.`,
		Example: "  postern tenant scim show example",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			i, err := s.SCIMIngress(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(i, func() string { return scimText(i) })
		}),
	}
}

func (a *app) setSCIM(ctx context.Context, s session, tenant string, spec client.SCIMIngressSpec) error {
	i, err := s.SetSCIMIngress(ctx, tenant, spec)
	if err != nil {
		return err
	}
	if i, err = a.scimFollowed(ctx, s, i); err != nil {
		return err
	}
	return a.print(i, func() string { return scimText(i) })
}

// followTime is how long the nodes are waited for.
const followTime = 10 * time.Second

// scimFollowed waits until every node obeys a change, or for a while.
func (a *app) scimFollowed(ctx context.Context, s session, i client.SCIMIngress) (client.SCIMIngress, error) {
	tick := time.NewTicker(followTime / 40)
	defer tick.Stop()
	for deadline := time.Now().Add(min(followTime, a.settings.timeout/2)); len(i.Status.WaitsFor) > 0 && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return i, nil // it is done; who has not followed is told
		case <-tick.C:
		}
		now, err := s.SCIMIngress(ctx, i.ID)
		if err != nil {
			return i, err
		}
		i = now
	}
	return i, nil
}

func scimText(i client.SCIMIngress) string {
	var b block
	b.add("Tenant", i.ID)
	if !i.Spec.Enabled {
		b.add("SCIM ingress", "off")
		b.add("Not followed by", i.Status.WaitsFor...)
		return b.text()
	}
	b.add("SCIM ingress", "on")
	b.add("Base URL", i.Status.BaseURL)
	if len(i.Spec.SourceRanges) == 0 {
		b.add("Reachable from", "anywhere")
	}
	b.add("Reachable from", i.Spec.SourceRanges...)
	b.add("Not followed by", i.Status.WaitsFor...)
	b.add("Enabled", at(i.Status.EnabledAt)+" by "+i.Status.EnabledBy)
	return b.text()
}
