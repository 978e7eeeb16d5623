package store

import "github.com/postern-net/postern"

// ListPrincipals lists what Postern put on the services' allow-lists, by
// service and principal.
func (t *Tx) ListPrincipals() ([]postern.AddedPrincipal, error) {
	return list(t, func(r row) (p postern.AddedPrincipal, err error) {
		var absent int64
		err = r.Scan(&p.ServiceID, &p.Principal, &absent)
		p.AbsentSince = timeOf(absent)
		return p, err
	}, `SELECT service, principal, absent_since FROM principals ORDER BY service, principal`)
}

// SavePrincipal adds a record, or writes since when its principal is absent.
func (t *Tx) SavePrincipal(p postern.AddedPrincipal) error {
	_, err := t.exec(`INSERT INTO principals (service, principal, absent_since) VALUES (?, ?, ?)
		ON CONFLICT (service, principal) DO UPDATE SET absent_since = excluded.absent_since`, p.ServiceID, p.Principal, micros(p.AbsentSince))
	return err
}

// DeletePrincipal drops a record; one that is gone already is no error.
func (t *Tx) DeletePrincipal(p postern.AddedPrincipal) error {
	_, err := t.exec(`DELETE FROM principals WHERE service = ? AND principal = ?`, p.ServiceID, p.Principal)
	return err
}
