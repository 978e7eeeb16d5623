package nodelink

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
)

const (
	// maxPending bounds the kinds of arrivals that a node keeps while the
	// control plane does not take its reports. What exceeds it is still
	// counted, by region, listener, organization and denial.
	maxPending = 40_000
	// maxPendingNobody bounds those in it that are on no organization's
	// account, so that strangers neither drive out what organizations are to
	// know nor hold it up: it fits into one report.
	maxPendingNobody = postern.MaxReportArrivals
)

// heartbeat is how often a node reports though it has nothing to say.
const heartbeat = 5 * time.Second

// outbox holds what is to be reported: one report that is being sent, which
// never changes, and what came after it.
type outbox struct {
	id, boot string
	seq      int64 // of the last report that was made
	sending  *client.NodeReport
	pending  map[arrivalKey]postern.ArrivalCount
	nobodys  int       // of the keys in pending
	revision int64     // that was reported last
	taken    time.Time // when a report was taken last
}

// arrivalKey is an arrival without its counts.
type arrivalKey struct {
	region, listener, endpoint, source, serverName string
	denial                                         postern.Denial
	organization                                   string
}

func newOutbox(id, boot string) *outbox {
	return &outbox{id: id, boot: boot, pending: map[arrivalKey]postern.ArrivalCount{}}
}

// add keeps arrivals for the next report.
func (o *outbox) add(as []postern.ArrivalCount) {
	for _, a := range as {
		k := arrivalKey{a.Region, a.Listener, a.EndpointID, a.Source, a.ServerName, a.Denial, a.Organization}
		if _, ok := o.pending[k]; !ok && (len(o.pending) >= maxPending || k.nobodys() && o.nobodys >= maxPendingNobody) {
			a.EndpointID, a.Source, a.ServerName, a.JA4 = "", "", "", ""
			k = arrivalKey{region: a.Region, listener: a.Listener, denial: a.Denial, organization: a.Organization} // there are few of these
		}
		before, ok := o.pending[k]
		if !ok && k.nobodys() {
			o.nobodys++
		}
		if ok {
			a.Count += before.Count
			if before.FirstSeen.Before(a.FirstSeen) {
				a.FirstSeen = before.FirstSeen
			}
			if before.LastSeen.After(a.LastSeen) {
				a.LastSeen = before.LastSeen
			}
			if a.JA4 == "" {
				a.JA4 = before.JA4
			}
		}
		o.pending[k] = a
	}
}

// next is the report to send now: the one that was not taken yet, or a new one
// if there is something to say or force is set; nil: nothing.
func (o *outbox) next(now time.Time, revision int64, sum string, force bool) *client.NodeReport {
	if o.sending != nil {
		return o.sending
	}
	if len(o.pending) == 0 && o.revision == revision && now.Sub(o.taken) < heartbeat && !force {
		return nil
	}
	o.seq++
	o.sending = &client.NodeReport{ID: o.id, BootID: o.boot, Seq: o.seq, AppliedRevision: revision, AppliedSum: sum}
	keys := slices.SortedFunc(maps.Keys(o.pending), arrivalKey.compare)
	for _, k := range keys[:min(len(keys), postern.MaxReportArrivals)] {
		a := o.pending[k]
		delete(o.pending, k)
		if k.nobodys() {
			o.nobodys--
		}
		o.sending.Arrivals = append(o.sending.Arrivals, client.Arrival{
			Region: a.Region, Listener: a.Listener, VPCEndpointID: a.EndpointID, Source: a.Source, ServerName: a.ServerName,
			Reason: string(a.Denial), Organization: a.Organization, Count: a.Count, FirstSeen: a.FirstSeen, LastSeen: a.LastSeen, JA4: a.JA4,
		})
	}
	return o.sending
}

// done forgets the report that was sent: it was taken, or never will be.
func (o *outbox) done(now time.Time) {
	o.revision, o.taken, o.sending = o.sending.AppliedRevision, now, nil
}

// empty tells that nothing that was counted waits.
func (o *outbox) empty() bool { return o.sending == nil && len(o.pending) == 0 }

// nobodys tells whether it is a refusal on no organization's account.
func (k arrivalKey) nobodys() bool { return k.denial != "" && k.organization == "" }

// rank is the order in which arrivals are reported: first who was admitted,
// which cutovers go by, then what concerns organizations, then strangers.
func (k arrivalKey) rank() int {
	switch {
	case k.denial == "":
		return 0
	case k.organization != "":
		return 1
	default:
		return 2
	}
}

func (k arrivalKey) compare(b arrivalKey) int {
	return cmp.Or(
		cmp.Compare(k.rank(), b.rank()),
		cmp.Compare(k.region, b.region), cmp.Compare(k.listener, b.listener), cmp.Compare(k.denial, b.denial), cmp.Compare(k.organization, b.organization),
		cmp.Compare(k.endpoint, b.endpoint), cmp.Compare(k.serverName, b.serverName), cmp.Compare(k.source, b.source),
	)
}
