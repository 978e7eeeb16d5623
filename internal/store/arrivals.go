package store

import (
	"time"

	"github.com/postern-net/postern"
)

// maxArrivals bounds the table; the rows that were not seen for longest go.
const maxArrivals = 50_000

const (
	arrivalKey     = `region, listener, endpoint, source, server_name, reason, organization`
	arrivalColumns = arrivalKey + `, count, first_seen, last_seen`
)

// AddArrivals adds counts that a node reported to those that are there.
func (t *Tx) AddArrivals(as []postern.ArrivalCount) error {
	for _, a := range as {
		if _, err := t.exec(`INSERT INTO arrivals (`+arrivalColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (`+arrivalKey+`) DO UPDATE SET
				count = arrivals.count + excluded.count, last_seen = max(arrivals.last_seen, excluded.last_seen),
				first_seen = min(arrivals.first_seen, excluded.first_seen)`,
			a.Region, a.Listener, a.EndpointID, a.Source, a.ServerName, a.Denial, a.Organization, a.Count, micros(a.FirstSeen), micros(a.LastSeen)); err != nil {
			return err
		}
		if err := t.seeProbe(a); err != nil {
			return err
		}
	}
	// Counted and not cut at a time: a node reports many rows of one time.
	_, err := t.exec(`DELETE FROM arrivals WHERE (`+arrivalKey+`) IN
		(SELECT `+arrivalKey+` FROM arrivals ORDER BY last_seen LIMIT max(0, (SELECT count(*) FROM arrivals) - ?))`, maxArrivals)
	return err
}

func scanArrival(r row) (a postern.ArrivalCount, err error) {
	var first, last int64
	err = r.Scan(&a.Region, &a.Listener, &a.EndpointID, &a.Source, &a.ServerName, &a.Denial, &a.Organization, &a.Count, &first, &last)
	a.FirstSeen, a.LastSeen = timeOf(first), timeOf(last)
	return a, err
}

// ListDenials lists refused arrivals, the latest first; organization "" lists
// everybody's.
func (t *Tx) ListDenials(organization string, since time.Time, limit int) ([]postern.ArrivalCount, error) {
	return list(t, scanArrival, `SELECT `+arrivalColumns+` FROM arrivals WHERE reason <> '' AND last_seen >= ? AND (? = '' OR organization = ?)
		ORDER BY last_seen DESC, region, listener, endpoint, source, server_name LIMIT ?`, micros(since), organization, organization, limit)
}
