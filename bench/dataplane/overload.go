//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	slowClients = 10_000
	// fewFDs is the proxy's limit of descriptors, too few for the slow clients.
	fewFDs      = 6000
	goodClients = 16
	// goodEnough is the part of the good clients' requests that must succeed.
	goodEnough = .95
	// maxGrowth bounds the proxy's memory under the flood, in KB: 10,000 hellos
	// in pieces, and what a collector of garbage leaves lying about.
	maxGrowth = 96 << 10
	recovery  = 5 * time.Second
)

// overload floods our proxy with clients that begin a hello and never end it,
// each coming back when it is turned away, while the proxy has too few
// descriptors for them all, and sees what good clients get.
func overload(ctx context.Context, engine, dir string, length time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &world{plan: plan{dir: dir, peers: []string{engine}}}
	if err := w.start(ctx); err != nil {
		return err
	}
	pid := w.peers[0].process.Pid
	limit := unix.Rlimit{Cur: fewFDs, Max: fewFDs}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		return os.NewSyscallError("prlimit", err)
	}
	c, err := newClient(load{service: short, conns: 1}, w.peers[0].addr(), false, length)
	if err != nil {
		return err
	}
	if err := c.goodOnce(0); err != nil {
		return fmt.Errorf("before the flood: %w", err)
	}
	before, _, err := resident(pid)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	flooding, stopFlood := context.WithCancel(ctx)
	defer stopFlood()
	flood := exec.CommandContext(flooding, self, "slow", "-to", c.to.String()) //nolint:gosec // this program
	flood.Stderr = os.Stderr
	if err := flood.Start(); err != nil {
		return err
	}
	if err := reaches(pid, fewFDs*9/10); err != nil {
		return err
	}
	good, bad, most, err := c.goodDuring(pid, length)
	if err != nil {
		return err
	}
	stopFlood()
	_ = flood.Wait() // it was killed
	ended := time.Now()
	rate := float64(good) / float64(max(good+bad, 1))
	fmt.Printf("%s: %d of %d requests of good clients (%.1f %%), memory %d KB, then %d KB at most\n", engine, good, good+bad, 100*rate, before, most)
	switch {
	case good == 0 || rate < goodEnough:
		return fmt.Errorf("%.1f %% of the requests of good clients succeeded, %.0f %% are due", 100*rate, 100*goodEnough)
	case most-before > maxGrowth:
		return fmt.Errorf("memory grew by %d KB, %d are allowed", most-before, maxGrowth)
	}
	for row := 0; row < 100; {
		if err := c.goodOnce(row); err == nil {
			row++
		} else if row = 0; time.Since(ended) > recovery {
			return fmt.Errorf("not well %v after the flood: %w", recovery, err)
		}
	}
	fmt.Printf("%s: all is well %v after the flood\n", engine, time.Since(ended).Round(time.Millisecond))
	log, err := os.ReadFile(filepath.Join(dir, engine+".out"))
	if n := strings.Count(string(log), "cannot accept"); err != nil || n > 20 {
		return errors.Join(fmt.Errorf("%d complaints in the log", n), err)
	}
	return nil
}

// reaches waits until a process has so many descriptors.
func reaches(pid int, n int64) error {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		if _, fds, err := resident(pid); err != nil || fds >= n {
			return err
		}
	}
	return errors.New("the flood does not fill the proxy")
}

// goodDuring has good clients ask for a while, and watches the memory.
func (c *client) goodDuring(pid int, length time.Duration) (good, bad, most int64, err error) {
	var ok, failed atomic.Int64
	var work sync.WaitGroup
	end := time.Now().Add(length)
	for i := range goodClients {
		work.Go(func() {
			for n := i; time.Now().Before(end); n += goodClients {
				if c.goodOnce(n) == nil {
					ok.Add(1)
				} else {
					failed.Add(1)
				}
				<-time.After(20 * time.Millisecond)
			}
		})
	}
	for time.Now().Before(end) && err == nil {
		var kb int64
		if kb, _, err = resident(pid); kb > most {
			most = kb
		}
		<-time.After(100 * time.Millisecond)
	}
	work.Wait()
	return ok.Load(), failed.Load(), most, err
}

// goodOnce asks as any client would, with five seconds of patience.
func (c *client) goodOnce(i int) error {
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.Dial("tcp", c.target(i).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write(c.firsts[i%backends]); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, answerSize))
	return err
}

// slow holds as many connections as it can, each with a part of a hello, and
// comes back with each that is turned away.
func slow(ctx context.Context, c *client) error {
	p, err := newPoller()
	if err != nil {
		return err
	}
	part := c.firsts[0][:100+500]
	var waiting, open int
	begin := func() {
		fd, err := connectTo(c.to, source(open))
		if err != nil {
			waiting++
			return
		}
		open++
		if p.add(fd, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLOUT|unix.EPOLLET) != nil {
			_ = unix.Close(fd)
		}
	}
	for range slowClients {
		begin()
	}
	buf := make([]byte, 64)
	for ctx.Err() == nil {
		again := waiting
		waiting = 0
		for _, ev := range p.wait(100) {
			if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
				_, _ = unix.Read(int(ev.Fd), buf)
				_ = unix.Close(int(ev.Fd))
				again++
			} else if ev.Events&unix.EPOLLOUT != 0 {
				_, _ = unix.SendmsgN(int(ev.Fd), part, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
			}
		}
		for range again {
			begin()
		}
	}
	return nil
}
