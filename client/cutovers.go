package client

import (
	"context"
	"net/url"
	"time"
)

// Cutover takes a tenant's public access away, step by step.
type Cutover struct {
	ID              string        `json:"id" example:"cut_x4k…"`
	Spec            CutoverSpec   `json:"spec"`
	Status          CutoverStatus `json:"status"`
	ResourceVersion string        `json:"resource_version"`
}

// CutoverSpec is what was asked for.
type CutoverSpec struct {
	Tenant       string   `json:"tenant"`
	Acknowledged []string `json:"acknowledged" doc:"Names of blockers that a person accepted"`
}

// CutoverStatus is how far it has come.
type CutoverStatus struct {
	State           string      `json:"state" enum:"rehearsing,enforcing,withdrawing,complete,rolled-back"`
	Organization    string      `json:"organization"`
	Conditions      []Condition `json:"conditions"`
	StartedBy       string      `json:"started_by"`
	StartedAt       time.Time   `json:"started_at"`
	FallbackAt      time.Time   `json:"fallback_at,omitzero" doc:"Since when the zones' servers answer the privatelink name with the public ingress"`
	RedirectedAt    time.Time   `json:"redirected_at,omitzero" doc:"When the standard hostname was told to lead to the privatelink name"`
	PublishedAt     time.Time   `json:"published_at,omitzero" doc:"Since when the zones' servers lead the standard hostname to the privatelink name"`
	FailingSince    time.Time   `json:"failing_since,omitzero" doc:"Since when private clients of the rehearsal meet no app"`
	EnforcedAt      time.Time   `json:"enforced_at,omitzero" doc:"When public connections began to be refused"`
	DrainUntil      time.Time   `json:"drain_until,omitzero" doc:"When the public connections that were open then are cut"`
	EnforceRevision int64       `json:"enforce_revision,omitempty" doc:"The route table that every node must obey: enforcing, it refuses public connections; withdrawing, it cuts the last of them"`
	WithdrawnAt     time.Time   `json:"withdrawn_at,omitzero" doc:"Since when the zones' servers lack the fallback"`
	EndedAt         time.Time   `json:"ended_at,omitzero"`
	EndedBy         string      `json:"ended_by,omitempty"`
	EndedWhy        string      `json:"ended_why,omitempty"`
	RestoredAt      time.Time   `json:"restored_at,omitzero" doc:"Since when, after a rollback, the zones' servers answer the standard hostname with the public ingress"`
	LostApps        []string    `json:"lost_apps,omitempty" doc:"In the answer to a rollback: the apps that the organization lost private access to by it; take their records out of your networks' DNS"`
	SettledAt       time.Time   `json:"settled_at,omitzero" doc:"When the fallback of a rolled-back cutover was taken away"`
}

// CutoverRequest starts a cutover.
type CutoverRequest struct {
	Tenant       string   `json:"tenant"`
	Acknowledged []string `json:"acknowledged,omitempty" doc:"Names of blockers that are accepted"`
}

// Acknowledgement accepts blockers of a cutover by name.
type Acknowledgement struct {
	Blockers []string `json:"blockers" minItems:"1"`
}

// Rollback makes a tenant public again.
type Rollback struct {
	Reason string `json:"reason,omitempty" maxLength:"500"`
}

// Blocker is something that stands against a cutover.
type Blocker struct {
	Name            string   `json:"name"`
	Message         string   `json:"message"`
	Evidence        []string `json:"evidence,omitempty" doc:"What was seen"`
	Acknowledgeable bool     `json:"acknowledgeable" doc:"May be accepted by its name; otherwise it must be mended"`
	Blocks          string   `json:"blocks" enum:"start,enforce" doc:"start: the rehearsal does not begin; enforce: public clients are not refused yet"`
	Acknowledged    bool     `json:"acknowledged,omitempty" doc:"The tenant's cutover accepts it"`
}

// DNSRecord is one record, wanted or published.
type DNSRecord struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	TTL   int    `json:"ttl,omitempty" doc:"Seconds"`
	Value string `json:"value"`
}

