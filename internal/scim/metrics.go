package scim

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
)

// The values of the label "result".
const (
	resultAdmitted = "admitted"
	resultRefused  = "refused"
)

// metrics have labels of closed lists only: nothing that a client sends can make
// a new time series.
type metrics struct {
	connections prometheus.Gauge
	displaced   prometheus.Counter
	requests    *prometheus.CounterVec
	denials     *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	seconds     prometheus.Histogram
	omitted     *prometheus.CounterVec
	revision    prometheus.Gauge
	hosts       prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "postern_scim_open_connections", Help: "Connections that are open, in any state."}),
		displaced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_scim_displaced_connections_total", Help: "Idle connections that were cut because others needed their place.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_scim_requests_total", Help: "Requests, and connections that were refused before their first one, by what became of them.",
		}, []string{"result"}),
		denials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_scim_denials_total", Help: "Refused requests and connections, by reason.",
		}, []string{"reason"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_scim_body_bytes_total", Help: "Bytes of bodies of admitted requests; up is from client to backend.",
		}, []string{"direction"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "postern_scim_request_seconds", Help: "How long admitted requests took, to the end of the answer.", Buckets: []float64{.005, .025, .1, .5, 2, 10, 60},
		}),
		omitted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_scim_log_omitted_total", Help: "Records that the access log left out to keep to its rate.",
		}, []string{"result"}),
		revision: prometheus.NewGauge(prometheus.GaugeOpts{Name: "postern_scim_table_revision", Help: "Revision of the route table in force; 0 while there is none."}),
		hosts:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "postern_scim_hosts", Help: "Hosts that are served."}),
	}
	for _, c := range []prometheus.Collector{m.connections, m.displaced, m.requests, m.denials, m.bytes, m.seconds, m.omitted, m.revision, m.hosts} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	m.requests.WithLabelValues(resultAdmitted)
	m.requests.WithLabelValues(resultRefused)
	for _, d := range denials() {
		m.denials.WithLabelValues(string(d))
	}
	m.bytes.WithLabelValues("up")
	m.bytes.WithLabelValues("down")
	return m, nil
}

// denials are those that this ingress can give.
func denials() []postern.Denial {
	return []postern.Denial{
		postern.DenyNotTLS, postern.DenyNoServerName, postern.DenyUnknownHost, postern.DenyWrongRegion, postern.DenyHelloTimeout,
		postern.DenyBackendDown, postern.DenyOverload, postern.DenySource, postern.DenyTLS, postern.DenyBadRequest, postern.DenyHost,
		postern.DenyMethod, postern.DenyPath, postern.DenyTooLarge, postern.DenyRate, postern.DenySlowBody,
	}
}
