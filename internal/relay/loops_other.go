//go:build !linux

package relay

import "syscall"

const haveEpoll = false

// passingHere is for Linux.
var passingHere []syscall.Errno

// newLoops is for Linux.
func newLoops(Config, *limits) mover { return nil }
