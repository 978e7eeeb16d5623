package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

func (a *app) endpointClaim() *cobra.Command {
	var tenants []string
	var dryRun, wait bool
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "claim VPCE…",
		Short: "Ask for private access through your endpoints",
		Long: `Claim asks for private access: give all endpoint IDs and all tenants at once. Either the whole claim is
taken, or none of it and every problem is told.

Without --tenant, an endpoint reaches all that your organization has in its segment, now and later.
With --tenant, only those: for an isolated network, or to use several endpoints side by side.

With --wait the command follows the endpoints until each is ready or can no longer become so, and ends
with status 0 only if all are ready. A claim that an operator has to approve may take a while.`,
		Example: `  postern endpoint claim vpce-0d363d9ea82658bec --wait
  postern endpoint claim vpce-0d363d9ea82658bec vpce-0a1b2c3d4e5f60718 --tenant example --tenant example-dev
  postern endpoint claim vpce-0d363d9ea82658bec --dry-run`,
		Args: takes("VPCE…"),
		RunE: a.online(func(ctx context.Context, s session, args []string) error {
			result, err := within(ctx, s, func(ctx context.Context) (client.ClaimResult, error) {
				organization, err := s.organization(ctx)
				if err != nil {
					return client.ClaimResult{}, err
				}
				return s.ClaimEndpoints(ctx, client.Claim{Organization: organization, VPCEndpointIDs: args, Tenants: tenants}, dryRun)
			})
			if err != nil {
				return err
			}
			if !wait || dryRun {
				return a.print(result, func() string { return claimText(result) })
			}
			w := watch{session: s, patience: patience, seen: map[string]client.Endpoint{}}
			waitErr := w.follow(ctx, args)
			result.Endpoints = w.endpoints(result.Endpoints)
			if err := a.print(result, func() string { return endpointTable(result.Endpoints) }); err != nil {
				return err
			}
			return waitErr
		}),
	}
	cmd.Flags().StringArrayVar(&tenants, "tenant", nil, "`NAME` of a tenant that they may reach; may be given several times")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing; print what would be done")
	cmd.Flags().BoolVar(&wait, "wait", false, "follow the endpoints until all are ready")
	cmd.Flags().DurationVar(&patience, "wait-timeout", 30*time.Minute, "how long to wait")
	notBoth(cmd, "dry-run", "wait")
	return cmd
}

func claimText(r client.ClaimResult) string {
	s := endpointTable(r.Endpoints)
	switch {
	case r.DryRun && len(r.Actions) == 0:
		return s + "\nNothing was changed. Nothing would be done at AWS yet.\n"
	case r.DryRun:
		return s + "\nNothing was changed. At AWS would be done:\n\n" + actionTable(r.Actions)
	case slices.ContainsFunc(r.Endpoints, func(e client.Endpoint) bool { return e.Status.State == stateRequested }):
		return s + "\nClaimed. \"postern endpoint show VPCE\" tells what it waits for.\n"
	}
	return s
}

// watch follows endpoints to where they come to rest.
type watch struct {
	session
	patience time.Duration
	seen     map[string]client.Endpoint // last seen
}

const pollEvery = 500 * time.Millisecond

// follow returns nil when all are ready, and else what became of each that is
// not. That the API is away for a while does not end the wait.
func (w *watch) follow(ctx context.Context, ids []string) error {
	deadline := time.NewTimer(w.patience)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var ended []error
	away := false
	for {
		var open []string
		for _, id := range ids {
			rests, err := w.look(ctx, id)
			switch {
			case err != nil && rests:
				ended = append(ended, err)
			case err != nil && ctx.Err() != nil:
				return ctx.Err()
			case err != nil && !away:
				away = true
				call := apiError{address: w.app.or(w.app.settings.api, "POSTERN_API"), timeout: w.app.settings.timeout, cause: err}
				if noteErr := w.app.note("%s; still waiting", strings.ReplaceAll(explain(ctx, &call), "\n", "; ")); noteErr != nil {
					return noteErr
				}
			case err == nil:
				away = false
			}
			if !rests {
				open = append(open, id)
			}
		}
		if ids = open; len(ids) == 0 {
			return errors.Join(ended...)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			for _, id := range ids {
				ended = append(ended, fmt.Errorf("%s is still %s after %s: %s", id, stateOf(w.seen[id]), w.patience, cmp.Or(waitsFor(w.seen[id]), "the control plane has not looked at it yet")))
			}
			return errors.Join(ended...)
		case <-tick.C:
		}
	}
}

// look gets one endpoint and tells whether it rests, with an error if not where
// it should.
func (w *watch) look(ctx context.Context, id string) (rests bool, err error) {
	e, err := within(ctx, w.session, func(ctx context.Context) (client.Endpoint, error) { return w.Endpoint(ctx, id) })
	var refused *client.Error
	if errors.As(err, &refused) && refused.Status < 500 && !client.HasCode(err, "throttled") {
		return true, fmt.Errorf("%s: %w", id, err) // its claim was taken back, or the token revoked
	}
	if err != nil {
		return false, err
	}
	last := w.seen[id]
	w.seen[id] = e
	if last.Status.State != e.Status.State || waitsFor(last) != waitsFor(e) {
		text := id + ": " + e.Status.State
		if what := waitsFor(e); what != "" && e.Status.State != stateReady {
			text += ": " + what
		}
		if err := w.app.note("%s", text); err != nil {
			return true, err
		}
	}
	switch e.Status.State {
	case stateReady:
		return true, nil
	case stateRequested, "pending-acceptance", "pending":
		return false, nil
	}
	return true, fmt.Errorf("%s is %s: %s", id, e.Status.State, waitsFor(e))
}

// endpoints are the last seen, in the order of the claim.
func (w *watch) endpoints(claimed []client.Endpoint) []client.Endpoint {
	out := slices.Clone(claimed)
	for i, e := range out {
		if last, ok := w.seen[e.ID]; ok {
			out[i] = last
		}
	}
	return out
}

func stateOf(e client.Endpoint) string {
	if e.Status.State == "" {
		return "unknown"
	}
	return e.Status.State
}

// waitsFor is the message of the first condition that does not hold, in the
// order in which they come to hold. Ready only sums the others up.
func waitsFor(e client.Endpoint) string {
	summary := ""
	for _, t := range []string{"AccountProven", "Approved", "Connected", "Ready"} {
		for _, c := range e.Status.Conditions {
			if c.Type == t && c.Status != "True" {
				return c.Message
			}
			if c.Type == "Ready" {
				summary = c.Message
			}
		}
	}
	return summary
}

// within does one call in the time that one call may take.
func within[T any](ctx context.Context, s session, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, s.app.settings.timeout)
	defer cancel()
	return do(ctx)
}
