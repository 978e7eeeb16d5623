package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

func (s *Server) appRoutes() {
	route(s, spec{id: "list-apps", method: http.MethodGet, path: "/v1/organizations/{id}/apps", summary: "List the apps whose hosts organizations share, and what one has of them privately", roles: readers}, s.listApps)
	route(s, spec{id: "get-app", method: http.MethodGet, path: "/v1/organizations/{id}/apps/{app}", summary: "Get an organization's private access to an app, on or off", roles: readers}, s.getApp)
	route(s, spec{id: "set-app", method: http.MethodPut, path: "/v1/organizations/{id}/apps/{app}", summary: "Turn an organization's private access to an app on or off", roles: writers}, s.setApp)
}

// ByApp is the path of an organization's access to an app.
type ByApp struct {
	ByID
	App string `path:"app" maxLength:"63"`
}

// organizationsPart is what is stored of an organization.
func organizationsPart(tx *store.Tx, organization string) (d plan.Desired, err error) {
	var e1, e2, e3, e4, e5 error
	d.Tenants, e1 = tx.ListTenants(organization, store.Page{})
	d.Accounts, e2 = tx.ListAccounts(organization, store.Page{})
	d.Endpoints, e3 = tx.ListEndpoints(organization, "", store.Page{})
	d.Cutovers, e4 = tx.ListCurrentCutovers()
	d.Apps, e5 = tx.ListAppAccess(organization)
	return d, errors.Join(e1, e2, e3, e4, e5)
}

func (s *Server) wireApp(app postern.App, a postern.AppAccess, d plan.Desired) client.AppAccess {
	v := plan.App(s.Platform, app, a, d)
	out := client.AppAccess{
		ID: app.ID, Spec: client.AppAccessSpec{Enabled: a.Enabled}, ResourceVersion: strconv.FormatInt(a.ResourceVersion, 10),
		Status: client.AppAccessStatus{
			Title: app.Title, Organization: a.Organization, Hostnames: app.Hosts, Conditions: wireConditions(v.Conditions),
			Customer: []client.AppRecords{}, ChangedBy: a.ChangedBy, ChangedAt: a.ChangedAt,
		},
	}
	for _, e := range v.Endpoints {
		if records := appRecords(app, e); len(records) > 0 {
			out.Status.Customer = append(out.Status.Customer, client.AppRecords{VPCEndpointID: e.ID, ServiceRegion: e.ServiceRegion, Records: records})
		}
	}
	return out
}

// appRecords are what the networks that use an endpoint must answer (the
// seeds); none while AWS has not named it.
func appRecords(app postern.App, e postern.Endpoint) (out []client.DNSRecord) {
	for _, h := range app.Hosts {
		if len(e.DNSNames) > 0 {
			out = append(out, client.DNSRecord{Name: h, Type: postern.RecordCNAME, Value: e.DNSNames[0]})
		}
	}
	return out
}

// appsOf finds an organization that exists for this identity, and what is
// stored of it.
func (s *Server) appsOf(tx *store.Tx, id postern.Identity, organization string) (plan.Desired, error) {
	if _, err := s.seenOrganization(tx, id, organization); err != nil {
		return plan.Desired{}, err
	}
	return organizationsPart(tx, organization)
}

func (s *Server) listApps(ctx context.Context, id postern.Identity, in *ByID) (*body[client.Page[client.AppAccess]], error) {
	out := &body[client.Page[client.AppAccess]]{client.Page[client.AppAccess]{Items: []client.AppAccess{}}}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		d, err := s.appsOf(tx, id, in.ID)
		if err != nil {
			return err
		}
		for _, app := range s.Platform.Apps {
			if app.PerTenant() {
				continue
			}
			a, err := tx.FindAppAccess(in.ID, app.ID)
			if err != nil {
				return err
			}
			out.Body.Items = append(out.Body.Items, s.wireApp(app, a, d))
		}
		return nil
	})
}

func (s *Server) getApp(ctx context.Context, id postern.Identity, in *ByApp) (*versioned[client.AppAccess], error) {
	out := &versioned[client.AppAccess]{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		app, a, d, err := s.seenApp(tx, id, in)
		out.ETag, out.Body = etag(a.ResourceVersion), s.wireApp(app, a, d)
		return err
	})
}

func (s *Server) seenApp(tx *store.Tx, id postern.Identity, in *ByApp) (app postern.App, a postern.AppAccess, d plan.Desired, err error) {
	if d, err = s.appsOf(tx, id, in.ID); err != nil {
		return app, a, d, err
	}
	app, ok := s.Platform.SharedApp(in.App)
	if !ok {
		return app, a, d, postern.NotFound("shared app", in.App)
	}
	a, err = tx.FindAppAccess(in.ID, in.App)
	return app, a, d, err
}

// AppChange is the body of a change.
type AppChange struct {
	Spec client.AppAccessSpec `json:"spec"`
}

