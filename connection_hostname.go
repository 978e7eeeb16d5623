package postern

import (
	"net/netip"
	"regexp"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// numeric is a last label that makes programs take the whole name for an IPv4
// address, in one of the forms that inet_aton reads (WHATWG URL, section 3.5):
// "127.1", "0x7f000001", "010.0.0.1". No top-level domain is like that.
var numeric = regexp.MustCompile(`^(?:[0-9]+|0[xX][0-9a-fA-F]*)$`)

// Why a private top-level domain cannot work: the seeds, in short.
const whyNotPrivate = "nobody owns it: no publicly trusted authority certifies names in it, its ownership cannot be proven, and another customer may use the same name"

const publicName = "give the cluster a name in a public domain that your organization holds, such as \"starburst.example.com\", and a certificate for it"

// privateTLDs are in use inside of companies and delegated to nobody: .local is
// multicast DNS's (RFC 6762), .internal is ICANN's for private use, .corp,
// .home and .mail are never to be delegated (ICANN, 2018), and the others are
// what people use (RFC 6762, appendix G, and common products' defaults).
var privateTLDs = map[string]bool{
	"local": true, "internal": true, "corp": true, "home": true, "mail": true, "lan": true, "intranet": true, "intra": true,
	"private": true, "priv": true, "localdomain": true, "localnet": true, "domain": true, "workgroup": true,
}

// specialUse are IANA's special-use domain names that have a meaning of their
// own (RFC 6761 and its registry); what is below them is as well.
var specialUse = []string{"arpa", "alt", "example", "invalid", "localhost", "onion", "test"}

// CheckConnectionHostname reports why a hostname cannot be a data
// connection's. A publicly trusted certificate must be possible for it (the
// seeds), so its top-level domain must be one that ICANN delegated; and it must
// be one name of one owner. Each mistake has its own [Error.Reason].
func CheckConnectionHostname(field, v string) *Error {
	refuse := func(r Reason, message, fix string) *Error {
		return &Error{Code: CodeInvalid, Reason: r, Field: field, Value: v, Message: message, Fix: fix}
	}
	last := v[strings.LastIndexByte(v, '.')+1:]
	suffix, icann := publicsuffix.PublicSuffix(v)
	switch {
	case literal(v) || numeric.MatchString(last):
		return refuse(ReasonIPLiteral, "an IP address, and certificates are checked against a name", "give the hostname that the cluster's certificate is for")
	case strings.Contains(v, "*"):
		return refuse(ReasonWildcard, "a pattern; the certificate may be for one, a connection is for one cluster", "give the cluster's own hostname")
	case len(v) > 1 && strings.HasSuffix(v, "."):
		return refuse(ReasonTrailingDot, "ends with a dot", "leave the last dot out")
	case privateTLDs[last]:
		return refuse(ReasonPrivateTLD, "in the private top-level domain ."+last+", and "+whyNotPrivate, publicName)
	case special(v):
		return refuse(ReasonSpecialUseDomain, "in a domain that is reserved for another use (RFC 6761)", publicName)
	}
	if err := CheckHostname(field, v); err != nil {
		return refuse(ReasonNotAHostname, "not a fully qualified hostname", hostnameFix(v))
	}
	switch {
	case !icann && !strings.Contains(suffix, "."):
		return refuse(ReasonUnknownTLD, "."+last+" is no top-level domain of the public DNS, so no publicly trusted authority certifies names in it", "check the spelling; else "+publicName)
	case v == suffix:
		return refuse(ReasonPublicSuffix, "a name under which others register theirs, which no certificate is issued for", "give the cluster's full hostname")
	}
	return nil
}

// literal tells addresses, also as they stand in URLs.
func literal(v string) bool {
	_, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(v, "["), "]"))
	return err == nil
}

func special(v string) bool {
	for _, zone := range specialUse {
		if within(v, zone) {
			return true
		}
	}
	return false
}

func hostnameFix(v string) string {
	switch {
	case strings.Contains(v, "://") || strings.Contains(v, "/"):
		return `leave everything but the hostname out, such as "starburst.example.com"`
	case strings.Contains(v, ":"):
		return "leave the port out; ports have a field of their own"
	case strings.ToLower(v) != v:
		return "write it in lower case"
	case strings.ContainsFunc(v, func(r rune) bool { return r > 127 }):
		return `write it in its ASCII form, which begins with "xn--"`
	case !strings.Contains(v, "."):
		return `write the whole name, such as "starburst.example.com"`
	}
	return `write it as the certificate has it, such as "starburst.example.com"`
}
