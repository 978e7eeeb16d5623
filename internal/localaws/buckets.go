package localaws

import (
	"sync"
	"time"
)

// bucketClass is how an action is throttled; at EC2 each has a bucket of its
// own. The numbers are AWS's ("Request throttling for the Amazon EC2 API").
type bucketClass struct {
	capacity float64
	refill   float64 // tokens per second
}

var (
	readBucket     = bucketClass{100, 20}
	writeBucket    = bucketClass{50, 5}
	endpointBucket = bucketClass{4, 0.3} // creation, modification and deletion of endpoints
	serviceBucket  = bucketClass{10, 1}  // of services, and accepting and rejecting
	route53Bucket  = bucketClass{5, 5}   // all of an account's requests together (Route 53 quotas)
)

// buckets holds a token bucket for each account, region and action.
type buckets struct {
	mu   sync.Mutex
	full map[string]*tokens
}

type tokens struct {
	left float64
	at   time.Time
}

// take removes a token, or tells that there is none.
func (b *buckets) take(c *call, class bucketClass) bool {
	if class.capacity == 0 {
		return true
	}
	key := c.caller.account + " " + c.region + " " + c.action
	if c.service == serviceRoute53 {
		key = c.caller.account + " " + serviceRoute53
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full == nil {
		b.full = map[string]*tokens{}
	}
	t := b.full[key]
	if t == nil {
		t = &tokens{left: class.capacity, at: c.at}
		b.full[key] = t
	}
	t.left = min(class.capacity, t.left+max(0, c.at.Sub(t.at).Seconds())*class.refill)
	t.at = c.at
	if t.left < 1 {
		return false
	}
	t.left--
	return true
}
