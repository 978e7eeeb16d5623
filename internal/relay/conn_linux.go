package relay

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A conn is one accepted connection of a loop. It is touched by its loop only,
// and made small, for there may be tens of thousands of which nothing moves:
// what only a connection needs that is not open yet is in hello and attempt,
// what is needed again when it is judged or reported is packed into record.
type conn struct {
	sides  [2]side // client, backend
	served *served
	at     time.Time
	hello  *unheard // while its hello is not complete
	dial   *attempt // while a backend is connected
	record string   // when it is open
	place  place
	active uint32 // tick at which bytes moved last
	gen    uint32 // grows when the place is used again, so that old events miss
	index  uint32 // its place in the loop's table
	state  state
	kept   bool // keepalive has been turned on towards the backend
}

// The sides of a connection, as indexes.
const (
	client  = 0
	backend = 1
)

// state is how far a connection is.
type state uint8

const (
	unused    state = iota
	peeking         // its hello is read
	dialing         // a backend is connected and sent the first bytes
	relaying        // it is open
	lingering       // it was refused, and reads its alert
)

// side is one of the two sockets.
type side struct {
	fd    int32
	flags flags
	piped int32  // bytes in the pipe
	pipe  *pipe  // bytes to be written to this side, in the kernel
	queue *queue // bytes to be written to this side, in memory
	sent  int64  // bytes of the other side that were written to this one
	seen  int64  // of the other side's sent, at the last sweep
}

type flags uint16

const (
	polled   flags = 1 << iota // in the epoll set
	polledW                    // for writing too
	readable                   // there may be bytes that were not read
	ended                      // its end has been read
	hungUp                     // its end is near: a short read does not mean that all was read
	blocked                    // it takes no more for now
	closing                    // its stream has been ended by us
	bulky                      // bytes from it go by splice
	patient                    // it wakes us for much only: SO_RCVLOWAT is raised
	queued                     // in the loop's list of those who have more
	urgent                     // it has sent urgent data, at which a read ends and a splice stops
)

func (s *side) is(f flags) bool { return s.flags&f != 0 }
func (s *side) set(f flags)     { s.flags |= f }
func (s *side) clear(f flags)   { s.flags &^= f }

// owes tells whether bytes wait to be written to this side.
func (s *side) owes() bool { return s.piped > 0 || s.queue != nil }

// ref names a connection, or one side of it, as long as it is the same one.
type ref struct {
	c    *conn
	gen  uint32
	side uint8
}

func (c *conn) ref(i int) ref { return ref{c, c.gen, uint8(i)} }

// live tells whether the connection is still the one that was meant.
func (r ref) live() bool { return r.c.gen == r.gen && r.c.state != unused }

const chunkSize = 64

// table holds a loop's connections. Its memory is used again, never given
// back: it has as much as the most connections at one time took.
type table struct {
	chunks []*[chunkSize]conn
	free   []uint32
	due    []uint32 // of each connection, the tick at which to look at it; 0 is never
	used   int
}

func (t *table) at(i uint32) *conn { return &t.chunks[i/chunkSize][i%chunkSize] }

func (t *table) take() *conn {
	if len(t.free) == 0 {
		first := uint32(len(t.due))
		chunk := new([chunkSize]conn)
		t.chunks = append(t.chunks, chunk)
		t.due = append(t.due, make([]uint32, chunkSize)...)
		for i := range uint32(chunkSize) {
			chunk[i].index = first + i
			t.free = append(t.free, first+chunkSize-1-i)
		}
	}
	i := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	t.used++
	return t.at(i)
}

func (t *table) give(c *conn) {
	t.due[c.index] = 0
	*c = conn{index: c.index, gen: c.gen + 1}
	t.free = append(t.free, c.index)
	t.used--
}

// Listener's events are told from connections' by a negative token.
const (
	tokenWake  = -1
	tokenTimer = -2
	tokenFirst = -3 // of the listeners, downwards
)

func (c *conn) token(i int) token {
	return token{int32(c.index<<1) | int32(i), int32(c.gen)}
}

// poll has the side's events reported, those for writing too when asked for.
func (l *loop) poll(c *conn, i int, write bool) {
	s := &c.sides[i]
	operation := uintptr(unix.EPOLL_CTL_MOD)
	switch {
	case s.is(polledW), s.is(polled) && !write:
		return
	case !s.is(polled):
		operation = unix.EPOLL_CTL_ADD
	}
	events := uint32(unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET)
	s.set(polled)
	if write {
		events |= unix.EPOLLOUT
		s.set(polledW)
	}
	if e := sysControl(l.epoll, operation, s.fd, events, c.token(i)); e != 0 {
		l.lost = append(l.lost, c.ref(i)) // not here, where nobody expects it to end
	}
}

// endLost ends those of whom no event would be told: the kernel has no memory,
// or the user has as many in epoll sets as one may have.
func (l *loop) endLost() {
	for len(l.lost) > 0 {
		r := l.lost[len(l.lost)-1]
		l.lost = l.lost[:len(l.lost)-1]
		if !r.live() {
			continue
		}
		switch c := r.c; c.state {
		case relaying:
			l.end(c, EndReset)
		case dialing:
			if int(r.side) == backend && c.sides[backend].fd >= 0 {
				l.dialFailed(c, errUnseen)
				continue
			}
			l.discard(c, true)
		case peeking, lingering:
			l.discard(c, true)
		case unused:
		}
	}
}

// begin begins a connection that was accepted.
func (l *loop) begin(sv *served, fd int32, at time.Time) *conn {
	l.churned = true
	c := l.table.take()
	c.sides[client].fd, c.sides[backend].fd = fd, -1
	c.served, c.state, c.at = sv, peeking, at
	if !l.ticking {
		l.startTicking()
	}
	return c
}

// discard forgets a connection and closes its sockets: by a reset, or by an
// orderly end.
func (l *loop) discard(c *conn, reset bool) {
	l.churned = true
	l.heard(c)
	for i := range c.sides {
		s := &c.sides[i]
		if s.fd >= 0 {
			if reset {
				sysReset(s.fd)
			} else {
				sysClose(s.fd)
			}
		}
		if s.queue != nil {
			l.putQueue(s.queue)
		}
		if s.pipe != nil {
			l.pipes.drop(s.pipe) // it may hold bytes
		}
	}
	if c.dial != nil {
		l.putAttempt(c.dial)
	}
	l.engine.limits.leave(&c.place)
	l.table.give(c)
	l.load.Add(-1)
	l.engine.left()
	if l.paused {
		l.resumeAccepting(true)
	}
}

// end finishes an open connection and reports it.
func (l *loop) end(c *conn, why End) {
	a, v, b := &l.arrival, Verdict{}, netip.AddrPort{}
	l.unpack(c, a, &v, &b)
	stats := Stats{
		Up: c.sides[backend].sent, Down: c.sides[client].sent, Duration: time.Since(c.at), Backend: b, End: why,
	}
	o := c.served.observer
	l.discard(c, why != EndFinished)
	o.Closed(a, v, stats)
}
