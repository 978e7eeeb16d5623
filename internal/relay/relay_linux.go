package relay

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// turn bounds the bytes that one direction moves before others get theirs.
	turn = 1 << 20
	// stopSplice is the size of a move below which splice(2) pays no more; it
	// begins to at bulkRead.
	stopSplice = 8 << 10
	// lowWater is SO_RCVLOWAT for a flow that moved so much in one turn: it
	// then wakes the loop for that much only, until a sweep sees it slow.
	lowWater = 256 << 10
)

// opened begins to relay: the backend has taken the prologue and the hello.
func (l *loop) opened(c *conn) {
	a := c.dial
	c.record, c.state, c.active = l.pack(a), relaying, l.tick
	c.sides[backend].sent = int64(a.hello)
	revoked := l.engine.generation.Load() != a.generation && !l.stillAdmitted(c) // the rules changed while it was dialed
	c.served.observer.Opened(&a.arrival, a.verdict)
	c.dial = nil
	l.putAttempt(a)
	if revoked {
		l.end(c, EndRevoked)
		return
	}
	l.after(c, l.firstLook())
	gen := c.gen
	for i := range c.sides {
		// What is newly in the epoll set is reported if it can be read; of the
		// other, events have been missed.
		if !c.sides[i].is(polled) {
			l.poll(c, i, false)
		} else if l.pump(c, i); c.gen != gen {
			return
		}
	}
}

