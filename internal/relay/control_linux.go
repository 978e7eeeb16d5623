package relay

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// dialControl prepares a socket that Go is to connect. Go binds it also where no
// source is wanted. The port is chosen when it is known where to, as in sysDial:
// one then serves many, and no search among all that are in use is needed, which
// takes minutes of a processor where there are thousands.
func dialControl(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		setInline(fd)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) // without it is slower
	})
}
