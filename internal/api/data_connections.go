package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

func (s *Server) dataConnectionRoutes() {
	route(s, spec{id: "create-data-connection", method: http.MethodPost, path: "/v1/data-connections", roles: writers, paced: true, status: http.StatusCreated, summary: "Ask for a connection to a cluster: all of its facts at once"}, s.createDataConnection)
	route(s, spec{id: "list-data-connections", method: http.MethodGet, path: "/v1/data-connections", roles: readers, summary: "List data connections"}, s.listDataConnections)
	route(s, spec{id: "get-data-connection", method: http.MethodGet, path: "/v1/data-connections/{id}", roles: readers, summary: "Get a data connection"}, s.getDataConnection)
	route(s, spec{id: "verify-data-connection", method: http.MethodPost, path: "/v1/data-connections/{id}/verify", roles: writers, paced: true, summary: "Look at DNS, the service and the cluster now"}, s.verifyDataConnection)
	route(s, spec{id: "delete-data-connection", method: http.MethodDelete, path: "/v1/data-connections/{id}", roles: writers, status: http.StatusNoContent, summary: "Take a connection away: its route, then its endpoint"}, s.deleteDataConnection)
	route(s, spec{id: "list-outbound-regions", method: http.MethodGet, path: "/v1/outbound-regions", roles: readers, summary: "Where data connections can be made, and the principal to authorize"}, s.listOutboundRegions)
}

// maxDataConnections bounds what one organization may ask for: each is looked at
// again and again, and all organizations share the quota of a region's network,
// which AWS sets to 50 endpoints.
const maxDataConnections = 10

// room refuses one more data connection of an organization that has these.
func room(own []postern.DataConnection) *postern.Error {
	if len(own) < maxDataConnections {
		return nil
	}
	return &postern.Error{
		Code: postern.CodeConflict, Message: fmt.Sprintf("the organization has %d data connections, which is the limit", len(own)), Fix: "delete one that nobody uses (`postern connections list`, `postern connections delete`)",
	}
}

func (s *Server) wireDataConnection(c postern.DataConnection, o postern.Organization) client.DataConnection {
	out := client.DataConnection{
		ID: c.ID, ResourceVersion: strconv.FormatInt(c.ResourceVersion, 10), CreatedAt: c.CreatedAt,
		Spec: client.DataConnectionSpec{
			Tenant: c.Tenant, Kind: string(c.Kind), Region: c.Region, AvailabilityZones: append([]string{}, c.Zones...),
			ServiceName: c.Service.Name, Hostname: c.Hostname, Ports: []int{},
		},
		Status: client.DataConnectionStatus{
			State: string(c.State), Conditions: []client.Condition{}, Organization: c.Organization, ServiceID: c.Service.ID, ServiceOwner: c.ServiceOwner,
			PrincipalARN: s.Platform.Outbound.Principal, EndpointID: c.EndpointID, DNSNames: append([]string{}, c.DNSNames...), CreatedBy: c.CreatedBy,
			ReadyAt: c.ReadyAt, VerifyAsked: c.VerifyAsked, CheckedAt: c.CheckedAt,
			Challenge: client.Challenged{Name: postern.ChallengeName(c.Hostname), Type: "TXT", Value: postern.ChallengeValue(s.Platform.Name, o, c.Hostname)},
		},
	}
	for _, p := range c.Ports {
		out.Spec.Ports = append(out.Spec.Ports, int(p))
	}
	if c.ResourceVersion == 0 { // of a dry run
		out.ResourceVersion = ""
	}
	order := append(plan.ConnectionConditions(), postern.Ready)
	conditions := slices.SortedFunc(slices.Values(c.Conditions), func(a, b postern.Condition) int { return slices.Index(order, a.Type) - slices.Index(order, b.Type) })
	out.Status.Conditions = wireConditions(conditions)
	return out
}

type createDataConnectionInput struct {
	Once
	DryRun bool `query:"dry_run" doc:"Change nothing; look at everything, and answer what would be done"`
	Body   client.DataConnection
}

// connectionRequest is all that makes two requests the same.
type connectionRequest struct {
	Spec   client.DataConnectionSpec
	DryRun bool
}

