package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

func (a *app) denials() *cobra.Command {
	return &cobra.Command{
		Use: "denials", Short: "List refused connections and why", Args: takes(),
		Long: `Denials lists connections that the platform refused, counted by endpoint, server name and reason. The one
who was refused sees the same TLS alert for every reason; this list is where the reason is.`,
		Example: "  postern denials\n  postern denials -o json",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			ds, err := s.Denials(ctx, a.askedOrganization())
			if err != nil {
				return err
			}
			return printList(a, ds, "no refused connection", []string{"LAST SEEN", "COUNT", "REASON", "SERVER NAME", "FROM", "LISTENER", "REGION"}, func(d client.Denial) []string {
				from := d.VPCEndpointID
				if from == "" {
					from = d.Source
				}
				return []string{at(d.LastSeen), strconv.FormatInt(d.Count, 10), d.Reason, d.ServerName, from, d.Listener, d.Region}
			})
		}),
	}
}

func (a *app) plan() *cobra.Command {
	return &cobra.Command{
		Use: "plan", Short: "Print what would be done at AWS now", Args: takes(),
		Long: `Plan prints what the control loop would do at AWS now, and why. It does these things by itself within a
moment; what stays in the list cannot be done, and the endpoint or the log tells why.`,
		Example: "  postern plan",
		RunE: a.once(func(ctx context.Context, s session, _ []string) error {
			actions, err := s.Plan(ctx)
			if err != nil {
				return err
			}
			if a.settings.output != asJSON && len(actions) == 0 {
				return a.note("nothing to do: AWS is as it should be")
			}
			return a.print(client.Page[client.Action]{Items: actions}, func() string { return actionTable(actions) })
		}),
	}
}

func actionTable(actions []client.Action) string {
	t := newTable("ACTION", "TARGET", "ENDPOINT SERVICE", "WHY")
	for _, x := range actions {
		t.row(x.Kind, x.Target, x.Service, x.Why)
	}
	return t.text()
}

func (a *app) events() *cobra.Command {
	var after int64
	var follow bool
	cmd := &cobra.Command{
		Use: "events", Short: "List who did what, and what Postern did", Args: takes(),
		Long: `Events lists the record of who did what and what Postern did by itself, oldest first. Nothing is ever
changed in it. With --follow it goes on with what happens, until interrupted; as JSON, each event is
then one line.`,
		Example: "  postern events\n  postern events --after 120\n  postern events --follow -o json",
		RunE: a.online(func(ctx context.Context, s session, _ []string) error {
			if follow {
				return s.follow(ctx, after)
			}
			es, err := within(ctx, s, func(ctx context.Context) ([]client.Event, error) {
				return s.Events(ctx, a.askedOrganization(), after)
			})
			if err != nil {
				return err
			}
			return printList(a, es, "no event", []string{"SEQ", "TIME", "WHO", "ACTION", "WHAT", "MESSAGE"}, func(e client.Event) []string {
				return []string{strconv.FormatInt(e.Seq, 10), at(e.At), e.Actor, e.Action, e.Subject, e.Message}
			})
		}),
	}
	cmd.Flags().Int64Var(&after, "after", 0, "only events with a greater SEQ")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what happens")
	return cmd
}

// follow prints events as they happen. A stream that breaks is taken up again
// behind the last event seen; the first attempt must succeed, so that a wrong
// address is told at once. An interrupt is how it is meant to end.
func (s session) follow(ctx context.Context, after int64) error {
	if _, err := within(ctx, s, s.WhoAmI); err != nil {
		return err
	}
	away := false
	for {
		var writeErr error
		err := s.WatchEvents(ctx, s.app.askedOrganization(), after, func(e client.Event) bool {
			after, away = e.Seq, false
			writeErr = s.app.printEvent(e)
			return writeErr == nil
		})
		var refused *client.Error
		switch {
		case writeErr != nil:
			return writeErr
		case ctx.Err() != nil:
			return nil //nolint:nilerr // an interrupt is how following ends
		case errors.As(err, &refused) && refused.Status < 500:
			return err
		case err != nil && !away:
			// A server that restarts, or ends a stream after a while, is not
			// worth a word; one that stays away is.
			if _, err := within(ctx, s, s.WhoAmI); err != nil && ctx.Err() == nil {
				away = true
				if err := s.app.note("the API does not answer; still following"); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (a *app) printEvent(e client.Event) error {
	if a.settings.output == asJSON {
		b, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode an event: %w", err)
		}
		return write(a.Out, string(b)+"\n")
	}
	return write(a.Out, clean(fmt.Sprintf("%6d  %s  %s  %s  %s: %s", e.Seq, at(e.At), e.Actor, e.Action, e.Subject, e.Message))+"\n")
}
