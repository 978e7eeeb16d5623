//go:build unix

package certcheck_test

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/certcheck"
)

// silent is a port that answers nothing: its queue is full, so that the kernel
// drops what comes.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*syscall.SockaddrInet4).Port))
	for range 3 { // the queue's one place, and what the kernel adds to it
		d := net.Dialer{Timeout: 100 * time.Millisecond}
		c, err := d.DialContext(t.Context(), "tcp", at.String())
		if err != nil {
			return at
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("this kernel queues whatever comes")
	return at
}

// However many ports do not answer, who asks gets to know it in seconds, not
// that nothing is known.
func TestSilenceIsAFinding(t *testing.T) {
	t.Parallel()
	target := certcheck.Target{Hostname: host, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	for range postern.MaxConnectionPorts {
		target.Ports = append(target.Ports, silent(t).Port())
	}
	start := time.Now()
	found, err := checker(t).Check(t.Context(), target)
	if err != nil || len(found) != postern.MaxConnectionPorts {
		t.Fatalf("%d findings, %v", len(found), err)
	}
	for _, f := range found {
		if f.Reason != postern.ReasonUnreachable || f.Warning {
			t.Errorf("%+v", f)
		}
	}
	if took := time.Since(start); took > 2*certcheck.Timeout {
		t.Errorf("it took %s", took)
	}
}
