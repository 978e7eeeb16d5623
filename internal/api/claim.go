package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

type claimInput struct {
	Once
	DryRun bool `query:"dry_run" doc:"Change nothing; answer what would be done"`
	Body   client.Claim
}

// claimRequest is all that makes two claims the same request: a dry run is not
// the claim that it tries.
type claimRequest struct {
	Claim  client.Claim
	DryRun bool
}

// claimEndpoints checks a claim against the organization and AWS, reports all
// that is wrong with it at once, and stores all of its endpoints or none. The
// loop checks everything again before it accepts anything.
func (s *Server) claimEndpoints(ctx context.Context, id postern.Identity, in *claimInput) (*body[client.ClaimResult], error) {
	request := claimRequest{Claim: in.Body, DryRun: in.DryRun}
	if done, found, err := answered[client.ClaimResult](ctx, s, id, in.IdempotencyKey, request); err != nil || found {
		return &body[client.ClaimResult]{done}, err
	}
	claim := postern.Claim{Organization: in.Body.Organization, Endpoints: in.Body.VPCEndpointIDs, Tenants: in.Body.Tenants}
	if err := claim.Validate(); err != nil {
		return nil, err
	}
	known, err := s.known(ctx, id, claim.Organization)
	if err != nil {
		return nil, err
	}
	found, err := s.findConnections(ctx, claim.Endpoints)
	if err != nil {
		return nil, err
	}
	endpoints, err := s.planClaim(claim, known, found)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return &body[client.ClaimResult]{s.previewClaim(endpoints, known, found)}, nil
	}
	out, err := once(ctx, s, id, in.IdempotencyKey, request, func(tx *store.Tx) (client.ClaimResult, error) {
		return s.storeClaim(tx, id, endpoints, known)
	})
	return &body[client.ClaimResult]{out}, err
}

// holdings is what an organization has when it claims.
type holdings struct {
	tenants  []postern.Tenant
	accounts []postern.Account
	claimed  map[string]bool
}

func (s *Server) known(ctx context.Context, id postern.Identity, organization string) (h holdings, err error) {
	h.claimed = map[string]bool{}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		if _, err := s.seenOrganization(tx, id, organization); err != nil {
			return err
		}
		if h.tenants, err = tx.ListTenants(organization, store.Page{}); err != nil {
			return err
		}
		if h.accounts, err = tx.ListAccounts(organization, store.Page{}); err != nil {
			return err
		}
		endpoints, err := tx.ListEndpoints(organization, "", store.Page{})
		for _, e := range endpoints {
			h.claimed[e.ID] = true
		}
		return err
	})
	return h, err
}

// findConnections looks the endpoints up: in what AWS listed last, then, for
// those that were just created, at AWS itself.
func (s *Server) findConnections(ctx context.Context, ids []string) (map[string]postern.Connection, error) {
	found := map[string]postern.Connection{}
	for _, c := range s.Loop.Connections() {
		if slices.Contains(ids, c.EndpointID) {
			found[c.EndpointID] = c
		}
	}
	missing := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(ids))), func(id string) bool {
		_, ok := found[id]
		return ok
	})
	if len(missing) == 0 {
		return found, nil
	}
	listed, err := s.lookUp(ctx, missing)
	maps.Copy(found, listed)
	return found, err
}

// lookUpTimeout bounds the look at AWS that a claim waits for.
const lookUpTimeout = 10 * time.Second

// lookUp asks every service for endpoints, side by side, with one question
// each. A service that does not answer matters only to what was found nowhere
// else.
func (s *Server) lookUp(ctx context.Context, ids []string) (map[string]postern.Connection, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	found := map[string]postern.Connection{}
	for _, segment := range s.Platform.Segments {
		for _, r := range segment.Regions {
			wg.Go(func() {
				here, err := s.Cloud.FindConnections(ctx, r.Service(), ids)
				mu.Lock()
				defer mu.Unlock()
				maps.Copy(found, here)
				if err != nil {
					failed = err
				}
			})
		}
	}
	wg.Wait()
	if len(found) == len(ids) {
		return found, nil
	}
	return found, failed
}

// planClaim decides for each endpoint what it would reach, and finds
// everything that stands against the claim.
func (s *Server) planClaim(c postern.Claim, h holdings, found map[string]postern.Connection) ([]postern.Endpoint, error) {
	var es postern.Errors
	for i, name := range c.Tenants {
		if !slices.ContainsFunc(h.tenants, func(t postern.Tenant) bool { return t.Name == name }) {
			es.Add(postern.Invalid(fmt.Sprintf("tenants[%d]", i), name, "not a tenant of organization "+c.Organization, "name the organization's own tenants; `postern tenant list` shows them"))
		}
	}
	reached, allFound := map[string]bool{}, true
	var out []postern.Endpoint
	for i, endpoint := range c.Endpoints {
		field := fmt.Sprintf("vpc_endpoint_ids[%d]", i)
		conn, problem := s.ownConnection(field, endpoint, h, found)
		if problem != nil {
			es.Add(problem)
			allFound = false
			continue
		}
		_, segment, _ := s.Platform.Region(conn.ServiceRegion)
		here := s.inSegment(segment, h.tenants)
		named := slices.DeleteFunc(slices.Clone(c.Tenants), func(t string) bool { return !slices.Contains(here, t) })
		switch {
		case len(here) == 0:
			es.Add(postern.Invalid(field, endpoint, "is in segment "+segment.ID+", where the organization has no tenant", "create the endpoint in a region of a tenant's segment; `postern regions --tenant NAME` lists them"))
		case len(c.Tenants) > 0 && len(named) == 0:
			es.Add(postern.Invalid(field, endpoint, "is in segment "+segment.ID+", and no tenant that the claim names is", "claim endpoints and tenants of the same segment"))
		}
		for _, t := range named {
			reached[t] = true
		}
		slices.Sort(named)
		out = append(out, postern.Endpoint{
			ID: endpoint, Organization: c.Organization, Tenants: named, State: postern.EndpointRequested, CreatedAt: s.Now(),
			ServiceRegion: conn.ServiceRegion, EndpointRegion: conn.EndpointRegion, Owner: conn.Owner, DNSNames: conn.DNSNames,
		})
	}
	for i, name := range c.Tenants {
		own := slices.ContainsFunc(h.tenants, func(t postern.Tenant) bool { return t.Name == name })
		if own && allFound && !reached[name] {
			es.Add(postern.Invalid(fmt.Sprintf("tenants[%d]", i), name, "is in a segment that none of the endpoints is in", "add an endpoint of its segment, or leave the tenant out"))
		}
	}
	return out, es.Err()
}

