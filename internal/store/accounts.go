package store

import (
	"database/sql"
	"errors"
	"time"

	"github.com/postern-net/postern"
)

const accountColumns = `id, organization, principal_arn, state, proven_at, resource_version`

func scanAccount(r row) (a postern.Account, err error) {
	var proven int64
	err = r.Scan(&a.ID, &a.Organization, &a.PrincipalARN, &a.State, &proven, &a.ResourceVersion)
	a.ProvenAt = timeOf(proven)
	return a, err
}

// FindAccount returns one proven account.
func (t *Tx) FindAccount(id string) (postern.Account, error) {
	return find(t, "account", id, scanAccount, `SELECT `+accountColumns+` FROM accounts WHERE id = ?`, id)
}

// ListAccounts lists by ID; organization "" lists everybody's.
func (t *Tx) ListAccounts(organization string, p Page) ([]postern.Account, error) {
	return list(t, scanAccount, `SELECT `+accountColumns+` FROM accounts
		WHERE id > ? AND (? = '' OR organization = ?) ORDER BY id LIMIT ?`, p.After, organization, organization, p.limit())
}

// ProveAccount adds an account, or proves the organization's own once more. An
// account of another organization, or one that is being removed, is a conflict.
func (t *Tx) ProveAccount(a postern.Account) (postern.Account, error) {
	a.State, a.ResourceVersion = postern.AccountActive, 1
	n, err := t.exec(`INSERT INTO accounts (`+accountColumns+`) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET principal_arn = excluded.principal_arn, proven_at = excluded.proven_at,
			resource_version = accounts.resource_version + 1
		WHERE accounts.organization = excluded.organization AND accounts.state = ?`,
		a.ID, a.Organization, a.PrincipalARN, a.State, micros(a.ProvenAt), a.ResourceVersion, postern.AccountActive)
	if err != nil {
		return a, err
	}
	if n == 0 {
		return a, &postern.Error{
			Code: postern.CodeConflict, Field: "account", Value: a.ID,
			Message: "this AWS account is proven for another organization, or is just being removed",
			Fix:     "remove it there, or wait until it is gone, then prove it again",
		}
	}
	return t.FindAccount(a.ID)
}

// UpdateAccount writes the account's state.
func (t *Tx) UpdateAccount(a postern.Account) (postern.Account, error) {
	n, err := t.exec(`UPDATE accounts SET state = ?, resource_version = resource_version + 1 WHERE id = ? AND resource_version = ?`,
		a.State, a.ID, a.ResourceVersion)
	a.ResourceVersion++
	return a, changed(n, err, "account", a.ID)
}

// DeleteAccount deletes the row; the cloud was cleared before.
func (t *Tx) DeleteAccount(a postern.Account) error {
	n, err := t.exec(`DELETE FROM accounts WHERE id = ? AND resource_version = ?`, a.ID, a.ResourceVersion)
	return changed(n, err, "account", a.ID)
}

// CreateChallenge adds one and drops those that expired.
func (t *Tx) CreateChallenge(c postern.Challenge, now time.Time) error {
	if _, err := t.exec(`DELETE FROM challenges WHERE expires_at < ?`, micros(now)); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO challenges (nonce, organization, expires_at) VALUES (?, ?, ?)`, c.Nonce, c.Organization, micros(c.ExpiresAt))
	return err
}

// TakeChallenge spends a challenge: of all callers with the same nonce, one
// succeeds. Spent, expired, unknown and another organization's look the same.
func (t *Tx) TakeChallenge(nonce, organization string, now time.Time) (postern.Challenge, error) {
	c := postern.Challenge{Nonce: nonce, Organization: organization}
	var expires int64
	err := t.tx.QueryRowContext(t.ctx, `DELETE FROM challenges WHERE nonce = ? AND organization = ? AND expires_at >= ? RETURNING expires_at`,
		nonce, organization, micros(now)).Scan(&expires)
	if errors.Is(err, sql.ErrNoRows) {
		return c, postern.Invalid("nonce", "", "not an open challenge of this organization: it was used, has expired, or is somebody else's",
			"ask for a new challenge and sign that; a proof is good for one attempt")
	}
	c.ExpiresAt = timeOf(expires)
	return c, err
}
