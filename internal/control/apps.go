package control

import (
	"context"

	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// recordApps notes which apps that organizations share came within reach of their
// endpoints, or went, and why: whoever lost one did mostly something else, and
// has to hear of it.
func (l *Loop) recordApps(ctx context.Context, d plan.Desired) error {
	if len(d.Apps) == 0 {
		return nil
	}
	for _, c := range plan.AppChanges(l.Platform, d, plan.Compile(l.Platform, d)) {
		err := l.Store.Update(ctx, func(tx *store.Tx) error {
			if err := tx.MarkApp(c.After); err != nil || c.Event == "" {
				return err
			}
			action := "app.lost"
			if c.After.Ready {
				action = "app.ready"
			}
			return tx.AppendEvent(l.event(action, "organization", c.After.Organization, c.After.Organization, c.Event))
		})
		if err := skipConflict(err); err != nil {
			return err
		}
	}
	return nil
}
