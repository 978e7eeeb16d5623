package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

func (s *Server) endpointRoutes() {
	route(s, spec{id: "claim-endpoints", method: http.MethodPost, path: "/v1/endpoint-claims", roles: writers, paced: true, status: http.StatusCreated, summary: "Ask for private access: all endpoint IDs and tenants at once"}, s.claimEndpoints)
	route(s, spec{id: "list-endpoints", method: http.MethodGet, path: "/v1/endpoints", roles: readers, summary: "List claimed endpoints"}, s.listEndpoints)
	route(s, spec{id: "get-endpoint", method: http.MethodGet, path: "/v1/endpoints/{id}", roles: readers, summary: "Get a claimed endpoint"}, s.getEndpoint)
	route(s, spec{id: "update-endpoint", method: http.MethodPatch, path: "/v1/endpoints/{id}", roles: writers, summary: "Change which tenants an endpoint may reach"}, s.updateEndpoint)
	route(s, spec{id: "delete-endpoint", method: http.MethodDelete, path: "/v1/endpoints/{id}", roles: writers, status: http.StatusNoContent, summary: "Take a claim back: the connection is rejected"}, s.deleteEndpoint)
	route(s, spec{id: "approve-endpoint", method: http.MethodPost, path: "/v1/endpoints/{id}/approve", roles: operators, summary: "Let an endpoint in that waits for approval"}, s.approveEndpoint)
	route(s, spec{id: "list-connections", method: http.MethodGet, path: "/v1/connections", roles: readers, summary: "List the endpoint connections at AWS, claimed or not"}, s.listConnections)
}

func (s *Server) wireEndpoint(e postern.Endpoint, tenants []postern.Tenant) client.Endpoint {
	out := client.Endpoint{
		ID: e.ID, Spec: client.EndpointSpec{Organization: e.Organization, Tenants: append([]string{}, e.Tenants...)},
		ResourceVersion: strconv.FormatInt(e.ResourceVersion, 10), CreatedAt: e.CreatedAt,
		Status: client.EndpointStatus{
			State: string(e.State), ServiceRegion: e.ServiceRegion, EndpointRegion: e.EndpointRegion, Owner: e.Owner,
			DNSNames: append([]string{}, e.DNSNames...), Hostnames: []string{}, ApprovedBy: e.Approval.By, ApprovedAt: e.Approval.At,
			Conditions: []client.Condition{},
		},
	}
	if _, segment, ok := s.Platform.Region(e.ServiceRegion); ok {
		out.Status.Segment = segment.ID
	}
	if e.State == postern.EndpointReady {
		out.Status.Hostnames = append(out.Status.Hostnames, plan.Hosts(s.Platform, e, tenants)...)
	}
	for _, c := range e.Conditions {
		out.Status.Conditions = append(out.Status.Conditions, client.Condition{
			Type: string(c.Type), Status: string(c.Status), Reason: string(c.Reason), Message: c.Message, Since: c.Since,
		})
	}
	return out
}

type endpointsInput struct {
	OfOrganization
	State string `query:"state" maxLength:"32" doc:"Only in this state"`
}

func (s *Server) listEndpoints(ctx context.Context, id postern.Identity, in *endpointsInput) (*body[client.Page[client.Endpoint]], error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	if in.State != "" && !slices.Contains(postern.EndpointStates(), postern.EndpointState(in.State)) {
		return nil, postern.Invalid("state", in.State, "no such state", "see the states in /openapi.json")
	}
	out := &body[client.Page[client.Endpoint]]{client.Page[client.Endpoint]{Items: []client.Endpoint{}}}
	organization, ok := scope(id, in.Organization)
	if !ok {
		return out, nil
	}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.ListEndpoints(organization, postern.EndpointState(in.State), page)
		if err != nil {
			return err
		}
		tenants, err := tx.ListTenants(organization, store.Page{})
		out.Body.Items, out.Body.NextPageToken = cut(in.Paging, rows, func(e postern.Endpoint) string { return e.ID },
			func(e postern.Endpoint) client.Endpoint { return s.wireEndpoint(e, tenants) })
		return err
	})
}