func (s *Server) createDataConnection(ctx context.Context, id postern.Identity, in *createDataConnectionInput) (*body[client.DataConnectionResult], error) {
	request := connectionRequest{Spec: in.Body.Spec, DryRun: in.DryRun}
	if done, found, err := answered[client.DataConnectionResult](ctx, s, id, in.IdempotencyKey, request); err != nil || found {
		return &body[client.DataConnectionResult]{done}, err
	}
	c, o, err := s.requestedConnection(ctx, id, in.Body.Spec)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		c.ID = "dc_new"
		after, actions, err := s.Loop.PreviewConnection(ctx, c)
		if err != nil {
			return nil, err
		}
		after.ID = ""
		out := client.DataConnectionResult{DryRun: true, Connection: s.wireDataConnection(after, o), Actions: []client.Action{}}
		for _, a := range actions {
			out.Actions = append(out.Actions, client.Action{Kind: string(a.Kind), Target: targetOf(a), Service: a.Service.Name, Why: a.Why})
		}
		return &body[client.DataConnectionResult]{out}, nil
	}
	out, err := once(ctx, s, id, in.IdempotencyKey, request, func(tx *store.Tx) (client.DataConnectionResult, error) {
		return s.storeConnection(tx, id, c, o)
	})
	return &body[client.DataConnectionResult]{out}, err
}

func targetOf(a plan.ConnectionAction) string {
	switch {
	case a.Target != "":
		return a.Target
	case a.Kind == plan.CreateEndpoint:
		return strings.Join(a.Subnets, ",")
	}
	return a.VPC
}

// requestedConnection checks a request against the platform and what the
// organization has, and reports everything that is wrong with it at once.
func (s *Server) requestedConnection(ctx context.Context, id postern.Identity, spec client.DataConnectionSpec) (c postern.DataConnection, o postern.Organization, err error) {
	if spec.Kind == "" {
		spec.Kind = string(postern.KindStarburstTrino)
	}
	c, err = postern.ConnectionRequest{
		Tenant: spec.Tenant, Kind: spec.Kind, Region: spec.Region, Zones: spec.AvailabilityZones, Service: spec.ServiceName,
		Hostname: spec.Hostname, Ports: spec.Ports, Protocol: spec.Protocol, IPAddressType: spec.IPAddressType,
	}.Parse(s.Platform)
	var es postern.Errors
	if problems, ok := err.(postern.Errors); ok { //nolint:errorlint // Parse returns nothing else
		es = problems
	}
	var own []postern.DataConnection
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		t, err := s.seenTenant(tx, id, spec.Tenant)
		if err != nil {
			return err
		}
		c.Organization = t.Organization
		es.Add(s.Platform.CheckConnectionSegment("spec.region", c.Region, t))
		if o, err = tx.FindOrganization(t.Organization); err != nil {
			return err
		}
		own, err = tx.ListConnections(store.ConnectionFilter{Organization: t.Organization}, store.Page{})
		return err
	})
	switch {
	case err != nil && postern.CodeOf(err) == postern.CodeNotFound:
		if postern.CheckLabel("", spec.Tenant) == nil { // the form was told already
			es.Add(&postern.Error{
				Code: postern.CodeNotFound, Field: "spec.tenant", Value: spec.Tenant, Message: "no such tenant",
				Fix: "name a tenant of your organization; `postern tenant list` shows them",
			})
		}
	case err != nil:
		return c, o, err
	}
	for _, other := range own {
		if other.Hostname == c.Hostname {
			es.Add(postern.HostnameTaken(c.Hostname, other.ID))
		}
	}
	es.Add(room(own))
	c.CreatedBy, c.CreatedAt = id.Name, s.Now()
	return c, o, es.Err()
}

// storeConnection writes what was asked for, with the conditions that hold
// before anything was looked at. The tenant is looked for again, and whether there
// is room: other requests may have been first.
func (s *Server) storeConnection(tx *store.Tx, id postern.Identity, c postern.DataConnection, o postern.Organization) (client.DataConnectionResult, error) {
	var out client.DataConnectionResult
	t, err := s.seenTenant(tx, id, c.Tenant)
	if err != nil {
		return out, err
	}
	if t.Organization != c.Organization {
		return out, postern.NotFound("tenant", c.Tenant)
	}
	own, err := tx.ListConnections(store.ConnectionFilter{Organization: c.Organization}, store.Page{})
	if err != nil {
		return out, err
	}
	if full := room(own); full != nil {
		return out, full
	}
	c.ID = "dc_" + strings.ToLower(rand.Text()[:16])
	c = plan.Connection(c, plan.ConnectionView{
		Principal: s.Platform.Outbound.Principal, Hostname: plan.HostnameView{Challenge: postern.ChallengeValue(s.Platform.Name, o, c.Hostname)}, Rules: s.Rules, Now: s.Now(),
	}).After
	if c, err = tx.CreateConnection(c); err != nil {
		return out, err
	}
	out.Connection = s.wireDataConnection(c, o)
	return out, s.event(tx, id, "data-connection.requested", "data-connection", c.ID, c.Organization,
		"tenant "+c.Tenant+": to "+c.Hostname+" by "+c.Service.Name)
}

