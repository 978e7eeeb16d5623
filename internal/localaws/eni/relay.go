package eni

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Buffers start small, for idle connections, and grow when a read fills them.
const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

// flow is what the two directions of one connection share.
type flow struct {
	idle    time.Duration
	last    atomic.Int64 // time of the last byte, Unix nanoseconds
	expired atomic.Bool
}

var errExpired = errors.New("data on an expired flow")

// relay moves bytes both ways until both sides are done. An end of one side is
// passed on as a half-close, an error of either resets both. The header goes
// with the client's first bytes (AWS: proxy_protocol_v2.client_to_server.
// header_placement on_first_ack_with_payload), so that a target whose client
// says nothing gets no header.
//
// An idle flow is forgotten as an NLB does it: nobody is told, and the next
// byte of either side is answered with a reset. The NLB's clock is also reset
// by TCP keepalive probes; a process does not see those.
func relay(client, target *net.TCPConn, header []byte, idle time.Duration) {
	f := &flow{idle: idle}
	f.last.Store(time.Now().UnixNano())
	for _, c := range []*net.TCPConn{client, target} {
		if err := c.SetReadDeadline(time.Now().Add(idle)); err != nil {
			reset(client)
			reset(target)
			return
		}
	}
	var wg sync.WaitGroup
	move := func(dst, src *net.TCPConn, header []byte) {
		if err := f.copy(dst, src, header); err != nil {
			reset(client)
			reset(target)
		}
	}
	wg.Go(func() { move(target, client, header) })
	wg.Go(func() { move(client, target, nil) })
	wg.Wait()
}

// copy moves one direction up to its end, which it passes on.
func (f *flow) copy(dst, src *net.TCPConn, header []byte) error {
	buf := make([]byte, smallBuffer)
	for {
		n, err := f.read(src, buf)
		if n > 0 {
			out := buf[:n]
			if len(header) > 0 {
				out, header = append(header, out...), nil
			}
			if _, err := dst.Write(out); err != nil {
				return err
			}
			f.last.Store(time.Now().UnixNano())
		}
		if errors.Is(err, io.EOF) {
			return dst.CloseWrite()
		}
		if err != nil {
			return err
		}
		if n == len(buf) && n < largeBuffer {
			buf = make([]byte, largeBuffer)
		}
	}
}

// read waits for bytes. The deadline is moved only when it passes, so that a
// busy connection does not pay for it.
func (f *flow) read(src *net.TCPConn, buf []byte) (int, error) {
	for {
		n, err := src.Read(buf)
		if f.expired.Load() && (n > 0 || errors.Is(err, io.EOF)) {
			return 0, errExpired
		}
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			if n > 0 {
				f.last.Store(time.Now().UnixNano())
			}
			return n, err
		}
		deadline := time.Unix(0, f.last.Load()).Add(f.idle)
		if !time.Now().Before(deadline) {
			f.expired.Store(true)
			deadline = time.Time{}
		}
		if err := src.SetReadDeadline(deadline); err != nil {
			return 0, err
		}
	}
}
