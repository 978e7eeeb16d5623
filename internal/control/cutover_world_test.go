package control_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

const (
	exampleHost = "example.hosted.example.com"
	exampleLink = "example.privatelink.example.com"
	exampleVPCE = "vpce-0000000000000000a"
	exampleAcct = "111111111111"
)

// steady is a cloud in which one endpoint is connected, or gone.
type steady struct {
	control.Cloud
	gone bool
}

func (c *steady) Connections(_ context.Context, svc postern.ServiceRef) ([]postern.Connection, error) {
	state := postern.ConnectionAvailable
	if c.gone {
		state = postern.ConnectionDeleted
	}
	return []postern.Connection{{EndpointID: exampleVPCE, ServiceRegion: svc.Region, Owner: exampleAcct, State: state}}, nil
}

func (c *steady) Principals(context.Context, postern.ServiceRef) ([]string, error) {
	return []string{postern.AccountPrincipal(virginia, exampleAcct)}, nil
}

// servers are the zones' servers: they answer what was published last, unless
// they lag.
type servers struct {
	mu    sync.Mutex
	zones postern.Zones
	lag   bool
	next  postern.Zones
}

func (s *servers) publish(z postern.Zones) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next = z; !s.lag {
		s.zones = z
	}
}

// hold makes the servers lag, or catch up.
func (s *servers) hold(lag bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lag = lag; !lag {
		s.zones = s.next
	}
}

func (s *servers) answer(name string) []postern.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	apex, _ := s.zones.ZoneOf(name)
	return s.zones.Zones[apex].Records[name]
}

func (s *servers) Differs(_ context.Context, name string, wanted []postern.Record) (string, bool) {
	if got := s.answer(name); !slices.Equal(got, wanted) {
		return fmt.Sprintf("it says %v for %s, not %v", got, name, wanted), true
	}
	return "", false
}

// scene is a tenant with a ready endpoint, two nodes and the zones' servers,
// over a real store.
type scene struct {
	*world
	cloud   *steady
	servers *servers
	// obeys are the nodes that are linked: they apply what is published, and
	// report it with each minute that passes.
	obeys []string
	seq   int64
	// step is called at every point where the loop touches the world.
	step func(point string)
}

func newScene(t *testing.T) *scene {
	t.Helper()
	w := &world{t: t, now: time.Now().UTC().Truncate(time.Second), log: &logBuffer{}}
	w.platform = &postern.Platform{
		Name: "example", Domains: postern.Domains{Hosted: "hosted.example.com", PrivateLink: "privatelink.example.com"},
		Apps: []postern.App{{ID: "govern", Port: 443}},
		Segments: []postern.Segment{{ID: "na", Regions: []postern.Region{{
			ID: virginia, ServiceName: "com.amazonaws.vpce.us-east-1.vpce-svc-0000000000000000a", AvailabilityZones: []string{"use1-az1"},
			Backends:      map[string][]netip.AddrPort{"govern": {netip.MustParseAddrPort("10.0.0.1:443")}},
			PublicIngress: []netip.Addr{netip.MustParseAddr("192.0.2.10")},
		}}}},
	}
	if err := w.platform.Validate(); err != nil {
		t.Fatal(err)
	}
	w.openStore()
	s := &scene{world: w, cloud: &steady{}, servers: &servers{}, obeys: []string{"n1", "n2"}, step: func(string) {}}
	w.update(func(tx *store.Tx) error {
		_, e1 := tx.CreateOrganization(postern.Organization{ID: "example-corp", CreatedAt: w.clock()})
		_, e2 := tx.CreateTenant(postern.Tenant{Name: "example", Organization: "example-corp", Region: virginia})
		_, e3 := tx.ProveAccount(postern.Account{ID: exampleAcct, Organization: "example-corp", ProvenAt: w.clock()})
		_, e4 := tx.CreateEndpoint(postern.Endpoint{
			ID: exampleVPCE, Organization: "example-corp", ServiceRegion: virginia, Owner: exampleAcct, State: postern.EndpointReady,
			Approval: postern.Approval{By: "ada", At: w.clock()}, CreatedAt: w.clock(),
		})
		for _, id := range []string{"n1", "n2"} {
			_, _, err := tx.UpsertNode(postern.Node{ID: id, Regions: []string{virginia}, BootID: "boot-of-" + id, LastSeen: w.clock()})
			e4 = errors.Join(e4, err)
		}
		return errors.Join(e1, e2, e3, e4)
	})
	return s
}

func (s *scene) Differs(ctx context.Context, name string, wanted []postern.Record) (string, bool) {
	s.step("ask")
	return s.servers.Differs(ctx, name, wanted)
}

