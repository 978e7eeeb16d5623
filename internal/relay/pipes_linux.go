package relay

import (
	"golang.org/x/sys/unix"
)

const (
	// pipeSize is asked of the kernel; an unprivileged user that has many pipes
	// gets smaller ones.
	pipeSize  = 1 << 20
	pipeSize2 = 256 << 10
	// minPipe is the size below which a pipe costs more than it saves.
	minPipe = 64 << 10
	// A loop lends so many pipes at one time, and keeps so many for the next.
	maxPipes      = 256
	maxSparePipes = 8
	maxSpareQueue = 16
)

// pipe is where bytes are on their way from one socket to another in the
// kernel. A direction borrows one for a moment, and keeps it only while the
// other side does not take the bytes.
type pipe struct {
	in, out int32
	size    int
}

// pipes is a loop's store of them.
type pipes struct {
	spare  []*pipe
	lent   int
	unfit  bool // splice does not work here
	scarce bool // the last try to make one failed, in this tick
	wanted int  // the most that were lent since the last trim
}

func (p *pipes) usable() bool { return !p.unfit && (!p.scarce || len(p.spare) > 0) }
func (p *pipes) useless()     { p.unfit = true }

// get lends an empty pipe; nil when there is none to be had.
func (p *pipes) get() *pipe {
	if n := len(p.spare); n > 0 {
		x := p.spare[n-1]
		p.spare = p.spare[:n-1]
		p.lend()
		return x
	}
	if p.lent >= maxPipes || p.unfit || p.scarce {
		return nil
	}
	x := makePipe()
	if x == nil {
		p.scarce = true // until the next tick: each of many reads would try in vain
		return nil
	}
	p.lend()
	return x
}

// makePipe makes a pipe of some size, if the user may have one more.
func makePipe() *pipe {
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	x := &pipe{in: int32(fds[1]), out: int32(fds[0])}
	for _, size := range []int{pipeSize, pipeSize2} {
		if _, err := unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, size); err == nil {
			break // or it stays as it was made
		}
	}
	x.size, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_GETPIPE_SZ, 0)
	if x.size < minPipe {
		x.close()
		return nil
	}
	return x
}

func (p *pipes) lend() {
	p.lent++
	p.wanted = max(p.wanted, p.lent)
}

// put takes an empty pipe back.
func (p *pipes) put(x *pipe) {
	p.lent--
	if len(p.spare) >= maxSparePipes {
		x.close()
		return
	}
	p.spare = append(p.spare, x)
}

// drop takes a pipe back that may hold bytes: nobody gets that one again.
func (p *pipes) drop(x *pipe) {
	p.lent--
	x.close()
}

// trim closes what was not used lately, at every tick.
func (p *pipes) trim() {
	p.scarce = false
	for n := len(p.spare); n > 0 && p.lent+n > p.wanted; n-- {
		p.spare[n-1].close()
		p.spare = p.spare[:n-1]
	}
	p.wanted = p.lent
}

func (p *pipes) close() {
	for _, x := range p.spare {
		x.close()
	}
	p.spare = nil
}

func (x *pipe) close() {
	sysClose(x.in)
	sysClose(x.out)
}

// queue holds bytes that a side did not take, in memory.
type queue struct {
	bytes []byte
	from  int
}

func (q *queue) rest() []byte { return q.bytes[q.from:] }

// getQueue keeps a copy of b.
func (l *loop) getQueue(b []byte) *queue {
	q := &queue{}
	if n := len(l.queues); n > 0 && len(b) > smallSize {
		q = l.queues[n-1]
		l.queues = l.queues[:n-1]
	}
	q.bytes, q.from = append(q.bytes[:0], b...), 0
	return q
}

func (l *loop) putQueue(q *queue) {
	if len(l.queues) < maxSpareQueue && cap(q.bytes) > smallSize {
		l.queues = append(l.queues, q)
	}
}
