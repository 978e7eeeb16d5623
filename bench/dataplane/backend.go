//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// serveBackends is the backend of every host.
func serveBackends(ctx context.Context) error {
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	for _, s := range []service{short, echo} {
		fd, err := listenOn(netip.AddrPortFrom(netip.IPv4Unspecified(), s.port))
		if err != nil {
			return err
		}
		for range runtime.NumCPU() {
			p, err := newPoller()
			if err != nil {
				return err
			}
			if err := p.add(fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE); err != nil {
				return err
			}
			go (&backend{service: s, listener: fd, poller: p, conns: map[int32]*taken{}}).run()
		}
	}
	for s, serve := range map[service]func(net.Conn){flood: serveFlood, secure: tlsServer()} {
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", fmt.Sprintf("0.0.0.0:%d", s.port))
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go serve(c)
			}
		}()
	}
	<-ctx.Done()
	return nil
}

// backend is one thread that serves short or echo connections.
type backend struct {
	service
	listener int
	*poller
	conns map[int32]*taken
	buf   [64 << 10]byte
}

// taken is a connection of it.
type taken struct {
	early   []byte // before the hello is complete
	open    bool
	pending []byte // not sent back yet
	ended   bool
}

func (b *backend) run() {
	runtime.LockOSThread()
	for {
		for _, ev := range b.wait(-1) {
			if int(ev.Fd) == b.listener {
				b.accept()
			} else if c := b.conns[ev.Fd]; c != nil {
				b.serve(ev.Fd, c)
			}
		}
	}
}

func (b *backend) accept() {
	for range 64 {
		fd, _, err := unix.Accept4(b.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		c := &taken{}
		b.conns[int32(fd)] = c                                                                  //nolint:gosec // descriptors are small
		if b.serve(int32(fd), c) && b.add(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLET) != nil { //nolint:gosec // descriptors are small
			b.drop(int32(fd)) //nolint:gosec // descriptors are small
		}
	}
}

func (b *backend) drop(fd int32) {
	delete(b.conns, fd)
	_ = unix.Close(int(fd))
}

// serve does what can be done now; it answers false when the connection has
// ended.
func (b *backend) serve(fd int32, c *taken) bool {
	for {
		if len(c.pending) > 0 {
			n, err := unix.SendmsgN(int(fd), c.pending, nil, nil, unix.MSG_NOSIGNAL)
			if err == unix.EAGAIN {
				return true
			}
			if err != nil {
				b.drop(fd)
				return false
			}
			c.pending = c.pending[n:]
			continue
		}
		if c.ended {
			b.drop(fd)
			return false
		}
		n, err := unix.Read(int(fd), b.buf[:])
		switch {
		case err == unix.EAGAIN:
			return true
		case err != nil:
			b.drop(fd)
			return false
		case n == 0:
			c.ended = true
			continue
		}
		got := b.buf[:n]
		if !c.open {
			c.early = append(c.early, got...)
			_, end, err := opening(c.early)
			if err != nil {
				b.drop(fd)
				return false
			}
			if end == 0 {
				continue
			}
			c.open, got = true, c.early[end:]
			c.early = nil
			if b.service == short {
				c.pending = make([]byte, answerSize)
				continue
			}
		}
		if b.service == echo {
			c.pending = append([]byte(nil), got...)
		}
	}
}

// skipOpening reads up to the end of the hello, or of the header only.
func skipOpening(c net.Conn, keepHello bool) (rest []byte, err error) {
	var all []byte
	buf := make([]byte, 8192)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		all = append(all, buf[:n]...)
		hello, end, err := opening(all)
		switch {
		case err != nil:
			return nil, err
		case end == 0:
			continue
		case keepHello:
			return all[hello:], nil
		}
		return all[end:], nil
	}
}

func serveFlood(c net.Conn) {
	defer c.Close()
	if _, err := skipOpening(c, false); err != nil {
		return
	}
	b := make([]byte, 256<<10)
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// prefixed is a connection of which some bytes have been read already.
type prefixed struct {
	net.Conn
	early []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.early) > 0 {
		n := copy(b, p.early)
		p.early = p.early[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// tlsServer serves TLS with a certificate of its own making.
func tlsServer() func(net.Conn) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"*.bench.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return func(c net.Conn) {
		defer c.Close()
		early, err := skipOpening(c, true)
		if err != nil {
			return
		}
		s := tls.Server(&prefixed{c, early}, config)
		_, _ = io.CopyBuffer(s, struct{ io.Reader }{s}, make([]byte, 4096))
		_ = s.Close()
	}
}
