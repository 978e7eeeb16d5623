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

func (s *Server) cutoverRoutes() {
	route(s, spec{id: "preflight-cutover", method: http.MethodGet, path: "/v1/tenants/{id}/preflight", roles: readers, summary: "What stands against a tenant's cutover, with evidence"}, s.preflight)
	route(s, spec{id: "start-cutover", method: http.MethodPost, path: "/v1/cutovers", roles: writers, status: http.StatusCreated, summary: "Start a tenant's cutover with its rehearsal"}, s.startCutover)
	route(s, spec{id: "list-cutovers", method: http.MethodGet, path: "/v1/cutovers", roles: readers, summary: "List cutovers"}, s.listCutovers)
	route(s, spec{id: "get-cutover", method: http.MethodGet, path: "/v1/cutovers/{id}", roles: readers, summary: "Get a cutover"}, s.getCutover)
	route(s, spec{id: "acknowledge-cutover", method: http.MethodPost, path: "/v1/cutovers/{id}/acknowledge", roles: writers, summary: "Accept blockers of a cutover by name"}, s.acknowledgeCutover)
	route(s, spec{id: "rollback-cutover", method: http.MethodPost, path: "/v1/cutovers/{id}/rollback", roles: writers, summary: "Make the tenant public again, from wherever it is"}, s.rollBackCutover)
	route(s, spec{id: "get-tenant-dns", method: http.MethodGet, path: "/v1/tenants/{id}/dns", roles: readers, summary: "What the vendor publishes and what the customer must create"}, s.tenantDNS)
	route(s, spec{id: "create-probe", method: http.MethodPost, path: "/v1/tenants/{id}/probes", roles: writers, status: http.StatusCreated, summary: "Draw a server name that proves the path through an endpoint"}, s.createProbe)
	route(s, spec{id: "report-backends", method: http.MethodPost, path: "/v1/nodelink/backends", roles: []postern.Role{postern.RoleNode}, status: http.StatusNoContent, summary: "What a node's backends answered when they were asked for another host"}, s.reportBackends)
	route(s, spec{id: "list-probes", method: http.MethodGet, path: "/v1/tenants/{id}/probes", roles: readers, summary: "List a tenant's path probes"}, s.listProbes)
}

func wireConditions(cs []postern.Condition) []client.Condition {
	out := []client.Condition{}
	for _, c := range cs {
		out = append(out, client.Condition{Type: string(c.Type), Status: string(c.Status), Reason: string(c.Reason), Message: c.Message, Since: c.Since})
	}
	return out
}

func wireCutover(c postern.Cutover) client.Cutover {
	return client.Cutover{
		ID: c.ID, Spec: client.CutoverSpec{Tenant: c.Tenant, Acknowledged: append([]string{}, c.Acknowledged...)},
		ResourceVersion: strconv.FormatInt(c.ResourceVersion, 10),
		Status: client.CutoverStatus{
			State: string(c.Phase), Organization: c.Organization, Conditions: wireConditions(c.Conditions), StartedBy: c.StartedBy, StartedAt: c.StartedAt,
			FallbackAt: c.FallbackAt, RedirectedAt: c.RedirectedAt, PublishedAt: c.PublishedAt, FailingSince: c.FailingSince, EnforcedAt: c.EnforcedAt, DrainUntil: c.DrainUntil, EnforceRevision: c.EnforceRevision,
			WithdrawnAt: c.WithdrawnAt, EndedAt: c.EndedAt, EndedBy: c.EndedBy, EndedWhy: c.EndedWhy, RestoredAt: c.RestoredAt, SettledAt: c.SettledAt,
		},
	}
}

// tenantFor finds a tenant that exists for this identity.
func (s *Server) tenantFor(ctx context.Context, id postern.Identity, name string) (t postern.Tenant, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		t, err = s.seenTenant(tx, id, name)
		return err
	})
	return t, err
}

