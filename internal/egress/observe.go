package egress

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/accesslog"
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
	e.access.Add(accesslog.Refused, logRefused, func() entry { return entry{visit: v, message: logRefused, denial: d, cause: cause} })
}

func (e *Egress) opened(v visit) {
	e.seen.Opened(v.key(""), v.at)
	e.metrics.connections.WithLabelValues(v.listener, resultAdmitted).Inc()
	e.metrics.open.WithLabelValues(v.listener).Inc()
	e.access.Add(accesslog.Admitted, logOpened, func() entry { return entry{visit: v, message: logOpened} })
}

func (e *Egress) closed(v visit, s relay.Stats) {
	e.seen.Closed(v.key(""))
	e.metrics.open.WithLabelValues(v.listener).Dec()
	e.metrics.bytes.WithLabelValues(v.listener, "up").Add(float64(s.Up))
	e.metrics.bytes.WithLabelValues(v.listener, "down").Add(float64(s.Down))
	e.access.Add(accesslog.Admitted, logClosed, func() entry { return entry{visit: v, message: logClosed, stats: s} })
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

// Flush returns when the access log has everything that was told so far.
func (e *Egress) Flush() { e.access.Flush() }

// entry is what a record of the access log is made of.
type entry struct {
	visit
	message string
	denial  postern.Denial
	cause   error
	stats   relay.Stats
}

const (
	logOpened  = "connection opened"
	logClosed  = "connection closed"
	logRefused = "connection refused"
)

func newAccessLog(l *slog.Logger, rate int, omitted *prometheus.CounterVec) *accesslog.Log[entry] {
	return accesslog.New(l, rate, [2]accesslog.Counter{
		accesslog.Admitted: omitted.WithLabelValues(resultAdmitted), accesslog.Refused: omitted.WithLabelValues(resultRefused),
	}, (*entry).tell)
}

func (v *entry) tell(r *slog.Record) {
	r.AddAttrs(
		slog.String("listener", v.listener),
		slog.String("client", v.client.String()),
		slog.String("workload", v.workload),
		slog.String("tenant", v.tenant),
		slog.String("organization", v.organization),
		slog.String("host", v.host),
		slog.Int("port", int(v.port)),
		slog.String("connection_id", v.connectionID),
	)
	switch v.message {
	case logRefused:
		r.AddAttrs(slog.String("reason", string(v.denial)))
		if v.cause != nil {
			r.AddAttrs(slog.String("cause", v.cause.Error()))
		}
	case logClosed:
		r.AddAttrs(
			slog.String("end", string(v.stats.End)),
			slog.String("endpoint", v.stats.Backend.String()),
			slog.Int64("bytes_up", v.stats.Up),
			slog.Int64("bytes_down", v.stats.Down),
			slog.Duration("duration", v.stats.Duration),
		)
	}
}
