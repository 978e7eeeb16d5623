package client

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// WhoAmI tells who the token is.
func (c *Client) WhoAmI(ctx context.Context) (Identity, error) {
	return get[Identity](ctx, c, "/v1/whoami", nil)
}

// Regions lists the catalogue; with a tenant, its own region first and then
// its segment's; with a region, the same for a tenant that would live there.
func (c *Client) Regions(ctx context.Context, tenant, region string) ([]Offer, error) {
	return listAll[Offer](ctx, c, "/v1/regions", query("tenant", tenant, "region", region))
}

// Organizations lists what the caller sees.
func (c *Client) Organizations(ctx context.Context) ([]Organization, error) {
	return listAll[Organization](ctx, c, "/v1/organizations", nil)
}

// Organization gets one.
func (c *Client) Organization(ctx context.Context, id string) (Organization, error) {
	return get[Organization](ctx, c, "/v1/organizations/"+url.PathEscape(id), nil)
}

// CreateOrganization creates one.
func (c *Client) CreateOrganization(ctx context.Context, o Organization) (Organization, error) {
	return post[Organization](ctx, c, "/v1/organizations", nil, o)
}

// DeleteOrganization deletes one that has nothing left.
func (c *Client) DeleteOrganization(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/organizations/"+url.PathEscape(id), nil, nil, nil)
}

// Tenants lists an organization's, or with "" all that the caller sees.
func (c *Client) Tenants(ctx context.Context, organization string) ([]Tenant, error) {
	return listAll[Tenant](ctx, c, "/v1/tenants", query("organization", organization))
}

// Tenant gets one.
func (c *Client) Tenant(ctx context.Context, id string) (Tenant, error) {
	return get[Tenant](ctx, c, "/v1/tenants/"+url.PathEscape(id), nil)
}

// CreateTenant creates one. An app that the organization would lose private
// access to by it is refused unless it is acknowledged by its ID.
func (c *Client) CreateTenant(ctx context.Context, t Tenant, acknowledged ...string) (Tenant, error) {
	return post[Tenant](ctx, c, "/v1/tenants", query("acknowledge", strings.Join(acknowledged, ",")), t)
}

// DeleteTenant deletes one. What its organization would lose private access to an
// app by is refused unless it is acknowledged by the app's ID.
func (c *Client) DeleteTenant(ctx context.Context, id string, acknowledged ...string) error {
	return c.call(ctx, http.MethodDelete, "/v1/tenants/"+url.PathEscape(id), query("acknowledge", strings.Join(acknowledged, ",")), nil, nil)
}

// CreateChallenge starts the proof of an account.
func (c *Client) CreateChallenge(ctx context.Context, organization string) (Challenge, error) {
	return post[Challenge](ctx, c, "/v1/account-challenges", nil, ChallengeRequest{Organization: organization})
}

// ProveAccount ends it. A challenge is good for one attempt that AWS answered:
// where sending a proof again finds it spent, the error is the first attempt's.
func (c *Client) ProveAccount(ctx context.Context, p Proof) (Account, error) {
	return post[Account](ctx, c, pathAccounts, nil, p)
}

const pathAccounts = "/v1/accounts"

// Accounts lists an organization's, or with "" all that the caller sees.
func (c *Client) Accounts(ctx context.Context, organization string) ([]Account, error) {
	return listAll[Account](ctx, c, "/v1/accounts", query("organization", organization))
}

// Account gets one.
func (c *Client) Account(ctx context.Context, id string) (Account, error) {
	return get[Account](ctx, c, "/v1/accounts/"+url.PathEscape(id), nil)
}

// DeleteAccount takes the account's endpoints and principal off the platform.
func (c *Client) DeleteAccount(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/accounts/"+url.PathEscape(id), nil, nil, nil)
}

// ClaimEndpoints asks for private access; a dry run changes nothing and tells
// what would be done.
func (c *Client) ClaimEndpoints(ctx context.Context, claim Claim, dryRun bool) (ClaimResult, error) {
	q := query()
	if dryRun {
		q.Set("dry_run", "true")
	}
	return post[ClaimResult](ctx, c, "/v1/endpoint-claims", q, claim)
}

// Endpoints lists an organization's, or with "" all that the caller sees.
func (c *Client) Endpoints(ctx context.Context, organization, state string) ([]Endpoint, error) {
	return listAll[Endpoint](ctx, c, "/v1/endpoints", query("organization", organization, "state", state))
}

// Endpoint gets one.
func (c *Client) Endpoint(ctx context.Context, id string) (Endpoint, error) {
	return get[Endpoint](ctx, c, "/v1/endpoints/"+url.PathEscape(id), nil)
}

// ApproveEndpoint lets an endpoint in that waits for an operator.
func (c *Client) ApproveEndpoint(ctx context.Context, id string) (Endpoint, error) {
	return post[Endpoint](ctx, c, "/v1/endpoints/"+url.PathEscape(id)+"/approve", nil, nil)
}

// DeleteEndpoint takes the claim back: the connection is rejected.
func (c *Client) DeleteEndpoint(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/endpoints/"+url.PathEscape(id), nil, nil, nil)
}

// Connections lists the endpoint connections at AWS; claimed filters, nil does
// not.
func (c *Client) Connections(ctx context.Context, organization string, claimed *bool) ([]Connection, error) {
	return listAll[Connection](ctx, c, "/v1/connections", query("organization", organization, "claimed", boolText(claimed)))
}

// Denials lists refused connections, counted.
func (c *Client) Denials(ctx context.Context, organization string) ([]Denial, error) {
	return listAll[Denial](ctx, c, "/v1/denials", query("organization", organization))
}

// Tokens lists the tokens.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	return listAll[Token](ctx, c, "/v1/tokens", nil)
}

// CreateToken makes one; its secret is in the answer and nowhere else.
func (c *Client) CreateToken(ctx context.Context, spec TokenSpec) (Token, error) {
	return post[Token](ctx, c, "/v1/tokens", nil, Token{Spec: spec})
}

// DeleteToken revokes one at once.
func (c *Client) DeleteToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(id), nil, nil, nil)
}

// Plan lists what the loop would do now.
func (c *Client) Plan(ctx context.Context) ([]Action, error) {
	return listAll[Action](ctx, c, "/v1/plan", nil)
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (T, error) {
	var out T
	err := c.call(ctx, http.MethodGet, path, q, nil, &out)
	return out, err
}

func post[T any](ctx context.Context, c *Client, path string, q url.Values, in any) (T, error) {
	var out T
	err := c.call(ctx, http.MethodPost, path, q, in, &out)
	return out, err
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// UpdateEndpoint names the tenants that a claimed endpoint may reach, at least
// one.
func (c *Client) UpdateEndpoint(ctx context.Context, id string, tenants []string) (Endpoint, error) {
	return c.updateEndpoint(ctx, id, EndpointUpdate{Tenants: tenants})
}

// UpdateEndpointAllTenants lets a claimed endpoint reach all that its
// organization has in the segment, now and later.
func (c *Client) UpdateEndpointAllTenants(ctx context.Context, id string) (Endpoint, error) {
	return c.updateEndpoint(ctx, id, EndpointUpdate{AllTenants: true})
}

func (c *Client) updateEndpoint(ctx context.Context, id string, u EndpointUpdate) (Endpoint, error) {
	var out Endpoint
	err := c.call(ctx, http.MethodPatch, "/v1/endpoints/"+url.PathEscape(id), nil, u, &out)
	return out, err
}
