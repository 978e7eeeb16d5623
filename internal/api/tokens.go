package api

import (
	"context"
	"crypto/sha256"
	"net/http"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

func (s *Server) tokenRoutes() {
	route(s, spec{id: "list-tokens", method: http.MethodGet, path: "/v1/tokens", roles: admins, summary: "List tokens"}, s.listTokens)
	route(s, spec{id: "create-token", method: http.MethodPost, path: "/v1/tokens", roles: admins, status: http.StatusCreated, summary: "Create a token; its secret is in this answer and nowhere else"}, s.createToken)
	route(s, spec{id: "delete-token", method: http.MethodDelete, path: "/v1/tokens/{id}", roles: admins, status: http.StatusNoContent, summary: "Revoke a token"}, s.deleteToken)
}

func wireToken(t postern.Token) client.Token {
	return client.Token{ID: t.ID, CreatedAt: t.CreatedAt, Spec: client.TokenSpec{
		Name: t.Name, Role: string(t.Role), Organization: t.Organization, Tenant: t.Tenant, ExpiresAt: t.ExpiresAt,
	}}
}

func (s *Server) listTokens(ctx context.Context, _ postern.Identity, in *struct{ Paging }) (*body[client.Page[client.Token]], error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	out := &body[client.Page[client.Token]]{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.ListTokens(page)
		out.Body.Items, out.Body.NextPageToken = cut(in.Paging, rows, func(t postern.Token) string { return t.ID }, wireToken)
		return err
	})
}

// createToken stores the secret's hash only. An idempotency key cannot bring a
// secret back: repeating the request says so and makes nothing.
func (s *Server) createToken(ctx context.Context, id postern.Identity, in *struct {
	Once
	Body client.Token
},
) (*body[client.Token], error) {
	spec := in.Body.Spec
	t := postern.Token{
		ID: "tok_" + secret()[:16], Name: spec.Name, Role: postern.Role(spec.Role), Organization: spec.Organization,
		ExpiresAt: spec.ExpiresAt, CreatedAt: s.Now(),
	}
	if t.Role == postern.RoleWorkload {
		return nil, postern.Invalid("spec.role", spec.Role, "belongs to a tenant", "make it with POST /v1/workload-tokens (`postern workload-token create`)")
	}
	if err := t.Validate(s.Now()); err != nil {
		return nil, err
	}
	plain := "postern_" + secret()
	made, err := once(ctx, s, id, in.IdempotencyKey, in.Body, func(tx *store.Tx) (client.Token, error) {
		if t.Organization != "" {
			if _, err := tx.FindOrganization(t.Organization); err != nil {
				return client.Token{}, err
			}
		}
		hash := sha256.Sum256([]byte(plain))
		if _, err := tx.CreateToken(t, hash[:]); err != nil {
			return client.Token{}, err
		}
		return wireToken(t), s.event(tx, id, "token.created", "token", t.ID, t.Organization, string(t.Role)+" token "+t.Name)
	})
	if err != nil {
		return nil, err
	}
	if made.ID != t.ID {
		return nil, secretIsGone(made.ID, in.IdempotencyKey)
	}
	made.Secret = plain
	return &body[client.Token]{made}, nil
}

// secretIsGone is the answer to a repeated request for a token.
func secretIsGone(token, key string) error {
	return &postern.Error{
		Code: postern.CodeConflict, Field: "Idempotency-Key", Value: key,
		Message: "token " + token + " was made by this request before, and its secret is shown only once", Fix: "revoke it and create another",
	}
}

func (s *Server) deleteToken(ctx context.Context, id postern.Identity, in *ByID) (*struct{}, error) {
	return nil, s.Store.Update(ctx, func(tx *store.Tx) error {
		t, err := tx.FindToken(in.ID)
		if err != nil {
			return err
		}
		if err := tx.RevokeToken(t.ID, s.Now()); err != nil {
			return err
		}
		return s.event(tx, id, "token.revoked", "token", t.ID, t.Organization, string(t.Role)+" token "+t.Name)
	})
}
