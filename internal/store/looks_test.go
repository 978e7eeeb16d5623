package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

// What a node found last is kept, and wakes whoever decides only when it is news
// or was asked for.
func TestLooksAreKept(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	c := createConnection(t, s, exampleConnection())
	register(t, s, nodeOf("boot-one", 1))
	wake, cancel := s.Subscribe()
	defer cancel()
	look := postern.ConnectionLook{Connection: "dc_a", Node: "node-a", Of: "one", Asked: noon, At: noon, Findings: []postern.Finding{{Reason: postern.ReasonPrivateCA, Message: "m"}}}
	for _, step := range []struct {
		name   string
		change func(*postern.ConnectionLook)
		wakes  bool
	}{
		{"the first", func(*postern.ConnectionLook) {}, true},
		{"the same again", func(l *postern.ConnectionLook) { l.At = noon.Add(time.Minute) }, false},
		{"because it was asked for", func(l *postern.ConnectionLook) { l.Asked = noon.Add(time.Second) }, true},
		{"at something else", func(l *postern.ConnectionLook) { l.Of = "two" }, true},
		{"with another finding", func(l *postern.ConnectionLook) {
			l.Findings = []postern.Finding{{Reason: postern.ReasonExpiresSoon, Warning: true, Message: "m"}}
		}, true},
		{"with none", func(l *postern.ConnectionLook) { l.Findings = nil }, true},
	} {
		step.change(&look)
		update(t, s, func(tx *store.Tx) error { return tx.SaveLook(look) })
		woken := false
		select {
		case <-wake:
			woken = true
		default:
		}
		if woken != step.wakes {
			t.Errorf("%s: wakes %v", step.name, woken)
		}
		if diff := cmp.Diff([]postern.ConnectionLook{look}, looks(t, s), sameConnection); diff != "" {
			t.Errorf("%s: %s", step.name, diff)
		}
	}
	// They go with the node, and with the connection.
	register(t, s, postern.Node{ID: "node-b", Regions: []string{"us-east-1"}, BootID: "boot-two", LastSeen: noon})
	other := look
	other.Node = "node-b"
	update(t, s, func(tx *store.Tx) error { return tx.SaveLook(other) })
	update(t, s, func(tx *store.Tx) error {
		n, err := tx.FindNode("node-b")
		if err != nil {
			return err
		}
		if n, err = tx.FenceNode(n, "ada", noon); err != nil {
			return err
		}
		return tx.DeleteNode(n)
	})
	if got := looks(t, s); len(got) != 1 || got[0].Node != "node-a" {
		t.Errorf("after a node was forgotten: %v", got)
	}
	update(t, s, func(tx *store.Tx) error { return tx.DeleteConnection(c, noon) })
	if got := looks(t, s); len(got) > 0 {
		t.Errorf("after the connection was deleted: %v", got)
	}
}

func looks(t *testing.T, s *store.Store) (out []postern.ConnectionLook) {
	t.Helper()
	view(t, s, func(tx *store.Tx) (err error) { out, err = tx.ListLooks(); return err })
	return out
}

// Whose egress a node is comes back as it was said: none is not the same as not
// saying.
func TestNodesSayWhoseEgressTheyAre(t *testing.T) {
	s := open(t)
	for _, c := range []struct {
		says []string
		want bool
	}{{nil, true}, {[]string{}, false}, {[]string{"us-east-1"}, true}} {
		n := nodeOf("boot-one", 1)
		n.Regions, n.Egress = []string{"us-east-1", "us-west-2"}, c.says
		register(t, s, n)
		view(t, s, func(tx *store.Tx) (err error) { n, err = tx.FindNode("node-a"); return err })
		if n.Exits("us-east-1") != c.want || (n.Egress == nil) != (c.says == nil) || n.Exits("eu-west-1") {
			t.Errorf("it says %#v and is kept as %#v", c.says, n.Egress)
		}
	}
}
