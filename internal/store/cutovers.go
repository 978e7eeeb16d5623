package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/postern-net/postern"
)

const cutoverColumns = `id, tenant, organization, phase, acknowledged, conditions, started_by, started_at, fallback_at, redirected_at, published_at,
	failing_since, enforced_at, drain_until, enforce_revision, withdrawn_at, ended_at, ended_by, ended_why, restored_at, settled_at, led_before, resource_version`

func scanCutover(r row) (c postern.Cutover, err error) {
	var acknowledged, conditions string
	var started, fallback, redirected, published, failing, enforced, drain, withdrawn, ended, restored, settled int64
	if err := r.Scan(&c.ID, &c.Tenant, &c.Organization, &c.Phase, &acknowledged, &conditions, &c.StartedBy, &started, &fallback, &redirected, &published,
		&failing, &enforced, &drain, &c.EnforceRevision, &withdrawn, &ended, &c.EndedBy, &c.EndedWhy, &restored, &settled, &c.LedBefore, &c.ResourceVersion); err != nil {
		return c, err
	}
	c.StartedAt, c.FallbackAt, c.RedirectedAt, c.PublishedAt = timeOf(started), timeOf(fallback), timeOf(redirected), timeOf(published)
	c.FailingSince, c.EnforcedAt, c.DrainUntil, c.WithdrawnAt = timeOf(failing), timeOf(enforced), timeOf(drain), timeOf(withdrawn)
	c.EndedAt, c.RestoredAt, c.SettledAt = timeOf(ended), timeOf(restored), timeOf(settled)
	if err := json.Unmarshal([]byte(acknowledged), &c.Acknowledged); err != nil {
		return c, fmt.Errorf("cutover %s: %w", c.ID, err)
	}
	if err := json.Unmarshal([]byte(conditions), &c.Conditions); err != nil {
		return c, fmt.Errorf("cutover %s: %w", c.ID, err)
	}
	return c, nil
}

func cutoverJSON(c postern.Cutover) (acknowledged, conditions string, err error) {
	if c.Acknowledged == nil {
		c.Acknowledged = []string{}
	}
	if c.Conditions == nil {
		c.Conditions = []postern.Condition{}
	}
	if acknowledged, err = toJSON(c.Acknowledged); err != nil {
		return "", "", err
	}
	conditions, err = toJSON(c.Conditions)
	return acknowledged, conditions, err
}

// FindCutover returns one cutover.
func (t *Tx) FindCutover(id string) (postern.Cutover, error) {
	return find(t, "cutover", id, scanCutover, `SELECT `+cutoverColumns+` FROM cutovers WHERE id = ?`, id)
}

// FindCurrentCutover returns a tenant's cutover that counts, or not_found.
func (t *Tx) FindCurrentCutover(tenant string) (postern.Cutover, error) {
	return find(t, "cutover of tenant", tenant, scanCutover, `SELECT `+cutoverColumns+` FROM cutovers WHERE tenant = ? AND phase <> ?`,
		tenant, postern.CutoverRolledBack)
}

// ListCutovers lists by ID; organization and tenant "" list everybody's.
func (t *Tx) ListCutovers(organization, tenant string, p Page) ([]postern.Cutover, error) {
	return list(t, scanCutover, `SELECT `+cutoverColumns+` FROM cutovers
		WHERE id > ? AND (? = '' OR organization = ?) AND (? = '' OR tenant = ?) ORDER BY id LIMIT ?`,
		p.After, organization, organization, tenant, tenant, p.limit())
}

// ListCurrentCutovers lists those that count, or that were rolled back and are
// not settled: one per tenant at most.
func (t *Tx) ListCurrentCutovers() ([]postern.Cutover, error) {
	return list(t, scanCutover, `SELECT `+cutoverColumns+` FROM cutovers WHERE phase <> ? OR settled_at = 0 ORDER BY tenant`, postern.CutoverRolledBack)
}

// CreateCutover adds one with resource version 1; a tenant with one that
// counts is a conflict. One that was rolled back and is not settled yet has
// nothing left to do: the new one begins where it stands, and settles for it.
func (t *Tx) CreateCutover(c postern.Cutover) (postern.Cutover, error) {
	c.ResourceVersion = 1
	before, err := list(t, scanCutover, `SELECT `+cutoverColumns+` FROM cutovers WHERE tenant = ? AND phase = ? AND settled_at = 0`, c.Tenant, postern.CutoverRolledBack)
	if err != nil {
		return c, err
	}
	for _, b := range before {
		c.LedBefore = c.LedBefore || b.LedBefore || !b.RedirectedAt.IsZero()
	}
	acknowledged, conditions, err := cutoverJSON(c)
	if err != nil {
		return c, err
	}
	n, err := t.exec(`INSERT INTO cutovers (`+cutoverColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		c.ID, c.Tenant, c.Organization, c.Phase, acknowledged, conditions, c.StartedBy, micros(c.StartedAt), micros(c.FallbackAt), micros(c.RedirectedAt), micros(c.PublishedAt),
		micros(c.FailingSince), micros(c.EnforcedAt), micros(c.DrainUntil), c.EnforceRevision, micros(c.WithdrawnAt), micros(c.EndedAt), c.EndedBy, c.EndedWhy,
		micros(c.RestoredAt), micros(c.SettledAt), c.LedBefore, c.ResourceVersion)
	if err == nil && n == 0 {
		err = postern.CutoverExists(c.Tenant)
	}
	if err == nil {
		_, err = t.exec(`UPDATE cutovers SET settled_at = ?, resource_version = resource_version + 1 WHERE tenant = ? AND id <> ? AND phase = ? AND settled_at = 0`,
			micros(c.StartedAt), c.Tenant, c.ID, postern.CutoverRolledBack)
	}
	return c, err
}