func (s *Server) getEndpoint(ctx context.Context, id postern.Identity, in *ByID) (*versioned[client.Endpoint], error) {
	out := &versioned[client.Endpoint]{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		e, err := seenEndpoint(tx, id, in.ID)
		if err != nil {
			return err
		}
		return s.answerEndpoint(tx, e, out)
	})
}

func (s *Server) answerEndpoint(tx *store.Tx, e postern.Endpoint, out *versioned[client.Endpoint]) error {
	tenants, err := tx.ListTenants(e.Organization, store.Page{})
	out.ETag, out.Body = etag(e.ResourceVersion), s.wireEndpoint(e, tenants)
	return err
}

func seenEndpoint(tx *store.Tx, id postern.Identity, endpoint string) (postern.Endpoint, error) {
	e, err := tx.FindEndpoint(endpoint)
	if err != nil {
		return e, err
	}
	return e, visible(id, e.Organization, "endpoint", endpoint)
}

// changeable finds an endpoint that may be changed: seen, as the caller read
// it, and not on its way out.
func changeable(tx *store.Tx, id postern.Identity, endpoint string, m IfMatch) (postern.Endpoint, error) {
	e, err := seenEndpoint(tx, id, endpoint)
	if err != nil {
		return e, err
	}
	if err := m.check(e.ResourceVersion); err != nil {
		return e, err
	}
	if e.Removing {
		return e, &postern.Error{Code: postern.CodeConflict, Message: "the endpoint is being removed", Fix: "wait until it is gone"}
	}
	return e, nil
}

// updateEndpoint changes which tenants an endpoint may reach. Where operators
// decide, they decided on the tenants too: what widens an endpoint waits for
// them anew, what narrows it does not.
func (s *Server) updateEndpoint(ctx context.Context, id postern.Identity, in *struct {
	ByID
	IfMatch
	Body client.EndpointUpdate
},
) (*versioned[client.Endpoint], error) {
	out := &versioned[client.Endpoint]{}
	return out, s.Store.Update(ctx, func(tx *store.Tx) error {
		e, err := changeable(tx, id, in.ID, in.IfMatch)
		if err != nil {
			return err
		}
		if err := checkUpdate(in.Body); err != nil {
			return err
		}
		tenants, err := tx.ListTenants(e.Organization, store.Page{})
		if err != nil {
			return err
		}
		if err := s.checkTenants(in.Body.Tenants, tenants, e.ServiceRegion); err != nil {
			return err
		}
		wanted := slices.Sorted(slices.Values(in.Body.Tenants))
		if slices.Equal(wanted, e.Tenants) {
			return s.answerEndpoint(tx, e, out)
		}
		again := !s.Rules.Automatic && !e.Approval.At.IsZero() && widens(e.Tenants, wanted)
		if again {
			e.Approval = postern.Approval{}
			if e.State == postern.EndpointReady || e.State == postern.EndpointPending || e.State == postern.EndpointPendingAcceptance {
				e.State = postern.EndpointRequested
			}
		}
		if e, err = tx.SetEndpointTenants(e, wanted); err != nil {
			return err
		}
		if err := s.event(tx, id, "endpoint.tenants", "endpoint", e.ID, e.Organization, "may reach "+tenantNames(e.Tenants)); err != nil {
			return err
		}
		if again {
			if err := s.event(tx, id, "endpoint.approval-ended", "endpoint", e.ID, e.Organization, "may reach more than was approved, and waits for approval again"); err != nil {
				return err
			}
		}
		return s.answerEndpoint(tx, e, out)
	})
}

// checkUpdate refuses what names no tenant without saying that all are meant:
// a client that lost its list must not open an endpoint to every tenant.
func checkUpdate(u client.EndpointUpdate) error {
	switch {
	case len(u.Tenants) == 0 && !u.AllTenants:
		return postern.Invalid("tenants", "", "names no tenant", `name the tenants that it may reach, or send "all_tenants": true for all of the segment, now and later`)
	case len(u.Tenants) > 0 && u.AllTenants:
		return postern.Invalid("all_tenants", "true", "goes not together with named tenants", "send one of the two")
	}
	return nil
}

