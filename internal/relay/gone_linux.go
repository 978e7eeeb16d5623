package relay

import (
	"net"

	"golang.org/x/sys/unix"
)

// stateClose is the kernel's TCP_CLOSE.
const stateClose = 7

// gone tells, of a connection whose stream seems to have ended while the other
// direction is open, whether it was reset. The kernel tells of a reset once:
// when a write has met it, the next read sees only an end.
func gone(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	closed := true
	err = raw.Control(func(fd uintptr) {
		info, infoErr := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		closed = infoErr == nil && info.State == stateClose
	})
	return err != nil || closed
}