// setApp demands all that the app asks for when it is turned on; turning it off
// is always possible.
func (s *Server) setApp(ctx context.Context, id postern.Identity, in *struct {
	ByApp
	IfMatch
	Body AppChange
},
) (*versioned[client.AppAccess], error) {
	out := &versioned[client.AppAccess]{}
	return out, s.Store.Update(ctx, func(tx *store.Tx) error {
		app, a, d, err := s.seenApp(tx, id, &in.ByApp)
		if err != nil {
			return err
		}
		if err := in.check(a.ResourceVersion); err != nil {
			return err
		}
		if in.Body.Spec.Enabled != a.Enabled {
			if err := s.mayEnable(app, a, d, in.Body.Spec.Enabled); err != nil {
				return err
			}
			a.Enabled, a.ChangedBy, a.ChangedAt = in.Body.Spec.Enabled, id.Name, s.Now()
			if a, err = tx.SaveAppAccess(a); err != nil {
				return err
			}
			action, message := "app.enabled", "private access to app "+app.ID+" was turned on"
			if !a.Enabled {
				action, message = "app.disabled", "private access to app "+app.ID+" was turned off"
			}
			if err := s.event(tx, id, action, "organization", a.Organization, a.Organization, message); err != nil {
				return err
			}
			if d.Apps, err = tx.ListAppAccess(a.Organization); err != nil {
				return err
			}
		}
		out.ETag, out.Body = etag(a.ResourceVersion), s.wireApp(app, a, d)
		return nil
	})
}

// mayEnable lists everything that stands against private access.
func (s *Server) mayEnable(app postern.App, a postern.AppAccess, d plan.Desired, enable bool) error {
	if !enable {
		return nil
	}
	var es postern.Errors
	for _, c := range plan.App(s.Platform, app, a, d).Conditions {
		if c.Type != postern.Ready && c.Status != postern.True {
			es.Add(&postern.Error{Code: postern.CodeConflict, Field: string(c.Type), Message: c.Message, Fix: "see docs/request-app.md"})
		}
	}
	served := false
	for _, t := range d.Tenants {
		served = served || len(s.Platform.SharedBackends(app.ID, t.Region)) > 0
	}
	if !served && len(d.Tenants) > 0 {
		es.Add(&postern.Error{
			Code: postern.CodeConflict, Field: "app", Value: app.ID, Message: "the platform serves the app in no region of the organization's tenants",
			Fix: "the platform's operator lists its backends in the platform file",
		})
	}
	return es.Err()
}

// breaksApps tells what a new tenant would break, unless that was accepted by
// name: an app that is only for organizations in one segment.
func (s *Server) breaksApps(tx *store.Tx, t postern.Tenant, acknowledged []string) error {
	d, err := organizationsPart(tx, t.Organization)
	if err != nil {
		return err
	}
	var es postern.Errors
	for _, app := range plan.BreaksApps(s.Platform, d, t) {
		if slices.Contains(acknowledged, app.ID) {
			continue
		}
		view := plan.Desired{Tenants: append(d.Tenants, t), Apps: d.Apps}
		c := postern.FindCondition(plan.App(s.Platform, app, postern.AppAccess{App: app.ID, Organization: t.Organization}, view).Conditions, postern.SingleSegment)
		es.Add(wouldLose(app, c.Message))
	}
	return es.Err()
}

// losesApps lists the apps that an organization would not reach privately any more.
func (s *Server) losesApps(tx *store.Tx, organization string, change func(*plan.Desired)) ([]plan.AppLoss, error) {
	before, err := organizationsPart(tx, organization)
	if err != nil {
		return nil, err
	}
	after := before
	change(&after)
	return plan.LosesApps(s.Platform, before, after, organization), nil
}

// mayDelete tells what goes with a tenant, unless that was accepted by name: an
// app that is only for organizations with a private one.
func (s *Server) mayDelete(tx *store.Tx, t postern.Tenant, acknowledged []string) error {
	lost, err := s.losesApps(tx, t.Organization, func(d *plan.Desired) {
		d.Tenants = slices.DeleteFunc(slices.Clone(d.Tenants), func(o postern.Tenant) bool { return o.Name == t.Name })
	})
	if err != nil {
		return err
	}
	var es postern.Errors
	for _, l := range lost {
		if !slices.Contains(acknowledged, l.App.ID) {
			es.Add(wouldLose(l.App, l.Why))
		}
	}
	return es.Err()
}

func wouldLose(app postern.App, why string) *postern.Error {
	return &postern.Error{
		Code: postern.CodeConflict, Field: "acknowledge", Value: app.ID,
		Message: "the organization would lose private access to app " + app.ID + ", whose hosts its networks may lead to an endpoint: " + why,
		Fix:     "turn that off first (postern app disable " + app.ID + "), or accept it by name (--acknowledge " + app.ID + ")",
	}
}

// appsThrough lists the records of an organization's apps by endpoint.
func (s *Server) appsThrough(ctx context.Context, organization string) (map[string][]client.DNSRecord, error) {
	out := map[string][]client.DNSRecord{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		d, err := organizationsPart(tx, organization)
		if err != nil {
			return err
		}
		for _, a := range d.Apps {
			app, ok := s.Platform.SharedApp(a.App)
			if !ok {
				continue // the platform gave it up
			}
			for _, e := range plan.App(s.Platform, app, a, d).Endpoints {
				out[e.ID] = append(out[e.ID], appRecords(app, e)...)
			}
		}
		return nil
	})
}
