package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

// reports is a store whose arrivals a test counts.
type reports struct {
	*store.Store
	db *sql.DB
}

func openReports(t testing.TB) reports {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postern.db")
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return reports{s, db}
}

// fill makes n rows at once, each a microsecond later than the one before,
// whose number is i in the server name and source.
func (r reports) fill(t testing.TB, n int, listener, endpoint, reason, organization string, at time.Time) {
	t.Helper()
	if _, err := r.db.ExecContext(t.Context(), `INSERT INTO arrivals
		WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		SELECT 'us-east-1', ?, ?, '198.51.100.' || i, i || '.example', ?, ?, 1, ?, ? + i, '' FROM n`,
		n-1, listener, endpoint, reason, organization, at.UnixMicro(), at.UnixMicro()); err != nil {
		t.Fatal(err)
	}
}

// add reports n arrivals that differ in their server name.
func (r reports) add(t testing.TB, n int, a postern.ArrivalCount) {
	t.Helper()
	as := make([]postern.ArrivalCount, n)
	for i := range as {
		as[i] = a
		as[i].Region, as[i].Count = "us-east-1", 1
		as[i].ServerName = fmt.Sprintf("new%d.example", i)
	}
	if err := r.Update(t.Context(), func(tx *store.Tx) error { return tx.AddArrivals(as) }); err != nil {
		t.Fatal(err)
	}
}

// count answers a condition with the rows and the connections that they count.
func (r reports) count(t *testing.T, where string, args ...any) (rows, connections int) {
	t.Helper()
	err := r.db.QueryRowContext(context.WithoutCancel(t.Context()), `SELECT count(*), coalesce(sum(count), 0) FROM arrivals WHERE `+where, args...).Scan(&rows, &connections)
	if err != nil {
		t.Fatal(err)
	}
	return rows, connections
}

func (r reports) want(t *testing.T, what string, rows, connections int, where string) {
	t.Helper()
	if gotRows, got := r.count(t, where); gotRows != rows || got != connections {
		t.Errorf("%s: %d rows of %d connections, want %d of %d", what, gotRows, got, rows, connections)
	}
}

// A stranger who asks for many names, reported by one node after the other,
// gets few rows, and takes none from anybody else.
func TestStrangersDriveNobodyOut(t *testing.T) {
	t.Parallel()
	r := openReports(t)
	r.fill(t, 100, "private", "vpce-1", "", "globex", noon)
	r.fill(t, 100, "private", "vpce-1", "not_authorized", "globex", noon)
	stranger := postern.ArrivalCount{Listener: "public", Denial: postern.DenyUnknownHost, FirstSeen: noon, LastSeen: noon.Add(time.Hour)}
	for i := range 10 {
		stranger.Source = fmt.Sprintf("203.0.113.%d", i)
		r.add(t, postern.MaxReportArrivals, stranger)
	}
	r.want(t, "strangers", 2001, 10*postern.MaxReportArrivals, `organization = ''`)
	r.want(t, "the folded row", 1, 9*postern.MaxReportArrivals, `organization = '' AND source = '' AND server_name = '' AND endpoint = ''`)
	r.want(t, "admitted", 100, 100, `reason = ''`)
	r.want(t, "an organization's refusals", 100, 100, `organization = 'globex' AND reason <> ''`)

	// Another reason is another row, also where there is no place.
	stranger.Denial, stranger.Listener, stranger.EndpointID = postern.DenyUnknownEndpoint, "private", "vpce-0ffffffffffffffff"
	r.add(t, 5, stranger)
	r.want(t, "strangers by another reason", 1, 5, `reason = 'unknown_endpoint' AND endpoint = ''`)
	// What is there is added to, and not folded.
	stranger.Denial, stranger.Listener, stranger.EndpointID, stranger.Source = postern.DenyUnknownHost, "public", "", "203.0.113.0"
	r.add(t, 5, stranger)
	r.want(t, "a stranger that is known", 5, 10, `count = 2`)
}

// One organization's refusals take no place from another's, and a folded one
// still tells its endpoint.
func TestOrganizationsRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	r := openReports(t)
	r.fill(t, 2000, "private", "vpce-1", "unknown_host", "globex", noon)
	a := postern.ArrivalCount{Listener: "private", EndpointID: "vpce-1", Organization: "globex", Denial: postern.DenyUnknownHost, FirstSeen: noon, LastSeen: noon.Add(time.Hour)}
	r.add(t, 700, a)
	r.want(t, "globex", 2001, 2700, `organization = 'globex'`)
	r.want(t, "the folded row", 1, 700, `organization = 'globex' AND endpoint = 'vpce-1' AND server_name = ''`)
	a.Organization, a.EndpointID = "example-corp", "vpce-2"
	r.add(t, 700, a)
	r.want(t, "example-corp", 700, 700, `organization = 'example-corp'`)
	a.Organization, a.Listener, a.EndpointID = "globex", "public", ""
	r.add(t, 700, a)
	r.want(t, "globex publicly", 700, 700, `organization = 'globex' AND listener = 'public'`)
}