// widens tells whether an endpoint that may reach the tenants of before may
// reach more with those of after; none named are all of the segment.
func widens(before, after []string) bool {
	switch {
	case len(before) == 0:
		return false
	case len(after) == 0:
		return true
	}
	return slices.ContainsFunc(after, func(t string) bool { return !slices.Contains(before, t) })
}

func (s *Server) approveEndpoint(ctx context.Context, id postern.Identity, in *struct {
	ByID
	IfMatch
},
) (*versioned[client.Endpoint], error) {
	out := &versioned[client.Endpoint]{}
	return out, s.Store.Update(ctx, func(tx *store.Tx) error {
		e, err := changeable(tx, id, in.ID, in.IfMatch)
		if err != nil {
			return err
		}
		if e.Approval.At.IsZero() {
			e.Approval = postern.Approval{By: id.Name, At: s.Now()}
			if e, err = tx.UpdateEndpoint(e); err != nil {
				return err
			}
			if err := s.event(tx, id, "endpoint.approved", "endpoint", e.ID, e.Organization, "approved"); err != nil {
				return err
			}
		}
		return s.answerEndpoint(tx, e, out)
	})
}

func (s *Server) deleteEndpoint(ctx context.Context, id postern.Identity, in *deleteInput) (*struct{}, error) {
	return nil, s.Store.Update(ctx, func(tx *store.Tx) error {
		e, err := seenEndpoint(tx, id, in.ID)
		if err != nil {
			return err
		}
		if err := in.check(e.ResourceVersion); err != nil || e.Removing {
			return err
		}
		return s.removeEndpoint(tx, id, e, "the claim was taken back")
	})
}

func (s *Server) removeEndpoint(tx *store.Tx, id postern.Identity, e postern.Endpoint, why string) error {
	e.Removing, e.State = true, postern.EndpointRemoving
	if _, err := tx.UpdateEndpoint(e); err != nil {
		return err
	}
	return s.event(tx, id, "endpoint.removing", "endpoint", e.ID, e.Organization, why)
}

type connectionsInput struct {
	OfOrganization
	Claimed string `query:"claimed" enum:"true,false" doc:"Only those that are claimed, or only those that are not"`
}

// listConnections shows an organization what its proven accounts connected,
// and the vendor's staff everything.
func (s *Server) listConnections(ctx context.Context, id postern.Identity, in *connectionsInput) (*body[client.Page[client.Connection]], error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	out := &body[client.Page[client.Connection]]{client.Page[client.Connection]{Items: []client.Connection{}}}
	organization, ok := scope(id, in.Organization)
	if !ok {
		return out, nil
	}
	owners, claimed := map[string]string{}, map[string]bool{}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		accounts, err := tx.ListAccounts("", store.Page{})
		if err != nil {
			return err
		}
		endpoints, err := tx.ListEndpoints("", "", store.Page{})
		for _, a := range accounts {
			owners[a.ID] = a.Organization
		}
		for _, e := range endpoints {
			claimed[e.ID] = true
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var rows []client.Connection
	for _, c := range s.Loop.Connections() {
		w := client.Connection{
			VPCEndpointID: c.EndpointID, ServiceRegion: c.ServiceRegion, EndpointRegion: c.EndpointRegion, Owner: c.Owner,
			Organization: owners[c.Owner], State: string(c.State), Claimed: claimed[c.EndpointID], CreatedAt: c.CreatedAt,
		}
		if r, _, ok := s.Platform.Region(c.ServiceRegion); ok {
			w.ServiceName = r.ServiceName
		}
		if (organization == "" || w.Organization == organization) && (in.Claimed == "" || in.Claimed == strconv.FormatBool(w.Claimed)) && w.VPCEndpointID > page.After {
			rows = append(rows, w)
		}
	}
	slices.SortFunc(rows, func(a, b client.Connection) int {
		if a.VPCEndpointID < b.VPCEndpointID {
			return -1
		}
		return 1
	})
	out.Body.Items, out.Body.NextPageToken = cut(in.Paging, rows, func(c client.Connection) string { return c.VPCEndpointID },
		func(c client.Connection) client.Connection { return c })
	return out, nil
}
