package relay

import (
	"errors"
	"io"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/proxyproto"
)

// maxUnheard bounds the memory, in bytes, in which a loop, or the engine of
// goroutines, keeps hellos that are not complete. It holds thousands of those
// that clients send, and hundreds of the largest.
const maxUnheard = 8 << 20

// peek reads what a connection sends before it can be judged: the PROXY header
// where its listener demands one, and the ClientHello. It owns no bytes. Both
// engines use it, so that they cannot disagree about what they read.
type peek struct {
	arrival Arrival
	headed  bool // the PROXY header has been read, or none is due
	start   int  // where the hello starts
	need    int  // bytes of the hello without which there is no news
}

// progress is what came of looking at a connection's first bytes.
type progress uint8

const (
	more     progress = iota // more bytes are needed
	header                   // the client is known: count it, and look again
	complete                 // the arrival can be judged
	nothing                  // it asks for nothing: a load balancer's health check
	refused                  // the verdict says why
)

// begin says who connected where. The verdict refuses a PROXY header's source
// that is no load balancer, before anything is read.
func (p *peek) begin(ln *Listener) (progress, Verdict) {
	p.headed = !ln.ProxyProtocol
	switch {
	case p.headed:
		return header, Verdict{}
	case !ln.trusts(p.arrival.Peer.Addr()):
		return refused, Verdict{Deny: postern.DenyUntrustedSource}
	}
	return more, Verdict{}
}

// take looks at all bytes that came so far. What is parsed once is parsed
// again only when so much more has come that it can be complete.
func (p *peek) take(b []byte) (progress, Verdict) {
	if !p.headed {
		h, size, err := proxyproto.Parse(b)
		switch {
		case errors.Is(err, proxyproto.ErrIncomplete):
			return more, Verdict{}
		case err != nil:
			return refused, Verdict{Deny: postern.DenyBadProxyHeader, Cause: err}
		case h.Local:
			return nothing, Verdict{}
		}
		p.arrival.Proxy, p.headed, p.start = h, true, size
		return header, Verdict{}
	}
	if len(b) == p.start || len(b)-p.start < p.need {
		return more, Verdict{}
	}
	var err error
	p.arrival.Hello, p.need, err = clienthello.Parse(b[p.start:])
	switch {
	case err == nil:
		return complete, Verdict{}
	case errors.Is(err, clienthello.ErrIncomplete):
		return more, Verdict{}
	case errors.Is(err, clienthello.ErrNotTLS):
		return refused, Verdict{Deny: postern.DenyNotTLS, Cause: err}
	}
	return refused, Verdict{Deny: postern.DenyBadHello, Cause: err}
}

// ended judges a client that ended its stream after so many bytes, before its
// hello was complete.
func (p *peek) ended(have int) (progress, Verdict) {
	switch {
	case have == p.start:
		return nothing, Verdict{}
	case !p.headed:
		return refused, Verdict{Deny: postern.DenyBadProxyHeader, Cause: io.ErrUnexpectedEOF}
	}
	return refused, Verdict{Deny: postern.DenyBadHello, Cause: io.ErrUnexpectedEOF}
}

// late refuses a client that took too long.
func late() Verdict { return Verdict{Deny: postern.DenyHelloTimeout} }

// overloaded refuses a client for which there is no place.
func overloaded() Verdict { return Verdict{Deny: postern.DenyOverload} }
