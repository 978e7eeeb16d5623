package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// act does what a round decided: one batch per service and kind of action, so
// that AWS's token buckets are spent on services and not on endpoints. What
// fails is planned again by the next round.
func (l *Loop) act(ctx context.Context, actions []plan.Action) {
	l.forget(actions)
	byService := map[postern.ServiceRef][]plan.Action{}
	for _, a := range actions {
		byService[a.Service] = append(byService[a.Service], a)
	}
	var wg sync.WaitGroup
	for svc, as := range byService {
		wg.Go(func() {
			if err := l.actOn(ctx, svc, as); err != nil && ctx.Err() == nil {
				l.Logger.Error("an action at AWS failed; it is tried again", "region", svc.Region, "service", svc.ID, "error", err)
			}
		})
	}
	wg.Wait()
}

// actOn takes away before it gives: rejections, then principals, then
// acceptances.
func (l *Loop) actOn(whole context.Context, svc postern.ServiceRef, as []plan.Action) error {
	ctx, cancel := context.WithTimeout(whole, actTimeout)
	defer cancel()
	of := func(k plan.ActionKind) (ids []string) {
		for _, a := range as {
			if a.Kind == k {
				ids = append(ids, a.Target)
			}
		}
		return ids
	}
	failed := map[string]error{}
	var errs []error
	if ids := of(plan.Reject); len(ids) > 0 {
		perID, err := l.Cloud.Reject(ctx, svc, ids)
		errs = append(errs, fail(failed, ids, perID, err))
	}
	if add, remove := of(plan.AllowPrincipal), of(plan.DisallowPrincipal); len(add)+len(remove) > 0 {
		err := l.Cloud.ChangePrincipals(ctx, svc, add, remove)
		errs = append(errs, fail(failed, append(add, remove...), nil, err))
	}
	if ids := of(plan.Accept); len(ids) > 0 {
		perID, err := l.Cloud.Accept(ctx, svc, ids)
		errs = append(errs, fail(failed, ids, perID, err))
		l.remember(ids, failed)
	}
	return errors.Join(append(errs, l.recordActions(whole, as, failed))...)
}

// fail notes which targets an action failed for. An error of the call as a
// whole concerns those that have none of their own.
func fail(failed map[string]error, ids []string, perID map[string]error, whole error) error {
	errs := []error{whole}
	for _, id := range ids {
		switch {
		case perID[id] != nil:
			failed[id] = perID[id]
			errs = append(errs, fmt.Errorf("%s: %w", id, perID[id]))
		case whole != nil:
			failed[id] = whole
		}
	}
	return errors.Join(errs...)
}

// remember keeps why an acceptance failed for the endpoint's condition.
func (l *Loop) remember(ids []string, failed map[string]error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		delete(l.failed, id)
		var e *postern.Error
		if errors.As(failed[id], &e) {
			l.failed[id] = e.Message
		} else if failed[id] != nil {
			l.failed[id] = "the call failed"
		}
	}
}

var actionEvents = map[plan.ActionKind]struct{ action, kind, done string }{
	plan.Accept:            {"connection.accepted", "endpoint", "accepted the connection at AWS: "},
	plan.Reject:            {"connection.rejected", "endpoint", "rejected the connection at AWS: "},
	plan.AllowPrincipal:    {"principal.allowed", "service", "allowed %s to create endpoints: "},
	plan.DisallowPrincipal: {"principal.disallowed", "service", "took %s off the allow-list: "},
}

// forget drops what was known of actions that are no longer planned: when one
// is planned again, it is another one.
func (l *Loop) forget(planned []plan.Action) {
	targets := map[string]bool{}
	for _, a := range planned {
		targets[a.Target] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.done, func(a plan.Action, _ bool) bool { return !slices.Contains(planned, a) })
	maps.DeleteFunc(l.failed, func(id, _ string) bool { return !targets[id] })
}

// fresh lists the actions that succeeded and were not recorded before: one
// that AWS's listings do not show yet is planned and done again.
func (l *Loop) fresh(as []plan.Action, failed map[string]error) []plan.Action {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(as), func(a plan.Action) bool { return failed[a.Target] != nil || l.done[a] })
}

// recordActions records what was done, even when ctx ended after it was.
func (l *Loop) recordActions(ctx context.Context, as []plan.Action, failed map[string]error) error {
	as = l.fresh(as, failed)
	if len(as) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if err := l.Store.Update(ctx, func(tx *store.Tx) error {
		for _, a := range as {
			e := actionEvents[a.Kind]
			subject, done := a.Target, e.done
			if e.kind == "service" {
				subject, done = a.Service.Name, fmt.Sprintf(e.done, a.Target)
			}
			if err := tx.AppendEvent(l.event(e.action, e.kind, subject, a.Organization, done+a.Why)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range as {
		l.done[a] = true
	}
	return nil
}

// recordTimeout bounds the record of what was done at AWS.
const recordTimeout = 5 * time.Second

// Preview is what the next round would do at AWS, from a fresh look.
func (l *Loop) Preview(ctx context.Context) ([]plan.Action, error) {
	desired, err := l.desired(ctx)
	if err != nil {
		return nil, err
	}
	observed := l.observe(ctx)
	if len(observed.Services) == 0 {
		return nil, &postern.Error{Code: postern.CodeUnavailable, Message: "AWS did not answer for any service", Fix: "try again; the server's log says why"}
	}
	outbound, err := l.previewOutbound(ctx)
	return append(plan.Decide(l.Platform, desired, observed, l.Rules, l.Now()).Actions, outbound...), err
}

// Connections is what AWS listed when the loop looked last; of a region that
// did not answer then, what it listed before.
func (l *Loop) Connections() []postern.Connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []postern.Connection
	for _, s := range l.Platform.Segments {
		for _, r := range s.Regions {
			all = append(all, l.listed[r.ID]...)
		}
	}
	return all
}
