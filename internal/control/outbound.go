package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// Outbound is what the loop needs of AWS for data connections. Listings are
// complete or an error. Changes are idempotent: what is made carries the
// connection's ID, and is made once for it; what is gone is no error.
type Outbound interface {
	// FindService answers nil for a service that the platform does not see.
	FindService(ctx context.Context, svc postern.ServiceRef) (*postern.EndpointService, error)
	OutboundEndpoints(ctx context.Context, region, platform string) ([]postern.OutboundEndpoint, error)
	OutboundGroups(ctx context.Context, region, platform string) ([]postern.OutboundGroup, error)
	CreateOutboundGroup(ctx context.Context, region, vpc, platform, connection string) error
	ChangeGroupRules(ctx context.Context, region, group string, add, remove []postern.GroupRule) error
	CreateOutboundEndpoint(ctx context.Context, e postern.NewOutboundEndpoint) (id string, err error)
	ChangeEndpointGroups(ctx context.Context, region, endpoint string, add, remove []string) error
	DeleteOutboundEndpoints(ctx context.Context, region string, ids []string) (map[string]error, error)
	DeleteOutboundGroup(ctx context.Context, region, group string) error
}

// Texts is what the loop needs of public DNS: the TXT records at a name. An
// error means that nothing is known.
type Texts interface {
	Texts(ctx context.Context, name string) ([]string, error)
}

// silent knows nothing.
type silent struct{}

var errNothingConfigured = errors.New("nothing is configured that could look")

func (silent) Texts(context.Context, string) ([]string, error) { return nil, errNothingConfigured }

// outboundMemory is what the outbound lane knows only while the process lives.
type outboundMemory struct {
	mu      sync.Mutex
	looking sync.WaitGroup       // looks that are on their way
	since   time.Time            // when looks began to be taken, after nobody was there to take any
	slots   chan struct{}        // taken by looks that are on their way
	busy    map[string]bool      // by connection: it is being looked at
	found   map[string]found     // by connection: what a look found that no round has taken
	looked  map[string]time.Time // by connection: when its service was looked at
	asked   map[string]time.Time // by connection: when DNS was asked for its hostname's proof
	served  map[string]time.Time // by connection: VerifyAsked, when it was looked at
	refused map[string]refusal   // by connection: why AWS last refused
	// withdrawn is the revision that a connection being removed is not in.
	withdrawn map[string]int64
	done      map[string]bool // actions that were recorded, and are still planned
}

// refusal is what AWS refused last of a connection, and when it is asked again.
type refusal struct {
	kind    plan.ConnectionActionKind
	message string
	pause   time.Duration
	until   time.Time
}

func newOutboundMemory() outboundMemory {
	return outboundMemory{
		slots: make(chan struct{}, lookWidth), busy: map[string]bool{}, found: map[string]found{}, withdrawn: map[string]int64{}, looked: map[string]time.Time{}, asked: map[string]time.Time{}, served: map[string]time.Time{}, refused: map[string]refusal{}, done: map[string]bool{},
	}
}

// OutboundRound looks at every data connection, decides, stores, publishes and
// acts once. It reports whether everything has come to rest.
func (l *Loop) OutboundRound(ctx context.Context) (settled bool, err error) {
	if l.Outbound == nil {
		return true, nil
	}
	// What was just deleted leaves the routes before it leaves AWS.
	if err := l.publish(ctx); err != nil {
		return false, err
	}
	d, err := l.outboundDesired(ctx)
	if err != nil {
		return false, err
	}
	if len(d.connections)+len(d.removed) == 0 {
		return true, nil
	}
	l.began(d.nodes)
	l.forgetGone(d)
	clouds := l.observeOutbound(ctx, d.regions())
	views, looked, busy := l.lookAtAll(ctx, d, clouds)
	settled = !busy
	var actions []plan.ConnectionAction
	for i, c := range d.connections {
		step := plan.Connection(c, views[i])
		settled = settled && (!step.Unsettled || l.rested(step))
		stored, err := l.recordConnection(ctx, c, step, looked[i])
		if err != nil { // what was found of this one and of those behind it is stored nowhere
			for j := range d.connections[i:] {
				l.lookAgain(d.connections[i+j].ID, views[i+j])
			}
			return false, err
		}
		if !stored { // it was changed meanwhile
			l.lookAgain(c.ID, views[i])
			settled = false
			continue
		}
		l.tell(c, step.After, views[i])
		actions = append(actions, step.Actions...)
	}
	for region, cloud := range clouds {
		actions = append(actions, plan.Sweep(d.removed, region, cloud)...)
	}
	if err := l.publish(ctx); err != nil {
		return false, err
	}
	l.actOutbound(ctx, actions)
	return settled && !slices.ContainsFunc(actions, func(a plan.ConnectionAction) bool { return a.Kind != l.gaveUp(a.Connection) }), nil
}

// outboundDesired is what the outbound lane reads.
type outboundDesired struct {
	connections   []postern.DataConnection
	removed       []postern.RemovedConnection
	accounts      []postern.Account
	organizations []postern.Organization
	nodes         []postern.Node
	looks         map[string][]postern.ConnectionLook // by connection
	routes        postern.Routes                      // that were published last
}

