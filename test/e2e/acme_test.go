package e2e_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/platformfile"
	"github.com/postern-net/postern/internal/sandbox"
	"github.com/postern-net/postern/internal/serve"
	"github.com/postern-net/postern/test/loopback"
)

// pebble is Let's Encrypt's small authority for tests, in the version that was
// looked at.
const pebble = "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1"

// TestACME has the SCIM-only ingress obtain its certificate from Pebble, which
// finds the host by the platform's own DNS and challenges it at the door. The
// networks that may use the ingress do not keep the authority out, and the
// challenge lets nobody else in.
func TestACME(t *testing.T) {
	if os.Getenv("POSTERN_E2E") == "" {
		t.Skip("builds Pebble; run it with `make e2e`")
	}
	dir := t.TempDir()
	https, dns := loopback.MustPort(t, local), loopback.MustPort(t, local)
	ca := startPebble(t, dir, https, fmt.Sprintf("127.64.0.2:%d", dns))
	world := startWithACME(t, dir, ca, https, dns)
	f := world.File()
	admin := newClient(t, f)
	const name = "example.scim.immutacloud.com"
	door := net.JoinHostPort(f.Ingress.SCIM["us-east-1"].String(), fmt.Sprint(https))
	set := func(spec client.SCIMIngressSpec) {
		t.Helper()
		if _, err := admin.SetSCIMIngress(t.Context(), "example", spec); err != nil {
			t.Fatal(err)
		}
	}

	// A tenant in another region has its own, at that region's door.
	if _, err := admin.SetSCIMIngress(t.Context(), "example-dev", client.SCIMIngressSpec{Enabled: true}); err != nil {
		t.Fatal(err)
	}
	elsewhere := net.JoinHostPort(f.Ingress.SCIM["us-west-2"].String(), fmt.Sprint(https))

	// Only a network that is nobody's may connect; the authority comes from
	// another one.
	set(client.SCIMIngressSpec{Enabled: true, SourceRanges: []string{"192.0.2.0/24"}})
	storage := filepath.Join(dir, "world", "node-a", "acme")
	await(t, "the certificate is obtained", func() error { return hasFile(storage, name+".crt") })
	for _, protocol := range []string{"http/1.1", "acme-tls/1"} {
		if err := get(ca.roots(t), door, name, protocol); err == nil {
			t.Errorf("from another network the ingress answers over %s", protocol)
		}
	}

	await(t, "so is that of the other region's tenant", func() error {
		_, err := leaf(ca.roots(t), elsewhere, "example-dev.scim.immutacloud.com")
		return err
	})

	set(client.SCIMIngressSpec{Enabled: true})
	var first *x509.Certificate
	await(t, "a client trusts it", func() (err error) {
		first, err = leaf(ca.roots(t), door, name)
		return err
	})
	if err := get(ca.roots(t), door, name, "http/1.1"); err != nil {
		t.Error(err)
	}
	if err := get(ca.roots(t), door, name, "acme-tls/1"); err == nil {
		t.Error("a request is answered on a connection for a challenge")
	}

	// A restart takes the certificate from the disk.
	if err := errors.Join(world.StopNode("node-a"), world.StartNode(t.Context(), "node-a")); err != nil {
		t.Fatal(err)
	}
	await(t, "it is shown again", func() error {
		again, err := leaf(ca.roots(t), door, name)
		if err == nil && again.SerialNumber.Cmp(first.SerialNumber) != 0 {
			t.Fatal("a restart made another certificate")
		}
		return err
	})

	set(client.SCIMIngressSpec{})
	await(t, "turned off it refuses", func() error {
		if _, err := leaf(ca.roots(t), door, name); err == nil || !strings.Contains(err.Error(), "access denied") {
			return fmt.Errorf("%w: it is still on", err)
		}
		return nil
	})
}

func await(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		if (<-tick.C).After(deadline) {
			t.Fatalf("%s: not within a minute: %v", what, err)
		}
	}
}

// hasFile looks for a file below a directory.
func hasFile(dir, name string) error {
	found := false
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		found = found || err == nil && d.Name() == name
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("no %s in %s", name, dir)
	}
	return err
}

// authority is a running Pebble.
type authority struct {
	directory, management string
	caFile                string // of its own API
	client                *http.Client
}

func startPebble(t *testing.T, dir string, https uint16, resolver string) authority {
	t.Helper()
	install := exec.CommandContext(t.Context(), "go", "install", pebble)
	install.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("go install %s: %v\n%s", pebble, err, out)
	}
	api, management := loopback.MustPort(t, local), loopback.MustPort(t, local)
	a := authority{
		directory: fmt.Sprintf("https://127.0.0.1:%d/dir", api), management: fmt.Sprintf("https://127.0.0.1:%d", management),
		caFile: filepath.Join(dir, "pebble.crt"),
	}
	pool := selfSigned(t, a.caFile, filepath.Join(dir, "pebble.key"))
	a.client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", api), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", management),
		"certificate": a.caFile, "privateKey": filepath.Join(dir, "pebble.key"), "httpPort": loopback.MustPort(t, local), "tlsPort": https,
	}})
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "pebble.json"), config, 0o600)); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	run := exec.Command(filepath.Join(dir, "pebble"), "-config", filepath.Join(dir, "pebble.json"), "-dnsserver", resolver, "-strict")
	run.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	run.Stdout, run.Stderr = &log, &log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = run.Process.Kill()
		_ = run.Wait() // it was killed
		if t.Failed() {
			t.Logf("Pebble:\n%s", log.String())
		}
	})
	await(t, "Pebble answers", func() error { _, err := a.get(a.directory); return err })
	return a
}

func (a authority) get(url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// roots are what Pebble's certificates are signed by; it draws them at its start.
func (a authority) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	b, err := a.get(a.management + "/roots/0")
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(b) {
		t.Fatalf("Pebble's root: %v %s", err, b)
	}
	return pool
}

// selfSigned makes the certificate of Pebble's own API.
func selfSigned(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pebble"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	secret, err2 := x509.MarshalPKCS8PrivateKey(k)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(err, err2, os.WriteFile(cert, block, 0o600), os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(block)
	return pool
}

// startWithACME runs a sandbox whose SCIM doors have their certificates from the
// authority.
func startWithACME(t *testing.T, dir string, ca authority, https, dns uint16) *sandbox.Sandbox {
	t.Helper()
	p, err := platformfile.Load("immuta")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "sandbox.log"))
	if err != nil {
		t.Fatal(err)
	}
	world, err := sandbox.Start(t.Context(), sandbox.Options{
		StateDir: filepath.Join(dir, "world"), Platform: p, HTTPSPort: &https, DNSPort: &dns, Logger: slog.New(slog.NewTextHandler(log, nil)),
		SCIMACME: &serve.ACME{DirectoryURL: ca.directory, CAFile: ca.caFile, Email: "ops@example.com", AgreeToTerms: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		world.Stop()
		_ = log.Close()
		if said, err := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("the sandbox (%v):\n%s", err, said)
		}
	})
	return world
}

// leaf is the certificate that a door shows, verified.
func leaf(roots *x509.CertPool, door, name string) (*x509.Certificate, error) {
	c, err := (&tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: roots}}).DialContext(context.Background(), "tcp", door)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// get demands an answer of the app's: it wants a token.
func get(roots *x509.CertPool, door, name, protocol string) error {
	c, err := (&tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: roots, NextProtos: []string{protocol}}}).DialContext(context.Background(), "tcp", door)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(c, "GET /scim/v2/Users HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name); err != nil {
		return err
	}
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 401") {
		return fmt.Errorf("answered %q, %w", b, err)
	}
	return nil
}
