package store

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/postern-net/postern"
)

func scanLook(r row) (l postern.ConnectionLook, err error) {
	var asked, at int64
	var findings string
	if err := r.Scan(&l.Connection, &l.Node, &l.Of, &asked, &at, &findings); err != nil {
		return l, err
	}
	l.Asked, l.At = timeOf(asked), timeOf(at)
	if err := json.Unmarshal([]byte(findings), &l.Findings); err != nil {
		return l, fmt.Errorf("look of %s at data connection %s: %w", l.Node, l.Connection, err)
	}
	return l, nil
}

const selectLooks = `SELECT connection, node, looked_of, asked, at, findings FROM looks `

// SaveLook keeps what a node found of a connection's cluster, in place of what
// it found before. It wakes subscribers only when that is news, or was asked
// for: nodes look again and again.
func (t *Tx) SaveLook(l postern.ConnectionLook) error {
	before, err := find(t, "look at data connection", l.Connection, scanLook, selectLooks+`WHERE connection = ? AND node = ?`, l.Connection, l.Node)
	if err != nil && postern.CodeOf(err) != postern.CodeNotFound {
		return err
	}
	t.wake = t.wake || err != nil || before.Of != l.Of || !before.Asked.Equal(l.Asked) || !slices.Equal(before.Findings, l.Findings)
	findings, err := toJSON(append([]postern.Finding{}, l.Findings...))
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO looks (connection, node, looked_of, asked, at, findings) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (connection, node) DO UPDATE SET looked_of = excluded.looked_of, asked = excluded.asked, at = excluded.at, findings = excluded.findings`,
		l.Connection, l.Node, l.Of, micros(l.Asked), micros(l.At), findings)
	return err
}

// ListLooks lists what every node found of every connection's cluster.
func (t *Tx) ListLooks() ([]postern.ConnectionLook, error) {
	return list(t, scanLook, selectLooks+`ORDER BY connection, node`)
}
