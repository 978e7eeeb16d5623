package postern

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Node is a data-plane process that registered itself, and what it said last.
//
// A node is waited for until it is fenced: what must no longer be reachable is
// so only when every node that is not fenced has applied a route table that
// says so.
type Node struct {
	ID      string   // a label; the name of the token that the node shows
	Regions []string // whose doors it is, sorted
	// Egress are those of them whose egress it is, sorted; nil: it did not say.
	Egress  []string
	Version string // of its program
	BootID  string // drawn anew by each process
	// ReportSeq is the number of the last report of this boot that was taken.
	ReportSeq int64
	// AppliedRevision is in force on the node and kept on its disk: it never
	// serves an earlier one again, not even after a restart. 0: it has no
	// route table and refuses everything.
	AppliedRevision int64
	RegisteredAt    time.Time // the first time
	LastSeen        time.Time

	// Fenced: somebody asserted that no traffic reaches the node. It is not
	// waited for, and refuses everything as soon as it hears of it.
	Fenced   bool
	FencedBy string
	FencedAt time.Time

	ResourceVersion int64 // grows with registrations, fencing and its end; not with reports
}

// Exits tells whether the node is, or may be, an egress of a region.
func (n Node) Exits(region string) bool {
	if n.Egress == nil {
		return slices.Contains(n.Regions, region)
	}
	return slices.Contains(n.Egress, region)
}

// NodeState sums a node up in a word.
type NodeState string

// The states of a [Node].
const (
	NodeReady  NodeState = "ready"  // heard of lately, and it has applied the current revision
	NodeBehind NodeState = "behind" // heard of lately, but it has not
	NodeSilent NodeState = "silent" // not heard of lately; it may still serve what it last knew
	NodeFenced NodeState = "fenced"
)

// NodeSilentAfter is how long a node may say nothing; it reports every few
// seconds.
const NodeSilentAfter = 15 * time.Second

// State is the node's state at a time, when the current route table has this
// revision.
func (n Node) State(now time.Time, revision int64) NodeState {
	switch {
	case n.Fenced:
		return NodeFenced
	case now.Sub(n.LastSeen) > NodeSilentAfter:
		return NodeSilent
	case n.AppliedRevision < revision:
		return NodeBehind
	}
	return NodeReady
}

// Validate reports what is wrong with what a node says of itself.
func (n Node) Validate() error {
	var es Errors
	es.Add(CheckLabel("id", n.ID))
	if len(n.Regions) == 0 {
		es.Add(Invalid("regions", "", "missing", "name the regions whose doors the node is"))
	}
	seen := map[string]bool{}
	for i, r := range n.Regions {
		es.Add(CheckRegionName(path("regions", i), r))
		es.Add(unique(seen, path("regions", i), r, "region"))
	}
	for i, r := range n.Egress {
		if !slices.Contains(n.Regions, r) {
			es.Add(Invalid(path("egress_regions", i), r, "not one of the node's regions", "name it in regions, too"))
		}
	}
	if len(n.Version) > 100 {
		es.Add(Invalid("version", n.Version[:20]+"…", "longer than 100 bytes", "shorten it"))
	}
	es.Add(checkBoot(n.BootID))
	es.Add(notNegative("applied_revision", n.AppliedRevision))
	return es.Err()
}

func checkBoot(v string) *Error {
	if len(v) >= 8 && len(v) <= 64 {
		return nil
	}
	return Invalid("boot_id", v, "not between 8 and 64 bytes", "draw a random one when the process starts")
}

func notNegative(field string, v int64) *Error {
	if v >= 0 {
		return nil
	}
	return Invalid(field, strconv.FormatInt(v, 10), "negative", "give the number as it is")
}

// Fences is the refusal that a fenced node gets; nil for one that is not. Its
// Field tells it from other conflicts.
func (n Node) Fences() error {
	if !n.Fenced {
		return nil
	}
	return &Error{
		Code: CodeConflict, Field: FieldFenced, Value: n.ID, Message: "the node was fenced by " + n.FencedBy,
		Fix: "refuse everything until an operator has put it back in (postern node unfence)",
	}
}

