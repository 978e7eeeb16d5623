package scim

import (
	"net/netip"
	"sync"
	"time"

	"github.com/postern-net/postern"
)

const (
	// maxSightings bounds a report. What exceeds it is still counted, by
	// organization and denial, without its source and host.
	maxSightings = 5000
	// maxNobody is the share in that of refusals on nobody's account, so that
	// strangers do not drive out the organizations'.
	maxNobody = 1000
)

// sighting is what is counted together.
type sighting struct {
	source       netip.Addr
	host         string
	organization string
	denial       postern.Denial
}

type tally struct {
	count       int64
	first, last time.Time
}

// report counts what happened at a door since it was drained last.
type report struct {
	mu     sync.Mutex
	seen   map[sighting]*tally
	nobody int
}

func (r *report) add(s sighting, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.seen[s]
	if nobodys := s.organization == ""; !ok && (len(r.seen) >= maxSightings || nobodys && r.nobody >= maxNobody) {
		s.source, s.host = netip.Addr{}, "" // there are few of these
		t, ok = r.seen[s]
	}
	if !ok {
		if r.seen == nil {
			r.seen = map[sighting]*tally{}
		}
		t = &tally{first: at, last: at}
		r.seen[s] = t
		if s.organization == "" {
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
}

func (r *report) drain(region string) []postern.ArrivalCount {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]postern.ArrivalCount, 0, len(r.seen))
	for s, t := range r.seen {
		a := postern.ArrivalCount{
			Region: region, Listener: postern.ListenerSCIM, ServerName: s.host, Denial: s.denial, Organization: s.organization,
			Count: t.count, FirstSeen: t.first, LastSeen: t.last,
		}
		if s.source.IsValid() {
			a.Source = s.source.String()
		}
		out = append(out, a)
	}
	r.seen, r.nobody = nil, 0
	return out
}
