package hostedzone

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// The record types, as the API spells them.
const (
	TypeA     = "A"
	TypeAAAA  = "AAAA"
	TypeCNAME = "CNAME"
	TypeNS    = "NS"
	TypeSOA   = "SOA"
	TypeTXT   = "TXT"
)

// RecordSet is all records of one name and type, or an alias.
type RecordSet struct {
	Name   string   `json:"name"` // kept form, see [ParseName]
	Type   string   `json:"type"`
	TTL    int64    `json:"ttl,omitempty"` // seconds; an alias has none
	Values []string `json:"values,omitempty"`
	Alias  *Alias   `json:"alias,omitempty"` // instead of values
}

// Alias points to a name of AWS's or to another record set of the same zone.
type Alias struct {
	ZoneID         string `json:"hosted_zone_id"`
	Name           string `json:"dns_name"` // kept form
	EvaluateHealth bool   `json:"evaluate_target_health"`
}

// Limits of a record set.
const (
	maxTTL    = 1<<31 - 1 // seconds
	maxValues = 400
	maxValue  = 4000 // characters
	maxString = 255  // octets of one string of a TXT record
)

// compare orders record sets as they are listed: by name, then by type.
func compare(a, b RecordSet) int {
	if c := CompareNames(a.Name, b.Name); c != 0 {
		return c
	}
	return strings.Compare(a.Type, b.Type)
}

// equal tells whether a DELETE names exactly this record set. The order of
// values does not matter.
func (r RecordSet) equal(o RecordSet) bool {
	if (r.Alias == nil) != (o.Alias == nil) || (r.Alias != nil && *r.Alias != *o.Alias) {
		return false
	}
	a, b := slices.Sorted(slices.Values(r.Values)), slices.Sorted(slices.Values(o.Values))
	return r.Name == o.Name && r.Type == o.Type && r.TTL == o.TTL && slices.Equal(a, b)
}

// problems are what Route 53 refuses in a record set by itself, wherever it
// is put.
func (r RecordSet) problems() []string {
	if !slices.Contains([]string{TypeA, TypeAAAA, TypeCNAME, TypeNS, TypeSOA, TypeTXT}, r.Type) {
		return []string{fmt.Sprintf("Records of type %s are not served here; use A, AAAA, CNAME, NS, SOA or TXT", r.Type)}
	}
	if strings.HasPrefix(r.Name, "*.") && r.Type == TypeNS {
		return []string{fmt.Sprintf("Wildcards are not permitted in record sets of type NS: %s", WireName(r.Name))}
	}
	if r.Alias != nil {
		return nil
	}
	var out []string
	if r.TTL < 0 || r.TTL > maxTTL {
		out = append(out, fmt.Sprintf("Invalid TTL %d: not between 0 and %d", r.TTL, maxTTL))
	}
	if len(r.Values) > maxValues {
		out = append(out, fmt.Sprintf("Number of records in %s %s is %d, more than %d", WireName(r.Name), r.Type, len(r.Values), maxValues))
	}
	if (r.Type == TypeCNAME || r.Type == TypeSOA) && len(r.Values) > 1 {
		out = append(out, fmt.Sprintf("RRSet with DNS name %s, type %s contains %d records, but only one is permitted", WireName(r.Name), r.Type, len(r.Values)))
	}
	seen := map[string]bool{}
	for _, v := range r.Values {
		if seen[v] {
			out = append(out, fmt.Sprintf("Duplicate Resource Record: '%s'", v))
		}
		seen[v] = true
		if _, err := r.rr(v); err != nil {
			out = append(out, fmt.Sprintf("Invalid Resource Record: 'FATAL problem: %v'", err))
		}
	}
	return out
}

