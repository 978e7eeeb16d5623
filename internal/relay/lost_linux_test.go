package relay_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/postern-net/postern/internal/relay"
)

// swapping gives, instead of the connections that it accepts, a file, which
// reads as one that said what is in it, and which no epoll set takes.
type swapping struct {
	*net.TCPListener
	path string
}

func (s *swapping) AcceptTCP() (*net.TCPConn, error) {
	c, err := s.TCPListener.AcceptTCP()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var dupErr error
	if err := raw.Control(func(fd uintptr) { dupErr = syscall.Dup3(int(f.Fd()), int(fd), syscall.O_CLOEXEC) }); err != nil {
		return nil, err
	}
	return c, dupErr
}

// A connection of which the kernel would tell no event is ended, rather than
// kept for as long as it may be idle.
func TestUnseenConnectionEnds(t *testing.T) {
	t.Parallel()
	b, h := listen(t), hello(t, host)
	path := filepath.Join(t.TempDir(), "hello")
	must(t, os.WriteFile(path, h, 0o600))
	e := relay.New(relay.Config{Kind: relay.KindEpoll})
	ln, err := e.Listen(t.Context(), "127.0.0.1:0")
	must(t, err)
	told, served := newRecorder(), make(chan error, 1)
	go func() {
		served <- e.Serve(relay.Listener{Acceptor: &swapping{TCPListener: ln, path: path}, Name: "test"}, to(b.addr), told)
	}()
	dial(t, ln.Addr().String())
	s := b.accept(t)
	got, err := io.ReadAll(s)
	if string(got) != string(h) || ended(err) != "reset" {
		t.Errorf("the backend read %d bytes, %v; want the hello and a reset", len(got), err)
	}
	if r := told.wait(t, "closed", 1)[0]; r.stats.End != relay.EndReset {
		t.Errorf("ended with %q", r.stats.End)
	}
	shutdown(t, e)
	must(t, <-served)
}
