package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

// Deadlines are kept in one flat array of ticks, which is looked through at
// every tick: 20,000 connections are 80 KB, read in a few microseconds. To set
// a deadline is one store, which a wheel or a heap cannot be.

// after has a connection looked at when so much time has passed, or up to two
// ticks later.
func (l *loop) after(c *conn, d time.Duration) {
	l.lookAt(c, l.tick+l.ticks(d))
}

func (l *loop) lookAt(c *conn, tick uint32) {
	l.table.due[c.index] = max(tick, 1) // 0 is never
}

// ticks is a duration in ticks, rounded up, and one more for the tick that has
// begun.
func (l *loop) ticks(d time.Duration) uint32 {
	tick := l.engine.tick
	return uint32((d+tick-1)/tick) + 1
}

// startTicking has the timer wake the loop at every tick, while it has
// connections.
func (l *loop) startTicking() {
	l.ticking = true
	l.setTimer(l.engine.tick)
}

func (l *loop) setTimer(every time.Duration) {
	at := unix.NsecToTimespec(int64(every))
	_ = unix.TimerfdSettime(int(l.timer), 0, &unix.ItimerSpec{Interval: at, Value: at}, nil) // fails for wrong arguments only
}

// checkDeadlines looks at the connections that are due.
func (l *loop) checkDeadlines() {
	for i, due := range l.table.due {
		if due != 0 && int32(due-l.tick) <= 0 {
			l.table.due[i] = 0
			l.expire(l.table.at(uint32(i)))
		}
	}
	l.pipes.trim()
	l.keepSpare()
	l.resumeAccepting(false)
	if l.table.used == 0 && !l.paused && l.ticking {
		l.ticking = false
		l.setTimer(0)
	}
}

// expire deals with a connection whose time has come.
func (l *loop) expire(c *conn) {
	switch c.state {
	case peeking:
		l.expireHello(c)
	case dialing:
		if c.sides[backend].fd < 0 {
			l.dialNext(c) // for want of a descriptor it was not
		} else {
			l.dialFailed(c, errDialTimeout)
		}
	case lingering:
		l.discard(c, false)
	case relaying:
		l.checkIdle(c)
	case unused:
	}
}

// checkIdle cuts an open connection on which nothing has moved, or looks again
// when that can be so at the earliest. It also turns keepalive on towards the
// backend, which connections that do not live long do without.
func (l *loop) checkIdle(c *conn) {
	limit := l.ticks(l.engine.config.IdleTimeout)
	idle := l.tick - c.active
	if idle >= limit {
		l.end(c, EndIdle)
		return
	}
	if !c.kept {
		c.kept = true
		setKeepAlive(c.sides[backend].fd, int32(max(l.engine.config.KeepAlive/time.Second, 1)))
	}
	l.lookAt(c, c.active+limit)
}

// firstLook is when an open connection is looked at for the first time.
func (l *loop) firstLook() time.Duration {
	return min(l.engine.config.IdleTimeout, l.engine.config.KeepAlive/16)
}
