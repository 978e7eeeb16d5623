package eni

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// lateBind lets the kernel choose the source port at connect, when it knows
// the peer: otherwise one node address has 28,000 ports for all its targets
// together.
func lateBind(_, _ string, c syscall.RawConn) error {
	var failed error
	if err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}); err != nil {
		return err
	}
	return failed
}
