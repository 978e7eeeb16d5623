package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// SCIMIngress is a tenant's public way in for SCIM and nothing else.
type SCIMIngress struct {
	ID              string            `json:"id" doc:"The tenant's name" readOnly:"true"`
	Spec            SCIMIngressSpec   `json:"spec"`
	Status          SCIMIngressStatus `json:"status" readOnly:"true"`
	ResourceVersion string            `json:"resource_version" doc:"The tenant's" readOnly:"true"`
}

// SCIMIngressSpec is what is wanted.
type SCIMIngressSpec struct {
	Enabled      bool     `json:"enabled" doc:"Whether the tenant has one"`
	SourceRanges []string `json:"source_ranges,omitempty" maxItems:"200" doc:"Networks that the identity provider comes from; empty: from anywhere" example:"[\"192.0.2.0/24\"]"`
}

// SCIMIngressStatus is what follows from it.
type SCIMIngressStatus struct {
	Hostname  string    `json:"hostname,omitempty" doc:"Its name; left out where the platform has no SCIM ingress"`
	BaseURL   string    `json:"base_url,omitempty" doc:"What to configure at the identity provider; left out while it is off"`
	EnabledBy string    `json:"enabled_by,omitempty"`
	EnabledAt time.Time `json:"enabled_at,omitzero"`
	WaitsFor  []string  `json:"waits_for,omitempty" doc:"Nodes that have not acknowledged yet that it was turned off, or that other networks were named; a fenced node is not waited for"`
}

// SCIMIngress gets a tenant's, whether it is on or off.
func (c *Client) SCIMIngress(ctx context.Context, tenant string) (SCIMIngress, error) {
	return get[SCIMIngress](ctx, c, scimPath(tenant), nil)
}

// SetSCIMIngress turns a tenant's on, with these source ranges and no others,
// or off.
func (c *Client) SetSCIMIngress(ctx context.Context, tenant string, spec SCIMIngressSpec) (SCIMIngress, error) {
	var out SCIMIngress
	err := c.call(ctx, http.MethodPut, scimPath(tenant), nil, struct {
		Spec SCIMIngressSpec `json:"spec"`
	}{spec}, &out)
	return out, err
}

func scimPath(tenant string) string { return "/v1/tenants/" + url.PathEscape(tenant) + "/scim" }
