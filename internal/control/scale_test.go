package control_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/nodelink"
	"github.com/postern-net/postern/internal/store"
)

// BenchmarkRevocation is the time from an endpoint's removal in the store to the
// message that tells nodes, on a platform of 100,000 tenants and an endpoint for
// every five of them; of another size by POSTERN_TENANTS.
func BenchmarkRevocation(b *testing.B) {
	tenants := 100_000
	if s := os.Getenv("POSTERN_TENANTS"); s != "" {
		var err error
		if tenants, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	p := &postern.Platform{
		Name: "example", Domains: postern.Domains{Hosted: "hosted.example.com", PrivateLink: "privatelink.example.com"},
		Segments: []postern.Segment{{ID: "na", Regions: []postern.Region{{
			ID: virginia, ServiceName: "com.amazonaws.vpce." + virginia + ".vpce-svc-0a1b2c3d4e5f60718", AvailabilityZones: []string{"use1-az1"},
			Backends: map[string][]netip.AddrPort{"govern": {netip.MustParseAddrPort("10.0.0.1:443")}},
		}}}},
		Apps: []postern.App{{ID: "govern", Port: 443}},
	}
	s, err := store.Open(b.Context(), filepath.Join(b.TempDir(), "postern.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var endpoints []postern.Endpoint
	now := time.Now()
	if err := s.Update(b.Context(), func(tx *store.Tx) error {
		for i := range tenants {
			organization := fmt.Sprintf("organization-%d", i/5)
			var e1, e2, e3 error
			if i%5 == 0 {
				owner := fmt.Sprintf("%012d", i)
				_, e1 = tx.CreateOrganization(postern.Organization{ID: organization, CreatedAt: now})
				_, e2 = tx.ProveAccount(postern.Account{ID: owner, Organization: organization, ProvenAt: now})
				var e postern.Endpoint
				e, e3 = tx.CreateEndpoint(postern.Endpoint{
					ID: fmt.Sprintf("vpce-%017x", i), Organization: organization, ServiceRegion: virginia, Owner: owner,
					State: postern.EndpointReady, Approval: postern.Approval{By: "policy", At: now}, CreatedAt: now,
				})
				endpoints = append(endpoints, e)
			}
			_, e4 := tx.CreateTenant(postern.Tenant{Name: fmt.Sprintf("tenant-%d", i), Organization: organization, Region: virginia, CreatedAt: now})
			if err := errors.Join(e1, e2, e3, e4); err != nil {
				return err
			}
		}
		return tx.AppendEvent(postern.Event{At: now, Actor: "test", Action: "test"})
	}); err != nil {
		b.Fatal(err)
	}
	hub := nodelink.NewHub()
	var last postern.Routes
	l := control.New(control.Config{Platform: p, Store: s, Resync: time.Minute, Settle: time.Second, Now: time.Now, Publish: func(r postern.Routes) {
		hub.Publish(r)
		last = r
	}})
	if err := l.PublishStored(b.Context()); err != nil {
		b.Fatal(err)
	}
	if len(last.Hosts) != tenants || len(last.Endpoints) != len(endpoints) {
		b.Fatalf("%d hosts and %d endpoints of %d and %d", len(last.Hosts), len(last.Endpoints), tenants, len(endpoints))
	}
	for b.Loop() {
		e := endpoints[0]
		endpoints = endpoints[1:]
		e.Removing, e.State = true, postern.EndpointRemoving
		if err := s.Update(b.Context(), func(tx *store.Tx) error {
			_, err := tx.UpdateEndpoint(e)
			return errors.Join(err, tx.AppendEvent(postern.Event{At: now, Actor: "test", Action: "endpoint.removing"}))
		}); err != nil {
			b.Fatal(err)
		}
		if err := l.PublishStored(b.Context()); err != nil {
			b.Fatal(err)
		}
		if _, ok := last.Endpoints[e.ID]; ok {
			b.Fatalf("%s is still in the table", e.ID)
		}
	}
}
