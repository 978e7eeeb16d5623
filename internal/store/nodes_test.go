package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

func nodeOf(boot string, applied int64) postern.Node {
	return postern.Node{ID: "node-a", Regions: []string{"us-west-2", "us-east-1"}, Version: "v1", BootID: boot, AppliedRevision: applied, LastSeen: noon}
}

func findNode(t *testing.T, s *store.Store, id string) (n postern.Node) {
	t.Helper()
	view(t, s, func(tx *store.Tx) (err error) { n, err = tx.FindNode(id); return err })
	return n
}

// register registers and tells whether it was news.
func register(t *testing.T, s *store.Store, n postern.Node) (stored postern.Node, news bool) {
	t.Helper()
	update(t, s, func(tx *store.Tx) (err error) { stored, news, err = tx.UpsertNode(n); return err })
	if diff := cmp.Diff(stored, findNode(t, s, n.ID)); diff != "" {
		t.Errorf("the answer is not what is stored:\n%s", diff)
	}
	return stored, news
}

func TestUpsertNode(t *testing.T) {
	s := open(t)
	want := postern.Node{
		ID: "node-a", Regions: []string{"us-east-1", "us-west-2"}, Version: "v1", BootID: "boot-one", AppliedRevision: 3,
		RegisteredAt: noon, LastSeen: noon, ResourceVersion: 1,
	}
	got, news := register(t, s, nodeOf("boot-one", 3))
	if diff := cmp.Diff(want, got); diff != "" || !news {
		t.Errorf("the first registration, news %v:\n%s", news, diff)
	}
	update(t, s, func(tx *store.Tx) error {
		_, err := tx.ReportNode(postern.NodeReport{Node: "node-a", BootID: "boot-one", Seq: 7, AppliedRevision: 4}, noon)
		return err
	})
	for _, c := range []struct {
		name   string
		change func(*postern.Node)
		news   bool
		seq    int64
	}{
		{"the same process again", func(*postern.Node) {}, false, 7},
		{"with another revision", func(n *postern.Node) { n.AppliedRevision = 5 }, false, 7},
		{"for other regions", func(n *postern.Node) { n.Regions = []string{"us-east-1"} }, true, 7},
		{"of another version", func(n *postern.Node) { n.Version = "v2" }, true, 7},
		{"another process", func(n *postern.Node) { n.BootID = "boot-two" }, true, 0},
	} {
		before := findNode(t, s, "node-a")
		n := before
		n.LastSeen = before.LastSeen.Add(time.Second)
		c.change(&n)
		got, news := register(t, s, n)
		want := n
		want.ReportSeq = c.seq
		if c.news {
			want.ResourceVersion++
		}
		if diff := cmp.Diff(want, got); diff != "" || news != c.news {
			t.Errorf("%s: news %v:\n%s", c.name, news, diff)
		}
	}
}

func TestReportNode(t *testing.T) {
	s := open(t)
	register(t, s, nodeOf("boot-one", 1))
	arrival := postern.ArrivalCount{
		Region: "us-east-1", Listener: "private", EndpointID: "vpce-0123456789abcdef0", ServerName: "x.example", Denial: postern.DenyNotAuthorized,
		Count: 2, FirstSeen: noon, LastSeen: noon,
	}
	report := func(boot string, seq, applied int64) (taken bool, err error) {
		err = s.Update(t.Context(), func(tx *store.Tx) (err error) {
			taken, err = tx.ReportNode(postern.NodeReport{Node: "node-a", BootID: boot, Seq: seq, AppliedRevision: applied, Arrivals: []postern.ArrivalCount{arrival}}, noon.Add(time.Duration(seq)*time.Second))
			return err
		})
		return taken, err
	}
	count := func() (n int64) {
		view(t, s, func(tx *store.Tx) error {
			as, err := tx.ListDenials("", time.Time{}, 10)
			for _, a := range as {
				n += a.Count
			}
			return err
		})
		return n
	}
	for _, c := range []struct {
		name         string
		boot         string
		seq, applied int64
		taken        bool
		field        string // of the conflict
		count        int64
		revision     int64
	}{
		{"the first", "boot-one", 1, 2, true, "", 2, 2},
		{"the same again", "boot-one", 1, 2, false, "", 2, 2},
		{"the next", "boot-one", 2, 2, true, "", 4, 2},
		{"one after a gap", "boot-one", 5, 3, true, "", 6, 3},
		{"an old one, late", "boot-one", 4, 2, false, "", 6, 3},
		{"of another process", "boot-two", 6, 9, false, postern.FieldBootID, 6, 3},
	} {
		taken, err := report(c.boot, c.seq, c.applied)
		var e *postern.Error
		switch {
		case c.field == "" && err != nil, c.field != "" && (!errors.As(err, &e) || e.Code != postern.CodeConflict || e.Field != c.field):
			t.Errorf("%s: %v", c.name, err)
		case taken != c.taken || count() != c.count || findNode(t, s, "node-a").AppliedRevision != c.revision:
			t.Errorf("%s: taken %v, %d counted, revision %d", c.name, taken, count(), findNode(t, s, "node-a").AppliedRevision)
		}
	}
	if n := findNode(t, s, "node-a"); !n.LastSeen.Equal(noon.Add(5*time.Second)) || n.ResourceVersion != 1 {
		t.Errorf("last seen %s, version %d", n.LastSeen, n.ResourceVersion)
	}
	register(t, s, nodeOf("boot-two", 3))
	if taken, err := report("boot-two", 1, 3); !taken || err != nil {
		t.Errorf("the first of a new process: %v, %v", taken, err)
	}
	if _, err := report("boot-one", 6, 3); postern.CodeOf(err) != postern.CodeConflict {
		t.Errorf("a late one of the process before: %v", err)
	}
	wantCode(t, s, postern.CodeNotFound, func(tx *store.Tx) error {
		_, err := tx.ReportNode(postern.NodeReport{Node: "node-z", BootID: "boot-one", Seq: 1}, noon)
		return err
	})
}

