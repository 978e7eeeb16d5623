package nodelink

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/postern-net/postern"
)

// maxHistory bounds how many deltas a hub keeps; a node that is further behind
// gets a snapshot.
const maxHistory = 128

// maxMade is how many tables a hub knows at least, once it has made so many: a
// node may be a little behind for as long as there is always something new.
const maxMade = 1024

// Hub is the control plane's end: it is given route tables and streams them to
// any number of nodes. Each stream reads at its own pace from one history, so
// that a slow node costs nothing and gets a snapshot when it has fallen out of
// it. Its methods may be called from several goroutines at once.
type Hub struct {
	mu      sync.Mutex
	current postern.Routes
	known   bool             // a table was published
	history []Delta          // consecutive; the last one leads to current
	entries int              // of all deltas in it
	made    map[int64]string // checksums of the last tables, by revision
	news    chan struct{}    // closed by the next Publish
}

// NewHub makes a hub that has no table yet.
func NewHub() *Hub { return &Hub{made: map[int64]string{}, news: make(chan struct{})} }

// Publish hands a table to every stream. It does not block. A revision that is
// not newer than the last one changes nothing. The caller must not change the
// table afterwards.
func (h *Hub) Publish(r postern.Routes) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known && r.Revision <= h.current.Revision {
		return
	}
	if h.known {
		d := Diff(h.current, r)
		h.remember(d, entries(r))
		h.made[r.Revision] = d.Sum
	} else {
		h.made[r.Revision] = Sum(r)
	}
	if len(h.made) > 2*maxMade {
		maps.DeleteFunc(h.made, func(revision int64, _ string) bool { return revision <= r.Revision-maxMade })
	}
	h.current, h.known = r, true
	close(h.news)
	h.news = make(chan struct{})
}

// entries is the size of a snapshot, as [Delta.size].
func entries(r postern.Routes) int {
	return len(r.Hosts) + len(r.Endpoints) + len(r.Connections) + len(r.Workloads) + len(r.Checks) + len(r.SCIM)
}

// Knows tells whether a table of this revision and checksum was made here, as far
// back as the history goes. What another control plane made, such as the one that
// this one was restored from, may have the same revision.
func (h *Hub) Knows(revision int64, sum string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	known, ok := h.made[revision]
	return ok && known == sum
}

// remember adds a delta, and forgets old ones: those past the bound, and those
// that make the whole way longer than a snapshot.
func (h *Hub) remember(d Delta, whole int) {
	h.history = append(h.history, d)
	h.entries += d.size()
	drop := 0
	for drop < len(h.history) && (len(h.history)-drop > maxHistory || h.entries > whole) {
		h.entries -= h.history[drop].size()
		drop++
	}
	h.history = slices.Delete(h.history, 0, drop)
}

// next is what leads from a revision to the current table, and a channel that
// is closed when there is another one. No message: nothing is new.
func (h *Hub) next(have int64) (msgs []Message, revision int64, news <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.known || have == h.current.Revision {
		return nil, h.current.Revision, h.news
	}
	i := slices.IndexFunc(h.history, func(d Delta) bool { return d.From == have })
	if i < 0 {
		snapshot := h.current
		return []Message{{Snapshot: &snapshot}}, h.current.Revision, h.news
	}
	for _, d := range h.history[i:] {
		msgs = append(msgs, Message{Delta: &d})
	}
	return msgs, h.current.Revision, h.news
}

// Stream sends what leads from revision have (0: none) to the current table,
// and then each new one, with a ping whenever nothing was new for PingEvery,
// and one at the start where nothing is. It returns when ctx ends, with its
// error, or with the error of send.
func (h *Hub) Stream(ctx context.Context, have int64, send func(Message) error) error {
	ping := time.NewTicker(PingEvery)
	defer ping.Stop()
	greeted := false
	for {
		msgs, revision, news := h.next(have)
		if len(msgs) == 0 && !greeted {
			msgs = []Message{{Ping: &Ping{Revision: revision}}}
		}
		for _, m := range msgs {
			if ctx.Err() != nil { // there may always be news for who reads slowly
				return ctx.Err()
			}
			if err := send(m); err != nil {
				return err
			}
			if m.Ping == nil {
				have = revision
			}
		}
		if len(msgs) > 0 {
			greeted = true
			ping.Reset(PingEvery)
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		case <-ping.C:
			greeted = false
		}
	}
}
