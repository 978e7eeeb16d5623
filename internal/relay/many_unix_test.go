//go:build unix

package relay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postern-net/postern/internal/relay"
)

// long tells whether the tests are to take their time (POSTERN_LONG=1, as make
// soak has it); without it they do the same with less.
func long() bool { return os.Getenv("POSTERN_LONG") != "" }

func scaled(little, much int) int {
	if long() {
		return much
	}
	return little
}

// alone is an engine for a test that counts what the process has: no other
// test runs meanwhile, and everything is gone when it returns.
func alone(t *testing.T, play func(*testing.T, relay.Kind, *proxy, *backend)) {
	t.Helper()
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			before := counted(t)
			t.Run("play", func(t *testing.T) {
				b := listen(t)
				play(t, kind, start(t, setup{kind: kind, config: relay.Config{MaxPerClient: 100_000, HelloTimeout: time.Minute}, match: to(b.addr)}), b)
			})
			// Go's own poller and the like may have come to stay.
			eventually(t, func() bool {
				after := counted(t)
				return after.fds <= before.fds+3 && after.goroutines <= before.goroutines+1
			},
				func() { t.Errorf("%+v before, %+v after", before, counted(t)) })
		})
	}
}

// possessions are what a process must not keep.
type possessions struct{ fds, goroutines int }

func counted(t *testing.T) possessions {
	t.Helper()
	fds, err := os.ReadDir("/dev/fd")
	must(t, err)
	return possessions{len(fds), runtime.NumGoroutine()}
}

func eventually(t *testing.T, ok func() bool, otherwise func()) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			otherwise()
			return
		}
	}
}

// Short connections, one after the other and many at a time, each with a
// question and an answer: also those whose ends cross, because client and
// backend end their streams at the same time.
func TestManyShort(t *testing.T) {
	conns := scaled(1500, 100_000)
	h := hello(t, host)
	answer := slices.Repeat([]byte("answer"), 700)
	alone(t, func(t *testing.T, _ relay.Kind, p *proxy, b *backend) {
		done := make(chan struct{})
		var work, servers sync.WaitGroup
		servers.Go(func() {
			for {
				select {
				case <-done:
					return
				case s := <-b.conns:
					servers.Go(func() { answerOnce(t, s, len(h), answer) })
				}
			}
		})
		jobs := make(chan int)
		for range 32 {
			work.Go(func() {
				for i := range jobs {
					if err := askOnce(p.addr, h, answer, i); err != nil {
						t.Errorf("connection %d: %v", i, err)
					}
				}
			})
		}
		for i := range conns {
			jobs <- i
		}
		close(jobs)
		work.Wait()
		for _, r := range p.wait(t, "closed", conns) {
			if r.stats.End != relay.EndFinished || r.stats.Up != int64(len(h)) || r.stats.Down != int64(len(answer)) {
				t.Fatalf("ended with %+v", r.stats)
			}
		}
		close(done)
		servers.Wait()
	})
}

// answerOnce reads the hello, and answers and closes at once.
func answerOnce(t *testing.T, s *net.TCPConn, size int, answer []byte) {
	t.Helper()
	defer s.Close()
	_ = s.SetDeadline(time.Now().Add(patience))
	if _, err := readExactly(s, size); err != nil {
		t.Errorf("backend: %v", err)
		return
	}
	if _, err := s.Write(answer); err != nil {
		t.Errorf("backend: %v", err)
	}
	_ = s.CloseWrite() // what comes of it the client sees
	_, _ = io.Copy(io.Discard, s)
}

func askOnce(addr string, h, answer []byte, i int) error {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	c := conn.(*net.TCPConn)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(h); err != nil {
		return err
	}
	if i%2 == 0 {
		if err := c.CloseWrite(); err != nil {
			return err
		}
	}
	got, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if !slices.Equal(got, answer) {
		return errors.New("another answer: " + sum(got))
	}
	return nil
}

// No descriptor is left: who connects waits or is turned away, nothing spins,
// and when there are some again everything goes on.
func TestNoDescriptors(t *testing.T) {
	h := hello(t, host)
	alone(t, func(t *testing.T, _ relay.Kind, p *proxy, b *backend) {
		connectOnce(t, p, b, h)
		accepted := dial(t, p.addr)
		eventually(t, func() bool { return p.Connections() == 1 }, func() { t.Error("not accepted") })
		var clients []int
		for range 5 {
			fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
			must(t, err)
			clients = append(clients, fd)
		}
		restore := exhaust(t)
		at := netip.MustParseAddrPort(p.addr)
		for _, fd := range clients {
			must(t, syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}))
			_, err := syscall.Write(fd, h)
			must(t, err)
		}
		before := spent(t)
		<-time.After(400 * time.Millisecond)
		if d := spent(t) - before; d > 200*time.Millisecond {
			t.Errorf("%v of the processor in 400 ms without descriptors", d)
		}
		if n := len(b.conns); n != 0 {
			t.Errorf("%d connections got through: there were descriptors", n)
		}
		restore()
		served := 0
		for _, fd := range clients {
			f := os.NewFile(uintptr(fd), "client")
			c, err := net.FileConn(f)
			must(t, err)
			must(t, f.Close())
			t.Cleanup(func() { _ = c.Close() })
			select {
			case s := <-b.conns:
				served++
				t.Cleanup(func() { _ = s.Close() })
			case <-time.After(time.Second):
			}
		}
		if served < len(clients)-2 {
			t.Errorf("%d of %d were served afterwards", served, len(clients))
		}
		send(t, accepted, h)
		expect(t, b.accept(t), h)
		connectOnce(t, p, b, h)
	})
}

// exhaust takes every descriptor that this process may have.
func exhaust(t *testing.T) (restore func()) {
	t.Helper()
	var l syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l))
	low := l
	low.Cur = uint64(counted(t).fds + 20)
	var taken []int
	restore = sync.OnceFunc(func() {
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
		for _, fd := range taken {
			_ = syscall.Close(fd)
		}
	})
	t.Cleanup(restore)
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	for {
		fd, err := syscall.Dup(0)
		if err != nil {
			return restore
		}
		taken = append(taken, fd)
	}
}

func connectOnce(t *testing.T, p *proxy, b *backend, h []byte) {
	t.Helper()
	c := dial(t, p.addr)
	send(t, c, h)
	s := b.accept(t)
	expect(t, s, h)
	must(t, c.Close())
	expectEOF(t, s)
	must(t, s.Close())
}
