package relay

import (
	"syscall"
	"time"
)

// unheard is a connection whose hello is not complete: what it has sent, and
// its place among those who are slow. Most never need one.
type unheard struct {
	peek
	bytes      []byte
	conn       *conn
	next, prev *unheard
}

// unheards lists them, oldest first.
type unheards struct {
	first, last *unheard
	size        int // the memory of what they have sent
}

func (u *unheards) add(w *unheard) {
	if w.prev = u.last; u.last != nil {
		u.last.next = w
	} else {
		u.first = w
	}
	u.last = w
}

func (u *unheards) remove(w *unheard) {
	u.size -= cap(w.bytes)
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		u.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		u.last = w.prev
	}
}

// listenTo reads until the arrival can be judged; n bytes are in the loop's
// buffer already.
func (l *loop) listenTo(c *conn, p *peek, n int, step progress, v Verdict) {
	for {
		switch step {
		case header:
			if !l.claim(c, p) {
				return
			}
			step, v = p.take(l.buf[:n])
		case more:
			got, errno := sysRead(c.sides[client].fd, l.buf[n:])
			switch {
			case errno == syscall.EAGAIN:
				l.awaitMore(c, p, n)
				return
			case errno != 0:
				l.discard(c, false) // the client went away
				return
			case got == 0:
				step, v = p.ended(n)
			default:
				n += got
				step, v = p.take(l.buf[:n])
			}
		case complete:
			l.judge(c, p, l.buf[p.start:n])
			return
		case nothing:
			c.served.observer.Probed(&p.arrival)
			l.discard(c, false)
			return
		case refused:
			l.refuse(c, &p.arrival, v)
			return
		}
	}
}

// claim counts a connection in its client's share, or refuses it.
func (l *loop) claim(c *conn, p *peek) bool {
	switch l.engine.limits.claim(&c.place, payerOf(c.served.Listener, &p.arrival)) {
	case overload:
		l.refuse(c, &p.arrival, overloaded())
	case flooded:
		l.refuseAtOnce(c.served.observer, &p.arrival, overloaded(), c.sides[client].fd)
		l.discard(c, false)
	case admitted:
		return true
	}
	return false
}

// awaitMore keeps what was read until more comes. When much is kept already, the
// oldest of those who are slow go, of whom this may be one.
func (l *loop) awaitMore(c *conn, p *peek, n int) {
	if c.hello == nil {
		w := &unheard{peek: *p, conn: c}
		c.hello = w
		l.slow.add(w)
		l.after(c, l.engine.config.HelloTimeout)
		l.poll(c, client, false)
	}
	w := c.hello
	l.slow.size -= cap(w.bytes)
	w.bytes = append(w.bytes, l.buf[len(w.bytes):n]...)
	l.slow.size += cap(w.bytes)
	for l.slow.size > maxUnheard {
		l.giveUp(l.slow.first)
	}
}

func (l *loop) resumeHello(c *conn) {
	w := c.hello
	n := copy(l.buf, w.bytes)
	l.listenTo(c, &w.peek, n, more, Verdict{})
}

// heard forgets what was kept for reading the hello.
func (l *loop) heard(c *conn) {
	if c.hello != nil {
		l.slow.remove(c.hello)
		c.hello = nil
	}
}

// expireHello refuses a client that took too long.
func (l *loop) expireHello(c *conn) { l.refuse(c, &c.hello.arrival, late()) }

// evict gives the place of the slowest client to another: where there is no
// place left, whoever has not said in a twentieth of the time allowed what a
// client says at once is the first to go. It tells whether there was one.
func (l *loop) evict() bool {
	w := l.slow.first
	if w == nil || time.Since(w.arrival.At) < l.engine.config.HelloTimeout/20 {
		return false
	}
	l.giveUp(w)
	return true
}

// giveUp refuses a client whose hello is not complete, to have its place or its
// memory for others.
func (l *loop) giveUp(w *unheard) {
	c := w.conn
	l.refuseAtOnce(c.served.observer, &w.arrival, overloaded(), c.sides[client].fd)
	l.discard(c, false)
}

// refuse sends the alert and the end of the stream, and then reads what the
// client still sends for a while: closing with unread bytes would reset the
// connection, and a reset can overtake the alert.
func (l *loop) refuse(c *conn, a *Arrival, v Verdict) {
	if !l.engine.limits.linger(&c.place) {
		l.refuseAtOnce(c.served.observer, a, v, c.sides[client].fd)
		l.discard(c, false)
		return
	}
	c.served.observer.Refused(a, v)
	l.heard(c)
	c.state = lingering
	s := &c.sides[client]
	if _, errno := sysSend(s.fd, []byte(alert)); errno != 0 || sysShutdown(s.fd) != 0 {
		l.discard(c, false)
		return
	}
	l.after(c, l.engine.config.AlertLinger)
	l.poll(c, client, false)
	l.linger(c)
}

func (l *loop) linger(c *conn) {
	s := &c.sides[client]
	for s.seen < lingerBytes {
		n, errno := sysRead(s.fd, l.buf)
		if errno == syscall.EAGAIN {
			return
		}
		if errno != 0 || n == 0 {
			break
		}
		s.seen += int64(n)
	}
	l.discard(c, false)
}
