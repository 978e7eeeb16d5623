package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-net/postern"
)

// Request is what a workload asks for.
type Request struct {
	Tenant string // whose workload it is
	Host   string // in lower case
	Port   uint16
}

// Decision is what becomes of a request.
type Decision struct {
	Deny         postern.Denial // "" admits
	Reason       postern.Reason // with DenyNotReady: why the connection is not
	Message      string         // for the workload: what is wrong and what to do
	Organization string         // on whose account; "" while unknown
	ConnectionID string         // "" unless it is the tenant's
	// Targets are what may be connected to: the endpoint's interfaces.
	Targets []netip.AddrPort
}

// Decide says what a request leads to: the addresses of the platform's own
// endpoint to a ready connection of the tenant, on a port that it has, in this
// region. Everything else is refused.
func (e *Egress) Decide(r Request) Decision {
	return e.table.Load().decide(e.region, e.networks, r)
}

func (t *table) decide(region string, networks []netip.Prefix, r Request) Decision {
	if t == nil {
		return Decision{Deny: postern.DenyNotReady, Message: "this egress does not know any connection yet; try again in a moment"}
	}
	d := Decision{Organization: t.organizations[r.Tenant]}
	c, ok := t.connections[r.Host]
	if !ok || c.Tenant != r.Tenant || r.Tenant == "" {
		// Another tenant's looks like nobody's.
		d.Deny, d.Message = postern.DenyUnknownHost, "this hostname is no data connection of the workload's tenant; request one, or use the hostname of one that it has"
		return d
	}
	d.ConnectionID = c.ID
	switch {
	case c.Region != region:
		d.Deny, d.Message = postern.DenyWrongRegion, fmt.Sprintf("this connection is served by the egress in %s, and this one is in %s; use that one", c.Region, region)
		return d
	case !slices.Contains(c.Ports, r.Port):
		d.Deny, d.Message = postern.DenyWrongPort, fmt.Sprintf(
			"the connection does not have port %d but %s; use one of those, or request it anew with this one (`postern connections delete %s`, then `postern connections create`)",
			r.Port, ports(c.Ports), c.ID)
		return d
	case !c.Ready:
		d.Deny, d.Reason, d.Message = postern.DenyNotReady, c.Reason, c.Message
		return d
	}
	forbidden := t.void[r.Host]
	for _, a := range c.Addresses {
		// The table was looked through when it came. This is the last place to
		// notice.
		if forbidden == nil {
			forbidden = postern.CheckEndpointAddress("", a, networks...)
		}
		d.Targets = append(d.Targets, netip.AddrPortFrom(a, r.Port))
	}
	if forbidden != nil {
		d.Deny, d.Reason, d.Targets = postern.DenyForbiddenTarget, postern.ReasonForbiddenTarget, nil
		d.Message = "the connection leads to an address that no endpoint has; ask the vendor, whose log names it"
	}
	return d
}

func ports(list []uint16) string {
	text := make([]string, len(list))
	for i, p := range list {
		text[i] = strconv.Itoa(int(p))
	}
	return strings.Join(text, ", ")
}

// identify says whose a credential is; false: nobody's, or no longer.
func (t *table) identify(key string, now time.Time) (postern.Workload, bool) {
	if t == nil {
		return postern.Workload{}, false
	}
	w, ok := t.workloads[key]
	if !ok || !w.ExpiresAt.IsZero() && !now.Before(w.ExpiresAt) {
		return postern.Workload{}, false
	}
	return w, true
}
