package serve_test

import (
	"context"
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
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/certcheck"
	"github.com/postern-net/postern/internal/nodelink"
	"github.com/postern-net/postern/internal/serve"
)

// outbound makes the tests' platform one with data connections.
const outbound = platform + `outbound:
  regions: [us-east-1]
  principal_arn: arn:aws:iam::111122223333:root
`

// onlyEgress is the config of a process that lets workloads out and nothing
// else.
const onlyEgress = `platform: platform.yaml
state_dir: state
roles: [egress]
node:
  id: out-a
  control_url: http://127.0.0.1:8080
  token_file: node.token
admin:
  listen: 127.0.0.1:9090
egress:
  - region: us-east-1
    source: 127.0.0.1
    connect: 127.0.0.1:3128
    tenants:
      - tenant: example
        transparent: ["127.0.0.9:8443"]
        dns: 127.0.0.9:8053
`

// writeOutbound is write, with the platform for it.
func writeOutbound(t *testing.T, config string) string {
	t.Helper()
	path := write(t, config)
	put(t, filepath.Join(filepath.Dir(path), "platform.yaml"), outbound, 0o600)
	return path
}

func TestLoadConfigOfAnEgress(t *testing.T) {
	second := `
      - tenant: globex
        transparent: ["127.0.0.10:8443"]
`
	for _, c := range []struct{ name, old, with, says string }{
		{"as it is", "roles:", "roles:", ""},
		{"with an ingress", "roles: [egress]", "roles: [egress, ingress]\ningress: [{region: us-east-1, private: \"127.0.0.1:1\"}]", ""},
		{"a second tenant", "        dns: 127.0.0.9:8053\n", "        dns: 127.0.0.9:8053" + second, ""},
		{"several ports", `["127.0.0.9:8443"]`, `["127.0.0.9:8443", "127.0.0.9:443"]`, ""},
		{"over TLS", "    connect: 127.0.0.1:3128\n", "    connect: 10.0.0.1:3128\n    certificate_file: a.crt\n    key_file: a.key\n", ""},
		{"in clear text, on purpose", "    connect: 127.0.0.1:3128\n", "    connect: 10.0.0.1:3128\n    clear_text: true\n", ""},
		{"no proxy", "    connect: 127.0.0.1:3128\n", "", ""},

		{"in clear text", "connect: 127.0.0.1:3128", "connect: 10.0.0.1:3128", `:13:14: egress[0].connect: would take tokens in clear text from a network (got "10.0.0.1:3128"); set certificate_file and key_file, or clear_text: true`},
		{"both", "    connect: 127.0.0.1:3128\n", "    connect: 127.0.0.1:3128\n    clear_text: true\n    certificate_file: a\n    key_file: b\n", "egress[0].clear_text: contradicts certificate_file"},
		{"half a pair", "    connect: 127.0.0.1:3128\n", "    connect: 127.0.0.1:3128\n    key_file: b\n", "egress[0].certificate_file: missing; set both"},
		{"a certificate for nothing", "    connect: 127.0.0.1:3128\n", "    certificate_file: a\n    key_file: b\n", "egress[0].connect: missing"},
		{"no listener", onlyEgress[strings.Index(onlyEgress, "    connect"):], "", "egress[0].connect: missing; give the address and port of the proxy, or list tenants"},
		{"no egress", onlyEgress[strings.Index(onlyEgress, "egress:"):], "", "egress: missing; list the regions' ways out"},
		{"without the role", "[egress]", "[ingress]\ningress: [{region: us-east-1, private: \"127.0.0.1:1\"}]", ":11:1: egress: goes with the role egress"},
		{"another region", "region: us-east-1", "region: us-west-2", `:11:13: egress[0].region: not a region of the platform's outbound.regions (got "us-west-2"); use one of us-east-1`},
		{"a region twice", "egress:\n", "egress:\n  - {region: us-east-1, connect: \"127.0.0.1:1\"}\n", "named twice"},
		{"an IPv6 source", "source: 127.0.0.1", `source: "::1"`, "egress[0].source: not an IPv4 address"},
		{"a source that is none", "source: 127.0.0.1", `source: eth0`, "egress[0].source"},
		{"no tenant", "tenant: example", "tenant: \"\"", "egress[0].tenants[0].tenant"},
		{"nothing bound", `        transparent: ["127.0.0.9:8443"]` + "\n", "", "egress[0].tenants[0].transparent: missing"},
		{"bound to every address", "127.0.0.9:8443", "0.0.0.0:8443", "egress[0].tenants[0].transparent[0]: not one IPv4 address"},
		{"bound to two addresses", `["127.0.0.9:8443"]`, `["127.0.0.9:8443", "127.0.0.8:8443"]`, "transparent[1]: another address than the first"},
		{"another tenant's address", "        dns: 127.0.0.9:8053\n", "        dns: 127.0.0.9:8053" + strings.Replace(second, "127.0.0.10:8443", "127.0.0.9:9443", 1), "the address of tenant example too"},
		{"an address twice", "127.0.0.9:8443", "127.0.0.1:3128", "is egress[0].connect too"},
		{"DNS everywhere", "dns: 127.0.0.9:8053", "dns: 0.0.0.0:8053", "egress[0].tenants[0].dns: every address"},
		{"an unknown key", "    source:", "    public_fallback: true\n    source:", "public_fallback: unknown key"},
		{"extra roots", "    source:", "    roots_file: ca.pem\n    source:", "roots_file: unknown key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(onlyEgress, c.old) {
				t.Fatalf("there is no %q to replace", c.old)
			}
			_, _, err := serve.LoadConfig(writeOutbound(t, strings.Replace(onlyEgress, c.old, c.with, 1)))
			if (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

const clusterHost = "starburst.example.com"

// cluster is a TLS server where an endpoint would be.
func cluster(t *testing.T) (at netip.AddrPort, roots *x509.CertPool) {
	t.Helper()
	dir := t.TempDir()
	certificate(t, dir, net.ParseIP("127.80.0.1"), clusterHost)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "api.crt"), filepath.Join(dir, "api.key"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the cluster") }))
	s.Listener.Close()
	s.Listener = listen(t, "127.80.0.1:0")
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	t.Cleanup(s.Close)
	roots = x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	return netip.MustParseAddrPort(s.Listener.Addr().String()), roots
}

// keep writes a route table as a node keeps it.
func keep(t *testing.T, p places, r postern.Routes) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"format": 1, "sum": nodelink.Sum(r), "routes": r})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(p.state, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(p.state, "routes.json"), string(b), 0o600)
}

