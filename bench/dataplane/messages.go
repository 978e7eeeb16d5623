//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const pacedRate = 4000 // requests per second, of all connections together

// talker is a thread's connections for small messages.
type talker struct {
	*poller
	fds  []int
	at   map[int32]int // descriptor to number
	sent []time.Time   // zero: nothing is on its way
	left []int         // bytes of the answer that are missing
	took []time.Duration
	buf  [4096]byte
}

func (c *client) talker(thread, threads int) (*talker, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	t := &talker{poller: p, at: map[int32]int{}}
	for i := thread; i < c.conns; i += threads {
		conn, err := c.dial(i)
		if err != nil {
			return nil, err
		}
		if err := roundTrip(conn); err != nil {
			return nil, err
		}
		f, err := conn.File()
		if err != nil {
			return nil, err
		}
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			return nil, os.NewSyscallError("dup", err)
		}
		_ = f.Close()
		_ = conn.Close()
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, os.NewSyscallError("fcntl", err)
		}
		t.at[int32(fd)] = len(t.fds) //nolint:gosec // descriptors are small
		t.fds, t.sent, t.left = append(t.fds, fd), append(t.sent, time.Time{}), append(t.left, 0)
		if err := t.add(fd, unix.EPOLLIN); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *talker) close() {
	for _, fd := range t.fds {
		_ = unix.Close(fd)
	}
	_ = unix.Close(t.poller.fd)
}

func (t *talker) send(i int, at time.Time) error {
	t.sent[i], t.left[i] = at, messageSize
	_, err := unix.SendmsgN(t.fds[i], t.buf[:messageSize], nil, nil, unix.MSG_NOSIGNAL)
	return os.NewSyscallError("send", err)
}

// take reads an answer; it tells whether it is complete.
func (t *talker) take(fd int32) (number int, done bool, err error) {
	i := t.at[fd]
	n, err := unix.Read(int(fd), t.buf[:])
	if err != nil || n == 0 {
		return i, false, fmt.Errorf("cut off: %w", err)
	}
	if t.left[i] -= n; t.left[i] > 0 {
		return i, false, nil
	}
	t.took = append(t.took, time.Since(t.sent[i]))
	t.sent[i] = time.Time{}
	return i, true, nil
}

// messages has each connection ask again as soon as it is answered.
func (c *client) messages() (result, error) {
	threads := runtime.NumCPU()
	talkers, errs := make([]*talker, threads), make([]error, threads)
	for i := range talkers {
		t, err := c.talker(i, threads)
		if err != nil {
			return result{}, err
		}
		defer t.close()
		talkers[i] = t
	}
	deadline := time.Now().Add(c.length)
	var work sync.WaitGroup
	for i, t := range talkers {
		work.Go(func() {
			runtime.LockOSThread()
			errs[i] = t.talk(deadline)
		})
	}
	work.Wait()
	var all []time.Duration
	for _, t := range talkers {
		all = append(all, t.took...)
	}
	r := result{Took: c.length}
	r.latencies(all)
	return r, errors.Join(errs...)
}

func (t *talker) talk(deadline time.Time) error {
	for i := range t.fds {
		if err := t.send(i, time.Now()); err != nil {
			return err
		}
	}
	for time.Now().Before(deadline) {
		events := t.wait(1000)
		if len(events) == 0 {
			return errors.New("nothing for a second")
		}
		for _, ev := range events {
			i, done, err := t.take(ev.Fd)
			if err != nil {
				return err
			}
			if done {
				if err := t.send(i, time.Now()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// paced asks at a fixed rate, whatever the answers do; how long one takes is
// counted from when it was due.
func (c *client) paced() (result, error) {
	t, err := c.talker(0, 1)
	if err != nil {
		return result{}, err
	}
	defer t.close()
	runtime.LockOSThread()
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return result{}, os.NewSyscallError("timerfd_create", err)
	}
	defer unix.Close(timer) //nolint:errcheck // at the end
	gap := time.Second / pacedRate
	every := unix.NsecToTimespec(int64(gap))
	if err := unix.TimerfdSettime(timer, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return result{}, os.NewSyscallError("timerfd_settime", err)
	}
	if err := t.add(timer, unix.EPOLLIN); err != nil {
		return result{}, err
	}
	start := time.Now()
	next, number := start, 0
	for time.Since(start) < c.length {
		for _, ev := range t.wait(1000) {
			if int(ev.Fd) == timer {
				_, _ = unix.Read(timer, t.buf[:8])
				for ; !next.After(time.Now()); next = next.Add(gap) {
					i := number % len(t.fds)
					if !t.sent[i].IsZero() {
						break // all are on their way: it is late, and its time runs
					}
					if err := t.send(i, next); err != nil {
						return result{}, err
					}
					number++
				}
			} else if _, _, err := t.take(ev.Fd); err != nil {
				return result{}, err
			}
		}
	}
	r := result{Took: c.length}
	r.latencies(t.took)
	return r, nil
}
