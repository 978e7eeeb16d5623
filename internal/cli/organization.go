package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

func (a *app) organization() *cobra.Command {
	return group("organization", "Create and look at organizations",
		`An organization is one customer of the platform. Tenants, proven AWS accounts and endpoints belong to
one; nothing of one reaches another.`,
		"  postern organization create example-corp --title \"Example Corp\"\n  postern organization list",
		a.organizationCreate(), a.organizationList(), a.organizationShow(), a.organizationDelete())
}

func (a *app) organizationCreate() *cobra.Command {
	var title string
	cmd := &cobra.Command{
		Use:     "create ID",
		Short:   "Create an organization",
		Long:    "Create makes an organization. Its ID is used in every other command: lower-case letters, digits and inner hyphens.",
		Example: "  postern organization create example-corp --title \"Example Corp\"",
		Args:    takes("ID"),
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			o, err := s.CreateOrganization(ctx, client.Organization{ID: args[0], Spec: client.OrganizationSpec{Title: title}})
			if err != nil {
				return err
			}
			return a.print(o, func() string { return organizationText(o) })
		}),
	}
	cmd.Flags().StringVar(&title, "title", "", "`NAME` for people")
	return cmd
}

func (a *app) organizationList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List organizations", Args: takes(),
		Long:    "List prints the organizations that the token sees: all of them, or its own.",
		Example: "  postern organization list",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			os, err := s.Organizations(ctx)
			if err != nil {
				return err
			}
			return printList(a, os, "no organization", []string{"ID", "TITLE", "CREATED"}, func(o client.Organization) []string {
				return []string{o.ID, o.Spec.Title, at(o.CreatedAt)}
			})
		}),
	}
}

func (a *app) organizationShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show an organization", Args: takes("ID"),
		Long:    "Show prints one organization.",
		Example: "  postern organization show example-corp",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			o, err := s.Organization(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(o, func() string { return organizationText(o) })
		}),
	}
}

func (a *app) organizationDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Delete an organization that has nothing left", Args: takes("ID"),
		Long:    "Delete removes an organization and its tokens. It is refused while the organization has tenants, accounts or endpoints.",
		Example: "  postern organization delete example-corp",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			if err := s.DeleteOrganization(ctx, args[0]); err != nil {
				return err
			}
			return a.done("organization %s is deleted", args[0])
		}),
	}
}

func organizationText(o client.Organization) string {
	var b block
	b.add("ID", o.ID)
	b.add("Title", o.Spec.Title)
	b.add("Created", at(o.CreatedAt))
	return b.text()
}
