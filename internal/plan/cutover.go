package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postern-net/postern"
)

// CutoverRules are the operator's settings of cutovers.
type CutoverRules struct {
	TTL time.Duration // of the records that a cutover changes, at least a second
	// Observe is how long a rehearsal lasts at least, once its records are
	// published.
	Observe time.Duration
	// Window and Clients: a rehearsal goes back by itself when in this time
	// nobody came privately though so many clients came publicly.
	Window  time.Duration
	Clients int
	// Drain is how long public connections may live on when the tenant stops
	// being public.
	Drain time.Duration
	// NodeSilence is how long a node may not have reported before it counts as
	// cut off.
	NodeSilence time.Duration
}

// Lately is how far back an arrival counts as one of now: whoever comes once in
// the time of a whole rehearsal comes still.
func (r CutoverRules) Lately() time.Duration { return max(r.Observe, r.Window) }

// CutoverView is what is known about one tenant's cutover in a round.
type CutoverView struct {
	Rules    CutoverRules
	Now      time.Time
	Ready    int         // ready endpoints that reach the tenant
	DNS      DNSView     //
	Arrivals ArrivalView // since the records were published
	Nodes    []postern.Node
	Routes   RouteView
}

// DNSView is what the zones' servers answered for the tenant's names.
type DNSView struct {
	Wanted bool // every server answers what the phase wants
	// Contradicted: a server answers something else; one that is silent
	// contradicts nothing.
	Contradicted bool
	Detail       string // which does not, and what it answers
}

// ArrivalView is who came for the tenant's host, admitted or not.
type ArrivalView struct {
	LastPrivate       time.Time // zero: nobody
	LastPrivateFailed time.Time // admitted, but no backend answered
	PublicSources     []string  // lately, and after the records' TTL has passed; sorted
	WindowSources     int       // how many came publicly within the window
}

// RouteView is the route table in force.
type RouteView struct {
	Revision int64
	Public   bool // it lets the tenant's public clients in
	Drains   bool // it lets those live on that were open
}

// CutoverStep is what one round makes of one cutover.
type CutoverStep struct {
	After postern.Cutover
	Event string // what changed for the tenant's clients; "": nothing
}

// Cutover decides how a cutover goes on. It enforces only what was seen to
// work: the records are published and their TTL has passed, private clients
// came through a ready endpoint, nobody comes publicly whom a person did not
// accept, and every node obeys.
//
// It changes a name's answer only to what resolvers can follow whatever they
// remember: the fallback is there before the standard hostname leads to it, and
// until nothing leads to it any more.
func Cutover(c postern.Cutover, v CutoverView) CutoverStep {
	s := CutoverStep{After: c}
	switch c.Phase {
	case postern.CutoverRehearsing:
		if c.RedirectedAt.IsZero() {
			s.prepare(v)
		} else {
			s.rehearse(v)
		}
	case postern.CutoverEnforcing:
		s.enforce(v)
	case postern.CutoverWithdrawing:
		s.withdraw(v)
	case postern.CutoverRolledBack:
		if c.Moving() {
			s.settle(v)
		}
	case postern.CutoverComplete:
	}
	return s
}

func (s *CutoverStep) set(v CutoverView, t postern.ConditionType, ok bool, r postern.Reason, format string, args ...any) bool {
	status := postern.False
	if ok {
		status = postern.True
	}
	s.After.Conditions = postern.SetCondition(s.After.Conditions, postern.Condition{Type: t, Status: status, Reason: r, Message: fmt.Sprintf(format, args...), Since: v.Now})
	return ok
}

// prepare waits until the fallback is known everywhere: a resolver that was
// led to the privatelink name must not remember that there is no such name.
// RFC 2308 bounds that memory by the zones' negative TTL, which is no longer
// than the records'.
func (s *CutoverStep) prepare(v CutoverView) {
	c := &s.After
	if s.answered(v, &c.FallbackAt, "the privatelink name leads to the public ingress, as a fallback") && v.Now.Sub(c.FallbackAt) >= v.Rules.TTL {
		c.RedirectedAt = v.Now
		s.Event = "the fallback is known everywhere: the standard hostname leads to the privatelink name from now on"
	}
}

