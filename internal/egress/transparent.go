package egress

import (
	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/relay"
)

// ServeTransparent takes the connections of one tenant's workloads straight,
// without a proxy's request ahead of them: whoever reaches the listener counts
// as that tenant's, so its address must be one that only they reach. The host
// is the server name of the ClientHello, the port that of the listener. All its
// connections are in the tenant's share of the engine's. It blocks as [Engine]
// says.
func (e *Egress) ServeTransparent(ln relay.Acceptor, tenant string) error {
	o := bound{e, tenant}
	return e.engine.Serve(relay.Listener{Acceptor: ln, Name: postern.ListenerTransparent, Payer: tenant}, o.match, o)
}

// bound is a transparent listener's part of an egress.
type bound struct {
	egress *Egress
	tenant string
}

// match judges a connection. What it admits is pinned: it lives as long as the
// endpoint's interface is one of the connection's.
func (o bound) match(a *relay.Arrival) relay.Verdict {
	if a.Hello.ServerName == "" {
		return relay.Verdict{Deny: postern.DenyNoServerName, Organization: o.organization()}
	}
	d := o.decide(a)
	return relay.Verdict{
		Deny: d.Deny, Organization: d.Organization, Backends: o.egress.paths.order(d.Targets), Failed: o.egress.paths.failed, Pinned: true,
	}
}

func (o bound) decide(a *relay.Arrival) Decision {
	return o.egress.Decide(Request{Tenant: o.tenant, Host: a.Hello.ServerName, Port: a.Local.Port()})
}

func (o bound) organization() string {
	if t := o.egress.table.Load(); t != nil {
		return t.organizations[o.tenant]
	}
	return ""
}

func (o bound) visit(a *relay.Arrival, v relay.Verdict) visit {
	if v.Organization == "" {
		v.Organization = o.organization()
	}
	return visit{
		listener: postern.ListenerTransparent, at: a.At, client: a.Peer, tenant: o.tenant, organization: v.Organization,
		host: a.Hello.ServerName, port: a.Local.Port(), connectionID: o.decide(a).ConnectionID,
	}
}

// Probed counts a connection that asked for nothing.
func (o bound) Probed(*relay.Arrival) { o.egress.probed(postern.ListenerTransparent) }

// Refused counts and logs a refusal.
func (o bound) Refused(a *relay.Arrival, v relay.Verdict) {
	o.egress.refused(o.visit(a, v), v.Deny, v.Cause)
}

// Opened counts and logs an admitted connection.
func (o bound) Opened(a *relay.Arrival, v relay.Verdict) { o.egress.opened(o.visit(a, v)) }

// Closed counts and logs the end of an admitted connection.
func (o bound) Closed(a *relay.Arrival, v relay.Verdict, s relay.Stats) {
	o.egress.closed(o.visit(a, v), s)
}
