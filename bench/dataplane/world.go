//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/postern-net/postern/internal/proxyproto"
)

const (
	endpointID = "vpce-0a1b2c3d4e5f60718"
	backends   = 32 // addresses 127.0.1.1 and up
	sources    = 16 // the client's, 127.0.2.1 and up
	otherHosts = 1000
	helloSize  = 1500 // what a hello with post-quantum key shares takes, at least

	answerSize  = 1024 // of the backend to a short connection
	messageSize = 64
)

// service is what a backend does with a connection, after the hello.
type service struct {
	name string // of its hosts: NAME-N.bench.example
	port uint16
}

var (
	short  = service{"short", 9001} // answers once, and closes when the client does
	echo   = service{"echo", 9002}  // sends back what it gets
	flood  = service{"flood", 9003} // sends as fast as it can
	secure = service{"tls", 9443}   // a TLS server that sends back what it gets
)

func services() []service { return []service{short, echo, flood, secure} }

func (s service) host(i int) string { return fmt.Sprintf("%s-%d.bench.example", s.name, i%backends) }

func (s service) backend(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i%backends + 1)}), s.port) //nolint:gosec // below 256
}

func source(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 2, byte(i%sources + 1)}) } //nolint:gosec // below 256

// header is what the load balancer sends ahead.
func header() []byte {
	return proxyproto.AppendAWS(nil, netip.MustParseAddrPort("10.0.0.5:49153"), netip.MustParseAddrPort("10.1.0.7:443"), endpointID)
}

// sink takes what a TLS client writes first, and then fails it.
type sink struct {
	net.Conn
	out []byte
}

func (s *sink) Write(b []byte) (int, error) { s.out = append(s.out, b...); return len(b), nil }
func (*sink) Read([]byte) (int, error)      { return 0, io.EOF }
func (*sink) Close() error                  { return nil }

// helloFor is the ClientHello of a real client.
func helloFor(host string) ([]byte, error) {
	s := &sink{}
	err := tls.Client(s, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}}).HandshakeContext(context.Background())
	if len(s.out) < helloSize {
		return nil, errors.Join(fmt.Errorf("a hello of %d bytes", len(s.out)), err)
	}
	return s.out, nil
}

// first is what a client of a service sends first.
func (s service) first(i int) ([]byte, error) {
	h, err := helloFor(s.host(i))
	return append(header(), h...), err
}

// opening tells where a backend's connection has its own bytes: behind the
// PROXY header that a proxy may have sent, of either version, and the hello.
// It answers 0 while that is not there yet.
func opening(b []byte) (hello, end int, err error) {
	switch {
	case len(b) < 16:
		return 0, 0, nil
	case b[0] == '\r':
		size, err := proxyproto.Size(b)
		if err != nil {
			return 0, 0, err
		}
		hello = size
	case strings.HasPrefix(string(b[:5]), "PROXY"):
		n := strings.Index(string(b[:min(len(b), 110)]), "\r\n")
		if n < 0 {
			return 0, 0, nil
		}
		hello = n + 2
	}
	if len(b) < hello+5 {
		return 0, 0, nil
	}
	if b[hello] != 0x16 {
		return 0, 0, fmt.Errorf("no hello, but 0x%02x", b[hello])
	}
	end = hello + 5 + int(b[hello+3])<<8 + int(b[hello+4])
	if len(b) < end {
		return 0, 0, nil
	}
	return hello, end, nil
}
