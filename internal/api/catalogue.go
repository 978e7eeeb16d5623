package api

import (
	"context"
	"net/http"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

// body is an answer without headers of its own.
type body[T any] struct{ Body T }

// versioned is an answer that carries the resource's ETag.
type versioned[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

func (s *Server) catalogueRoutes() {
	route(s, spec{id: "whoami", method: http.MethodGet, path: "/v1/whoami", summary: "Who the token is", roles: anyone},
		func(_ context.Context, id postern.Identity, _ *struct{}) (*body[client.Identity], error) {
			return &body[client.Identity]{client.Identity{Name: id.Name, Role: string(id.Role), Organization: id.Organization}}, nil
		})
	route(s, spec{
		id: "list-regions", method: http.MethodGet, path: "/v1/regions", roles: readers,
		summary: "The endpoint services to connect to: the tenant's region first, then its segment's",
	}, s.listRegions)
	route(s, spec{id: "get-platform", method: http.MethodGet, path: "/v1/platform", summary: "The platform", roles: readers},
		func(context.Context, postern.Identity, *struct{}) (*body[postern.Platform], error) {
			return &body[postern.Platform]{*s.Platform}, nil
		})
}

type regionsInput struct {
	Tenant string `query:"tenant" doc:"Order by what reaches this tenant"`
	Region string `query:"region" doc:"The same for a tenant that would live in this region"`
}

func (s *Server) listRegions(ctx context.Context, id postern.Identity, in *regionsInput) (*body[client.Page[client.Offer]], error) {
	home := in.Region
	if in.Tenant != "" {
		err := s.Store.View(ctx, func(tx *store.Tx) error {
			t, err := s.seenTenant(tx, id, in.Tenant)
			home = t.Region
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	offers, err := s.Platform.Catalogue(home)
	if err != nil {
		return nil, err
	}
	out := &body[client.Page[client.Offer]]{}
	for _, o := range offers {
		out.Body.Items = append(out.Body.Items, client.Offer{
			Segment: o.Segment.ID, Region: o.Region.ID, Title: o.Region.Title,
			ServiceName: o.Region.ServiceName, AvailabilityZones: o.Region.AvailabilityZones, Home: o.Home,
		})
	}
	return out, nil
}
