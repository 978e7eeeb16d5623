//go:build !unix

package relay

import (
	"net"
	"syscall"
)

// reader reads from a connection. Where the descriptor cannot be used
// directly, an idle connection holds a buffer.
type reader struct{ conn *net.TCPConn }

func newReader(c *net.TCPConn) (reader, error) { return reader{c}, nil }

// read waits for bytes and returns them in a buffer that the caller frees. At
// the end of the stream it returns io.EOF and no bytes.
func (r reader) read() (b buffer, n int, err error) {
	b = largeBuffer()
	n, err = r.conn.Read(b.bytes)
	if n > 0 {
		err = nil // it comes again
	}
	return b, n, err
}

// awaitReset cannot see a reset after the end of a stream on this system; the
// next write to the connection will. It lets the other direction go on.
func awaitReset(*net.TCPConn) bool { return false }

// urgentInline is for unix.
func urgentInline(_, _ string, _ syscall.RawConn) error { return nil }
