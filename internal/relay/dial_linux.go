package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-net/postern"
)

// attempt is what a connection needs until a backend has taken it.
type attempt struct {
	arrival    Arrival
	verdict    Verdict
	generation uint64 // of the rules that it was judged by
	first      []byte // the prologue and the hello
	hello      int    // bytes of it that are the client's
	sent       int    // bytes of it that the backend has taken
	next       int    // which backend comes next
	failures   []error
	starved    time.Duration // the loop's now since when there is no descriptor; 0: there was one
}

var (
	errDialTimeout = errors.New("no answer within the time for dialing")
	errNoBackend   = errors.New("the host has no backend")
	errUnseen      = errors.New("the system tells no events of it")
)

// maxSpareAttempts bounds the memory that is kept for the next connections.
const maxSpareAttempts = 64

func (l *loop) getAttempt() *attempt {
	n := len(l.attempts)
	if n == 0 {
		return &attempt{}
	}
	a := l.attempts[n-1]
	l.attempts = l.attempts[:n-1]
	return a
}

func (l *loop) putAttempt(a *attempt) {
	if len(l.attempts) >= maxSpareAttempts || cap(a.first) > 2*smallSize {
		return
	}
	*a = attempt{first: a.first[:0]}
	l.attempts = append(l.attempts, a)
}

// judge has the arrival judged, and admits or refuses it.
func (l *loop) judge(c *conn, p *peek, hello []byte) {
	a := l.getAttempt()
	a.arrival, a.generation = p.arrival, l.engine.generation.Load()
	a.arrival.HelloBytes = hello
	a.verdict = c.served.match(&a.arrival)
	if a.verdict.Deny != "" {
		l.refuse(c, &a.arrival, a.verdict)
		l.putAttempt(a)
		return
	}
	a.first = append(append(a.first[:0], a.verdict.Prologue...), hello...)
	a.hello = len(hello)
	a.arrival.HelloBytes = a.first[len(a.verdict.Prologue):]
	l.heard(c)
	c.dial, c.state = a, dialing
	l.dialNext(c)
}

// dialNext connects the first backend that is left and takes a connection.
func (l *loop) dialNext(c *conn) {
	a, s := c.dial, &c.sides[backend]
	for a.next < len(a.verdict.Backends) {
		to := a.verdict.Backends[a.next]
		if l.overtaken(c, to) {
			return
		}
		a.next++
		fd, errno := sysDial(l.engine.config.Source, to)
		if exhausted(errno) && l.evict() {
			fd, errno = sysDial(l.engine.config.Source, to)
		}
		if exhausted(errno) && l.awaitDescriptor(c, errno) {
			return
		}
		if errno != 0 {
			a.fail(to, os.NewSyscallError("connect", errno))
			continue
		}
		*s = side{fd: fd}
		a.sent = 0
		l.after(c, l.engine.config.DialTimeout)
		l.sendFirst(c)
		return
	}
	err := errNoBackend
	if len(a.failures) > 0 {
		err = errors.Join(a.failures...)
	}
	a.verdict.Deny, a.verdict.Cause = postern.DenyBackendDown, err
	c.dial = nil
	l.refuse(c, &a.arrival, a.verdict)
	l.putAttempt(a)
}

// overtaken judges the arrival again if the rules have changed since it was
// judged, so that a backend gets no byte by rules out of force. It goes on by
// those of now, and tells so, unless they lead to the same backend.
func (l *loop) overtaken(c *conn, to netip.AddrPort) bool {
	a, s := c.dial, &c.sides[backend]
	generation := l.engine.generation.Load()
	if generation == a.generation {
		return false
	}
	a.generation = generation
	now := c.served.match(&a.arrival)
	if a.verdict.stands(&now, to) {
		return false
	}
	if s.fd >= 0 {
		sysReset(s.fd)
		*s = side{fd: -1}
	}
	if now.Deny != "" {
		c.dial = nil
		l.refuse(c, &a.arrival, now)
		l.putAttempt(a)
		return true
	}
	a.first = slices.Concat(now.Prologue, a.arrival.HelloBytes)
	a.arrival.HelloBytes = a.first[len(now.Prologue):]
	a.verdict, a.next, a.failures = now, 0, nil
	l.dialNext(c)
	return true
}

// awaitDescriptor has the same backend tried again at the next tick, for as
// long as dialing may take, and takes nobody in meanwhile. It answers false
// when that time is over.
func (l *loop) awaitDescriptor(c *conn, why syscall.Errno) bool {
	a := c.dial
	if a.starved == 0 {
		a.starved = l.now
	}
	if l.now-a.starved >= l.engine.config.DialTimeout {
		return false
	}
	a.next--
	l.lookAt(c, l.tick+1)
	for i, x := range l.accepts {
		if x != nil && !x.paused {
			l.pause(i, why)
		}
	}
	return true
}

func (a *attempt) fail(to netip.AddrPort, err error) {
	if a.verdict.Failed != nil {
		a.verdict.Failed(to)
	}
	a.failures = append(a.failures, fmt.Errorf("backend %v: %w", to, err))
}

// dialFailed goes over to the next backend.
func (l *loop) dialFailed(c *conn, err error) {
	a, s := c.dial, &c.sides[backend]
	sysReset(s.fd)
	*s = side{fd: -1}
	a.fail(a.backend(), err)
	l.dialNext(c)
}

// backend is the one that is being dialed.
func (a *attempt) backend() netip.AddrPort { return a.verdict.Backends[a.next-1] }

func (l *loop) dialEvent(c *conn, what uint32) {
	if what&unix.EPOLLERR != 0 {
		errno := sysFault(c.sides[backend].fd)
		if errno == 0 {
			errno = syscall.ECONNRESET
		}
		l.dialFailed(c, os.NewSyscallError("connect", errno))
		return
	}
	if what&(unix.EPOLLIN|unix.EPOLLPRI) != 0 {
		c.sides[backend].set(readable)
	}
	l.sendFirst(c)
}

// sendFirst sends the prologue and the hello. While the backend has not
// answered yet, the kernel says that it takes nothing for now.
func (l *loop) sendFirst(c *conn) {
	a, s := c.dial, &c.sides[backend]
	if a.sent == 0 && l.overtaken(c, a.backend()) {
		return
	}
	for a.sent < len(a.first) {
		n, errno := sysSend(s.fd, a.first[a.sent:])
		switch errno {
		case 0:
			a.sent += n
		case syscall.EAGAIN, syscall.ENOTCONN:
			l.poll(c, backend, true)
			return
		default:
			l.dialFailed(c, os.NewSyscallError("send", errno))
			return
		}
	}
	l.opened(c)
}
