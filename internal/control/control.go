// Package control is the loop: it reads what is wanted and what the cloud
// says, lets internal/plan decide, stores the outcome, publishes the route
// table and acts at AWS.
//
// It is level-triggered: a round starts after a change, and at every resync
// period whatever happened. A round that was cut off anywhere is finished by
// the next one.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// Cloud is what the loop needs of AWS. Listings are complete or an error.
// Changes are idempotent; Accept and Reject return an error for each endpoint
// that AWS refused, besides an error of the call as a whole.
type Cloud interface {
	Connections(ctx context.Context, svc postern.ServiceRef) ([]postern.Connection, error)
	Principals(ctx context.Context, svc postern.ServiceRef) ([]string, error)
	ChangePrincipals(ctx context.Context, svc postern.ServiceRef, add, remove []string) error
	Accept(ctx context.Context, svc postern.ServiceRef, endpointIDs []string) (map[string]error, error)
	Reject(ctx context.Context, svc postern.ServiceRef, endpointIDs []string) (map[string]error, error)
}

// Config is what a [Loop] is made of.
type Config struct {
	Platform *postern.Platform
	Store    *store.Store
	Cloud    Cloud
	Rules    plan.Rules
	Resync   time.Duration // how often to look without a reason
	Settle   time.Duration // how soon to look again while something is on its way
	// Listing bounds the look at one service, so that a region that hangs does
	// not hold the others' decisions; 0: 5 s.
	Listing time.Duration
	// Publish hands a route table to the data plane. It must not block. The
	// same revision may come again, an earlier one never does.
	Publish func(postern.Routes)
	// PublishZones hands out the public DNS, on the same terms; nil: nobody
	// serves it.
	PublishZones func(postern.Zones)
	Names        Names // checks what the zones' servers answer; nil: there are none
	// Outbound makes the endpoints of data connections; nil: nobody does, and
	// they stay as they are.
	Outbound Outbound
	Texts    Texts // asks public DNS for the proofs of hostnames; nil: none is found
	Now      func() time.Time
	Logger   *slog.Logger
}

// Loop runs rounds. Run may be called once.
type Loop struct {
	Config

	publishing sync.Mutex // one compile, save and hand-over at a time

	mu     sync.Mutex
	listed map[string][]postern.Connection // by region, when it answered last
	failed map[string]string               // endpoint ID → why AWS refused to accept it
	done   map[plan.Action]bool            // recorded, and still planned: AWS's listings lag

	outbound outboundMemory
}

// actTimeout bounds all that one round does to one service.
const actTimeout = 10 * time.Second

// New makes a loop.
func New(c Config) *Loop {
	if c.PublishZones == nil {
		c.PublishZones = func(postern.Zones) {}
	}
	if c.Listing <= 0 {
		c.Listing = 5 * time.Second
	}
	if c.Names == nil {
		c.Names = nowhere{}
	}
	if c.Texts == nil {
		c.Texts = silent{}
	}
	if c.Rules.Looks == (plan.LookRules{}) {
		c.Rules.Looks = plan.LookRules{Every: c.Resync, Soon: min(c.Resync, lookPace*c.Settle), Lifetime: 3*c.Resync + lookTime}
	}
	return &Loop{Config: c, listed: map[string][]postern.Connection{}, failed: map[string]string{}, done: map[plan.Action]bool{}, outbound: newOutboundMemory()}
}

// Run runs rounds until ctx ends. A change of what may pass reaches the data
// plane at once, even while a round waits for AWS.
func (l *Loop) Run(ctx context.Context) error {
	wake, cancel := l.Store.Subscribe()
	defer cancel()
	changed, cancelChanged := l.Store.Subscribe()
	defer cancelChanged()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { l.publishChanges(ctx, changed) })

	if l.Outbound != nil {
		// A lane of its own: what a customer's resolver or cluster does not
		// answer must not hold up who is let in.
		other, cancelOther := l.Store.Subscribe()
		defer cancelOther()
		wg.Go(func() {
			defer l.outbound.looking.Wait()
			l.rounds(ctx, "outbound", other, l.OutboundRound)
		})
	}
	l.rounds(ctx, "inbound", wake, l.Round)
	return nil
}

