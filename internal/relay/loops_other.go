//go:build !linux

package relay

const haveEpoll = false

// newLoops is for Linux.
func newLoops(Config, *limits) mover { return nil }
