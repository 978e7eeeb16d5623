package localaws

import (
	"maps"
	"sync"
	"time"
)

// nextDue is when something changes by itself; zero: nothing will.
func (st *state) nextDue() time.Time {
	var due time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	for _, e := range st.Endpoints {
		sooner(e.Due)
	}
	for _, c := range st.Changes {
		sooner(c.Due)
	}
	return due
}

// advance makes every change that is due. An accepted endpoint becomes
// available, a deleting one is deleted and vanishes after a while, and a
// provider's list forgets a rejected one, which stays with its owner until he
// deletes it. Changes of hosted zones reach the resolvers.
func (st *state) advance(now time.Time, linger time.Duration) {
	st.publish(now)
	for id, e := range st.Endpoints {
		for !e.Due.IsZero() && !e.Due.After(now) {
			due := e.Due
			e.Due = time.Time{}
			switch e.State {
			case statePending:
				e.State = stateAvailable
			case stateDeleting:
				e.State, e.Due = stateDeleted, due.Add(linger)
			case stateDeleted:
				st.forget(id)
			case stateRejected:
				e.ConnectionGone = true
			}
		}
	}
}

// forget removes an endpoint's row and the client token that made it.
func (st *state) forget(endpointID string) {
	delete(st.Endpoints, endpointID)
	maps.DeleteFunc(st.Tokens, func(_ string, t clientToken) bool { return t.Resource == endpointID })
}

// connected tells whether the endpoint holds on to its service: AWS refuses to
// delete a service while one does.
func (e *endpoint) connected() bool {
	switch e.State {
	case statePendingAcceptance, statePending, stateAvailable, stateDeleting:
		return true
	}
	return false
}

// accept starts to connect a waiting endpoint.
func (e *endpoint) accept(now time.Time, t Timing) {
	e.State, e.Due = statePending, now.Add(t.Available)
}

func (e *endpoint) reject(now time.Time, t Timing) {
	e.State, e.Due = stateRejected, now.Add(t.Linger)
}

func (e *endpoint) remove(now time.Time, t Timing) {
	e.State, e.Due = stateDeleting, now.Add(t.Delete)
}

// hiding leaves new endpoints out of the first listings.
type hiding struct {
	mu   sync.Mutex
	left map[string]int // listings to come that lack it, by "side endpoint"
}

// add hides a new endpoint from n listings of each side.
func (h *hiding) add(id string, n int) {
	if n <= 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left == nil {
		h.left = map[string]int{}
	}
	h.left[consumerSide+id], h.left[providerSide+id] = n, n
}

// The two sides that list an endpoint.
const (
	consumerSide = "consumer "
	providerSide = "provider "
)

// hides tells whether this listing lacks the endpoint, and counts it.
func (h *hiding) hides(side, id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, ok := h.left[side+id]
	if !ok {
		return false
	}
	if n == 1 {
		delete(h.left, side+id)
	} else {
		h.left[side+id] = n - 1
	}
	return true
}
