package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

func (a *app) workloadToken() *cobra.Command {
	return group("workload-token", "Create and revoke the tokens of workloads",
		`A workload's token is what a program of one tenant shows to the platform's egress to use the tenant's data
connections. It opens nothing else: not the API, and no other tenant's connections. Every token ends.`,
		"  postern workload-token create etl --tenant example --secret-file etl.token\n  postern workload-token revoke tok_3f9a",
		a.workloadTokenCreate(), a.workloadTokenList(), a.workloadTokenRevoke())
}

func (a *app) workloadTokenCreate() *cobra.Command {
	var tenant, file, certificate string
	var expires time.Duration
	cmd := &cobra.Command{
		Use: "create NAME --tenant TENANT", Short: "Create a token for a tenant's workloads", Args: takes("NAME"),
		Long: `Create makes a token for workloads of a tenant. NAME appears in events: name the program that will use it.
The secret is printed this once and cannot be had again; with --secret-file it goes into a new file that
only you can read, and is not printed. Without --expires-in it is good for 90 days; a year is the most.

With --certificate-file there is no secret: the workload shows that client certificate to the egress' proxy.
Only operators may do that.`,
		Example: "  postern workload-token create etl --tenant example --secret-file etl.token\n  postern workload-token create etl --tenant example --expires-in 720h",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			spec := client.WorkloadTokenSpec{Name: args[0], Tenant: tenant}
			if expires < 0 {
				return settlef("--expires-in %s is in the past", expires)
			}
			if expires > 0 {
				spec.ExpiresAt = a.now().Add(expires).UTC().Truncate(time.Second)
			}
			if certificate != "" {
				b, err := os.ReadFile(certificate)
				if err != nil {
					return settlef("--certificate-file: %s", err)
				}
				spec.Certificate = string(b)
			}
			keep, err := secretFile(file)
			if err != nil {
				return err
			}
			t, err := s.CreateWorkloadToken(ctx, spec)
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
			return a.print(t, func() string { return workloadTokenText(t, file) })
		}),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "`NAME` of the tenant whose data connections it opens")
	cmd.Flags().DurationVar(&expires, "expires-in", 0, "how long it is good, such as 720h; left out: 90 days")
	cmd.Flags().StringVar(&file, "secret-file", "", "write the secret to this new `FILE` and do not print it")
	cmd.Flags().StringVar(&certificate, "certificate-file", "", "`FILE` with the workload's client certificate in PEM, instead of a secret")
	cmd.MarkFlagsMutuallyExclusive("certificate-file", "secret-file")
	oneOf(cmd, "tenant")
	return cmd
}

func workloadTokenText(t client.WorkloadToken, file string) string {
	var b block
	b.add("ID", t.ID)
	b.add("Name", t.Spec.Name)
	b.add("Tenant", t.Spec.Tenant)
	b.add("Organization", t.Organization)
	b.add("Expires", at(t.Spec.ExpiresAt))
	b.add("Secret", t.Secret)
	if file != "" {
		b.add("Secret in", file)
	}
	return b.text()
}

func (a *app) workloadTokenList() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use: "list", Short: "List the tokens of workloads", Args: takes(),
		Long:    "List prints the tokens of an organization's workloads, or all that the token sees, without their secrets.",
		Example: "  postern workload-token list\n  postern workload-token list --tenant example",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			ts, err := s.WorkloadTokens(ctx, a.askedOrganization(), tenant)
			if err != nil {
				return err
			}
			return printList(a, ts, "no workload token", []string{"ID", "NAME", "TENANT", "ORGANIZATION", "EXPIRES", "CREATED"}, func(t client.WorkloadToken) []string {
				return []string{t.ID, t.Spec.Name, t.Spec.Tenant, t.Organization, at(t.Spec.ExpiresAt), at(t.CreatedAt)}
			})
		}),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "only those of the tenant of this `NAME`")
	return cmd
}

func (a *app) workloadTokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID…", Short: "Revoke tokens of workloads", Args: takes("ID…"),
		Long:    "Revoke ends tokens of workloads: egress nodes refuse them as soon as they hear of it.",
		Example: "  postern workload-token revoke tok_3f9a",
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			for _, id := range args {
				_, err := within(ctx, s, func(ctx context.Context) (any, error) { return nil, s.DeleteWorkloadToken(ctx, id) })
				if err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				if err := a.done("workload token %s is revoked", id); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}
