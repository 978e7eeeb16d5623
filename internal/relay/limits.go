package relay

import (
	"net/netip"
	"sync"
)

// maxLingering bounds the connections that are refused in nobody's share and
// wait for their client to read the alert; beyond it they are closed at once.
const maxLingering = 256

// limits counts an engine's connections, all of them and each client's.
type limits struct {
	all, each int

	mu        sync.Mutex
	open      int              // connections in any state
	lingering int              // of those, the ones that are refused and are in no budget
	shares    map[payer]*share // of the clients that have connections
}

func newLimits(c Config) *limits {
	return &limits{all: c.MaxConnections, each: c.MaxPerClient, shares: map[payer]*share{}}
}

// payer is whose share of the connections a connection counts in: that of its
// listener if it has one, or else the VPC endpoint that it came through, or else
// the client's address.
type payer struct {
	listener string
	endpoint string
	source   netip.Prefix
}

// share is how many connections a client has. Guarded by the limits' mu.
type share struct {
	payer payer
	count int
}

// place is what a connection occupies. The zero place is none.
type place struct {
	share   *share // nil until it is known whose
	lingers bool   // refused, and in no budget
}

// payerOf tells who pays. One who has an IPv6 address has 2^64 of them.
func payerOf(ln *Listener, a *Arrival) payer {
	if ln.Payer != "" {
		return payer{listener: ln.Payer}
	}
	if id := a.Proxy.VPCEndpointID; id != "" {
		return payer{endpoint: id}
	}
	bits := 32
	client := a.Client().Addr().Unmap().WithZone("")
	if client.Is6() {
		bits = 64
	}
	source, err := client.Prefix(bits)
	if err != nil {
		return payer{} // a header without an address; these share one share
	}
	return payer{source: source}
}

// admission says what becomes of a connection by the limits.
type admission uint8

const (
	admitted admission = iota
	overload           // in no budget: refuse it, and let it linger until it has read so
	flooded            // refuse it at once: too many linger already
)

// enter counts a new connection in, unless it is flooded. One that is refused
// on sight takes no place from others.
func (l *limits) enter(p *place, refused bool) admission {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !refused && l.open-l.lingering < l.all:
		l.open++
		return admitted
	case l.lingering >= maxLingering:
		return flooded
	}
	l.open++
	l.lingering++
	p.lingers = true
	return overload
}

// claim counts a connection in its client's share, as soon as it is known who
// that is. One client that floods a listener must not shut it for the others,
// not even by the connections on which it is told so.
func (l *limits) claim(p *place, who payer) admission {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.shares[who]
	switch {
	case s == nil:
		s = &share{payer: who}
		l.shares[who] = s
	case s.count >= l.each && l.lingering >= maxLingering:
		return flooded
	case s.count >= l.each:
		l.lingering++
		p.lingers = true
		return overload
	}
	s.count++
	p.share = s
	return admitted
}

// linger tells whether a connection that is refused may stay until it has read
// so. One of whom nobody knows whose it is leaves the budget for that: it would
// take its place from others, and is in no share that bounds it.
func (l *limits) linger(p *place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case p.share != nil || p.lingers:
		return true
	case l.lingering >= maxLingering:
		return false
	}
	l.lingering++
	p.lingers = true
	return true
}

// leave takes a connection out of all counts.
func (l *limits) leave(p *place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if p.lingers {
		l.lingering--
	}
	if s := p.share; s != nil {
		if s.count--; s.count == 0 {
			delete(l.shares, s.payer)
		}
	}
	*p = place{}
}

func (l *limits) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}
