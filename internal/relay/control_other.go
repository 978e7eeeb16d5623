//go:build !linux

package relay

import "syscall"

// dialControl prepares a socket that Go is to connect.
func dialControl(network, address string, c syscall.RawConn) error {
	return urgentInline(network, address, c)
}
