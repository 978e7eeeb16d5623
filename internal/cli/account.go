package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/client/accountproof"
)

func (a *app) account() *cobra.Command {
	return group("account", "Prove AWS accounts and look at them",
		`An organization's endpoints live in AWS accounts of its own, and it proves that they are. Only a proven
account may create an endpoint to the platform's services, and only its endpoints can be claimed.`,
		"  postern account prove --profile network\n  postern account list",
		a.accountProve(), a.accountList(), a.accountShow(), a.accountRemove())
}

func (a *app) accountProve() *cobra.Command {
	var profile, region string
	cmd := &cobra.Command{
		Use:   "prove",
		Short: "Prove that an AWS account is your organization's",
		Long: `Prove signs a GetCallerIdentity request with your AWS credentials and gives the signature to Postern,
which has AWS say whose it is. The secret key stays here. The signature covers this platform, your
organization and a number that is used once, so it proves nothing to anybody else and nothing twice.

Credentials are found as the AWS CLI finds them: environment, --profile, SSO, container, instance. Any
identity of the account will do; it needs no permissions.`,
		Example: "  postern account prove\n  postern account prove --profile network\n  postern account prove --organization example-corp --region eu-central-1",
		Args:    takes(),
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			organization, err := s.organization(ctx)
			if err != nil {
				return err
			}
			ch, err := s.CreateChallenge(ctx, organization)
			if err != nil {
				return err
			}
			// Whoever answers at this address must not have a proof signed for
			// somebody else's organization.
			if ch.Organization != organization {
				return fmt.Errorf("the challenge is for organization %q and not for %q: check the API's address; nothing was signed", ch.Organization, organization)
			}
			proof, err := accountproof.SignDefault(ctx, ch, region, profile)
			if err != nil {
				return fmt.Errorf("cannot sign: %s", strings.ReplaceAll(err.Error(), "\n", " "))
			}
			platform, _, _ := strings.Cut(ch.Binding, ";")
			if err := a.note("signed for platform %s, organization %s, by the STS of %s", platform, organization, proof.Region); err != nil {
				return err
			}
			account, err := s.ProveAccount(ctx, proof)
			if err != nil {
				return err
			}
			return a.print(account, func() string {
				return accountText(account) + `
Within a minute this account may create an interface endpoint to the platform's services:
"postern regions" lists them. Then claim it: postern endpoint claim VPCE --wait
`
			})
		}),
	}
	cmd.Flags().StringVar(&profile, "profile", "", "`NAME` of a profile of the AWS configuration")
	cmd.Flags().StringVar(&region, "region", "", "`REGION` whose STS is asked; any of the platform's")
	return cmd
}

func (a *app) accountList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List proven accounts", Args: takes(),
		Long:    "List prints the proven AWS accounts of an organization, or all that the token sees.",
		Example: "  postern account list",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			as, err := s.Accounts(ctx, a.askedOrganization())
			if err != nil {
				return err
			}
			return printList(a, as, "no proven account", []string{"ACCOUNT", "ORGANIZATION", "STATE", "PROVEN", "BY"}, func(c client.Account) []string {
				return []string{c.ID, c.Spec.Organization, c.Status.State, at(c.Status.ProvenAt), c.Status.PrincipalARN}
			})
		}),
	}
}

func (a *app) accountShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ACCOUNT", Short: "Show a proven account", Args: takes("ACCOUNT"),
		Long:    "Show prints one proven AWS account, by its 12 digits.",
		Example: "  postern account show 111122223333",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			c, err := s.Account(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(c, func() string { return accountText(c) })
		}),
	}
}

func (a *app) accountRemove() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "remove ACCOUNT", Short: "Take an account off the platform", Args: takes("ACCOUNT"),
		Long: `Remove takes back the claims of all the account's endpoints, has AWS reject their connections, and takes
the account off the allow-lists. If one of its endpoints carries traffic, you are asked first.`,
		Example: "  postern account remove 111122223333\n  postern account remove 111122223333 --yes",
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			account, err := within(ctx, s, func(ctx context.Context) (client.Account, error) { return s.Account(ctx, args[0]) })
			if err != nil {
				return err
			}
			endpoints, err := within(ctx, s, func(ctx context.Context) ([]client.Endpoint, error) {
				return s.Endpoints(ctx, account.Spec.Organization, stateReady)
			})
			if err != nil {
				return err
			}
			var live []string
			for _, e := range endpoints {
				if e.Status.Owner == account.ID {
					live = append(live, e.ID)
				}
			}
			if len(live) > 0 {
				if err := a.confirm(yes, fmt.Sprintf("account %s carries traffic through %s, which ends", account.ID, comma(live))); err != nil {
					return err
				}
			}
			_, err = within(ctx, s, func(ctx context.Context) (any, error) { return nil, s.DeleteAccount(ctx, account.ID) })
			if err != nil {
				return err
			}
			return a.done("account %s is being taken off the platform", account.ID)
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}

func accountText(c client.Account) string {
	var b block
	b.add("Account", c.ID)
	b.add("Organization", c.Spec.Organization)
	b.add("State", c.Status.State)
	b.add("Proven", at(c.Status.ProvenAt))
	b.add("By", c.Status.PrincipalARN)
	return b.text()
}
