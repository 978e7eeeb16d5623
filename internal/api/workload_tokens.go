package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

func (s *Server) workloadTokenRoutes() {
	route(s, spec{id: "list-workload-tokens", method: http.MethodGet, path: "/v1/workload-tokens", roles: readers, summary: "List the tokens of workloads"}, s.listWorkloadTokens)
	route(s, spec{id: "create-workload-token", method: http.MethodPost, path: "/v1/workload-tokens", roles: writers, status: http.StatusCreated, summary: "Create a token for a tenant's workloads; its secret is in this answer and nowhere else"}, s.createWorkloadToken)
	route(s, spec{id: "delete-workload-token", method: http.MethodDelete, path: "/v1/workload-tokens/{id}", roles: writers, status: http.StatusNoContent, summary: "Revoke a workload's token: every node refuses it"}, s.deleteWorkloadToken)
}

const (
	// workloadTokenLife is how long a token lives that nothing is said of.
	workloadTokenLife = 90 * 24 * time.Hour
	// endedTokensStay is how long one that has ended is still listed.
	endedTokensStay = 30 * 24 * time.Hour
	// maxWorkloadTokens bounds an organization's: every node holds all of them.
	maxWorkloadTokens = 1000
)

func wireWorkloadToken(t postern.Token) client.WorkloadToken {
	return client.WorkloadToken{
		ID: t.ID, Organization: t.Organization, CreatedAt: t.CreatedAt,
		Spec: client.WorkloadTokenSpec{Name: t.Name, Tenant: t.Tenant, ExpiresAt: t.ExpiresAt},
	}
}

type workloadTokensInput struct {
	OfOrganization
	Tenant string `query:"tenant" maxLength:"63" doc:"Only this tenant's"`
}

func (s *Server) listWorkloadTokens(ctx context.Context, id postern.Identity, in *workloadTokensInput) (*body[client.Page[client.WorkloadToken]], error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	out := &body[client.Page[client.WorkloadToken]]{client.Page[client.WorkloadToken]{Items: []client.WorkloadToken{}}}
	organization, ok := scope(id, in.Organization)
	if !ok {
		return out, nil
	}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.ListWorkloadTokens(organization, in.Tenant, page)
		out.Body.Items, out.Body.NextPageToken = cut(in.Paging, rows, func(t postern.Token) string { return t.ID }, wireWorkloadToken)
		return err
	})
}

// certificateOf reads the client certificate that stands for a workload. Nobody
// proves here that he has its key, so that only operators may name one: a
// certificate is no secret, and whoever names it first has it.
func certificateOf(id postern.Identity, text string) (*x509.Certificate, error) {
	const field = "spec.certificate"
	if id.Role.OfOrganization() {
		return nil, &postern.Error{Code: postern.CodeForbidden, Field: field, Message: "only the vendor's operators name certificates", Fix: "create a token, or ask the vendor"}
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, postern.Invalid(field, "", "not one PEM certificate", "give the workload's own certificate, without its chain and its key")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, postern.Invalid(field, "", "not an X.509 certificate", "give it in PEM")
	}
	return c, nil
}

// createWorkloadToken stores the secret's hash only, as for other tokens, or
// that of a certificate. The nodes learn the hash with the next route table.
func (s *Server) createWorkloadToken(ctx context.Context, id postern.Identity, in *struct {
	Once
	Body client.WorkloadToken
},
) (*body[client.WorkloadToken], error) {
	spec := in.Body.Spec
	t := postern.Token{ID: "tok_" + secret()[:16], Name: spec.Name, Role: postern.RoleWorkload, Tenant: spec.Tenant, ExpiresAt: spec.ExpiresAt, CreatedAt: s.Now()}
	if t.ExpiresAt.IsZero() {
		t.ExpiresAt = s.Now().Add(workloadTokenLife).Truncate(time.Second)
	}
	plain := "postern_" + secret()
	shown := []byte(plain)
	if spec.Certificate != "" {
		c, err := certificateOf(id, spec.Certificate)
		if err != nil {
			return nil, err
		}
		plain, shown = "", c.Raw
		if c.NotAfter.Before(t.ExpiresAt) {
			t.ExpiresAt = c.NotAfter.UTC()
		}
	}
	if err := t.Validate(s.Now()); err != nil {
		return nil, err
	}
	made, err := once(ctx, s, id, in.IdempotencyKey, in.Body, func(tx *store.Tx) (client.WorkloadToken, error) {
		tenant, err := s.seenTenant(tx, id, t.Tenant)
		if err != nil {
			return client.WorkloadToken{}, err
		}
		t.Organization = tenant.Organization
		if err := tx.DropWorkloadTokens(s.Now().Add(-endedTokensStay)); err != nil {
			return client.WorkloadToken{}, err
		}
		own, err := tx.ListWorkloadTokens(t.Organization, "", store.Page{Limit: maxWorkloadTokens})
		if err != nil {
			return client.WorkloadToken{}, err
		}
		if len(own) >= maxWorkloadTokens {
			return client.WorkloadToken{}, &postern.Error{Code: postern.CodeConflict, Message: "the organization has 1000 tokens of workloads, which is the limit", Fix: "revoke those that nobody uses"}
		}
		hash := sha256.Sum256(shown)
		switch created, err := tx.CreateToken(t, hash[:]); {
		case err != nil:
			return client.WorkloadToken{}, err
		case !created: // a secret is drawn anew; a certificate can come again
			return client.WorkloadToken{}, &postern.Error{
				Code: postern.CodeConflict, Field: "spec.certificate", Message: "this certificate is or was a workload's", Fix: "revoke that one if it is not meant, and issue a new certificate",
			}
		}
		return wireWorkloadToken(t), s.event(tx, id, "token.created", "token", t.ID, t.Organization, "workload token "+t.Name+" of tenant "+t.Tenant)
	})
	if err != nil {
		return nil, err
	}
	if made.ID != t.ID && spec.Certificate == "" {
		return nil, secretIsGone(made.ID, in.IdempotencyKey)
	}
	if made.ID == t.ID {
		made.Secret = plain
	}
	return &body[client.WorkloadToken]{made}, nil
}

func (s *Server) deleteWorkloadToken(ctx context.Context, id postern.Identity, in *ByID) (*struct{}, error) {
	return nil, s.Store.Update(ctx, func(tx *store.Tx) error {
		t, err := tx.FindToken(in.ID)
		if err != nil && postern.CodeOf(err) != postern.CodeNotFound {
			return err
		}
		// What is no workload's token is none here, whoever asks.
		if err != nil || t.Role != postern.RoleWorkload || !id.Sees(t.Organization) {
			return postern.NotFound("workload token", in.ID)
		}
		if err := tx.RevokeToken(t.ID, s.Now()); err != nil {
			return err
		}
		return s.event(tx, id, "token.revoked", "token", t.ID, t.Organization, "workload token "+t.Name+" of tenant "+t.Tenant)
	})
}
