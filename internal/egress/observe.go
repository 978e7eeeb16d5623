package egress

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/relay"
	"github.com/postern-net/postern/internal/sighting"
)

// visit is what is known of a workload's connection, for the log, the metrics
// and the report.
type visit struct {
	listener     string
	at           time.Time
	client       netip.AddrPort
	tenant       string
	organization string
	workload     string // the beginning of its credential's sum
	host         string
	port         uint16
	connectionID string
}

// refused counts and logs a refusal. A cause is for the log only.
func (e *Egress) refused(v visit, d postern.Denial, cause error) {
	e.sight(v, d)
	e.metrics.connections.WithLabelValues(v.listener, resultRefused).Inc()
	e.metrics.denials.WithLabelValues(v.listener, string(d)).Inc()
	attrs := append(v.attrs(), slog.String("reason", string(d)))
	if cause != nil {
		attrs = append(attrs, slog.String("cause", cause.Error()))
	}
	e.logger.LogAttrs(context.Background(), slog.LevelInfo, "connection refused", attrs...)
}

func (e *Egress) opened(v visit) {
	e.sight(v, "")
	e.seen.Opened(v.key(""))
	e.metrics.connections.WithLabelValues(v.listener, resultAdmitted).Inc()
	e.metrics.open.WithLabelValues(v.listener).Inc()
	e.logger.LogAttrs(context.Background(), slog.LevelInfo, "connection opened", v.attrs()...)
}

func (e *Egress) closed(v visit, s relay.Stats) {
	e.seen.Closed(v.key(""))
	e.metrics.open.WithLabelValues(v.listener).Dec()
	e.metrics.bytes.WithLabelValues(v.listener, "up").Add(float64(s.Up))
	e.metrics.bytes.WithLabelValues(v.listener, "down").Add(float64(s.Down))
	e.logger.LogAttrs(context.Background(), slog.LevelInfo, "connection closed", append(v.attrs(),
		slog.String("end", string(s.End)),
		slog.String("endpoint", s.Backend.String()),
		slog.Int64("bytes_up", s.Up),
		slog.Int64("bytes_down", s.Down),
		slog.Duration("duration", s.Duration),
	)...)
}

// probed counts a connection that asked for nothing.
func (e *Egress) probed(listener string) {
	e.seen.Probe()
	e.metrics.connections.WithLabelValues(listener, resultProbe).Inc()
}

func (e *Egress) sight(v visit, d postern.Denial) { e.seen.Add(v.key(d), v.at) }

func (v visit) key(d postern.Denial) sighting.Key {
	return sighting.Key{Listener: v.listener, Source: v.client.Addr(), Host: v.host, Organization: v.organization, Denial: d}
}

// attrs is what every record of the access log tells.
func (v visit) attrs() []slog.Attr {
	return []slog.Attr{
		slog.String("listener", v.listener),
		slog.String("client", v.client.String()),
		slog.String("workload", v.workload),
		slog.String("tenant", v.tenant),
		slog.String("organization", v.organization),
		slog.String("host", v.host),
		slog.Int("port", int(v.port)),
		slog.String("connection_id", v.connectionID),
	}
}
