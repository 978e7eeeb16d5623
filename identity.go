package postern

import (
	"slices"
	"strings"
	"time"
)

// Role is what an identity may do.
type Role string

// The roles. Admin and operator see every organization; the organization's
// roles see their own; a node sees only what the data plane needs. A workload
// uses no part of the API: its token is for the egress nodes.
const (
	RoleAdmin    Role = "admin"
	RoleOperator Role = "operator"
	RoleOrgAdmin Role = "organization-admin"
	RoleOrgView  Role = "organization-viewer"
	RoleNode     Role = "node"
	RoleWorkload Role = "workload"
)

// Roles lists every role.
func Roles() []Role {
	return []Role{RoleAdmin, RoleOperator, RoleOrgAdmin, RoleOrgView, RoleNode, RoleWorkload}
}

// OfOrganization tells whether the role is confined to one organization.
func (r Role) OfOrganization() bool { return r == RoleOrgAdmin || r == RoleOrgView }

// Token is a credential's record; the secret itself is stored only as its
// SHA-256.
type Token struct {
	ID           string // "tok_…"
	Name         string // for people, appears in events
	Role         Role
	Organization string    // for the organization's roles and workloads, else ""
	Tenant       string    // for workloads, else ""
	ExpiresAt    time.Time // zero: never; a workload's always ends
	CreatedAt    time.Time
}

// MaxWorkloadToken is the longest life of a workload's token: it is copied into
// places that nobody looks at.
const MaxWorkloadToken = 366 * 24 * time.Hour

// reservedTokens are actors of Postern's own: in events and approvals they
// must not be anybody else's name.
var reservedTokens = []string{"bootstrap", "loop", "policy", "serve"}

// Validate reports every problem of the token at once.
func (t Token) Validate(now time.Time) error {
	var es Errors
	if t.Name == "" || len(t.Name) > 100 {
		es.Add(Invalid("spec.name", "", "not between 1 and 100 bytes", "name who or what will use the token"))
	}
	if slices.Contains(reservedTokens, strings.ToLower(strings.TrimSpace(t.Name))) {
		es.Add(Invalid("spec.name", t.Name, "a name of Postern's own", "choose another name"))
	}
	if !slices.Contains(Roles(), t.Role) {
		es.Add(Invalid("spec.role", string(t.Role), "no such role", "use admin, operator, organization-admin, organization-viewer or node"))
	}
	switch {
	case t.Role == RoleWorkload:
		es.Add(CheckLabel("spec.tenant", t.Tenant))
		if t.ExpiresAt.Sub(now) > MaxWorkloadToken {
			es.Add(Invalid("spec.expires_at", t.ExpiresAt.Format(time.RFC3339), "more than a year away", "give an earlier time, and make a new token before it"))
		}
		if t.ExpiresAt.IsZero() {
			es.Add(Invalid("spec.expires_at", "", "missing", "say when the token ends, at most a year from now"))
		}
	case t.Role.OfOrganization():
		es.Add(CheckLabel("spec.organization", t.Organization))
	case t.Organization != "":
		es.Add(Invalid("spec.organization", t.Organization, "goes only with an organization's role", "leave it out, or use organization-admin or organization-viewer"))
	}
	if t.Tenant != "" && t.Role != RoleWorkload {
		es.Add(Invalid("spec.tenant", t.Tenant, "goes only with the role workload", "leave it out"))
	}
	if !t.ExpiresAt.IsZero() && !t.ExpiresAt.After(now) {
		es.Add(Invalid("spec.expires_at", t.ExpiresAt.Format(time.RFC3339), "in the past", "give a time to come, or leave it out"))
	}
	return es.Err()
}

// Identity is who sent a request.
type Identity struct {
	TokenID      string
	Name         string
	Role         Role
	Organization string // "" for roles that see every organization
}

// Sees tells whether things of an organization exist for this identity.
func (i Identity) Sees(organization string) bool {
	switch i.Role {
	case RoleAdmin, RoleOperator:
		return true
	case RoleOrgAdmin, RoleOrgView:
		return i.Organization != "" && i.Organization == organization
	default:
		return false
	}
}
