//go:build unix

package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// reader reads from a connection without holding a buffer while it waits, so
// that an idle connection costs none.
type reader struct{ raw syscall.RawConn }

func newReader(c *net.TCPConn) (reader, error) {
	raw, err := c.SyscallConn()
	return reader{raw}, err
}

// read waits for bytes and returns them in a buffer that the caller frees. At
// the end of the stream it returns io.EOF and no bytes.
func (r reader) read() (b buffer, n int, err error) {
	waitErr := r.raw.Read(func(fd uintptr) bool {
		b = largeBuffer()
		n, err = syscall.Read(int(fd), b.bytes)
		for errors.Is(err, syscall.EINTR) {
			n, err = syscall.Read(int(fd), b.bytes)
		}
		if errors.Is(err, syscall.EAGAIN) {
			b.free()
			return false
		}
		return true
	})
	switch {
	case waitErr != nil:
		b.free()
		return buffer{}, 0, waitErr
	case err != nil:
		return b, 0, os.NewSyscallError("read", err)
	case n == 0:
		return b, 0, io.EOF
	}
	return b, n, nil
}

// awaitReset waits, on a connection whose stream has ended, until it is reset
// (true) or closed on this side (false). The kernel tells a reset after the
// end by an event and a pending error, not by read, which says "end" forever.
func awaitReset(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var pending int
	err = raw.Read(func(fd uintptr) bool {
		var optErr error
		pending, optErr = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		return optErr != nil || pending != 0
	})
	return err == nil && pending != 0
}

// urgentInline has urgent data come in its place among the other bytes of a
// socket, or of those that a listener accepts, rather than be left out.
func urgentInline(_, _ string, c syscall.RawConn) error {
	return c.Control(setInline)
}

func setInline(fd uintptr) {
	_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_OOBINLINE, 1) // it cannot fail on a socket
}
