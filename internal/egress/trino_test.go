package egress_test

import (
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/trinodb/trino-go-client/trino"

	"github.com/postern-net/postern"
	standin "github.com/postern-net/postern/internal/sandbox/trino"
)

// Trino's own client runs a query by each way out, with verification on.
func TestTrino(t *testing.T) {
	w := newWorld(t)
	at := netip.MustParseAddr("127.80.1.4")
	const host = "galaxy.example.com"
	cluster, err := standin.Start(t.Context(), netip.AddrPortFrom(at, w.port), "example-lake", w.authority.server(t, host), slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(cluster.Close)
	w.apply(t, func(r *postern.Routes) {
		r.Connections[host] = postern.ConnectionRoute{ID: "dc_trino", Tenant: "example", Organization: "example-corp", Region: region, Ports: []uint16{w.port}, Addresses: []netip.Addr{at}, Ready: true}
	})
	query := func(name string, c *http.Client) (one int, lake string, rows int, err error) {
		key := strings.ReplaceAll(t.Name()+" "+name, " ", "-")
		must(t, trino.RegisterCustomClient(key, c))
		defer trino.DeregisterCustomClient(key)
		db, err := sql.Open("trino", fmt.Sprintf("https://workload@%s:%d?custom_client=%s", host, w.port, key))
		must(t, err)
		defer db.Close()
		if err := db.QueryRowContext(t.Context(), "SELECT 1").Scan(&one); err != nil {
			return 0, "", 0, err
		}
		if err := db.QueryRowContext(t.Context(), "SELECT current_catalog").Scan(&lake); err != nil {
			return 0, "", 0, err
		}
		many, err := db.QueryContext(t.Context(), "SELECT * FROM UNNEST(SEQUENCE(1, 2500))")
		if err != nil {
			return 0, "", 0, err
		}
		defer many.Close()
		for many.Next() {
			rows++
		}
		return one, lake, rows, many.Err()
	}
	for name, c := range map[string]*http.Client{
		"by the proxy": w.byBearer(t, exampleToken), "with a password": w.byBasic(t, exampleToken), "straight": w.client(t, nil, w.example),
	} {
		one, lake, rows, err := query(name, c)
		if err != nil || one != 1 || lake != "example-lake" || rows != 2500 {
			t.Errorf("%s: %d, %q, %d rows, %v", name, one, lake, rows, err)
		}
	}
	before := cluster.Statements()
	for name, c := range map[string]*http.Client{
		"another tenant, by the proxy": w.byBearer(t, globexToken), "another tenant, straight": w.client(t, nil, w.globex), "nobody": w.byBearer(t, "x"),
	} {
		if _, _, _, err := query(name, c); err == nil {
			t.Errorf("%s runs a query", name)
		}
	}
	if cluster.Statements() != before {
		t.Error("a statement of a stranger reached the cluster")
	}
	// Replaced by a bad one, the certificate stops the client by itself.
	cluster.Present(newAuthority(t).server(t, host))
	if _, _, _, err := query("a bad certificate", w.byBearer(t, exampleToken)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a bad certificate: %v", err)
	}
}
