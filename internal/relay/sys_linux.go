package relay

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the loops. All but wait are on descriptors that do not
// block, so they are raw: the scheduler is not told, which costs a tenth of a
// short connection otherwise.

func sysRead(fd int32, b []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), e
}

// sysSend writes without waiting, and without the signal that a closed socket
// is good for.
func sysSend(fd int32, b []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
	return int(n), e
}

func sysSplice(from, to int32, n int) (int, syscall.Errno) {
	r, _, e := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	return int(r), e
}

func sysClose(fd int32) { _, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func sysShutdown(fd int32) syscall.Errno {
	_, _, e := syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return e
}

// sysSet sets an option. It can fail for a wrong one only.
func sysSet(fd int32, level, option uintptr, value int32) {
	_, _, _ = syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), level, option, uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
}

// sysReset closes a socket so that its peer sees a reset, not an end.
func sysReset(fd int32) {
	now := unix.Linger{Onoff: 1}
	_, _, _ = syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&now)), unsafe.Sizeof(now), 0)
	sysClose(fd)
}

// sysFault takes the error that is pending on a socket.
func sysFault(fd int32) syscall.Errno {
	v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return syscall.ECONNRESET
	}
	return syscall.Errno(v)
}

func sysAccept(listener int32) (int32, netip.AddrPort, syscall.Errno) {
	var sa unix.RawSockaddrInet6 // fits both families
	size := uint32(unsafe.Sizeof(sa))
	fd, _, e := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return -1, netip.AddrPort{}, e
	}
	return int32(fd), fromSockaddr(&sa), 0
}

// sysLocal is the address that a connection was made to.
func sysLocal(fd int32) netip.AddrPort {
	var sa unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	if _, _, e := syscall.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); e != 0 {
		return netip.AddrPort{}
	}
	return fromSockaddr(&sa)
}

// fromSockaddr gives IPv4 addresses in their own form, as addrPort does.
func fromSockaddr(sa *unix.RawSockaddrInet6) netip.AddrPort {
	switch sa.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), swap(v4.Port))
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), swap(sa.Port))
	}
	return netip.AddrPort{}
}

// swap changes a port between the network's order of bytes and the machine's.
func swap(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// sysDial makes a socket that is connecting, from an IPv4 address unless that is
// the zero one; EINPROGRESS is no error.
func sysDial(from netip.Addr, to netip.AddrPort) (int32, syscall.Errno) {
	family := unix.AF_INET
	if to.Addr().Is6() && !to.Addr().Is4In6() {
		family = unix.AF_INET6
	}
	r, _, e := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if e != 0 {
		return -1, e
	}
	fd := int32(r)
	sysSet(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	// The acknowledgement of the handshake rides on the first bytes.
	sysSet(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	if from.Is4() && family == unix.AF_INET {
		// The port is chosen when it is known where to, so that one serves many.
		sysSet(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: from.As4()}
		if _, _, e := syscall.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa)); e != 0 {
			sysClose(fd)
			return -1, e
		}
	}
	if family == unix.AF_INET {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: swap(to.Port()), Addr: to.Addr().Unmap().As4()}
		_, _, e = syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	} else {
		sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: swap(to.Port()), Addr: to.Addr().As16()}
		_, _, e = syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	}
	if e != 0 && e != syscall.EINPROGRESS {
		sysClose(fd)
		return -1, e
	}
	return fd, 0
}

// token is what an event carries: who it is for.
type token struct{ low, high int32 }

func sysControl(epoll int32, operation uintptr, fd int32, events uint32, t token) syscall.Errno {
	ev := unix.EpollEvent{Events: events, Fd: t.low, Pad: t.high}
	_, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), operation, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	return e
}

// sysPoll fetches the events that are there.
func sysPoll(epoll int32, events []unix.EpollEvent) int {
	n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}

// sysWait waits for events for some milliseconds at most. It blocks, so the
// scheduler is told.
func sysWait(epoll int32, events []unix.EpollEvent, ms int) int {
	n, _, e := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(ms), 0, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}
