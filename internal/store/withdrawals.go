package store

import (
	"github.com/postern-net/postern"
)

const withdrawalColumns = `kind, tenant, organization, at, revision, told`

func scanWithdrawal(r row) (w postern.Withdrawal, err error) {
	var at int64
	err = r.Scan(&w.Kind, &w.Tenant, &w.Organization, &at, &w.Revision, &w.Told)
	w.At = timeOf(at)
	return w, err
}

// ListWithdrawals lists what nodes may still offer, by tenant and kind; tenant ""
// lists everybody's.
func (t *Tx) ListWithdrawals(tenant string) ([]postern.Withdrawal, error) {
	return list(t, scanWithdrawal, `SELECT `+withdrawalColumns+` FROM withdrawals WHERE ? = '' OR tenant = ? ORDER BY tenant, kind`, tenant, tenant)
}

// AddWithdrawal notes that something was taken away now; of what was taken away
// twice, the last time counts.
func (t *Tx) AddWithdrawal(w postern.Withdrawal) error {
	_, err := t.exec(`INSERT INTO withdrawals (`+withdrawalColumns+`) VALUES (?, ?, ?, ?, 0, FALSE)
		ON CONFLICT (kind, tenant) DO UPDATE SET organization = excluded.organization, at = excluded.at, revision = 0, told = FALSE`,
		w.Kind, w.Tenant, w.Organization, micros(w.At))
	return err
}

// UpdateWithdrawal writes the revision and whether somebody was told, unless it
// was taken away again meanwhile or is offered again.
func (t *Tx) UpdateWithdrawal(w postern.Withdrawal) error {
	n, err := t.exec(`UPDATE withdrawals SET revision = ?, told = ? WHERE kind = ? AND tenant = ? AND at = ?`, w.Revision, w.Told, w.Kind, w.Tenant, micros(w.At))
	return changed(n, err, "withdrawal of tenant", w.Tenant)
}

// DeleteWithdrawal forgets one that every node obeys, under the same condition.
func (t *Tx) DeleteWithdrawal(w postern.Withdrawal) error {
	n, err := t.exec(`DELETE FROM withdrawals WHERE kind = ? AND tenant = ? AND at = ?`, w.Kind, w.Tenant, micros(w.At))
	return changed(n, err, "withdrawal of tenant", w.Tenant)
}

// OfferAgain forgets what was taken away of a tenant and is offered again.
func (t *Tx) OfferAgain(kind postern.WithdrawalKind, tenant string) error {
	_, err := t.exec(`DELETE FROM withdrawals WHERE kind = ? AND tenant = ?`, kind, tenant)
	return err
}
