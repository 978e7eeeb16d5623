package relay

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/proxyproto"
)

// Acceptor is what the engine needs of a *[net.TCPListener].
type Acceptor interface {
	AcceptTCP() (*net.TCPConn, error)
	Addr() net.Addr
	Close() error
}

// Listener is where connections arrive. [Engine.Serve] takes it over and
// closes it.
type Listener struct {
	Acceptor
	Name string // for reports: "private" or "public"
	// Payer is in whose share the connections count, of all its listeners
	// together, where a listener is one tenant's. Default: each client has a
	// share of its own, as [Config] says.
	Payer string
	// ProxyProtocol demands a PROXY protocol header, version 2, ahead of
	// every connection.
	ProxyProtocol bool
	// Sources are the addresses that may send such a header, the load
	// balancer's. With ProxyProtocol and no source everything is refused.
	Sources []netip.Prefix
}

// trusts tells whether a header from this address is to be believed.
func (l *Listener) trusts(a netip.Addr) bool {
	for _, p := range l.Sources {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Arrival is what is known of a connection when it is judged. It does not
// change after that. Fields that were not reached before a refusal are zero.
type Arrival struct {
	Listener string    // the listener's name
	At       time.Time // when it was accepted
	Peer     netip.AddrPort
	Local    netip.AddrPort
	Proxy    proxyproto.Header
	Hello    clienthello.Hello
	// HelloBytes is the hello as it came, with what the client sent behind it.
	// It is there while a hello is judged for the first time and when that is
	// reported to Refused or Opened, and must not be kept.
	HelloBytes []byte
}

// Client is the address that the connection really comes from: what a load
// balancer says, or else the peer.
func (a *Arrival) Client() netip.AddrPort {
	if a.Proxy.Source.IsValid() {
		return a.Proxy.Source
	}
	return a.Peer
}

// Target is the address that the client connected to, as [Arrival.Client].
func (a *Arrival) Target() netip.AddrPort {
	if a.Proxy.Destination.IsValid() {
		return a.Proxy.Destination
	}
	return a.Local
}

// Verdict is what a [Match] decides.
type Verdict struct {
	Deny         postern.Denial   // "" admits
	Cause        error            // what the bytes or the backends did, for the log; nil when Deny says all
	Organization string           // on whose account; "" while unknown
	Tenant       string           // whose traffic it is; "" of a host that organizations share
	Backends     []netip.AddrPort // tried in this order
	// Failed is told of each backend that did not take the connection, unless
	// it is nil. It must not block.
	Failed func(netip.AddrPort)
	// Pinned cuts the connection on a Recheck from when on its backend is none
	// of Backends any more.
	Pinned   bool
	Prologue []byte // sent to the backend ahead of the client's bytes
}

// keeps tells whether a connection may stay with its backend.
func (v *Verdict) keeps(backend netip.AddrPort) bool {
	return !v.Pinned || slices.Contains(v.Backends, backend)
}

// stands tells whether the rules of now would lead a connection to the same
// backend as those of before, as the same.
func (v *Verdict) stands(now *Verdict, backend netip.AddrPort) bool {
	return now.Deny == "" && bytes.Equal(now.Prologue, v.Prologue) && slices.Contains(now.Backends, backend)
}

// Match judges an arrival. It must not block, must not keep or change the
// arrival, may be called from several goroutines at once, and must give the
// same prologue for the same arrival as long as the same rules hold.
type Match func(*Arrival) Verdict

// End says how a relayed connection ended.
type End string

// The ends of a connection.
const (
	EndFinished End = "finished" // both sides closed
	EndReset    End = "reset"    // one side reset it, or is gone
	EndIdle     End = "idle"     // nothing moved for the idle timeout
	EndRevoked  End = "revoked"  // no longer admitted
	EndShutdown End = "shutdown" // the engine was shut down
)

// Stats is what a relayed connection amounted to.
type Stats struct {
	Up       int64         // bytes from the client to the backend, the hello included, the prologue not
	Down     int64         // bytes from the backend to the client
	Duration time.Duration // since it was accepted
	Backend  netip.AddrPort
	End      End
}

// Observer is told what becomes of every connection: either Probed, or
// Refused, or Opened and later Closed, or nothing when the client went away
// before it had asked. Its methods must not block, may be called from several
// goroutines at once, and must neither change nor keep what they point to.
type Observer interface {
	// Probed reports a connection that asked for nothing: a load balancer's
	// health check, or one closed before its first byte.
	Probed(*Arrival)
	// Refused reports a refusal; the verdict's Deny says which.
	Refused(*Arrival, Verdict)
	// Opened reports that client and backend are connected.
	Opened(*Arrival, Verdict)
	// Closed reports the end of what was opened. Of the verdict it gets the
	// organization only.
	Closed(*Arrival, Verdict, Stats)
}
