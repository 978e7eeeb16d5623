// Package sighting counts who arrived at a listener and what became of it, for
// the reports of ingresses and egresses. What it holds is bounded, whatever
// clients ask for, and every arrival is counted.
package sighting

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-net/postern"
)

const (
	// Max bounds a report. What exceeds it is still counted, by
	// listener, organization and denial, without its endpoint, source and
	// host.
	Max = 10_000
	// maxDenied is the share of denials in that, so that nobody drives out
	// the record of who is admitted by asking for many things.
	maxDenied = Max / 2
	// maxNobody is the share in maxDenied of denials on nobody's account, so
	// that strangers do not drive out the organizations'.
	maxNobody = 1000
	// openEvery is how often clients are reported that stay connected: who
	// never comes again because it never left is there too.
	openEvery = 10 * time.Second
)

// Sighting counts the connections that looked alike.
type Sighting struct {
	Listener      string         `json:"listener"`
	VPCEndpointID string         `json:"vpc_endpoint_id,omitempty"`
	Source        netip.Addr     `json:"source,omitzero"` // not of an ingress' private listener
	Host          string         `json:"host,omitempty"`  // as the client asked for it
	Organization  string         `json:"organization,omitempty"`
	Denial        postern.Denial `json:"denial,omitempty"` // "" for those admitted
	Count         int64          `json:"count"`            // that were opened; 0: one of before is still open
	First         time.Time      `json:"first_seen"`
	Last          time.Time      `json:"last_seen"`
	JA4           string         `json:"ja4,omitempty"` // of the first one's TLS: a hint, never an identity
}

// Report is evidence: who arrived where, and who was refused.
type Report struct {
	Since     time.Time  `json:"since"` // when the report was started
	Sightings []Sighting `json:"sightings"`
	// Folded counts the connections whose endpoint, source and host were left
	// out because the report was full.
	Folded int64 `json:"folded"`
	Probes int64 `json:"probes"` // health checks, and connections that asked for nothing
}

// Key is a sighting without its counts.
type Key struct {
	Listener      string
	VPCEndpointID string
	Source        netip.Addr
	Host          string
	Organization  string
	Denial        postern.Denial
}

type tally struct {
	count       int64
	first, last time.Time
	ja4         string
}

// Tally counts sightings. Make one with [New]. Its methods may be called from
// several goroutines at once.
type Tally struct {
	mu     sync.Mutex
	since  time.Time
	seen   map[Key]*tally
	open   map[Key]int // connections; no more keys than in a report
	looked time.Time   // when those were reported last
	denied int         // of the keys in seen
	nobody int         // of those
	folded int64
	probes int64
}

// New makes an empty tally.
func New() *Tally {
	now := time.Now()
	return &Tally{since: now, looked: now, seen: map[Key]*tally{}, open: map[Key]int{}}
}

// Probe counts a connection that asked for nothing.
func (r *Tally) Probe() {
	r.mu.Lock()
	r.probes++
	r.mu.Unlock()
}

// Opened notes that a connection of an arrival that was added stays.
func (r *Tally) Opened(k Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.open[k]
	switch {
	case n == 0 && len(r.open) >= Max:
		return
	case n == 0:
		// It may stay for days: the texts must be no part of a table of routes
		// that would stay with it.
		k.Organization, k.Host, k.VPCEndpointID = strings.Clone(k.Organization), strings.Clone(k.Host), strings.Clone(k.VPCEndpointID)
	}
	r.open[k] = n + 1
}

// Closed notes the end of a connection that was opened: until now its client
// was there.
func (r *Tally) Closed(k Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[k]--; r.open[k] <= 0 {
		delete(r.open, k)
	}
	r.touch(k, time.Now())
}

// touch notes that the client of an earlier sighting is still there.
func (r *Tally) touch(k Key, now time.Time) {
	t, ok := r.seen[k]
	switch {
	case ok:
		if now.After(t.last) { // the clock may have been set back
			t.last = now
		}
	case !r.full(k):
		r.seen[k] = &tally{first: now, last: now}
	}
}

// Add counts an arrival of a time. It tells whether it is the first of its kind
// in this report, which Hint may then say more of.
func (r *Tally) Add(k Key, at time.Time) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.seen[k]
	if !ok && r.full(k) {
		r.folded++
		// There are few of these, so they always fit: only the route table
		// makes an organization.
		k = Key{Listener: k.Listener, Organization: k.Organization, Denial: k.Denial}
		t, ok = r.seen[k]
	} else {
		first = !ok
	}
	if !ok {
		t = &tally{first: at, last: at}
		r.seen[k] = t
		if k.Denial != "" {
			r.denied++
		}
		if k.nobodys() {
			r.nobody++
		}
	}
	t.count++
	if at.Before(t.first) {
		t.first = at
	}
	if at.After(t.last) {
		t.last = at
	}
	return first
}

// Hint notes the fingerprint of an arrival that was added.
func (r *Tally) Hint(k Key, ja4 string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.seen[k]; ok {
		t.ja4 = ja4
	}
}

// nobodys tells whether the sighting is a denial on nobody's account.
func (k Key) nobodys() bool { return k.Denial != "" && k.Organization == "" }

// full tells whether there is no place for another sighting of this kind.
func (r *Tally) full(k Key) bool {
	return len(r.seen) >= Max || k.Denial != "" && r.denied >= maxDenied || k.nobodys() && r.nobody >= maxNobody
}

// Snapshot gives the report, ordered, and forgets it when told to.
func (r *Tally) Snapshot(forget bool) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.looked) >= openEvery {
		for k := range r.open {
			r.touch(k, now)
		}
		r.looked = now
	}
	out := Report{Since: r.since, Folded: r.folded, Probes: r.probes, Sightings: make([]Sighting, 0, len(r.seen))}
	for k, t := range r.seen {
		out.Sightings = append(out.Sightings, Sighting{
			Listener: k.Listener, VPCEndpointID: k.VPCEndpointID, Source: k.Source, Host: k.Host, Organization: k.Organization,
			Denial: k.Denial, Count: t.count, First: t.first, Last: t.last, JA4: t.ja4,
		})
	}
	slices.SortFunc(out.Sightings, func(a, b Sighting) int {
		return cmp.Or(
			strings.Compare(a.Listener, b.Listener), strings.Compare(string(a.Denial), string(b.Denial)), strings.Compare(a.Organization, b.Organization),
			strings.Compare(a.VPCEndpointID, b.VPCEndpointID), strings.Compare(a.Host, b.Host), a.Source.Compare(b.Source),
		)
	})
	if forget {
		r.since, r.seen, r.denied, r.nobody, r.folded, r.probes = time.Now(), map[Key]*tally{}, 0, 0, 0, 0
	}
	return out
}