func (s *Server) preflight(ctx context.Context, id postern.Identity, in *ByID) (*body[client.Page[client.Blocker]], error) {
	t, err := s.tenantFor(ctx, id, in.ID)
	if err != nil {
		return nil, err
	}
	blockers, err := s.Loop.Preflight(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	current, err := s.currentCutover(ctx, t.Name)
	out := &body[client.Page[client.Blocker]]{client.Page[client.Blocker]{Items: []client.Blocker{}}}
	for _, b := range blockers {
		out.Body.Items = append(out.Body.Items, client.Blocker{
			Name: b.Name, Message: b.Message, Evidence: b.Evidence, Acknowledgeable: b.Acknowledgeable, Acknowledged: current.Accepts(b.Name), Blocks: blocks(b),
		})
	}
	return out, err
}

// currentCutover is a tenant's that counts, or the zero value.
func (s *Server) currentCutover(ctx context.Context, tenant string) (c postern.Cutover, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		c, err = tx.FindCurrentCutover(tenant)
		if postern.CodeOf(err) == postern.CodeNotFound {
			return nil
		}
		return err
	})
	return c, err
}

func blocks(b postern.Blocker) string {
	if b.EnforceOnly {
		return "enforce"
	}
	return "start"
}

// acknowledgeable are the names that a person may accept.
var acknowledgeable = []string{postern.BlockerPathUnproven, postern.BlockerNotIsolated, postern.BlockerPublicClients, postern.BlockerIntegrations, postern.BlockerPrivateRefused}

func checkAcknowledged(field string, names []string) error {
	var es postern.Errors
	for i, n := range names {
		if !slices.Contains(acknowledgeable, n) {
			es.Add(postern.Invalid(fmt.Sprintf("%s[%d]", field, i), n, "not a blocker that can be acknowledged", "use "+strings.Join(acknowledgeable, ", ")+"; others must be mended"))
		}
	}
	return es.Err()
}

func (s *Server) startCutover(ctx context.Context, id postern.Identity, in *struct {
	Once
	Body client.CutoverRequest
},
) (*body[client.Cutover], error) {
	if done, found, err := answered[client.Cutover](ctx, s, id, in.IdempotencyKey, in.Body); err != nil || found {
		return &body[client.Cutover]{done}, err
	}
	if err := checkAcknowledged("acknowledged", in.Body.Acknowledged); err != nil {
		return nil, err
	}
	t, err := s.tenantFor(ctx, id, in.Body.Tenant)
	if err != nil {
		return nil, err
	}
	if err := s.mayStart(ctx, t.Name, in.Body.Acknowledged); err != nil {
		return nil, err
	}
	c := postern.Cutover{
		ID: "cut_" + strings.ToLower(rand.Text()[:16]), Tenant: t.Name, Organization: t.Organization, Phase: postern.CutoverRehearsing,
		StartedBy: id.Name, StartedAt: s.Now(),
	}
	accept(&c, in.Body.Acknowledged)
	out, err := once(ctx, s, id, in.IdempotencyKey, in.Body, func(tx *store.Tx) (client.Cutover, error) {
		if _, err := s.seenTenant(tx, id, t.Name); err != nil {
			return client.Cutover{}, err // it was deleted meanwhile
		}
		made, err := tx.CreateCutover(c)
		if err != nil {
			return client.Cutover{}, err
		}
		return wireCutover(made), s.event(tx, id, "cutover.started", "cutover", c.ID, c.Organization, "tenant "+c.Tenant+": the rehearsal begins; accepted: "+namesOr(c.Acknowledged, "nothing"))
	})
	return &body[client.Cutover]{out}, err
}

// mayStart refuses a cutover of a tenant that has one, or that something stands
// against.
func (s *Server) mayStart(ctx context.Context, tenant string, acknowledged []string) error {
	current, err := s.currentCutover(ctx, tenant)
	if err != nil {
		return err
	}
	if current.ID != "" {
		return postern.CutoverExists(tenant)
	}
	blockers, err := s.Loop.Preflight(ctx, tenant)
	if err != nil {
		return err
	}
	var es postern.Errors
	for _, b := range plan.AgainstStart(blockers, acknowledged) {
		es.Add(blocked(b))
	}
	return es.Err()
}

// accept adds names to those that a cutover accepts, each once.
func accept(c *postern.Cutover, names []string) {
	for _, n := range names {
		if !c.Accepts(n) {
			c.Acknowledged = append(c.Acknowledged, n)
		}
	}
}

func blocked(b postern.Blocker) *postern.Error {
	fix := "mend it, then start again"
	if b.Acknowledgeable {
		fix = "mend it, or accept it by name: acknowledge " + b.Name
	}
	message := b.Name + ": " + b.Message
	if len(b.Evidence) > 0 {
		message += " [" + strings.Join(b.Evidence[:min(len(b.Evidence), 10)], "; ") + "]"
	}
	return &postern.Error{Code: postern.CodeConflict, Field: "acknowledged", Message: message, Fix: fix}
}

