package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// bulkRead is the size of a read from which on splice(2) pays.
	bulkRead = 16 << 10
	// spliceUnit bounds one call, so that activity is seen in between.
	spliceUnit = 4 << 20
	// spliceSlice is how long a direction stays with splice before its rate
	// is looked at; a pipe that carries less than spliceKeep per slice costs
	// more than it saves.
	spliceSlice = time.Second
	spliceKeep  = 256 << 10
)

// relay carries bytes both ways until both sides are done or something ends
// it. The hello has been sent already: up is its size.
func (s *session) relay(up int64) Stats {
	stats := Stats{Up: up}
	if err := s.client.SetDeadline(time.Time{}); err != nil {
		s.cut(EndReset)
	}
	idle := s.watchIdle()
	var w ways
	var both sync.WaitGroup
	both.Go(func() { stats.Up += s.pump(s.backend, s.client, &w) })
	stats.Down = s.pump(s.client, s.backend, &w)
	both.Wait()
	idle.Stop()
	if w.broken.Load() {
		s.cut(EndReset)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.client.Close() // both may be closed already
	_ = s.backend.Close()
	if s.end == "" {
		s.end = EndFinished
	}
	stats.End = s.end
	return stats
}

// ways counts the directions of a connection that are at their end.
type ways struct {
	ending atomic.Int32 // whose end is being passed on, or has been
	ended  atomic.Int32
	broken atomic.Bool // a side is gone, and the other hears what it said last
}

// lastWords bounds how long a side may take to hear what the other has said
// before it went.
const lastWords = time.Second

// watchIdle cuts the session when nothing has moved for the idle timeout. The
// caller stops the timer.
func (s *session) watchIdle() *time.Timer {
	limit := s.engine.config.IdleTimeout
	var timer *time.Timer
	var mu sync.Mutex // the timer may fire before it is assigned
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(limit, func() {
		mu.Lock()
		defer mu.Unlock()
		left := limit - time.Duration(s.engine.now()-s.active.Load())
		if left > 0 {
			timer.Reset(left)
			return
		}
		s.cut(EndIdle)
	})
	return timer
}

// pump carries one direction, passes its end on, and then stays to pass a
// reset on too, until the other direction has ended.
func (s *session) pump(dst, src *net.TCPConn, ways *ways) int64 {
	n, err := s.copy(dst, src)
	if err != nil && gone(dst) {
		s.partFrom(src, ways, 0)
		return n
	}
	// In this order: what the other direction ends may be gone for that.
	if err != nil || gone(src) && ways.ending.Load() == 0 {
		s.cut(EndReset)
		return n
	}
	ways.ending.Add(1)
	if ways.broken.Load() {
		s.cut(EndReset)
		return n
	}
	err = dst.CloseWrite()
	if ways.ended.Add(1) == 2 {
		// The other direction has ended before: dst owes nothing, and that it
		// may be gone altogether is no failure. Closing wakes the other pump.
		_ = dst.Close()
		_ = src.Close()
		return n
	}
	if err != nil {
		s.partFrom(src, ways, 1)
	} else if awaitReset(src) {
		s.cut(EndReset)
	}
	return n
}

// partFrom ends a direction whose receiver is found gone by what it was sent.
// That one may have said something before it went, such as why it takes no
// more: a server that refuses a large request answers, and closes with the rest
// unread. The other direction passes it on to listener, and then the session
// ends. Of those that count as ending, mine are this direction.
func (s *session) partFrom(listener *net.TCPConn, ways *ways, mine int32) {
	ways.broken.Store(true)
	// The other direction sees broken when it is at its end, or was there before.
	if ways.ending.Load() > mine || listener.SetWriteDeadline(time.Now().Add(lastWords)) != nil {
		s.cut(EndReset)
	}
}

// copy carries bytes until src ends (nil) or a side fails.
func (s *session) copy(dst, src *net.TCPConn) (int64, error) {
	r, err := newReader(src)
	if err != nil {
		return 0, err
	}
	var total int64
	for {
		b, n, err := r.read()
		if n > 0 {
			s.active.Store(s.engine.now())
			var w int
			w, err = dst.Write(b.bytes[:n])
			total += int64(w)
			s.active.Store(s.engine.now())
		}
		b.free()
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		case n < bulkRead:
			continue
		}
		n64, ended, err := s.splice(dst, src)
		total += n64
		if ended || err != nil {
			return total, err
		}
	}
}

// splice carries bytes through the kernel while many come. It returns when
// few do, when src has ended, or when a side failed.
func (s *session) splice(dst, src *net.TCPConn) (total int64, ended bool, err error) {
	for {
		// The deadline is a tap on the shoulder, to see whether bytes still
		// move; no byte is lost by it, for it strikes while waiting for src
		// only. The idle timeout is the timer's business.
		if err := src.SetReadDeadline(time.Now().Add(spliceSlice)); err != nil {
			return total, false, fmt.Errorf("set deadline: %w", err)
		}
		unit := io.LimitedReader{R: src, N: spliceUnit}
		n, err := dst.ReadFrom(&unit)
		total += n
		if n > 0 {
			s.active.Store(s.engine.now())
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if n >= spliceKeep {
				continue
			}
			return total, false, src.SetReadDeadline(time.Time{})
		case err != nil:
			return total, false, err
		case n < spliceUnit:
			return total, true, nil
		}
	}
}
