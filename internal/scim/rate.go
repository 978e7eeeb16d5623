package scim

import (
	"net/netip"
	"sync"
	"time"
)

// maxBuckets bounds the clients that are remembered. Beyond it those go that
// have their burst again, and where that is not enough, some others: what they
// may all send together is bounded by the tenant's share.
const maxBuckets = 10_000

// limiter lets each key have a number of requests per second, and a burst of
// as many seconds' worth.
type limiter[K comparable] struct {
	perSecond, burst float64

	mu      sync.Mutex
	buckets map[K]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

func newLimiter[K comparable](perSecond float64) *limiter[K] {
	return &limiter[K]{perSecond: perSecond, burst: burstSeconds * perSecond, buckets: map[K]bucket{}}
}

// burstSeconds is how many seconds' worth of requests may come at once:
// identity providers send what has gathered.
const burstSeconds = 4

// take takes one request; if there is none left it tells when there will be.
func (l *limiter[K]) take(key K, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[key]
	if !ok {
		if len(l.buckets) >= maxBuckets {
			l.forget(now)
		}
		b = bucket{left: l.burst, at: now}
	}
	b = l.filled(b, now)
	if b.left < 1 {
		l.buckets[key] = b
		return time.Duration((1 - b.left) / l.perSecond * float64(time.Second))
	}
	b.left--
	l.buckets[key] = b
	return 0
}

func (l *limiter[K]) filled(b bucket, now time.Time) bucket {
	if d := now.Sub(b.at); d > 0 {
		b.left, b.at = min(l.burst, b.left+d.Seconds()*l.perSecond), now
	}
	return b
}

// forget drops the buckets that are full again, and if that makes no room, an
// eighth of all.
func (l *limiter[K]) forget(now time.Time) {
	for k, b := range l.buckets {
		if l.filled(b, now).left >= l.burst {
			delete(l.buckets, k)
		}
	}
	for k := range l.buckets {
		if len(l.buckets) < maxBuckets-maxBuckets/8 {
			break
		}
		delete(l.buckets, k)
	}
}

// network is what a client is known by: an IPv4 address, or an IPv6 network of
// 56 bits, which is what one site gets (RFC 6177 §2) and a client may have to
// itself.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 56
	}
	p, _ := a.Prefix(bits) // an address has as many bits
	return p
}