func (s *CutoverStep) rehearse(v CutoverView) {
	c := &s.After
	published := s.answered(v, &c.PublishedAt, "the standard hostname leads to the privatelink name")
	private := s.private(v)
	s.fails(v)
	if why := failing(*c, v); why != "" {
		s.rollBack(v.Now, why)
		return
	}
	public := s.public(v)
	nodes := s.nodes(v, v.Routes.Revision)
	// Who still comes publicly counts once the TTL has passed, and must have
	// had as long as the observation takes to do so.
	if published && private && public && nodes && v.Ready > 0 && v.Now.Sub(c.PublishedAt) >= v.Rules.TTL+v.Rules.Observe {
		c.Phase, c.EnforcedAt, c.DrainUntil = postern.CutoverEnforcing, v.Now, v.Now.Add(v.Rules.Drain)
		s.Event = "private clients come, the records' TTL has passed, every node is in step: public connections are refused from now on"
	}
}

// failingFor is how long private clients must have met no app before a
// rehearsal goes back: one failure that nobody repeats is an accident.
const failingFor = 5 * time.Second

// fails notes since when private clients meet no app.
func (s *CutoverStep) fails(v CutoverView) {
	c, a := &s.After, v.Arrivals
	switch {
	case !a.LastPrivateFailed.After(a.LastPrivate) || c.PublishedAt.IsZero():
		c.FailingSince = time.Time{}
	case c.FailingSince.IsZero():
		c.FailingSince = a.LastPrivateFailed
	}
}

// failing tells why a rehearsal must go back, or "".
func failing(c postern.Cutover, v CutoverView) string {
	a := v.Arrivals
	if c.PublishedAt.IsZero() {
		return ""
	}
	seen := a.LastPrivate.After(c.PublishedAt)
	quiet := v.Now.Sub(latest(a.LastPrivate, c.PublishedAt)) >= v.Rules.Window
	switch {
	case seen && v.Ready == 0:
		return "private clients came, and now no endpoint that reaches the tenant is ready"
	case seen && !c.FailingSince.IsZero() && a.LastPrivateFailed.Sub(c.FailingSince) >= failingFor:
		return "private clients came, and now the tenant's app does not answer them"
	case quiet && a.WindowSources >= v.Rules.Clients && seen:
		return fmt.Sprintf("nobody came through an endpoint any more in %s, while %d clients came publicly: private access probably broke", v.Rules.Window, a.WindowSources)
	case quiet && a.WindowSources >= v.Rules.Clients:
		return fmt.Sprintf("nobody came through an endpoint in %s, while %d clients came publicly: the customer's private DNS is probably not in place", v.Rules.Window, a.WindowSources)
	}
	return ""
}

func (s *CutoverStep) rollBack(now time.Time, why string) {
	s.After.Phase, s.After.EndedAt, s.After.EndedBy, s.After.EndedWhy = postern.CutoverRolledBack, now, "loop", why
	s.Event = "rolled back: " + why
}

func (s *CutoverStep) enforce(v CutoverView) {
	c := &s.After
	if s.obeyed(v, !v.Routes.Public, "refuses public clients") && !v.Now.Before(c.DrainUntil) {
		// The nodes cut what is still open by the next table, not by their clocks.
		c.Phase, c.EnforceRevision = postern.CutoverWithdrawing, 0
		s.Event = "every node refuses public clients: the fallback record is withdrawn"
	}
}

