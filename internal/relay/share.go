package relay

import (
	"errors"
	"net/netip"

	"github.com/postern-net/postern"
)

// payer is whose share of the connections a connection counts in: the VPC
// endpoint that it came through, or else the client's address.
type payer struct {
	endpoint string
	source   netip.Prefix
}

// errOverShare is a connection that was refused because its payer has too
// many.
var errOverShare = errors.New("more connections than the client's share")

// payerOf tells who pays. One who has an IPv6 address has 2^64 of them.
func payerOf(a *Arrival) payer {
	if id := a.Proxy.VPCEndpointID; id != "" {
		return payer{endpoint: id}
	}
	bits := 32
	client := a.Client().Addr().Unmap().WithZone("")
	if client.Is6() {
		bits = 64
	}
	source, err := client.Prefix(bits)
	if err != nil {
		return payer{} // a header without an address; these share one share
	}
	return payer{source: source}
}

// claim counts the session in its payer's share, as soon as it is known who
// that is. Over the share it refuses the connection and answers false: one
// client that floods a listener must not shut it for the others, not even by
// the connections on which it is told so.
func (s *session) claim() bool {
	e, p := s.engine, payerOf(&s.arrival)
	e.mu.Lock()
	if e.shares[p] < e.config.MaxPerClient {
		e.shares[p]++
		s.payer, s.counted = p, true
		e.mu.Unlock()
		return true
	}
	s.lingers = e.lingering < maxLingering
	if s.lingers {
		e.lingering++
	}
	lingers := s.lingers
	e.mu.Unlock()
	if lingers {
		s.refuse(Verdict{Deny: postern.DenyOverload})
	} else {
		s.refuseAtOnce()
	}
	return false
}

// release takes a session out of its payer's share. The caller holds e.mu.
func (e *Engine) release(s *session) {
	if !s.counted {
		return
	}
	if e.shares[s.payer]--; e.shares[s.payer] == 0 {
		delete(e.shares, s.payer)
	}
}
