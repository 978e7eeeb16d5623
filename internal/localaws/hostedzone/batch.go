package hostedzone

import (
	"fmt"
	"slices"
	"strings"
)

// Zone is what a hosted zone holds.
type Zone struct {
	Name    string      `json:"name"` // apex, kept form
	Records []RecordSet `json:"records"`
}

// The times of the records that every zone begins with, in seconds, as Route
// 53 sets them.
const (
	nsTTL  = 172800
	soaTTL = 900
)

// New is a zone as it is created, served by the given name servers.
func New(name string, nameServers []string) Zone {
	ns := RecordSet{Name: name, Type: TypeNS, TTL: nsTTL}
	for _, s := range nameServers {
		ns.Values = append(ns.Values, s+".")
	}
	return Zone{Name: name, Records: []RecordSet{ns, {
		Name: name, Type: TypeSOA, TTL: soaTTL,
		Values: []string{nameServers[0] + ". awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"},
	}}}
}

// Empty tells whether the zone has only what it began with, and so may be
// deleted.
func (z Zone) Empty() bool {
	return !slices.ContainsFunc(z.Records, func(r RecordSet) bool { return !z.own(r) })
}

// own tells whether the record set is one of the two that a zone must have.
func (z Zone) own(r RecordSet) bool {
	return r.Name == z.Name && (r.Type == TypeNS || r.Type == TypeSOA)
}

// Action is what a change does.
type Action string

// The actions of a change batch.
const (
	Create Action = "CREATE"
	Delete Action = "DELETE"
	Upsert Action = "UPSERT"
)

// Change is one change of a batch.
type Change struct {
	Action Action
	Set    RecordSet
}

// Limits of a change batch and of a zone. An UPSERT counts twice.
const (
	maxBatchRecords    = 1000
	maxBatchCharacters = 32000
	maxZoneRecords     = 10000
)

// Apply makes all changes of a batch or none of them. Problems, worded as
// Route 53 does, are why it made none. alias says what is wrong with an
// alias's target, or "".
func (z Zone) Apply(batch []Change, alias func(RecordSet) string) (Zone, []string) {
	problems := tooLarge(batch)
	for _, c := range batch {
		problems = append(problems, z.permitted(c)...)
	}
	problems = append(problems, contradictions(batch)...)
	if len(problems) > 0 {
		return z, problems
	}
	next := Zone{Name: z.Name, Records: slices.Clone(z.Records)}
	for _, c := range batch {
		if p := next.apply(c); p != "" {
			problems = append(problems, p)
		}
	}
	problems = append(problems, next.conflicts(batch)...)
	for _, c := range batch {
		if c.Action != Delete && c.Set.Alias != nil {
			problems = append(problems, next.aliasProblem(c.Set, alias)...)
		}
	}
	if len(next.Records) > maxZoneRecords {
		problems = append(problems, fmt.Sprintf("Number of record sets in the hosted zone would be %d, more than %d", len(next.Records), maxZoneRecords))
	}
	if len(problems) > 0 {
		return z, problems
	}
	return next, nil
}

func tooLarge(batch []Change) []string {
	records, characters := 0, 0
	for _, c := range batch {
		times := 1
		if c.Action == Upsert {
			times = 2
		}
		records += times * max(1, len(c.Set.Values))
		for _, v := range c.Set.Values {
			characters += times * len(v)
		}
	}
	var out []string
	if records > maxBatchRecords {
		out = append(out, fmt.Sprintf("Number of records limit of %d exceeded.", maxBatchRecords))
	}
	if characters > maxBatchCharacters {
		out = append(out, fmt.Sprintf("Number of characters limit of %d exceeded.", maxBatchCharacters))
	}
	return out
}

// permitted checks a change by itself.
func (z Zone) permitted(c Change) []string {
	name, wire := c.Set.Name, WireName(c.Set.Name)
	switch {
	case !Within(name, z.Name):
		return []string{fmt.Sprintf("RRSet with DNS name %s is not permitted in zone %s", wire, z.Name)}
	case c.Action == Delete && z.own(c.Set) && c.Set.Type == TypeSOA:
		return []string{"A HostedZone must contain exactly one SOA record."}
	case c.Action == Delete && z.own(c.Set):
		return []string{"A HostedZone must contain at least one NS record for the zone itself."}
	case c.Action == Delete:
		return nil // any other mistake: it will not be found
	case name == z.Name && c.Set.Type == TypeCNAME:
		return []string{fmt.Sprintf("RRSet of type CNAME with DNS name %s is not permitted at apex in zone %s", wire, z.Name)}
	case c.Set.Type == TypeSOA && name != z.Name:
		return []string{fmt.Sprintf("RRSet of type SOA with DNS name %s is only permitted at apex in zone %s", wire, z.Name)}
	}
	return c.Set.problems()
}

