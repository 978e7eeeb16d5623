package certcheck

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-net/postern"
)

// soon is how long before its end a certificate is warned of: about two
// attempts of a renewal that runs weekly, and a week for a person.
const soon = 21 * 24 * time.Hour

// Certificate reports everything that is wrong with the certificates that a
// server presents, its own first, for a hostname at a time. Without a finding
// that is no warning, every client that trusts Mozilla's authorities accepts
// them.
func (c *Checker) Certificate(chain []*x509.Certificate, hostname string, now time.Time) []postern.Finding {
	if len(chain) == 0 {
		return []postern.Finding{{Reason: postern.ReasonCertificateUnsuitable, Message: "the server presents no certificate; configure one for " + hostname}}
	}
	leaf := chain[0]
	findings := slices.Concat(c.trust(chain, now), name(leaf, hostname))
	switch {
	case now.Before(leaf.NotBefore):
		findings = append(findings, postern.Finding{
			Reason: postern.ReasonNotYetValid, Message: "the certificate is not valid yet; wait, or have it issued again if the clock of who issued it was wrong",
		})
	case now.After(leaf.NotAfter):
		findings = append(findings, postern.Finding{Reason: postern.ReasonCertificateExpired, Message: "the certificate has expired; renew it"})
	case leaf.NotAfter.Sub(now) < soon:
		findings = append(findings, postern.Finding{
			Reason: postern.ReasonExpiresSoon, Warning: true, Message: "the certificate expires within three weeks; renew it, or queries will stop then",
		})
	}
	return findings
}

// trust judges who issued a certificate, whatever its own dates and names.
func (c *Checker) trust(chain []*x509.Certificate, now time.Time) []postern.Finding {
	leaf := chain[0]
	within := now // a time at which the leaf itself is valid
	switch {
	case now.Before(leaf.NotBefore):
		within = leaf.NotBefore
	case now.After(leaf.NotAfter):
		within = leaf.NotAfter
	}
	err := verify(chain, c.roots.trusted, within)
	if err == nil {
		return nil
	}
	for _, at := range []time.Time{leaf.NotBefore, leaf.NotAfter} {
		if verify(chain, c.roots.trusted, at) == nil {
			return []postern.Finding{outOfDate(chain, within)}
		}
	}
	return []postern.Finding{c.distrust(chain, within, err)}
}

func verify(chain []*x509.Certificate, roots *x509.CertPool, at time.Time) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// outOfDate is the finding of a chain that was, or will be, good.
func outOfDate(chain []*x509.Certificate, now time.Time) postern.Finding {
	for _, c := range chain[1:] {
		if now.Before(c.NotBefore) {
			return postern.Finding{Reason: postern.ReasonNotYetValid, Message: fmt.Sprintf("the intermediate certificate %s is not valid yet; have the server send the one that is", display(c))}
		}
	}
	return postern.Finding{
		Reason: postern.ReasonCertificateExpired, Message: "an intermediate certificate, or the authority above it, has expired; have the server send the current chain of its authority",
	}
}

// distrust tells why nobody vouches for a certificate.
func (c *Checker) distrust(chain []*x509.Certificate, at time.Time, err error) postern.Finding {
	leaf, last := chain[0], chain[len(chain)-1]
	var unsuitable x509.CertificateInvalidError
	var critical x509.UnhandledCriticalExtension
	switch {
	case selfSigned(leaf):
		return postern.Finding{
			Reason: postern.ReasonSelfSigned, Message: "the certificate is signed by itself; use one of a publicly trusted authority (a private one cannot be verified from here)",
		}
	case errors.As(err, &unsuitable):
		return postern.Finding{Reason: postern.ReasonCertificateUnsuitable, Message: why(unsuitable) + "; have it issued anew, for server authentication and for names that its authority may certify"}
	case errors.As(err, &critical):
		return postern.Finding{Reason: postern.ReasonCertificateUnsuitable, Message: "the certificate has a critical extension that clients do not know; have it issued anew without it"}
	case weak(chain):
		return postern.Finding{Reason: postern.ReasonCertificateUnsuitable, Message: "the certificate, or an intermediate one, is signed with MD5 or SHA-1, which no client accepts; have it issued anew"}
	case verify(chain, c.roots.regardless, at) == nil:
		return postern.Finding{
			Reason:  postern.ReasonCertificateUnsuitable,
			Message: fmt.Sprintf("the certificate is of %s, of which Mozilla no longer trusts what it issues; use one of another publicly trusted authority", issuer(leaf)),
		}
	case publiclyLogged(leaf) && !selfSigned(last):
		return postern.Finding{
			Reason:  postern.ReasonIncompleteChain,
			Message: fmt.Sprintf("the server does not send the certificate of %s, which issued %s; have it send the whole chain (often a file named fullchain.pem)", issuer(last), display(last)),
		}
	}
	return postern.Finding{
		Reason:  postern.ReasonPrivateCA,
		Message: fmt.Sprintf("the certificate is of %s, which is no publicly trusted authority; use a certificate of one that is, and if this one is, have the server send the intermediate certificates", issuer(last)),
	}
}