// rounds runs one kind of rounds until ctx ends.
func (l *Loop) rounds(ctx context.Context, lane string, wake <-chan struct{}, round func(context.Context) (settled bool, err error)) {
	for {
		wait := l.Resync
		settled, err := round(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.Logger.Error("a round failed; the next one goes on from here", "lane", lane, "error", err)
			wait = min(l.Resync, retryAfter)
		case !settled:
			wait = min(l.Resync, l.Settle)
		}
		// The gap keeps a round's own writes from starting the next at once.
		if !sleep(ctx, min(wait, l.Settle/4), nil) || !sleep(ctx, wait, wake) {
			return
		}
	}
}

// retryAfter is how soon what failed is tried again.
const retryAfter = 5 * time.Second

// publishChanges keeps the route table up with the store.
func (l *Loop) publishChanges(ctx context.Context, changed <-chan struct{}) {
	wait := l.Resync
	for sleep(ctx, wait, changed) {
		wait = l.Resync
		if err := l.publish(ctx); err != nil && ctx.Err() == nil {
			l.Logger.Error("could not publish the routes; it is tried again", "error", err)
			wait = min(l.Resync, retryAfter)
		}
	}
}

// sleep waits for a time or a wake-up; false: ctx has ended.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}

// PublishStored hands out the routes and the zones that follow from what is
// stored: the data plane is served before the cloud is asked anything, and
// what was revoked before a crash stays revoked. Call it before Run.
func (l *Loop) PublishStored(ctx context.Context) error {
	// Before any node speaks to this process.
	err := l.Store.View(ctx, func(tx *store.Tx) error {
		nodes, err := tx.ListNodes(store.Page{})
		l.began(nodes)
		return err
	})
	return errors.Join(err, l.publish(ctx))
}

// Round looks, decides, stores, publishes and acts once. It reports whether
// everything has come to rest.
func (l *Loop) Round(ctx context.Context) (settled bool, err error) {
	// What was just asked for takes effect before the cloud is asked: a
	// revocation must not wait for AWS.
	if err := l.publish(ctx); err != nil {
		return false, err
	}
	observed := l.observe(ctx)
	desired, err := l.desired(ctx)
	if err != nil {
		return false, err
	}
	round := plan.Decide(l.Platform, desired, observed, l.Rules, l.Now())
	if err := l.record(ctx, round); err != nil {
		return false, err
	}
	if err := l.publish(ctx); err != nil {
		return false, err
	}
	l.act(ctx, round.Actions)
	if desired, err = l.desired(ctx); err != nil {
		return false, err
	}
	if err := errors.Join(l.recordApps(ctx, desired), l.recordWithdrawals(ctx)); err != nil {
		return false, err
	}
	still, err := l.stepCutovers(ctx, desired)
	if err != nil {
		return false, err
	}
	return still && !round.Unsettled && len(round.Actions) == 0, l.publish(ctx)
}

func (l *Loop) desired(ctx context.Context) (d plan.Desired, err error) {
	err = l.Store.View(ctx, func(tx *store.Tx) error {
		var e1, e2, e3, e4, e5, e6, e7, e8, e9 error
		d.Tenants, e1 = tx.ListTenants("", store.Page{})
		d.Accounts, e2 = tx.ListAccounts("", store.Page{})
		d.Endpoints, e3 = tx.ListEndpoints("", "", store.Page{})
		d.Cutovers, e4 = tx.ListCurrentCutovers()
		d.Principals, e5 = tx.ListPrincipals()
		d.Connections, e6 = tx.ListConnections(store.ConnectionFilter{}, store.Page{})
		d.Workloads, e7 = tx.ListWorkloads()
		d.Apps, e8 = tx.ListAppAccess("")
		d.Withdrawals, e9 = tx.ListWithdrawals("")
		return errors.Join(e1, e2, e3, e4, e5, e6, e7, e8, e9)
	})
	return d, err
}

// observe asks every service, side by side. A service that does not answer is
// left out, so that nothing is concluded about it.
func (l *Loop) observe(ctx context.Context) plan.Observed {
	var mu sync.Mutex
	var wg sync.WaitGroup
	services := map[string]plan.Service{}
	for _, s := range l.Platform.Segments {
		for _, r := range s.Regions {
			wg.Go(func() {
				found, err := l.look(ctx, r.Service())
				if err != nil {
					if ctx.Err() == nil {
						l.Logger.Warn("AWS did not answer for a service; its endpoints stay as they were", "region", r.ID, "service", r.Service().ID, "error", err)
					}
					return
				}
				mu.Lock()
				services[r.ID] = found
				mu.Unlock()
			})
		}
	}
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for region, s := range services {
		l.listed[region] = s.Connections
	}
	return plan.Observed{Services: services, Failed: maps.Clone(l.failed)}
}

