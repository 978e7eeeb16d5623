package egress

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
)

// The values of the label "result".
const (
	resultAdmitted = "admitted"
	resultRefused  = "refused"
	resultProbe    = "probe"
)

// metrics have labels of closed lists only: nothing that a workload sends can
// make a new time series.
type metrics struct {
	connections *prometheus.CounterVec
	denials     *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	open        *prometheus.GaugeVec
	names       *prometheus.CounterVec
	omitted     *prometheus.CounterVec
	revision    prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_egress_connections_total", Help: "Connections, by listener and by what became of them.",
		}, []string{"listener", "result"}),
		denials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_egress_denials_total", Help: "Refused connections, by listener and reason.",
		}, []string{"listener", "reason"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_egress_bytes_total", Help: "Bytes of closed connections; up is from workload to cluster.",
		}, []string{"listener", "direction"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "postern_egress_open_connections", Help: "Admitted connections that are open.",
		}, []string{"listener"}),
		names: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_egress_dns_answers_total", Help: "Answers to DNS queries, by response code.",
		}, []string{"rcode"}),
		omitted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_egress_log_omitted_total", Help: "Records that the access log left out to keep to its rate.",
		}, []string{"result"}),
		revision: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "postern_egress_table_revision", Help: "Revision of the route table in force; 0 while there is none.",
		}),
	}
	for _, c := range []prometheus.Collector{m.connections, m.denials, m.bytes, m.open, m.names, m.omitted, m.revision} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	// Every series exists from the start, so that rates are right from the
	// first connection on.
	for _, l := range []string{postern.ListenerConnect, postern.ListenerTransparent} {
		for _, result := range []string{resultAdmitted, resultRefused, resultProbe} {
			m.connections.WithLabelValues(l, result)
		}
		for _, d := range postern.Denials() {
			m.denials.WithLabelValues(l, string(d))
		}
		m.bytes.WithLabelValues(l, "up")
		m.bytes.WithLabelValues(l, "down")
		m.open.WithLabelValues(l)
	}
	return m, nil
}
