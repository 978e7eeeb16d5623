package ingress

import (
	"github.com/postern-net/postern/internal/accesslog"
	"github.com/postern-net/postern/internal/relay"
)

// Probed counts a health check or a connection that asked for nothing.
func (in *Ingress) Probed(a *relay.Arrival) {
	in.seen.Probe()
	in.metrics.of(a).probes.Inc()
}

// Refused counts and logs a refusal, on the account of the organization whose
// endpoint it came through, also where it was refused before it was matched:
// who owns the endpoint is who can mend its clients.
func (in *Ingress) Refused(a *relay.Arrival, v relay.Verdict) {
	if v.Organization == "" {
		v.Organization = in.owner(a.Proxy.VPCEndpointID)
	}
	in.sight(keyOf(a, v.Organization, v.Deny), a)
	m := in.metrics.of(a)
	m.refused.Inc()
	m.denials[v.Deny].Inc()
	in.access.add(accesslog.Refused, logRefused, a, v, nil)
}

// owner is the organization that a VPC endpoint is granted to, in any region;
// "" while the table knows none.
func (in *Ingress) owner(endpoint string) string {
	t := in.table.Load()
	if t == nil || endpoint == "" {
		return ""
	}
	if g := t.grant(endpoint); g != nil {
		return t.string(g.organization)
	}
	return ""
}

// Opened counts and logs an admitted connection.
func (in *Ingress) Opened(a *relay.Arrival, v relay.Verdict) {
	in.sightOpened(a, v.Organization)
	m := in.metrics.of(a)
	m.admitted.Inc()
	m.open.Inc()
	in.access.add(accesslog.Admitted, logOpened, a, v, nil)
}

// Closed counts and logs the end of an admitted connection.
func (in *Ingress) Closed(a *relay.Arrival, v relay.Verdict, s relay.Stats) {
	in.sightClosed(a, v.Organization)
	m := in.metrics.of(a)
	m.open.Dec()
	m.up.Add(float64(s.Up))
	m.down.Add(float64(s.Down))
	// Whose it was when it was admitted: the table may know the host no more.
	in.metrics.tenants.add(v.Tenant, s.Up, s.Down)
	in.access.add(accesslog.Admitted, logClosed, a, v, &s)
}

// Flush returns when the access log has everything that was told so far.
func (in *Ingress) Flush() { in.access.Flush() }
