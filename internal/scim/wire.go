package scim

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/postern-net/postern"
)

// maxHead bounds the head of a request in bytes. A bearer token takes a few
// thousand at most.
const maxHead = 32 << 10

// maxChunkLine bounds a line that says how large a chunk is.
const maxChunkLine = 16

var (
	errNotHTTP = errors.New("scim: not HTTP/1.1 as it must be")
	errTooLong = errors.New("scim: the head of the request is too long")
)

// wire stands between TLS and net/http on an HTTP/1.1 connection. It hands on
// what it has judged: a whole head, and then a body as that head frames it. What
// breaks a rule is an error that net/http answers with 400, and the end of the
// connection.
//
// Only one goroutine reads at a time, as net/http does.
type wire struct {
	net.Conn
	refused  func(postern.Denial, error)
	patience time.Duration // more than it may be idle

	next    func(*wire) error // judges what is at the front of buf
	buf     []byte            // read and not handed on
	ready   int               // bytes at the front of it that may be handed on
	scanned int               // bytes of a head that have been looked at
	left    int64             // of the body, or of the chunk
	open    bool              // a body has not ended
	err     error             // for good
}

func newWire(c net.Conn, patience time.Duration, refused func(postern.Denial, error)) *wire {
	return &wire{Conn: c, refused: refused, patience: patience, next: (*wire).head}
}

// SetWriteDeadline bounds writing also where net/http does not, between requests:
// TLS answers a request for new keys while it reads, and who takes no answers
// would have it wait for ever, whatever the deadline of reading.
func (w *wire) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		t = time.Now().Add(w.patience)
	}
	return w.Conn.SetWriteDeadline(t)
}

// CloseWrite ends the stream towards the client, so that it reads what it was
// answered although not all that it sends is read.
func (w *wire) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// errMore asks for more bytes.
var errMore = errors.New("scim: more bytes are needed")

// Read hands on what was judged. An error of the connection that passes, such
// as a deadline that net/http sets to wake a reader, loses nothing; but within a
// body it is for good, or what is left of the body would be the next request.
func (w *wire) Read(p []byte) (int, error) {
	for w.ready == 0 && w.err == nil {
		err := w.next(w)
		switch {
		case err == nil:
		case errors.Is(err, errMore):
			if err := w.fill(); err != nil {
				if w.open {
					w.err = err
				}
				return 0, err
			}
		default:
			w.err = err
			denial := postern.DenyBadRequest
			if errors.Is(err, errTooLong) {
				denial = postern.DenyTooLarge
			}
			w.refused(denial, err)
		}
	}
	if w.ready == 0 {
		return 0, w.err
	}
	n := copy(p, w.buf[:w.ready])
	w.buf, w.ready = w.buf[n:], w.ready-n
	return n, nil
}

// fill reads more from the connection.
func (w *wire) fill() error {
	if cap(w.buf)-len(w.buf) < 512 {
		w.buf = append(make([]byte, 0, 2*len(w.buf)+4096), w.buf...)
	}
	n, err := w.Conn.Read(w.buf[len(w.buf):cap(w.buf)])
	w.buf = w.buf[:len(w.buf)+n]
	switch {
	case n > 0:
		return nil // an error comes again
	case errors.Is(err, io.EOF) && (len(w.buf) > 0 || w.open):
		return io.ErrUnexpectedEOF
	}
	return err
}

// endOfHead ends the head of a request.
const endOfHead = "\r\n\r\n"

// head waits for a whole head and judges it. It looks at each byte once, in
// however small pieces they come.
func (w *wire) head() error {
	from := max(w.scanned-len(endOfHead)+1, 0)
	end := bytes.Index(w.buf[from:], []byte(endOfHead))
	seen := w.buf
	if end >= 0 {
		seen = w.buf[:from+end+len(endOfHead)]
	}
	switch {
	case len(seen) > maxHead:
		return errTooLong
	case end < 0 && !plausible(seen, w.scanned):
		return errNotHTTP
	case end < 0:
		w.scanned = len(seen)
		return errMore
	}
	w.scanned = 0
	f, ok := parseHead(seen)
	if !ok {
		return errNotHTTP
	}
	w.ready = len(seen)
	switch {
	case f.chunked:
		w.next, w.open = (*wire).chunk, true
	case f.length > 0:
		w.next, w.left, w.open = (*wire).body, f.length, true
	}
	return nil
}

// plausible tells whether the beginning of a head can become a good one, so that
// who sends something else is told at once: a line feed stands behind a carriage
// return only, and the first byte is a method's. The bytes before from were
// plausible.
func plausible(b []byte, from int) bool {
	for i := from; i < len(b); i++ {
		if b[i] == '\n' && (i == 0 || b[i-1] != '\r') || b[i] == 0 {
			return false
		}
	}
	return len(b) == 0 || isToken(string(b[:1]))
}

// body hands on what belongs to a body of known length.
func (w *wire) body() error {
	if w.left == 0 {
		w.next, w.open = (*wire).head, false
		return nil
	}
	return w.take()
}

// take makes ready what there is of the bytes that are left.
func (w *wire) take() error {
	if len(w.buf) == 0 {
		return errMore
	}
	w.ready = int(min(int64(len(w.buf)), w.left))
	w.left -= int64(w.ready)
	return nil
}

// chunk judges the line ahead of a chunk: its size, and no extension, which no
// client needs and readers disagree about.
func (w *wire) chunk() error {
	line, _, found := bytes.Cut(w.buf, []byte("\r\n"))
	if !found {
		if len(w.buf) > maxChunkLine || bytes.IndexByte(w.buf, '\n') >= 0 {
			return errNotHTTP
		}
		return errMore
	}
	size, err := strconv.ParseUint(string(line), 16, 31)
	if err != nil || len(line) > 8 {
		return errNotHTTP
	}
	w.ready, w.left, w.next = len(line)+2, int64(size), (*wire).data
	if size == 0 {
		w.next = (*wire).lastLine
	}
	return nil
}

// data hands a chunk on.
func (w *wire) data() error {
	if w.left == 0 {
		return w.line((*wire).chunk)
	}
	return w.take()
}

// lastLine demands the end of a chunked body. Fields behind it, a trailer, would
// be read by some and not by others.
func (w *wire) lastLine() error {
	err := w.line((*wire).head)
	w.open = err != nil
	return err
}

// line demands an empty line, which ends what was before.
func (w *wire) line(next func(*wire) error) error {
	switch {
	case len(w.buf) > 0 && w.buf[0] != '\r', len(w.buf) > 1 && w.buf[1] != '\n':
		return errNotHTTP
	case len(w.buf) < 2:
		return errMore
	}
	w.ready, w.next = 2, next
	return nil
}
