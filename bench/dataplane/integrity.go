//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"time"
)

// check is something that must be so before a number counts.
type check struct {
	name string
	run  func(c *client) error
}

func checks() []check {
	return []check{
		{"64 MB each way, by their sums", (*client).checkSums},
		{"header and hello byte by byte", (*client).checkSplit},
		{"an answer after the client's half-close", (*client).checkHalfClose},
		{"a reset by the client", (*client).checkReset},
		{"a slow reader", (*client).checkSlow},
		{"ends that cross, 200 times", (*client).checkEnds},
	}
}

func (c *client) checkSums() error {
	conn, err := c.dial(0)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // at the end
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	const size = 64 << 20
	sent := sha256.New()
	done := make(chan error, 1)
	go func() {
		src := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent)
		_, err := io.CopyBuffer(struct{ io.Writer }{conn}, src, make([]byte, 100_000))
		done <- err
	}()
	got := sha256.New()
	n, err := io.CopyN(got, conn, size)
	if err := errors.Join(err, <-done); err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		return errors.New("other bytes came back")
	}
	return nil
}

func (c *client) checkSplit() error {
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.Dial("tcp", c.target(0).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetNoDelay(true)
	for i, b := range c.firsts[0] {
		if _, err := conn.Write([]byte{b}); err != nil {
			return err
		}
		if i < 40 {
			<-time.After(time.Millisecond)
		}
	}
	return roundTrip(conn)
}

func (c *client) checkHalfClose() error {
	conn, err := c.dial(0)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // at the end
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	data := bytes.Repeat([]byte("postern "), 1<<17)
	done := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		done <- errors.Join(err, conn.CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("%d of %d bytes came back", len(got), len(data))
	}
	return nil
}

// checkReset sees that a reset does not leave the proxy in a bad way; whether
// it arrives as one, the engines' own tests look at.
func (c *client) checkReset() error {
	for i := range 50 {
		conn, err := c.dial(i)
		if err != nil {
			return err
		}
		if err := roundTrip(conn); err != nil {
			return err
		}
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}
	conn, err := c.dial(0)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // at the end
	return roundTrip(conn)
}

func (c *client) checkSlow() error {
	conn, err := c.dial(0)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // at the end
	_ = conn.SetReadBuffer(16 << 10)
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	const size = 12 << 20
	done := make(chan error, 1)
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{conn}, io.LimitReader(rand.NewChaCha8([32]byte{2}), size), make([]byte, 64<<10))
		done <- err
	}()
	want, got, b := rand.NewChaCha8([32]byte{2}), make([]byte, 1<<20), make([]byte, 1<<20)
	for i := range size >> 20 {
		<-time.After(30 * time.Millisecond)
		if _, err := io.ReadFull(conn, got); err != nil {
			return err
		}
		_, _ = want.Read(b)
		if !bytes.Equal(got, b) {
			return fmt.Errorf("other bytes in megabyte %d", i)
		}
	}
	return <-done
}

// checkEnds closes at the same time as the other side.
func (c *client) checkEnds() error {
	for i := range 200 {
		conn, err := c.dial(i)
		if err != nil {
			return err
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write([]byte("last words")); err != nil {
			return err
		}
		if err := conn.CloseWrite(); err != nil {
			return err
		}
		got, err := io.ReadAll(conn)
		_ = conn.Close()
		if err != nil && !errors.Is(err, syscall.ECONNRESET) || string(got) != "last words" {
			return fmt.Errorf("time %d: %q, %w", i, got, err)
		}
	}
	return nil
}
