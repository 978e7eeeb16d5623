package store

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/postern-net/postern"
)

const connectionColumns = `id, organization, tenant, kind, region, zones, service, service_name, hostname, ports, created_by, created_at,
	removing, proven_at, service_owner, made_since, security_group, endpoint, dns_names, addresses, missing_since, ready_at,
	state, conditions, verify_asked, checked_at, resource_version`

func scanConnection(r row) (c postern.DataConnection, err error) {
	var zones, ports, names, addresses, conditions string
	var created, proven, made, missing, ready, asked, checked int64
	if err := r.Scan(&c.ID, &c.Organization, &c.Tenant, &c.Kind, &c.Region, &zones, &c.Service.ID, &c.Service.Name, &c.Hostname, &ports,
		&c.CreatedBy, &created, &c.Removing, &proven, &c.ServiceOwner, &made, &c.SecurityGroupID, &c.EndpointID, &names, &addresses,
		&missing, &ready, &c.State, &conditions, &asked, &checked, &c.ResourceVersion); err != nil {
		return c, err
	}
	c.Service.Region = c.Region
	c.CreatedAt, c.ProvenAt, c.MadeSince, c.MissingSince = timeOf(created), timeOf(proven), timeOf(made), timeOf(missing)
	c.ReadyAt, c.VerifyAsked, c.CheckedAt = timeOf(ready), timeOf(asked), timeOf(checked)
	for _, list := range []struct {
		text string
		into any
	}{{zones, &c.Zones}, {ports, &c.Ports}, {names, &c.DNSNames}, {addresses, &c.Addresses}, {conditions, &c.Conditions}} {
		if err := json.Unmarshal([]byte(list.text), list.into); err != nil {
			return c, fmt.Errorf("data connection %s: %w", c.ID, err)
		}
	}
	return c, nil
}

// connectionJSON are the lists of a connection, in the order of the columns.
func connectionJSON(c postern.DataConnection) (out struct{ zones, ports, names, addresses, conditions string }, err error) {
	for _, list := range []struct {
		from any
		into *string
	}{
		{append([]string{}, c.Zones...), &out.zones},
		{append([]uint16{}, c.Ports...), &out.ports},
		{append([]string{}, c.DNSNames...), &out.names},
		{append([]netip.Addr{}, c.Addresses...), &out.addresses},
		{append([]postern.Condition{}, c.Conditions...), &out.conditions},
	} {
		if *list.into, err = toJSON(list.from); err != nil {
			return out, err
		}
	}
	return out, nil
}

const selectConnections = `SELECT ` + connectionColumns + ` FROM data_connections `

// FindConnection returns one data connection.
func (t *Tx) FindConnection(id string) (postern.DataConnection, error) {
	return find(t, "data connection", id, scanConnection, selectConnections+`WHERE id = ?`, id)
}

// ConnectionFilter confines a list; what is "" does not.
type ConnectionFilter struct {
	Organization string
	Tenant       string
	Hostname     string
	State        postern.DataConnectionState
}

// ListConnections lists by ID.
func (t *Tx) ListConnections(f ConnectionFilter, p Page) ([]postern.DataConnection, error) {
	return list(t, scanConnection, selectConnections+`WHERE id > ? AND (? = '' OR organization = ?) AND (? = '' OR tenant = ?)
		AND (? = '' OR hostname = ?) AND (? = '' OR state = ?) ORDER BY id LIMIT ?`,
		p.After, f.Organization, f.Organization, f.Tenant, f.Tenant, f.Hostname, f.Hostname, f.State, f.State, p.limit())
}

