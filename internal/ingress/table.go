package ingress

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"time"

	"github.com/postern-net/postern"
)

// table is postern.Routes made ready for lookups. It never changes. Its arrays
// hold numbers, which the garbage collector does not follow: with pointers,
// hundreds of thousands of hosts would be marked again and again while
// connections wait. A lookup allocates nothing.
type table struct {
	revision  int64
	text      string // all names and IDs, one after the other
	hosts     []host
	endpoints []grant
	byName    index
	byID      index
	granted   []uint32         // numbers of hosts, sorted, of one grant after the other
	backends  []netip.AddrPort // lists of them; hosts with the same list share it
	drains    []postern.Drain  // of the hosts that are no longer public
	epoch     time.Time        // from which the node's own moments are measured
}

// span is a part of the text, or of another array.
type span struct{ at, n uint32 }

type host struct {
	name         span
	tenant       span // empty for a host that organizations share
	organization span
	backends     span
	closed       time.Duration // since the epoch, by this node's clock: when it stopped being public here; 0: it never was
	drain        uint32        // number of its drain, from 1; 0: none
	public       bool
}

type grant struct {
	id           span
	organization span
	region       span
	hosts        span // of granted
}

// index finds entries by a hash of their name: one word per place, with half
// of the hash and the entry's number from 1. At most half of the places are
// taken.
type index struct {
	places []uint64
	mask   uint64 // their number, a power of two, less one
	seed   maphash.Seed
}

func newIndex(entries int) index {
	size := 8
	for size < 2*entries {
		size *= 2
	}
	return index{places: make([]uint64, size), mask: uint64(size - 1), seed: maphash.MakeSeed()} //nolint:gosec // not negative
}

func (x *index) add(name string, number int) {
	h := maphash.String(x.seed, name)
	for i := h; ; i++ {
		if p := &x.places[i&x.mask]; *p == 0 {
			*p = h&^(1<<32-1) | uint64(number+1) //nolint:gosec // numbers of entries are small
			return
		}
	}
}

// find returns the number of the entry for which named is true; -1: none.
func (x *index) find(name string, named func(int) bool) int {
	if len(x.places) == 0 {
		return -1
	}
	h := maphash.String(x.seed, name)
	for i := h; ; i++ {
		p := x.places[i&x.mask]
		if p == 0 {
			return -1
		}
		if number := int(uint32(p)) - 1; (p^h)>>32 == 0 && named(number) { //nolint:gosec // the low half
			return number
		}
	}
}

func (t *table) string(s span) string { return t.text[s.at : s.at+s.n] }

// host finds a host by its name; nil: there is none. Its number is what grants
// hold.
func (t *table) host(name string) (h *host, number int) {
	n := t.byName.find(name, func(i int) bool { return t.string(t.hosts[i].name) == name })
	if n < 0 {
		return nil, n
	}
	return &t.hosts[n], n
}

// grant finds what an endpoint may reach; nil: there is no such endpoint.
func (t *table) grant(id string) *grant {
	n := t.byID.find(id, func(i int) bool { return t.string(t.endpoints[i].id) == id })
	if n < 0 {
		return nil
	}
	return &t.endpoints[n]
}

// grants tells whether a grant holds the host of a number.
func (t *table) grants(g *grant, number int) bool {
	_, ok := slices.BinarySearch(t.granted[g.hosts.at:g.hosts.at+g.hosts.n], uint32(number)) //nolint:gosec // numbers of hosts are small
	return ok
}

// to lists a host's backends.
func (t *table) to(h *host) []netip.AddrPort {
	return t.backends[h.backends.at : h.backends.at+h.backends.n : h.backends.at+h.backends.n]
}

// drain tells whether a public connection that was accepted at a time may
// live on.
func (t *table) drain(h *host, accepted time.Time) bool {
	if h.drain == 0 || h.closed == 0 {
		return false
	}
	d := t.drains[h.drain-1]
	return accepted.Sub(t.epoch) < h.closed && accepted.Before(d.Before) && time.Now().Before(d.Until)
}
