package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

// The states of a cutover that a command decides by.
const (
	stateComplete   = "complete"
	stateRolledBack = "rolled-back"
)

func (a *app) cutover() *cobra.Command {
	return group("cutover", "Take a tenant's public access away, step by step",
		`A cutover takes a tenant from public to private, make before break:

  preflight     What stands against it, with what was seen. Each blocker is mended, or accepted by name.
  rehearsing    The standard hostname leads to the privatelink name. Where your DNS answers that with your
                endpoint, clients come privately; everybody else is served publicly as before. It lasts until
                private clients were seen, nobody comes publicly whom you did not accept, and every node is
                in step. If private access turns out not to work, it goes back by itself.
  enforcing     New public connections are refused. Those that are open are cut at a deadline.
  withdrawing   The public answer for the privatelink name is taken away.
  complete      The tenant is reachable privately only.

Private connections are never cut. From wherever it is, a person can roll it back; after the rehearsal
only a person can. It goes on by itself, whether or not anybody watches.`,
		`  postern cutover preflight example
  postern cutover start example --acknowledge Integrations --watch
  postern cutover status example
  postern cutover rollback example --reason "the BI tool is still public"`,
		a.cutoverPreflight(), a.cutoverStart(), a.cutoverStatus(), a.cutoverWatch(), a.cutoverAcknowledge(), a.cutoverRollback())
}

func (a *app) cutoverPreflight() *cobra.Command {
	return &cobra.Command{
		Use: "preflight TENANT", Short: "Tell what stands against a cutover", Args: takes("TENANT"),
		Long: `Preflight lists what stands against the tenant's cutover now: against its start, or against enforcing it
at the end of the rehearsal. Under each blocker is what was seen, such as the addresses of clients that
still come publicly. A blocker that may be acknowledged can be accepted by its name; the others must be
mended.

Exit status 0 means that a cutover may start as it is; 1, that something has to be mended or accepted
first.`,
		Example: "  postern cutover preflight example\n  postern cutover preflight example -o json",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			blockers, err := s.Preflight(ctx, args[0])
			if err != nil {
				return err
			}
			if err := a.print(client.Page[client.Blocker]{Items: blockers}, func() string { return blockersText(blockers) }); err != nil {
				return err
			}
			return againstStart(args[0], blockers)
		}),
	}
}

// againstStart sums up what keeps a cutover from starting, with the command
// that accepts what may be accepted.
func againstStart(tenant string, blockers []client.Blocker) error {
	var mend, accept []string
	for _, b := range blockers {
		switch {
		case b.Blocks != "start" || b.Acknowledged:
		case b.Acknowledgeable:
			accept = append(accept, b.Name)
		default:
			mend = append(mend, b.Name)
		}
	}
	switch {
	case len(mend) > 0:
		return fmt.Errorf("tenant %s cannot be cut over yet: mend %s", tenant, comma(mend))
	case len(accept) > 0:
		return fmt.Errorf("mend what stands against it, or accept it: postern cutover start %s --acknowledge %s", tenant, strings.Join(accept, " --acknowledge "))
	}
	return nil
}

func blockersText(blockers []client.Blocker) string {
	if len(blockers) == 0 {
		return "Nothing stands against a cutover.\n"
	}
	var b strings.Builder
	for i, x := range blockers {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s (against %s; %s)\n  %s\n", clean(x.Name), blocksWhat(x), mayBe(x), clean(x.Message))
		for _, e := range x.Evidence {
			b.WriteString("    " + clean(e) + "\n")
		}
	}
	return b.String()
}

func blocksWhat(b client.Blocker) string {
	if b.Blocks == "enforce" {
		return "enforcing"
	}
	return "the start"
}

func mayBe(b client.Blocker) string {
	switch {
	case b.Acknowledged:
		return "acknowledged"
	case b.Acknowledgeable:
		return "may be acknowledged"
	}
	return "must be mended"
}

