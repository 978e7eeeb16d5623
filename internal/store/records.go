package store

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/postern-net/postern"
)

const eventColumns = `at, actor, action, kind, subject, organization, message`

// AppendEvent writes one line of the record; Seq is given by the database.
func (t *Tx) AppendEvent(e postern.Event) error {
	t.recorded = true
	_, err := t.exec(`INSERT INTO events (`+eventColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		micros(e.At), e.Actor, e.Action, e.Kind, e.Subject, e.Organization, e.Message)
	return err
}

// ListEvents lists what came after a sequence number, oldest first;
// organization "" lists everybody's.
func (t *Tx) ListEvents(organization string, after int64, limit int) ([]postern.Event, error) {
	return list(t, func(r row) (e postern.Event, err error) {
		var at int64
		err = r.Scan(&e.Seq, &at, &e.Actor, &e.Action, &e.Kind, &e.Subject, &e.Organization, &e.Message)
		e.At = timeOf(at)
		return e, err
	}, `SELECT seq, `+eventColumns+` FROM events WHERE seq > ? AND (? = '' OR organization = ?) ORDER BY seq LIMIT ?`,
		after, organization, organization, limit)
}

const tokenColumns = `id, name, role, organization, tenant, expires_at, created_at` //nolint:gosec // names of columns, not a credential

func scanToken(r row) (v postern.Token, err error) {
	var expires, created int64
	err = r.Scan(&v.ID, &v.Name, &v.Role, &v.Organization, &v.Tenant, &expires, &created)
	v.ExpiresAt, v.CreatedAt = timeOf(expires), timeOf(created)
	return v, err
}

// FindTokenByHash returns the token whose secret has this SHA-256, unless it
// was revoked or has expired.
func (t *Tx) FindTokenByHash(hash []byte, now time.Time) (postern.Token, error) {
	return find(t, "token", "", scanToken, `SELECT `+tokenColumns+` FROM tokens
		WHERE secret_hash = ? AND revoked_at = 0 AND (expires_at = 0 OR expires_at > ?)`, hash, micros(now))
}

// FindToken returns one token that was not revoked.
func (t *Tx) FindToken(id string) (postern.Token, error) {
	return find(t, "token", id, scanToken, `SELECT `+tokenColumns+` FROM tokens WHERE id = ? AND revoked_at = 0`, id)
}

// ListTokens lists the tokens that were not revoked, by ID.
func (t *Tx) ListTokens(p Page) ([]postern.Token, error) {
	return list(t, scanToken, `SELECT `+tokenColumns+` FROM tokens WHERE id > ? AND revoked_at = 0 ORDER BY id LIMIT ?`, p.After, p.limit())
}

// ListWorkloadTokens lists those of workloads; organization and tenant "" list
// everybody's.
func (t *Tx) ListWorkloadTokens(organization, tenant string, p Page) ([]postern.Token, error) {
	return list(t, scanToken, `SELECT `+tokenColumns+` FROM tokens WHERE id > ? AND revoked_at = 0 AND role = ?
		AND (? = '' OR organization = ?) AND (? = '' OR tenant = ?) ORDER BY id LIMIT ?`,
		p.After, postern.RoleWorkload, organization, organization, tenant, tenant, p.limit())
}

// CreateToken adds one. A hash that is there already, revoked or not, changes
// nothing and answers false.
func (t *Tx) CreateToken(v postern.Token, hash []byte) (bool, error) {
	n, err := t.exec(`INSERT INTO tokens (`+tokenColumns+`, secret_hash, revoked_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING`,
		v.ID, v.Name, v.Role, v.Organization, v.Tenant, micros(v.ExpiresAt), micros(v.CreatedAt), hash)
	return n > 0, err
}

// RevokeToken makes a token useless from now on.
func (t *Tx) RevokeToken(id string, now time.Time) error {
	n, err := t.exec(`UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at = 0`, micros(now), id)
	if err == nil && n == 0 {
		err = postern.NotFound("token", id)
	}
	return err
}

// FindAnswer returns the stored answer to a request that was made before with
// the same key, or "". The same key with another request is a conflict.
func (t *Tx) FindAnswer(tokenID, key string, requestHash []byte) (string, error) {
	var hash []byte
	var answer string
	err := t.tx.QueryRowContext(t.ctx, `SELECT request_hash, answer FROM idempotency WHERE token_id = ? AND key = ?`, tokenID, key).Scan(&hash, &answer)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", nil
	case err != nil:
		return "", err
	case !bytes.Equal(hash, requestHash):
		return "", &postern.Error{
			Code: postern.CodeConflict, Field: "Idempotency-Key", Value: key,
			Message: "this key was used for a different request", Fix: "make a new key for every new request",
		}
	}
	return answer, nil
}

// AnswerLifetime is how long answers are kept for a repeated request.
const AnswerLifetime = 24 * time.Hour

// SaveAnswer keeps an answer and drops those that are too old.
func (t *Tx) SaveAnswer(tokenID, key string, requestHash []byte, answer string, now time.Time) error {
	if _, err := t.exec(`DELETE FROM idempotency WHERE created_at < ?`, micros(now.Add(-AnswerLifetime))); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO idempotency (token_id, key, request_hash, answer, created_at) VALUES (?, ?, ?, ?, ?)`,
		tokenID, key, requestHash, answer, micros(now))
	return err
}

// FindRoutes returns the route table that was published last; a new database
// has an empty one of revision 0.
func (t *Tx) FindRoutes() (postern.Routes, error) {
	return findCompiled[postern.Routes](t, "routes")
}

// SaveRoutes keeps a route table unless one of its revision or a later one is
// there.
func (t *Tx) SaveRoutes(r postern.Routes) error { return t.saveCompiled("routes", r.Revision, r) }

// findCompiled reads the one row of a table that holds something compiled.
func findCompiled[T any](t *Tx, table string) (v T, err error) {
	var body string
	err = t.tx.QueryRowContext(t.ctx, `SELECT body FROM `+table+` WHERE one = 1`).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal([]byte(body), &v)
}

func (t *Tx) saveCompiled(table string, revision int64, v any) error {
	body, err := toJSON(v)
	if err != nil {
		return err
	}
	n, err := t.exec(`INSERT INTO `+table+` (one, revision, body) VALUES (1, ?, ?)
		ON CONFLICT (one) DO UPDATE SET revision = excluded.revision, body = excluded.body WHERE `+table+`.revision < excluded.revision`, revision, body)
	return changed(n, err, table, "")
}
