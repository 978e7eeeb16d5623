package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postern-net/postern/client"
)

// cutoverPollEvery is how often a cutover is looked at that is watched: it may
// take a day.
const cutoverPollEvery = time.Second

// waitedFor are the conditions that a state waits for, in the order in which
// they come to hold.
var waitedFor = map[string][]string{
	"rehearsing":  {"DNSPublished", "PrivateTraffic", "PublicClients", "NodesAcknowledged"},
	"enforcing":   {"NodesAcknowledged"},
	"withdrawing": {"DNSPublished"},
}

// watchCutover tells each step as it is reached, prints the cutover as it
// ended, and fails unless it is complete. That the API is away for a while does
// not end it.
func (a *app) watchCutover(ctx context.Context, s session, c client.Cutover) error {
	tick := time.NewTicker(cutoverPollEvery)
	defer tick.Stop()
	var told string
	away := false
	for {
		if now := cutoverStep(c); now != told {
			told = now
			if err := a.note("%s", now); err != nil {
				return err
			}
		}
		if st := c.Status; st.State == stateComplete || st.State == stateRolledBack {
			if err := a.print(c, func() string { return cutoverText(c) }); err != nil || st.State == stateComplete {
				return err
			}
			return fmt.Errorf("the cutover was rolled back by %s: %s", st.EndedBy, st.EndedWhy)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		next, err := within(ctx, s, func(ctx context.Context) (client.Cutover, error) { return s.Cutover(ctx, c.ID) })
		var refused *client.Error
		switch {
		case err == nil:
			c, away = next, false
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &refused) && refused.Status < 500 && !client.HasCode(err, "throttled"):
			return err // its tenant was deleted, or the token revoked
		case !away:
			away = true
			call := apiError{address: a.or(a.settings.api, "POSTERN_API"), timeout: a.settings.timeout, cause: err}
			if err := a.note("%s; still watching", strings.ReplaceAll(explain(ctx, &call), "\n", "; ")); err != nil {
				return err
			}
		}
	}
}

// cutoverStep is a cutover's state with the first thing that it waits for.
func cutoverStep(c client.Cutover) string {
	text := c.Spec.Tenant + ": " + c.Status.State
	for _, t := range waitedFor[c.Status.State] {
		i := slices.IndexFunc(c.Status.Conditions, func(x client.Condition) bool { return x.Type == t })
		if i >= 0 && c.Status.Conditions[i].Status != "True" {
			return text + ": " + c.Status.Conditions[i].Message
		}
	}
	return text
}