// An egress that starts without its control plane lets out whom it knew, by
// every listener that its config names.
func TestEgressIsStaticallyStable(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	const token = "0123456789abcdef0123456789abcdef"
	at, roots := cluster(t)
	proxy, admin, names := free(t), free(t), free(t)
	transparent := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), at.Port()).String()
	p := places{admin: admin}
	p.config = writeOutbound(t, strings.NewReplacer("127.0.0.1:3128", proxy, "127.0.0.1:9090", admin, "127.0.0.9:8443", transparent, "127.0.0.9:8053", names).
		Replace(onlyEgress)+"shutdown_timeout: 200ms\n")
	p.state = filepath.Join(filepath.Dir(p.config), "state")
	put(t, filepath.Join(filepath.Dir(p.config), "node.token"), strings.Repeat("s", 40), 0o600)
	keep(t, p, postern.Routes{
		Revision: 7, Hosts: map[string]postern.Host{}, Endpoints: map[string]postern.EndpointGrant{},
		Connections: map[string]postern.ConnectionRoute{clusterHost: {
			ID: "dc_1", Tenant: "example", Organization: "example-corp", Region: "us-east-1", Ports: []uint16{at.Port()}, Addresses: []netip.Addr{at.Addr()}, Ready: true,
		}},
		Workloads: map[string]postern.Workload{postern.WorkloadKey([]byte(token)): {Tenant: "example", Organization: "example-corp"}},
	})
	start := func(networks ...netip.Prefix) *serve.Server {
		c, described, err := serve.LoadConfig(p.config)
		if err != nil {
			t.Fatal(err)
		}
		s := serve.New(c, described, serve.Options{Version: "test", Stdout: io.Discard, Logger: slog.New(slog.DiscardHandler), Clusters: certcheck.Config{Networks: networks}})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Stop)
		return s
	}
	ask := func(way func(*http.Transport)) (string, error) {
		tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
		way(tr)
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://%s:%d/", clusterHost, at.Port()), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: tr, Timeout: 30 * time.Second}).Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	byProxy := func(tr *http.Transport) {
		tr.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: proxy, User: url.UserPassword("", token)})
	}

	// In production, no address of this machine is an endpoint's.
	s := start()
	if body, err := ask(byProxy); err == nil {
		t.Errorf("let out to a loopback address: %q", body)
	}
	s.Stop()

	s = start(netip.MustParsePrefix("127.80.0.0/12"))
	if body, err := ask(byProxy); err != nil || body != "the cluster" {
		t.Errorf("by the proxy: %q, %v", body, err)
	}
	reply, _, err := new(dns.Client).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(clusterHost+".", dns.TypeA), names)
	if err != nil || len(reply.Answer) != 1 || !strings.Contains(reply.Answer[0].String(), "127.0.0.9") {
		t.Errorf("%v, %v", reply, err)
	}
	straight := func(tr *http.Transport) {
		tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, transparent)
		}
	}
	if body, err := ask(straight); err != nil || body != "the cluster" {
		t.Errorf("by the tenant's listener: %q, %v", body, err)
	}
	status, body := get(t, "http://"+admin+"/readyz", "")
	_, metrics := get(t, "http://"+admin+"/metrics", "")
	if status != http.StatusOK || !strings.Contains(metrics, `postern_egress_table_revision{region="us-east-1"} 7`) ||
		!strings.Contains(metrics, `postern_egress_connections_total{listener="connect",region="us-east-1",result="admitted"} 1`) {
		t.Errorf("%d %s\n%s", status, body, metrics)
	}
	s.Stop()
	for _, addr := range []string{proxy, transparent, names, admin} {
		if open(t, addr) {
			t.Errorf("%s is open after Stop", addr)
		}
	}
}

// An egress registers for the platform's outbound regions, as any node.
func TestEgressIsANode(t *testing.T) {
	defer goleak.VerifyNone(t)
	cp := onlyControl(t, lay(t, ""))
	put(t, filepath.Join(filepath.Dir(cp.config), "platform.yaml"), outbound, 0o600)
	controlPlane, _ := started(t, cp)
	defer controlPlane.Stop()
	awaitReady(t, cp)
	p := layNode(t, cp, "http://"+cp.api)
	b, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	proxy := free(t)
	text := string(b)
	text = strings.Replace(text[:strings.Index(text, "ingress:\n")], "[ingress]", "[egress]", 1) +
		"egress: [{region: us-east-1, connect: \"" + proxy + "\"}]\nshutdown_timeout: 200ms\n"
	put(t, p.config, text, 0o600)
	put(t, filepath.Join(filepath.Dir(p.config), "platform.yaml"), outbound, 0o600)
	n, _ := started(t, p)
	defer n.Stop()
	awaitReady(t, p)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\n\r\n", clusterHost, clusterHost)
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 407 ") {
		t.Errorf("%q, %v", answer, err)
	}
}