type dataConnectionsInput struct {
	OfOrganization
	Tenant   string `query:"tenant" maxLength:"63" doc:"Only this tenant's"`
	Hostname string `query:"hostname" maxLength:"253" doc:"Only to this hostname"`
	State    string `query:"state" maxLength:"32" doc:"Only in this state"`
}

func (s *Server) listDataConnections(ctx context.Context, id postern.Identity, in *dataConnectionsInput) (*body[client.Page[client.DataConnection]], error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	if in.State != "" && !slices.Contains(postern.DataConnectionStates(), postern.DataConnectionState(in.State)) {
		return nil, postern.Invalid("state", in.State, "no such state", "see the states in /openapi.json")
	}
	out := &body[client.Page[client.DataConnection]]{client.Page[client.DataConnection]{Items: []client.DataConnection{}}}
	organization, ok := scope(id, in.Organization)
	if !ok {
		return out, nil
	}
	filter := store.ConnectionFilter{Organization: organization, Tenant: in.Tenant, Hostname: in.Hostname, State: postern.DataConnectionState(in.State)}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.ListConnections(filter, page)
		if err != nil {
			return err
		}
		organizations, err := tx.ListOrganizations(organization, store.Page{})
		out.Body.Items, out.Body.NextPageToken = cut(in.Paging, rows, func(c postern.DataConnection) string { return c.ID }, func(c postern.DataConnection) client.DataConnection {
			i := slices.IndexFunc(organizations, func(o postern.Organization) bool { return o.ID == c.Organization })
			return s.wireDataConnection(c, organizations[i]) // a foreign key: there is one
		})
		return err
	})
}

func (s *Server) getDataConnection(ctx context.Context, id postern.Identity, in *ByID) (*versioned[client.DataConnection], error) {
	out := &versioned[client.DataConnection]{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		c, err := seenConnection(tx, id, in.ID)
		if err != nil {
			return err
		}
		return s.answerConnection(tx, c, out)
	})
}

func (s *Server) answerConnection(tx *store.Tx, c postern.DataConnection, out *versioned[client.DataConnection]) error {
	o, err := tx.FindOrganization(c.Organization)
	out.ETag, out.Body = etag(c.ResourceVersion), s.wireDataConnection(c, o)
	return err
}

func seenConnection(tx *store.Tx, id postern.Identity, key string) (postern.DataConnection, error) {
	c, err := tx.FindConnection(key)
	if err != nil {
		return c, err
	}
	return c, visible(id, c.Organization, "data connection", key)
}

// verifyDataConnection has the loop look now: handlers look at nothing
// themselves.
func (s *Server) verifyDataConnection(ctx context.Context, id postern.Identity, in *ByID) (*versioned[client.DataConnection], error) {
	out := &versioned[client.DataConnection]{}
	return out, s.Store.Update(ctx, func(tx *store.Tx) error {
		c, err := seenConnection(tx, id, in.ID)
		if err != nil {
			return err
		}
		if c.Removing {
			return &postern.Error{Code: postern.CodeConflict, Message: "the data connection is being removed", Fix: "wait until it is gone"}
		}
		c.VerifyAsked = s.Now()
		if c, err = tx.UpdateConnection(c); err != nil {
			return err
		}
		if err := s.event(tx, id, "data-connection.verify", "data-connection", c.ID, c.Organization, c.Hostname+": asked to look again"); err != nil {
			return err
		}
		return s.answerConnection(tx, c, out)
	})
}

func (s *Server) deleteDataConnection(ctx context.Context, id postern.Identity, in *deleteInput) (*struct{}, error) {
	return nil, s.Store.Update(ctx, func(tx *store.Tx) error {
		c, err := seenConnection(tx, id, in.ID)
		if err != nil {
			return err
		}
		if err := in.check(c.ResourceVersion); err != nil || c.Removing {
			return err
		}
		c.Removing, c.State = true, postern.DataConnectionRemoving
		if _, err := tx.UpdateConnection(c); err != nil {
			return err
		}
		return s.event(tx, id, "data-connection.removing", "data-connection", c.ID, c.Organization, c.Hostname+": no workload reaches it any more")
	})
}

func (s *Server) listOutboundRegions(context.Context, postern.Identity, *struct{}) (*body[client.Page[client.OutboundRegion]], error) {
	out := &body[client.Page[client.OutboundRegion]]{client.Page[client.OutboundRegion]{Items: []client.OutboundRegion{}}}
	for _, region := range s.Platform.Outbound.Regions {
		r := client.OutboundRegion{Region: region, PrincipalARN: s.Platform.Outbound.Principal, AvailabilityZones: []string{}}
		if n, ok := s.Platform.OutboundNetwork(region); ok {
			r.AvailabilityZones = n.ZoneIDs()
		}
		out.Body.Items = append(out.Body.Items, r)
	}
	return out, nil
}
