package relay

import (
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptBatch bounds the connections that are accepted in one go.
const acceptBatch = 64

// accepting is a listener, as one loop accepts from it.
type accepting struct {
	*served
	pauses pauses
	paused bool
	until  time.Duration // the loop's now at which to go on
}

// arrived is a connection that was accepted and is nobody's yet.
type arrived struct {
	served      *served
	fd          int32
	peer, local netip.AddrPort
}

// listen has the loop accept from a listener. All loops do, and the kernel
// wakes one of them that waits.
func (l *loop) listen(s *served) {
	a := &accepting{served: s}
	for i, old := range l.accepts {
		if old == nil {
			l.accepts[i] = a
			l.pollListener(i)
			return
		}
	}
	l.accepts = append(l.accepts, a)
	l.pollListener(len(l.accepts) - 1)
}

func (l *loop) pollListener(i int) {
	a := l.accepts[i]
	if e := sysControl(l.epoll, unix.EPOLL_CTL_ADD, a.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, token{low: int32(tokenFirst - i)}); e != 0 {
		a.finish(e)
	}
}

func (l *loop) unlisten(s *served) {
	for i, a := range l.accepts {
		if a != nil && a.served == s {
			l.accepts[i] = nil
			_ = sysControl(l.epoll, unix.EPOLL_CTL_DEL, s.fd, 0, token{})
			s.inLoops.Done()
		}
	}
}

// accept takes the connections that wait at a listener.
func (l *loop) accept(i int) {
	if i >= len(l.accepts) || l.accepts[i] == nil || l.accepts[i].paused {
		return // an event from before
	}
	a := l.accepts[i]
	for range acceptBatch {
		fd, peer, errno := sysAccept(a.fd)
		switch {
		case errno == 0:
			a.pauses.over()
			l.assign(a.served, fd, peer)
		case errno == syscall.EAGAIN:
			return
		case exhausted(errno) && l.evict():
			// A place was made.
		case passing(errno):
			if exhausted(errno) && a.pauses.next == maxAcceptPause {
				l.turnAway(a)
			}
			l.pause(i, errno)
			return
		default:
			a.finish(errno)
			return
		}
	}
}

// assign gives a new connection to the loop that should have it.
func (l *loop) assign(s *served, fd int32, peer netip.AddrPort) {
	from := arrived{served: s, fd: fd, peer: peer, local: s.local}
	if !from.local.IsValid() {
		from.local = sysLocal(fd)
	}
	to := l.engine.lightest(l)
	to.load.Add(1)
	if to == l {
		l.admit(from)
	} else if !to.post(func() { to.admit(from) }) {
		sysClose(fd)
	}
}

// pause stops accepting for a while, without spinning on what waits there.
func (l *loop) pause(i int, why syscall.Errno) {
	a := l.accepts[i]
	a.paused, l.paused = true, true
	a.until = l.now + a.pauses.after(why, a.Listener, l.engine.config.Logger)
	_ = sysControl(l.epoll, unix.EPOLL_CTL_DEL, a.fd, 0, token{})
	if !l.ticking {
		l.startTicking()
	}
}

// resumeAccepting goes on where a pause is over, or everywhere because a
// descriptor has become free.
func (l *loop) resumeAccepting(freed bool) {
	l.paused = false
	for i, a := range l.accepts {
		switch {
		case a == nil || !a.paused:
		case l.now < a.until && !freed:
			l.paused = true
		default:
			a.paused = false
			l.pollListener(i)
		}
	}
}

// turnAway gives the spare descriptor up for a moment, to refuse one of the
// connections that wait. Where there has been no descriptor for a while, its
// client learns that nobody comes rather than nothing.
func (l *loop) turnAway(a *accepting) {
	if l.spare < 0 {
		return
	}
	sysClose(l.spare)
	l.spare = -1
	if fd, peer, errno := sysAccept(a.fd); errno == 0 {
		l.arrival = Arrival{Listener: a.Name, At: time.Now(), Peer: peer}
		l.refuseAtOnce(a.observer, &l.arrival, overloaded(), fd)
		sysClose(fd)
	}
	l.keepSpare()
}

// keepSpare has a spare descriptor, as soon as there is one to be had.
func (l *loop) keepSpare() {
	if l.spare >= 0 {
		return
	}
	if fd, err := dup(uintptr(l.wake)); err == nil {
		l.spare = fd
	}
}

// refuseAtOnce refuses without keeping the connection: one whose client has
// sent more than was read may see a reset instead of the alert.
func (l *loop) refuseAtOnce(o Observer, a *Arrival, v Verdict, fd int32) {
	o.Refused(a, v)
	_, _ = sysSend(fd, []byte(alert)) // it is closed next, whatever came of it
}

// admit begins a connection, or refuses it when there are too many.
func (l *loop) admit(from arrived) {
	if l.engine.stopping.Load() {
		sysClose(from.fd)
		l.load.Add(-1)
		return
	}
	s := from.served
	p := &l.peek
	*p = peek{arrival: Arrival{Listener: s.Name, At: time.Now(), Peer: from.peer, Local: from.local}}
	step, v := p.begin(s.Listener)
	stranger := step == refused
	var at place
	result := l.engine.limits.enter(&at, stranger)
	if result == overload && !stranger && l.evict() {
		l.engine.limits.leave(&at)
		result = l.engine.limits.enter(&at, false)
	}
	if result != admitted && !stranger {
		step, v = refused, overloaded()
	}
	if result == flooded {
		l.refuseAtOnce(s.observer, &p.arrival, v, from.fd)
		sysClose(from.fd)
		l.load.Add(-1)
		return
	}
	c := l.begin(s, from.fd, p.arrival.At)
	c.place = at
	l.listenTo(c, p, 0, step, v)
}
