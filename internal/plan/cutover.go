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
	Wanted bool   // every server answers what the phase wants
	Detail string // which does not, and what it answers
}

// ArrivalView is who came for the tenant's host, admitted or not.
type ArrivalView struct {
	LastPrivate       time.Time // zero: nobody
	LastPrivateFailed time.Time // admitted, but no backend answered
	PublicSources     []string  // lately, and after the records' TTL has passed; sorted
	AllPublicSources  int       // since they were published
}

// RouteView is the route table in force.
type RouteView struct {
	Revision int64
	Public   bool // it lets the tenant's public clients in
}

// CutoverStep is what one round makes of one cutover.
type CutoverStep struct {
	After postern.Cutover
	Event string // why the phase changed; "": it did not
}

// Cutover decides how a cutover goes on. It enforces only what was seen to
// work: the records are published and their TTL has passed, private clients
// came through a ready endpoint, nobody comes publicly whom a person did not
// accept, and every node obeys.
func Cutover(c postern.Cutover, v CutoverView) CutoverStep {
	s := CutoverStep{After: c}
	switch c.Phase {
	case postern.CutoverRehearsing:
		s.rehearse(v)
	case postern.CutoverEnforcing:
		s.enforce(v)
	case postern.CutoverWithdrawing:
		s.withdraw(v)
	case postern.CutoverComplete, postern.CutoverRolledBack:
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

func (s *CutoverStep) rehearse(v CutoverView) {
	c := &s.After
	published := s.dns(v, "the standard hostname leads to the privatelink name")
	if published && c.PublishedAt.IsZero() {
		c.PublishedAt = v.Now
	}
	private := s.private(v)
	if why := failing(*c, v); why != "" {
		s.rollBack(v.Now, why)
		return
	}
	public := s.public(v)
	nodes := s.nodes(v, v.Routes.Revision)
	since := v.Now.Sub(c.PublishedAt)
	if published && private && public && nodes && v.Ready > 0 && since >= v.Rules.TTL && since >= v.Rules.Observe {
		c.Phase, c.EnforcedAt, c.DrainUntil = postern.CutoverEnforcing, v.Now, v.Now.Add(v.Rules.Drain)
		s.Event = "private clients come, the records' TTL has passed, every node is in step: public connections are refused from now on"
	}
}

// failing tells why a rehearsal must go back, or "".
func failing(c postern.Cutover, v CutoverView) string {
	a := v.Arrivals
	seen := !c.PublishedAt.IsZero() && a.LastPrivate.After(c.PublishedAt)
	switch {
	case c.PublishedAt.IsZero():
		return ""
	case seen && v.Ready == 0:
		return "private clients came, and now no endpoint that reaches the tenant is ready"
	case seen && a.LastPrivateFailed.After(a.LastPrivate):
		return "private clients came, and now the tenant's app does not answer them"
	case !seen && v.Now.Sub(c.PublishedAt) >= v.Rules.Window && a.AllPublicSources >= v.Rules.Clients:
		return fmt.Sprintf("nobody came through an endpoint in %s, while %d clients came publicly: the customer's private DNS is probably not in place", v.Rules.Window, a.AllPublicSources)
	}
	return ""
}

func (s *CutoverStep) rollBack(now time.Time, why string) {
	s.After.Phase, s.After.EndedAt, s.After.EndedBy, s.After.EndedWhy = postern.CutoverRolledBack, now, "loop", why
	s.Event = "rolled back: " + why
}

func (s *CutoverStep) enforce(v CutoverView) {
	c := &s.After
	if c.EnforceRevision == 0 && !v.Routes.Public {
		c.EnforceRevision = v.Routes.Revision
	}
	if c.EnforceRevision == 0 {
		s.set(v, postern.NodesAcknowledged, false, postern.ReasonWaitsForNodes, "the route table that refuses public clients is being made")
		return
	}
	if s.nodes(v, c.EnforceRevision) && !v.Now.Before(c.DrainUntil) {
		c.Phase = postern.CutoverWithdrawing
		s.Event = "every node refuses public clients: the fallback record is withdrawn"
	}
}

func (s *CutoverStep) withdraw(v CutoverView) {
	c := &s.After
	// A node that comes back, or is unfenced, in the meantime is waited for.
	nodes := s.nodes(v, c.EnforceRevision)
	if !s.dns(v, "the public zone has no answer for the privatelink name") {
		c.WithdrawnAt = time.Time{} // the TTL runs from the last time that one said otherwise
		return
	}
	if c.WithdrawnAt.IsZero() {
		c.WithdrawnAt = v.Now
	}
	if nodes && v.Now.Sub(c.WithdrawnAt) >= v.Rules.TTL {
		c.Phase, c.EndedAt, c.EndedBy, c.EndedWhy = postern.CutoverComplete, v.Now, "loop", "the tenant is reachable privately only"
		s.Event = "complete: the tenant is reachable privately only"
	}
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

// current finds a tenant's cutover.
func current(cs []postern.Cutover, tenant string) *postern.Cutover {
	i := slices.IndexFunc(cs, func(c postern.Cutover) bool { return c.Tenant == tenant && c.Phase != postern.CutoverRolledBack })
	if i < 0 {
		return nil
	}
	return &cs[i]
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

// Arrivals sums up who came for a host: privately and publicly since a time,
// and which public clients still come after a later one.
func Arrivals(as []postern.ArrivalCount, since, late time.Time) ArrivalView {
	var v ArrivalView
	all := map[string]bool{}
	for _, a := range as {
		switch {
		case a.LastSeen.Before(since):
		case a.Listener == "private" && a.Denial == "":
			v.LastPrivate = latest(v.LastPrivate, a.LastSeen)
		case a.Listener == "private" && a.Denial == postern.DenyBackendDown:
			v.LastPrivateFailed = latest(v.LastPrivateFailed, a.LastSeen)
		case a.Listener == "public" && a.Denial == "":
			all[a.Source] = true
			if a.LastSeen.After(late) && !slices.Contains(v.PublicSources, a.Source) {
				v.PublicSources = append(v.PublicSources, a.Source)
			}
		}
	}
	slices.Sort(v.PublicSources)
	v.AllPublicSources = len(all)
	return v
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
