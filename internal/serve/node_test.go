package serve_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/serve"
	"github.com/postern-net/postern/test/loopback"
)

// onlyIngress is the config of a process that is a node and nothing else.
const onlyIngress = `platform: platform.yaml
state_dir: state
roles: [ingress]
node:
  id: node-a
  control_url: http://127.0.0.1:8080
  token_file: node.token
admin:
  listen: 127.0.0.1:9090
ingress:
  - region: us-east-1
    private: 127.0.0.1:8443
    public: 127.0.0.1:8444
`

func TestLoadConfigOfANode(t *testing.T) {
	for _, c := range []struct{ name, old, with, says string }{
		{"as it is", "roles:", "roles:", ""},
		{"over https", "http://127.0.0.1:8080", "https://postern.acme.example:8443\n  ca_file: ca.pem", ""},
		{"with a section of zero values", "roles:", "api: {listen: \"\"}\nroles:", ""},
		{"no id", "  id: node-a\n", "", "node.id: missing; use 1 to 63 lower-case letters"},
		{"no label", "node-a", "Node A", `:5:7: node.id: not usable as a DNS label`},
		{"no control_url", "  control_url: http://127.0.0.1:8080\n", "", "node.control_url: missing"},
		{"clear text over a network", "127.0.0.1:8080", "10.0.0.1:8080", `:6:16: node.control_url: not an https URL, nor an http one of a loopback address (got "http://10.0.0.1:8080")`},
		{"no URL", "http://127.0.0.1:8080", "postern", `:6:16: node.control_url: not an https URL`},
		{"no token", "  token_file: node.token\n", "", "node.token_file: missing; name a file"},
		{"an API", "roles:", "api: {listen: \"127.0.0.1:1\"}\nroles:", ":3:1: api: goes with the role control"},
		{"AWS", "roles:", "aws: {endpoint_url: \"http://127.0.0.1:1\"}\nroles:", ":3:1: aws: goes with the role control"},
		{"control with a link of its own", "[ingress]", "[control, ingress]\napi: {listen: \"127.0.0.1:1\"}", ""},
		{"no role", "[ingress]", "[]", "roles: missing; use control, ingress, or both"},
		{"a node without doors", "[ingress]", "[control]\napi: {listen: \"127.0.0.1:1\"}", ":5:1: node: goes with the roles ingress and egress"},
		{
			"ca_file without control_url", onlyIngress[strings.Index(onlyIngress, "roles"):strings.Index(onlyIngress, "admin")],
			"roles: [control, ingress]\napi: {listen: \"127.0.0.1:1\"}\nnode: {ca_file: ca.pem}\n", ":5:17: node.ca_file: goes with control_url",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(onlyIngress, c.old) {
				t.Fatalf("there is no %q to replace", c.old)
			}
			_, _, err := serve.LoadConfig(write(t, strings.Replace(onlyIngress, c.old, c.with, 1)))
			if (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

// layNode writes the config of a node of a control plane, with a token that the
// control plane made.
func layNode(t *testing.T, controlPlane places, controlURL string) places {
	t.Helper()
	c, err := client.New("http://"+controlPlane.api, client.Options{Token: readToken(t, controlPlane)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	token, err := c.CreateToken(t.Context(), client.TokenSpec{Name: "node-a", Role: "node"})
	if err != nil {
		t.Fatal(err)
	}
	p := places{admin: free(t), private: free(t), public: free(t)}
	p.config = write(t, strings.NewReplacer(
		"http://127.0.0.1:8080", controlURL, "127.0.0.1:9090", p.admin, "127.0.0.1:8443", p.private, "127.0.0.1:8444", p.public,
	).Replace(onlyIngress)+"shutdown_timeout: 200ms\n")
	p.state = filepath.Join(filepath.Dir(p.config), "state")
	p.token = filepath.Join(filepath.Dir(p.config), "node.token")
	put(t, p.token, token.Secret+"\n", 0o600)
	return p
}

// onlyControl turns what lay wrote into a process with the role control alone.
func onlyControl(t *testing.T, p places) places {
	t.Helper()
	b, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "[control, ingress]", "[control]", 1)
	from, to := strings.Index(text, "ingress:\n"), strings.Index(text, "aws:")
	put(t, p.config, text[:from]+text[to:], 0o600)
	return p
}

// A process that is only a node gets its routes from another one, and starts
// and serves what it knew when that is gone.
func TestNodeOfItsOwn(t *testing.T) {
	defer goleak.VerifyNone(t)
	cp := onlyControl(t, lay(t, ""))
	controlPlane, _ := started(t, cp)
	defer controlPlane.Stop()
	awaitReady(t, cp)
	if open(t, cp.private) {
		t.Error("a control plane has a door")
	}
	p := layNode(t, cp, "http://"+cp.api)
	n, log := started(t, p)
	awaitReady(t, p)
	if strings.Contains(log(), strings.TrimSpace(readToken(t, p))) {
		t.Error("the token is in the log")
	}
	if _, err := os.Stat(filepath.Join(p.state, "postern.db")); err == nil {
		t.Error("a node has a database")
	}
	for _, want := range []string{"postern_node_linked 1", "postern_node_fenced 0"} {
		until(t, func() bool {
			_, metrics := get(t, "http://"+p.admin+"/metrics", "")
			return strings.Contains(metrics, want)
		})
	}
	n.Stop()
	controlPlane.Stop()

	again, _ := started(t, p)
	defer again.Stop()
	if status, body := get(t, "http://"+p.admin+"/readyz", ""); status != http.StatusOK {
		t.Errorf("without a control plane, right after the start: %d %s", status, body)
	}
	if !open(t, p.private) || !open(t, p.public) {
		t.Error("its doors are closed")
	}
}

// A fenced node says so to whoever looks after it.
func TestFencedNodeIsNotReady(t *testing.T) {
	defer goleak.VerifyNone(t)
	cp := lay(t, "") // its own node is "local", and another one is of its own
	controlPlane, _ := started(t, cp)
	defer controlPlane.Stop()
	p := layNode(t, cp, "http://"+cp.api)
	n, _ := started(t, p)
	defer n.Stop()
	awaitReady(t, p)
	c, err := client.New("http://"+cp.api, client.Options{Token: readToken(t, cp)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.FenceNode(t.Context(), "node-a"); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool {
		status, body := get(t, "http://"+p.admin+"/readyz", "")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "is fenced and refuses everything")
	})
	awaitReady(t, cp)
	until(t, func() bool { _, err := c.UnfenceNode(t.Context(), "node-a"); return err == nil }) // once it was told
	awaitReady(t, p)
	nodes, err := c.Nodes(t.Context())
	if err != nil || len(nodes) != 2 || nodes[0].ID != "local" {
		t.Errorf("%+v, %v", nodes, err)
	}
}

func until(t *testing.T, is func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatal("not within 30 s")
		case <-tick.C:
		}
	}
}

// Over TLS, a node trusts whom its config says, and the node in the control
// plane's own process needs no name in the certificate.
func TestNodeOverTLS(t *testing.T) {
	defer goleak.VerifyNone(t)
	cp := lay(t, "")
	plain, _ := started(t, cp)
	p := layNode(t, cp, "https://"+cp.api)
	plain.Stop()
	certificate(t, filepath.Dir(cp.config), loopback.Own().AsSlice())
	b, err := os.ReadFile(cp.config)
	if err != nil {
		t.Fatal(err)
	}
	put(t, cp.config, strings.Replace(string(b), "api:\n", "api:\n  certificate_file: api.crt\n  key_file: api.key\n", 1), 0o600)
	controlPlane, _ := started(t, cp)
	defer controlPlane.Stop()
	awaitReady(t, cp)

	stranger, log := started(t, p) // it trusts the system's roots
	until(t, func() bool { return strings.Contains(log(), "certificate signed by unknown authority") })
	if status, _ := get(t, "http://"+p.admin+"/readyz", ""); status != http.StatusServiceUnavailable {
		t.Errorf("without trust and without routes: %d", status)
	}
	stranger.Stop()

	ca, err := os.ReadFile(filepath.Join(filepath.Dir(cp.config), "api.crt"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(filepath.Dir(p.config), "ca.pem"), string(ca), 0o600)
	b, err = os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	put(t, p.config, strings.Replace(string(b), "  token_file:", "  ca_file: ca.pem\n  token_file:", 1), 0o600)
	n, _ := started(t, p)
	defer n.Stop()
	awaitReady(t, p)
}

// certificate writes a self-signed one, api.crt and api.key, into a folder.
func certificate(t *testing.T, dir string, at net.IP, names ...string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postern"}, IPAddresses: []net.IP{at}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "api.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o600)
	put(t, filepath.Join(dir, "api.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), 0o600)
}

// What a node cannot do without stops its start.
func TestNodeNeedsItsFiles(t *testing.T) {
	defer goleak.VerifyNone(t)
	cp := lay(t, "")
	controlPlane, _ := started(t, cp)
	defer controlPlane.Stop()
	for says, spoil := range map[string]func(p places){
		"node.token_file: ":                      func(p places) { _ = os.Remove(p.token) }, // it is there
		"node.token_file: got":                   func(p places) { put(t, p.token, strings.Repeat("s", 40), 0o644) },
		"node.ca_file: ":                         func(places) {},
		"node.ca_file: holds no PEM certificate": func(p places) { put(t, filepath.Join(filepath.Dir(p.config), "ca.pem"), "x", 0o600) },
	} {
		p := layNode(t, cp, "http://"+cp.api)
		if strings.HasPrefix(says, "node.ca_file") {
			b, err := os.ReadFile(p.config)
			if err != nil {
				t.Fatal(err)
			}
			put(t, p.config, strings.Replace(string(b), "  token_file:", "  ca_file: ca.pem\n  token_file:", 1), 0o600)
		}
		spoil(p)
		s, _ := newServer(t, p)
		err := s.Start(t.Context())
		s.Stop()
		if err == nil || !strings.HasPrefix(err.Error(), strings.TrimSuffix(says, "got")) {
			t.Errorf("got %v, want %q", err, says)
		}
		for _, addr := range []string{p.admin, p.private, p.public} {
			if open(t, addr) {
				t.Errorf("%s is open", addr)
			}
		}
	}
}
