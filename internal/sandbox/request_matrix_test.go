package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/platformfile"
	"github.com/postern-net/postern/internal/serve"
)

// TestRequestMatrix: two organizations reach the Request app privately, a third
// does not. Through every endpoint and publicly, every server name with every
// Host asks for every organization's data, over real connections: nobody gets
// another's.
func TestRequestMatrix(t *testing.T) {
	t.Parallel()
	p, err := platformfile.Load("immuta")
	if err != nil {
		t.Fatal(err)
	}
	var anyPort uint16
	s, err := Start(t.Context(), Options{
		StateDir: t.TempDir(), Platform: p, HTTPSPort: &anyPort, DNSPort: &anyPort, Logger: slog.New(slog.DiscardHandler),
		Cutover: &serve.Cutover{Observe: 100 * time.Millisecond, Window: time.Minute, Clients: 3, Drain: 100 * time.Millisecond, NodeSilence: 30 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	doors := map[string]Connected{}
	if err := s.Connect(ctx, func(c Connected) { doors[c.Organization] = c }); err != nil {
		t.Fatal(err)
	}
	st := s.newStory()
	app, _ := p.App("request")
	var both sync.WaitGroup
	failures := make(chan error, 2)
	for _, organization := range []string{"example-corp", "globex"} {
		both.Go(func() { failures <- st.goesPrivate(ctx, doors[organization], app) })
	}
	both.Wait()
	if err := errors.Join(<-failures, <-failures); err != nil {
		t.Fatal(err)
	}
	m := matrix{story: st, app: app, doors: doors, on: []string{"example-corp", "globex"}}
	m.play(ctx, t)
	// Two ways from the internet have two first pages each, and two organizations
	// two, with their data.
	if m.asked < 500 || m.answered != 12 {
		t.Errorf("%d requests, %d of them answered by the app", m.asked, m.answered)
	}
}

// goesPrivate cuts an organization's tenant over and turns the app on.
func (st *story) goesPrivate(ctx context.Context, c Connected, app postern.App) error {
	engineer, host := st.person(c.Organization), st.platform.PrivateLinkHost(c.Tenant)
	if err := engineer.createCNAME(ctx, st.vpc(c.Network), st.platform.Domains.PrivateLink, host, c.EndpointHost); err != nil {
		return err
	}
	var k client.Cutover
	err := until(ctx, func() (err error) {
		k, err = engineer.api.StartCutover(ctx, client.CutoverRequest{Tenant: c.Tenant, Acknowledged: []string{"Integrations", "PathUnproven", "BackendNotIsolated", "PublicClients"}})
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c.Tenant, err)
	}
	err = until(ctx, func() error {
		_, _ = st.standard(ctx, c.Network, c.Tenant) // the traffic that it waits for
		now, err := engineer.api.Cutover(ctx, k.ID)
		if err == nil && now.Status.State == "rolled-back" {
			return fmt.Errorf("%w: rolled back: %s", errFinal, now.Status.EndedWhy)
		}
		if err == nil && now.Status.State != "complete" {
			err = fmt.Errorf("the cutover is %s: %s", now.Status.State, cutoverConditions(now))
		}
		return err
	})
	if err == nil {
		_, err = engineer.api.SetApp(ctx, c.Organization, app.ID, client.AppAccessSpec{Enabled: true})
	}
	if err == nil {
		err = until(ctx, func() error { // every node has heard of it
			return st.everyNode(func() error {
				_, err := st.askApp(ctx, c.Network, c.Address, app.Hosts[0], app.Hosts[0], "")
				return err
			})
		})
	}
	return err
}

// matrix asks every way for everything.
type matrix struct {
	*story
	app             postern.App
	doors           map[string]Connected // of each organization
	on              []string             // organizations that reach the app privately
	asked, answered int
}

// way is how somebody comes: through an organization's endpoint, or publicly.
type way struct {
	organization string // "": publicly
	network      string
	at           netip.Addr
}

func (m *matrix) play(ctx context.Context, t *testing.T) {
	t.Helper()
	tenants := map[string]string{"example": "example-corp", "globex": "globex", "initech": "initech"}
	hosts := []string{"nobody.example", m.platform.SCIMHost("example"), m.platform.Host("nobody")}
	owner := map[string]string{}
	for tenant, organization := range tenants {
		hosts = append(hosts, m.platform.Host(tenant))
		owner[m.platform.Host(tenant)] = organization
	}
	hosts = append(hosts, m.app.Hosts...)
	slices.Sort(hosts)
	ways := []way{{"", "internet", m.places.public["us-east-1"]}, {"", "internet", m.places.public["eu-central-1"]}}
	for _, organization := range []string{"example-corp", "globex", "initech"} {
		ways = append(ways, way{organization, m.doors[organization].Network, m.doors[organization].Address})
	}
	for _, w := range ways {
		for _, sni := range hosts {
			for _, host := range hosts {
				for _, data := range []string{"", "example-corp", "globex", "initech", "nobody"} {
					r, err := m.askApp(ctx, w.network, w.at, sni, host, data)
					m.asked++
					if wrong := m.judge(w, owner, sni, host, data, r, err); wrong != "" {
						t.Errorf("through %q with server name %s, Host %s, for the data of %q: %s; got status %d, %+v, %v", w.organization, sni, host, data, wrong, r.status, r.app, err)
					}
					if errors.Is(err, errAlert) {
						break // what is asked for is inside of TLS, and was not seen
					}
				}
			}
		}
	}
}

// judge says what is wrong with an answer; "": nothing.
func (m *matrix) judge(w way, owner map[string]string, sni, host, data string, r reply, err error) string {
	shared, of := slices.Contains(m.app.Hosts, sni), owner[sni]
	reached := of != "" && of == w.organization || shared && slices.Contains(m.on, w.organization) // privately
	if w.organization == "" {
		reached = shared || of == "initech" // the others' tenants are private
	}
	switch {
	case !reached:
		if !errors.Is(err, errAlert) {
			return "want an alert"
		}
		return ""
	case err != nil:
		return "want an answer"
	case host != sni:
		if r.status != 421 || r.app != (appAnswer{}) {
			return "want 421"
		}
		return ""
	case !shared:
		if r.status != 200 || r.app.Organization != of || r.app.Tenant+"." != strings.TrimSuffix(sni, m.platform.Domains.Hosted) {
			return "want the tenant's app"
		}
		return ""
	case data == "":
		m.answered++
		if r.status != 200 || r.app.Organization != w.organization || r.app.Data != "" {
			return "want the first page"
		}
		return ""
	case data == w.organization:
		m.answered++
		if r.status != 200 || r.app.Data != "the requests of "+w.organization {
			return "want its own data"
		}
		return ""
	}
	if r.status != 403 || r.app != (appAnswer{}) {
		return "want 403 and no data"
	}
	return ""
}
