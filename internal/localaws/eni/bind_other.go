//go:build !linux

package eni

import "syscall"

// lateBind has no counterpart outside Linux.
func lateBind(_, _ string, _ syscall.RawConn) error { return nil }
