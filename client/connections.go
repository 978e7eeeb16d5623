package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// DataConnection lets a tenant's workloads reach one of its organization's
// clusters through AWS PrivateLink.
type DataConnection struct {
	ID              string               `json:"id,omitempty" readOnly:"true" example:"dc_2f6c1b7d9a0e4c35"`
	Spec            DataConnectionSpec   `json:"spec"`
	Status          DataConnectionStatus `json:"status,omitzero" readOnly:"true"`
	ResourceVersion string               `json:"resource_version,omitempty" readOnly:"true"`
	CreatedAt       time.Time            `json:"created_at,omitzero" readOnly:"true"`
}

// DataConnectionSpec is what is asked for. No field is required by the schema,
// so that everything that is wrong or missing is told at once.
type DataConnectionSpec struct {
	Tenant            string   `json:"tenant,omitempty" doc:"Whose workloads are to reach it" example:"example"`
	Kind              string   `json:"kind,omitempty" doc:"starburst-trino, also when left out" example:"starburst-trino"`
	Region            string   `json:"region,omitempty" doc:"Of the endpoint service" example:"us-east-1"`
	AvailabilityZones []string `json:"availability_zone_ids,omitempty" doc:"IDs of the zones that the service's load balancer is in; no names" example:"[\"use1-az3\"]"`
	ServiceName       string   `json:"vpc_endpoint_service_name,omitempty" doc:"The endpoint service's name, or its ID" example:"com.amazonaws.vpce.us-east-1.vpce-svc-0471015b106ad1d47"`
	Hostname          string   `json:"hostname,omitempty" doc:"Of the cluster; its certificate must be good for it" example:"starburst.example.com"`
	Ports             []int    `json:"ports,omitempty" doc:"TCP" example:"[443]"`
	Protocol          string   `json:"protocol,omitempty" doc:"tcp, also when left out; there is no other"`
	IPAddressType     string   `json:"ip_address_type,omitempty" doc:"ipv4, also when left out; there is no other"`
}

// DataConnectionStatus is what was observed and decided.
type DataConnectionStatus struct {
	State        string      `json:"state" enum:"requested,awaiting-authorization,provisioning,pending-acceptance,verifying,ready,degraded,failed,removing"`
	Conditions   []Condition `json:"conditions" doc:"In the order in which they come to hold: the first that is not True is the one to mend"`
	Organization string      `json:"organization"`
	ServiceID    string      `json:"vpc_endpoint_service_id"`
	ServiceOwner string      `json:"service_owner,omitempty" doc:"AWS account of the service, once it was seen as a proven one"`
	PrincipalARN string      `json:"principal_arn" doc:"What the service must admit"`
	Challenge    Challenged  `json:"challenge" doc:"The record that proves the hostname"`
	EndpointID   string      `json:"vpc_endpoint_id,omitempty" doc:"What the service's owner accepts"`
	DNSNames     []string    `json:"vpc_endpoint_dns_names" doc:"Regional name first"`
	CreatedBy    string      `json:"created_by"`
	ReadyAt      time.Time   `json:"ready_at,omitzero" doc:"When it was ready first"`
	VerifyAsked  time.Time   `json:"verify_asked_at,omitzero" doc:"When somebody last asked to look again"`
	CheckedAt    time.Time   `json:"checked_at,omitzero" doc:"When DNS, the service or the cluster was last looked at, and answered"`
}

// Challenged is a DNS record to publish.
type Challenged struct {
	Name  string `json:"name" example:"_postern-challenge.starburst.example.com"`
	Type  string `json:"type" enum:"TXT"`
	Value string `json:"value"`
}

// DataConnectionResult is a connection that was asked for and, for a dry run,
// what would be done for it.
type DataConnectionResult struct {
	Connection DataConnection `json:"connection"`
	DryRun     bool           `json:"dry_run,omitempty"`
	Actions    []Action       `json:"actions,omitempty" doc:"At AWS, until the customer has to act"`
}

// OutboundRegion is a region in which the platform makes data connections.
type OutboundRegion struct {
	Region            string   `json:"region" example:"us-east-1"`
	PrincipalARN      string   `json:"principal_arn" doc:"What the endpoint service must admit"`
	AvailabilityZones []string `json:"availability_zone_ids" doc:"The service must be in one of these; empty: the region is not set up yet"`
}