// rr makes a DNS record of one of the set's values. The error is worded as
// Route 53 does within "FATAL problem".
func (r RecordSet) rr(value string) (dns.RR, error) {
	if len(value) > maxValue {
		return nil, fmt.Errorf("ValueTooLong (Value is longer than %d characters) encountered with '%.20s...'", maxValue, value)
	}
	header := dns.RR_Header{Name: r.Name, Class: dns.ClassINET, Ttl: uint32(r.TTL)} //nolint:gosec // problems admits 31 bits
	switch r.Type {
	case TypeA:
		addr, err := netip.ParseAddr(value)
		if err != nil || !addr.Is4() {
			return nil, fmt.Errorf("ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address) encountered with '%s'", value)
		}
		header.Rrtype = dns.TypeA
		return &dns.A{Hdr: header, A: addr.AsSlice()}, nil
	case TypeAAAA:
		addr, err := netip.ParseAddr(value)
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return nil, fmt.Errorf("AAAARRDATAIllegalIPv6Address (Value is not a valid IPv6 address) encountered with '%s'", value)
		}
		header.Rrtype = dns.TypeAAAA
		return &dns.AAAA{Hdr: header, AAAA: addr.AsSlice()}, nil
	case TypeCNAME:
		target, err := ParseName(value)
		header.Rrtype = dns.TypeCNAME
		return &dns.CNAME{Hdr: header, Target: target}, err
	case TypeNS:
		target, err := ParseName(value)
		header.Rrtype = dns.TypeNS
		return &dns.NS{Hdr: header, Ns: target}, err
	case TypeTXT:
		text, err := parseStrings(value)
		header.Rrtype = dns.TypeTXT
		return &dns.TXT{Hdr: header, Txt: text}, err
	case TypeSOA:
		header.Rrtype = dns.TypeSOA
		return parseSOA(header, value)
	}
	return nil, fmt.Errorf("UnsupportedType (Type is not supported) encountered with '%s'", r.Type)
}

// parseSOA reads "MNAME RNAME SERIAL REFRESH RETRY EXPIRE MINIMUM".
func parseSOA(header dns.RR_Header, value string) (dns.RR, error) {
	bad := fmt.Errorf("SOARRDATAInvalid (Value is not a valid SOA record) encountered with '%s'", value)
	fields := strings.Fields(value)
	if len(fields) != 7 {
		return nil, bad
	}
	var names [2]string
	for i := range names {
		var err error
		if names[i], err = ParseName(fields[i]); err != nil {
			return nil, err
		}
	}
	var numbers [5]uint32
	for i := range numbers {
		n, err := strconv.ParseUint(fields[2+i], 10, 32)
		if err != nil {
			return nil, bad
		}
		numbers[i] = uint32(n)
	}
	return &dns.SOA{
		Hdr: header, Ns: names[0], Mbox: names[1],
		Serial: numbers[0], Refresh: numbers[1], Retry: numbers[2], Expire: numbers[3], Minttl: numbers[4],
	}, nil
}

// parseStrings reads the value of a TXT record: strings in quotation marks
// with blanks between them. Within, \" and \\ stand for themselves and \ooo
// for an octet in octal. What it returns is in the form of package dns, whose
// escapes are decimal.
func parseStrings(value string) ([]string, error) {
	var out []string
	rest := strings.TrimSpace(value)
	for rest != "" {
		if rest[0] != '"' {
			return nil, fmt.Errorf("InvalidCharacterString (Value should be enclosed in quotation marks) encountered with '%s'", value)
		}
		text, n, length := strings.Builder{}, 1, 0
		for ; n < len(rest) && rest[n] != '"'; length++ {
			octet, width, ok := octetAt(rest[n:])
			if !ok {
				return nil, fmt.Errorf("InvalidCharacterString (Value contains an invalid escape or character) encountered with '%s'", value)
			}
			n += width
			switch {
			case octet == '"' || octet == '\\':
				text.WriteString(`\` + string(rune(octet)))
			case octet >= ' ' && octet <= '~':
				text.WriteByte(octet)
			default:
				fmt.Fprintf(&text, `\%03d`, octet)
			}
		}
		switch {
		case n == len(rest):
			return nil, fmt.Errorf("InvalidCharacterString (Value should be enclosed in quotation marks) encountered with '%s'", value)
		case length > maxString:
			return nil, fmt.Errorf("CharacterStringTooLong (Value is too long) encountered with '%s'", value)
		}
		out = append(out, text.String())
		after := rest[n+1:]
		rest = strings.TrimLeft(after, " \t")
		if rest != "" && rest == after {
			return nil, fmt.Errorf("InvalidCharacterString (Strings should be separated by blanks) encountered with '%s'", value)
		}
	}
	if out == nil {
		return nil, fmt.Errorf("InvalidCharacterString (Value should be enclosed in quotation marks) encountered with '%s'", value)
	}
	return out, nil
}

// octetAt reads one octet, escaped or not, and how many characters it takes.
func octetAt(s string) (octet byte, width int, ok bool) {
	switch {
	case s[0] != '\\':
		return s[0], 1, s[0] >= ' ' && s[0] <= '~'
	case len(s) >= 2 && (s[1] == '"' || s[1] == '\\'):
		return s[1], 2, true
	case len(s) >= 4:
		n, err := strconv.ParseUint(s[1:4], 8, 8)
		return byte(n), 4, err == nil
	}
	return 0, 0, false
}
