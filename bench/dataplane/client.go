//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// load is one measurement.
type load struct {
	name    string
	service service
	conns   int
	slices  int // of a round: so often for so much shorter, proxy by proxy
	run     func(c *client) (result, error)
}

func loads() []load {
	return []load{
		{"connections", short, 64, 8, (*client).connections},
		{"tls", secure, 32, 1, (*client).handshakes},
		{"bulk-1", flood, 1, 1, (*client).bulk},
		{"bulk-16", flood, 16, 1, (*client).bulk},
		{"messages", echo, 64, 1, (*client).messages},
		{"paced", echo, 64, 1, (*client).paced},
		{"idle", echo, 9000, 1, (*client).idle},
	}
}

// result is what a client saw.
type result struct {
	Count   int64         `json:"count"` // connections, requests or bytes
	Took    time.Duration `json:"took"`
	P50     time.Duration `json:"p50,omitempty"`
	P99     time.Duration `json:"p99,omitempty"`
	Clients float64       `json:"clients"` // the client's own processor seconds
}

// client makes a load.
type client struct {
	load
	to     netip.AddrPort
	direct bool // straight to the backends: to gives no port
	length time.Duration
	firsts [][]byte // what is sent first, by host
}

func newClient(l load, to netip.AddrPort, direct bool, length time.Duration) (*client, error) {
	c := &client{load: l, to: to, direct: direct, length: length}
	for i := range backends {
		f, err := l.service.first(i)
		if err != nil {
			return nil, err
		}
		c.firsts = append(c.firsts, f)
	}
	return c, nil
}

// target is where connection number i goes to.
func (c *client) target(i int) netip.AddrPort {
	if c.direct {
		return c.service.backend(i)
	}
	return c.to
}

// dial makes connection number i and sends what comes first. It blocks until
// it is there.
func (c *client) dial(i int) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: source(i).AsSlice()}}
	conn, err := d.Dial("tcp", c.target(i).String())
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(c.firsts[i%backends]); err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// connections opens, asks, is answered and closes, again and again.
func (c *client) connections() (result, error) {
	type slot struct{ left int }
	deadline := time.Now().Add(c.length)
	counts, errs := make([]int64, runtime.NumCPU()), make([]error, runtime.NumCPU())
	var work sync.WaitGroup
	for t := range runtime.NumCPU() {
		work.Go(func() {
			runtime.LockOSThread()
			p, err := newPoller()
			if err != nil {
				errs[t] = err
				return
			}
			slots := map[int32]*slot{}
			n, buf := t, make([]byte, 4096)
			begin := func() error {
				fd, err := connectTo(c.target(n), source(n))
				if err != nil {
					return err
				}
				slots[int32(fd)] = &slot{left: answerSize} //nolint:gosec // descriptors are small
				// Not there yet on a slow path: then it is sent when it is.
				if _, err := unix.SendmsgN(fd, c.firsts[n%backends], nil, nil, unix.MSG_NOSIGNAL); err != nil {
					return os.NewSyscallError("send", err)
				}
				n += runtime.NumCPU()
				return p.add(fd, unix.EPOLLIN|unix.EPOLLRDHUP)
			}
			for range c.conns / runtime.NumCPU() {
				if errs[t] = begin(); errs[t] != nil {
					return
				}
			}
			for time.Now().Before(deadline) {
				events := p.wait(1000)
				if len(events) == 0 {
					errs[t] = errors.New("nothing for a second")
					return
				}
				for _, ev := range events {
					s := slots[ev.Fd]
					got, err := unix.Read(int(ev.Fd), buf)
					if err == unix.EAGAIN {
						continue
					}
					if err != nil || got == 0 {
						errs[t] = fmt.Errorf("cut off after %d of %d bytes: %w", answerSize-s.left, answerSize, err)
						return
					}
					if s.left -= got; s.left > 0 {
						continue
					}
					delete(slots, ev.Fd)
					_ = unix.Close(int(ev.Fd))
					counts[t]++
					if errs[t] = begin(); errs[t] != nil {
						return
					}
				}
			}
		})
	}
	work.Wait()
	var sum int64
	for _, n := range counts {
		sum += n
	}
	return result{Count: sum, Took: c.length}, errors.Join(errs...)
}

// handshakes makes TLS connections, asks once and closes.
func (c *client) handshakes() (result, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true} //nolint:gosec // the backend's certificate is of its own making
	deadline := time.Now().Add(c.length)
	var mu sync.Mutex
	var sum int64
	var errs []error
	each(c.conns, func(w int) {
		var n int64
		for i := w; time.Now().Before(deadline); i += c.conns {
			if err := c.handshake(i, config); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
				return
			}
			n++
		}
		mu.Lock()
		sum += n
		mu.Unlock()
	})
	return result{Count: sum, Took: c.length}, errors.Join(errs...)
}

func (c *client) handshake(i int, config *tls.Config) error {
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: source(i).AsSlice()}}
	raw, err := d.Dial("tcp", c.target(i).String())
	if err != nil {
		return err
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := raw.Write(header()); err != nil {
		return err
	}
	config = config.Clone()
	config.ServerName = c.service.host(i)
	s := tls.Client(raw, config)
	ask := make([]byte, 100)
	if _, err := s.Write(ask); err != nil {
		return err
	}
	_, err = io.ReadFull(s, ask)
	return err
}

// each runs f in so many goroutines at once.
func each(n int, f func(int)) {
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() { f(i) })
	}
	work.Wait()
}

// bulk reads as fast as it can.
func (c *client) bulk() (result, error) {
	var mu sync.Mutex
	var sum int64
	var errs []error
	start := make(chan struct{})
	conns := make([]*net.TCPConn, c.conns)
	for i := range conns {
		conn, err := c.dial(i)
		if err != nil {
			return result{}, err
		}
		defer conn.Close() //nolint:errcheck // at the end
		conns[i] = conn
	}
	deadline := time.Now().Add(c.length)
	close(start)
	each(c.conns, func(i int) {
		_ = conns[i].SetReadDeadline(deadline)
		var n int64
		buf := make([]byte, 256<<10)
		for {
			got, err := conns[i].Read(buf)
			n += int64(got)
			if err != nil {
				mu.Lock()
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					errs = append(errs, err)
				}
				sum += n
				mu.Unlock()
				return
			}
		}
	})
	return result{Count: sum, Took: c.length}, errors.Join(errs...)
}

// idle opens connections, says that they are there, waits until it is told to
// go on, and sees that each is still alive.
func (c *client) idle() (result, error) {
	start := time.Now()
	conns := make([]*net.TCPConn, c.conns)
	for i := range conns {
		var err error
		if conns[i], err = c.dial(i); err != nil {
			return result{}, fmt.Errorf("connection %d: %w", i, err)
		}
		if err := roundTrip(conns[i]); err != nil {
			return result{}, fmt.Errorf("connection %d: %w", i, err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGUSR1)
	defer stop()
	fmt.Println("open")
	<-ctx.Done()
	for i, conn := range conns {
		if err := roundTrip(conn); err != nil {
			return result{}, fmt.Errorf("connection %d, after a while: %w", i, err)
		}
		_ = conn.Close()
	}
	return result{Count: int64(c.conns), Took: time.Since(start)}, nil
}

func roundTrip(conn net.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, messageSize)
	if _, err := conn.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, b)
	return err
}

// latencies sums up how long each took.
func (r *result) latencies(all []time.Duration) {
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	r.Count = int64(len(all))
	r.P50, r.P99 = all[len(all)/2], all[len(all)*99/100]
}
