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

// record is what is known of the connections that look alike. It is there while
// they are in this report, or one of them is open.
type record struct {
	reported    bool // what follows is in this report
	count       int64
	first, last time.Time
	ja4         string

	open int // that stay
}

// Tally counts sightings. Make one with [New]. Its methods may be called from
// several goroutines at once.
type Tally struct {
	mu       sync.Mutex
	since    time.Time
	records  map[Key]*record
	open     int       // records of something open; no more than in a report
	looked   time.Time // when those were reported last
	reported int       // records that are in this report
	denied   int       // of those
	nobody   int       // of those
	folded   int64
	probes   int64
}

// New makes an empty tally.
func New() *Tally {
	now := time.Now()
	return &Tally{since: now, looked: now, records: map[Key]*record{}}
}

// Probe counts a connection that asked for nothing.
func (r *Tally) Probe() {
	r.mu.Lock()
	r.probes++
	r.mu.Unlock()
}

// Opened counts an arrival as [Tally.Add] does, whose connection stays.
func (r *Tally) Opened(k Key, at time.Time) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, t := r.add(k, at)
	if t == nil { // it was folded
		t = r.records[k]
	}
	switch {
	case t != nil && t.open > 0:
	case r.open >= Max:
		return first
	case t == nil:
		t = r.make(k)
		r.open++
	default:
		r.open++
	}
	t.open++
	return first
}

// Closed notes the end of a connection that was opened: until now its client
// was there.
func (r *Tally) Closed(k Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.touch(k, time.Now())
	if t == nil || t.open == 0 {
		return
	}
	if t.open--; t.open == 0 {
		r.open--
		if !t.reported {
			delete(r.records, k)
		}
	}
}

// touch notes that the client of an earlier sighting is still there.
func (r *Tally) touch(k Key, now time.Time) *record {
	t := r.records[k]
	switch {
	case t != nil && t.reported:
		if now.After(t.last) { // the clock may have been set back
			t.last = now
		}
	case !r.full(k):
		t = r.report(k, t, now)
	}
	return t
}

// make begins a record. It may stay for days: its texts must be no part of a
// table of routes that would stay with it.
func (r *Tally) make(k Key) *record {
	k.Organization, k.Host, k.VPCEndpointID = strings.Clone(k.Organization), strings.Clone(k.Host), strings.Clone(k.VPCEndpointID)
	t := &record{}
	r.records[k] = t
	return t
}

// report puts a record into this report; nil is made first.
func (r *Tally) report(k Key, t *record, at time.Time) *record {
	if t == nil {
		t = r.make(k)
	}
	t.reported, t.first, t.last = true, at, at
	r.reported++
	if k.Denial != "" {
		r.denied++
	}
	if k.nobodys() {
		r.nobody++
	}
	return t
}

// Add counts an arrival of a time. It tells whether it is the first of its kind
// in this report, which Hint may then say more of.
func (r *Tally) Add(k Key, at time.Time) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, _ = r.add(k, at)
	return first
}

// add counts an arrival, and returns its record unless it was folded.
func (r *Tally) add(k Key, at time.Time) (first bool, own *record) {
	t := r.records[k]
	reported := t != nil && t.reported
	if !reported && r.full(k) {
		r.folded++
		// There are few of these, so they always fit: only the route table
		// makes an organization.
		k = Key{Listener: k.Listener, Organization: k.Organization, Denial: k.Denial}
		if t = r.records[k]; t == nil || !t.reported {
			t = r.report(k, t, at)
		}
	} else {
		if first = !reported; first {
			t = r.report(k, t, at)
		}
		own = t
	}
	t.count++
	if at.Before(t.first) {
		t.first = at
	}
	if at.After(t.last) {
		t.last = at
	}
	return first, own
}

// Hint notes the fingerprint of an arrival that was added.
func (r *Tally) Hint(k Key, ja4 string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.records[k]; ok && t.reported {
		t.ja4 = ja4
	}
}

// nobodys tells whether the sighting is a denial on nobody's account.
func (k Key) nobodys() bool { return k.Denial != "" && k.Organization == "" }

// full tells whether there is no place for another sighting of this kind.
func (r *Tally) full(k Key) bool {
	return r.reported >= Max || k.Denial != "" && r.denied >= maxDenied || k.nobodys() && r.nobody >= maxNobody
}

// Snapshot gives the report, ordered, and forgets it when told to.
func (r *Tally) Snapshot(forget bool) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.looked) >= openEvery {
		for k, t := range r.records {
			if t.open > 0 {
				r.touch(k, now)
			}
		}
		r.looked = now
	}
	out := Report{Since: r.since, Folded: r.folded, Probes: r.probes, Sightings: make([]Sighting, 0, r.reported)}
	for k, t := range r.records {
		if !t.reported {
			continue
		}
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
		r.forget()
	}
	return out
}

// forget begins a new report. What is open stays known.
func (r *Tally) forget() {
	for k, t := range r.records {
		if t.open == 0 {
			delete(r.records, k)
			continue
		}
		*t = record{open: t.open}
	}
	r.since, r.reported, r.denied, r.nobody, r.folded, r.probes = time.Now(), 0, 0, 0, 0, 0
}
