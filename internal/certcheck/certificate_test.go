package certcheck_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/postern-net/postern"
)

const day = 24 * time.Hour

func TestCertificate(t *testing.T) {
	root := issue(t, nil, authority("Public Root"))
	between := issue(t, &root, authority("Public Intermediate"))
	private := issue(t, nil, authority("Example Corp Internal CA"))
	expired := issue(t, &root, func(c *x509.Certificate) {
		authority("Expired Intermediate")(c)
		c.NotAfter = time.Now().Add(-day)
	})
	narrow := issue(t, &root, func(c *x509.Certificate) {
		authority("Constrained Intermediate")(c)
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
	})
	same := func(*x509.Certificate) {}
	named := func(cn string, names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = cn, names }
	}
	dates := func(from, to time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to) }
	}
	logged := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: []byte{4, 0}}}
	}
	leafOnly := func(s signer) signer {
		s.above = s.above[:1]
		return s
	}
	type list = []postern.Reason
	check := checker(t, root)
	for name, c := range map[string]struct {
		cert       signer
		stop, warn list
		says       string
	}{
		"good":                       {cert: issue(t, &root, same)},
		"through an intermediate":    {cert: issue(t, &between, same)},
		"a wildcard":                 {cert: issue(t, &root, named("", "*.example.com"))},
		"one of several names":       {cert: issue(t, &root, named("a", "a.example.com", host))},
		"a wildcard of two labels":   {cert: issue(t, &root, named("", "*.com")), stop: list{postern.ReasonNameMismatch}, says: `"*.com"`},
		"a wildcard above":           {cert: issue(t, &root, named("", "*.starburst.example.com")), stop: list{postern.ReasonNameMismatch}},
		"a part of a label":          {cert: issue(t, &root, named("", "star*.example.com")), stop: list{postern.ReasonNameMismatch}},
		"a wildcard that is not 1st": {cert: issue(t, &root, named("", "starburst.*.com")), stop: list{postern.ReasonNameMismatch}},
		"another name":               {cert: issue(t, &root, named("x", "trino.example.com")), stop: list{postern.ReasonNameMismatch}, says: `"trino.example.com"`},
		"many other names":           {cert: issue(t, &root, named("x", "a.x", "b.x", "c.x", "d.x", "e.x", "f.x", "g.x")), stop: list{postern.ReasonNameMismatch}, says: "and 2 more"},
		"no name at all":             {cert: issue(t, &root, named("x")), stop: list{postern.ReasonNameMismatch}, says: "no DNS name"},
		"the CN alone":               {cert: issue(t, &root, named(host)), stop: list{postern.ReasonCommonNameOnly}, says: "Subject Alternative Name"},
		"a wildcard in the CN alone": {cert: issue(t, &root, named("*.example.com")), stop: list{postern.ReasonCommonNameOnly}},
		"the CN, and other SANs":     {cert: issue(t, &root, named(host, "trino.example.com")), stop: list{postern.ReasonCommonNameOnly}},

		"expired":            {cert: issue(t, &root, dates(-90*day, -time.Minute)), stop: list{postern.ReasonCertificateExpired}, says: "renew"},
		"not yet valid":      {cert: issue(t, &root, dates(time.Hour, 90*day)), stop: list{postern.ReasonNotYetValid}},
		"expires soon":       {cert: issue(t, &root, dates(-day, 20*day)), warn: list{postern.ReasonExpiresSoon}},
		"expires in a month": {cert: issue(t, &root, dates(-day, 22*day))},
		"an expired intermediate": {
			cert: issue(t, &expired, dates(-60*day, 90*day)), stop: list{postern.ReasonCertificateExpired}, says: "intermediate",
		},

		"signed by itself":          {cert: issue(t, nil, same), stop: list{postern.ReasonSelfSigned}},
		"an authority as server":    {cert: issue(t, nil, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), stop: list{postern.ReasonSelfSigned}},
		"a private authority":       {cert: issue(t, &private, same), stop: list{postern.ReasonPrivateCA}, says: `"Example Corp Internal CA"`},
		"the same, leaf only":       {cert: leafOnly(issue(t, &private, same)), stop: list{postern.ReasonPrivateCA}, says: `"Example Corp Internal CA"`},
		"a missing intermediate":    {cert: leafOnly(issue(t, &between, logged)), stop: list{postern.ReasonIncompleteChain}, says: "fullchain"},
		"a logged private one":      {cert: issue(t, &private, logged), stop: list{postern.ReasonPrivateCA}},
		"for clients":               {cert: issue(t, &root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), stop: list{postern.ReasonCertificateUnsuitable}, says: "server authentication"},
		"past a name constraint":    {cert: issue(t, &narrow, same), stop: list{postern.ReasonCertificateUnsuitable}, says: "may not certify"},
		"issued by a server's cert": {cert: func() signer { leaf := issue(t, &root, same); return issue(t, &leaf, same) }(), stop: list{postern.ReasonPrivateCA}},

		"everything at once": {
			cert: issue(t, &private, func(c *x509.Certificate) { dates(-90*day, -day)(c); named("x", "trino.example.com")(c) }),
			stop: list{postern.ReasonPrivateCA, postern.ReasonNameMismatch, postern.ReasonCertificateExpired},
		},
	} {
		got := check.Certificate(c.cert.chain(t), host, time.Now())
		wantFindings(t, name, got, c.stop, c.warn)
		if c.says != "" && (len(got) == 0 || !strings.Contains(got[0].Message, c.says)) {
			t.Errorf("%s: %+v does not say %q", name, got, c.says)
		}
	}
	wantFindings(t, "no certificate", check.Certificate(nil, host, time.Now()), list{postern.ReasonCertificateUnsuitable}, nil)
}

// What a certificate says of itself cannot forge a line of a log or more.
func TestMessagesAreBounded(t *testing.T) {
	evil := "evil\n\x1b[2J" + strings.Repeat("x", 500)
	private := issue(t, nil, authority(evil))
	for _, f := range checker(t).Certificate(issue(t, &private, func(*x509.Certificate) {}).chain(t), "other.example.com", time.Now()) {
		if len(f.Message) > 500 || strings.ContainsAny(f.Message, "\n\x1b") {
			t.Errorf("%q", f.Message)
		}
	}
}

// Publicly trusted are Mozilla's authorities, and not the machine's.
func TestPubliclyTrusted(t *testing.T) {
	private := issue(t, nil, authority("The machine's own"))
	leaf := issue(t, &private, func(*x509.Certificate) {})
	t.Setenv("SSL_CERT_FILE", writePEM(t, private.cert))
	if _, err := leaf.cert.Verify(x509.VerifyOptions{}); err != nil {
		t.Skipf("the machine's pool is not this test's to set: %v", err)
	}
	wantFindings(t, "the machine's authority", checker(t).Certificate(leaf.chain(t), host, time.Now()), []postern.Reason{postern.ReasonPrivateCA}, nil)

	n := 0
	for r := range bundle.Roots() {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		n++
		now := c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 2)
		for _, f := range checkerOnce(t).Certificate([]*x509.Certificate{c}, host, now) {
			if f.Reason != postern.ReasonNameMismatch && f.Reason != postern.ReasonCommonNameOnly {
				t.Errorf("%s is not trusted: %+v", c.Subject, f)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d authorities", n)
	}
}
