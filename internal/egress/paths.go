package egress

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// restFor is for how long an interface that did not take a connection is tried
// last. AWS's load balancers take an unhealthy zone out within about a minute.
const restFor = 30 * time.Second

// paths spreads connections over the interfaces of an endpoint, and remembers
// those that took none a while ago: nobody shall wait for a zone that is down,
// again and again.
type paths struct {
	mu   sync.Mutex
	down map[netip.AddrPort]time.Time // until when each is tried last
}

func newPaths() *paths { return &paths{down: map[netip.AddrPort]time.Time{}} }

// order lists targets in the order in which to try them: from a random one on,
// and those that are down behind the others. None is left out.
func (p *paths) order(targets []netip.AddrPort) []netip.AddrPort {
	if len(targets) < 2 {
		return targets
	}
	first := rand.IntN(len(targets)) //nolint:gosec // it spreads load, and nobody gains by guessing it
	out := slices.Concat(targets[first:], targets[:first])
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.down) == 0 {
		return out
	}
	rests := func(at netip.AddrPort) int {
		if now.Before(p.down[at]) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int { return rests(a) - rests(b) })
	return out
}

// failed notes that a target took no connection. What is noted comes from the
// table, so that it is never much.
func (p *paths) failed(at netip.AddrPort) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for other, until := range p.down {
		if !now.Before(until) {
			delete(p.down, other)
		}
	}
	p.down[at] = now.Add(restFor)
}
