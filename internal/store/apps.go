package store

import (
	"github.com/postern-net/postern"
)

const appColumns = `organization, app, enabled, changed_by, changed_at, ready, resource_version`

func scanAppAccess(r row) (a postern.AppAccess, err error) {
	var changed int64
	err = r.Scan(&a.Organization, &a.App, &a.Enabled, &a.ChangedBy, &changed, &a.Ready, &a.ResourceVersion)
	a.ChangedAt = timeOf(changed)
	return a, err
}

// FindAppAccess returns an organization's access to an app; one that nobody
// ever asked for is off, with version 0.
func (t *Tx) FindAppAccess(organization, app string) (postern.AppAccess, error) {
	a, err := find(t, "app", app, scanAppAccess, `SELECT `+appColumns+` FROM app_access WHERE organization = ? AND app = ?`, organization, app)
	if postern.CodeOf(err) == postern.CodeNotFound {
		return postern.AppAccess{App: app, Organization: organization}, nil
	}
	return a, err
}

// ListAppAccess lists by organization and app what was ever asked for;
// organization "" lists everybody's.
func (t *Tx) ListAppAccess(organization string) ([]postern.AppAccess, error) {
	return list(t, scanAppAccess, `SELECT `+appColumns+` FROM app_access WHERE ? = '' OR organization = ? ORDER BY organization, app`, organization, organization)
}

// SaveAppAccess writes one whose version is the one that is there; but not whether
// it is ready, see [Tx.MarkApp].
func (t *Tx) SaveAppAccess(a postern.AppAccess) (postern.AppAccess, error) {
	before := a.ResourceVersion
	a.ResourceVersion++
	n, err := t.exec(`INSERT INTO app_access (`+appColumns+`) VALUES (?, ?, ?, ?, ?, FALSE, ?)
		ON CONFLICT (organization, app) DO UPDATE SET enabled = excluded.enabled, changed_by = excluded.changed_by, changed_at = excluded.changed_at,
			resource_version = excluded.resource_version WHERE resource_version = ?`,
		a.Organization, a.App, a.Enabled, a.ChangedBy, micros(a.ChangedAt), a.ResourceVersion, before)
	return a, changed(n, err, "private access to app", a.App)
}

// MarkApp writes whether one is ready, if it was not changed meanwhile. That is no
// change of what anybody asked for: its version stays.
func (t *Tx) MarkApp(a postern.AppAccess) error {
	n, err := t.exec(`UPDATE app_access SET ready = ? WHERE organization = ? AND app = ? AND resource_version = ?`, a.Ready, a.Organization, a.App, a.ResourceVersion)
	return changed(n, err, "private access to app", a.App)
}
