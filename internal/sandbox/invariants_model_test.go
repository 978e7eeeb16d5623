package sandbox

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// lag is how long a node that is linked may take to obey what was taken away.
const lag = 5 * time.Second

// model is what the world should be like, from what was asked of it alone.
type model struct {
	proven    map[string]bool // by organization
	tenants   map[string]*modelTenant
	endpoints []*modelEndpoint
	servers   map[string]*modelNode // the nodes
	pairs     map[pair]*since
	written   map[string]bool // "token tok_…": acknowledged, and to be there at the end
}

type modelTenant struct {
	name, organization, region, segment string
	made                                time.Time // in the place of another's of the same name, perhaps
	cutover                             string    // ID of the one that is not rolled back; ""
	phase                               string    // of it, as the API said last
	enforced                            bool      // the API said so: only a person may take it back
}

type modelEndpoint struct {
	id, organization, network, region, segment string

	at                netip.Addr // an interface of it; zero: not known yet
	claimed, approved bool
	accepted          bool     // it was approved at some time, so that AWS may carry it
	named             []string // nil: every tenant of the organization
	doomed            bool     // deleted, unclaimed or its account was removed
	revoked           bool     // by Postern, not only by its owner at AWS
	gone              bool     // and the API said that nothing is left of it
}

// modelNode is what was done to a node. A node that something was done to is
// behind from then on, until the API says that it is in step again.
type modelNode struct {
	cut, stopped, fenced bool
	behind               time.Time // zero: in step
	unheard              bool      // what it serves was decided before a fence that it may not have heard of
	fencedAt             time.Time
}

func (n *modelNode) faulty() bool { return n.cut || n.stopped || n.fenced }

// fallsBehind notes that a node may miss what happens from now on.
func (n *modelNode) fallsBehind(now time.Time) {
	if n.behind.IsZero() {
		n.behind = now.Add(-lag)
	}
}

// refusesAll tells whether a node has certainly heard that it is fenced.
func (n *modelNode) refusesAll(now time.Time) bool {
	return n.fenced && !n.cut && !n.stopped && n.behind.IsZero() && now.Sub(n.fencedAt) > lag
}

// unsteady tells whether a node may be closing its doors, or catching up.
func (n *modelNode) unsteady(now time.Time) bool {
	return !n.behind.IsZero() || n.fenced && now.Sub(n.fencedAt) < lag
}

// pair is an endpoint and a tenant.
type pair struct{ endpoint, tenant string }

// since is whether a pair is to work, and until when it last did.
type since struct {
	wanted bool
	turned time.Time // when that changed last
	lost   time.Time // zero: it never worked
}

// wants tells whether an endpoint is to reach a tenant.
func (m *model) wants(e *modelEndpoint, t *modelTenant) bool {
	return e.claimed && e.approved && !e.doomed && m.proven[e.organization] &&
		t.organization == e.organization && t.segment == e.segment &&
		(e.named == nil || slices.Contains(e.named, t.name))
}

// turn works out anew what is wanted, and returns the pairs that changed.
func (m *model) turn(now time.Time) (changed []pair) {
	for _, e := range m.endpoints {
		for name := range m.pairs {
			if name.endpoint == e.id && m.tenants[name.tenant] == nil {
				changed = append(changed, m.set(name, false, now)...)
			}
		}
		for _, t := range m.tenants {
			changed = append(changed, m.set(pair{e.id, t.name}, m.wants(e, t), now)...)
		}
	}
	return changed
}

func (m *model) set(p pair, wanted bool, now time.Time) []pair {
	s := m.pairs[p]
	if s == nil {
		s = &since{}
		m.pairs[p] = s
	}
	if s.wanted == wanted {
		return nil
	}
	if s.wanted {
		s.lost = now
	}
	s.wanted, s.turned = wanted, now
	return []pair{p}
}

// may tells whether a pair may work by a node: it is wanted, or it was before
// the node could hear that it is no more.
func (m *model) may(n *modelNode, p pair, now time.Time) bool {
	s := m.pairs[p]
	switch {
	case s == nil:
		return false
	case n.refusesAll(now):
		return false
	case s.wanted:
		return true
	case s.lost.IsZero():
		return false // never
	case !n.behind.IsZero() && s.lost.After(n.behind):
		return true
	}
	return now.Sub(s.lost) < lag
}

// turning tells whether a node may be taking a change of a pair just now. It
// cuts connections that it let in a moment before.
func (m *model) turning(n *modelNode, p pair, now time.Time) bool {
	return n.unsteady(now) || now.Sub(m.pairs[p].turned) < lag
}

func (m *model) endpoint(id string) *modelEndpoint {
	for _, e := range m.endpoints {
		if e.id == id {
			return e
		}
	}
	return nil
}

// violation is a promise that was broken.
type violation struct{ promise, who, seen string }

func (v violation) Error() string { return fmt.Sprintf("%s: %s: %s", v.promise, v.who, v.seen) }