func (l *Loop) look(ctx context.Context, svc postern.ServiceRef) (plan.Service, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Listing)
	defer cancel()
	connections, err := l.Cloud.Connections(ctx, svc)
	if err != nil {
		return plan.Service{}, err
	}
	principals, err := l.Cloud.Principals(ctx, svc)
	return plan.Service{Connections: connections, Principals: principals}, err
}

// record stores what a round decided, an object a transaction. An object that
// was changed meanwhile is left to the next round.
func (l *Loop) record(ctx context.Context, r plan.Round) error {
	for _, c := range r.Endpoints {
		if err := skipConflict(l.Store.Update(ctx, func(tx *store.Tx) error { return l.recordEndpoint(tx, c) })); err != nil {
			return err
		}
	}
	if err := l.recordPrincipals(ctx, r.Principals); err != nil {
		return err
	}
	for _, a := range r.Forget {
		err := l.Store.Update(ctx, func(tx *store.Tx) error {
			return errors.Join(tx.DeleteAccount(a), tx.AppendEvent(l.event("account.removed", "account", a.ID, a.Organization,
				"nothing of AWS account "+a.ID+" is left on the platform")))
		})
		if err := skipConflict(err); err != nil {
			return err
		}
	}
	return nil
}

// recordPrincipals writes what is about to be put on the allow-lists, and drops
// what is known to be off them.
func (l *Loop) recordPrincipals(ctx context.Context, changes []plan.PrincipalChange) error {
	if len(changes) == 0 {
		return nil
	}
	return l.Store.Update(ctx, func(tx *store.Tx) error {
		for _, c := range changes {
			write := tx.SavePrincipal
			if c.Delete {
				write = tx.DeletePrincipal
			}
			if err := write(c.After); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *Loop) recordEndpoint(tx *store.Tx, c plan.EndpointChange) error {
	if c.Delete {
		return errors.Join(tx.DeleteEndpoint(c.Before), tx.AppendEvent(l.event("endpoint.removed", "endpoint", c.Before.ID, c.Before.Organization,
			"nothing of the endpoint is left on the platform")))
	}
	if _, err := tx.UpdateEndpoint(c.After); err != nil {
		return err
	}
	if c.Before.State == c.After.State {
		return nil
	}
	msg := fmt.Sprintf("from %s to %s: %s", c.Before.State, c.After.State, postern.FindCondition(c.After.Conditions, postern.Connected).Message)
	return tx.AppendEvent(l.event("endpoint.state", "endpoint", c.After.ID, c.After.Organization, msg))
}

func (l *Loop) event(action, kind, subject, organization, message string) postern.Event {
	return postern.Event{At: l.Now(), Actor: "loop", Action: action, Kind: kind, Subject: subject, Organization: organization, Message: message}
}

func skipConflict(err error) error {
	if err != nil && postern.CodeOf(err) == postern.CodeConflict {
		return nil
	}
	return err
}

// publish compiles the route table from what is stored, and gives it a new
// revision only when it differs. It is stored before it is handed out, so that
// a revision means the same table for ever.
func (l *Loop) publish(ctx context.Context) error {
	l.publishing.Lock()
	defer l.publishing.Unlock()
	desired, err := l.desired(ctx)
	if err != nil {
		return err
	}
	if err := l.publishZones(ctx, desired); err != nil {
		return err
	}
	next := plan.Compile(l.Platform, desired)
	next.Checks = plan.CompileChecks(l.Platform, desired, l.Rules.Looks)
	var stored postern.Routes
	if err := l.Store.View(ctx, func(tx *store.Tx) (err error) { stored, err = tx.FindRoutes(); return err }); err != nil {
		return err
	}
	next.Revision = stored.Revision
	if stored.Revision > 0 && reflect.DeepEqual(stored, next) {
		l.Publish(stored)
		return l.published(ctx, desired.Withdrawals, stored.Revision)
	}
	next.Revision++
	if err := l.Store.Update(ctx, func(tx *store.Tx) error { return tx.SaveRoutes(next) }); err != nil {
		return err
	}
	l.Publish(next)
	return l.published(ctx, desired.Withdrawals, next.Revision)
}
