package scim_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/scim"
)

// bytesConn is a connection on which everything has been sent.
type bytesConn struct {
	net.Conn
	r io.Reader
}

func (c bytesConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func readWire(r io.Reader) (out []byte, denial postern.Denial, err error) {
	out, err = io.ReadAll(scim.NewWire(bytesConn{r: r}, func(d postern.Denial, _ error) { denial = d }))
	return out, denial, err
}

// deadlined remembers until when may be written.
type deadlined struct {
	net.Conn
	at time.Time
}

func (c *deadlined) SetWriteDeadline(t time.Time) error {
	c.at = t
	return nil
}

// Writing always has a bound: TLS may have to write while it reads.
func TestWireWritesInTime(t *testing.T) {
	t.Parallel()
	c := &deadlined{}
	w := scim.NewWire(c, nil)
	if err := w.SetWriteDeadline(time.Time{}); err != nil || time.Until(c.at) > time.Minute || time.Until(c.at) < 50*time.Second {
		t.Errorf("%v, %v", c.at, err)
	}
	soon := time.Now().Add(time.Second)
	if err := w.SetWriteDeadline(soon); err != nil || !c.at.Equal(soon) {
		t.Errorf("%v, %v", c.at, err)
	}
}

// Good requests pass as they are, in whatever pieces they come.
func TestWireHandsOnWhatIsGood(t *testing.T) {
	t.Parallel()
	all := plain + post("Content-Length: 5", "hello") + post("Transfer-Encoding: CHUNKED", "5\r\nhello\r\nA\r\n0123456789\r\n00\r\n\r\n") + post("Content-Length: 0", "") + post("Content-Length: 3", "\r\n\n") + plain
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(all), "byte by byte": iotest.OneByteReader(strings.NewReader(all)), "halves": iotest.HalfReader(strings.NewReader(all)), "with the end": iotest.DataErrReader(strings.NewReader(all))} {
		if got, denial, err := readWire(r); string(got) != all || denial != "" || err != nil {
			t.Errorf("%s: %q, %s, %v", name, got, denial, err)
		}
	}
}

// What is broken off is no request, but no offence either.
func TestWireEnds(t *testing.T) {
	t.Parallel()
	for _, sent := range []string{"GE", plain[:40], plain[:len(plain)-1], post("Transfer-Encoding: chunked", "5\r\nhel")[:len(post("Transfer-Encoding: chunked", "5\r"))]} {
		got, denial, err := readWire(strings.NewReader(sent))
		if !errors.Is(err, io.ErrUnexpectedEOF) || denial != "" {
			t.Errorf("%q: %q, %s, %v", sent, got, denial, err)
		}
		if !strings.Contains(sent, "chunked") && len(got) > 0 {
			t.Errorf("%q: %q was handed on", sent, got)
		}
	}
	if got, denial, err := readWire(strings.NewReader("")); len(got) > 0 || denial != "" || err != nil {
		t.Errorf("nothing: %q, %s, %v", got, denial, err)
	}
}