// WorkloadToken is what a workload shows to an egress node.
type WorkloadToken struct {
	ID           string            `json:"id,omitempty" readOnly:"true"`
	Spec         WorkloadTokenSpec `json:"spec"`
	Organization string            `json:"organization,omitempty" readOnly:"true"`
	Secret       string            `json:"secret,omitempty" readOnly:"true" doc:"Shown once, when the token is created"`
	CreatedAt    time.Time         `json:"created_at,omitzero" readOnly:"true"`
}

// WorkloadTokenSpec is whose data connections a token opens.
type WorkloadTokenSpec struct {
	Name      string    `json:"name" doc:"Appears in events"`
	Tenant    string    `json:"tenant" example:"example"`
	ExpiresAt time.Time `json:"expires_at,omitzero" doc:"At most a year away; left out: in 90 days"`
	// Certificate makes it a client certificate that the workload shows to the
	// proxy instead of a token.
	Certificate string `json:"certificate,omitempty" doc:"PEM of a client certificate that is shown instead of a secret; operators only. It ends with the certificate at the latest" maxLength:"20000"`
}

const pathConnections = "/v1/data-connections"

// CreateDataConnection asks for one; a dry run changes nothing, looks at
// everything, and tells what would be done.
func (c *Client) CreateDataConnection(ctx context.Context, spec DataConnectionSpec, dryRun bool) (DataConnectionResult, error) {
	q := query()
	if dryRun {
		q.Set("dry_run", "true")
	}
	return post[DataConnectionResult](ctx, c, pathConnections, q, DataConnection{Spec: spec})
}

// DataConnectionFilter confines a list; what is "" does not.
type DataConnectionFilter struct {
	Organization string
	Tenant       string
	Hostname     string
	State        string
}

// DataConnections lists those that the caller sees.
func (c *Client) DataConnections(ctx context.Context, f DataConnectionFilter) ([]DataConnection, error) {
	return listAll[DataConnection](ctx, c, pathConnections, query("organization", f.Organization, "tenant", f.Tenant, "hostname", f.Hostname, "state", f.State))
}

// DataConnection gets one.
func (c *Client) DataConnection(ctx context.Context, id string) (DataConnection, error) {
	return get[DataConnection](ctx, c, pathConnections+"/"+url.PathEscape(id), nil)
}

// VerifyDataConnection asks to look at DNS, the service and the cluster now. The
// look has happened when Status.CheckedAt is not before Status.VerifyAsked.
func (c *Client) VerifyDataConnection(ctx context.Context, id string) (DataConnection, error) {
	return post[DataConnection](ctx, c, pathConnections+"/"+url.PathEscape(id)+"/verify", nil, nil)
}

// DeleteDataConnection takes its route away at once, and its endpoint off AWS.
func (c *Client) DeleteDataConnection(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, pathConnections+"/"+url.PathEscape(id), nil, nil, nil)
}

// OutboundRegions lists where data connections can be made.
func (c *Client) OutboundRegions(ctx context.Context) ([]OutboundRegion, error) {
	return listAll[OutboundRegion](ctx, c, "/v1/outbound-regions", nil)
}

const pathWorkloadTokens = "/v1/workload-tokens"

// CreateWorkloadToken makes one; its secret is in this answer and nowhere else.
func (c *Client) CreateWorkloadToken(ctx context.Context, spec WorkloadTokenSpec) (WorkloadToken, error) {
	return post[WorkloadToken](ctx, c, pathWorkloadTokens, nil, WorkloadToken{Spec: spec})
}

// WorkloadTokens lists an organization's or a tenant's, or with "" all that the
// caller sees.
func (c *Client) WorkloadTokens(ctx context.Context, organization, tenant string) ([]WorkloadToken, error) {
	return listAll[WorkloadToken](ctx, c, pathWorkloadTokens, query("organization", organization, "tenant", tenant))
}

// DeleteWorkloadToken revokes one.
func (c *Client) DeleteWorkloadToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, pathWorkloadTokens+"/"+url.PathEscape(id), nil, nil, nil)
}
