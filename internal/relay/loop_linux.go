package relay

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loop is one event loop: a goroutine that waits for events of its
// connections and does all that they need.
type loop struct {
	engine *loops
	number int
	epoll  int32
	waiter syscall.RawConn // the epoll set, in Go's poller
	file   *os.File        // owns epoll
	wake   int32           // eventfd: the inbox is not empty
	timer  int32           // timerfd: a tick has passed
	spare  int32           // a descriptor to give up when there is none left

	load atomic.Int32 // connections that it has, or is about to get

	mu    sync.Mutex
	inbox []func()
	over  bool // takes nothing any more

	// The rest is the loop's own.
	events   []unix.EpollEvent
	buf      []byte // what is read, by one connection at a time
	peek     peek   // for connections that are read in one go
	arrival  Arrival
	table    table
	slow     unheards // connections whose hello is not complete, oldest first
	ready    []ref    // sides that have more to read than one turn allows
	bulk     []ref    // sides with SO_RCVLOWAT raised
	bulk2    []ref    // the list before, for its memory
	lost     []ref    // connections of which no event would be told
	swept    time.Duration
	pipes    pipes
	queues   []*queue
	attempts []*attempt
	accepts  []*accepting
	judging  []judging
	now      time.Duration // since the engine's start, when the events were fetched
	tick     uint32        // the same in ticks
	checked  uint32        // the tick at which deadlines were looked at last
	ticking  bool
	paused   bool // a listener waits for descriptors
	stopped  bool
	churned  bool // a connection has come or gone since the last wait
}

const (
	eventBatch = 256
	readBuffer = largeSize
	// sweepEvery is how often flows are looked at that wake the loop for much
	// only, so that the end of a burst waits no longer than this.
	sweepEvery = time.Millisecond
	// steadyWait is how long a loop waits in the kernel, in milliseconds, before
	// it takes itself for idle.
	steadyWait = 5
)

func newLoop(e *loops, number int) (*loop, error) {
	l := &loop{
		engine: e, number: number, epoll: -1, wake: -1, timer: -1, spare: -1,
		events: make([]unix.EpollEvent, eventBatch), buf: make([]byte, readBuffer),
	}
	if err := l.open(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *loop) open() error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	l.epoll = int32(epoll)
	// Not blocking, so that Go's poller takes it.
	if err := unix.SetNonblock(epoll, true); err != nil {
		return fmt.Errorf("fcntl: %w", err)
	}
	l.file = os.NewFile(uintptr(epoll), "epoll")
	if l.waiter, err = l.file.SyscallConn(); err != nil {
		return err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	l.wake = int32(wake)
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("timerfd_create: %w", err)
	}
	l.timer = int32(timer)
	if l.spare, err = dup(uintptr(wake)); err != nil {
		return fmt.Errorf("dup: %w", err)
	}
	for fd, low := range map[int32]int32{l.wake: tokenWake, l.timer: tokenTimer} {
		if e := sysControl(l.epoll, unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN, token{low: low}); e != 0 {
			return fmt.Errorf("epoll_ctl: %w", e)
		}
	}
	return nil
}

func (l *loop) close() {
	l.pipes.close()
	for _, fd := range []int32{l.wake, l.timer, l.spare} {
		if fd >= 0 {
			sysClose(fd)
		}
	}
	switch {
	case l.file != nil:
		_ = l.file.Close() // nothing is lost by it
	case l.epoll >= 0:
		sysClose(l.epoll)
	}
}

