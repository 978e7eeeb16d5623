package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

func (s *Server) organizationRoutes() {
	route(s, spec{id: "list-organizations", method: http.MethodGet, path: "/v1/organizations", summary: "List organizations", roles: readers}, s.listOrganizations)
	route(s, spec{id: "create-organization", method: http.MethodPost, path: "/v1/organizations", summary: "Create an organization", roles: admins, status: http.StatusCreated}, s.createOrganization)
	route(s, spec{id: "get-organization", method: http.MethodGet, path: "/v1/organizations/{id}", summary: "Get an organization", roles: readers}, s.getOrganization)
	route(s, spec{id: "delete-organization", method: http.MethodDelete, path: "/v1/organizations/{id}", summary: "Delete an organization that has nothing left", roles: admins, status: http.StatusNoContent}, s.deleteOrganization)
	route(s, spec{id: "list-tenants", method: http.MethodGet, path: "/v1/tenants", summary: "List tenants", roles: readers}, s.listTenants)
	route(s, spec{id: "create-tenant", method: http.MethodPost, path: "/v1/tenants", summary: "Create a tenant", roles: admins, status: http.StatusCreated}, s.createTenant)
	route(s, spec{id: "get-tenant", method: http.MethodGet, path: "/v1/tenants/{id}", summary: "Get a tenant", roles: readers}, s.getTenant)
	s.scimRoutes()
	s.appRoutes()
	route(s, spec{id: "delete-tenant", method: http.MethodDelete, path: "/v1/tenants/{id}", summary: "Delete a tenant", roles: admins, status: http.StatusNoContent}, s.deleteTenant)
}

// ByID is the path of one resource.
type ByID struct {
	ID string `path:"id" maxLength:"128"`
}

type deleteInput struct {
	ByID
	IfMatch
}

// OfOrganization is the query of a list that an organization has a part of.
// It is exported, as is all that inputs embed, because the framework sees
// exported fields only.
type OfOrganization struct {
	Paging
	Organization string `query:"organization" maxLength:"63" doc:"Only this organization's"`
}

func wireOrganization(o postern.Organization) client.Organization {
	return client.Organization{
		ID: o.ID, Spec: client.OrganizationSpec{Title: o.Title},
		ResourceVersion: strconv.FormatInt(o.ResourceVersion, 10), CreatedAt: o.CreatedAt,
	}
}

func (s *Server) listOrganizations(ctx context.Context, id postern.Identity, in *struct{ Paging }) (*body[client.Page[client.Organization]], error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	only, _ := scope(id, "")
	out := &body[client.Page[client.Organization]]{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.ListOrganizations(only, page)
		out.Body.Items, out.Body.NextPageToken = cut(in.Paging, rows, func(o postern.Organization) string { return o.ID }, wireOrganization)
		return err
	})
}

func (s *Server) getOrganization(ctx context.Context, id postern.Identity, in *ByID) (*versioned[client.Organization], error) {
	out := &versioned[client.Organization]{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		o, err := s.seenOrganization(tx, id, in.ID)
		out.ETag, out.Body = etag(o.ResourceVersion), wireOrganization(o)
		return err
	})
}

// seenOrganization finds what exists for this identity.
func (s *Server) seenOrganization(tx *store.Tx, id postern.Identity, organization string) (postern.Organization, error) {
	if err := visible(id, organization, "organization", organization); err != nil {
		return postern.Organization{}, err
	}
	return tx.FindOrganization(organization)
}

func (s *Server) createOrganization(ctx context.Context, id postern.Identity, in *struct {
	Once
	Body client.Organization
},
) (*body[client.Organization], error) {
	o := postern.Organization{ID: in.Body.ID, Title: in.Body.Spec.Title, CreatedAt: s.Now()}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	out, err := once(ctx, s, id, in.IdempotencyKey, in.Body, func(tx *store.Tx) (client.Organization, error) {
		made, err := tx.CreateOrganization(o)
		if err != nil {
			return client.Organization{}, err
		}
		return wireOrganization(made), s.event(tx, id, "organization.created", "organization", o.ID, o.ID, "created")
	})
	return &body[client.Organization]{out}, err
}

func (s *Server) deleteOrganization(ctx context.Context, id postern.Identity, in *deleteInput) (*struct{}, error) {
	return nil, s.Store.Update(ctx, func(tx *store.Tx) error {
		o, err := tx.FindOrganization(in.ID)
		if err != nil {
			return err
		}
		if err := in.check(o.ResourceVersion); err != nil {
			return err
		}
		if err := tx.DeleteOrganization(o); err != nil {
			return err
		}
		return s.event(tx, id, "organization.deleted", "organization", o.ID, o.ID, "deleted with its tokens")
	})
}

// wireTenant adds what follows from the endpoints of its organization.
func (s *Server) wireTenant(t postern.Tenant, endpoints []postern.Endpoint) client.Tenant {
	out := client.Tenant{
		ID: t.Name, Spec: client.TenantSpec{Organization: t.Organization, Region: t.Region},
		ResourceVersion: strconv.FormatInt(t.ResourceVersion, 10), CreatedAt: t.CreatedAt,
		Status: client.TenantStatus{
			State: "public", Hostname: s.Platform.Host(t.Name), PrivateLinkHostname: s.Platform.PrivateLinkHost(t.Name), VPCEndpointIDs: []string{},
		},
	}
	if _, segment, ok := s.Platform.Region(t.Region); ok {
		out.Status.Segment = segment.ID
	}
	for _, e := range endpoints {
		if e.State == postern.EndpointReady && slices.Contains(plan.Hosts(s.Platform, e, []postern.Tenant{t}), out.Status.Hostname) {
			out.Status.VPCEndpointIDs = append(out.Status.VPCEndpointIDs, e.ID)
			out.Status.State = "private-and-public"
		}
	}
	return out
}