func (a *app) cutoverStart() *cobra.Command {
	var acknowledged []string
	var watch bool
	cmd := &cobra.Command{
		Use: "start TENANT [--acknowledge NAME]…", Short: "Begin a tenant's cutover with its rehearsal", Args: takes("TENANT"),
		Long: `Start begins the rehearsal: the platform's public DNS leads the standard hostname to the privatelink name,
and nobody is refused yet. It does not begin while something stands against it that you neither mended
nor accepted by name; "postern cutover preflight" lists the names with what was seen:

  PathUnproven        no probe came through each endpoint lately (postern tenant probe)
  BackendNotIsolated  not every backend is known to refuse hosts that were not admitted
  Integrations        integrations that call the tenant are cut off unless they come privately too
  PublicClients       clients still come publicly, and will be cut off
  PrivateRefused      clients that come privately by another endpoint are refused there (seen in a rehearsal)

From there the cutover goes on by itself. With --watch the command follows it as "postern cutover watch"
does.`,
		Example: "  postern cutover start example\n  postern cutover start example --acknowledge Integrations --acknowledge PublicClients --watch",
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			c, err := within(ctx, s, func(ctx context.Context) (client.Cutover, error) {
				return s.StartCutover(ctx, client.CutoverRequest{Tenant: args[0], Acknowledged: acknowledged})
			})
			if err != nil {
				return err
			}
			if !watch {
				return a.print(c, func() string { return cutoverText(c) })
			}
			return a.watchCutover(ctx, s, c)
		}),
	}
	cmd.Flags().StringArrayVar(&acknowledged, "acknowledge", nil, "accept the blocker of this `NAME`; may be given several times")
	cmd.Flags().BoolVar(&watch, "watch", false, "follow it until it is complete or rolled back")
	return cmd
}

func (a *app) cutoverStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status TENANT", Short: "Show a tenant's cutover and what it waits for", Args: takes("TENANT"),
		Long: `Status prints the tenant's cutover, or the last one if all were rolled back: its state, when it reached
which step, and its conditions. The conditions that are not True say what it waits for, and what to do.`,
		Example: "  postern cutover status example",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			c, err := s.lastCutover(ctx, args[0])
			if err != nil {
				return err
			}
			return a.print(c, func() string { return cutoverText(c) })
		}),
	}
}

func (a *app) cutoverWatch() *cobra.Command {
	return &cobra.Command{
		Use: "watch TENANT", Short: "Follow a tenant's cutover to its end", Args: takes("TENANT"),
		Long: `Watch prints each step of the tenant's cutover as it is reached, and what it waits for, until it is
complete or was rolled back. The exit status is 0 only if it is complete. To stop watching does not stop
the cutover.

A rehearsal lasts as long as the platform observes, often a day.`,
		Example: "  postern cutover watch example\n  postern cutover watch example && echo private",
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			c, err := within(ctx, s, func(ctx context.Context) (client.Cutover, error) { return s.lastCutover(ctx, args[0]) })
			if err != nil {
				return err
			}
			return a.watchCutover(ctx, s, c)
		}),
	}
}

func (a *app) cutoverAcknowledge() *cobra.Command {
	return &cobra.Command{
		Use: "acknowledge TENANT NAME…", Short: "Accept blockers of a running cutover by name", Args: takes("TENANT", "NAME…"),
		Long: `Acknowledge accepts blockers of the tenant's cutover by their names, such as PublicClients: clients that
still come publicly are then cut off when it enforces. Who accepted what is recorded.`,
		Example: "  postern cutover acknowledge example PublicClients",
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			c, err := s.lastCutover(ctx, args[0])
			if err != nil {
				return err
			}
			if c, err = s.AcknowledgeCutover(ctx, c.ID, args[1:]...); err != nil {
				return err
			}
			return a.print(c, func() string { return cutoverText(c) })
		}),
	}
}