// MayUnfence is the refusal to wait for a node again that has not been told of
// its fence: cut off, it may serve what it knew before, and would be trusted
// with it. nil when it was told, and is heard of.
func (n Node) MayUnfence(now time.Time) error {
	if n.LastSeen.After(n.FencedAt) && now.Sub(n.LastSeen) <= NodeSilentAfter {
		return nil
	}
	return &Error{
		Code: CodeConflict, Field: "id", Value: n.ID, Message: "the node has not been heard of since it was fenced, so it may still serve what it knew before",
		Fix: "start it or mend its link, and try again in a few seconds; if it is gone for good, remove it (postern node remove " + n.ID + ")",
	}
}

// The fields by which a node tells the conflicts that concern it.
const (
	FieldFenced = "fenced"
	FieldBootID = "boot_id"
)

// NodeReport is what a node saw since its last report. Reports of one boot are
// numbered from 1, and one is sent unchanged until it was taken: what it
// counts is neither lost nor doubled.
type NodeReport struct {
	Node            string
	BootID          string
	Seq             int64
	AppliedRevision int64
	Arrivals        []ArrivalCount
}

// MaxReportArrivals bounds one report; a node that saw more sends several.
const MaxReportArrivals = 2000

// Validate reports what is wrong with the report by itself.
func (r NodeReport) Validate() error {
	var es Errors
	es.Add(CheckLabel("id", r.Node))
	es.Add(checkBoot(r.BootID))
	if r.Seq < 1 {
		es.Add(Invalid("seq", strconv.FormatInt(r.Seq, 10), "not a report's number", "count reports from 1"))
	}
	es.Add(notNegative("applied_revision", r.AppliedRevision))
	if len(r.Arrivals) > MaxReportArrivals {
		es.Add(Invalid("arrivals", strconv.Itoa(len(r.Arrivals)), fmt.Sprintf("more than %d", MaxReportArrivals), "leave the rest to the next report"))
		return es.Err()
	}
	for i, a := range r.Arrivals {
		a.check(path("arrivals", i), &es)
	}
	return es.Err()
}

// The listeners of an ingress and of an egress.
const (
	ListenerPrivate = "private"
	ListenerPublic  = "public"
	// ListenerSCIM is the SCIM-only public one. It counts connections that are
	// refused, and the requests of the others.
	ListenerSCIM = "scim"

	ListenerConnect     = "connect"     // an HTTP proxy
	ListenerTransparent = "transparent" // bound to one tenant
)

// Listeners lists every kind of listener.
func Listeners() []string {
	return []string{ListenerPrivate, ListenerPublic, ListenerSCIM, ListenerConnect, ListenerTransparent}
}

// ja4 is the form of FoxIO's fingerprint of TLS over TCP.
var ja4 = regexp.MustCompile(`^t[0-9s][0-9][di]\d{4}[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}$`)

func (a ArrivalCount) check(at string, es *Errors) {
	es.Add(CheckRegionName(at+".region", a.Region))
	if !slices.Contains(Listeners(), a.Listener) {
		es.Add(Invalid(at+".listener", a.Listener, "no such listener", "use one of "+strings.Join(Listeners(), ", ")))
	}
	if a.EndpointID != "" {
		es.Add(CheckVPCEndpointID(at+".vpc_endpoint_id", a.EndpointID))
	}
	if a.Source != "" {
		if _, err := netip.ParseAddr(a.Source); err != nil {
			es.Add(Invalid(at+".source", a.Source, "not an IP address", "give the client's address"))
		}
	}
	if len(a.ServerName) > 255 {
		es.Add(Invalid(at+".server_name", a.ServerName[:20]+"…", "longer than 255 bytes", "give the server name as the client sent it"))
	}
	if a.Organization != "" {
		es.Add(CheckLabel(at+".organization", a.Organization))
	}
	if a.JA4 != "" && !ja4.MatchString(a.JA4) {
		es.Add(Invalid(at+".ja4", strconv.Itoa(len(a.JA4))+" bytes", "not a JA4 fingerprint", "leave it out"))
	}
	if a.Denial != "" && !slices.Contains(Denials(), a.Denial) {
		es.Add(Invalid(at+".reason", string(a.Denial), "no such denial", "see docs/denials.md"))
	}
	if a.Count < 0 || a.Count == 0 && a.Denial != "" {
		es.Add(Invalid(at+".count", strconv.FormatInt(a.Count, 10), "counts nothing", "leave it out"))
	}
	if a.FirstSeen.IsZero() || a.LastSeen.Before(a.FirstSeen) {
		es.Add(Invalid(at+".last_seen", a.LastSeen.Format(time.RFC3339), "before it was first seen", "give both times"))
	}
}
