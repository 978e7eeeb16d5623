package certcheck

import (
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// authorities are whom a certificate may come from.
type authorities struct {
	trusted *x509.CertPool
	// regardless has the same authorities without Mozilla's constraints. It
	// decides nothing; it tells who was distrusted from who is unknown.
	regardless *x509.CertPool
}

func publicAuthorities(extra []*x509.Certificate) (authorities, error) {
	a := authorities{trusted: x509.NewCertPool(), regardless: x509.NewCertPool()}
	for root := range bundle.Roots() {
		c, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return authorities{}, fmt.Errorf("certcheck: an authority of Mozilla's list: %w", err)
		}
		a.regardless.AddCert(c)
		if root.Constraint == nil {
			a.trusted.AddCert(c)
		} else {
			a.trusted.AddCertWithConstraint(c, root.Constraint)
		}
	}
	for _, c := range extra {
		a.trusted.AddCert(c)
		a.regardless.AddCert(c)
	}
	return a, nil
}