// contradictions are record sets that a batch names more than once, except
// for a replacement: deleted, then created.
func contradictions(batch []Change) []string {
	var out []string
	last := map[string]Action{}
	for _, c := range batch {
		key := c.Set.Type + " " + WireName(c.Set.Name)
		before, twice := last[key]
		if twice && (before != Delete || c.Action == Delete) {
			out = append(out, fmt.Sprintf("The request contains an invalid set of changes for a resource record set '%s'", key))
		}
		last[key] = c.Action
	}
	return out
}

// apply makes one change to a zone that is not shared yet, or tells why not.
func (z *Zone) apply(c Change) string {
	at, found := slices.BinarySearchFunc(z.Records, c.Set, compare)
	set := fmt.Sprintf("[name='%s', type='%s']", WireName(c.Set.Name), c.Set.Type)
	switch {
	case c.Action == Create && found:
		return fmt.Sprintf("Tried to create resource record set %s but it already exists", set)
	case c.Action == Delete && !found:
		return fmt.Sprintf("Tried to delete resource record set %s but it was not found", set)
	case c.Action == Delete && !z.Records[at].equal(c.Set):
		return fmt.Sprintf("Tried to delete resource record set %s but the values provided do not match the current values", set)
	case c.Action == Delete:
		z.Records = slices.Delete(z.Records, at, at+1)
	case found:
		z.Records[at] = c.Set
	default:
		z.Records = slices.Insert(z.Records, at, c.Set)
	}
	return ""
}

// conflicts are CNAMEs that would not be alone at their names (RFC 1034 3.6.2)
// after the whole batch.
func (z Zone) conflicts(batch []Change) []string {
	var out []string
	for _, c := range batch {
		others, cname := false, false
		for _, r := range z.at(c.Set.Name) {
			others = others || r.Type != c.Set.Type
			cname = cname || r.Type == TypeCNAME
		}
		switch {
		case c.Action == Delete || !others || !cname:
		case c.Set.Type == TypeCNAME:
			out = append(out, fmt.Sprintf("RRSet of type CNAME with DNS name %s is not permitted as it conflicts with other records with the same DNS name in zone %s", WireName(c.Set.Name), z.Name))
		default:
			out = append(out, fmt.Sprintf("RRSet of type %s with DNS name %s is not permitted because a conflicting RRSet of type CNAME with the same DNS name already exists in zone %s", c.Set.Type, WireName(c.Set.Name), z.Name))
		}
	}
	return out
}

// aliasProblem checks an alias against the zone that it will be in.
func (z Zone) aliasProblem(r RecordSet, alias func(RecordSet) string) []string {
	if r.Type == TypeNS || r.Type == TypeSOA {
		return []string{fmt.Sprintf("Tried to create an alias of type %s, but aliases of type NS and SOA are not permitted", r.Type)}
	}
	if p := alias(r); p != "" {
		return []string{p}
	}
	if !Within(r.Alias.Name, z.Name) {
		return nil
	}
	for _, t := range z.at(r.Alias.Name) {
		if t.Type == r.Type && t.Name != r.Name {
			return nil
		}
	}
	return []string{fmt.Sprintf("Tried to create an alias that targets %s, type %s in zone %s, but that target was not found", WireName(r.Alias.Name), r.Type, r.Alias.ZoneID)}
}

// From are the record sets from a name and type on, in the order in which they
// are listed.
func (z Zone) From(first RecordSet) []RecordSet {
	at, _ := slices.BinarySearchFunc(z.Records, first, compare)
	return z.Records[at:]
}

// at are the record sets of a name.
func (z Zone) at(name string) []RecordSet {
	from, _ := slices.BinarySearchFunc(z.Records, RecordSet{Name: name}, compare)
	to := from
	for to < len(z.Records) && z.Records[to].Name == name {
		to++
	}
	return z.Records[from:to]
}

// below tells whether a name has descendants.
func (z Zone) below(name string) bool {
	from, _ := slices.BinarySearchFunc(z.Records, reversed(name), func(r RecordSet, want string) int {
		return strings.Compare(reversed(r.Name), want)
	})
	for _, r := range z.Records[from:] {
		if r.Name != name {
			return Within(r.Name, name)
		}
	}
	return false
}
