package postern

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Zones is what the platform's public DNS says, compiled by internal/plan.
// What a zone needs besides, its SOA and NS records, its server adds.
type Zones struct {
	Revision int64           `json:"revision"` // grows with every change; the zones' serial follows it
	Zones    map[string]Zone `json:"zones"`    // by apex, lower case, no trailing dot
}

// Zone is one zone's records.
type Zone struct {
	// Records by owner name: absolute, lower case, no trailing dot. The apex is
	// the zone's own name.
	Records map[string][]Record `json:"records"`
}

// Record is one DNS record of an owner name.
type Record struct {
	Type  string `json:"type"`  // one of the Record constants
	TTL   uint32 `json:"ttl"`   // seconds; the same for all records of one name and type
	Value string `json:"value"` // see the constant
}

// The types of records that zones may hold.
const (
	RecordA     = "A"     // value: an IPv4 address
	RecordAAAA  = "AAAA"  // value: an IPv6 address
	RecordCNAME = "CNAME" // value: a name, lower case, no trailing dot
	RecordTXT   = "TXT"   // value: the text itself, without quotes or escapes
	// RecordNS has a hostname as value, lower case, no trailing dot. At the
	// apex it replaces the nameservers that the zone's server would name; below
	// it delegates the name and all under it to other servers.
	RecordNS = "NS"
)

const (
	maxTTL = 1<<31 - 1 // RFC 2181 §8
	// maxTXT is Route 53's bound on the value of a TXT record, in bytes, so
	// that a zone may be served from either place.
	maxTXT = 4000
	// maxApex leaves room for the names that a server adds below an apex.
	maxApex = 240
)

// recordLabel is a label of an owner name or of the name that a CNAME points
// to; other than hostnames these may have underscores (RFC 8552).
var recordLabel = regexp.MustCompile(`^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$`)

// Validate reports every problem of the zones at once. Zones that pass can be
// served: each name is in one zone, a CNAME stands alone (RFC 1034 §3.6.2) and
// not at an apex, no chain of CNAMEs returns to itself within a zone, and
// nothing but addresses of nameservers stands below a delegation.
func (z Zones) Validate() error {
	var es Errors
	if z.Revision < 0 {
		es.Add(Invalid("revision", fmt.Sprint(z.Revision), "negative", "count up from zero"))
	}
	for _, apex := range slices.Sorted(maps.Keys(z.Zones)) {
		at := fmt.Sprintf("zones[%q]", apex)
		es.Add(CheckHostname(at, apex))
		if len(apex) > maxApex {
			es.Add(Invalid(at, apex, "too long for a zone", fmt.Sprintf("give it at most %d characters", maxApex)))
		}
		zone := z.Zones[apex]
		for _, name := range slices.Sorted(maps.Keys(zone.Records)) {
			at := fmt.Sprintf("%s.records[%q]", at, name)
			if e := checkOwner(at, name, apex); e != nil {
				es.Add(e)
				continue
			}
			es.Add(z.checkPlace(at, name, apex))
			zone.checkRecords(&es, at, name, apex)
		}
	}
	return es.Err()
}

// ZoneOf is the apex of the zone that a name (lower case, no trailing dot) is
// in: of several, the most specific one.
func (z Zones) ZoneOf(name string) (apex string, ok bool) {
	for {
		if _, ok := z.Zones[name]; ok {
			return name, true
		}
		_, parent, found := strings.Cut(name, ".")
		if !found {
			return "", false
		}
		name = parent
	}
}

func checkOwner(at, name, apex string) *Error {
	if strings.HasPrefix(name, "*.") || name == "*" {
		return Invalid(at, name, "a wildcard, which zones do not have", "list each name")
	}
	if e := checkRecordName(at, name); e != nil {
		return e
	}
	if !within(name, apex) {
		return Invalid(at, name, "outside the zone", "name the apex or something below it, absolutely")
	}
	return nil
}

func checkRecordName(at, v string) *Error {
	labels := strings.Split(v, ".")
	ok := len(v) <= 253 && len(labels) >= 2
	for _, l := range labels {
		ok = ok && recordLabel.MatchString(l)
	}
	if ok {
		return nil
	}
	return Invalid(at, v, "not a DNS name", `write it absolutely, in lower case, without a trailing dot, such as "app.example.com"`)
}

