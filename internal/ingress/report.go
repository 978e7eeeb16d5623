package ingress

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/relay"
)

const (
	// MaxSightings bounds a report. What exceeds it is still counted, by
	// listener, organization and denial, without its endpoint, source and
	// host.
	MaxSightings = 10_000
	// maxDenied is the share of denials in that, so that nobody drives out
	// the record of who is admitted by asking for many things.
	maxDenied = MaxSightings / 2
	// maxNobody is the share in maxDenied of denials on nobody's account, so
	// that strangers do not drive out the organizations'.
	maxNobody = 1000
	// openEvery is how often public clients are reported that stay connected:
	// who never comes again because it never left is there too.
	openEvery = 10 * time.Second
)

// Sighting counts the connections that looked alike.
type Sighting struct {
	Listener      string         `json:"listener"`
	VPCEndpointID string         `json:"vpc_endpoint_id,omitempty"`
	Source        netip.Addr     `json:"source,omitzero"` // public listener only
	Host          string         `json:"host,omitempty"`  // as the client asked for it
	Organization  string         `json:"organization,omitempty"`
	Denial        postern.Denial `json:"denial,omitempty"` // "" for those admitted
	Count         int64          `json:"count"`            // that were opened; 0: one of before is still open
	First         time.Time      `json:"first_seen"`
	Last          time.Time      `json:"last_seen"`
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

// key is a sighting without its counts.
type key struct {
	listener     string
	endpoint     string
	source       netip.Addr
	host         string
	organization string
	denial       postern.Denial
}

type tally struct {
	count       int64
	first, last time.Time
}

type report struct {
	mu     sync.Mutex
	since  time.Time
	seen   map[key]*tally
	open   map[key]int // public connections; no more keys than in a report
	looked time.Time   // when those were reported last
	denied int         // of the keys in seen
	nobody int         // of those
	folded int64
	probes int64
}

func newReport() *report {
	now := time.Now()
	return &report{since: now, looked: now, seen: map[key]*tally{}, open: map[key]int{}}
}

func (r *report) probe() {
	r.mu.Lock()
	r.probes++
	r.mu.Unlock()
}

func keyOf(a *relay.Arrival, organization string, d postern.Denial) key {
	k := key{listener: a.Listener, endpoint: a.Proxy.VPCEndpointID, host: a.Hello.ServerName, organization: organization, denial: d}
	if a.Listener == Public {
		k.source = a.Client().Addr()
	}
	return k
}

// opened notes an admitted connection.
func (r *report) opened(a *relay.Arrival, organization string) {
	r.add(a, organization, "")
	if a.Listener != Public {
		return
	}
	k := keyOf(a, organization, "")
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.open[k]; n > 0 || len(r.open) < MaxSightings {
		r.open[k] = n + 1
	}
}

// closed notes the end of an admitted connection: until now its client was
// there.
func (r *report) closed(a *relay.Arrival, organization string) {
	if a.Listener != Public {
		return
	}
	k := keyOf(a, organization, "")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[k]--; r.open[k] <= 0 {
		delete(r.open, k)
	}
	r.touch(k, time.Now())
}

// touch notes that the client of an earlier sighting is still there.
func (r *report) touch(k key, now time.Time) {
	t, ok := r.seen[k]
	switch {
	case ok:
		t.last = now
	case !r.full(k):
		r.seen[k] = &tally{first: now, last: now}
	}
}

func (r *report) add(a *relay.Arrival, organization string, d postern.Denial) {
	k := keyOf(a, organization, d)
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.seen[k]
	if !ok && r.full(k) {
		r.folded++
		// There are few of these, so they always fit: only the route table
		// makes an organization.
		k = key{listener: a.Listener, organization: organization, denial: d}
		t, ok = r.seen[k]
	}
	if !ok {
		t = &tally{first: a.At, last: a.At}
		r.seen[k] = t
		if d != "" {
			r.denied++
		}
		if k.nobodys() {
			r.nobody++
		}
	}
	t.count++
	if a.At.Before(t.first) {
		t.first = a.At
	}
	if a.At.After(t.last) {
		t.last = a.At
	}
}

// nobodys tells whether the sighting is a denial on nobody's account.
func (k key) nobodys() bool { return k.denial != "" && k.organization == "" }

// full tells whether there is no place for another sighting of this kind.
func (r *report) full(k key) bool {
	return len(r.seen) >= MaxSightings || k.denial != "" && r.denied >= maxDenied || k.nobodys() && r.nobody >= maxNobody
}

// snapshot gives the report, ordered, and forgets it when told to.
func (r *report) snapshot(forget bool) Report {
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
			Listener: k.listener, VPCEndpointID: k.endpoint, Source: k.source, Host: k.host, Organization: k.organization,
			Denial: k.denial, Count: t.count, First: t.first, Last: t.last,
		})
	}
	slices.SortFunc(out.Sightings, func(a, b Sighting) int {
		return cmp.Or(
			strings.Compare(a.Listener, b.Listener), strings.Compare(string(a.Denial), string(b.Denial)), strings.Compare(a.Organization, b.Organization),
			strings.Compare(a.VPCEndpointID, b.VPCEndpointID), strings.Compare(a.Host, b.Host), a.Source.Compare(b.Source),
		)
	})
	if forget {
		r.since, r.seen, r.denied, r.nobody, r.folded, r.probes = time.Now(), map[key]*tally{}, 0, 0, 0, 0
	}
	return out
}
