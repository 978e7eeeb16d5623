package ingress

import (
	"net/netip"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/proxyproto"
	"github.com/postern-net/postern/internal/relay"
)

func deny(d postern.Denial) relay.Verdict { return relay.Verdict{Deny: d} }

// MatchPrivate judges a connection that came through the region's endpoint
// service: the load balancer must have named an endpoint, the table must grant
// that endpoint in this region, and the host must be among those granted.
func (in *Ingress) MatchPrivate(a *relay.Arrival) relay.Verdict {
	id := a.Proxy.VPCEndpointID
	if id == "" {
		return deny(postern.DenyNoEndpoint)
	}
	t := in.table.Load()
	if t == nil {
		return deny(postern.DenyUnknownEndpoint)
	}
	g := t.grant(id)
	if g == nil {
		return deny(postern.DenyUnknownEndpoint)
	}
	// From here on it is known on whose account a refusal goes.
	organization := t.string(g.organization)
	refuse := func(d postern.Denial) relay.Verdict {
		return relay.Verdict{Deny: d, Organization: organization}
	}
	if t.string(g.region) != in.region {
		return refuse(postern.DenyWrongRegion)
	}
	name := a.Hello.ServerName
	if name == "" {
		return refuse(postern.DenyNoServerName)
	}
	h, number := t.host(name)
	if h == nil {
		return refuse(postern.DenyUnknownHost)
	}
	if !t.grants(g, number) {
		return refuse(postern.DenyNotAuthorized)
	}
	// The table should never grant another organization's host. If it does, this
	// is the last place to notice.
	if h.organization.n > 0 && t.string(h.organization) != organization {
		return refuse(postern.DenyNotAuthorized)
	}
	return admit(a, t.to(h), organization, t.string(h.tenant))
}

// MatchPublic judges a connection that came over the internet: the host must
// be public. One that was open when the host stopped being public may live on
// until the drain's deadline, when it is judged again and cut. One that a load
// balancer says came through an endpoint has no business here.
func (in *Ingress) MatchPublic(a *relay.Arrival) relay.Verdict {
	if a.Proxy.VPCEndpointID != "" {
		return deny(postern.DenyUnknownEndpoint)
	}
	name := a.Hello.ServerName
	if name == "" {
		return deny(postern.DenyNoServerName)
	}
	t := in.table.Load()
	if t == nil {
		return deny(postern.DenyUnknownHost)
	}
	h, _ := t.host(name)
	if h == nil {
		return deny(postern.DenyUnknownHost)
	}
	organization := t.string(h.organization)
	if !h.public && !t.drain(h, a.At) {
		return relay.Verdict{Deny: postern.DenyNotPublic, Organization: organization}
	}
	return admit(a, t.to(h), organization, t.string(h.tenant))
}

// prologueSize holds the header that goes ahead to a backend, nearly always.
const prologueSize = 192

// admit tells the backend what was admitted. On a host that organizations
// share, the organization is that of the endpoint, and the backend decides by
// it.
func admit(a *relay.Arrival, backends []netip.AddrPort, organization, tenant string) relay.Verdict {
	prologue, err := proxyproto.Append(make([]byte, 0, prologueSize), proxyproto.Header{
		Source:        a.Client(),
		Destination:   a.Target(),
		VPCEndpointID: a.Proxy.VPCEndpointID,
		Authority:     a.Hello.ServerName,
		Organization:  organization,
	})
	if err != nil {
		// The table and the parsers let nothing pass that cannot be written.
		return relay.Verdict{Deny: postern.DenyBackendDown, Cause: err, Organization: organization}
	}
	return relay.Verdict{Organization: organization, Tenant: tenant, Backends: backends, Prologue: prologue}
}
