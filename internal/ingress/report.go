package ingress

import (
	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/relay"
	"github.com/postern-net/postern/internal/sighting"
)

// MaxSightings bounds a report.
const MaxSightings = sighting.Max

// Sighting counts the connections that looked alike; only those of the public
// listener tell their source.
type Sighting = sighting.Sighting

// Report is evidence: who arrived where, and who was refused.
type Report = sighting.Report

func keyOf(a *relay.Arrival, organization string, d postern.Denial) sighting.Key {
	k := sighting.Key{Listener: a.Listener, VPCEndpointID: a.Proxy.VPCEndpointID, Host: a.Hello.ServerName, Organization: organization, Denial: d}
	if a.Listener == Public {
		k.Source = a.Client().Addr()
	}
	return k
}

// sightOpened counts an admitted connection, and notes that its client stays: a
// cutover goes by who is there, publicly or privately.
func (in *Ingress) sightOpened(a *relay.Arrival, organization string) {
	k := keyOf(a, organization, "")
	in.hint(in.seen.Opened(k, a.At), k, a)
}

// sight counts an arrival that was refused.
func (in *Ingress) sight(k sighting.Key, a *relay.Arrival) { in.hint(in.seen.Add(k, a.At), k, a) }

// hint notes, of the first arrival of its kind in a report, which program that
// was: that is done once per sighting, of which there are so many at most, and
// not for each connection.
func (in *Ingress) hint(first bool, k sighting.Key, a *relay.Arrival) {
	if first && len(a.HelloBytes) > 0 {
		in.seen.Hint(k, clienthello.JA4(a.HelloBytes))
	}
}

// sightClosed notes the end of an admitted connection.
func (in *Ingress) sightClosed(a *relay.Arrival, organization string) {
	in.seen.Closed(keyOf(a, organization, ""))
}

// Report is what was seen since the last [Ingress.Drain].
func (in *Ingress) Report() Report { return in.seen.Snapshot(false) }

// Drain returns the report and starts a new one.
func (in *Ingress) Drain() Report { return in.seen.Snapshot(true) }