func (l *Loop) outboundDesired(ctx context.Context) (d outboundDesired, err error) {
	err = l.Store.View(ctx, func(tx *store.Tx) error {
		var e1, e2, e3, e4, e5, e6, e7 error
		d.connections, e1 = tx.ListConnections(store.ConnectionFilter{}, store.Page{})
		d.removed, e2 = tx.ListRemovedConnections()
		d.accounts, e3 = tx.ListAccounts("", store.Page{})
		d.organizations, e4 = tx.ListOrganizations("", store.Page{})
		d.nodes, e5 = tx.ListNodes(store.Page{})
		looks, e6 := tx.ListLooks()
		d.looks = map[string][]postern.ConnectionLook{}
		for _, l := range looks {
			d.looks[l.Connection] = append(d.looks[l.Connection], l)
		}
		d.routes, e7 = tx.FindRoutes()
		return errors.Join(e1, e2, e3, e4, e5, e6, e7)
	})
	return d, err
}

// regions are those in which something of the connections is or was.
func (d outboundDesired) regions() []string {
	var out []string
	for _, c := range d.connections {
		out = append(out, c.Region)
	}
	for _, r := range d.removed {
		out = append(out, r.Region)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// observeOutbound lists what the platform has at AWS for data connections, by
// region and connection. A region that does not answer is left out, so that
// nothing is concluded about it.
func (l *Loop) observeOutbound(ctx context.Context, regions []string) map[string]map[string]plan.ConnectionCloud {
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string]map[string]plan.ConnectionCloud{}
	for _, region := range regions {
		wg.Go(func() {
			found, err := l.listOutbound(ctx, region)
			if err != nil {
				if ctx.Err() == nil {
					l.Logger.Warn("AWS did not list the endpoints of data connections; they stay as they were", "region", region, "error", err)
				}
				return
			}
			mu.Lock()
			out[region] = found
			mu.Unlock()
		})
	}
	wg.Wait()
	return out
}

func (l *Loop) listOutbound(ctx context.Context, region string) (map[string]plan.ConnectionCloud, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Listing)
	defer cancel()
	// Endpoints first: a group that is listed after its endpoint was not is not
	// taken for one that nothing uses.
	endpoints, err := l.Outbound.OutboundEndpoints(ctx, region, l.Platform.Name)
	if err != nil {
		return nil, err
	}
	groups, err := l.Outbound.OutboundGroups(ctx, region, l.Platform.Name)
	if err != nil {
		return nil, err
	}
	out := map[string]plan.ConnectionCloud{}
	for _, e := range endpoints {
		c := out[e.ConnectionID]
		c.Endpoints = append(c.Endpoints, e)
		out[e.ConnectionID] = c
	}
	for _, g := range groups {
		c := out[g.ConnectionID]
		c.Groups = append(c.Groups, g)
		out[g.ConnectionID] = c
	}
	return out, nil
}

// forgetGone drops what was known of connections that are gone.
func (l *Loop) forgetGone(d outboundDesired) {
	gone := func(id string) bool {
		return !slices.ContainsFunc(d.connections, func(c postern.DataConnection) bool { return c.ID == id })
	}
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	for _, m := range []map[string]time.Time{l.outbound.looked, l.outbound.asked, l.outbound.served} {
		maps.DeleteFunc(m, func(id string, _ time.Time) bool { return gone(id) })
	}
	maps.DeleteFunc(l.outbound.found, func(id string, _ found) bool { return gone(id) })
	maps.DeleteFunc(l.outbound.withdrawn, func(id string, _ int64) bool { return gone(id) })
}

// connectionView is what is known of a connection without a look at anything.
func (l *Loop) connectionView(d outboundDesired, c postern.DataConnection) plan.ConnectionView {
	v := plan.ConnectionView{Principal: l.Platform.Outbound.Principal, Rules: l.Rules, Now: l.Now()}
	if n, ok := l.Platform.OutboundNetwork(c.Region); ok {
		v.Network = &n
	}
	v.Check.Never = len(d.looks[c.ID]) == 0
	for _, n := range d.nodes {
		if n.Fenced || !n.Exits(c.Region) {
			continue
		}
		v.Check.Nodes++
		for _, look := range d.looks[c.ID] {
			if look.Node == n.ID {
				v.Check.Looks = append(v.Check.Looks, look)
			}
		}
	}
	if c.Removing {
		v.Removal = l.removal(d, c)
	}
	for _, a := range d.accounts {
		if a.Organization == c.Organization && a.State == postern.AccountActive {
			v.Accounts = append(v.Accounts, a.ID)
		}
	}
	for _, o := range d.organizations {
		if o.ID == c.Organization {
			v.Hostname.Challenge = postern.ChallengeValue(l.Platform.Name, o, c.Hostname)
		}
	}
	v.Hostname.Taken = slices.ContainsFunc(d.connections, func(o postern.DataConnection) bool {
		return o.ID != c.ID && o.Hostname == c.Hostname && !o.ProvenAt.IsZero()
	})
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	refused := l.outbound.refused[c.ID]
	v.Failed = plan.Refusal{Kind: refused.kind, Message: refused.message}
	v.Check.Since = l.outbound.since
	return v
}

