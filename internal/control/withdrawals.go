package control

import (
	"context"
	"errors"
	"strings"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// published notes the first route table without what was taken away. What is
// given was read together with all that the table was compiled from.
func (l *Loop) published(ctx context.Context, all []postern.Withdrawal, revision int64) error {
	for _, w := range all {
		if w.Revision > 0 {
			continue
		}
		w.Revision = revision
		err := l.Store.Update(ctx, func(tx *store.Tx) error { return tx.UpdateWithdrawal(w) })
		if err := skipConflict(err); err != nil {
			return err
		}
	}
	return nil
}

// recordWithdrawals tells, of each thing that was taken away, when every node
// obeys that; and once, who does not after a while.
func (l *Loop) recordWithdrawals(ctx context.Context) error {
	var all []postern.Withdrawal
	var nodes []postern.Node
	err := l.Store.View(ctx, func(tx *store.Tx) error {
		var e1, e2 error
		all, e1 = tx.ListWithdrawals("")
		nodes, e2 = tx.ListNodes(store.Page{})
		return errors.Join(e1, e2)
	})
	for _, w := range all {
		if err != nil {
			break
		}
		err = skipConflict(l.Store.Update(ctx, func(tx *store.Tx) error { return l.recordWithdrawal(tx, w, nodes) }))
	}
	return err
}

func (l *Loop) recordWithdrawal(tx *store.Tx, w postern.Withdrawal, nodes []postern.Node) error {
	what := "its hosts"
	if w.Kind == postern.WithdrawnSCIM {
		what = "the change of its SCIM-only public ingress"
	}
	waiting := plan.StillOffer(w, nodes)
	switch late := l.Now().Sub(w.At) > l.Rules.Cutover.NodeSilence; {
	case len(waiting) == 0:
		return errors.Join(tx.DeleteWithdrawal(w), tx.AppendEvent(l.event("tenant.withdrawn", "tenant", w.Tenant, w.Organization,
			what+": every node obeys, or is fenced")))
	case late && !w.Told:
		w.Told = true
		return errors.Join(tx.UpdateWithdrawal(w), tx.AppendEvent(l.event("tenant.not-withdrawn", "tenant", w.Tenant, w.Organization,
			what+": not acknowledged by node "+strings.Join(waiting, ", ")+
				", which may go on as before; if it is gone for good, take it out of its target group, and say so: postern node fence NODE")))
	}
	return nil
}
