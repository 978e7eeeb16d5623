package store

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/postern-net/postern"
)

const endpointColumns = `id, organization, approved_by, approved_at, removing, service_region, endpoint_region, owner,
	dns_names, state, conditions, missing_since, resource_version, created_at`

func scanEndpoint(r row) (e postern.Endpoint, err error) {
	var approved, missing, created int64
	var names, conditions, tenants string
	if err := r.Scan(&e.ID, &e.Organization, &e.Approval.By, &approved, &e.Removing, &e.ServiceRegion, &e.EndpointRegion, &e.Owner,
		&names, &e.State, &conditions, &missing, &e.ResourceVersion, &created, &tenants); err != nil {
		return e, err
	}
	e.Approval.At, e.MissingSince, e.CreatedAt = timeOf(approved), timeOf(missing), timeOf(created)
	for _, list := range []struct {
		text string
		into any
	}{{names, &e.DNSNames}, {conditions, &e.Conditions}, {tenants, &e.Tenants}} {
		if err := json.Unmarshal([]byte(list.text), list.into); err != nil {
			return e, fmt.Errorf("endpoint %s: %w", e.ID, err)
		}
	}
	return e, nil
}

const selectEndpoints = `SELECT ` + endpointColumns + `,
	(SELECT json_group_array(tenant ORDER BY tenant) FROM endpoint_tenants WHERE endpoint = endpoints.id) FROM endpoints `

// FindEndpoint returns one claimed endpoint.
func (t *Tx) FindEndpoint(id string) (postern.Endpoint, error) {
	return find(t, "endpoint", id, scanEndpoint, selectEndpoints+`WHERE id = ?`, id)
}

// ListEndpoints lists by ID; organization "" lists everybody's, state "" every
// state.
func (t *Tx) ListEndpoints(organization string, state postern.EndpointState, p Page) ([]postern.Endpoint, error) {
	return list(t, scanEndpoint, selectEndpoints+`WHERE id > ? AND (? = '' OR organization = ?) AND (? = '' OR state = ?)
		ORDER BY id LIMIT ?`, p.After, organization, organization, state, state, p.limit())
}

// CreateEndpoint adds a claim with resource version 1.
func (t *Tx) CreateEndpoint(e postern.Endpoint) (postern.Endpoint, error) {
	e.ResourceVersion = 1
	names, conditions, err := endpointJSON(e)
	if err != nil {
		return e, err
	}
	n, err := t.exec(`INSERT INTO endpoints (`+endpointColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		e.ID, e.Organization, e.Approval.By, micros(e.Approval.At), e.Removing, e.ServiceRegion, e.EndpointRegion, e.Owner,
		names, e.State, conditions, micros(e.MissingSince), e.ResourceVersion, micros(e.CreatedAt))
	if err != nil {
		return e, err
	}
	if n == 0 {
		return e, exists("vpc_endpoint_ids", "endpoint", e.ID, "look at the claim that is there, or wait until it is removed")
	}
	return e, t.nameTenants(e.ID, e.Tenants)
}

// nameTenants adds the tenants that a claim names. One that is gone, or that
// was somebody else's, is a conflict: the caller looked before.
func (t *Tx) nameTenants(endpoint string, tenants []string) error {
	for _, name := range tenants {
		n, err := t.exec(`INSERT INTO endpoint_tenants (endpoint, tenant)
			SELECT e.id, t.name FROM endpoints e JOIN tenants t ON t.organization = e.organization WHERE e.id = ? AND t.name = ?`, endpoint, name)
		if err := changed(n, err, "tenant", name); err != nil {
			return err
		}
	}
	return nil
}

// UpdateEndpoint writes everything but the identity and the tenants.
func (t *Tx) UpdateEndpoint(e postern.Endpoint) (postern.Endpoint, error) {
	names, conditions, err := endpointJSON(e)
	if err != nil {
		return e, err
	}
	n, err := t.exec(`UPDATE endpoints SET approved_by = ?, approved_at = ?, removing = ?, service_region = ?, endpoint_region = ?, owner = ?,
		dns_names = ?, state = ?, conditions = ?, missing_since = ?, resource_version = resource_version + 1
		WHERE id = ? AND resource_version = ?`,
		e.Approval.By, micros(e.Approval.At), e.Removing, e.ServiceRegion, e.EndpointRegion, e.Owner,
		names, e.State, conditions, micros(e.MissingSince), e.ID, e.ResourceVersion)
	e.ResourceVersion++
	return e, changed(n, err, "endpoint", e.ID)
}

// DeleteEndpoint deletes a claim; the cloud was cleared before.
func (t *Tx) DeleteEndpoint(e postern.Endpoint) error {
	n, err := t.exec(`DELETE FROM endpoints WHERE id = ? AND resource_version = ?`, e.ID, e.ResourceVersion)
	return changed(n, err, "endpoint", e.ID)
}

func endpointJSON(e postern.Endpoint) (names, conditions string, err error) {
	if e.DNSNames == nil {
		e.DNSNames = []string{}
	}
	if e.Conditions == nil {
		e.Conditions = []postern.Condition{}
	}
	if names, err = toJSON(e.DNSNames); err != nil {
		return "", "", err
	}
	conditions, err = toJSON(e.Conditions)
	return names, conditions, err
}

// SetEndpointTenants replaces the tenants that a claim names.
func (t *Tx) SetEndpointTenants(e postern.Endpoint, tenants []string) (postern.Endpoint, error) {
	if _, err := t.exec(`DELETE FROM endpoint_tenants WHERE endpoint = ?`, e.ID); err != nil {
		return e, err
	}
	if err := t.nameTenants(e.ID, tenants); err != nil {
		return e, err
	}
	e.Tenants = slices.Sorted(slices.Values(tenants))
	return t.UpdateEndpoint(e)
}
