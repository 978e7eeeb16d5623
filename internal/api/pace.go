package api

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/postern-net/postern"
)

// Pace limits how often one token may do what costs calls at AWS: Burst at
// once, and one more every Every. The zero value is 60 at once and one a second.
type Pace struct {
	Burst int
	Every time.Duration
}

// pacer is a token bucket for each key, in memory: after a restart all are
// full. A bucket is kept as the time at which it will be full again.
type pacer struct {
	pace Pace
	now  func() time.Time

	mu   sync.Mutex
	full map[string]time.Time
}

func newPacer(p Pace, now func() time.Time) *pacer {
	if p.Burst <= 0 {
		p.Burst = 60
	}
	if p.Every <= 0 {
		p.Every = time.Second
	}
	return &pacer{pace: p, now: now, full: map[string]time.Time{}}
}

// maxBuckets is how many buckets are kept before full ones are dropped.
const maxBuckets = 1000

// take takes one from a key's bucket, or tells when there will be one.
func (p *pacer) take(key string) error {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.full) >= maxBuckets {
		for k, at := range p.full {
			if !at.After(now) {
				delete(p.full, k)
			}
		}
	}
	at := p.full[key]
	if at.Before(now) {
		at = now
	}
	at = at.Add(p.pace.Every)
	if wait := at.Sub(now) - time.Duration(p.pace.Burst)*p.pace.Every; wait > 0 {
		return &tooFastError{wait: wait}
	}
	p.full[key] = at
	return nil
}

// tooFastError is a refusal that says when to come again.
type tooFastError struct{ wait time.Duration }

func (e *tooFastError) Error() string { return e.Unwrap().Error() }

// Unwrap is the error of the domain.
func (e *tooFastError) Unwrap() error {
	return &postern.Error{
		Code: postern.CodeThrottled, Message: "this token asks for proofs and claims too often",
		Fix: fmt.Sprintf("wait %d s; give all endpoint IDs in one claim", e.seconds()),
	}
}

func (e *tooFastError) seconds() int { return int(math.Ceil(e.wait.Seconds())) }
