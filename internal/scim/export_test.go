package scim

import (
	"net"
	"net/netip"
	"time"

	"github.com/postern-net/postern"
)

// What the tests look at from outside.
var (
	AllowedPath  = allowedPath
	AllowedQuery = allowedQuery
)

// NewWire is the layer below net/http on a connection that may be idle for a minute.
func NewWire(c net.Conn, refused func(postern.Denial, error)) net.Conn {
	return newWire(c, time.Minute, refused)
}

// Scanned is how many bytes of a head such a layer has looked at.
func Scanned(c net.Conn) int { return c.(*wire).scanned }

// Limiter is a limiter of clients.
type Limiter struct{ *limiter[netip.Prefix] }

func NewLimiter(perSecond float64) Limiter { return Limiter{newLimiter[netip.Prefix](perSecond)} }

// Take takes one request of an address.
func (l Limiter) Take(a netip.Addr, now time.Time) time.Duration { return l.take(network(a), now) }

// Len is how many clients are remembered.
func (l Limiter) Len() int { return len(l.buckets) }

// MaxBuckets bounds Len.
const MaxBuckets = maxBuckets

// Look looks at the files at once.
func (f *Files) Look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look()
}

// LingerFor sets how long who is refused is read from. It is for before the first
// connection.
func (d *Door) LingerFor(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lingers = t
}
