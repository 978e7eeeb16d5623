package api

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

// Who may call a route. A route without one of these cannot be registered.
var (
	anyone        = []postern.Role{postern.RoleAdmin, postern.RoleOperator, postern.RoleOrgAdmin, postern.RoleOrgView, postern.RoleNode}
	readers       = []postern.Role{postern.RoleAdmin, postern.RoleOperator, postern.RoleOrgAdmin, postern.RoleOrgView}
	writers       = []postern.Role{postern.RoleAdmin, postern.RoleOperator, postern.RoleOrgAdmin}
	accountOwners = []postern.Role{postern.RoleAdmin, postern.RoleOrgAdmin}
	operators     = []postern.Role{postern.RoleAdmin, postern.RoleOperator}
	admins        = []postern.Role{postern.RoleAdmin}
)

type identityKey struct{}

// identityOf returns who sent the request; authorize put it there.
func identityOf(ctx context.Context) postern.Identity {
	id, _ := ctx.Value(identityKey{}).(postern.Identity)
	return id
}

// authorize is the one place where a request is let in: its token must be
// good, and its role among the route's. What an organization's role sees of
// the data is decided by scope and Identity.Sees.
func (s *Server) authorize(roles []postern.Role) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		id, err := s.authenticate(ctx.Context(), ctx.Header("Authorization"))
		if err == nil && !allowed(id, roles) {
			err = &postern.Error{
				Code: postern.CodeForbidden, Message: "the role " + string(id.Role) + " may not do this",
				Fix: "use a token of one of these roles: " + roleNames(roles),
			}
		}
		if err != nil {
			if postern.CodeOf(err) == postern.CodeUnauthenticated {
				ctx.SetHeader("WWW-Authenticate", `Bearer realm="postern"`)
			}
			p := s.problem(ctx.Context(), err)
			ctx.SetHeader("Content-Type", problemType)
			ctx.SetStatus(p.Status)
			_, _ = ctx.BodyWriter().Write(p.encode()) // the client is gone, or it is not
			return
		}
		next(huma.WithValue(ctx, identityKey{}, id))
	}
}

func allowed(id postern.Identity, roles []postern.Role) bool {
	for _, r := range roles {
		if r == id.Role {
			return !r.OfOrganization() || id.Organization != ""
		}
	}
	return false
}

// authenticate finds the token. Only hashes are compared, by the database's
// index: a secret has 256 random bits, so that timing tells nothing.
func (s *Server) authenticate(ctx context.Context, header string) (postern.Identity, error) {
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return postern.Identity{}, &postern.Error{Code: postern.CodeUnauthenticated, Message: "no token", Fix: `send "Authorization: Bearer TOKEN"`}
	}
	hash := sha256.Sum256([]byte(secret))
	var t postern.Token
	err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		t, err = tx.FindTokenByHash(hash[:], s.Now())
		return err
	})
	if err != nil && postern.CodeOf(err) == postern.CodeNotFound {
		return postern.Identity{}, &postern.Error{Code: postern.CodeUnauthenticated, Message: "the token is unknown, revoked or expired", Fix: "ask an administrator for a new one"}
	}
	return postern.Identity{TokenID: t.ID, Name: t.Name, Role: t.Role, Organization: t.Organization}, err
}

// scope is the organization that a list is confined to: an organization's role
// sees its own, whatever it asks for; another's is as empty as an absent one.
func scope(id postern.Identity, asked string) (organization string, visible bool) {
	if !id.Role.OfOrganization() {
		return asked, true
	}
	return id.Organization, asked == "" || asked == id.Organization
}

// visible returns not_found for what the identity must not know of.
func visible(id postern.Identity, organization, kind, key string) error {
	if id.Sees(organization) {
		return nil
	}
	return postern.NotFound(kind, key)
}

func roleNames(roles []postern.Role) string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

// spec names an operation.
type spec struct {
	id, method, path, summary string
	status                    int
	roles                     []postern.Role
	maxBody                   int64 // bytes; 0: the framework's, 1 MiB
	paced                     bool  // costs calls at AWS: limited for each token
}

// route registers an operation: authorized before anything of it is read, with
// errors as problem documents.
func route[I, O any](s *Server, sp spec, fn func(context.Context, postern.Identity, *I) (*O, error)) {
	huma.Register(s.api, s.operation(sp), func(ctx context.Context, in *I) (*O, error) {
		id := identityOf(ctx)
		if sp.paced {
			if err := s.pacer.take(id.TokenID); err != nil {
				return nil, s.problem(ctx, err)
			}
		}
		out, err := fn(ctx, id, in)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return out, nil
	})
}

func (s *Server) operation(sp spec) huma.Operation {
	if len(sp.roles) == 0 {
		panic("route " + sp.id + " allows no role")
	}
	s.routes = append(s.routes, Route{Method: sp.method, Path: sp.path, Roles: sp.roles})
	if sp.status == 0 {
		sp.status = http.StatusOK
	}
	errs := []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict}
	if sp.paced {
		errs = append(errs, http.StatusTooManyRequests)
	}
	return huma.Operation{
		OperationID: sp.id, Method: sp.method, Path: sp.path, Summary: sp.summary, DefaultStatus: sp.status,
		Description: "Roles: " + roleNames(sp.roles) + ".",
		Security:    []map[string][]string{{"token": {}}},
		Middlewares: huma.Middlewares{s.authorize(sp.roles)}, MaxBodyBytes: sp.maxBody,
		Errors: errs,
	}
}
