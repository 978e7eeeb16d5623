package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

// certificateUntil is a workload's, in PEM, and its DER.
func certificateUntil(t *testing.T, end time.Time) (string, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: end.Add(-24 * 365 * time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), der
}

// Operators name a workload's client certificate, whose sum the nodes learn.
func TestWorkloadCertificates(t *testing.T) {
	w := newWorld(t)
	end := w.clock().Add(48 * time.Hour).UTC().Truncate(time.Second)
	text, der := certificateUntil(t, end)
	ask := func(text string) client.WorkloadToken {
		return client.WorkloadToken{Spec: client.WorkloadTokenSpec{Name: "etl", Tenant: "example", Certificate: text}}
	}
	made := must[client.WorkloadToken](w, "operator", "POST", "/v1/workload-tokens", ask(text), "Idempotency-Key: k")
	if made.Secret != "" || made.Organization != "example-corp" || !made.Spec.ExpiresAt.Equal(end) {
		t.Errorf("%+v; want no secret, and an end with the certificate's", made)
	}
	if again := must[client.WorkloadToken](w, "operator", "POST", "/v1/workload-tokens", ask(text), "Idempotency-Key: k"); again.ID != made.ID || again.Secret != "" {
		t.Errorf("the same request again: %+v", again)
	}
	if err := w.loop.PublishStored(t.Context()); err != nil {
		t.Fatal(err)
	}
	var r postern.Routes
	if err := w.store.View(t.Context(), func(tx *store.Tx) (err error) { r, err = tx.FindRoutes(); return err }); err != nil {
		t.Fatal(err)
	}
	if got := r.Workloads[postern.WorkloadKey(der)]; got.Tenant != "example" || !got.ExpiresAt.Equal(end) {
		t.Errorf("published %+v", r.Workloads)
	}

	w.refused(http.StatusConflict, "conflict", "operator", "POST", "/v1/workload-tokens", ask(text))
	// It is no secret: who names it first has it, so customers may not.
	other, _ := certificateUntil(t, end)
	w.refused(http.StatusForbidden, "forbidden", "example", "POST", "/v1/workload-tokens", ask(other))
	past, _ := certificateUntil(t, w.clock().Add(-time.Hour))
	for name, text := range map[string]string{
		"no PEM": "x", "a chain": other + text, "a key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})),
		"no certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), "one that expired": past,
	} {
		if p := w.refused(http.StatusBadRequest, "invalid", "operator", "POST", "/v1/workload-tokens", ask(text)); len(p.Errors) != 1 {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
