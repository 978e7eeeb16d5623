package ingress

import (
	"context"
	"log/slog"

	"github.com/postern-net/postern/internal/relay"
)

// Probed counts a health check or a connection that asked for nothing.
func (in *Ingress) Probed(a *relay.Arrival) {
	in.report.probe()
	in.metrics.connections.WithLabelValues(a.Listener, resultProbe).Inc()
}

// Refused counts and logs a refusal, on the account of the organization whose
// endpoint it came through, also where it was refused before it was matched:
// who owns the endpoint is who can mend its clients.
func (in *Ingress) Refused(a *relay.Arrival, v relay.Verdict) {
	if v.Organization == "" {
		v.Organization = in.owner(a.Proxy.VPCEndpointID)
	}
	in.report.add(a, v.Organization, v.Deny)
	in.metrics.connections.WithLabelValues(a.Listener, resultRefused).Inc()
	in.metrics.denials.WithLabelValues(a.Listener, string(v.Deny)).Inc()
	attrs := append(access(a, v), slog.String("reason", string(v.Deny)))
	if v.Cause != nil {
		attrs = append(attrs, slog.String("cause", v.Cause.Error()))
	}
	in.logger.LogAttrs(context.Background(), slog.LevelInfo, "connection refused", attrs...)
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
	in.report.opened(a, v.Organization)
	in.metrics.connections.WithLabelValues(a.Listener, resultAdmitted).Inc()
	in.metrics.open.WithLabelValues(a.Listener).Inc()
	in.logger.LogAttrs(context.Background(), slog.LevelInfo, "connection opened", access(a, v)...)
}

// Closed counts and logs the end of an admitted connection.
func (in *Ingress) Closed(a *relay.Arrival, v relay.Verdict, s relay.Stats) {
	in.report.closed(a, v.Organization)
	in.metrics.open.WithLabelValues(a.Listener).Dec()
	in.metrics.bytes.WithLabelValues(a.Listener, "up").Add(float64(s.Up))
	in.metrics.bytes.WithLabelValues(a.Listener, "down").Add(float64(s.Down))
	in.logger.LogAttrs(context.Background(), slog.LevelInfo, "connection closed", append(access(a, v),
		slog.String("end", string(s.End)),
		slog.String("backend", s.Backend.String()),
		slog.Int64("bytes_up", s.Up),
		slog.Int64("bytes_down", s.Down),
		slog.Duration("duration", s.Duration),
	)...)
}

// access is what every record of the access log tells.
func access(a *relay.Arrival, v relay.Verdict) []slog.Attr {
	return []slog.Attr{
		slog.String("listener", a.Listener),
		slog.String("client", a.Client().String()),
		slog.String("vpc_endpoint_id", a.Proxy.VPCEndpointID),
		slog.String("host", a.Hello.ServerName),
		slog.String("organization", v.Organization),
	}
}
