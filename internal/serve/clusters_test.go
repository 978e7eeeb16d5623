package serve_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/certcheck"
	"github.com/postern-net/postern/internal/nodelink"
	"github.com/postern-net/postern/internal/serve"
)

// nodesEnd is the part of a control plane that a node speaks to: it streams
// tables, and keeps what is found of clusters. It refuses the first report.
type nodesEnd struct {
	*httptest.Server
	tables  chan postern.Routes
	found   chan client.ClusterLook
	refused sync.Once
}

func newNodesEnd(t *testing.T) *nodesEnd {
	t.Helper()
	e := &nodesEnd{tables: make(chan postern.Routes, 8), found: make(chan client.ClusterLook, 64)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/nodelink/registrations", func(w http.ResponseWriter, r *http.Request) {
		var n client.NodeRegistration
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil || len(n.EgressRegions) != 1 || n.EgressRegions[0] != "us-east-1" {
			t.Errorf("registered %+v, %v", n, err)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id":"out-a"}`)
	})
	mux.HandleFunc("POST /v1/nodelink/reports", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /v1/nodelink/routes", func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case <-r.Context().Done():
				return
			case table := <-e.tables:
				b, err := json.Marshal(nodelink.Message{Snapshot: &table})
				if err != nil {
					t.Error(err)
				}
				_, _ = w.Write(append(b, '\n'))
				_ = http.NewResponseController(w).Flush()
			}
		}
	})
	mux.HandleFunc("POST /v1/nodelink/clusters", func(w http.ResponseWriter, r *http.Request) {
		var report client.ClusterReport
		if err := json.NewDecoder(r.Body).Decode(&report); err != nil || report.ID != "out-a" || report.SentAt.IsZero() {
			t.Errorf("reported %+v, %v", report, err)
		}
		taken := true
		e.refused.Do(func() { taken = false })
		if !taken {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		for _, c := range report.Clusters {
			e.found <- c
		}
		w.WriteHeader(http.StatusNoContent)
	})
	e.Server = httptest.NewServer(mux)
	return e
}

// next is the next look at a connection that was told of.
func (e *nodesEnd) next(t *testing.T, connection string) client.ClusterLook {
	t.Helper()
	for {
		select {
		case c := <-e.found:
			if c.ConnectionID == connection {
				return c
			}
			t.Errorf("it looks at %+v", c)
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing is told of %s", connection)
		}
	}
}

