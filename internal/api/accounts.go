package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

func (s *Server) accountRoutes() {
	route(s, spec{id: "create-account-challenge", method: http.MethodPost, path: "/v1/account-challenges", roles: accountOwners, paced: true, status: http.StatusCreated, summary: "Start the proof of an AWS account"}, s.createChallenge)
	route(s, spec{id: "prove-account", method: http.MethodPost, path: "/v1/accounts", roles: accountOwners, paced: true, status: http.StatusCreated, summary: "Prove an AWS account by a signed STS GetCallerIdentity request"}, s.proveAccount)
	route(s, spec{id: "list-accounts", method: http.MethodGet, path: "/v1/accounts", roles: readers, summary: "List proven accounts"}, s.listAccounts)
	route(s, spec{id: "get-account", method: http.MethodGet, path: "/v1/accounts/{id}", roles: readers, summary: "Get a proven account"}, s.getAccount)
	route(s, spec{id: "delete-account", method: http.MethodDelete, path: "/v1/accounts/{id}", roles: accountOwners, status: http.StatusNoContent, summary: "Take an account, its endpoints and its principal off the platform"}, s.deleteAccount)
}

// challengeLifetime is how long a proof may take; AWS itself refuses requests
// that were signed more than 15 minutes ago.
const challengeLifetime = 10 * time.Minute

func (s *Server) createChallenge(ctx context.Context, id postern.Identity, in *struct {
	Body client.ChallengeRequest
},
) (*body[client.Challenge], error) {
	c := postern.Challenge{Nonce: secret(), Organization: in.Body.Organization, ExpiresAt: s.Now().Add(challengeLifetime)}
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		if _, err := s.seenOrganization(tx, id, c.Organization); err != nil {
			return err
		}
		return tx.CreateChallenge(c, s.Now())
	})
	return &body[client.Challenge]{client.Challenge{
		Nonce: c.Nonce, Organization: c.Organization, Header: postern.BindingHeader, Binding: c.Binding(s.Platform.Name),
		Regions: s.Platform.RegionIDs(), ExpiresAt: c.ExpiresAt,
	}}, err
}

// proveAccount spends the challenge first: of two requests with the same
// proof, one is answered and the other refused, whatever STS says.
func (s *Server) proveAccount(ctx context.Context, id postern.Identity, in *struct {
	Once
	Body client.Proof
},
) (*body[client.Account], error) {
	if done, found, err := answered[client.Account](ctx, s, id, in.IdempotencyKey, in.Body); err != nil || found {
		return &body[client.Account]{done}, err
	}
	if !slices.Contains(s.Platform.RegionIDs(), in.Body.Region) {
		return nil, postern.Invalid("region", in.Body.Region, "not a region of this platform", "sign for the STS of one of the challenge's regions")
	}
	var c postern.Challenge
	err := s.Store.Update(ctx, func(tx *store.Tx) (err error) {
		if _, err = s.seenOrganization(tx, id, in.Body.Organization); err != nil {
			return err
		}
		c, err = tx.TakeChallenge(in.Body.Nonce, in.Body.Organization, s.Now())
		return err
	})
	if err != nil {
		return nil, err
	}
	caller, err := s.Cloud.CallerIdentity(ctx, in.Body, c.Binding(s.Platform.Name))
	if code := postern.CodeOf(err); err != nil && (code == postern.CodeUnavailable || code == postern.CodeThrottled) {
		// STS said nothing about the proof, so that it may be sent again.
		back := s.Store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.CreateChallenge(c, s.Now()) })
		return nil, errors.Join(err, back)
	}
	if err != nil {
		return nil, err
	}
	out, err := once(ctx, s, id, in.IdempotencyKey, in.Body, func(tx *store.Tx) (client.Account, error) {
		if _, err := tx.FindOrganization(c.Organization); err != nil { // it may be gone since
			return client.Account{}, err
		}
		a, err := tx.ProveAccount(postern.Account{ID: caller.Account, Organization: c.Organization, PrincipalARN: caller.ARN, ProvenAt: s.Now()})
		if err != nil {
			return client.Account{}, err
		}
		return wireAccount(a), s.event(tx, id, "account.proven", "account", a.ID, a.Organization, "proven by "+a.PrincipalARN)
	})
	return &body[client.Account]{out}, err
}

func wireAccount(a postern.Account) client.Account {
	return client.Account{
		ID: a.ID, Spec: client.AccountSpec{Organization: a.Organization}, ResourceVersion: strconv.FormatInt(a.ResourceVersion, 10),
		Status: client.AccountStatus{State: string(a.State), PrincipalARN: a.PrincipalARN, ProvenAt: a.ProvenAt},
	}
}

func (s *Server) listAccounts(ctx context.Context, id postern.Identity, in *OfOrganization) (*body[client.Page[client.Account]], error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	out := &body[client.Page[client.Account]]{client.Page[client.Account]{Items: []client.Account{}}}
	organization, ok := scope(id, in.Organization)
	if !ok {
		return out, nil
	}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.ListAccounts(organization, page)
		out.Body.Items, out.Body.NextPageToken = cut(in.Paging, rows, func(a postern.Account) string { return a.ID }, wireAccount)
		return err
	})
}

func (s *Server) getAccount(ctx context.Context, id postern.Identity, in *ByID) (*versioned[client.Account], error) {
	out := &versioned[client.Account]{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		a, err := seenAccount(tx, id, in.ID)
		out.ETag, out.Body = etag(a.ResourceVersion), wireAccount(a)
		return err
	})
}

func seenAccount(tx *store.Tx, id postern.Identity, account string) (postern.Account, error) {
	a, err := tx.FindAccount(account)
	if err != nil {
		return a, err
	}
	return a, visible(id, a.Organization, "account", account)
}

// deleteAccount revokes in the order of the gates, backwards: the routes go
// with this transaction, the loop rejects the connections, takes the principal
// off the allow-lists, and then drops the account.
func (s *Server) deleteAccount(ctx context.Context, id postern.Identity, in *deleteInput) (*struct{}, error) {
	return nil, s.Store.Update(ctx, func(tx *store.Tx) error {
		a, err := seenAccount(tx, id, in.ID)
		if err != nil {
			return err
		}
		if err := in.check(a.ResourceVersion); err != nil {
			return err
		}
		if a.State == postern.AccountRemoving {
			return nil
		}
		a.State = postern.AccountRemoving
		if _, err := tx.UpdateAccount(a); err != nil {
			return err
		}
		endpoints, err := tx.ListEndpoints(a.Organization, "", store.Page{})
		if err != nil {
			return err
		}
		for _, e := range endpoints {
			if e.Owner != a.ID || e.Removing {
				continue
			}
			if err := s.removeEndpoint(tx, id, e, "its AWS account was removed"); err != nil {
				return err
			}
		}
		return s.event(tx, id, "account.removing", "account", a.ID, a.Organization, "is being taken off the platform")
	})
}