// removal tells how far the route of a connection that is being removed has been
// taken back. The revision that counts is the first that this process sees
// without it: a node that obeys it, or a later one, never again obeys an earlier.
func (l *Loop) removal(d outboundDesired, c postern.DataConnection) plan.RemovalView {
	_, checked := d.routes.Checks[c.ID]
	if checked || d.routes.Connections[c.Hostname].ID == c.ID {
		return plan.RemovalView{}
	}
	l.outbound.mu.Lock()
	revision, ok := l.outbound.withdrawn[c.ID]
	if !ok {
		revision = d.routes.Revision
		l.outbound.withdrawn[c.ID] = revision
	}
	l.outbound.mu.Unlock()
	exits := slices.DeleteFunc(slices.Clone(d.nodes), func(n postern.Node) bool { return !n.Exits(c.Region) })
	// What a node obeys it keeps: one that is silent since counts.
	return plan.RemovalView{Withdrawn: true, Waiting: plan.Waiting(exits, revision, math.MaxInt64, l.Now())}
}

// rests tells whether AWS refused to make something of a connection a short
// while ago.
func (l *Loop) rests(id string) bool {
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	r := l.outbound.refused[id]
	return makes(r.kind) && l.Now().Before(r.until)
}

// gaveUp is what AWS has refused of a connection so often that only the next
// resync period brings another attempt; "": nothing.
func (l *Loop) gaveUp(id string) plan.ConnectionActionKind {
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	if r := l.outbound.refused[id]; r.pause >= l.Resync && l.Now().Before(r.until) {
		return r.kind
	}
	return ""
}

// rested tells whether what a step is about waits for the next resync period,
// for AWS has refused it so often.
func (l *Loop) rested(s plan.ConnectionStep) bool {
	kind := l.gaveUp(s.After.ID)
	if len(s.Actions) == 0 { // what makes something is not planned before its pause is over
		return makes(kind) && !s.After.Removing
	}
	return !slices.ContainsFunc(s.Actions, func(a plan.ConnectionAction) bool { return a.Kind != kind })
}

// recordConnection stores what a round decided. False: the connection was
// changed meanwhile, and is left to the next round.
func (l *Loop) recordConnection(ctx context.Context, before postern.DataConnection, step plan.ConnectionStep, looked time.Time) (bool, error) {
	after := step.After
	err := l.Store.Update(ctx, func(tx *store.Tx) error {
		if step.Delete {
			return errors.Join(tx.DeleteConnection(before, l.Now()), tx.AppendEvent(l.event("data-connection.removed", "data-connection", before.ID, before.Organization,
				"nothing of the data connection to "+before.Hostname+" is left on the platform")))
		}
		if !looked.IsZero() {
			if err := tx.NoteConnectionChecked(before, looked); err != nil {
				return err
			}
		}
		if plan.SameConnection(before, after) {
			return nil
		}
		if _, err := tx.UpdateConnection(after); err != nil {
			return err
		}
		if after.Removing && !before.Removing {
			return tx.AppendEvent(l.event("data-connection.released", "data-connection", after.ID, after.Organization,
				after.Hostname+": its endpoint has not been connected for "+plan.AcceptanceDays+" days, so that the data connection is deleted; request it anew when you are ready (`postern connections create`)"))
		}
		if message := connectionNews(before, after); message != "" {
			return tx.AppendEvent(l.event("data-connection.state", "data-connection", after.ID, after.Organization, message))
		}
		return nil
	})
	if err != nil && postern.CodeOf(err) == postern.CodeConflict {
		return false, nil
	}
	return err == nil, err
}

// connectionNews tells of a change of state, or of why it is as it is; "": there
// is none.
func connectionNews(before, after postern.DataConnection) string {
	was, waits := plan.Waits(before), plan.Waits(after)
	ready := after.State == postern.DataConnectionReady // whatever AWS does not tell just now
	if before.State == after.State && (ready || was.Type == waits.Type && was.Reason == waits.Reason) {
		return ""
	}
	message := fmt.Sprintf("%s: from %s to %s", after.Hostname, before.State, after.State)
	if before.State == after.State {
		message = fmt.Sprintf("%s: %s", after.Hostname, after.State)
	}
	if waits.Reason != "" && after.State != postern.DataConnectionReady {
		message += ": " + string(waits.Reason) + ": " + waits.Message
	}
	return message
}

// tell logs what conditions do not tell, so that they are no oracle.
func (l *Loop) tell(before, after postern.DataConnection, v plan.ConnectionView) {
	svc := v.Service.Service
	if svc == nil || plan.SameConnection(before, after) || slices.Contains(v.Accounts, svc.Owner) {
		return
	}
	l.Logger.Info("a data connection names a service of an account that its organization has not proven; it is treated as one that is not there",
		"connection", after.ID, "organization", after.Organization, "service", svc.Ref.ID, "owner", svc.Owner)
}