func namesOr(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}

func seenCutover(tx *store.Tx, id postern.Identity, key string) (postern.Cutover, error) {
	c, err := tx.FindCutover(key)
	if err != nil {
		return c, err
	}
	return c, visible(id, c.Organization, "cutover", key)
}

type cutoversInput struct {
	OfOrganization
	Tenant string `query:"tenant" maxLength:"63" doc:"Only this tenant's"`
}

func (s *Server) listCutovers(ctx context.Context, id postern.Identity, in *cutoversInput) (*body[client.Page[client.Cutover]], error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	out := &body[client.Page[client.Cutover]]{client.Page[client.Cutover]{Items: []client.Cutover{}}}
	organization, ok := scope(id, in.Organization)
	if !ok {
		return out, nil
	}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.ListCutovers(organization, in.Tenant, page)
		out.Body.Items, out.Body.NextPageToken = cut(in.Paging, rows, func(c postern.Cutover) string { return c.ID }, wireCutover)
		return err
	})
}

func (s *Server) getCutover(ctx context.Context, id postern.Identity, in *ByID) (*versioned[client.Cutover], error) {
	out := &versioned[client.Cutover]{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		c, err := seenCutover(tx, id, in.ID)
		out.ETag, out.Body = etag(c.ResourceVersion), wireCutover(c)
		return err
	})
}

// changeCutover changes one that counts, in one transaction with its event.
func (s *Server) changeCutover(ctx context.Context, id postern.Identity, key string, m IfMatch, change func(*store.Tx, *postern.Cutover) (action, message string, err error)) (*versioned[client.Cutover], error) {
	out := &versioned[client.Cutover]{}
	return out, s.Store.Update(ctx, func(tx *store.Tx) error {
		c, err := seenCutover(tx, id, key)
		if err != nil {
			return err
		}
		if err := m.check(c.ResourceVersion); err != nil {
			return err
		}
		if c.Phase == postern.CutoverRolledBack {
			return &postern.Error{Code: postern.CodeConflict, Message: "the cutover was rolled back", Fix: "start a new one: postern cutover start " + c.Tenant}
		}
		action, message, err := change(tx, &c)
		if err != nil {
			return err
		}
		if c, err = tx.UpdateCutover(c); err != nil {
			return err
		}
		out.ETag, out.Body = etag(c.ResourceVersion), wireCutover(c)
		return s.event(tx, id, action, "cutover", c.ID, c.Organization, "tenant "+c.Tenant+": "+message)
	})
}

func (s *Server) acknowledgeCutover(ctx context.Context, id postern.Identity, in *struct {
	ByID
	IfMatch
	Body client.Acknowledgement
},
) (*versioned[client.Cutover], error) {
	if err := checkAcknowledged("blockers", in.Body.Blockers); err != nil {
		return nil, err
	}
	return s.changeCutover(ctx, id, in.ID, in.IfMatch, func(_ *store.Tx, c *postern.Cutover) (string, string, error) {
		accept(c, in.Body.Blockers)
		return "cutover.acknowledged", "accepted: " + strings.Join(in.Body.Blockers, ", "), nil
	})
}

// rollBackCutover makes the tenant public again with this transaction: routes
// and zones follow from it at once, whatever phase it was in. That waits for
// nobody's consent (docs/cutover.md): what goes with it is told afterwards.
func (s *Server) rollBackCutover(ctx context.Context, id postern.Identity, in *struct {
	ByID
	IfMatch
	Body client.Rollback
},
) (*versioned[client.Cutover], error) {
	var lost []string
	out, err := s.changeCutover(ctx, id, in.ID, in.IfMatch, func(tx *store.Tx, c *postern.Cutover) (string, string, error) {
		why := in.Body.Reason
		if why == "" {
			why = "no reason given"
		}
		apps, err := s.losesApps(tx, c.Organization, func(d *plan.Desired) {
			d.Cutovers = slices.DeleteFunc(slices.Clone(d.Cutovers), func(o postern.Cutover) bool { return o.ID == c.ID })
		})
		if err != nil {
			return "", "", err
		}
		message := fmt.Sprintf("rolled back from %s: %s", c.Phase, why)
		lost = nil
		for _, l := range apps {
			lost = append(lost, l.App.ID)
		}
		if len(lost) > 0 {
			message += "; with it goes private access to app " + strings.Join(lost, ", ")
		}
		c.Phase, c.EndedAt, c.EndedBy, c.EndedWhy = postern.CutoverRolledBack, s.Now(), id.Name, why
		return "cutover.rolled-back", message, nil
	})
	if err == nil {
		out.Body.Status.LostApps = lost
	}
	return out, err
}

