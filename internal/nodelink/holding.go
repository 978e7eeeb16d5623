package nodelink

import (
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/postern-net/postern"
)

// Doors are what a node has its route table for.
type Doors interface {
	// Apply puts a table in force at every door, or returns an error and
	// leaves the one that is.
	Apply(postern.Routes) error
	// Withdraw takes the table out of force: everything is refused until the
	// next Apply, which may be of any revision.
	Withdraw()
	// Drain returns what arrived since it was called last.
	Drain() []postern.ArrivalCount
}

// holding is the table of a node: in force at its doors, and kept on its disk.
type holding struct {
	doors Doors
	file  string
	log   *slog.Logger

	mu      sync.Mutex
	table   postern.Routes
	inForce bool
	fenced  bool  // no table is taken until admit
	kept    int64 // revision of the file; 0: there is none
	keptSum string
	stale   bool // the file is not what it should be
}

// restore puts the kept table in force. A file that cannot be used is left
// alone, for somebody to look at, until there is a table to keep.
func (h *holding) restore() {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok, err := loadCache(h.file)
	if ok {
		err = h.doors.Apply(r)
	}
	switch {
	case err != nil:
		h.log.Error("the kept routes cannot be used; everything is refused until there are new ones", "file", h.file, "error", err)
	case !ok:
		h.log.Info("no routes are kept; everything is refused until there are some", "file", h.file)
	default:
		h.table, h.inForce, h.kept, h.keptSum = r, true, r.Revision, Sum(r)
		h.log.Info("the kept routes are in force", "revision", r.Revision)
	}
}

// status is how the node stands, but for its link.
func (h *holding) status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Status{Revision: h.table.Revision, InForce: h.inForce, Fenced: h.fenced}
}

// acknowledged is the table that the control plane may rely on: in force now,
// and again after a restart. Its checksum tells it from another of its revision.
func (h *holding) acknowledged() (revision int64, sum string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.inForce {
		return 0, ""
	}
	return h.kept, h.keptSum // never newer than what is in force
}

// snapshot takes a whole table, unless it goes back.
func (h *holding) snapshot(r postern.Routes) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.fenced:
		return errFenced
	case h.inForce && r.Revision < h.table.Revision:
		return &misfit{fmt.Errorf("nodelink: a snapshot goes back from revision %d to %d", h.table.Revision, r.Revision)}
	case h.inForce && r.Revision == h.table.Revision:
		return nil
	}
	return h.apply(r)
}

// delta takes a change of the table in force.
func (h *holding) delta(d Delta) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fenced {
		return errFenced
	}
	r, err := d.Apply(h.table)
	if err != nil {
		return &misfit{err}
	}
	return h.apply(r)
}

func (h *holding) apply(r postern.Routes) error {
	if err := h.doors.Apply(r); err != nil {
		return &misfit{fmt.Errorf("nodelink: routes of revision %d: %w", r.Revision, err)}
	}
	h.table, h.inForce, h.stale = r, true, true
	h.log.Debug("routes in force", "revision", r.Revision)
	h.keep()
	return nil
}

// withdraw puts the table out of force, forgets the file, and takes no other
// table until admit: what is on its way belongs to a stream that the fence
// ends. It tells whether the node was not fenced before.
func (h *holding) withdraw() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.fenced
	h.fenced = true
	if h.inForce {
		h.doors.Withdraw()
		h.table, h.inForce = postern.Routes{}, false
	}
	if _, err := os.Lstat(h.file); err == nil {
		h.stale = true
	}
	h.keep()
	return !before
}

// admit takes tables again. It tells whether the node was fenced before.
func (h *holding) admit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.fenced
	h.fenced = false
	return before
}

// misfit is a message that a node does not take: what should never happen.
type misfit struct{ cause error }

func (e *misfit) Error() string { return e.cause.Error() }
func (e *misfit) Unwrap() error { return e.cause }

// mend tries again to make the file what it should be.
func (h *holding) mend() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep()
}

// keep makes the file agree with what is in force. Where it fails, the
// revision is not acknowledged: a restart would bring the earlier one back.
func (h *holding) keep() {
	if !h.stale {
		return
	}
	var err error
	if h.inForce {
		err = saveCache(h.file, h.table)
	} else {
		err = removeCache(h.file)
	}
	if err != nil {
		h.log.Error("the routes in force cannot be kept, and are not acknowledged; it is tried again", "file", h.file, "error", err)
		return
	}
	h.stale, h.kept, h.keptSum = false, h.table.Revision, ""
	if h.inForce {
		h.keptSum = Sum(h.table)
	}
}
