package trino_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/trinodb/trino-go-client/trino"
	"go.uber.org/goleak"

	standin "github.com/postern-net/postern/internal/sandbox/trino"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pair(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func trusting(c tls.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(c.Leaf)
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}, Timeout: 10 * time.Second}
}

func TestCluster(t *testing.T) {
	first := pair(t)
	c, err := standin.Start(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), "lake", first, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	base := fmt.Sprintf("https://localhost:%d", c.Addr().Port())
	if err := trino.RegisterCustomClient("standin", trusting(first)); err != nil {
		t.Fatal(err)
	}
	defer trino.DeregisterCustomClient("standin")
	db, err := sql.Open("trino", strings.Replace(base, "https://", "https://somebody@", 1)+"?custom_client=standin")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int
	if err := db.QueryRowContext(t.Context(), "SELECT 42").Scan(&n); err != nil || n != 42 {
		t.Errorf("%d, %v", n, err)
	}
	rows, err := db.QueryContext(t.Context(), "select * from unnest(sequence(1, 1001))")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	last := 0
	for rows.Next() {
		if err := rows.Scan(&last); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil || last != 1001 {
		t.Errorf("the last row is %d, %v", last, err)
	}
	var refused *trino.ErrTrino
	if err := db.QueryRowContext(t.Context(), "DROP TABLE students").Scan(&n); !errors.As(err, &refused) || refused.ErrorName != "SYNTAX_ERROR" {
		t.Errorf("%v", err)
	}

	get := func(client *http.Client, path string) (string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	for _, starting := range []bool{true, false} {
		c.SetStarting(starting)
		if body, err := get(trusting(first), "/v1/info"); err != nil || !strings.Contains(body, fmt.Sprintf(`"starting":%v`, starting)) {
			t.Errorf("%q, %v", body, err)
		}
	}
	second := pair(t)
	c.Present(second)
	if _, err := get(trusting(first), "/v1/info"); err == nil {
		t.Error("it presents the first certificate still")
	}
	if _, err := get(trusting(second), "/v1/info"); err != nil {
		t.Errorf("the second certificate: %v", err)
	}
}