func (s *Server) tenantDNS(ctx context.Context, id postern.Identity, in *ByID) (*body[client.TenantDNS], error) {
	t, err := s.tenantFor(ctx, id, in.ID)
	if err != nil {
		return nil, err
	}
	state, err := s.Loop.TenantDNS(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	out := client.TenantDNS{Tenant: t.Name, Published: state.Differs == "", Detail: state.Differs, Vendor: []client.DNSRecord{}, Customer: []client.NetworkDNS{}}
	for _, name := range []string{s.Platform.Host(t.Name), s.Platform.PrivateLinkHost(t.Name)} {
		for _, r := range state.Wanted[name] {
			out.Vendor = append(out.Vendor, client.DNSRecord{Name: name, Type: r.Type, TTL: int(r.TTL), Value: r.Value})
		}
	}
	apps, err := s.appsThrough(ctx, t.Organization)
	if err != nil {
		return nil, err
	}
	for _, e := range state.Endpoints {
		if len(e.DNSNames) == 0 {
			continue // AWS has not named it yet
		}
		out.Customer = append(out.Customer, client.NetworkDNS{
			VPCEndpointID: e.ID, ServiceRegion: e.ServiceRegion,
			Record: client.DNSRecord{Name: s.Platform.PrivateLinkHost(t.Name), Type: postern.RecordCNAME, Value: e.DNSNames[0]},
			Apps:   apps[e.ID],
		})
	}
	return &body[client.TenantDNS]{out}, nil
}

func (s *Server) createProbe(ctx context.Context, id postern.Identity, in *struct {
	ByID
	Once
},
) (*body[client.Probe], error) {
	p := postern.Probe{Nonce: strings.ToLower(rand.Text()), Tenant: in.ID, CreatedAt: s.Now()}
	out, err := once(ctx, s, id, in.IdempotencyKey, in.ID, func(tx *store.Tx) (client.Probe, error) {
		if _, err := s.seenTenant(tx, id, in.ID); err != nil {
			return client.Probe{}, err
		}
		return s.wireProbe(p), tx.CreateProbe(p)
	})
	return &body[client.Probe]{out}, err
}

func (s *Server) wireProbe(p postern.Probe) client.Probe {
	return client.Probe{ServerName: s.Platform.ProbeHost(p.Tenant, p.Nonce), Tenant: p.Tenant, CreatedAt: p.CreatedAt, VPCEndpointID: p.EndpointID, SeenAt: p.SeenAt}
}

func (s *Server) listProbes(ctx context.Context, id postern.Identity, in *ByID) (*body[client.Page[client.Probe]], error) {
	out := &body[client.Page[client.Probe]]{client.Page[client.Probe]{Items: []client.Probe{}}}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		t, err := s.seenTenant(tx, id, in.ID)
		if err != nil {
			return err
		}
		rows, err := tx.ListProbes(t.Name)
		for _, p := range rows {
			out.Body.Items = append(out.Body.Items, s.wireProbe(p))
		}
		return err
	})
}

func (s *Server) reportBackends(ctx context.Context, id postern.Identity, in *struct{ Body client.BackendReport }) (*struct{}, error) {
	if in.Body.ID != id.Name {
		return nil, &postern.Error{Code: postern.CodeForbidden, Field: "id", Value: in.Body.ID, Message: "not the node that this token is for", Fix: "report as " + id.Name}
	}
	return nil, s.Store.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.FindNode(id.Name); err != nil {
			return err
		}
		for _, b := range in.Body.Backends {
			err := tx.SaveIsolation(postern.Isolation{Node: id.Name, Address: b.Address, Isolated: b.Isolated, Detail: b.Detail, At: s.Now()})
			if err != nil {
				return err
			}
		}
		return nil
	})
}
