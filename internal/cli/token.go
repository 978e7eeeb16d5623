package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
)

func (a *app) token() *cobra.Command {
	return group("token", "Create and revoke tokens",
		`A token is what a person or program shows the API. Its role says what it may do: admin and operator see
every organization, organization-admin and organization-viewer their own, node what the data plane
needs. The API keeps a hash of the secret only.`,
		"  postern token create ada --role organization-admin --organization example-corp --expires-in 2160h\n  postern token revoke tok_3f9a",
		a.tokenCreate(), a.tokenList(), a.tokenRevoke())
}

func (a *app) tokenCreate() *cobra.Command {
	var role, file string
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "create NAME --role ROLE",
		Short: "Create a token",
		Long: `Create makes a token. NAME appears in events: name who or what will use it. The secret is printed this
once and cannot be had again; with --secret-file it goes into a new file that only you can read, and
is not printed.`,
		Example: `  postern token create ada --role organization-admin --organization example-corp --secret-file ada.token
  postern token create ingress-1 --role node --expires-in 8760h`,
		Args: takes("NAME"),
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			if postern.Role(role) == postern.RoleWorkload {
				return settlef("a workload's token belongs to a tenant: postern workload-token create %s --tenant NAME", args[0])
			}
			spec := client.TokenSpec{Name: args[0], Role: role}
			// The environment's organization is for roles that have one; the
			// flag is meant as it is given.
			if spec.Organization = a.settings.organization; postern.Role(role).OfOrganization() {
				spec.Organization = a.askedOrganization()
			}
			if expires < 0 {
				return settlef("--expires-in %s is in the past", expires)
			}
			if expires > 0 {
				spec.ExpiresAt = a.now().Add(expires).UTC().Truncate(time.Second)
			}
			check := postern.Token{Name: spec.Name, Role: postern.Role(role), Organization: spec.Organization, ExpiresAt: spec.ExpiresAt}
			if err := check.Validate(a.now()); err != nil {
				return err // before there is a file for its secret
			}
			keep, err := secretFile(file)
			if err != nil {
				return err
			}
			t, err := s.CreateToken(ctx, spec)
			if err != nil {
				return errors.Join(err, keep.discard())
			}
			if file != "" {
				if err := keep.write(t.Secret); err != nil {
					return fmt.Errorf("token %s was made but its secret is lost: %s: revoke it", t.ID, plain(err))
				}
				t.Secret = ""
			}
			if t.Secret != "" && a.settings.output != asJSON {
				if err := a.note("the secret is shown this once: keep it where only its user can read it"); err != nil {
					return err
				}
			}
			return a.print(t, func() string { return tokenText(t, file) })
		}),
	}
	cmd.Flags().StringVar(&role, "role", "", "`ROLE`: admin, operator, organization-admin, organization-viewer or node")
	cmd.Flags().DurationVar(&expires, "expires-in", 0, "how long it is good, such as 2160h; left out: until it is revoked")
	cmd.Flags().StringVar(&file, "secret-file", "", "write the secret to this new `FILE` and do not print it")
	oneOf(cmd, "role")
	return cmd
}

func (a *app) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List tokens", Args: takes(),
		Long:    "List prints all tokens, without their secrets.",
		Example: "  postern token list",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			ts, err := s.Tokens(ctx)
			if err != nil {
				return err
			}
			return printList(a, ts, "no token", []string{"ID", "NAME", "ROLE", "ORGANIZATION", "EXPIRES", "CREATED"}, func(t client.Token) []string {
				return []string{t.ID, t.Spec.Name, t.Spec.Role, t.Spec.Organization, at(t.Spec.ExpiresAt), at(t.CreatedAt)}
			})
		}),
	}
}

func (a *app) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID…", Short: "Revoke tokens at once", Args: takes("ID…"),
		Long:    "Revoke ends tokens. Whoever uses one is refused from the next request on.",
		Example: "  postern token revoke tok_3f9a",
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			for _, id := range args {
				_, err := within(ctx, s, func(ctx context.Context) (any, error) { return nil, s.DeleteToken(ctx, id) })
				if err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				if err := a.done("token %s is revoked", id); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func tokenText(t client.Token, file string) string {
	var b block
	b.add("ID", t.ID)
	b.add("Name", t.Spec.Name)
	b.add("Role", t.Spec.Role)
	b.add("Organization", t.Spec.Organization)
	b.add("Expires", at(t.Spec.ExpiresAt))
	b.add("Secret", t.Secret)
	if file != "" {
		b.add("Secret in", file)
	}
	return b.text()
}

// secretKeeper is a file that is made before the secret is, so that a secret
// never has no place to go.
type secretKeeper struct{ file *os.File }

func secretFile(name string) (secretKeeper, error) {
	if name == "" {
		return secretKeeper{}, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return secretKeeper{}, settlef("the file %s exists: choose a new one", name)
	case err != nil:
		return secretKeeper{}, settlef("cannot make the file %s: %s", name, plain(err))
	}
	return secretKeeper{f}, nil
}

func (k secretKeeper) write(secret string) error {
	_, err := k.file.WriteString(strings.TrimSpace(secret) + "\n")
	return errors.Join(err, k.file.Sync(), k.file.Close())
}

func (k secretKeeper) discard() error {
	if k.file == nil {
		return nil
	}
	return errors.Join(k.file.Close(), os.Remove(k.file.Name()))
}