// Reports come every second: only a new revision is worth a round.
func TestReportsWakeOnNewRevisions(t *testing.T) {
	s := open(t)
	wake, cancel := s.Subscribe()
	defer cancel()
	woken := func() bool {
		select {
		case <-wake:
			return true
		default:
			return false
		}
	}
	register(t, s, nodeOf("boot-one", 1))
	if !woken() {
		t.Error("a new node wakes nobody")
	}
	register(t, s, nodeOf("boot-one", 1))
	if woken() {
		t.Error("the same registration wakes")
	}
	register(t, s, nodeOf("boot-one", 2))
	if !woken() {
		t.Error("a registration with another revision wakes nobody")
	}
	for seq, c := range []struct {
		applied int64
		wakes   bool
	}{{2, false}, {2, false}, {3, true}, {3, false}, {0, true}} {
		update(t, s, func(tx *store.Tx) error {
			_, err := tx.ReportNode(postern.NodeReport{Node: "node-a", BootID: "boot-one", Seq: int64(seq + 1), AppliedRevision: c.applied}, noon)
			return err
		})
		if woken() != c.wakes {
			t.Errorf("report %d of revision %d: wakes %v", seq, c.applied, !c.wakes)
		}
	}
}

func TestFenceNode(t *testing.T) {
	s := open(t)
	n, _ := register(t, s, nodeOf("boot-one", 1))
	wantCode(t, s, postern.CodeConflict, func(tx *store.Tx) error { return tx.DeleteNode(n) }) // not fenced
	stale := n
	update(t, s, func(tx *store.Tx) (err error) { n, err = tx.FenceNode(n, "ada", noon); return err })
	want := stale
	want.Fenced, want.FencedBy, want.FencedAt, want.ResourceVersion = true, "ada", noon, 2
	if diff := cmp.Diff(want, findNode(t, s, "node-a")); diff != "" || !cmp.Equal(want, n) {
		t.Error(diff)
	}
	wantCode(t, s, postern.CodeConflict, func(tx *store.Tx) error { _, err := tx.FenceNode(stale, "bob", noon); return err })

	for name, try := range map[string]func(tx *store.Tx) error{
		"registers": func(tx *store.Tx) error { _, _, err := tx.UpsertNode(nodeOf("boot-two", 9)); return err },
		"reports": func(tx *store.Tx) error {
			_, err := tx.ReportNode(postern.NodeReport{Node: "node-a", BootID: "boot-one", Seq: 1, AppliedRevision: 9}, noon)
			return err
		},
	} {
		var e *postern.Error
		if err := s.Update(t.Context(), try); !errors.As(err, &e) || e.Code != postern.CodeConflict || e.Field != postern.FieldFenced {
			t.Errorf("a fenced node %s: %v", name, err)
		}
	}
	if diff := cmp.Diff(want, findNode(t, s, "node-a")); diff != "" {
		t.Errorf("what a fenced node tried changed it:\n%s", diff)
	}

	update(t, s, func(tx *store.Tx) (err error) { n, err = tx.UnfenceNode(n); return err })
	if got := findNode(t, s, "node-a"); got.Fenced || got.FencedBy != "" || !got.FencedAt.IsZero() {
		t.Errorf("%+v", got)
	}
	if _, news := register(t, s, nodeOf("boot-one", 2)); news {
		t.Error("the same process after a fence is news")
	}
	update(t, s, func(tx *store.Tx) (err error) {
		if n, err = tx.FenceNode(n, "ada", noon); err != nil {
			return err
		}
		return tx.DeleteNode(n)
	})
	wantCode(t, s, postern.CodeNotFound, func(tx *store.Tx) error { _, err := tx.FindNode("node-a"); return err })
	if _, news := register(t, s, nodeOf("boot-one", 2)); !news {
		t.Error("a removed node that comes back is no news")
	}
}

func TestListNodes(t *testing.T) {
	s := open(t)
	for _, id := range []string{"node-c", "node-a", "node-b"} {
		n := nodeOf("boot-one", 1)
		n.ID = id
		register(t, s, n)
	}
	ids := func(p store.Page) (out []string) {
		view(t, s, func(tx *store.Tx) error {
			ns, err := tx.ListNodes(p)
			for _, n := range ns {
				out = append(out, n.ID)
			}
			return err
		})
		return out
	}
	if diff := cmp.Diff([]string{"node-a", "node-b", "node-c"}, ids(store.Page{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"node-b"}, ids(store.Page{After: "node-a", Limit: 1})); diff != "" {
		t.Error(diff)
	}
}

func TestRoutesRevision(t *testing.T) {
	s := open(t)
	for _, want := range []int64{0, 1, 5} {
		if want > 0 {
			update(t, s, func(tx *store.Tx) error { return tx.SaveRoutes(postern.Routes{Revision: want}) })
		}
		view(t, s, func(tx *store.Tx) error {
			got, err := tx.RoutesRevision()
			if got != want {
				t.Errorf("got %d, want %d", got, want)
			}
			return err
		})
	}
}