// The rows of a flood that is over make room again; those of others stay.
func TestStaleRefusalsMakeRoom(t *testing.T) {
	t.Parallel()
	r := openReports(t)
	r.fill(t, 2000, "public", "", "unknown_host", "", noon)
	r.fill(t, 10, "private", "vpce-1", "unknown_host", "globex", noon)
	a := postern.ArrivalCount{Listener: "public", Denial: postern.DenyUnknownHost, FirstSeen: noon, LastSeen: noon.Add(23 * time.Hour)}
	r.add(t, 1, a)
	r.want(t, "within a day", 2001, 2001, `organization = ''`)
	a.FirstSeen, a.LastSeen = noon.Add(25*time.Hour), noon.Add(25*time.Hour)
	r.add(t, 7, a)
	r.want(t, "after a day", 7, 7, `organization = '' AND server_name LIKE 'new%'`)
	r.want(t, "after a day, the old", 0, 0, `organization = '' AND server_name NOT LIKE 'new%' AND server_name <> ''`)
	r.want(t, "an organization's", 10, 10, `organization = 'globex'`)
}

// What is over a bound for another reason, as in a database of before there
// were bounds, is cut: what was not seen for longest goes.
func TestArrivalsAreCut(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                           string
		listener, reason, organization string
		organizations                  int
		bound                          int
	}{
		{"admitted privately", "private", "", "globex", 1, 20_000},
		{"admitted publicly", "public", "", "globex", 1, 15_000},
		{"workloads by a proxy", "connect", "", "globex", 1, 10_000},
		{"workloads by a tenant's listener", "transparent", "", "globex", 1, 10_000},
		{"admitted by SCIM", "scim", "", "globex", 1, 5_000},
		{"organizations' refusals", "private", "not_authorized", "globex", 10, 15_000},
		{"nobody's refusals", "public", "unknown_host", "", 1, 2000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := openReports(t)
			const over = 99
			each := (tc.bound + over + tc.organizations - 1) / tc.organizations
			for i := range tc.organizations {
				organization := tc.organization
				if i > 0 {
					organization += fmt.Sprint(i)
				}
				r.fill(t, each, tc.listener, "", tc.reason, organization, noon.Add(time.Duration(i)*time.Second))
			}
			if tc.listener == "public" && tc.reason == "" { // many clients of one host
				if _, err := r.db.ExecContext(t.Context(), `UPDATE arrivals SET source = server_name, server_name = 'host' WHERE listener = 'public'`); err != nil {
					t.Fatal(err)
				}
			}
			r.fill(t, 10, "private", "", "not_tls", "bystander", noon.Add(-time.Hour))
			surplus := each*tc.organizations - tc.bound
			if tc.bound == 15_000 && tc.organizations > 1 {
				surplus += 10 // the bystander's refusals are of the same kind
			}
			// Any new row has them counted.
			r.add(t, 1, postern.ArrivalCount{Listener: "private", Organization: "another", EndpointID: "vpce-9", Denial: "", FirstSeen: noon, LastSeen: noon.Add(time.Hour)})
			left, _ := r.count(t, `reason = ? AND listener = ? AND (organization LIKE 'globex%' OR organization = '')`, tc.reason, tc.listener)
			byStander, _ := r.count(t, `organization = 'bystander'`)
			want, wantBy := each*tc.organizations-surplus, 10
			if tc.organizations > 1 {
				want, wantBy = want+10, 0 // which are the oldest
			}
			switch tc.name {
			case "admitted privately":
				want-- // for the new row
			case "admitted publicly":
				want++ // the one that they are folded into
				r.want(t, "the folded", 1, over, `source = '' AND server_name = 'host' AND listener = 'public'`)
			}
			if left != want || byStander != wantBy {
				t.Errorf("%d rows and %d of the bystander are left, want %d and %d", left, byStander, want, wantBy)
			}
			var oldest int64
			if err := r.db.QueryRowContext(t.Context(), `SELECT min(last_seen) FROM arrivals WHERE organization = ?`, tc.organization).Scan(&oldest); err != nil {
				t.Fatal(err)
			}
			if oldest == noon.UnixMicro() && tc.name != "admitted publicly" { // its time is kept
				t.Error("the oldest row is there still")
			}
		})
	}
}

// BenchmarkFlood is a full report of a stranger's names on a full table.
func BenchmarkFlood(b *testing.B) {
	r := openReports(b)
	r.fill(b, 20_000, "private", "vpce-1", "", "globex", noon)
	r.fill(b, 15_000, "public", "", "", "globex", noon)
	for i := range 7 {
		r.fill(b, 2000, "private", "vpce-1", "unknown_host", fmt.Sprint("o", i), noon)
	}
	r.fill(b, 2000, "public", "", "unknown_host", "", noon)
	i := 0
	for b.Loop() {
		i++
		r.add(b, postern.MaxReportArrivals, postern.ArrivalCount{
			Listener: "public", Source: fmt.Sprint(i), Denial: postern.DenyUnknownHost, FirstSeen: noon, LastSeen: noon.Add(time.Second),
		})
	}
}

// The fingerprint that was told last stays, and makes no row of its own.
func TestFingerprintOfARefusal(t *testing.T) {
	t.Parallel()
	r := openReports(t)
	a := postern.ArrivalCount{
		Region: "us-east-1", Listener: postern.ListenerPublic, ServerName: "a.example", Source: "198.51.100.7", Denial: postern.DenyUnknownHost,
		Count: 1, FirstSeen: time.Now(), LastSeen: time.Now(),
	}
	for _, ja4 := range []string{"", "t13d1516h2_8daaf6152771_e5627efa2ab1", "t13d1516h2_8daaf6152771_02713d6af862", ""} {
		a.JA4 = ja4
		r.add(t, 1, a)
	}
	if err := r.View(t.Context(), func(tx *store.Tx) error {
		rows, err := tx.ListDenials("", time.Time{}, 10)
		if len(rows) != 1 || rows[0].Count != 4 || rows[0].JA4 != "t13d1516h2_8daaf6152771_02713d6af862" {
			t.Errorf("stored %+v", rows)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
