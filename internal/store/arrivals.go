package store

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/postern-net/postern"
)

// The arrivals are bounded apart, so that who can make many of one kind does
// not drive out another kind: an address of the internet costs little, an
// endpoint of an organization more, and a name that a stranger asks for
// nothing.
const (
	maxAdmittedPrivate = 20_000 // those that were not seen for longest go
	maxAdmittedPublic  = 15_000
	maxAdmittedSCIM    = 5_000
	// maxAdmittedOutbound bounds each listener of an egress: a row for each
	// workload and hostname.
	maxAdmittedOutbound = 10_000
	maxRefused          = 15_000 // on organizations' accounts, in all
	// maxRefusedEach bounds one organization's refusals at one listener. What
	// exceeds it is folded into a row for each region, endpoint and reason.
	maxRefusedEach = 2_000
	// maxRefusedNobody bounds the refusals on nobody's account. What exceeds
	// it is folded into a row for each region, listener and reason.
	maxRefusedNobody = 2_000
	// stale is the age from which a refusal makes room where there is none, so
	// that the rows of an old flood do not hide what is new.
	stale = 24 * time.Hour
)

const (
	arrivalKey     = `region, listener, endpoint, source, server_name, reason, organization`
	arrivalColumns = arrivalKey + `, count, first_seen, last_seen, ja4`
	// chosen are the refusals that fold changes; of the others there are few,
	// so they are in no bound.
	chosen = `reason <> '' AND (source <> '' OR server_name <> '' OR organization = '' AND endpoint <> '')`
)

// arrivalID is an arrival without its counts.
type arrivalID struct {
	region, listener, endpoint, source, serverName string
	denial                                         postern.Denial
	organization                                   string
}

func idOf(a postern.ArrivalCount) arrivalID {
	return arrivalID{a.Region, a.Listener, a.EndpointID, a.Source, a.ServerName, a.Denial, a.Organization}
}

// kind is what arrivals are bounded by.
type kind struct {
	listener     string
	refused      bool
	organization string // of refusals
}

func kindOf(a postern.ArrivalCount) kind {
	switch {
	case a.Denial == "":
		return kind{listener: a.Listener}
	case a.Organization == "":
		return kind{refused: true}
	default:
		return kind{listener: a.Listener, refused: true, organization: a.Organization}
	}
}

// bound is how many rows of a kind there may be before others are folded; 0:
// they are never folded.
func (k kind) bound() int {
	switch {
	case !k.refused:
		return 0
	case k.organization == "":
		return maxRefusedNobody
	default:
		return maxRefusedEach
	}
}

// fold leaves out what a client can choose freely.
func fold(a postern.ArrivalCount) postern.ArrivalCount {
	a.Source, a.ServerName, a.JA4 = "", "", ""
	if a.Organization == "" {
		a.EndpointID = ""
	}
	return a
}

// plus adds what was seen of the same arrival.
func plus(a, b postern.ArrivalCount) postern.ArrivalCount {
	a.Count += b.Count
	if b.FirstSeen.Before(a.FirstSeen) {
		a.FirstSeen = b.FirstSeen
	}
	if b.LastSeen.After(a.LastSeen) {
		a.LastSeen = b.LastSeen
	}
	return a
}

// arrivals adds counts to the table in one transaction. Rows are counted when
// the first new one comes, for mostly there is none.
type arrivals struct {
	tx     *Tx
	update *sql.Stmt
	insert *sql.Stmt
	latest time.Time

	rows    map[kind]int // nil: not counted
	cleared map[kind]bool
	folded  map[arrivalID]postern.ArrivalCount
}

// AddArrivals adds counts that a node reported to those that are there. Every
// count is kept, within the bounds of this file; what goes over them loses
// what the client chose.
func (t *Tx) AddArrivals(as []postern.ArrivalCount) (err error) {
	w := arrivals{tx: t, cleared: map[kind]bool{}, folded: map[arrivalID]postern.ArrivalCount{}}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.prepare(); err != nil {
		return err
	}
	for _, a := range as {
		if a.LastSeen.After(w.latest) {
			w.latest = a.LastSeen
		}
	}
	for _, a := range as {
		if err := w.add(a); err != nil {
			return err
		}
		if err := t.seeProbe(a); err != nil {
			return err
		}
	}
	for _, a := range w.folded {
		if err := w.write(a); err != nil {
			return err
		}
	}
	return w.trim()
}

