package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

func (s *Server) recordRoutes() {
	route(s, spec{id: "list-events", method: http.MethodGet, path: "/v1/events", roles: readers, summary: "Who did what, and what the loop did, oldest first"}, s.listEvents)
	route(s, spec{id: "list-denials", method: http.MethodGet, path: "/v1/denials", roles: readers, summary: "Refused connections, counted, the latest first"}, s.listDenials)
	route(s, spec{id: "get-plan", method: http.MethodGet, path: "/v1/plan", roles: operators, summary: "What the loop would do at AWS now"}, s.getPlan)
	s.watchRoute()
}

func wireEvent(e postern.Event) client.Event {
	return client.Event{
		Seq: e.Seq, At: e.At, Actor: e.Actor, Action: e.Action, Kind: e.Kind, Subject: e.Subject, Organization: e.Organization, Message: e.Message,
	}
}

type eventsInput struct {
	OfOrganization
	After int64 `query:"after" minimum:"0" doc:"Only events with a greater seq"`
}

func (s *Server) listEvents(ctx context.Context, id postern.Identity, in *eventsInput) (*body[client.Page[client.Event]], error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	after := in.After
	if page.After != "" {
		if after, err = strconv.ParseInt(page.After, 10, 64); err != nil {
			return nil, postern.Invalid("page_token", in.PageToken, "not a page token of this list", "use next_page_token of the page before, unchanged")
		}
	}
	out := &body[client.Page[client.Event]]{client.Page[client.Event]{Items: []client.Event{}}}
	organization, ok := scope(id, in.Organization)
	if !ok {
		return out, nil
	}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.ListEvents(organization, after, page.Limit)
		out.Body.Items, out.Body.NextPageToken = cut(in.Paging, rows, func(e postern.Event) string { return strconv.FormatInt(e.Seq, 10) }, wireEvent)
		return err
	})
}

type denialsInput struct {
	Organization string    `query:"organization" maxLength:"63" doc:"Only this organization's"`
	Since        time.Time `query:"since" doc:"Only those seen since"`
	PageSize     int       `query:"page_size" minimum:"1" maximum:"1000" default:"100" doc:"How many items at most"`
}

// listDenials shows an organization the refusals of its own endpoints and
// hosts; a stranger's attempts on nothing known are the vendor's to see.
func (s *Server) listDenials(ctx context.Context, id postern.Identity, in *denialsInput) (*body[client.Page[client.Denial]], error) {
	out := &body[client.Page[client.Denial]]{client.Page[client.Denial]{Items: []client.Denial{}}}
	organization, ok := scope(id, in.Organization)
	if !ok {
		return out, nil
	}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.ListDenials(organization, in.Since, in.PageSize)
		for _, a := range rows {
			out.Body.Items = append(out.Body.Items, client.Denial{
				Listener: a.Listener, Region: a.Region, VPCEndpointID: a.EndpointID, Source: a.Source, ServerName: a.ServerName,
				Reason: string(a.Denial), Count: a.Count, FirstSeen: a.FirstSeen, LastSeen: a.LastSeen, JA4: a.JA4,
			})
		}
		return err
	})
}

func (s *Server) getPlan(ctx context.Context, _ postern.Identity, _ *struct{}) (*body[client.Page[client.Action]], error) {
	actions, err := s.Loop.Preview(ctx)
	if err != nil {
		return nil, err
	}
	out := &body[client.Page[client.Action]]{client.Page[client.Action]{Items: []client.Action{}}}
	for _, a := range actions {
		out.Body.Items = append(out.Body.Items, client.Action{Kind: string(a.Kind), Target: a.Target, Service: a.Service.Name, Why: a.Why})
	}
	return out, nil
}
