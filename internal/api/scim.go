package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

func (s *Server) scimRoutes() {
	route(s, spec{id: "get-scim-ingress", method: http.MethodGet, path: "/v1/tenants/{id}/scim", summary: "Get a tenant's SCIM-only public ingress, on or off", roles: readers}, s.getSCIM)
	route(s, spec{id: "set-scim-ingress", method: http.MethodPut, path: "/v1/tenants/{id}/scim", summary: "Turn a tenant's SCIM-only public ingress on, change its networks, or turn it off", roles: writers}, s.setSCIM)
}

func (s *Server) wireSCIM(t postern.Tenant) client.SCIMIngress {
	out := client.SCIMIngress{
		ID: t.Name, ResourceVersion: strconv.FormatInt(t.ResourceVersion, 10),
		Status: client.SCIMIngressStatus{Hostname: s.Platform.SCIMHost(t.Name)},
	}
	if t.SCIM == nil {
		return out
	}
	out.Spec.Enabled = true
	for _, p := range t.SCIM.Sources {
		out.Spec.SourceRanges = append(out.Spec.SourceRanges, p.String())
	}
	out.Status.EnabledBy, out.Status.EnabledAt = t.SCIM.EnabledBy, t.SCIM.EnabledAt
	if s.Platform.CanSCIM(t.Region) == nil {
		out.Status.BaseURL = "https://" + out.Status.Hostname + "/scim/v2"
	}
	return out
}

func (s *Server) getSCIM(ctx context.Context, id postern.Identity, in *ByID) (*versioned[client.SCIMIngress], error) {
	out := &versioned[client.SCIMIngress]{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		t, err := s.seenTenant(tx, id, in.ID)
		if err != nil {
			return err
		}
		out.ETag, out.Body = etag(t.ResourceVersion), s.wireSCIM(t)
		out.Body.Status.WaitsFor, err = waitsForSCIM(tx, t.Name)
		return err
	})
}

// waitsForSCIM lists the nodes that may still offer what was taken away.
func waitsForSCIM(tx *store.Tx, tenant string) ([]string, error) {
	all, e1 := tx.ListWithdrawals(tenant)
	nodes, e2 := tx.ListNodes(store.Page{})
	for _, w := range all {
		if w.Kind == postern.WithdrawnSCIM {
			return plan.StillOffer(w, nodes), errors.Join(e1, e2)
		}
	}
	return nil, errors.Join(e1, e2)
}

// noteSCIM has the nodes waited for when a change takes something away. Whoever is
// still waited for when it is turned on again may admit more than is admitted now:
// only an ingress that is open to everybody takes that back.
func noteSCIM(tx *store.Tx, action string, t postern.Tenant, now time.Time) error {
	if action == "tenant.scim-enabled" {
		if len(t.SCIM.Sources) > 0 {
			return nil
		}
		return tx.OfferAgain(postern.WithdrawnSCIM, t.Name)
	}
	return tx.AddWithdrawal(postern.Withdrawal{Kind: postern.WithdrawnSCIM, Tenant: t.Name, Organization: t.Organization, At: now})
}

// SCIMChange is the body of a change: the whole spec, so that the request can
// be sent again.
type SCIMChange struct {
	Spec client.SCIMIngressSpec `json:"spec"`
}

func (s *Server) setSCIM(ctx context.Context, id postern.Identity, in *struct {
	ByID
	IfMatch
	Body SCIMChange
},
) (*versioned[client.SCIMIngress], error) {
	wanted, err := scimWanted(in.Body.Spec)
	if err != nil {
		return nil, err
	}
	out := &versioned[client.SCIMIngress]{}
	return out, s.Store.Update(ctx, func(tx *store.Tx) error {
		t, err := s.seenTenant(tx, id, in.ID)
		if err != nil {
			return err
		}
		if err := in.check(t.ResourceVersion); err != nil {
			return err
		}
		if wanted != nil {
			if e := s.Platform.CanSCIM(t.Region); e != nil {
				return e
			}
		}
		action, message := scimChange(t.SCIM, wanted)
		if action != "" {
			if wanted != nil {
				wanted.EnabledBy, wanted.EnabledAt = id.Name, s.Now()
			}
			t.SCIM = wanted
			if t, err = tx.UpdateTenantSCIM(t); err != nil {
				return err
			}
			if err := noteSCIM(tx, action, t, s.Now()); err != nil {
				return err
			}
			if err := s.event(tx, id, action, "tenant", t.Name, t.Organization, message); err != nil {
				return err
			}
		}
		out.ETag, out.Body = etag(t.ResourceVersion), s.wireSCIM(t)
		out.Body.Status.WaitsFor, err = waitsForSCIM(tx, t.Name)
		return err
	})
}

// scimWanted is what a spec asks for; nil: none.
func scimWanted(spec client.SCIMIngressSpec) (*postern.SCIMIngress, error) {
	if !spec.Enabled {
		if len(spec.SourceRanges) > 0 {
			return nil, postern.Invalid("spec.source_ranges", strings.Join(spec.SourceRanges, " "), "goes with enabled: true", "leave it out to turn the ingress off")
		}
		return nil, nil //nolint:nilnil // none is wanted
	}
	var es postern.Errors
	w := &postern.SCIMIngress{}
	for i, text := range spec.SourceRanges {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			es.Add(postern.Invalid(fmt.Sprintf("spec.source_ranges[%d]", i), text, "not a network", `write it as "192.0.2.0/24", a single address as "192.0.2.7/32"`))
		}
		w.Sources = append(w.Sources, p)
	}
	if err := es.Err(); err != nil {
		return nil, err
	}
	return w, w.Validate()
}

// scimChange names what a request changes; "": nothing.
func scimChange(before, after *postern.SCIMIngress) (action, message string) {
	from := func(s *postern.SCIMIngress) string {
		if len(s.Sources) == 0 {
			return "anywhere"
		}
		texts := make([]string, len(s.Sources))
		for i, p := range s.Sources {
			texts[i] = p.String()
		}
		return strings.Join(texts, ", ")
	}
	switch {
	case before == nil && after == nil:
		return "", ""
	case after == nil:
		return "tenant.scim-disabled", "the SCIM-only public ingress was turned off"
	case before == nil:
		return "tenant.scim-enabled", "the SCIM-only public ingress was turned on, reachable from " + from(after)
	case from(before) == from(after):
		return "", ""
	}
	return "tenant.scim-changed", "the SCIM-only public ingress is reachable from " + from(after)
}
