package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

const (
	firstAcceptPause = 5 * time.Millisecond
	maxAcceptPause   = time.Second
	// acceptLogEvery limits what a machine that is out of descriptors logs.
	acceptLogEvery = 10 * time.Second
)

// pauses is how long to wait before the next try of an accept that failed.
type pauses struct {
	next   time.Duration
	logged time.Time
}

// after notes a failure, logs it unless one was logged just before, and says
// how long to wait.
func (p *pauses) after(err error, ln *Listener, log *slog.Logger) time.Duration {
	p.next = min(max(2*p.next, firstAcceptPause), maxAcceptPause)
	if now := time.Now(); now.Sub(p.logged) >= acceptLogEvery {
		p.logged = now
		log.LogAttrs(context.Background(), slog.LevelError, "cannot accept connections; trying again",
			slog.String("listener", ln.Name), slog.Any("error", err), slog.Duration("pause", p.next))
	}
	return p.next
}

func (p *pauses) over() { p.next = 0 }

// acceptAll accepts until ctx ends, the listener was closed on purpose, or it
// fails for good.
func acceptAll(ctx context.Context, ln *Listener, log *slog.Logger, closed func() bool, admit func(*net.TCPConn)) error {
	var p pauses
	for {
		conn, err := ln.AcceptTCP()
		switch {
		case err == nil:
			p.over()
			admit(conn)
			continue
		case closed():
			return nil
		case !passing(err):
			return fmt.Errorf("relay: %s listener: %w", ln.Name, err)
		}
		select {
		case <-time.After(p.after(err, ln, log)):
		case <-ctx.Done():
			return nil
		}
	}
}

// passing tells errors of accept that another try may not meet: the machine is
// out of descriptors or memory, the client has gone already, or it is what the
// network did to the new connection, which Linux has accept report (accept(2)).
func passing(err error) bool {
	var e syscall.Errno
	return errors.As(err, &e) && slices.Contains(passingErrors, e)
}

var passingErrors = append([]syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR,
	syscall.EPERM, syscall.ENETDOWN, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH,
	syscall.EOPNOTSUPP, syscall.ENETUNREACH,
}, passingHere...)

// addrPort gives IPv4 addresses in their own form, also on a listener for
// both families, so that prefixes match them.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
