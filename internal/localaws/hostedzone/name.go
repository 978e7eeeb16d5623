// Package hostedzone is the content of a Route 53 hosted zone in the stand-in
// for AWS: record sets, what a change batch may do with them, and what they
// answer. It does no input or output, and values are never modified, so that a
// zone's present and its past can share them.
//
// Only simple routing is known, and only the types that a private connection
// needs: A, AAAA, CNAME, NS, SOA and TXT. Names consist of letters, digits,
// hyphens and underscores, and may begin with the wildcard label.
//
// Source: Amazon Route 53 API Reference (ChangeResourceRecordSets,
// ListResourceRecordSets) and Developer Guide ("DNS domain name format",
// "Supported DNS record types", "Quotas").
package hostedzone

import (
	"fmt"
	"slices"
	"strings"
)

// Limits of names, in characters without the trailing dot (RFC 1035).
const (
	maxName  = 253
	maxLabel = 63
)

// wildcardEscape is how Route 53 writes the wildcard label in its answers; in
// requests it takes either form.
const wildcardEscape = `\052`

// ParseName brings a domain name into the form in which names are kept: lower
// case, with a trailing dot. The error is worded as Route 53 does within
// "FATAL problem".
func ParseName(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	if rest, ok := strings.CutPrefix(name, wildcardEscape); ok {
		name = "*" + rest
	}
	if len(name) > maxName {
		return "", fmt.Errorf("DomainTooLong (Domain name is too long) encountered with '%s'", s)
	}
	for i, label := range strings.Split(name, ".") {
		switch {
		case label == "":
			return "", fmt.Errorf("DomainLabelEmpty (Domain label is empty) encountered with '%s'", s)
		case len(label) > maxLabel:
			return "", fmt.Errorf("DomainLabelTooLong (Domain label is too long) encountered with '%s'", s)
		case i == 0 && label == "*":
		case strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "":
			return "", fmt.Errorf("UnsupportedCharacter (Value contains unsupported characters) encountered with '%s'", s)
		}
	}
	return name + ".", nil
}

// WireName is a kept name as Route 53's answers write it.
func WireName(name string) string {
	if rest, ok := strings.CutPrefix(name, "*"); ok {
		return wildcardEscape + rest
	}
	return name
}

// Within tells whether a name is the zone's apex or below it; both are kept
// names.
func Within(name, zone string) bool {
	return name == zone || strings.HasSuffix(name, "."+zone)
}

// CompareNames orders kept names as Route 53 lists them: by ASCII with the
// labels reversed ("com.example.www.").
func CompareNames(a, b string) int { return strings.Compare(reversed(a), reversed(b)) }

func reversed(name string) string {
	labels := strings.Split(strings.TrimSuffix(WireName(name), "."), ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".") + "."
}
