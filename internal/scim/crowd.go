package scim

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/postern-net/postern"
)

// Shares of what there is, so that nobody takes it all: of the connections and
// the requests under way, and of the rates.
const (
	clientShare   = 4 // a client has a quarter of the connections, and of a host's requests
	hostShare     = 2 // a host has half of the connections
	hostFactor    = 4 // a host has four times the rate of a client
	addressFactor = 8 // an address has eight times the rate of a client, for all hosts together, and for its connections
)

// requester is a client of one host. Identity providers serve many
// organizations from the same addresses: what one of them does, or somebody in
// its name, costs the others nothing.
type requester struct {
	client netip.Prefix
	host   string
}

// crowd counts who is at a door. The door's mutex guards it.
type crowd struct {
	sessions map[*session]bool
	clients  map[netip.Prefix]int // connections
	hosts    map[string]int       // connections; under "" those that are not judged yet
	requests map[requester]int    // under way; with no client those of the host
	uploads  map[*exchange]bool   // those of the requests that have a body
	backends map[string]int       // connections to the backends of a host
}

func newCrowd() crowd {
	return crowd{
		sessions: map[*session]bool{}, clients: map[netip.Prefix]int{}, hosts: map[string]int{}, requests: map[requester]int{},
		uploads: map[*exchange]bool{}, backends: map[string]int{},
	}
}

func add[K comparable](m map[K]int, key K, n int) {
	if m[key] += n; m[key] <= 0 {
		delete(m, key)
	}
}

// enter counts a connection, and makes room for it if there is none.
func (c *crowd) enter(s *session, most int) (displaced *session, ok bool) {
	clientFull, full := c.clients[s.share] >= max(most/clientShare, 1), len(c.sessions) >= most
	if clientFull || full {
		if displaced = c.idlest(func(o *session) bool { return !clientFull || o.share == s.share }); displaced == nil {
			return nil, false
		}
		c.leave(displaced)
	}
	c.sessions[s] = true
	add(c.clients, s.share, 1)
	add(c.hosts, s.counted, 1)
	return displaced, true
}

// settle counts a connection, which was counted as nobody's, for a host.
func (c *crowd) settle(s *session, host string, most int) (displaced *session, ok bool) {
	if !c.sessions[s] {
		return nil, false // it was displaced meanwhile
	}
	if c.hosts[host] >= max(most/hostShare, 1) {
		if displaced = c.idlest(func(o *session) bool { return o.counted == host }); displaced == nil {
			return nil, false
		}
		c.leave(displaced)
	}
	add(c.hosts, s.counted, -1)
	s.counted = host
	add(c.hosts, s.counted, 1)
	return displaced, true
}

// idlest is the connection that makes room: of the host that has most, the one
// that has had no request for longest.
func (c *crowd) idlest(among func(*session) bool) (best *session) {
	for s := range c.sessions {
		if s.busy > 0 || !among(s) {
			continue
		}
		if best != nil {
			heavier := c.hosts[s.counted] - c.hosts[best.counted]
			if heavier < 0 || heavier == 0 && !s.idle.Before(best.idle) {
				continue
			}
		}
		best = s
	}
	return best
}

func (c *crowd) leave(s *session) {
	if c.sessions[s] {
		delete(c.sessions, s)
		add(c.clients, s.share, -1)
		add(c.hosts, s.counted, -1)
	}
}

// begin counts a request that goes on to a backend, unless there are too many.
func (d *Door) begin(x *exchange) bool {
	d.mu.Lock()
	slow, ok := d.crowd.begin(x, d.limits.MaxRequests)
	d.mu.Unlock()
	if slow != nil {
		slow.giveUp()
	}
	return ok
}

func (c *crowd) begin(x *exchange, most int) (slow *exchange, ok bool) {
	mine, all := x.requester(), requester{host: x.session.name}
	if c.requests[mine] >= max(most/clientShare, 1) || !c.sessions[x.session] {
		return nil, false
	}
	if c.requests[all] >= most {
		if slow = c.slowest(mine); slow == nil {
			return nil, false
		}
		c.release(slow)
	}
	add(c.requests, mine, 1)
	add(c.requests, all, 1)
	x.placed = true
	if x.body != nil {
		c.uploads[x] = true
	}
	x.session.busy++
	return slow, true
}

func (d *Door) end(x *exchange) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crowd.release(x)
	x.session.busy--
	x.session.idle = time.Now()
}

func (x *exchange) requester() requester { return requester{x.session.share, x.session.name} }

func (c *crowd) release(x *exchange) {
	if x.placed {
		x.placed = false
		delete(c.uploads, x)
		add(c.requests, x.requester(), -1)
		add(c.requests, requester{host: x.session.name}, -1)
	}
}

// slowest is the request that makes room for a client that has none: of the client
// that has most, one whose body is being waited for. Whoever sends bodies slowly
// could keep a tenant's identity provider out otherwise. Nobody's only request is
// given up.
func (c *crowd) slowest(who requester) (slow *exchange) {
	if c.requests[who] > 0 {
		return nil
	}
	most := 1
	for x := range c.uploads {
		if n := c.requests[x.requester()]; x.session.name == who.host && n > most && x.body.waiting.Load() {
			slow, most = x, n
		}
	}
	return slow
}

// rate takes a request out of its client's rate and its address's.
func (d *Door) rate(s *session, now time.Time) (wait time.Duration) {
	if wait = d.clients.take(requester{s.share, s.name}, now); wait == 0 {
		wait = d.addresses.take(s.share, now)
	}
	return wait
}

// settle gives a session that was judged its place among those of its host.
func (s *session) settle() postern.Denial {
	d := s.door
	d.mu.Lock()
	displaced, ok := d.crowd.settle(s, s.name, d.limits.MaxConnections)
	d.mu.Unlock()
	d.displace(displaced)
	if !ok {
		return postern.DenyOverload
	}
	return ""
}

// displace cuts a session that made room for another: one that was answered just
// now only when the answer has had its time to arrive, or it would be cut too.
func (d *Door) displace(s *session) {
	if s == nil {
		return
	}
	d.metrics.displaced.Inc()
	if wait := time.Until(s.idle.Add(d.lingers)); wait > 0 && s.idle.After(s.at) {
		time.AfterFunc(wait, s.cut)
		return
	}
	s.cut()
}

// backendConn is a connection to a backend, which is counted.
type backendConn struct {
	net.Conn
	door *Door
	host string
	once sync.Once
}

// countBackend counts a connection. What a host's sessions keep idle makes room
// before there are more than requests may be under way: the app is somebody's
// who is private, and the internet does not get to fill it with connections.
func (d *Door) countBackend(host string, c net.Conn) net.Conn {
	d.mu.Lock()
	add(d.crowd.backends, host, 1)
	var idle []*session
	if d.crowd.backends[host] > d.limits.MaxRequests {
		for s := range d.crowd.sessions {
			if s.counted == host && s.transport != nil {
				idle = append(idle, s)
			}
		}
	}
	d.mu.Unlock()
	for _, s := range idle {
		s.transport.CloseIdleConnections()
	}
	return &backendConn{Conn: c, door: d, host: host}
}

// Close ends the connection.
func (c *backendConn) Close() error {
	c.once.Do(func() {
		c.door.mu.Lock()
		add(c.door.crowd.backends, c.host, -1)
		c.door.mu.Unlock()
	})
	return c.Conn.Close()
}
