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
	"sync"
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

// given are the ports that Free has answered: the system may offer one again.
var given sync.Map

// Free is a TCP address of this process on which nobody listens, another one
// with each call.
func Free(tb testing.TB) netip.AddrPort {
	tb.Helper()
	for {
		var lc net.ListenConfig
		ln, err := lc.Listen(tb.Context(), "tcp", netip.AddrPortFrom(Own(), 0).String())
		if err != nil {
			tb.Fatal(err)
		}
		at := ln.Addr().(*net.TCPAddr).AddrPort()
		_ = ln.Close() // its address is all that is wanted of it
		if _, again := given.LoadOrStore(at, true); !again {
			return at
		}
	}
}
