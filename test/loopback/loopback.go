// Package loopback gives tests addresses that no other test process uses.
// Packages are tested side by side: a port of 127.0.0.1 that one found free may
// be another's listener, or the source of its connection, a moment later.
package loopback

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
)

// Own is a loopback address of this process alone, where the system has more
// than one; it is outside of the sandbox's pool, 127.80.0.0/12.
func Own() netip.Addr {
	if runtime.GOOS != "linux" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	var at [4]byte
	binary.BigEndian.PutUint32(at[:], 127<<24|96<<16+uint32(os.Getpid())) //nolint:gosec // at most 22 bits (proc(5), pid_max)
	return netip.AddrFrom4(at)
}

// Free is a TCP address of this process on which nobody listens.
func Free(tb testing.TB) netip.AddrPort {
	tb.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(tb.Context(), "tcp", netip.AddrPortFrom(Own(), 0).String())
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}
