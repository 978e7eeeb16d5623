package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
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
// does not. Through every endpoint, one in a second region among them, publicly
// and by the SCIM doors, every server name with every Host asks for every
// organization's data, over real connections: new ones for each request, and
// ones that are kept, of HTTP/1.1 and HTTP/2. Nobody gets another's.
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
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	doors := map[string]Connected{}
	if err := s.Connect(ctx, func(c Connected) { doors[c.Organization] = c }); err != nil {
		t.Fatal(err)
	}
	st := s.newStory()
	app, _ := p.App("request")
	if err := st.secondRegion(ctx); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	failures := make(chan error, 2)
	for _, organization := range []string{"example-corp", "globex"} {
		both.Go(func() { failures <- st.goesPrivate(ctx, doors[organization], app) })
	}
	both.Wait()
	if err := errors.Join(<-failures, <-failures); err != nil {
		t.Fatal(err)
	}
	if err := st.opensSCIM(ctx, app); err != nil {
		t.Fatal(err)
	}
	m := matrix{story: st, app: app, doors: doors, on: []string{"example-corp", "globex"}}
	modes := map[string]int{"a connection each": 16, "HTTP/1.1, kept": 16, "HTTP/2": 16}
	if testing.Short() {
		modes = map[string]int{"HTTP/2": 16} // thousands of handshakes take the race detector minutes
	}
	for mode, answered := range modes {
		m.mode, m.asked, m.answered = mode, 0, 0
		m.play(ctx, t)
		// Two ways from the internet have two first pages each, and three endpoints
		// two, with their organization's data.
		if m.asked < 900 || m.answered != answered {
			t.Errorf("%s: %d requests, %d of them answered by the app", mode, m.asked, m.answered)
		}
	}
}

// secondRegion gives Example Corp an endpoint in another region, for all of its
// tenants.
func (st *story) secondRegion(ctx context.Context) (err error) {
	if st.catalogue, err = st.admin.Regions(ctx, "", ""); err != nil {
		return err
	}
	v := st.vpc("example-corp-isolated")
	if err := st.create(ctx, st.example, "second", "example-corp-isolated", st.offer(v.Region)); err != nil {
		return err
	}
	if err := st.claimReady(ctx, st.example, "second"); err != nil {
		return err
	}
	return st.door(ctx, st.example, "second", "example-corp-isolated", v.Region)
}

// opensSCIM opens a tenant's SCIM ingress, and waits until that and the second
// endpoint's app are known everywhere.
func (st *story) opensSCIM(ctx context.Context, app postern.App) error {
	if _, err := st.example.api.SetSCIMIngress(ctx, "example", client.SCIMIngressSpec{Enabled: true}); err != nil {
		return err
	}
	return until(ctx, func() error {
		c, err := st.visitor("internet").handshake(ctx, netip.AddrPortFrom(st.places.scim["us-east-1"], st.httpsPort), st.platform.SCIMHost("example"))
		if err != nil {
			return err
		}
		_ = c.Close()
		return st.everyNode(func() error {
			_, err := st.askApp(ctx, "example-corp-isolated", st.doors["second"], app.Hosts[0], app.Hosts[0], "")
			return err
		})
	})
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
	mode            string
	asked, answered int
}

// line is how a way and a server name are asked: by a connection for each request,
// or by one for all.
type line struct {
	ask   func(ctx context.Context, host, path string) (reply, error)
	dials int
	end   func()
}

func (m *matrix) open(w way, sni string) *line {
	l, at := &line{end: func() {}}, netip.AddrPortFrom(w.at, m.httpsPort)
	if m.mode == "a connection each" {
		l.ask = func(ctx context.Context, host, path string) (reply, error) {
			return m.visitor(w.network).get(ctx, at, sni, host+path)
		}
		return l
	}
	v, major := m.visitor(w.network), 1
	if m.mode == "HTTP/2" {
		v.protocols, major = []string{"h2"}, 2
	}
	transport := &http.Transport{
		ForceAttemptHTTP2: major == 2, MaxConnsPerHost: 1,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			l.dials++ // one after the other
			return v.handshake(ctx, at, sni)
		},
	}
	l.end = transport.CloseIdleConnections
	l.ask = func(ctx context.Context, host, path string) (reply, error) {
		ctx, cancel := context.WithTimeout(ctx, visitTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+sni+path+"/", nil)
		if err != nil {
			return reply{}, err
		}
		req.Host = host
		r, err := ask(&http.Client{Transport: transport}, req)
		if err == nil && r.major != major {
			err = fmt.Errorf("answered by HTTP/%d", r.major)
		}
		return r, err
	}
	return l
}

