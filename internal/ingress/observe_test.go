package ingress_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/ingress"
	"github.com/postern-net/postern/internal/relay"
)

// The log keeps to its rate, of refusals and of the others apart, and tells
// how many it left out.
func TestLogKeepsToItsRate(t *testing.T) {
	t.Parallel()
	log, registry := &lines{}, prometheus.NewRegistry()
	in, err := ingress.New(ingress.Config{
		Region: region, Engine: relay.New(relay.Config{}), Logger: slog.New(slog.NewJSONHandler(log, nil)), LogRate: 1, Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	const refusals = 50
	a := private(exampleID, example)
	for range refusals {
		in.Refused(a, relay.Verdict{Deny: postern.DenyUnknownHost})
	}
	in.Opened(a, relay.Verdict{Organization: "example-corp"})
	in.Flush()
	count := func(msg string) (n, omitted int) {
		for _, m := range log.records(t) {
			if m["msg"] == msg {
				n++
				o, _ := m["omitted"].(float64)
				omitted += int(o)
			}
		}
		return n, omitted
	}
	// A machine may be slow enough for one more in between.
	if n, _ := count("connection refused"); n < 1 || n > 3 {
		t.Errorf("%d of %d refusals logged at one a second", n, refusals)
	}
	if n, _ := count("connection opened"); n != 1 {
		t.Error("a flood of refusals drives out who is admitted")
	}
	eventually(t, func() bool {
		in.Refused(a, relay.Verdict{Deny: postern.DenyUnknownHost})
		in.Flush()
		_, omitted := count("connection refused")
		return omitted >= refusals-3
	})
	values := gather(t, registry)
	if n := values["postern_ingress_log_omitted_total result=refused"]; n < refusals-3 {
		t.Errorf("counted %v", n)
	}
	if n := values["postern_ingress_log_omitted_total result=admitted"]; n != 0 {
		t.Errorf("of admitted ones counted %v", n)
	}
}

// Bytes are counted by tenant, and there are no more series than are good.
func TestTenantBytes(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	in, err := ingress.New(ingress.Config{Region: region, Engine: relay.New(relay.Config{}), Logger: slog.New(slog.DiscardHandler), Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	const tenants = ingress.MaxTenantSeries + 5
	r := large(tenants, 10)
	r.Hosts[request] = postern.Host{Shared: true, RegionBackends: map[string][]netip.AddrPort{region: backends}}
	apply(t, in, r)
	closed := func(host, tenant string, up, down int64) {
		in.Opened(private(id(0), host), relay.Verdict{Tenant: tenant})
		in.Closed(private(id(0), host), relay.Verdict{Tenant: tenant}, relay.Stats{Up: up, Down: down})
	}
	for i := range tenants {
		closed(name(i), fmt.Sprintf("tenant-%07d", i), 1, int64(i))
	}
	in.Withdraw() // what a withdrawal cuts is the tenant's still
	for i := range tenants {
		closed(name(i), fmt.Sprintf("tenant-%07d", i), 1, int64(i))
	}
	closed(request, "", 100, 200)
	closed("nobody.example", "", 1000, 2000)
	got := map[string]float64{}
	for series, v := range gather(t, registry) {
		if rest, ok := strings.CutPrefix(series, "postern_ingress_tenant_bytes_total "); ok {
			got[rest] = v
		}
	}
	if len(got) != 2*(ingress.MaxTenantSeries+1) {
		t.Errorf("%d series", len(got))
	}
	for series, want := range map[string]float64{
		fmt.Sprintf("direction=up tenant=tenant-%07d", 7):   2,
		fmt.Sprintf("direction=down tenant=tenant-%07d", 7): 14,
		"direction=up tenant=_other":                        2*5 + 100 + 1000,
	} {
		if got[series] != want {
			t.Errorf("%s is %v, want %v", series, got[series], want)
		}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never")
		}
	}
}