// ownConnection finds an endpoint of the organization's own accounts. Absent
// and somebody else's read the same.
func (s *Server) ownConnection(field, endpoint string, h holdings, found map[string]postern.Connection) (postern.Connection, *postern.Error) {
	c, ok := found[endpoint]
	own := ok && slices.ContainsFunc(h.accounts, func(a postern.Account) bool { return a.ID == c.Owner && a.State == postern.AccountActive })
	switch {
	case !own:
		e := postern.Invalid(field, endpoint, "no such endpoint of a proven account of the organization is connected to this platform",
			"check the ID and region; prove the account that owns it (`postern account prove`); one created seconds ago may need a moment")
		e.Code = postern.CodeNotFound
		return c, e
	case h.claimed[endpoint]:
		e := postern.Invalid(field, endpoint, "is claimed already", "`postern endpoint show "+endpoint+"` tells how it is; `postern endpoint update` changes its tenants")
		e.Code = postern.CodeConflict
		return c, e
	}
	switch c.State {
	case postern.ConnectionPendingAcceptance, postern.ConnectionPending, postern.ConnectionAvailable:
		return c, nil
	case postern.ConnectionDeleting, postern.ConnectionDeleted, postern.ConnectionRejected, postern.ConnectionFailed, postern.ConnectionExpired:
	}
	e := postern.Invalid(field, endpoint, "is "+string(c.State)+" at AWS, which is final", "create a new endpoint and claim that")
	e.Code = postern.CodeConflict
	return c, e
}

func (s *Server) inSegment(segment postern.Segment, tenants []postern.Tenant) (names []string) {
	for _, t := range tenants {
		if _, of, ok := s.Platform.Region(t.Region); ok && of.ID == segment.ID {
			names = append(names, t.Name)
		}
	}
	return names
}

// checkTenants checks the tenants that a claimed endpoint is to reach.
func (s *Server) checkTenants(names []string, own []postern.Tenant, serviceRegion string) error {
	var es postern.Errors
	_, segment, _ := s.Platform.Region(serviceRegion)
	here := s.inSegment(segment, own)
	seen := map[string]bool{}
	for i, name := range names {
		if !slices.Contains(here, name) || seen[name] {
			es.Add(postern.Invalid(fmt.Sprintf("tenants[%d]", i), name, "not a tenant of the organization in the endpoint's segment "+segment.ID+", or named twice", "name each of the organization's tenants in that segment at most once"))
		}
		seen[name] = true
	}
	return es.Err()
}

// storeClaim writes the endpoints of a claim. The accounts are read again: one
// may have been removed since.
func (s *Server) storeClaim(tx *store.Tx, id postern.Identity, endpoints []postern.Endpoint, h holdings) (client.ClaimResult, error) {
	out := client.ClaimResult{Endpoints: []client.Endpoint{}}
	for _, e := range endpoints {
		a, err := tx.FindAccount(e.Owner)
		if err != nil {
			return out, err
		}
		if a.Organization != e.Organization || a.State != postern.AccountActive {
			return out, &postern.Error{Code: postern.CodeConflict, Message: "AWS account " + e.Owner + " is being removed", Fix: "prove it again when it is gone"}
		}
		if e, err = tx.CreateEndpoint(e); err != nil {
			return out, err
		}
		if err := s.event(tx, id, "endpoint.claimed", "endpoint", e.ID, e.Organization, "claimed for "+tenantNames(e.Tenants)); err != nil {
			return out, err
		}
		out.Endpoints = append(out.Endpoints, s.wireEndpoint(e, h.tenants))
	}
	return out, nil
}

func tenantNames(names []string) string {
	if len(names) == 0 {
		return "all tenants of the segment"
	}
	return strings.Join(names, ", ")
}

// previewClaim is what the loop would make of the endpoints.
func (s *Server) previewClaim(endpoints []postern.Endpoint, h holdings, found map[string]postern.Connection) client.ClaimResult {
	out := client.ClaimResult{DryRun: true, Endpoints: []client.Endpoint{}, Actions: []client.Action{}}
	for _, e := range endpoints {
		c := found[e.ID]
		step := plan.Endpoint(e, plan.EndpointView{Observed: true, Connection: &c, OwnerProven: true, HasTenant: true, Rules: s.Rules, Now: s.Now()})
		out.Endpoints = append(out.Endpoints, s.wireEndpoint(step.After, h.tenants))
		if step.Action != "" {
			r, _, _ := s.Platform.Region(e.ServiceRegion)
			out.Actions = append(out.Actions, client.Action{Kind: string(step.Action), Target: e.ID, Service: r.ServiceName, Why: step.Why})
		}
	}
	return out
}
