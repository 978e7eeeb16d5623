package store

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postern-net/postern"
)

const nodeColumns = `id, regions, egress, version, boot_id, report_seq, applied_revision, registered_at, last_seen,
	fenced, fenced_by, fenced_at, resource_version`

func scanNode(r row) (n postern.Node, err error) {
	var regions, egress string
	var registered, seen, fenced int64
	if err := r.Scan(&n.ID, &regions, &egress, &n.Version, &n.BootID, &n.ReportSeq, &n.AppliedRevision, &registered, &seen,
		&n.Fenced, &n.FencedBy, &fenced, &n.ResourceVersion); err != nil {
		return n, err
	}
	n.RegisteredAt, n.LastSeen, n.FencedAt = timeOf(registered), timeOf(seen), timeOf(fenced)
	if err := errors.Join(json.Unmarshal([]byte(regions), &n.Regions), json.Unmarshal([]byte(egress), &n.Egress)); err != nil {
		return n, fmt.Errorf("node %s: %w", n.ID, err)
	}
	return n, nil
}

// FindNode returns one registered node.
func (t *Tx) FindNode(id string) (postern.Node, error) {
	return find(t, "node", id, scanNode, `SELECT `+nodeColumns+` FROM nodes WHERE id = ?`, id)
}

// ListNodes lists the registered nodes by ID.
func (t *Tx) ListNodes(p Page) ([]postern.Node, error) {
	return list(t, scanNode, `SELECT `+nodeColumns+` FROM nodes WHERE id > ? ORDER BY id LIMIT ?`, p.After, p.limit())
}

// UpsertNode registers a node: n's ID, regions, version, boot, applied revision
// and LastSeen are taken. It answers what is stored then, and whether it is
// more than the same process come again. A fenced node is refused, by the
// conflict that [postern.Node.Fences] makes.
func (t *Tx) UpsertNode(n postern.Node) (stored postern.Node, news bool, err error) {
	n.Regions = slices.Sorted(slices.Values(n.Regions))
	slices.Sort(n.Egress) // nil stays nil: it did not say
	regions, e1 := toJSON(n.Regions)
	egress, e2 := toJSON(n.Egress)
	if err := errors.Join(e1, e2); err != nil {
		return n, false, err
	}
	before, err := t.FindNode(n.ID)
	switch {
	case err != nil && postern.CodeOf(err) == postern.CodeNotFound:
		n.ReportSeq, n.RegisteredAt, n.ResourceVersion = 0, n.LastSeen, 1
		n.Fenced, n.FencedBy, n.FencedAt = false, "", time.Time{}
		t.wake = true
		_, err = t.exec(`INSERT INTO nodes (`+nodeColumns+`) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, FALSE, '', 0, 1)`,
			n.ID, regions, egress, n.Version, n.BootID, n.AppliedRevision, micros(n.RegisteredAt), micros(n.LastSeen))
		return n, true, err
	case err != nil:
		return n, false, err
	case before.Fenced:
		return before, false, before.Fences()
	}
	after := before
	after.Regions, after.Egress, after.Version, after.AppliedRevision, after.LastSeen = n.Regions, n.Egress, n.Version, n.AppliedRevision, n.LastSeen
	if after.BootID != n.BootID {
		after.BootID, after.ReportSeq = n.BootID, 0
	}
	if news = after.BootID != before.BootID || after.Version != before.Version || !slices.Equal(after.Regions, before.Regions) ||
		!slices.Equal(after.Egress, before.Egress); news {
		after.ResourceVersion++
	}
	t.wake = t.wake || after.AppliedRevision != before.AppliedRevision
	_, err = t.exec(`UPDATE nodes SET regions = ?, egress = ?, version = ?, boot_id = ?, report_seq = ?, applied_revision = ?, last_seen = ?, resource_version = ? WHERE id = ?`,
		regions, egress, after.Version, after.BootID, after.ReportSeq, after.AppliedRevision, micros(after.LastSeen), after.ResourceVersion, n.ID)
	return after, news, err
}

// ReportNode takes a node's report, with what arrived there. A report that was
// taken before changes nothing and answers false. One of a fenced node, or of
// another process than the one that registered last, is refused by a conflict
// whose Field says which (postern.FieldFenced, postern.FieldBootID).
//
// It wakes subscribers only when the applied revision is a new one: reports
// come every second.
func (t *Tx) ReportNode(r postern.NodeReport, now time.Time) (taken bool, err error) {
	n, err := t.FindNode(r.Node)
	if err != nil {
		return false, err
	}
	if err := errors.Join(n.Fences(), booted(n, r.BootID)); err != nil {
		return false, err
	}
	if r.Seq <= n.ReportSeq {
		return false, nil
	}
	t.wake = t.wake || r.AppliedRevision != n.AppliedRevision
	if _, err := t.exec(`UPDATE nodes SET report_seq = ?, applied_revision = ?, last_seen = ? WHERE id = ?`,
		r.Seq, r.AppliedRevision, micros(now), n.ID); err != nil {
		return false, err
	}
	if len(r.Arrivals) == 0 {
		return true, nil
	}
	return true, t.AddArrivals(r.Arrivals)
}

// booted refuses a process that another one has replaced.
func booted(n postern.Node, boot string) error {
	if n.BootID == boot {
		return nil
	}
	return &postern.Error{
		Code: postern.CodeConflict, Field: postern.FieldBootID, Value: boot, Message: "another process registered as node " + n.ID + " since",
		Fix: "register again; if two processes share the ID and token, give each its own",
	}
}

// SeeFencedNode notes that a fenced node was heard of, and told so.
func (t *Tx) SeeFencedNode(id string, at time.Time) error {
	_, err := t.exec(`UPDATE nodes SET last_seen = ? WHERE id = ? AND fenced`, micros(at), id)
	return err
}

// FenceNode stops waiting for a node.
func (t *Tx) FenceNode(n postern.Node, by string, at time.Time) (postern.Node, error) {
	n.Fenced, n.FencedBy, n.FencedAt = true, by, at
	return t.setFence(n)
}

// UnfenceNode waits for a node again.
func (t *Tx) UnfenceNode(n postern.Node) (postern.Node, error) {
	n.Fenced, n.FencedBy, n.FencedAt = false, "", time.Time{}
	return t.setFence(n)
}

func (t *Tx) setFence(n postern.Node) (postern.Node, error) {
	rows, err := t.exec(`UPDATE nodes SET fenced = ?, fenced_by = ?, fenced_at = ?, resource_version = resource_version + 1
		WHERE id = ? AND resource_version = ?`, n.Fenced, n.FencedBy, micros(n.FencedAt), n.ID, n.ResourceVersion)
	n.ResourceVersion++
	return n, changed(rows, err, "node", n.ID)
}

// DeleteNode forgets a fenced node.
func (t *Tx) DeleteNode(n postern.Node) error {
	rows, err := t.exec(`DELETE FROM nodes WHERE id = ? AND resource_version = ? AND fenced`, n.ID, n.ResourceVersion)
	return changed(rows, err, "node", n.ID)
}

// RoutesRevision is that of the route table that was published last, or 0.
func (t *Tx) RoutesRevision() (int64, error) {
	var revision int64
	err := t.tx.QueryRowContext(t.ctx, `SELECT revision FROM routes WHERE one = 1`).Scan(&revision)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return revision, err
}