func (s *Server) listTenants(ctx context.Context, id postern.Identity, in *OfOrganization) (*body[client.Page[client.Tenant]], error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	out := &body[client.Page[client.Tenant]]{client.Page[client.Tenant]{Items: []client.Tenant{}}}
	organization, ok := scope(id, in.Organization)
	if !ok {
		return out, nil
	}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.ListTenants(organization, page)
		if err != nil {
			return err
		}
		endpoints, err := tx.ListEndpoints(organization, postern.EndpointReady, store.Page{})
		out.Body.Items, out.Body.NextPageToken = cut(in.Paging, rows, func(t postern.Tenant) string { return t.Name },
			func(t postern.Tenant) client.Tenant { return s.wireTenant(t, endpoints) })
		return err
	})
}

func (s *Server) getTenant(ctx context.Context, id postern.Identity, in *ByID) (*versioned[client.Tenant], error) {
	out := &versioned[client.Tenant]{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		t, err := s.seenTenant(tx, id, in.ID)
		if err != nil {
			return err
		}
		endpoints, err := tx.ListEndpoints(t.Organization, postern.EndpointReady, store.Page{})
		out.ETag, out.Body = etag(t.ResourceVersion), s.wireTenant(t, endpoints)
		return err
	})
}

// seenTenant finds what exists for this identity.
func (s *Server) seenTenant(tx *store.Tx, id postern.Identity, name string) (postern.Tenant, error) {
	t, err := tx.FindTenant(name)
	if err != nil {
		return t, err
	}
	return t, visible(id, t.Organization, "tenant", name)
}

// Acknowledge is the query of a change that an organization may lose apps by.
type Acknowledge struct {
	Acknowledge []string `query:"acknowledge" maxItems:"20" doc:"Apps that the organization may lose private access to, by ID"`
}

func (s *Server) createTenant(ctx context.Context, id postern.Identity, in *struct {
	Once
	Acknowledge
	Body client.Tenant
},
) (*body[client.Tenant], error) {
	t := postern.Tenant{Name: in.Body.ID, Organization: in.Body.Spec.Organization, Region: in.Body.Spec.Region, CreatedAt: s.Now()}
	if err := t.Validate(s.Platform); err != nil {
		return nil, err
	}
	out, err := once(ctx, s, id, in.IdempotencyKey, in.Body, func(tx *store.Tx) (client.Tenant, error) {
		o, err := tx.FindOrganization(t.Organization)
		if err != nil {
			return client.Tenant{}, err
		}
		if err := stillAnothers(tx, t, o); err != nil {
			return client.Tenant{}, err
		}
		if err := s.breaksApps(tx, t, in.Acknowledge.Acknowledge); err != nil {
			return client.Tenant{}, err
		}
		made, err := tx.CreateTenant(t)
		if err != nil {
			return client.Tenant{}, err
		}
		if err := tx.OfferAgain(postern.WithdrawnTenant, t.Name); err != nil { // not its SCIM ingress, which is off
			return client.Tenant{}, err
		}
		return s.wireTenant(made, nil), s.event(tx, id, "tenant.created", "tenant", t.Name, t.Organization, "created in "+t.Region)
	})
	return &body[client.Tenant]{out}, err
}

// stillAnothers refuses the name of a tenant that another organization had, for as
// long as a node may still lead that one's endpoints to its hosts: they would be
// this one's.
func stillAnothers(tx *store.Tx, t postern.Tenant, o postern.Organization) error {
	all, e1 := tx.ListWithdrawals(t.Name)
	nodes, e2 := tx.ListNodes(store.Page{})
	if err := errors.Join(e1, e2); err != nil {
		return err
	}
	for _, w := range all {
		another := w.Organization != o.ID || w.At.Before(o.CreatedAt) // which had the same name
		waiting := plan.StillOffer(w, nodes)
		if !another || len(waiting) == 0 {
			continue
		}
		return &postern.Error{
			Code: postern.CodeConflict, Field: "id", Value: t.Name,
			Message: "another organization had a tenant of this name, and node " + strings.Join(waiting, ", ") + " may still lead its endpoints there",
			Fix:     "try again when the node has followed (the event tenant.withdrawn); if it is gone for good, take it out of its target group, and say so: postern node fence NODE",
		}
	}
	return nil
}

func (s *Server) deleteTenant(ctx context.Context, id postern.Identity, in *struct {
	ByID
	IfMatch
	Acknowledge
},
) (*struct{}, error) {
	return nil, s.Store.Update(ctx, func(tx *store.Tx) error {
		t, err := tx.FindTenant(in.ID)
		if err != nil {
			return err
		}
		if err := in.check(t.ResourceVersion); err != nil {
			return err
		}
		if err := s.mayDelete(tx, t, in.Acknowledge.Acknowledge); err != nil {
			return err
		}
		if err := tx.DeleteTenant(t); err != nil {
			return err
		}
		gone := postern.Withdrawal{Kind: postern.WithdrawnTenant, Tenant: t.Name, Organization: t.Organization, At: s.Now()}
		if err := tx.AddWithdrawal(gone); err != nil {
			return err
		}
		if t.SCIM != nil { // a tenant that has the name again does not have this
			gone.Kind = postern.WithdrawnSCIM
			if err := tx.AddWithdrawal(gone); err != nil {
				return err
			}
		}
		return s.event(tx, id, "tenant.deleted", "tenant", t.Name, t.Organization, "deleted")
	})
}
