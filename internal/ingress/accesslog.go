package ingress

import (
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/accesslog"
	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/relay"
)

// accessLog takes records of connections.
type accessLog struct{ *accesslog.Log[entry] }

// entry is what a record is made of.
type entry struct {
	message      string
	listener     string
	client       netip.AddrPort
	endpoint     string
	host         string
	organization string
	ja4          string
	denial       postern.Denial
	cause        error
	stats        relay.Stats
}

const (
	logOpened  = "connection opened"
	logClosed  = "connection closed"
	logRefused = "connection refused"
)

func newAccessLog(l *slog.Logger, rate int, omitted *prometheus.CounterVec) accessLog {
	return accessLog{accesslog.New(l, rate, [2]accesslog.Counter{
		accesslog.Admitted: omitted.WithLabelValues(resultAdmitted), accesslog.Refused: omitted.WithLabelValues(resultRefused),
	}, (*entry).tell)}
}

// add leaves a record, or counts it as left out.
func (l accessLog) add(k accesslog.Kind, message string, a *relay.Arrival, v relay.Verdict, s *relay.Stats) {
	l.Add(k, message, func() entry {
		e := entry{
			message: message, listener: a.Listener, client: a.Client(), endpoint: a.Proxy.VPCEndpointID,
			host: a.Hello.ServerName, organization: v.Organization, denial: v.Deny, cause: v.Cause,
		}
		if s != nil {
			e.stats = *s
		} else if len(a.HelloBytes) > 0 {
			e.ja4 = clienthello.JA4(a.HelloBytes)
		}
		return e
	})
}

func (e *entry) tell(r *slog.Record) {
	r.AddAttrs(
		slog.String("listener", e.listener),
		slog.String("client", e.client.String()),
		slog.String("vpc_endpoint_id", e.endpoint),
		slog.String("host", e.host),
		slog.String("organization", e.organization),
	)
	if e.ja4 != "" {
		r.AddAttrs(slog.String("ja4", e.ja4))
	}
	switch e.message {
	case logRefused:
		r.AddAttrs(slog.String("reason", string(e.denial)))
		if e.cause != nil {
			r.AddAttrs(slog.String("cause", e.cause.Error()))
		}
	case logClosed:
		r.AddAttrs(
			slog.String("end", string(e.stats.End)),
			slog.String("backend", e.stats.Backend.String()),
			slog.Int64("bytes_up", e.stats.Up),
			slog.Int64("bytes_down", e.stats.Down),
			slog.Duration("duration", e.stats.Duration),
		)
	}
}