func why(e x509.CertificateInvalidError) string {
	//nolint:exhaustive // the rest is told in the library's own words
	switch e.Reason {
	case x509.IncompatibleUsage, x509.CANotAuthorizedForExtKeyUsage:
		return "the certificate is not for server authentication"
	case x509.CANotAuthorizedForThisName:
		return "the certificate has a name that its authority may not certify"
	case x509.NotAuthorizedToSign:
		return "a certificate in the chain is none of an authority"
	case x509.TooManyIntermediates:
		return "the chain is longer than its authority permits"
	}
	return "the certificate cannot be used (" + strings.TrimPrefix(x509.CertificateInvalidError{Cert: e.Cert, Reason: e.Reason}.Error(), "x509: ") + ")"
}

// weak tells signatures that nobody accepts any more.
func weak(chain []*x509.Certificate) bool {
	return slices.ContainsFunc(chain, func(c *x509.Certificate) bool {
		var insecure x509.InsecureAlgorithmError
		return errors.As(c.CheckSignature(c.SignatureAlgorithm, nil, nil), &insecure)
	})
}

// selfSigned tells a certificate that vouches for itself, of an authority or
// not.
func selfSigned(c *x509.Certificate) bool {
	return string(c.RawIssuer) == string(c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// signedTimestamps is the extension of RFC 6962: publicly trusted authorities
// put certificates into public logs and the logs' answers into it, private ones
// have nowhere to.
var signedTimestamps = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}

func publiclyLogged(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(signedTimestamps) {
			return true
		}
	}
	return false
}

// name judges whether a certificate is for a hostname: by its DNS names only,
// where "*" stands for one whole first label (RFC 9525, section 6.3).
func name(leaf *x509.Certificate, hostname string) []postern.Finding {
	if leaf.VerifyHostname(hostname) == nil {
		return nil
	}
	if byCommonName(leaf, hostname) {
		return []postern.Finding{{
			Reason:  postern.ReasonCommonNameOnly,
			Message: fmt.Sprintf("the certificate has %s as its Common Name only, which clients do not look at; have it issued with the name as a Subject Alternative Name (DNS)", hostname),
		}}
	}
	return []postern.Finding{{
		Reason: postern.ReasonNameMismatch,
		Message: fmt.Sprintf("the certificate is for %s and not for %s; have the hostname put into it as a Subject Alternative Name (DNS), or request the connection for a name that it has",
			names(leaf), hostname),
	}}
}

// byCommonName asks what an old client would have asked.
func byCommonName(leaf *x509.Certificate, hostname string) bool {
	old := &x509.Certificate{Raw: leaf.Raw, DNSNames: []string{leaf.Subject.CommonName}}
	return leaf.Subject.CommonName != "" && old.VerifyHostname(hostname) == nil
}

// maxNames bounds the names that a message lists.
const maxNames = 5

func names(leaf *x509.Certificate) string {
	var list []string
	for _, n := range leaf.DNSNames[:min(len(leaf.DNSNames), maxNames)] {
		list = append(list, quote(n))
	}
	switch more := len(leaf.DNSNames) - len(list); {
	case len(list) == 0:
		return "no DNS name"
	case more > 0:
		return fmt.Sprintf("%s and %d more", strings.Join(list, ", "), more)
	}
	return strings.Join(list, ", ")
}

func issuer(c *x509.Certificate) string {
	for _, v := range []string{c.Issuer.CommonName, strings.Join(c.Issuer.Organization, ", "), c.Issuer.String()} {
		if v != "" {
			return quote(v)
		}
	}
	return "an authority without a name"
}

func display(c *x509.Certificate) string {
	for _, v := range []string{c.Subject.CommonName, strings.Join(c.DNSNames[:min(len(c.DNSNames), 1)], ""), c.Subject.String()} {
		if v != "" {
			return quote(v)
		}
	}
	return "without a name"
}

// quote makes text that a stranger chose fit for a message: bounded, on one
// line, and without anything that a terminal obeys.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strconv.Quote(s)
}
