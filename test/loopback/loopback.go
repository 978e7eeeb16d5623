// Package loopback gives tests addresses that no other test process uses.
// Packages are tested side by side: a port of 127.0.0.1 that one found free may
// be another's listener, or the source of its connection, a moment later.
package loopback

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
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

// given are the addresses that Port has answered and may not have been used yet.
var given sync.Map

// Port is a port of an address on which nobody listens, neither TCP nor UDP,
// another one with each call. It is below those that Linux gives to outgoing
// connections (ip_local_port_range), one of which would have it before it is used.
func Port(ctx context.Context, at netip.Addr) (uint16, error) {
	const first, ephemeral = 10_000, 32_768
	var lc net.ListenConfig
	var err error
	for range 1000 {
		a := netip.AddrPortFrom(at, uint16(first+rand.IntN(ephemeral-first))) //nolint:gosec // below 65,536, and no secret
		var ln net.Listener
		if ln, err = lc.Listen(ctx, "tcp", a.String()); err != nil {
			continue
		}
		var pc net.PacketConn
		if pc, err = lc.ListenPacket(ctx, "udp", a.String()); err == nil {
			err = pc.Close()
		}
		if err = errors.Join(err, ln.Close()); err != nil {
			continue
		}
		if _, again := given.LoadOrStore(a, true); !again {
			return a.Port(), nil
		}
	}
	return 0, fmt.Errorf("loopback: no port of %v is free: %w", at, err)
}

// MustPort is Port in a test.
func MustPort(tb testing.TB, at netip.Addr) uint16 {
	tb.Helper()
	port, err := Port(tb.Context(), at)
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// Free is a TCP address of this process on which nobody listens, another one
// with each call.
func Free(tb testing.TB) netip.AddrPort {
	tb.Helper()
	return netip.AddrPortFrom(Own(), MustPort(tb, Own()))
}