func (a *app) cutoverRollback() *cobra.Command {
	var reason string
	var yes bool
	cmd := &cobra.Command{
		Use: "rollback TENANT", Short: "Make a tenant public again", Args: takes("TENANT"),
		Long: `Rollback ends the tenant's cutover, from whatever step it is at or long after it was complete: the public
ingress admits its clients again at once, and the public DNS leads to it again. Clients that come
privately go on to do so while your own DNS answers with your endpoint. You are asked first.`,
		Example: "  postern cutover rollback example --reason \"the BI tool is still public\"\n  postern cutover rollback example --yes",
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			c, err := within(ctx, s, func(ctx context.Context) (client.Cutover, error) { return s.lastCutover(ctx, args[0]) })
			if err != nil {
				return err
			}
			if c.Status.State != stateRolledBack { // the API says that there is nothing to go back from
				if err := a.confirm(yes, fmt.Sprintf("tenant %s, whose cutover is %s, becomes reachable from the internet again", args[0], c.Status.State)); err != nil {
					return err
				}
			}
			c, err = within(ctx, s, func(ctx context.Context) (client.Cutover, error) { return s.RollBackCutover(ctx, c.ID, reason) })
			if err != nil {
				return err
			}
			return a.print(c, func() string { return cutoverText(c) })
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for the record: why")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// lastCutover is the tenant's cutover that counts, or else the one that began
// last of those that were rolled back.
func (s session) lastCutover(ctx context.Context, tenant string) (client.Cutover, error) {
	all, err := s.Cutovers(ctx, tenant)
	if err != nil {
		return client.Cutover{}, err
	}
	if len(all) == 0 {
		if _, err := s.Tenant(ctx, tenant); err != nil {
			return client.Cutover{}, err
		}
		return client.Cutover{}, fmt.Errorf("tenant %s has had no cutover; what stands against one: postern cutover preflight %s", tenant, tenant)
	}
	return slices.MaxFunc(all, func(x, y client.Cutover) int {
		if x, y := x.Status.State != stateRolledBack, y.Status.State != stateRolledBack; x != y {
			if x {
				return 1
			}
			return -1
		}
		return x.Status.StartedAt.Compare(y.Status.StartedAt)
	}), nil
}

// lostApps tells of apps that a rollback took along.
func lostApps(ids []string) (lines []string) {
	for _, id := range ids {
		lines = append(lines, "private access to app "+id+": take its records out of your networks' DNS (postern app show "+id+")")
	}
	return lines
}

func cutoverText(c client.Cutover) string {
	st := c.Status
	var b block
	b.add("Cutover", c.ID)
	b.add("Tenant", c.Spec.Tenant)
	b.add("Organization", st.Organization)
	b.add("State", st.State)
	b.add("Acknowledged", c.Spec.Acknowledged...)
	b.add("Started", "by "+st.StartedBy+", "+at(st.StartedAt))
	b.add("Fallback in DNS since", at(st.FallbackAt))
	b.add("Led since", at(st.RedirectedAt))
	b.add("In DNS since", at(st.PublishedAt))
	b.add("Failing since", at(st.FailingSince))
	b.add("Enforced", at(st.EnforcedAt))
	b.add("Drains until", at(st.DrainUntil))
	b.add("Withdrawn since", at(st.WithdrawnAt))
	if !st.EndedAt.IsZero() {
		b.add("Lost with it", lostApps(st.LostApps)...)
		b.add("Ended", "by "+st.EndedBy+", "+at(st.EndedAt)+": "+st.EndedWhy)
		b.add("Restored in DNS since", at(st.RestoredAt))
		b.add("Fallback gone since", at(st.SettledAt))
		if st.State == stateRolledBack && st.SettledAt.IsZero() {
			return b.text() + conditions(st.Conditions)
		}
		return b.text() // what its conditions were then is of no use to anybody now
	}
	return b.text() + conditions(st.Conditions)
}
