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
	Rules CutoverRules
	Now   time.Time
	// Asked is when the asking of the zones' servers began, Now when they had
	// answered: what lasts is counted from the later to the earlier. Zero: Now.
	Asked    time.Time
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

// lasted is for how long what the servers say has been so.
func (v CutoverView) lasted(since time.Time) time.Duration {
	if v.Asked.IsZero() {
		return v.Now.Sub(since)
	}
	return v.Asked.Sub(since)
}

// ArrivalView is who came for the tenant's host, admitted or not.
type ArrivalView struct {
	LastPrivate       time.Time // zero: nobody
	LastPrivateFailed time.Time // admitted, but no backend answered
	// PrivateRefused are the organization's endpoints through which clients were
	// refused since they were let in last, with the reason; sorted.
	PrivateRefused []string
	PublicSources  []string // lately, and after the records' TTL has passed; sorted
	WindowSources  int      // how many came publicly within the window
	// GoneSources is how many came publicly in the window before the standard
	// hostname led to the privatelink name, and not since.
	GoneSources int
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
	known := s.answered(v, &c.FallbackAt, "the privatelink name leads to the public ingress, as a fallback")
	ready := s.ready(v)
	if s.passed(v, c.FallbackAt, v.Rules.TTL, "the fallback must have been in the zones for %s, so that no resolver remembers that it was not") && known && ready {
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
	ready := s.ready(v)
	// Who still comes publicly counts once the TTL has passed, and must have
	// had as long as the observation takes to do so.
	passed := s.passed(v, c.PublishedAt, v.Rules.TTL+v.Rules.Observe, "the rehearsal's records must have been in the zones for %s: their TTL, and the time to observe")
	if published && private && public && nodes && ready && passed {
		c.Phase, c.EnforcedAt, c.DrainUntil = postern.CutoverEnforcing, v.Now, v.Now.Add(v.Rules.Drain)
		s.Event = "private clients come, the records' TTL has passed, every node is in step: public connections are refused from now on"
	}
}

// failingFor is how long private clients must have met no app before a
// rehearsal goes back: one failure that nobody repeats is an accident.
const failingFor = 5 * time.Second

// fails notes since when private clients meet no app, or could meet none.
func (s *CutoverStep) fails(v CutoverView) {
	c, a := &s.After, v.Arrivals
	since := time.Time{}
	switch {
	case c.PublishedAt.IsZero():
	case v.Ready == 0:
		since = v.Now
	case a.LastPrivateFailed.After(a.LastPrivate):
		since = a.LastPrivateFailed
	}
	if c.FailingSince.IsZero() || since.IsZero() {
		c.FailingSince = since
	}
}

// failing tells why a rehearsal must go back, or "".
func failing(c postern.Cutover, v CutoverView) string {
	a := v.Arrivals
	if c.PublishedAt.IsZero() {
		return ""
	}
	seen := a.LastPrivate.After(c.PublishedAt)
	lasts := func(until time.Time) bool { return !c.FailingSince.IsZero() && until.Sub(c.FailingSince) >= failingFor }
	quiet := v.Now.Sub(latest(a.LastPrivate, c.PublishedAt)) >= v.Rules.Window && a.WindowSources+a.GoneSources >= v.Rules.Clients
	switch {
	case seen && v.Ready == 0:
		return "private clients came, and now no endpoint that reaches the tenant is ready"
	case v.Ready == 0 && lasts(v.Now):
		return "no endpoint that reaches the tenant is ready, and whoever has private DNS in place is led to one"
	case seen && a.LastPrivateFailed.After(a.LastPrivate) && lasts(a.LastPrivateFailed):
		return "private clients came, and now the tenant's app does not answer them"
	case quiet && seen:
		return fmt.Sprintf("nobody came through an endpoint any more in %s, while %d clients came publicly: private access probably broke", v.Rules.Window, a.WindowSources)
	case quiet && a.GoneSources > a.WindowSources:
		return fmt.Sprintf("nobody came through an endpoint in %s, and of the clients that came publicly before, %d have not come since: "+
			"their private DNS may lead them where they get no answer; probe the endpoint from their network (`postern tenant probe %s`), and begin when they work", v.Rules.Window, a.GoneSources, c.Tenant)
	case quiet:
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
	drained := s.passed(v, c.EnforcedAt, c.DrainUntil.Sub(c.EnforcedAt), "public connections that were open may live on for %s")
	if s.obeyed(v, !v.Routes.Public, "refuses public clients") && drained {
		// The nodes cut what is still open by the next table, not by their clocks.
		c.Phase, c.EnforceRevision = postern.CutoverWithdrawing, 0
		s.Event = "every node refuses public clients: the fallback record is withdrawn"
	}
}

func (s *CutoverStep) withdraw(v CutoverView) {
	c := &s.After
	// A node that comes back, or is unfenced, in the meantime is waited for.
	nodes := s.obeyed(v, !v.Routes.Public && !v.Routes.Drains, "cuts the last public connections")
	gone := s.answered(v, &c.WithdrawnAt, "the public zone has no answer for the privatelink name")
	if s.passed(v, c.WithdrawnAt, v.Rules.TTL, "the fallback must have been out of the zones for %s, so that no resolver remembers it") && gone && nodes {
		c.Phase, c.EndedAt, c.EndedBy, c.EndedWhy = postern.CutoverComplete, v.Now, "loop", "the tenant is reachable privately only"
		s.Event = "complete: the tenant is reachable privately only"
	}
}

// settle keeps the fallback of a cutover that was rolled back until no resolver
// remembers the way over the privatelink name.
func (s *CutoverStep) settle(v CutoverView) {
	c := &s.After
	if c.RedirectedAt.IsZero() && !c.LedBefore { // nobody was led there
		c.SettledAt = v.Now
		return
	}
	restored := s.answered(v, &c.RestoredAt, "the standard hostname leads to the public ingress")
	if s.passed(v, c.RestoredAt, v.Rules.TTL, "the way back must have been in the zones for %s, so that no resolver remembers the way over the privatelink name") && restored {
		c.SettledAt = v.Now
	}
}

// passed demands that something has been so for long enough.
func (s *CutoverStep) passed(v CutoverView, since time.Time, wanted time.Duration, what string) bool {
	if !since.IsZero() && v.lasted(since) >= wanted {
		return s.set(v, postern.TimePassed, true, postern.ReasonPassed, "passed: "+what, wanted)
	}
	return s.set(v, postern.TimePassed, false, postern.ReasonWaitsForTime, "waits: "+what, wanted)
}

// ready demands an endpoint through which clients can come.
func (s *CutoverStep) ready(v CutoverView) bool {
	if v.Ready > 0 {
		return s.set(v, postern.PathReady, true, postern.ReasonEndpointsReady, "an endpoint that reaches the tenant is ready")
	}
	return s.set(v, postern.PathReady, false, postern.ReasonNoEndpointReady, "no endpoint that reaches the tenant is ready; `postern endpoint list` tells why")
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
	c, a := s.After, v.Arrivals
	seen := !c.PublishedAt.IsZero() && a.LastPrivate.After(c.PublishedAt) && v.Now.Sub(a.LastPrivate) <= v.Rules.Lately()
	switch {
	case len(a.PrivateRefused) > 0 && !c.Accepts(postern.BlockerPrivateRefused):
		return s.set(v, postern.PrivateTraffic, false, postern.ReasonPrivateRefused,
			"clients that come privately are refused: %s; have their network's DNS name an endpoint that reaches the tenant (`postern dns %s`; `postern denials` tells more), or accept that: postern cutover acknowledge %s %s",
			few(a.PrivateRefused), c.Tenant, c.Tenant, postern.BlockerPrivateRefused)
	case !seen:
		return s.set(v, postern.PrivateTraffic, false, postern.ReasonNotSeen,
			"nobody comes through an endpoint by the standard hostname; in the customer's network the privatelink name must resolve to the endpoint (`postern dns %s`), and a client must use the standard hostname", c.Tenant)
	}
	return s.set(v, postern.PrivateTraffic, true, postern.ReasonSeen, "clients come through an endpoint by the standard hostname")
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

// StillOffer lists the nodes that may still offer what was taken away. A node that
// was not heard of lately obeys what it acknowledged last: it never goes back.
func StillOffer(w postern.Withdrawal, nodes []postern.Node) (ids []string) {
	for _, n := range nodes {
		if !n.Fenced && (w.Revision == 0 || n.AppliedRevision < w.Revision) {
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

// ArrivalTimes are the moments by which arrivals count.
type ArrivalTimes struct {
	Since  time.Time // what was seen last before this counts for nothing but Before
	Late   time.Time // who comes publicly after this comes still
	Window time.Time // when the window began
	Before time.Time // who came publicly between this and Late, and not since, has gone
}

// Arrivals sums up who came for a host of an organization.
func Arrivals(as []postern.ArrivalCount, organization string, t ArrivalTimes) ArrivalView {
	var v ArrivalView
	public := map[string]time.Time{} // when each was seen last
	good, bad := map[string]time.Time{}, map[string]postern.ArrivalCount{}
	for _, a := range as {
		switch {
		case a.Listener == postern.ListenerPublic && a.Denial == "":
			source := a.Source
			if source == "" {
				source = Folded
			}
			public[source] = latest(public[source], a.LastSeen)
		case a.Listener != postern.ListenerPrivate, a.LastSeen.Before(t.Since):
		case a.Denial == "":
			v.LastPrivate = latest(v.LastPrivate, a.LastSeen)
			good[a.EndpointID] = latest(good[a.EndpointID], a.LastSeen)
		default:
			if a.Denial == postern.DenyBackendDown {
				v.LastPrivateFailed = latest(v.LastPrivateFailed, a.LastSeen)
			}
			// A stranger's endpoint is rightly refused.
			if a.Organization == organization && a.LastSeen.After(bad[a.EndpointID].LastSeen) {
				bad[a.EndpointID] = a
			}
		}
	}
	for id, a := range bad {
		if a.LastSeen.After(good[id]) {
			v.PrivateRefused = append(v.PrivateRefused, fmt.Sprintf("%s (%s)", id, a.Denial))
		}
	}
	for source, last := range public {
		switch {
		case last.After(t.Late):
			v.PublicSources = append(v.PublicSources, source)
		case last.After(t.Before):
			v.GoneSources++
		}
		if !last.Before(t.Window) && !last.Before(t.Since) {
			v.WindowSources++
		}
	}
	slices.Sort(v.PrivateRefused)
	slices.Sort(v.PublicSources)
	return v
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