// config has the rules that operators get who set none.
func (s *scene) config() control.Config {
	c := s.world.config()
	c.Cloud, c.Names = s.cloud, s
	c.Rules.Cutover = plan.CutoverRules{
		TTL: time.Minute, Observe: 24 * time.Hour, Window: time.Hour, Clients: 3, Drain: 5 * time.Minute, NodeSilence: 30 * time.Second,
	}
	c.Publish = func(r postern.Routes) { s.publish(r); s.step("routes") }
	c.PublishZones = func(z postern.Zones) { s.servers.publish(z); s.step("zones") }
	return c
}

// loop is a new process.
func (s *scene) loop() *control.Loop { return control.New(s.config()) }

// start stores a cutover as the API does.
func (s *scene) start() {
	s.t.Helper()
	s.update(func(tx *store.Tx) error {
		_, err := tx.CreateCutover(postern.Cutover{
			ID: "cut_1", Tenant: "example", Organization: "example-corp", Phase: postern.CutoverRehearsing,
			StartedBy: "ada", StartedAt: s.clock(),
		})
		return errors.Join(err, tx.AppendEvent(postern.Event{At: s.clock(), Actor: "ada", Action: "cutover.started", Subject: "cut_1"}))
	})
}

func (s *scene) cutover() (c postern.Cutover) {
	s.t.Helper()
	s.view(func(tx *store.Tx) (err error) { c, err = tx.FindCutover("cut_1"); return err })
	return c
}

// comes lets clients come, as a node reports it.
func (s *scene) comes(as ...postern.ArrivalCount) {
	s.t.Helper()
	for i := range as {
		as[i].Region, as[i].ServerName, as[i].Count, as[i].FirstSeen, as[i].LastSeen = virginia, exampleHost, 1, s.clock(), s.clock()
	}
	s.update(func(tx *store.Tx) error { return tx.AddArrivals(as) })
}

var (
	privately = postern.ArrivalCount{Listener: "private", EndpointID: exampleVPCE, Organization: "example-corp"}
	publicly  = postern.ArrivalCount{Listener: "public", Source: "198.51.100.7", Organization: "example-corp"}
)

// pass lets time pass, in which the nodes that are linked report.
func (s *scene) pass(d time.Duration) {
	s.t.Helper()
	s.advance(d)
	s.seq++
	s.update(func(tx *store.Tx) error {
		for _, id := range s.obeys {
			r := postern.NodeReport{Node: id, BootID: "boot-of-" + id, Seq: s.seq, AppliedRevision: s.routes().Revision}
			if _, err := tx.ReportNode(r, s.clock()); err != nil {
				return err
			}
		}
		return nil
	})
}

// rounds lets a loop go round n times, a minute apart.
func (s *scene) rounds(l *control.Loop, n int) {
	s.t.Helper()
	for range n {
		s.round(l, time.Minute)
	}
}

func (s *scene) round(l *control.Loop, then time.Duration) {
	s.t.Helper()
	if _, err := l.Round(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.pass(then)
}

// rehearsed brings a cutover to where it enforces with the next round.
func (s *scene) rehearsed(l *control.Loop) {
	s.t.Helper()
	s.rounds(l, 1)
	s.start()
	s.rounds(l, 3) // the fallback, what leads to it, and that it is published
	s.comes(privately)
	s.rounds(l, 1)
	if c := s.cutover(); c.Phase != postern.CutoverRehearsing || c.PublishedAt.IsZero() {
		s.t.Fatalf("%+v", c)
	}
	s.pass(23*time.Hour + 59*time.Minute)
}

// wants checks how far it is and what it waits for.
func (s *scene) wants(phase postern.CutoverPhase, waits ...postern.Reason) {
	s.t.Helper()
	c := s.cutover()
	var got []postern.Reason
	for _, x := range c.Conditions {
		if x.Status != postern.True {
			got = append(got, x.Reason)
		}
	}
	if c.Phase != phase || !slices.Equal(got, waits) {
		s.t.Fatalf("%s, waits for %v; want %s, %v: %+v", c.Phase, got, phase, waits, c.Conditions)
	}
}

// public tells whether clients are let in publicly, and what the zones say.
func (s *scene) public() string {
	kind := func(name string) string {
		rs := s.servers.answer(name)
		if len(rs) == 0 {
			return "-"
		}
		return rs[0].Type
	}
	return fmt.Sprintf("%v %s %s", s.routes().Hosts[exampleHost].Public, kind(exampleHost), kind(exampleLink))
}

// force puts the cutover into a phase.
func (s *scene) force(p postern.CutoverPhase) {
	s.t.Helper()
	s.update(func(tx *store.Tx) error {
		c, err := tx.FindCutover("cut_1")
		if err != nil {
			return err
		}
		c.Phase, c.RedirectedAt = p, c.StartedAt
		if p.Enforced() {
			c.EnforcedAt, c.DrainUntil = s.clock(), s.clock().Add(5*time.Minute)
		}
		_, err = tx.UpdateCutover(c)
		return err
	})
}
