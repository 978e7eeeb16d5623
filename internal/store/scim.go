package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/postern-net/postern"
)

// scimColumns are a tenant's SCIM ingress as its row holds it.
type scimColumns struct {
	sources sql.NullString
	by      string
	at      int64
}

func scimOf(s *postern.SCIMIngress) (c scimColumns, err error) {
	if s == nil {
		return c, nil
	}
	sources := s.Sources
	if sources == nil {
		sources = []netip.Prefix{}
	}
	c.sources.Valid, c.by, c.at = true, s.EnabledBy, micros(s.EnabledAt)
	c.sources.String, err = toJSON(sources)
	return c, err
}

func (c scimColumns) read(tenant string) (*postern.SCIMIngress, error) {
	if !c.sources.Valid {
		return nil, nil //nolint:nilnil // nobody asked for one
	}
	s := &postern.SCIMIngress{EnabledBy: c.by, EnabledAt: timeOf(c.at)}
	if err := json.Unmarshal([]byte(c.sources.String), &s.Sources); err != nil {
		return nil, fmt.Errorf("the SCIM ingress of tenant %s: %w", tenant, err)
	}
	if len(s.Sources) == 0 {
		s.Sources = nil // one form of it, so that equal route tables are equal
	}
	return s, nil
}

// UpdateTenantSCIM gives a tenant a SCIM ingress, changes the one that it has,
// or takes it away (nil).
func (t *Tx) UpdateTenantSCIM(v postern.Tenant) (postern.Tenant, error) {
	c, err := scimOf(v.SCIM)
	if err != nil {
		return v, err
	}
	n, err := t.exec(`UPDATE tenants SET scim_sources = ?, scim_enabled_by = ?, scim_enabled_at = ?, resource_version = resource_version + 1
		WHERE name = ? AND resource_version = ?`, c.sources, c.by, c.at, v.Name, v.ResourceVersion)
	v.ResourceVersion++
	return v, changed(n, err, "tenant", v.Name)
}