func (s *CutoverStep) withdraw(v CutoverView) {
	c := &s.After
	// A node that comes back, or is unfenced, in the meantime is waited for.
	nodes := s.obeyed(v, !v.Routes.Public && !v.Routes.Drains, "cuts the last public connections")
	if s.answered(v, &c.WithdrawnAt, "the public zone has no answer for the privatelink name") && nodes && v.Now.Sub(c.WithdrawnAt) >= v.Rules.TTL {
		c.Phase, c.EndedAt, c.EndedBy, c.EndedWhy = postern.CutoverComplete, v.Now, "loop", "the tenant is reachable privately only"
		s.Event = "complete: the tenant is reachable privately only"
	}
}

// settle keeps the fallback of a cutover that was rolled back until no resolver
// remembers the way over the privatelink name.
func (s *CutoverStep) settle(v CutoverView) {
	c := &s.After
	never := c.RedirectedAt.IsZero()
	if never || s.answered(v, &c.RestoredAt, "the standard hostname leads to the public ingress") && v.Now.Sub(c.RestoredAt) >= v.Rules.TTL {
		c.SettledAt = v.Now
	}
}

// obeyed tells whether every node obeys the first table that says what the
// phase wants; said is whether the one in force does.
func (s *CutoverStep) obeyed(v CutoverView, said bool, what string) bool {
	c := &s.After
	if c.EnforceRevision == 0 && said {
		c.EnforceRevision = v.Routes.Revision
	}
	if c.EnforceRevision == 0 {
		return s.set(v, postern.NodesAcknowledged, false, postern.ReasonWaitsForNodes, "the route table that %s is being made", what)
	}
	return s.nodes(v, c.EnforceRevision)
}

// answered tells whether every server of the zones answers what is wanted, and
// keeps since when. The time begins anew when one says otherwise: a resolver
// may have asked it.
func (s *CutoverStep) answered(v CutoverView, since *time.Time, wanted string) bool {
	ok := s.dns(v, wanted)
	switch {
	case ok && since.IsZero():
		*since = v.Now
	case v.DNS.Contradicted:
		*since = time.Time{}
	}
	return ok
}

func (s *CutoverStep) dns(v CutoverView, wanted string) bool {
	if v.DNS.Wanted {
		return s.set(v, postern.DNSPublished, true, postern.ReasonPublished, "every server of the zones says that %s", wanted)
	}
	return s.set(v, postern.DNSPublished, false, postern.ReasonNotPublished, "not every server of the zones says yet that %s: %s", wanted, v.DNS.Detail)
}

func (s *CutoverStep) private(v CutoverView) bool {
	c := s.After
	last := v.Arrivals.LastPrivate
	if !c.PublishedAt.IsZero() && last.After(c.PublishedAt) && v.Now.Sub(last) <= v.Rules.Lately() {
		return s.set(v, postern.PrivateTraffic, true, postern.ReasonSeen, "clients come through an endpoint by the standard hostname")
	}
	return s.set(v, postern.PrivateTraffic, false, postern.ReasonNotSeen,
		"nobody comes through an endpoint by the standard hostname; in the customer's network the privatelink name must resolve to the endpoint (`postern dns %s`), and a client must use the standard hostname", c.Tenant)
}

func (s *CutoverStep) public(v CutoverView) bool {
	sources := v.Arrivals.PublicSources
	switch {
	case len(sources) == 0:
		return s.set(v, postern.PublicClients, true, postern.ReasonNobody, "nobody comes publicly any more")
	case s.After.Accepts(postern.BlockerPublicClients):
		return s.set(v, postern.PublicClients, true, postern.ReasonAcknowledged, "still public, and acknowledged: %s", few(sources))
	}
	return s.set(v, postern.PublicClients, false, postern.ReasonStillPublic,
		"still public: %s; route them through the endpoint, or accept that they are cut off: postern cutover acknowledge %s %s", few(sources), s.After.Tenant, postern.BlockerPublicClients)
}