// An egress node looks at the clusters that its table names, ready or not, from
// where it is; again when somebody asks; and never lets a workload go where it
// only looks.
func TestAnEgressNodeLooksAtClusters(t *testing.T) {
	defer goleak.VerifyNone(t)
	e := newNodesEnd(t)
	defer e.Close()
	dir := t.TempDir()
	certificate(t, dir, net.ParseIP("127.80.0.1"), clusterHost)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "api.crt"), filepath.Join(dir, "api.key"))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	sources := map[string]bool{}
	trino := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		sources[from] = true
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"nodeVersion":{"version":"476"},"environment":"production","coordinator":true,"starting":false,"uptime":"1.00m"}`)
	}))
	trino.Listener.Close()
	trino.Listener = listen(t, "127.80.0.1:0")
	trino.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	trino.StartTLS()
	defer trino.Close()
	at := netip.MustParseAddrPort(trino.Listener.Addr().String())

	proxy, admin := free(t), free(t)
	config := writeOutbound(t, strings.NewReplacer("127.0.0.1:3128", proxy, "127.0.0.1:9090", admin, "http://127.0.0.1:8080", e.URL, "source: 127.0.0.1", "source: 127.80.9.9").
		Replace(onlyEgress[:strings.Index(onlyEgress, "    tenants:")])+"shutdown_timeout: 200ms\n")
	put(t, filepath.Join(filepath.Dir(config), "node.token"), strings.Repeat("s", 40), 0o600)
	c, described, err := serve.LoadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	s := serve.New(c, described, serve.Options{Version: "test", Stdout: io.Discard, Logger: slog.New(slog.DiscardHandler), Clusters: certcheck.Config{
		Networks: []netip.Prefix{netip.MustParsePrefix("127.80.0.0/12")}, Roots: []*x509.Certificate{pair.Leaf},
	}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Stop()

	const token = "0123456789abcdef0123456789abcdef"
	check := postern.ConnectionCheck{
		Kind: postern.KindStarburstTrino, Hostname: clusterHost, Region: "us-east-1", Ports: []uint16{at.Port()}, Addresses: []netip.Addr{at.Addr()}, Every: time.Hour,
	}
	elsewhere := check
	elsewhere.Region = "eu-west-1"
	table := postern.Routes{
		Revision: 1, Hosts: map[string]postern.Host{}, Endpoints: map[string]postern.EndpointGrant{},
		Connections: map[string]postern.ConnectionRoute{clusterHost: {
			ID: "dc_1", Tenant: "example", Organization: "example-corp", Region: "us-east-1", Ports: []uint16{at.Port()}, Reason: postern.ReasonNotVerified, Message: "is about to be looked at",
		}},
		Workloads: map[string]postern.Workload{postern.WorkloadKey([]byte(token)): {Tenant: "example", Organization: "example-corp"}},
		Checks:    map[string]postern.ConnectionCheck{"dc_1": check, "dc_2": elsewhere},
	}
	e.tables <- table
	first := e.next(t, "dc_1")
	// The certificate of a test does not last.
	if first.Of != check.Sum() || len(first.Findings) != 1 || first.Findings[0].Reason != string(postern.ReasonExpiresSoon) || !first.Findings[0].Warning || first.LookedAt.IsZero() {
		t.Errorf("told of a good cluster: %+v", first)
	}
	mu.Lock()
	if len(sources) != 1 || !sources["127.80.9.9"] {
		t.Errorf("looked from %v", sources)
	}
	mu.Unlock()
	if status := connectTo(t, proxy, token, at.Port()); status != "HTTP/1.1 503" {
		t.Errorf("a workload gets %q where the node only looks", status)
	}

	// Somebody asks: the hour is not waited for.
	check.Asked = time.Now().UTC().Truncate(time.Microsecond)
	table.Revision, table.Checks = 2, map[string]postern.ConnectionCheck{"dc_1": check, "dc_2": elsewhere}
	e.tables <- table
	for {
		next := e.next(t, "dc_1")
		if next.Asked.Equal(check.Asked) {
			if !next.LookedAt.After(first.LookedAt) {
				t.Errorf("told %+v after %+v", next, first)
			}
			break
		}
	}
	// The time between two looks passes, and the cluster is not there any more.
	trino.Close()
	check.Every = 10 * time.Millisecond
	table.Revision, table.Checks = 3, map[string]postern.ConnectionCheck{"dc_1": check}
	e.tables <- table
	for {
		next := e.next(t, "dc_1")
		if !next.Findings[0].Warning {
			if next.Findings[0].Reason != string(postern.ReasonUnreachable) {
				t.Errorf("told %+v", next)
			}
			break
		}
	}
	// Nothing is looked at any more: what comes is from before.
	table.Revision, table.Checks = 4, nil
	e.tables <- table
	for quiet := false; !quiet; {
		select {
		case <-e.found:
		case <-time.After(time.Second):
			quiet = true
		}
	}
}

// One look that the control plane refuses, for good, is dropped alone: looks at
// other customers' clusters are told. What it may take later is kept.
func TestARefusedLookIsDroppedAlone(t *testing.T) {
	const most = 7
	names := func(keep func(i int) bool) (out []string) {
		for i := range 20 {
			if keep(i) {
				out = append(out, fmt.Sprintf("dc_%02d", i))
			}
		}
		return out
	}
	bad := func(i int) bool { return i == 3 || i == 4 || i == 19 }
	all, none := names(func(int) bool { return true }), names(func(int) bool { return false })
	for status, c := range map[int]struct{ taken, left []string }{
		http.StatusBadRequest:            {names(func(i int) bool { return !bad(i) }), none},
		http.StatusForbidden:             {names(func(i int) bool { return !bad(i) }), none},
		http.StatusUnprocessableEntity:   {names(func(i int) bool { return !bad(i) }), none},
		http.StatusRequestEntityTooLarge: {all, none},
		http.StatusConflict:              {none, all},
		http.StatusInternalServerError:   {none, all},
		http.StatusUnauthorized:          {none, all},
	} {
		var taken []string
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var report client.ClusterReport
			if err := json.NewDecoder(r.Body).Decode(&report); err != nil || report.ID != "out-a" || report.SentAt.IsZero() {
				t.Errorf("reported %+v, %v", report, err)
			}
			refused := len(report.Clusters) > most
			for _, l := range report.Clusters {
				refused = refused || status != http.StatusRequestEntityTooLarge && slices.Contains(names(bad), l.ConnectionID)
			}
			if refused {
				w.WriteHeader(status)
				return
			}
			for _, l := range report.Clusters {
				taken = append(taken, l.ConnectionID)
			}
			w.WriteHeader(http.StatusNoContent)
		}))
		to, err := client.New(api.URL, client.Options{Token: strings.Repeat("s", 40)})
		if err != nil {
			t.Fatal(err)
		}
		var found []client.ClusterLook
		for _, id := range all {
			found = append(found, client.ClusterLook{ConnectionID: id, LookedAt: time.Now()})
		}
		left := serve.TellClusters(t.Context(), to, slog.New(slog.DiscardHandler), found)
		api.Close()
		if diff := cmp.Diff(c.taken, taken); diff != "" {
			t.Errorf("%d: it took %s", status, diff)
		}
		if diff := cmp.Diff(c.left, left); diff != "" {
			t.Errorf("%d: to be told again: %s", status, diff)
		}
	}
}

// connectTo asks a proxy for the cluster, and returns the answer's first words.
func connectTo(t *testing.T, proxy, token string, port uint16) string {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT %s:%d HTTP/1.1\r\nHost: %s:%d\r\nProxy-Authorization: Bearer %s\r\n\r\n", clusterHost, port, clusterHost, port, token)
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer[:min(len(answer), len("HTTP/1.1 503"))])
}