func (l *loop) relayEvent(c *conn, i int, what uint32) {
	gen := c.gen
	s, d := &c.sides[i], &c.sides[1-i]
	if what&unix.EPOLLOUT != 0 && s.is(blocked) {
		s.clear(blocked)
		if l.flush(c, i); c.gen != gen {
			return
		}
		if !s.is(blocked) && d.is(readable) {
			if l.pump(c, 1-i); c.gen != gen {
				return
			}
		}
	}
	if what&(unix.EPOLLIN|unix.EPOLLPRI|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 && !s.is(ended) {
		if l.pump(c, i); c.gen != gen {
			return
		}
	}
	if what&unix.EPOLLERR != 0 {
		l.lastWords(c, i)
	}
}

// pump moves bytes from side i to the other until there are none, the other
// takes no more, or its turn is over.
func (l *loop) pump(c *conn, i int) {
	s, d := &c.sides[i], &c.sides[1-i]
	s.set(readable)
	gen := c.gen
	for moved := 0; !s.is(ended) && !d.is(blocked); {
		if moved >= turn {
			if !s.is(queued) {
				s.set(queued)
				l.ready = append(l.ready, c.ref(i))
			}
			return
		}
		n, drained := 0, false
		if s.is(bulky) {
			n, drained = l.spliceSome(c, i)
		} else {
			n, drained = l.copySome(c, i)
		}
		if c.gen != gen {
			return // it has ended
		}
		if moved += n; n > 0 {
			c.active = l.tick
		}
		if moved >= lowWater && !s.is(patient) {
			l.makePatient(c, i)
		}
		if drained {
			s.clear(readable)
			return
		}
	}
}

// copySome moves what one read gives, through the loop's buffer. It tells how
// much that was, and whether that was all there is.
func (l *loop) copySome(c *conn, i int) (n int, drained bool) {
	s, d := &c.sides[i], &c.sides[1-i]
	n, errno := sysRead(s.fd, l.buf)
	switch {
	case errno == syscall.EAGAIN:
		return 0, true
	case errno != 0:
		l.end(c, EndReset)
		return 0, true
	case n == 0:
		l.endOf(c, i)
		return 0, true
	}
	w, errno := sysSend(d.fd, l.buf[:n])
	switch {
	case errno == syscall.EAGAIN:
		w = 0
	case errno != 0:
		l.lastWords(c, 1-i)
		return 0, true
	}
	d.sent += int64(w)
	if w < n {
		d.queue = l.getQueue(l.buf[w:n])
		l.block(c, 1-i)
	}
	if n >= bulkRead && l.pipes.usable() && !s.is(urgent) {
		s.set(bulky)
	}
	return n, n < len(l.buf) && !s.is(hungUp|urgent)
}

// spliceSome moves what one splice gives, through a pipe in the kernel.
func (l *loop) spliceSome(c *conn, i int) (n int, drained bool) {
	s, d := &c.sides[i], &c.sides[1-i]
	p := l.pipes.get()
	if p == nil {
		s.clear(bulky)
		return 0, false
	}
	n, errno := sysSplice(s.fd, p.in, p.size)
	if errno != 0 || n == 0 {
		l.pipes.put(p) // it is empty
	}
	switch {
	case errno == syscall.EAGAIN:
		return 0, true
	case errno == syscall.EINVAL:
		s.clear(bulky) // not here
		l.pipes.useless()
		return 0, false
	case errno != 0:
		l.end(c, EndReset)
		return 0, true
	case n == 0:
		l.endOf(c, i)
		return 0, true
	}
	if n < stopSplice {
		s.clear(bulky)
	}
	d.pipe, d.piped = p, int32(n)
	l.flush(c, 1-i)
	return n, false
}

// flush writes what waits for side i. It may end the connection.
func (l *loop) flush(c *conn, i int) {
	s := &c.sides[i]
	for s.piped > 0 {
		n, errno := sysSplice(s.pipe.out, s.fd, int(s.piped))
		if !l.wrote(c, i, n, errno) {
			return
		}
		s.piped -= int32(n)
	}
	if s.pipe != nil {
		l.pipes.put(s.pipe)
		s.pipe = nil
	}
	for s.queue != nil {
		n, errno := sysSend(s.fd, s.queue.rest())
		if !l.wrote(c, i, n, errno) {
			return
		}
		if s.queue.from += n; len(s.queue.rest()) == 0 {
			l.putQueue(s.queue)
			s.queue = nil
		}
	}
	if c.sides[1-i].is(ended) && !s.is(closing) {
		l.closeWrite(c, i)
	}
}

// wrote accounts for a write to side i. It answers false where no more can be
// written now.
func (l *loop) wrote(c *conn, i, n int, errno syscall.Errno) bool {
	switch {
	case errno == syscall.EAGAIN:
		l.block(c, i)
		return false
	case errno != 0:
		l.lastWords(c, i)
		return false
	}
	c.sides[i].sent += int64(n)
	c.active = l.tick
	return true
}

// lastWords ends a connection whose side i is found gone by what it was sent.
// It may have said something before it went that was not read yet, such as why
// it takes no more: a server that refuses a large request answers, and closes
// with the rest unread.
func (l *loop) lastWords(c *conn, i int) {
	s, d := &c.sides[i], &c.sides[1-i]
	// No more comes from who is gone, so this has an end.
	for !s.is(ended) && !d.owes() {
		n, errno := sysRead(s.fd, l.buf)
		if errno != 0 || n == 0 {
			break
		}
		w, errno := sysSend(d.fd, l.buf[:n])
		if errno != 0 {
			break
		}
		if d.sent += int64(w); w < n {
			break
		}
	}
	l.end(c, EndReset)
}

// block notes that side i takes no more until an event says so.
func (l *loop) block(c *conn, i int) {
	c.sides[i].set(blocked)
	l.poll(c, i, true)
}

// endOf is called when the stream of side i has ended.
func (l *loop) endOf(c *conn, i int) {
	s, d := &c.sides[i], &c.sides[1-i]
	s.set(ended)
	if !d.owes() {
		l.closeWrite(c, 1-i)
	}
}

// closeWrite passes the end of a stream on to side i; when both have ended,
// the connection has.
func (l *loop) closeWrite(c *conn, i int) {
	s, other := &c.sides[i], &c.sides[1-i]
	s.set(closing)
	if s.is(ended) && other.is(closing) {
		// Neither side owes anything: that one may be gone altogether is no
		// failure.
		l.end(c, EndFinished)
		return
	}
	if sysShutdown(s.fd) != 0 {
		l.lastWords(c, i)
	}
}

// pumpReady gives those their next turn who had more to move than one.
func (l *loop) pumpReady() {
	if len(l.ready) == 0 {
		return
	}
	now := l.ready
	l.ready = nil
	for _, r := range now {
		if r.live() {
			r.c.sides[r.side].clear(queued)
			l.pump(r.c, int(r.side))
		}
	}
	if l.ready == nil {
		l.ready = now[:0]
	}
}

// makePatient has the kernel wake the loop for much only.
func (l *loop) makePatient(c *conn, i int) {
	s := &c.sides[i]
	s.set(patient)
	s.seen = c.sides[1-i].sent
	sysSet(s.fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, lowWater)
	l.bulk = append(l.bulk, c.ref(i))
}

// sweepBulk looks at the flows that wake the loop for much only. One that has
// become slow, or has only a tail left, wakes it for anything again.
func (l *loop) sweepBulk() {
	if len(l.bulk) == 0 || l.now-l.swept < sweepEvery {
		return
	}
	l.swept = l.now
	all := l.bulk
	l.bulk, l.bulk2 = l.bulk2[:0], all // a pump may add to it
	for _, r := range all {
		if !r.live() {
			continue
		}
		s, d := &r.c.sides[r.side], &r.c.sides[1-r.side]
		if d.sent-s.seen >= lowWater {
			s.seen = d.sent
			l.bulk = append(l.bulk, r)
			continue
		}
		s.clear(patient)
		sysSet(s.fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1)
		l.pump(r.c, int(r.side))
	}
}
