package postern_test

import (
	"strings"
	"testing"

	"github.com/postern-net/postern"
)

func TestCheckConnectionHostname(t *testing.T) {
	for _, v := range []string{
		"starburst.example.com", "trino.data.corp.example.com", "example.com", "a.co.uk", "trino.xn--bcher-kva.com", "x.github.io",
		"my-cluster.trino.galaxy.starburst.io", "trino.example.aero", "b.c.kawasaki.jp", "local.example.org", "starburst.home.example.net",
	} {
		if err := postern.CheckConnectionHostname("f", v); err != nil {
			t.Errorf("refused %q: %v", v, err)
		}
	}
	for v, reason := range map[string]postern.Reason{
		"":                                postern.ReasonNotAHostname,
		".":                               postern.ReasonNotAHostname,
		"starburst":                       postern.ReasonNotAHostname,
		"Starburst.example.com":           postern.ReasonNotAHostname,
		"star_burst.example.com":          postern.ReasonNotAHostname,
		"starburst..example.com":          postern.ReasonNotAHostname,
		".example.com":                    postern.ReasonNotAHostname,
		"-a.example.com":                  postern.ReasonNotAHostname,
		"bücher.example.com":              postern.ReasonNotAHostname,
		"starburst.example.com:443":       postern.ReasonNotAHostname,
		"https://a.example.com":           postern.ReasonNotAHostname,
		"a.example.com/v1":                postern.ReasonNotAHostname,
		"a.example.com\x00":               postern.ReasonNotAHostname,
		"a b.example.com":                 postern.ReasonNotAHostname,
		strings.Repeat("a", 64) + ".c":    postern.ReasonNotAHostname,
		strings.Repeat("a.", 130) + "com": postern.ReasonNotAHostname,

		"10.0.0.1":               postern.ReasonIPLiteral,
		"169.254.169.254":        postern.ReasonIPLiteral,
		"::1":                    postern.ReasonIPLiteral,
		"[fd00:ec2::254]":        postern.ReasonIPLiteral,
		"::ffff:169.254.169.254": postern.ReasonIPLiteral,
		"fe80::1%eth0":           postern.ReasonIPLiteral,
		"127.1":                  postern.ReasonIPLiteral,
		"2130706433":             postern.ReasonIPLiteral,
		"0x7f000001":             postern.ReasonIPLiteral,
		"a.0x7f":                 postern.ReasonIPLiteral,
		"010.0.0.1":              postern.ReasonIPLiteral,
		"starburst.example.443":  postern.ReasonIPLiteral,

		"*.example.com":          postern.ReasonWildcard,
		"star*.example.com":      postern.ReasonWildcard,
		"starburst.example.com.": postern.ReasonTrailingDot,

		"starburst-prod.local":     postern.ReasonPrivateTLD,
		"a.b.internal":             postern.ReasonPrivateTLD,
		"metadata.google.internal": postern.ReasonPrivateTLD,
		"trino.corp":               postern.ReasonPrivateTLD,
		"trino.lan":                postern.ReasonPrivateTLD,
		"trino.home":               postern.ReasonPrivateTLD,
		"local":                    postern.ReasonPrivateTLD,

		"trino.home.arpa":              postern.ReasonSpecialUseDomain,
		"1.0.0.127.in-addr.arpa":       postern.ReasonSpecialUseDomain,
		"trino.test":                   postern.ReasonSpecialUseDomain,
		"trino.example":                postern.ReasonSpecialUseDomain,
		"trino.invalid":                postern.ReasonSpecialUseDomain,
		"localhost":                    postern.ReasonSpecialUseDomain,
		"trino.localhost":              postern.ReasonSpecialUseDomain,
		"duckduckgogg42xjoc72x3.onion": postern.ReasonSpecialUseDomain,

		"trino.cromulent": postern.ReasonUnknownTLD,
		"trino.k8s":       postern.ReasonUnknownTLD,
		"trino.comm":      postern.ReasonUnknownTLD,
		"co.uk":           postern.ReasonPublicSuffix,
		"github.io":       postern.ReasonPublicSuffix,
		"foo.kawasaki.jp": postern.ReasonPublicSuffix,
	} {
		err := postern.CheckConnectionHostname("spec.hostname", v)
		switch {
		case err == nil:
			t.Errorf("took %q", v)
		case err.Reason != reason:
			t.Errorf("%q: %s (%v), want %s", v, err.Reason, err, reason)
		case err.Code != postern.CodeInvalid || err.Field != "spec.hostname" || err.Value != v || err.Message == "" || err.Fix == "":
			t.Errorf("%q: the error lacks code, field, value, message or fix: %#v", v, err)
		}
	}
	// The seed's own reasons are what a person gets to read.
	err := postern.CheckConnectionHostname("f", "starburst-prod.local")
	for _, why := range []string{".local", "nobody owns it", "publicly trusted", "cannot be proven", "another customer"} {
		if !strings.Contains(err.Error(), why) {
			t.Errorf("%q does not say %q", err, why)
		}
	}
}

// What is taken is a hostname by every rule of a hostname, and its own name.
func FuzzCheckConnectionHostname(f *testing.F) {
	for _, v := range []string{"starburst.example.com", "10.0.0.1", "[::1]", "a.local", "co.uk", "*.example.com", "a.example.com.", "0x7f.1"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if postern.CheckConnectionHostname("f", v) != nil {
			return
		}
		if err := postern.CheckHostname("f", v); err != nil {
			t.Errorf("took %q: %v", v, err)
		}
		if strings.Count(v, ".") == 0 || strings.HasSuffix(v, ".local") || strings.HasSuffix(v, ".arpa") {
			t.Errorf("took %q", v)
		}
	})
}