// nodes demands that there is a node that is not fenced, and that each of them
// has reported lately and obeys a revision. A node that reports a revision
// which this control plane has not reached, as after a restore of its database,
// obeys another table.
func (s *CutoverStep) nodes(v CutoverView, revision int64) bool {
	waiting := Waiting(v.Nodes, revision, v.Rules.NodeSilence, v.Now)
	serving := 0
	for _, n := range v.Nodes {
		if n.Fenced {
			continue
		}
		serving++
		if n.AppliedRevision > v.Routes.Revision && !slices.Contains(waiting, n.ID) {
			waiting = append(waiting, n.ID)
		}
	}
	if serving == 0 {
		return s.set(v, postern.NodesAcknowledged, false, postern.ReasonWaitsForNodes,
			"no node serves: every one is fenced or was removed; bring one back (postern node unfence NODE)")
	}
	if len(waiting) == 0 {
		return s.set(v, postern.NodesAcknowledged, true, postern.ReasonInStep, "every node obeys the routes, or is fenced")
	}
	return s.set(v, postern.NodesAcknowledged, false, postern.ReasonWaitsForNodes,
		"waits for node %s; if it is gone for good, take it out of its target group, let it drain, and say so: postern node fence NODE", strings.Join(waiting, ", "))
}

// Waiting lists the nodes that do not provably obey a revision: neither fenced
// nor heard of lately with that revision or a later one.
func Waiting(nodes []postern.Node, revision int64, silence time.Duration, now time.Time) (ids []string) {
	for _, n := range nodes {
		if !n.Fenced && (n.AppliedRevision < revision || now.Sub(n.LastSeen) > silence) {
			ids = append(ids, n.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// few lists a few of many.
func few(all []string) string {
	const most = 10
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

// Current finds a tenant's cutover: the one that counts, or one that was rolled
// back and not settled yet.
func Current(cs []postern.Cutover, tenant string) *postern.Cutover {
	var unsettled *postern.Cutover
	for i, c := range cs {
		switch {
		case c.Tenant != tenant:
		case c.Phase != postern.CutoverRolledBack:
			return &cs[i]
		case c.Moving():
			unsettled = &cs[i]
		}
	}
	return unsettled
}

// ReadyEndpoints lists the ready endpoints that reach a tenant.
func ReadyEndpoints(p *postern.Platform, t postern.Tenant, d Desired) (ids []string) {
	for _, e := range d.Endpoints {
		if e.State == postern.EndpointReady && slices.Contains(Hosts(p, e, []postern.Tenant{t}), p.Host(t.Name)) {
			if _, ok := CompileGrant(p, e, d.Tenants, d.Accounts); ok {
				ids = append(ids, e.ID)
			}
		}
	}
	return ids
}

// Folded is the name of public clients whose addresses a node did not keep.
const Folded = "clients beyond those that a node tells apart"

// Arrivals sums up who came for a host: since a time, which public clients
// still come after a later one, and how many came publicly in the window.
func Arrivals(as []postern.ArrivalCount, since, late, window time.Time) ArrivalView {
	var v ArrivalView
	lately := map[string]bool{}
	for _, a := range as {
		switch {
		case a.LastSeen.Before(since):
		case a.Listener == postern.ListenerPrivate && a.Denial == "":
			v.LastPrivate = latest(v.LastPrivate, a.LastSeen)
		case a.Listener == postern.ListenerPrivate && a.Denial == postern.DenyBackendDown:
			v.LastPrivateFailed = latest(v.LastPrivateFailed, a.LastSeen)
		case a.Listener == postern.ListenerPublic && a.Denial == "":
			source := a.Source
			if source == "" {
				source = Folded
			}
			if !a.LastSeen.Before(window) {
				lately[source] = true
			}
			if a.LastSeen.After(late) && !slices.Contains(v.PublicSources, source) {
				v.PublicSources = append(v.PublicSources, source)
			}
		}
	}
	slices.Sort(v.PublicSources)
	v.WindowSources = len(lately)
	return v
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