// A reader that is woken by a deadline, as net/http wakes its own, loses nothing.
func TestWireSurvivesDeadlines(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	w := scim.NewWire(theirs, func(d postern.Denial, err error) { t.Errorf("%s: %v", d, err) })
	go func() { _, _ = io.WriteString(ours, plain[:20]) }()
	b := make([]byte, 4096)
	_ = w.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := w.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	_ = w.SetReadDeadline(time.Now().Add(patience))
	go func() { _, _ = io.WriteString(ours, plain[20:]) }()
	if n, err := io.ReadFull(w, b[:len(plain)]); err != nil || string(b[:n]) != plain {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// A body that was given up ends the connection: what is left of it is no request.
func TestWireEndsWithABodyThatWasGivenUp(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	w := scim.NewWire(theirs, func(d postern.Denial, err error) { t.Errorf("%s: %v", d, err) })
	head := post("Content-Length: 1000", "")
	go func() { _, _ = io.WriteString(ours, head) }()
	b := make([]byte, 4096)
	if n, err := io.ReadFull(w, b[:len(head)]); err != nil {
		t.Fatalf("%q, %v", b[:n], err)
	}
	_ = w.SetReadDeadline(time.Now())
	if n, err := w.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	_ = w.SetReadDeadline(time.Now().Add(patience))
	go func() { _, _ = io.WriteString(ours, plain) }()
	if n, err := w.Read(b); n > 0 || err == nil {
		t.Errorf("then %q, %v", b[:n], err)
	}
}

// In however small pieces a head comes, it costs the door about as much: what it
// has looked at it remembers. BenchmarkWire shows what that is worth.
func TestWireLooksAtEachByteOnce(t *testing.T) {
	t.Parallel()
	var w net.Conn
	given := 0
	head := longHead()
	w = scim.NewWire(bytesConn{r: readerFunc(func(b []byte) (int, error) {
		if got := scim.Scanned(w); got != given {
			t.Fatalf("%d bytes came, and it remembers to have looked at %d", given, got)
		}
		if given == len(head) {
			return 0, io.EOF
		}
		b[0] = head[given]
		given++
		return 1, nil
	})}, func(d postern.Denial, err error) { t.Errorf("%s: %v", d, err) })
	if _, err := io.ReadFull(w, make([]byte, len(head))); err != nil {
		t.Error(err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func longHead() string {
	return strings.Replace(plain, "\r\n\r\n", "\r\nX: "+strings.Repeat("y", 31<<10)+"\r\n\r\n", 1)
}

func BenchmarkWire(b *testing.B) {
	head := longHead()
	for name, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if got, denial, err := readWire(wrap(strings.NewReader(head))); string(got) != head {
					b.Fatalf("%d bytes, %s, %v", len(got), denial, err)
				}
			}
		})
	}
}

// Whatever passes is what net/http reads too: the same requests, with the same
// bodies, that end at the same bytes, and none of the ambiguous forms.
func FuzzWire(f *testing.F) {
	f.Add([]byte(plain + post("Content-Length: 5", "hello")))
	f.Add([]byte(post("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n") + plain))
	f.Add([]byte(post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n")))
	f.Add([]byte("GET /scim/v2 HTTP/1.1\nHost: x\n\n"))
	f.Add([]byte(field("X: a\r\n b")))
	for _, tc := range hostile1 {
		f.Add([]byte(tc.send))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		passed, _, err := readWire(bytes.NewReader(sent))
		if !bytes.HasPrefix(sent, passed) {
			t.Fatalf("%q became %q", sent, passed)
		}
		var rebuilt bytes.Buffer
		r := bufio.NewReaderSize(bytes.NewReader(passed), len(passed)+16)
		for {
			before := rest(passed, r)
			if len(before) == 0 {
				break
			}
			req, readErr := http.ReadRequest(r)
			if readErr != nil {
				t.Fatalf("net/http does not take what passed, %q: %v", before, readErr)
			}
			if req.ProtoMajor != 1 || req.ProtoMinor != 1 || req.Host == "" && len(req.Header["Host"]) > 0 || len(req.TransferEncoding) > 0 && req.Header["Content-Length"] != nil || !strings.HasPrefix(req.RequestURI, "/") {
				t.Fatalf("%q passed: %+v", before, req)
			}
			_, bodyErr := io.Copy(io.Discard, req.Body)
			if bodyErr != nil {
				if err == nil {
					t.Fatalf("the body of %q is broken for net/http and was not refused: %v", before, bodyErr)
				}
				return // it was refused where it broke
			}
			head, _, _ := bytes.Cut(before, []byte("\r\n\r\n"))
			if bytes.ContainsAny(bytes.ReplaceAll(head, []byte("\r\n"), nil), "\r\n\x00") || bytes.Contains(head, []byte("\r\n ")) || bytes.Contains(head, []byte("\r\n\t")) {
				t.Fatalf("the head of %q passed", before)
			}
			rebuilt.Write(before[:len(before)-len(rest(passed, r))])
		}
		if !bytes.HasPrefix(passed, rebuilt.Bytes()) {
			t.Fatalf("%q was read as %q", passed, rebuilt.Bytes())
		}
	})
}

// rest is what a reader, whose buffer holds all, has not given out yet.
func rest(all []byte, r *bufio.Reader) []byte {
	_, _ = r.Peek(1) // fills the buffer; at the end there is nothing
	return all[len(all)-r.Buffered():]
}
