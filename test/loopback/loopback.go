// Package loopback gives tests addresses that no other test process uses.
// Packages are tested side by side: a port of 127.0.0.1 that one found free may
// be another's listener, or the source of its connection, a moment later.
package loopback

import (
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
	pid := os.Getpid() // at most 22 bits (proc(5), pid_max)
	return netip.AddrFrom4([4]byte{127, byte(96 + pid>>16&63), byte(pid >> 8), byte(pid)})
}

// Free is a TCP address of this process on which nobody listens.
func Free(tb testing.TB) netip.AddrPort {
	tb.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(tb.Context(), "tcp", netip.AddrPortFrom(Own(), 0).String())
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck // its address is all that is wanted of it
	return ln.Addr().(*net.TCPAddr).AddrPort()
}
