package nameserver

import (
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// The values of the label "transport".
const (
	transportUDP = "udp"
	transportTCP = "tcp"
)

// metrics have labels of closed lists only: nothing that a client sends can
// make a new time series.
type metrics struct {
	queries   *prometheus.CounterVec
	discarded *prometheus.CounterVec
	truncated prometheus.Counter
	open      prometheus.Gauge
	turned    prometheus.Counter
	revision  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_dns_queries_total", Help: "Queries that were answered, by transport and response code.",
		}, []string{"transport", "rcode"}),
		discarded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_dns_discarded_total", Help: "Messages that are no queries and get no answer, by transport.",
		}, []string{"transport"}),
		truncated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_dns_truncated_total", Help: "Answers by UDP that told the client to ask again by TCP.",
		}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "postern_dns_open_connections", Help: "TCP connections that are open.",
		}),
		turned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_dns_refused_connections_total", Help: "TCP connections that were closed at once because there were too many.",
		}),
		revision: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "postern_dns_zones_revision", Help: "Revision of the zones in force; 0 while there are none.",
		}),
	}
	for _, c := range []prometheus.Collector{m.queries, m.discarded, m.truncated, m.open, m.turned, m.revision} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	// Every series exists from the start, so that rates are right from the
	// first query on.
	for _, t := range []string{transportUDP, transportTCP} {
		for _, rcode := range rcodes() {
			m.queries.WithLabelValues(t, rcodeName(rcode))
		}
		m.discarded.WithLabelValues(t)
	}
	return m, nil
}

// rcodes are the response codes that this server uses.
func rcodes() []int {
	return []int{
		dns.RcodeSuccess, dns.RcodeFormatError, dns.RcodeServerFailure, dns.RcodeNameError,
		dns.RcodeNotImplemented, dns.RcodeRefused, dns.RcodeBadVers,
	}
}

func rcodeName(rcode int) string {
	if rcode == dns.RcodeBadVers {
		return "BADVERS" // the library's table has BADSIG, which is the same number in TSIG
	}
	return dns.RcodeToString[rcode]
}