// UpdateCutover writes everything but the identity and the start.
func (t *Tx) UpdateCutover(c postern.Cutover) (postern.Cutover, error) {
	acknowledged, conditions, err := cutoverJSON(c)
	if err != nil {
		return c, err
	}
	n, err := t.exec(`UPDATE cutovers SET phase = ?, acknowledged = ?, conditions = ?, fallback_at = ?, redirected_at = ?, published_at = ?, failing_since = ?,
		enforced_at = ?, drain_until = ?, enforce_revision = ?, withdrawn_at = ?, ended_at = ?, ended_by = ?, ended_why = ?, restored_at = ?, settled_at = ?,
		resource_version = resource_version + 1
		WHERE id = ? AND resource_version = ?`,
		c.Phase, acknowledged, conditions, micros(c.FallbackAt), micros(c.RedirectedAt), micros(c.PublishedAt), micros(c.FailingSince),
		micros(c.EnforcedAt), micros(c.DrainUntil), c.EnforceRevision, micros(c.WithdrawnAt), micros(c.EndedAt), c.EndedBy, c.EndedWhy,
		micros(c.RestoredAt), micros(c.SettledAt), c.ID, c.ResourceVersion)
	c.ResourceVersion++
	return c, changed(n, err, "cutover", c.ID)
}

// ForgetEnforceRevisions has every cutover wait for the nodes to obey the routes
// anew: they were numbered on.
func (t *Tx) ForgetEnforceRevisions() error {
	_, err := t.exec(`UPDATE cutovers SET enforce_revision = 0, resource_version = resource_version + 1 WHERE phase = ? OR phase = ?`,
		postern.CutoverEnforcing, postern.CutoverWithdrawing)
	return err
}

// FindZones returns the public DNS that was published last; a new database has
// an empty one of revision 0.
func (t *Tx) FindZones() (postern.Zones, error) {
	return findCompiled[postern.Zones](t, "zones")
}

// SaveZones keeps the public DNS unless one of its revision or a later one is
// there.
func (t *Tx) SaveZones(z postern.Zones) error { return t.saveCompiled("zones", z.Revision, z) }

// ListArrivals lists who came for a server name since a time.
func (t *Tx) ListArrivals(serverName string, since time.Time) ([]postern.ArrivalCount, error) {
	return list(t, scanArrival, `SELECT `+arrivalColumns+` FROM arrivals WHERE server_name = ? AND last_seen >= ?
		ORDER BY region, listener, endpoint, source`, serverName, micros(since))
}

// CreateProbe adds one and drops those that are older than a day and were not
// seen.
func (t *Tx) CreateProbe(p postern.Probe) error {
	if _, err := t.exec(`DELETE FROM probes WHERE seen_at = 0 AND created_at < ?`, micros(p.CreatedAt.Add(-24*time.Hour))); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO probes (nonce, tenant, created_at, endpoint, seen_at) VALUES (?, ?, ?, '', 0)`, p.Nonce, p.Tenant, micros(p.CreatedAt))
	return err
}

// ListProbes lists a tenant's, the latest first.
func (t *Tx) ListProbes(tenant string) ([]postern.Probe, error) {
	return list(t, func(r row) (p postern.Probe, err error) {
		var created, seen int64
		err = r.Scan(&p.Nonce, &p.Tenant, &created, &p.EndpointID, &seen)
		p.CreatedAt, p.SeenAt = timeOf(created), timeOf(seen)
		return p, err
	}, `SELECT nonce, tenant, created_at, endpoint, seen_at FROM probes WHERE tenant = ? ORDER BY created_at DESC, nonce`, tenant)
}

// seeProbe notes that a connection with a probe's name arrived through an
// endpoint of the tenant's own organization; anybody else's proves nothing.
func (t *Tx) seeProbe(a postern.ArrivalCount) error {
	nonce, rest, ok := strings.Cut(a.ServerName, ".probe.")
	if !ok || a.EndpointID == "" || a.Listener != postern.ListenerPrivate {
		return nil
	}
	tenant, _, _ := strings.Cut(rest, ".")
	n, err := t.exec(`UPDATE probes SET endpoint = ?, seen_at = ? WHERE nonce = ? AND tenant = ? AND seen_at = 0
		AND EXISTS (SELECT 1 FROM endpoints, tenants WHERE endpoints.id = ? AND tenants.name = probes.tenant
			AND endpoints.organization = tenants.organization)`,
		a.EndpointID, micros(a.LastSeen), nonce, tenant, a.EndpointID)
	if err != nil || n == 0 {
		return err
	}
	return t.AppendEvent(postern.Event{
		At: a.LastSeen, Actor: "loop", Action: "tenant.probe", Kind: "tenant", Subject: tenant, Organization: a.Organization,
		Message: "the path through " + a.EndpointID + " was proven",
	})
}

// SaveIsolation keeps what a node found about a backend.
func (t *Tx) SaveIsolation(i postern.Isolation) error {
	_, err := t.exec(`INSERT INTO isolation (node, address, isolated, detail, at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (node, address) DO UPDATE SET isolated = excluded.isolated, detail = excluded.detail, at = excluded.at`,
		i.Node, i.Address, i.Isolated, i.Detail, micros(i.At))
	return err
}

// ListIsolation lists what every node found about every backend.
func (t *Tx) ListIsolation() ([]postern.Isolation, error) {
	return list(t, func(r row) (i postern.Isolation, err error) {
		var at int64
		err = r.Scan(&i.Node, &i.Address, &i.Isolated, &i.Detail, &at)
		i.At = timeOf(at)
		return i, err
	}, `SELECT node, address, isolated, detail, at FROM isolation ORDER BY address, node`)
}