// TenantDNS is what the two sides must have in their DNS for a tenant.
type TenantDNS struct {
	Tenant string `json:"tenant"`
	// Vendor is what the platform's public zones say, or are to say.
	Vendor    []DNSRecord `json:"vendor"`
	Published bool        `json:"published" doc:"Every server of the zones answers so"`
	Detail    string      `json:"detail,omitempty" doc:"Which does not, and what it answers"`
	// Customer is what the customer must create, per endpoint: in the networks
	// that use it.
	Customer []NetworkDNS `json:"customer"`
}

// NetworkDNS is the record of the networks that use one endpoint.
type NetworkDNS struct {
	VPCEndpointID string    `json:"vpc_endpoint_id"`
	ServiceRegion string    `json:"service_region"`
	Record        DNSRecord `json:"record"`
	// Apps are the records of apps that organizations share, those that the
	// endpoint reaches.
	Apps []DNSRecord `json:"apps,omitempty"`
}

// Probe is a proof of the path through an endpoint: connect through it with
// the server name; it is recorded and refused.
type Probe struct {
	ServerName    string    `json:"server_name"`
	Tenant        string    `json:"tenant"`
	CreatedAt     time.Time `json:"created_at"`
	VPCEndpointID string    `json:"vpc_endpoint_id,omitempty" doc:"Through which it came; left out: not seen yet"`
	SeenAt        time.Time `json:"seen_at,omitzero"`
}

// Preflight lists what stands against a tenant's cutover now.
func (c *Client) Preflight(ctx context.Context, tenant string) ([]Blocker, error) {
	return listAll[Blocker](ctx, c, "/v1/tenants/"+url.PathEscape(tenant)+"/preflight", nil)
}

// StartCutover begins the rehearsal, unless something stands against it.
func (c *Client) StartCutover(ctx context.Context, r CutoverRequest) (Cutover, error) {
	return post[Cutover](ctx, c, "/v1/cutovers", nil, r)
}

// Cutovers lists a tenant's, or with "" all that the caller sees.
func (c *Client) Cutovers(ctx context.Context, tenant string) ([]Cutover, error) {
	return listAll[Cutover](ctx, c, "/v1/cutovers", query("tenant", tenant))
}

// Cutover gets one.
func (c *Client) Cutover(ctx context.Context, id string) (Cutover, error) {
	return get[Cutover](ctx, c, "/v1/cutovers/"+url.PathEscape(id), nil)
}

// AcknowledgeCutover accepts blockers by name.
func (c *Client) AcknowledgeCutover(ctx context.Context, id string, blockers ...string) (Cutover, error) {
	return post[Cutover](ctx, c, "/v1/cutovers/"+url.PathEscape(id)+"/acknowledge", nil, Acknowledgement{Blockers: blockers})
}

// RollBackCutover makes the tenant public again, from wherever it is.
func (c *Client) RollBackCutover(ctx context.Context, id, reason string) (Cutover, error) {
	return post[Cutover](ctx, c, "/v1/cutovers/"+url.PathEscape(id)+"/rollback", nil, Rollback{Reason: reason})
}

// TenantDNS tells what must be in whose DNS.
func (c *Client) TenantDNS(ctx context.Context, tenant string) (TenantDNS, error) {
	return get[TenantDNS](ctx, c, "/v1/tenants/"+url.PathEscape(tenant)+"/dns", nil)
}

// CreateProbe draws a new server name to send through an endpoint.
func (c *Client) CreateProbe(ctx context.Context, tenant string) (Probe, error) {
	return post[Probe](ctx, c, "/v1/tenants/"+url.PathEscape(tenant)+"/probes", nil, nil)
}

// Probes lists a tenant's, the latest first.
func (c *Client) Probes(ctx context.Context, tenant string) ([]Probe, error) {
	return listAll[Probe](ctx, c, "/v1/tenants/"+url.PathEscape(tenant)+"/probes", nil)
}
