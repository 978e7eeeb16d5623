package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

func (a *app) app() *cobra.Command {
	return group("app", "Private access to apps that organizations share",
		`Some apps of a platform have hosts that all organizations share. They are public for everybody; an
organization whose tenants are private can reach them through the same endpoints. The app is told whose
endpoint it is, and serves that organization's data.`,
		"  postern app list\n  postern app enable request\n  postern app show request",
		a.appList(), a.appEnable(), a.appDisable(), a.appShow())
}

func (a *app) appList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List them", Args: takes(),
		Long:    "List prints the platform's shared apps, and whether the organization's endpoints reach them.",
		Example: "  postern app list --organization example-corp",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			organization, err := s.organization(ctx)
			if err != nil {
				return err
			}
			apps, err := s.Apps(ctx, organization)
			if err != nil {
				return err
			}
			return printList(a, apps, "no app has hosts that organizations share", []string{"APP", "TITLE", "PRIVATE", "HOSTS"}, func(p client.AppAccess) []string {
				return []string{p.ID, p.Status.Title, appState(p), comma(p.Status.Hostnames)}
			})
		}),
	}
}

func (a *app) appEnable() *cobra.Command {
	return &cobra.Command{
		Use: "enable APP", Short: "Reach it through the organization's endpoints", Args: takes("APP"),
		Long: `Enable lets the organization's endpoints reach the app's hosts. Your own DNS must then answer them with the
endpoint, in the networks that use it; the records are printed. What stands against it is told.`,
		Example: "  postern app enable request",
		RunE:    a.once(func(ctx context.Context, s session, args []string) error { return a.setApp(ctx, s, args[0], true) }),
	}
}

func (a *app) appDisable() *cobra.Command {
	return &cobra.Command{
		Use: "disable APP", Short: "No longer reach it through them", Args: takes("APP"),
		Long: `Disable takes the app's hosts from the organization's endpoints, and cuts what is open. Take the records out
of your own DNS first, or your networks reach the app no more; without them they reach it publicly.`,
		Example: "  postern app disable request",
		RunE:    a.once(func(ctx context.Context, s session, args []string) error { return a.setApp(ctx, s, args[0], false) }),
	}
}

func (a *app) appShow() *cobra.Command {
	return &cobra.Command{
		Use: "show APP", Short: "Show what stands against it, and the DNS records that it needs", Args: takes("APP"),
		Long: `Show prints the conditions, each with what to do, and the records that your own DNS needs. In Route 53 each
of these names is a private hosted zone of its own, with an alias to the endpoint, because a CNAME cannot
be at the top of a zone; a zone for the domain above would hide all its other names from your network.`,
		Example: "  postern app show request",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			organization, err := s.organization(ctx)
			if err != nil {
				return err
			}
			p, err := s.App(ctx, organization, args[0])
			if err != nil {
				return err
			}
			return a.print(p, func() string { return appText(p) })
		}),
	}
}

func (a *app) setApp(ctx context.Context, s session, id string, enabled bool) error {
	organization, err := s.organization(ctx)
	if err != nil {
		return err
	}
	p, err := s.SetApp(ctx, organization, id, client.AppAccessSpec{Enabled: enabled})
	if err != nil {
		return err
	}
	return a.print(p, func() string { return appText(p) })
}

func appState(p client.AppAccess) string {
	switch {
	case !p.Spec.Enabled:
		return "off"
	case len(p.Status.Customer) == 0:
		return "waiting"
	}
	return "on"
}

func appText(p client.AppAccess) string {
	var b block
	b.add("App", p.ID)
	b.add("Organization", p.Status.Organization)
	b.add("Hosts", p.Status.Hostnames...)
	b.add("Private", appState(p))
	if p.Status.ChangedBy != "" {
		b.add("Changed", at(p.Status.ChangedAt)+" by "+p.Status.ChangedBy)
	}
	var out strings.Builder
	out.WriteString(b.text() + conditions(p.Status.Conditions))
	for _, n := range p.Status.Customer {
		var records []client.DNSRecord
		for _, r := range n.Records {
			records = append(records, customers(r))
		}
		out.WriteString("\nYour own DNS, in the networks that use " + clean(n.VPCEndpointID) + " (service region " + clean(n.ServiceRegion) + "):\n\n" + masterFile(records))
	}
	return out.String()
}
