package store

import (
	"github.com/postern-net/postern"
)

// Page bounds a list: rows with a key after After, at most Limit (0: all).
type Page struct {
	After string
	Limit int
}

func (p Page) limit() int {
	if p.Limit <= 0 {
		return -1 // SQLite: no limit
	}
	return p.Limit
}

const organizationColumns = `id, title, resource_version, created_at`

func scanOrganization(r row) (o postern.Organization, err error) {
	var created int64
	err = r.Scan(&o.ID, &o.Title, &o.ResourceVersion, &created)
	o.CreatedAt = timeOf(created)
	return o, err
}

// FindOrganization returns one organization.
func (t *Tx) FindOrganization(id string) (postern.Organization, error) {
	return find(t, "organization", id, scanOrganization, `SELECT `+organizationColumns+` FROM organizations WHERE id = ?`, id)
}

// ListOrganizations lists by ID; only, unless "", confines the list to one.
func (t *Tx) ListOrganizations(only string, p Page) ([]postern.Organization, error) {
	return list(t, scanOrganization, `SELECT `+organizationColumns+` FROM organizations
		WHERE id > ? AND (? = '' OR id = ?) ORDER BY id LIMIT ?`, p.After, only, only, p.limit())
}

// CreateOrganization adds one with resource version 1.
func (t *Tx) CreateOrganization(o postern.Organization) (postern.Organization, error) {
	o.ResourceVersion = 1
	n, err := t.exec(`INSERT INTO organizations (`+organizationColumns+`) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		o.ID, o.Title, o.ResourceVersion, micros(o.CreatedAt))
	if err == nil && n == 0 {
		err = exists("id", "organization", o.ID, "choose another name")
	}
	return o, err
}

// DeleteOrganization deletes one that has no tenant, account or endpoint left,
// with its tokens.
func (t *Tx) DeleteOrganization(o postern.Organization) error {
	var left int
	if err := t.tx.QueryRowContext(t.ctx, `SELECT (SELECT count(*) FROM tenants WHERE organization = ?)
		+ (SELECT count(*) FROM accounts WHERE organization = ?) + (SELECT count(*) FROM endpoints WHERE organization = ?)`,
		o.ID, o.ID, o.ID).Scan(&left); err != nil {
		return err
	}
	if left > 0 {
		return &postern.Error{
			Code: postern.CodeConflict, Message: "the organization still has tenants, accounts or endpoints",
			Fix: "remove them first",
		}
	}
	if _, err := t.exec(`DELETE FROM tokens WHERE organization = ?`, o.ID); err != nil {
		return err
	}
	n, err := t.exec(`DELETE FROM organizations WHERE id = ? AND resource_version = ?`, o.ID, o.ResourceVersion)
	return changed(n, err, "organization", o.ID)
}

const tenantColumns = `name, organization, region, resource_version, created_at, scim_sources, scim_enabled_by, scim_enabled_at`

func scanTenant(r row) (v postern.Tenant, err error) {
	var created int64
	var scim scimColumns
	if err := r.Scan(&v.Name, &v.Organization, &v.Region, &v.ResourceVersion, &created, &scim.sources, &scim.by, &scim.at); err != nil {
		return v, err
	}
	v.CreatedAt = timeOf(created)
	v.SCIM, err = scim.read(v.Name)
	return v, err
}

// FindTenant returns one tenant.
func (t *Tx) FindTenant(name string) (postern.Tenant, error) {
	return find(t, "tenant", name, scanTenant, `SELECT `+tenantColumns+` FROM tenants WHERE name = ?`, name)
}

// ListTenants lists by name; organization "" lists everybody's.
func (t *Tx) ListTenants(organization string, p Page) ([]postern.Tenant, error) {
	return list(t, scanTenant, `SELECT `+tenantColumns+` FROM tenants
		WHERE name > ? AND (? = '' OR organization = ?) ORDER BY name LIMIT ?`, p.After, organization, organization, p.limit())
}

// CreateTenant adds one with resource version 1.
func (t *Tx) CreateTenant(v postern.Tenant) (postern.Tenant, error) {
	v.ResourceVersion = 1
	scim, err := scimOf(v.SCIM)
	if err != nil {
		return v, err
	}
	n, err := t.exec(`INSERT INTO tenants (`+tenantColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		v.Name, v.Organization, v.Region, v.ResourceVersion, micros(v.CreatedAt), scim.sources, scim.by, scim.at)
	if err == nil && n == 0 {
		err = exists("id", "tenant", v.Name, "choose another name")
	}
	return v, err
}

// DeleteTenant deletes one that no endpoint was claimed for by name, since
// deleting the name from such a claim could widen it to all tenants, and that
// has no data connection. Its workloads' tokens end.
func (t *Tx) DeleteTenant(v postern.Tenant) error {
	named, err := list(t, func(r row) (id string, err error) { return id, r.Scan(&id) },
		`SELECT endpoint FROM endpoint_tenants WHERE tenant = ? ORDER BY endpoint`, v.Name)
	if err != nil {
		return err
	}
	if len(named) > 0 {
		return &postern.Error{
			Code: postern.CodeConflict, Message: "endpoint " + named[0] + " was claimed for this tenant by name",
			Fix: "remove the endpoint, or claim it anew without the tenant, first",
		}
	}
	connections, err := t.ListConnections(ConnectionFilter{Tenant: v.Name}, Page{Limit: 1})
	if err != nil {
		return err
	}
	if len(connections) > 0 {
		return &postern.Error{
			Code: postern.CodeConflict, Message: "the tenant has data connection " + connections[0].ID,
			Fix: "delete the tenant's data connections first, and wait until they are gone",
		}
	}
	if _, err := t.exec(`DELETE FROM tokens WHERE tenant = ?`, v.Name); err != nil {
		return err
	}
	n, err := t.exec(`DELETE FROM tenants WHERE name = ? AND resource_version = ?`, v.Name, v.ResourceVersion)
	if err := changed(n, err, "tenant", v.Name); err != nil {
		return err
	}
	// Its cutovers go with it: the next tenant of that name begins public.
	_, err = t.exec(`DELETE FROM cutovers WHERE tenant = ?`, v.Name)
	return err
}
