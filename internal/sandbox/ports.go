package sandbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/postern-net/postern"
)

// Ports that are asked for unless the user says otherwise, and those that are
// taken where the first ones need a privilege or are in use.
const (
	defaultHTTPS, otherHTTPS = 443, 8443
	defaultDNS, otherDNS     = 53, 8053
)

// choosePort finds a port that this process may listen on. An explicit one is
// taken or refused; 0 is any that is free; nil is the default or the other.
func choosePort(ctx context.Context, flag string, asked *uint16, first, other uint16, at netip.Addr) (port uint16, note string, err error) {
	if asked != nil {
		port, err = tryPort(ctx, at, *asked)
		if err != nil {
			return 0, "", &postern.Error{Code: postern.CodeInvalid, Field: flag, Value: fmt.Sprint(*asked), Message: "cannot be used: " + portReason(err, at), Fix: "give another port, or 0 for any that is free"}
		}
		return port, "", nil
	}
	if port, err = tryPort(ctx, at, first); err == nil {
		return port, "", nil
	}
	why := portReason(err, at)
	if port, err = tryPort(ctx, at, other); err == nil {
		return port, fmt.Sprintf("port %d cannot be used (%s); using %d", first, why, other), nil
	}
	return 0, "", &postern.Error{
		Code: postern.CodeUnavailable, Field: flag, Message: fmt.Sprintf("neither port %d (%s) nor %d (%s) can be used", first, why, other, portReason(err, at)),
		Fix: "stop the other sandbox, or give a port that is free, or 0 for any",
	}
}

// given are the addresses that tryPort has chosen: they may not be in use yet.
var given sync.Map

// tryPort tries a port, or with 0 any; another one with each call. That is below
// those that Linux gives to outgoing connections (ip_local_port_range), one of
// which would have it before it is used.
func tryPort(ctx context.Context, at netip.Addr, port uint16) (uint16, error) {
	if port != 0 {
		return port, listen(ctx, netip.AddrPortFrom(at, port))
	}
	const first, ephemeral, tries = 10_000, 32_768, 1000
	var err error
	for range tries {
		a := netip.AddrPortFrom(at, uint16(first+rand.IntN(ephemeral-first))) //nolint:gosec // below 65,536, and no secret
		if err = listen(ctx, a); err != nil {
			continue
		}
		if _, again := given.LoadOrStore(a, true); !again {
			return a.Port(), nil
		}
	}
	return 0, fmt.Errorf("no free port was found: %w", err)
}

// listen does so for a moment, on both TCP and UDP.
func listen(ctx context.Context, at netip.AddrPort) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	pc, err := lc.ListenPacket(ctx, "udp", at.String())
	if err == nil {
		err = pc.Close()
	}
	return errors.Join(err, ln.Close())
}

func portReason(err error, at netip.Addr) string {
	switch {
	case errors.Is(err, syscall.EACCES):
		return "it needs a privilege"
	case errors.Is(err, syscall.EADDRINUSE):
		return "it is in use"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		if at.IsLoopback() {
			return "this system has no address " + loopbackNote
		}
		return fmt.Sprintf("this system has no address %s; every address of the pool must be its own (ip route add local POOL dev lo)", at)
	}
	return err.Error()
}

const loopbackNote = "in 127.0.0.0/8 beyond 127.0.0.1; the sandbox needs Linux"