// checkPlace refuses what no one would be told: a name that a more specific
// zone answers for, unless it delegates to that zone or is an address of its
// nameservers, and what is below a delegation but no such address.
func (z Zones) checkPlace(at, name, apex string) *Error {
	zone, delegated := z.Zones[apex], false
	for cut := name; cut != apex; _, cut, _ = strings.Cut(cut, ".") {
		if !zone.holds(cut, RecordNS) {
			continue
		}
		if delegated = true; cut != name && !zone.only(name, RecordA, RecordAAAA) {
			return Invalid(at, name, "below the delegation of "+cut, "put it into that zone, or drop the NS records")
		}
	}
	if of, _ := z.ZoneOf(name); of != apex && !delegated {
		return Invalid(at, name, "belongs to the zone "+of, "move it there")
	}
	return nil
}

func (z Zone) holds(name, kind string) bool {
	return slices.ContainsFunc(z.Records[name], func(r Record) bool { return r.Type == kind })
}

func (z Zone) only(name string, kinds ...string) bool {
	return !slices.ContainsFunc(z.Records[name], func(r Record) bool { return !slices.Contains(kinds, r.Type) })
}

// checkRecords reports what is wrong with the records of one name.
func (z Zone) checkRecords(es *Errors, at, name, apex string) {
	records := z.Records[name]
	if len(records) == 0 {
		es.Add(Invalid(at, "", "no record", "leave the name out"))
	}
	ttl := map[string]uint32{}
	for i, r := range records {
		at := path(at, i)
		es.Add(r.check(at))
		if first, ok := ttl[r.Type]; ok && first != r.TTL {
			es.Add(Invalid(at+".ttl", fmt.Sprint(r.TTL), "differs from the TTL of the same type before it", "give all records of one name and type one TTL (RFC 2181 §5.2)"))
		} else {
			ttl[r.Type] = r.TTL
		}
		if slices.ContainsFunc(records[:i], func(o Record) bool { return o.Type == r.Type && o.Value == r.Value }) {
			es.Add(Invalid(at, r.Value, "duplicate record", "list it once"))
		}
		if r.Type == RecordNS && z.holds(r.Value, RecordCNAME) {
			es.Add(Invalid(at+".value", r.Value, "a nameserver's name that is a CNAME", "name the server by a name with addresses (RFC 2181 §10.3)"))
		}
	}
	switch {
	case z.holds(name, RecordCNAME) && name == apex:
		es.Add(Invalid(at, name, "a CNAME at the apex", "use A or AAAA records there"))
	case z.holds(name, RecordCNAME) && len(records) > 1:
		es.Add(Invalid(at, name, "a CNAME with other records", "a CNAME stands alone at its name"))
	case z.holds(name, RecordNS) && name != apex && !z.only(name, RecordNS, RecordA, RecordAAAA):
		es.Add(Invalid(at, name, "a delegation with records that only the other servers may hold", "put them into that zone, or drop the NS records"))
	case z.loops(name):
		es.Add(Invalid(at, name, "a CNAME that leads back to itself", "end the chain in addresses or in another zone"))
	}
}

// check reports what is wrong with one record by itself.
func (r Record) check(at string) *Error {
	if r.TTL > maxTTL {
		return Invalid(at+".ttl", fmt.Sprint(r.TTL), "more than RFC 2181 allows", fmt.Sprintf("give at most %d seconds", maxTTL))
	}
	at += ".value"
	switch r.Type {
	case RecordA:
		if a, err := netip.ParseAddr(r.Value); err != nil || !a.Is4() {
			return Invalid(at, r.Value, "not an IPv4 address", `write it as "192.0.2.1"`)
		}
	case RecordAAAA:
		if a, err := netip.ParseAddr(r.Value); err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" {
			return Invalid(at, r.Value, "not an IPv6 address", `write it as "2001:db8::1"`)
		}
	case RecordCNAME:
		return checkRecordName(at, r.Value)
	case RecordNS:
		return CheckHostname(at, r.Value)
	case RecordTXT:
		if r.Value == "" || len(r.Value) > maxTXT {
			return Invalid(at, "", fmt.Sprintf("%d bytes of text", len(r.Value)), fmt.Sprintf("give 1 to %d bytes", maxTXT))
		}
	default:
		return Invalid(strings.TrimSuffix(at, ".value")+".type", r.Type, "not a type of record that zones hold", "use A, AAAA, CNAME, NS or TXT")
	}
	return nil
}

// loops tells whether the chain of CNAMEs from a name, as far as it stays in
// this zone, comes back to the name.
func (z Zone) loops(name string) bool {
	at := name
	for range len(z.Records) {
		i := slices.IndexFunc(z.Records[at], func(r Record) bool { return r.Type == RecordCNAME })
		if i < 0 {
			return false
		}
		if at = z.Records[at][i].Value; at == name {
			return true
		}
	}
	return false // the chain enters a loop that does not include this name
}
