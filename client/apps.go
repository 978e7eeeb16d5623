package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// AppAccess is an app whose hosts organizations share, and what an organization has
// of it privately.
type AppAccess struct {
	ID              string          `json:"id" example:"request" readOnly:"true"`
	Spec            AppAccessSpec   `json:"spec"`
	Status          AppAccessStatus `json:"status" readOnly:"true"`
	ResourceVersion string          `json:"resource_version" readOnly:"true"`
}

// AppAccessSpec is what is wanted.
type AppAccessSpec struct {
	Enabled bool `json:"enabled" doc:"Whether the organization's endpoints reach the app"`
}

// AppAccessStatus is what follows from it.
type AppAccessStatus struct {
	Title        string       `json:"title" example:"Request"`
	Organization string       `json:"organization"`
	Hostnames    []string     `json:"hostnames" doc:"The app's hosts, which are public for everybody"`
	Conditions   []Condition  `json:"conditions"`
	Customer     []AppRecords `json:"customer" doc:"What the customer must create in its own DNS, per endpoint that reaches the app"`
	ChangedBy    string       `json:"changed_by,omitempty"`
	ChangedAt    time.Time    `json:"changed_at,omitzero"`
}

// AppRecords are the records of the networks that use one endpoint.
type AppRecords struct {
	VPCEndpointID string      `json:"vpc_endpoint_id"`
	ServiceRegion string      `json:"service_region"`
	Records       []DNSRecord `json:"records"`
}

// Apps lists the platform's apps whose hosts organizations share, and what an
// organization has of them.
func (c *Client) Apps(ctx context.Context, organization string) ([]AppAccess, error) {
	return listAll[AppAccess](ctx, c, appsPath(organization), nil)
}

// App gets one.
func (c *Client) App(ctx context.Context, organization, app string) (AppAccess, error) {
	return get[AppAccess](ctx, c, appsPath(organization)+"/"+url.PathEscape(app), nil)
}

// SetApp turns an organization's private access to an app on or off.
func (c *Client) SetApp(ctx context.Context, organization, app string, spec AppAccessSpec) (AppAccess, error) {
	var out AppAccess
	err := c.call(ctx, http.MethodPut, appsPath(organization)+"/"+url.PathEscape(app), nil, struct {
		Spec AppAccessSpec `json:"spec"`
	}{spec}, &out)
	return out, err
}

func appsPath(organization string) string {
	return "/v1/organizations/" + url.PathEscape(organization) + "/apps"
}