// post has the loop do something, in the order of the calls. It answers false
// when the loop has ended.
func (l *loop) post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.inbox = append(l.inbox, f)
	if len(l.inbox) == 1 {
		// It cannot fail: the counter is far from its end.
		_, _ = unix.Write(int(l.wake), []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	return true
}

// run is the life of the loop.
func (l *loop) run() {
	defer l.close()
	for !l.stopped {
		n := l.wait()
		l.churned = false
		l.setNow()
		for i := range n {
			l.dispatch(&l.events[i])
		}
		l.pumpReady()
		l.sweepBulk()
		l.judgeSome()
		if l.tick != l.checked {
			l.checked = l.tick
			l.checkDeadlines()
		}
		l.endLost()
	}
}

func (l *loop) setNow() {
	l.now = time.Since(l.engine.start)
	l.tick = uint32(l.now/l.engine.tick) + 1
}

// wait fetches the next events. A loop with work of its own does not wait. One
// that moves bulk waits in the kernel, for the next sweep at most. One whose
// connections come and go waits in Go's poller, which takes neither a thread nor
// a processor and wakes up one thread for several loops; so does one that is
// idle. One that moves bytes of connections that stay waits in the kernel first,
// which wakes it sooner. (Measured: with the poller a connection costs a tenth
// less, with the kernel the slowest small messages take half as long. To yield
// the processor before waiting saves more, and lets some wait for 20 ms.)
func (l *loop) wait() int {
	if n := sysPoll(l.epoll, l.events); n > 0 || len(l.ready) > 0 || len(l.judging) > 0 {
		return n
	}
	if len(l.bulk) > 0 {
		return sysWait(l.epoll, l.events, int(sweepEvery/time.Millisecond))
	}
	if !l.churned {
		if n := sysWait(l.epoll, l.events, steadyWait); n > 0 {
			return n
		}
	}
	n := 0
	err := l.waiter.Read(func(uintptr) bool {
		n = sysPoll(l.epoll, l.events)
		return n > 0
	})
	if err != nil && !errors.Is(err, os.ErrClosed) {
		n = sysWait(l.epoll, l.events, 100)
	}
	return n
}

func (l *loop) dispatch(ev *unix.EpollEvent) {
	switch {
	case ev.Fd == tokenWake:
		l.readInbox()
	case ev.Fd == tokenTimer:
		var count [8]byte
		_, _ = sysRead(l.timer, count[:])
	case ev.Fd <= tokenFirst:
		l.accept(int(tokenFirst - ev.Fd))
	default:
		c := l.table.at(uint32(ev.Fd) >> 1)
		if c.state != unused && int32(c.gen) == ev.Pad {
			l.event(c, int(ev.Fd&1), ev.Events)
		}
	}
}

func (l *loop) readInbox() {
	var count [8]byte
	_, _ = sysRead(l.wake, count[:])
	l.mu.Lock()
	all := l.inbox
	l.inbox = nil
	l.mu.Unlock()
	for _, f := range all {
		f()
	}
}

// event is told what has become possible on one side of a connection.
func (l *loop) event(c *conn, i int, what uint32) {
	s := &c.sides[i]
	if what&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.set(hungUp)
	}
	if what&unix.EPOLLPRI != 0 && !s.is(urgent) {
		// In its place among the others, not left out: to us it is a byte like
		// any other. Towards backends this is soon enough, and spares each
		// connection a call.
		sysSet(s.fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
		s.set(urgent)
		s.clear(bulky)
	}
	switch c.state {
	case peeking:
		l.resumeHello(c)
	case lingering:
		l.linger(c)
	case dialing:
		if i == backend {
			l.dialEvent(c, what)
		} else {
			s.set(readable) // for later
		}
	case relaying:
		l.relayEvent(c, i, what)
	case unused:
	}
}

// stop cuts what is left and ends the loop.
func (l *loop) stop() {
	if l.stopped {
		return
	}
	l.stopped = true
	for i := range l.table.due {
		switch c := l.table.at(uint32(i)); c.state {
		case unused:
		case relaying:
			l.end(c, EndShutdown)
		case peeking, dialing, lingering:
			l.discard(c, true)
		}
	}
	l.mu.Lock()
	l.over = true
	rest := l.inbox
	l.inbox = nil
	l.mu.Unlock()
	for _, f := range rest {
		f()
	}
	for _, j := range l.judging {
		j.done()
	}
	l.judging = nil
}