// way is how somebody comes: through an organization's endpoint, or publicly.
type way struct {
	organization string // "": publicly
	network      string
	at           netip.Addr
	scim         string // the server name that a SCIM door serves; "-": none; "": it is another door
}

func (m *matrix) play(ctx context.Context, t *testing.T) {
	t.Helper()
	tenants := map[string]string{"example": "example-corp", "example-dev": "example-corp", "globex": "globex", "initech": "initech"}
	hosts := []string{"nobody.example", m.platform.SCIMHost("example"), m.platform.Host("nobody")}
	owner := map[string]string{}
	for tenant, organization := range tenants {
		hosts = append(hosts, m.platform.Host(tenant))
		owner[m.platform.Host(tenant)] = organization
	}
	hosts = append(hosts, m.app.Hosts...)
	slices.Sort(hosts)
	ways := []way{
		{network: "internet", at: m.places.public["us-east-1"]},
		{network: "internet", at: m.places.public["eu-central-1"]},
		{network: "internet", at: m.places.scim["us-east-1"], scim: m.platform.SCIMHost("example")},
		{network: "internet", at: m.places.scim["us-west-2"], scim: "-"},
		{organization: "example-corp", network: "example-corp-isolated", at: m.story.doors["second"]},
	}
	for _, organization := range []string{"example-corp", "globex", "initech"} {
		ways = append(ways, way{organization: organization, network: m.doors[organization].Network, at: m.doors[organization].Address})
	}
	for _, w := range ways {
		for _, sni := range hosts {
			m.askAll(ctx, t, w, owner, sni, hosts)
		}
	}
}

// askAll asks one way with one server name for everything.
func (m *matrix) askAll(ctx context.Context, t *testing.T, w way, owner map[string]string, sni string, hosts []string) {
	t.Helper()
	l := m.open(w, sni)
	defer l.end()
	for _, host := range hosts {
		for _, data := range []string{"", "example-corp", "globex", "initech", "nobody"} {
			path := ""
			if data != "" {
				path = "/organizations/" + data
			}
			r, err := l.ask(ctx, host, path)
			m.asked++
			if wrong := m.judge(w, owner, sni, host, data, r, err); wrong != "" {
				t.Errorf("%s: through %v (%q) with server name %s, Host %s, for the data of %q: %s; got status %d, %+v, %v", m.mode, w.at, w.organization, sni, host, data, wrong, r.status, r.app, err)
			}
			if errors.Is(err, errAlert) {
				break // what is asked for is inside of TLS, and was not seen
			}
		}
	}
	// Refused by an alert, each Host is another attempt; the SCIM ingress ends a
	// connection of HTTP/1.1 with a refusal.
	if m.mode != "a connection each" && l.dials != 1 && l.dials != len(hosts) && w.scim == "" {
		t.Errorf("%s: through %v with server name %s: %d connections", m.mode, w.at, sni, l.dials)
	}
}

// judge says what is wrong with an answer; "": nothing.
func (m *matrix) judge(w way, owner map[string]string, sni, host, data string, r reply, err error) string {
	shared, of := slices.Contains(m.app.Hosts, sni), owner[sni]
	reached := of != "" && of == w.organization || shared && slices.Contains(m.on, w.organization) // privately
	if w.organization == "" {
		reached = shared || of == "initech" || sni == m.platform.Host("example-dev") // the others' tenants are private
	}
	if w.scim != "" {
		reached = sni == w.scim
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
	case w.scim != "":
		if r.status != 404 || r.app != (appAnswer{}) {
			return "want 404"
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