// CreateConnection adds one with resource version 1. A hostname that the
// organization has a connection to is a conflict. One that another organization
// has is none here: who asks has proven nothing yet, and must not learn of it.
func (t *Tx) CreateConnection(c postern.DataConnection) (postern.DataConnection, error) {
	own, err := t.ListConnections(ConnectionFilter{Organization: c.Organization, Hostname: c.Hostname}, Page{})
	if err != nil {
		return c, err
	}
	if len(own) > 0 {
		return c, postern.HostnameTaken(c.Hostname, own[0].ID)
	}
	c.ResourceVersion = 1
	j, err := connectionJSON(c)
	if err != nil {
		return c, err
	}
	_, err = t.exec(`INSERT INTO data_connections (`+connectionColumns+`)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		c.ID, c.Organization, c.Tenant, c.Kind, c.Region, j.zones, c.Service.ID, c.Service.Name, c.Hostname, j.ports, c.CreatedBy, micros(c.CreatedAt),
		c.Removing, micros(c.ProvenAt), c.ServiceOwner, micros(c.MadeSince), c.SecurityGroupID, c.EndpointID, j.names, j.addresses,
		micros(c.MissingSince), micros(c.ReadyAt), c.State, j.conditions, micros(c.VerifyAsked), micros(c.CheckedAt), c.ResourceVersion)
	return c, err
}

// UpdateConnection writes everything but what was asked for and CheckedAt. When
// it proves a hostname that another connection has proven, it is a conflict.
func (t *Tx) UpdateConnection(c postern.DataConnection) (postern.DataConnection, error) {
	if !c.ProvenAt.IsZero() {
		proven, err := t.FindProvenConnection(c.Hostname)
		switch {
		case err == nil && proven.ID != c.ID:
			return c, &postern.Error{
				Code: postern.CodeConflict, Reason: postern.ReasonHostnameTaken, Field: "hostname", Value: c.Hostname,
				Message: "another data connection has this hostname", Fix: "ask the vendor",
			}
		case err != nil && postern.CodeOf(err) != postern.CodeNotFound:
			return c, err
		}
	}
	j, err := connectionJSON(c)
	if err != nil {
		return c, err
	}
	n, err := t.exec(`UPDATE data_connections SET removing = ?, proven_at = ?, service_owner = ?, made_since = ?, security_group = ?, endpoint = ?,
		dns_names = ?, addresses = ?, missing_since = ?, ready_at = ?, state = ?, conditions = ?, verify_asked = ?, resource_version = resource_version + 1
		WHERE id = ? AND resource_version = ?`,
		c.Removing, micros(c.ProvenAt), c.ServiceOwner, micros(c.MadeSince), c.SecurityGroupID, c.EndpointID,
		j.names, j.addresses, micros(c.MissingSince), micros(c.ReadyAt), c.State, j.conditions, micros(c.VerifyAsked), c.ID, c.ResourceVersion)
	c.ResourceVersion++
	return c, changed(n, err, "data connection", c.ID)
}

// FindProvenConnection returns the connection that has proven a hostname.
func (t *Tx) FindProvenConnection(hostname string) (postern.DataConnection, error) {
	return find(t, "data connection to", hostname, scanConnection, selectConnections+`WHERE hostname = ? AND proven_at > 0`, hostname)
}

// NoteConnectionChecked keeps when a connection was last looked at, by who read
// it as c. Somebody who has asked for a look since is not served by that one, so
// it counts as before. It is no change of the connection: who read it before may
// still change it.
func (t *Tx) NoteConnectionChecked(c postern.DataConnection, at time.Time) error {
	_, err := t.exec(`UPDATE data_connections SET checked_at = CASE WHEN verify_asked = ? THEN ? ELSE min(?, verify_asked - 1) END WHERE id = ?`,
		micros(c.VerifyAsked), micros(at), micros(at), c.ID)
	return err
}

// DeleteConnection deletes the row; the cloud was cleared before. Where
// something of it was at AWS, it is remembered as removed.
func (t *Tx) DeleteConnection(c postern.DataConnection, at time.Time) error {
	n, err := t.exec(`DELETE FROM data_connections WHERE id = ? AND resource_version = ?`, c.ID, c.ResourceVersion)
	if err := changed(n, err, "data connection", c.ID); err != nil || c.MadeSince.IsZero() {
		return err
	}
	_, err = t.exec(`INSERT INTO removed_connections (id, region, removed_at) VALUES (?, ?, ?)`, c.ID, c.Region, micros(at))
	return err
}

// ListRemovedConnections lists those of which something was at AWS, by ID.
func (t *Tx) ListRemovedConnections() ([]postern.RemovedConnection, error) {
	return list(t, func(r row) (c postern.RemovedConnection, err error) {
		var at int64
		err = r.Scan(&c.ID, &c.Region, &at)
		c.RemovedAt = timeOf(at)
		return c, err
	}, `SELECT id, region, removed_at FROM removed_connections ORDER BY id`)
}

// ListWorkloads lists whom the tokens of workloads stand for, by
// [postern.WorkloadKey]: those that were not revoked. One that has ended is in
// it until it is dropped; it says when it ended.
func (t *Tx) ListWorkloads() (map[string]postern.Workload, error) {
	type entry struct {
		key string
		w   postern.Workload
	}
	rows, err := list(t, func(r row) (e entry, err error) {
		var expires int64
		err = r.Scan(&e.key, &e.w.Tenant, &e.w.Organization, &expires)
		e.w.ExpiresAt = timeOf(expires)
		return e, err
	}, `SELECT lower(hex(secret_hash)), tenant, organization, expires_at FROM tokens WHERE role = ? AND revoked_at = 0`, postern.RoleWorkload)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	out := make(map[string]postern.Workload, len(rows))
	for _, e := range rows {
		out[e.key] = e.w
	}
	return out, nil
}

// DropWorkloadTokens deletes the tokens of workloads that ended, or were
// revoked, before a time.
func (t *Tx) DropWorkloadTokens(before time.Time) error {
	at := micros(before)
	_, err := t.exec(`DELETE FROM tokens WHERE role = ? AND ((expires_at > 0 AND expires_at < ?) OR (revoked_at > 0 AND revoked_at < ?))`, postern.RoleWorkload, at, at)
	return err
}
