package sandbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"

	"github.com/postern-net/postern"
)

// The kinds of certificates that a cluster can present.
const (
	certificateGood       = "good"
	certificateSelfSigned = "self-signed"
	certificatePrivateCA  = "private-ca"
	certificateWrongName  = "wrong-name"
	certificateCommonName = "common-name-only"
	certificateExpired    = "expired"
	certificateNotYet     = "not-yet-valid"
	certificateSoon       = "expires-soon"
)

func certificateKinds() []string {
	return []string{
		certificateGood, certificateSelfSigned, certificatePrivateCA, certificateWrongName, certificateCommonName,
		certificateExpired, certificateNotYet, certificateSoon,
	}
}

// certificate makes one of a kind for a hostname. The authority stands for a
// publicly trusted one.
func (a *authority) certificate(kind, hostname string) (tls.Certificate, error) {
	now := time.Now()
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: "cluster"}, DNSNames: []string{hostname}, NotBefore: now.Add(-time.Hour), NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	signer := a
	switch kind {
	case certificateGood:
	case certificateSelfSigned:
		signer = nil
	case certificatePrivateCA:
		var err error
		if signer, err = privateAuthority(); err != nil {
			return tls.Certificate{}, err
		}
	case certificateWrongName:
		c.DNSNames = []string{"other." + hostname}
	case certificateCommonName:
		c.Subject.CommonName, c.DNSNames = hostname, nil
	case certificateExpired:
		c.NotBefore, c.NotAfter = now.Add(-48*time.Hour), now.Add(-time.Minute)
	case certificateNotYet:
		c.NotBefore = now.Add(24 * time.Hour)
	case certificateSoon:
		c.NotAfter = now.Add(7 * 24 * time.Hour)
	default:
		return tls.Certificate{}, postern.Invalid("kind", kind, "no such kind of certificate", "see docs/sandbox.md")
	}
	return sign(c, signer)
}

// privateAuthority is a company's own.
func privateAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example Corp internal authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certificateLifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert: cert, key: key}, err
}

// sign makes a certificate and its key; by nil it is signed by itself.
func sign(c *x509.Certificate, by *authority) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return tls.Certificate{}, err
	}
	if by == nil {
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
	return tls.Certificate{Certificate: [][]byte{der, by.cert.Raw}, PrivateKey: key}, err
}
