package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// actOutbound does what a round decided, region by region side by side, and in
// each one after the other: deletions before anything is made. What fails is
// planned again by the next round.
func (l *Loop) actOutbound(ctx context.Context, actions []plan.ConnectionAction) {
	l.forgetOutbound(actions)
	byRegion := map[string][]plan.ConnectionAction{}
	for _, a := range actions {
		byRegion[a.Region] = append(byRegion[a.Region], a)
	}
	var wg sync.WaitGroup
	for _, as := range byRegion {
		wg.Go(func() {
			limited, cancel := context.WithTimeout(ctx, actTimeout)
			defer cancel()
			for _, takes := range []bool{true, false} {
				for _, a := range as {
					if takes == (a.Kind == plan.DeleteEndpoint || a.Kind == plan.DeleteGroup) && !l.pauses(a) {
						l.actOnConnection(limited, ctx, a)
					}
				}
			}
		})
	}
	wg.Wait()
}

// actOnConnection does one thing and records it, even when whole has ended
// after it was done.
func (l *Loop) actOnConnection(limited, whole context.Context, a plan.ConnectionAction) {
	err := l.do(limited, a)
	switch {
	case err == nil:
		l.taken(a.Connection)
		if err := l.recordOutbound(whole, a); err != nil {
			l.Logger.Error("what was done at AWS could not be recorded", "connection", a.Connection, "action", a.Kind, "error", err)
		}
	case limited.Err() != nil:
	case a.Kind == plan.DeleteGroup && postern.CodeOf(err) == postern.CodeConflict:
		l.refuse(a, err) // its endpoint's interfaces go a while after the endpoint
	default:
		l.Logger.Error("an action at AWS failed; it is tried again", "connection", a.Connection, "region", a.Region, "action", a.Kind, "error", err)
		l.refuse(a, err)
	}
}

// taken forgets that AWS refused something of a connection.
func (l *Loop) taken(connection string) {
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	delete(l.outbound.refused, connection)
}

func (l *Loop) do(ctx context.Context, a plan.ConnectionAction) error {
	switch a.Kind {
	case plan.CreateGroup:
		return l.Outbound.CreateOutboundGroup(ctx, a.Region, a.VPC, l.Platform.Name, a.Connection)
	case plan.SetGroupRules:
		return l.Outbound.ChangeGroupRules(ctx, a.Region, a.Target, a.Add, a.Remove)
	case plan.CreateEndpoint:
		_, err := l.Outbound.CreateOutboundEndpoint(ctx, postern.NewOutboundEndpoint{
			Platform: l.Platform.Name, ConnectionID: a.Connection, Service: a.Service, VPC: a.VPC, Subnets: a.Subnets, Group: a.Group,
		})
		return err
	case plan.SetEndpointGroups:
		return l.Outbound.ChangeEndpointGroups(ctx, a.Region, a.Target, a.Put, a.Take)
	case plan.DeleteEndpoint:
		failed, err := l.Outbound.DeleteOutboundEndpoints(ctx, a.Region, []string{a.Target})
		return errors.Join(err, failed[a.Target])
	case plan.DeleteGroup:
		return l.Outbound.DeleteOutboundGroup(ctx, a.Region, a.Target)
	}
	return fmt.Errorf("no such action: %s", a.Kind)
}

// makes tells the actions that need a fresh look at the service: nothing is
// looked at, and so none of them planned, before the pause is over.
func makes(k plan.ConnectionActionKind) bool {
	return k == plan.CreateGroup || k == plan.CreateEndpoint
}

// pauses tells whether an action was refused a short while ago.
func (l *Loop) pauses(a plan.ConnectionAction) bool {
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	r := l.outbound.refused[a.Connection]
	return !makes(a.Kind) && r.kind == a.Kind && l.Now().Before(r.until)
}

// refuse keeps why an action failed, for the connection's condition. It is tried
// again after a pause that doubles up to a resync period: AWS lets a region's
// endpoints be made and deleted at 0.3 calls a second, and one connection that it
// refuses must not use those up for all.
func (l *Loop) refuse(a plan.ConnectionAction, err error) {
	message := "the call failed"
	var e *postern.Error
	if errors.As(err, &e) {
		message = e.Message
	}
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	pause := l.Settle
	if last := l.outbound.refused[a.Connection]; last.kind == a.Kind {
		pause = 2 * last.pause
	}
	pause = min(pause, l.Resync)
	l.outbound.refused[a.Connection] = refusal{kind: a.Kind, message: message, pause: pause, until: l.Now().Add(pause)}
}

// key tells an action from others; what AWS's listings do not show yet is
// planned, done and told as the same again.
func key(a plan.ConnectionAction) string { return string(a.Kind) + " " + a.Connection + " " + a.Target }

// forgetOutbound drops what was known of actions that are no longer planned.
func (l *Loop) forgetOutbound(planned []plan.ConnectionAction) {
	keys, connections := map[string]bool{}, map[string]bool{}
	for _, a := range planned {
		keys[key(a)], connections[a.Connection] = true, true
	}
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	maps.DeleteFunc(l.outbound.done, func(k string, _ bool) bool { return !keys[k] })
	now := l.Now()
	maps.DeleteFunc(l.outbound.refused, func(c string, r refusal) bool { return !connections[c] && now.Sub(r.until) >= l.Resync })
}

var outboundEvents = map[plan.ConnectionActionKind]struct{ action, done string }{
	plan.CreateGroup:       {"data-connection.group-created", "made a security group at AWS: "},
	plan.SetGroupRules:     {"data-connection.group-rules", "changed who its security group admits at AWS: "},
	plan.CreateEndpoint:    {"data-connection.endpoint-created", "made an endpoint at AWS: "},
	plan.SetEndpointGroups: {"data-connection.endpoint-groups", "took foreign security groups off its endpoint at AWS: "},
	plan.DeleteEndpoint:    {"data-connection.endpoint-deleted", "deleted endpoint %s at AWS: "},
	plan.DeleteGroup:       {"data-connection.group-deleted", "deleted security group %s at AWS: "},
}

func (l *Loop) recordOutbound(ctx context.Context, a plan.ConnectionAction) error {
	l.outbound.mu.Lock()
	told := l.outbound.done[key(a)]
	l.outbound.done[key(a)] = true
	l.outbound.mu.Unlock()
	if told {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	e := outboundEvents[a.Kind]
	done := e.done
	if a.Kind == plan.DeleteEndpoint || a.Kind == plan.DeleteGroup {
		done = fmt.Sprintf(done, a.Target)
	}
	return l.Store.Update(ctx, func(tx *store.Tx) error {
		return tx.AppendEvent(l.event(e.action, "data-connection", a.Connection, a.Organization, done+a.Why))
	})
}
