package ingress

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/relay"
)

// The values of the label "result".
const (
	resultAdmitted = "admitted"
	resultRefused  = "refused"
	resultProbe    = "probe"
)

// metrics have labels of closed lists only, and of tenants, which only the
// route table makes: nothing that a client sends can make a new time series.
type metrics struct {
	private, public *doorMetrics
	tenants         *tenantBytes
	omitted         *prometheus.CounterVec
	revision        prometheus.Gauge
}

// doorMetrics are one listener's, looked up once.
type doorMetrics struct {
	admitted, refused, probes, up, down prometheus.Counter
	open                                prometheus.Gauge
	denials                             map[postern.Denial]prometheus.Counter
}

func (m *metrics) of(a *relay.Arrival) *doorMetrics {
	if a.Listener == Private {
		return m.private
	}
	return m.public
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	connections := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_ingress_connections_total", Help: "Connections, by listener and by what became of them.",
	}, []string{"listener", "result"})
	denials := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_ingress_denials_total", Help: "Refused connections, by listener and reason.",
	}, []string{"listener", "reason"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_ingress_bytes_total", Help: "Bytes of closed connections; up is from client to backend.",
	}, []string{"listener", "direction"})
	open := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "postern_ingress_open_connections", Help: "Admitted connections that are open.",
	}, []string{"listener"})
	omitted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_ingress_log_omitted_total", Help: "Records that the access log left out to keep to its rate.",
	}, []string{"result"})
	m := &metrics{
		omitted: omitted,
		tenants: newTenantBytes(),
		revision: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "postern_ingress_table_revision", Help: "Revision of the route table in force; 0 while there is none.",
		}),
	}
	for _, c := range []prometheus.Collector{connections, denials, bytes, open, omitted, m.tenants, m.revision} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	// Every series exists from the start, so that rates are right from the
	// first connection on.
	of := func(listener string) *doorMetrics {
		d := &doorMetrics{
			admitted: connections.WithLabelValues(listener, resultAdmitted),
			refused:  connections.WithLabelValues(listener, resultRefused),
			probes:   connections.WithLabelValues(listener, resultProbe),
			up:       bytes.WithLabelValues(listener, "up"),
			down:     bytes.WithLabelValues(listener, "down"),
			open:     open.WithLabelValues(listener),
			denials:  map[postern.Denial]prometheus.Counter{},
		}
		for _, why := range postern.Denials() {
			d.denials[why] = denials.WithLabelValues(listener, string(why))
		}
		return d
	}
	m.private, m.public = of(Private), of(Public)
	return m, nil
}

const (
	// MaxTenantSeries bounds the tenants that have a series of their own: the
	// first so many that have traffic.
	MaxTenantSeries = 1000
	// noTenant is the label of all other bytes. No tenant is called so, for it
	// is no DNS label.
	noTenant = "_other"
)

// tenantBytes counts bytes by tenant, with a bound on the tenants.
type tenantBytes struct {
	desc  *prometheus.Desc
	other byteCount

	mu   sync.RWMutex
	each map[string]*byteCount
}

type byteCount struct{ up, down atomic.Int64 }

func newTenantBytes() *tenantBytes {
	return &tenantBytes{
		desc: prometheus.NewDesc("postern_ingress_tenant_bytes_total",
			"Bytes of closed connections by tenant; \"_other\" are hosts that organizations share, and tenants beyond the first thousand.",
			[]string{"tenant", "direction"}, nil),
		each: map[string]*byteCount{},
	}
}

func (t *tenantBytes) add(tenant string, up, down int64) {
	c := t.of(tenant)
	c.up.Add(up)
	c.down.Add(down)
}

func (t *tenantBytes) of(tenant string) *byteCount {
	if tenant == "" {
		return &t.other
	}
	t.mu.RLock()
	c, full := t.each[tenant], len(t.each) >= MaxTenantSeries
	t.mu.RUnlock()
	switch {
	case c != nil:
		return c
	case full:
		return &t.other
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c = t.each[tenant]; c == nil && len(t.each) < MaxTenantSeries {
		c = &byteCount{}
		t.each[strings.Clone(tenant)] = c // not a part of a table that will be replaced
	}
	if c == nil {
		return &t.other
	}
	return c
}

// Describe is prometheus.Collector's.
func (t *tenantBytes) Describe(to chan<- *prometheus.Desc) { to <- t.desc }

// Collect is prometheus.Collector's.
func (t *tenantBytes) Collect(to chan<- prometheus.Metric) {
	send := func(tenant string, c *byteCount) {
		to <- prometheus.MustNewConstMetric(t.desc, prometheus.CounterValue, float64(c.up.Load()), tenant, "up")
		to <- prometheus.MustNewConstMetric(t.desc, prometheus.CounterValue, float64(c.down.Load()), tenant, "down")
	}
	send(noTenant, &t.other)
	t.mu.RLock()
	defer t.mu.RUnlock()
	for tenant, c := range t.each {
		send(tenant, c)
	}
}