func (w *arrivals) prepare() (err error) {
	if w.update, err = w.tx.prepare(`UPDATE arrivals SET count = count + ?, first_seen = min(first_seen, ?), last_seen = max(last_seen, ?),
		ja4 = CASE WHEN ? = '' THEN ja4 ELSE ? END
		WHERE region = ? AND listener = ? AND endpoint = ? AND source = ? AND server_name = ? AND reason = ? AND organization = ?`); err != nil {
		return err
	}
	w.insert, err = w.tx.prepare(`INSERT INTO arrivals (` + arrivalColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	return err
}

func (t *Tx) prepare(query string) (*sql.Stmt, error) {
	s, err := t.tx.PrepareContext(t.ctx, query)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	return s, nil
}

func (w *arrivals) close() error {
	var errs []error
	for _, s := range []*sql.Stmt{w.update, w.insert} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// add adds to the arrival's row, makes one where there is none and there may
// be one, or else keeps the counts for the row that they are folded into.
func (w *arrivals) add(a postern.ArrivalCount) error {
	if done, err := w.addTo(a); done || err != nil {
		return err
	}
	if w.rows == nil {
		if err := w.count(); err != nil {
			return err
		}
	}
	f, k := fold(a), kindOf(a)
	if k.refused && idOf(f) != idOf(a) {
		full, err := w.full(k)
		if err != nil {
			return err
		}
		if full {
			if before, ok := w.folded[idOf(f)]; ok {
				f = plus(f, before)
			}
			w.folded[idOf(f)] = f
			return nil
		}
		w.rows[k]++
	} else if !k.refused {
		w.rows[k]++
	}
	return w.create(a)
}

// full tells whether there is no place for another row of a kind of refusals.
// Those that are stale make some.
func (w *arrivals) full(k kind) (bool, error) {
	if w.rows[k] < k.bound() {
		return false, nil
	}
	if !w.cleared[k] {
		w.cleared[k] = true
		gone, err := w.tx.exec(`DELETE FROM arrivals WHERE last_seen < ? AND organization = ? AND (? = '' OR listener = ?) AND `+chosen,
			micros(w.latest.Add(-stale)), k.organization, k.listener, k.listener)
		if err != nil {
			return false, err
		}
		w.rows[k] -= int(gone)
	}
	return w.rows[k] >= k.bound(), nil
}

// write adds a folded arrival.
func (w *arrivals) write(a postern.ArrivalCount) error {
	if done, err := w.addTo(a); done || err != nil {
		return err
	}
	return w.create(a)
}

// addTo adds to the row that is there; false: there is none.
func (w *arrivals) addTo(a postern.ArrivalCount) (bool, error) {
	res, err := w.update.ExecContext(w.tx.ctx, a.Count, micros(a.FirstSeen), micros(a.LastSeen), a.JA4, a.JA4,
		a.Region, a.Listener, a.EndpointID, a.Source, a.ServerName, a.Denial, a.Organization)
	if err != nil {
		return false, fmt.Errorf("write: %w", err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

func (w *arrivals) create(a postern.ArrivalCount) error {
	_, err := w.insert.ExecContext(w.tx.ctx, a.Region, a.Listener, a.EndpointID, a.Source, a.ServerName, a.Denial, a.Organization,
		a.Count, micros(a.FirstSeen), micros(a.LastSeen), a.JA4)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// count counts the rows of every kind.
func (w *arrivals) count() error {
	type group struct {
		kind
		rows int
	}
	groups, err := list(w.tx, func(r row) (g group, err error) {
		err = r.Scan(&g.refused, &g.listener, &g.organization, &g.rows)
		return g, err
	}, `SELECT reason <> '', CASE WHEN reason <> '' AND organization = '' THEN '' ELSE listener END,
		CASE WHEN reason <> '' THEN organization ELSE '' END, count(*) FROM arrivals WHERE reason = '' OR `+chosen+` GROUP BY 1, 2, 3`)
	w.rows = make(map[kind]int, len(groups))
	for _, g := range groups {
		w.rows[g.kind] = g.rows
	}
	return err
}

// trim deletes what exceeds the bounds, what was not seen for longest first.
// Without a new row there is nothing to delete.
func (w *arrivals) trim() error {
	refused := 0
	for k, n := range w.rows {
		if k.organization != "" {
			refused += n
		}
	}
	for _, b := range []struct {
		which string
		is    string
		over  int
	}{
		{`reason = '' AND listener = ?`, postern.ListenerPrivate, w.rows[kind{listener: postern.ListenerPrivate}] - maxAdmittedPrivate},
		{`reason = '' AND listener = ? AND source <> ''`, postern.ListenerPublic, w.rows[kind{listener: postern.ListenerPublic}] - maxAdmittedPublic},
		{`reason = '' AND listener = ?`, postern.ListenerConnect, w.rows[kind{listener: postern.ListenerConnect}] - maxAdmittedOutbound},
		{`reason = '' AND listener = ?`, postern.ListenerTransparent, w.rows[kind{listener: postern.ListenerTransparent}] - maxAdmittedOutbound},
		{`reason = '' AND listener = ?`, postern.ListenerSCIM, w.rows[kind{listener: postern.ListenerSCIM}] - maxAdmittedSCIM},
		{chosen + ` AND organization <> ?`, "", refused - maxRefused},
		{chosen + ` AND organization = ?`, "", w.rows[kind{refused: true}] - maxRefusedNobody},
	} {
		if b.over <= 0 {
			continue
		}
		if b.is == postern.ListenerPublic {
			if err := w.foldPublic(b.over); err != nil {
				return err
			}
		}
		// Counted and not cut at a time: a node reports many rows of one time.
		if _, err := w.tx.exec(`DELETE FROM arrivals WHERE (`+arrivalKey+`) IN
			(SELECT `+arrivalKey+` FROM arrivals WHERE `+b.which+` ORDER BY last_seen LIMIT ?)`, b.is, b.over); err != nil {
			return err
		}
	}
	return nil
}

// foldPublic adds the public clients that are about to be dropped to a row of
// their host without a source: that somebody comes publicly is what a cutover
// must not forget, whoever else comes meanwhile.
func (w *arrivals) foldPublic(over int) error {
	_, err := w.tx.exec(`INSERT INTO arrivals (`+arrivalColumns+`)
		SELECT region, listener, '', '', server_name, '', organization, sum(count), min(first_seen), max(last_seen), ''
		FROM (SELECT * FROM arrivals WHERE reason = '' AND listener = ? AND source <> '' ORDER BY last_seen LIMIT ?)
		WHERE TRUE GROUP BY region, listener, server_name, organization
		ON CONFLICT (`+arrivalKey+`) DO UPDATE SET count = arrivals.count + excluded.count,
			first_seen = min(arrivals.first_seen, excluded.first_seen), last_seen = max(arrivals.last_seen, excluded.last_seen)`,
		postern.ListenerPublic, over)
	return err
}

func scanArrival(r row) (a postern.ArrivalCount, err error) {
	var first, last int64
	err = r.Scan(&a.Region, &a.Listener, &a.EndpointID, &a.Source, &a.ServerName, &a.Denial, &a.Organization, &a.Count, &first, &last, &a.JA4)
	a.FirstSeen, a.LastSeen = timeOf(first), timeOf(last)
	return a, err
}

// ListDenials lists refused arrivals, the latest first; organization "" lists
// everybody's.
func (t *Tx) ListDenials(organization string, since time.Time, limit int) ([]postern.ArrivalCount, error) {
	return list(t, scanArrival, `SELECT `+arrivalColumns+` FROM arrivals WHERE reason <> '' AND last_seen >= ? AND (? = '' OR organization = ?)
		ORDER BY last_seen DESC, region, listener, endpoint, source, server_name LIMIT ?`, micros(since), organization, organization, limit)
}
