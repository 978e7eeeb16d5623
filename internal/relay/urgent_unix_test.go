//go:build unix

package relay_test

import (
	"bytes"
	"net"
	"syscall"
	"testing"

	"github.com/postern-net/postern/internal/relay"
)

// Urgent data is a part of the stream like any other, and holds nothing up.
func TestUrgent(t *testing.T) { onEach(t, testUrgent) }

func testUrgent(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, match: to(b.addr)})
	for name, way := range map[string]func(client, server *net.TCPConn) (from, to *net.TCPConn){
		"up":   func(c, s *net.TCPConn) (from, to *net.TCPConn) { return c, s },
		"down": func(c, s *net.TCPConn) (from, to *net.TCPConn) { return s, c },
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{0, 4, 2 << 20} {
				rounds := 10
				if size > 1<<20 {
					rounds = 1 // goroutines take a second for it: so long they stay with splice
				}
				for range rounds {
					from, to := way(connect(t, p, b))
					piece := bytes.Repeat([]byte("A"), size)
					sent := make(chan struct{})
					go func() {
						defer close(sent)
						urge(t, from, piece)
					}()
					expect(t, to, append(piece, "!BBBB"...))
					<-sent
					must(t, from.Close())
					expectEOF(t, to)
					must(t, to.Close())
				}
			}
		})
	}
}

// urge sends b, an urgent byte and a little more, the end of it in one go.
func urge(t *testing.T, c *net.TCPConn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Error(err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	for _, step := range []struct {
		bytes string
		flags int
	}{{"!", syscall.MSG_OOB}, {"BBBB", 0}} {
		var sendErr error
		err := raw.Write(func(fd uintptr) bool {
			sendErr = syscall.Sendto(int(fd), []byte(step.bytes), step.flags, nil)
			return sendErr != syscall.EAGAIN
		})
		if err != nil || sendErr != nil {
			t.Error(err, sendErr)
		}
	}
}
