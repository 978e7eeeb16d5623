package api_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/api"
	"github.com/postern-net/postern/internal/nodelink"
	"github.com/postern-net/postern/internal/store"
)

const (
	registrations = "/v1/nodelink/registrations"
	reports       = "/v1/nodelink/reports"
	routes        = "/v1/nodelink/routes?boot_id="
)

func registration(boot string, applied int64) client.NodeRegistration {
	return client.NodeRegistration{ID: "node", Regions: []string{virginia}, Version: "v1", BootID: boot, AppliedRevision: applied}
}

// obeys is the registration of a node that has the current table.
func (w *world) obeys(boot string) client.NodeRegistration {
	w.t.Helper()
	current := w.current()
	r := registration(boot, current.Revision)
	r.AppliedSum = nodelink.Sum(current)
	return r
}

// current is the table that was made last.
func (w *world) current() (r postern.Routes) {
	w.t.Helper()
	w.update(func(tx *store.Tx) (err error) { r, err = tx.FindRoutes(); return err })
	return r
}

func (w *world) arrival(n int64) client.Arrival {
	return client.Arrival{
		Region: virginia, Listener: "private", VPCEndpointID: "vpce-0123456789abcdef0", ServerName: "example.hosted.example.com",
		Reason: "not_authorized", Organization: "globex", Count: n, FirstSeen: w.clock(), LastSeen: w.clock(),
	}
}

func (w *world) nodeState() client.Node {
	w.t.Helper()
	return must[client.Node](w, "operator", "GET", "/v1/nodes/node", nil)
}

func TestNodeRegisters(t *testing.T) {
	w := newWorld(t)
	got := must[client.Node](w, "node", "POST", registrations, registration("boot-one", 0))
	current := got.Status.CurrentRevision
	want := client.Node{ID: "node", ResourceVersion: "1", Status: client.NodeStatus{
		State: "behind", Regions: []string{virginia}, Version: "v1", BootID: "boot-one", CurrentRevision: current,
		RegisteredAt: w.clock(), LastSeen: w.clock(),
	}}
	if diff := cmp.Diff(want, got); diff != "" || current == 0 {
		t.Errorf("current revision %d:\n%s", current, diff)
	}
	must[client.Node](w, "node", "POST", registrations, w.obeys("boot-one"))
	// What a newer node says besides is for newer control planes.
	must[client.Node](w, "node", "POST", registrations, fmt.Sprintf(
		`{"id":"node","regions":["us-east-1"],"version":"v1","boot_id":"boot-one","applied_revision":%d,"applied_sum":%q,"mood":"good","load":{"cpu":1}}`, current, nodelink.Sum(w.current())))
	if n := w.nodeState(); n.Status.State != "ready" {
		t.Errorf("up to date, it is %s", n.Status.State)
	}
	must[client.Node](w, "node", "POST", registrations, w.obeys("boot-two"))
	if got := count(w.events(), "node.registered"); got != 2 {
		t.Errorf("%d events of two processes", got)
	}
	w.advance(postern.NodeSilentAfter + time.Second)
	if n := w.nodeState(); n.Status.State != "silent" {
		t.Errorf("not heard of, it is %s", n.Status.State)
	}

	for says, change := range map[string]func(*client.NodeRegistration){
		"regions[0]: not a region of the platform": func(r *client.NodeRegistration) { r.Regions = []string{"eu-north-1"} },
		"regions: missing":                         func(r *client.NodeRegistration) { r.Regions = []string{} },
	} {
		r := registration("boot-one", 1)
		change(&r)
		if p := w.refused(http.StatusBadRequest, "invalid", "node", "POST", registrations, r); !strings.Contains(p.Detail, says) {
			t.Errorf("got %s, want %s", p.Detail, says)
		}
	}
	other := registration("boot-one", 1)
	other.ID = "another"
	w.refused(http.StatusForbidden, "forbidden", "node", "POST", registrations, other)
}

// A node that obeys what this control plane did not make, as after a restore of
// its database, is led on: the next table is newer than the node's.
func TestRoutesAreNumberedOnFromAStrayNode(t *testing.T) {
	w := newWorld(t)
	current := must[client.Node](w, "node", "POST", registrations, registration("boot-one", 0)).Status.CurrentRevision
	if n := must[client.Node](w, "node", "POST", registrations, w.obeys("boot-one")); n.Status.CurrentRevision != current || n.Status.State != "ready" {
		t.Fatalf("the same table: %+v", n.Status)
	}
	other := registration("boot-one", current)
	other.AppliedSum = strings.Repeat("0", 64)
	w.update(func(tx *store.Tx) error {
		_, err := tx.CreateCutover(postern.Cutover{ID: "cut_1", Tenant: "example", Organization: "example-corp", Phase: postern.CutoverEnforcing, EnforceRevision: 1})
		return err
	})
	n := must[client.Node](w, "node", "POST", registrations, other)
	if n.Status.CurrentRevision != current+1 || n.Status.State != "behind" || n.Status.AppliedRevision != 0 {
		t.Errorf("another table of the same revision: %+v", n.Status)
	}
	// What it obeys has a number that a cutover waits for, and is not that.
	w.update(func(tx *store.Tx) error {
		c, err := tx.FindCutover("cut_1")
		if c.EnforceRevision != 0 {
			t.Errorf("the cutover counts by the old numbers: %d", c.EnforceRevision)
		}
		return err
	})
	n = must[client.Node](w, "node", "POST", registrations, registration("boot-one", current+500))
	if n.Status.CurrentRevision != current+501 || n.Status.State != "behind" || n.Status.AppliedRevision != 0 {
		t.Errorf("ahead: %+v", n.Status)
	}
	// It goes on to report what it has, as one does whose disk is full.
	must[struct{}](w, "node", "POST", reports, client.NodeReport{ID: "node", BootID: "boot-one", Seq: 1, AppliedRevision: current + 500, AppliedSum: strings.Repeat("0", 64)})
	if n := w.nodeState(); n.Status.AppliedRevision != 0 || n.Status.CurrentRevision != current+501 {
		t.Errorf("a foreign table counts as obedience: %+v", n.Status)
	}
	behind := registration("boot-one", current)
	behind.AppliedSum = strings.Repeat("0", 64)
	if n := must[client.Node](w, "node", "POST", registrations, behind); n.Status.CurrentRevision != current+501 || n.Status.AppliedRevision != 0 {
		t.Errorf("behind: %+v", n.Status)
	}
	if got := count(w.events(), "routes.led"); got != 2 {
		t.Errorf("%d events, want 2", got)
	}
	w.refused(http.StatusBadRequest, "invalid", "node", "POST", registrations, registration("boot-one", 1<<40))
}

// A node's clock is wrong, by a day, or was set back between two sightings.
func TestReportsArePutRightByTheClock(t *testing.T) {
	w := newWorld(t)
	must[client.Node](w, "node", "POST", registrations, registration("boot-one", 0))
	for i, tc := range []struct {
		name              string
		off               time.Duration // the node's clock
		first, last       time.Duration // by it, from its now
		wantFirst, wantAt time.Duration // by ours
		unsaid            bool          // it does not tell its clock
	}{
		{name: "ahead", off: 24 * time.Hour, first: -time.Minute, last: -time.Second, wantFirst: -time.Minute, wantAt: -time.Second},
		{name: "behind", off: -24 * time.Hour, first: -time.Minute, last: 0, wantFirst: -time.Minute, wantAt: 0},
		{name: "set back meanwhile", first: time.Hour, last: -time.Second, wantFirst: -time.Second, wantAt: -time.Second},
		{name: "ahead and unsaid", off: time.Hour, first: -2 * time.Hour, last: 0, wantFirst: -time.Hour, wantAt: 0, unsaid: true},
	} {
		node := w.clock().Add(tc.off)
		a := w.arrival(1)
		a.ServerName = fmt.Sprint("t", i, ".hosted.example.com")
		a.FirstSeen, a.LastSeen = node.Add(tc.first), node.Add(tc.last)
		r := client.NodeReport{ID: "node", BootID: "boot-one", Seq: int64(i + 1), SentAt: node, Arrivals: []client.Arrival{a}}
		if tc.unsaid {
			r.SentAt = time.Time{}
		}
		must[struct{}](w, "node", "POST", reports, r)
		found := false
		for _, d := range must[client.Page[client.Denial]](w, "globex", "GET", "/v1/denials", nil).Items {
			if d.ServerName != a.ServerName {
				continue
			}
			found = true
			if !d.FirstSeen.Equal(w.clock().Add(tc.wantFirst)) || !d.LastSeen.Equal(w.clock().Add(tc.wantAt)) {
				t.Errorf("%s: first %s and last %s from now", tc.name, d.FirstSeen.Sub(w.clock()), d.LastSeen.Sub(w.clock()))
			}
		}
		if !found {
			t.Errorf("%s: it is not there", tc.name)
		}
	}
}

func count(list []string, what string) (n int) {
	for _, v := range list {
		if v == what {
			n++
		}
	}
	return n
}

func TestNodeReports(t *testing.T) {
	w := newWorld(t)
	current := w.current()
	report := client.NodeReport{
		ID: "node", BootID: "boot-one", Seq: 1, AppliedRevision: current.Revision, AppliedSum: nodelink.Sum(current), Arrivals: []client.Arrival{w.arrival(3)},
	}
	w.refused(http.StatusNotFound, "not_found", "node", "POST", reports, report)
	must[client.Node](w, "node", "POST", registrations, registration("boot-one", 0))
	before := len(w.events())
	seen := func() (n int64) {
		for _, d := range must[client.Page[client.Denial]](w, "globex", "GET", "/v1/denials", nil).Items {
			n += d.Count
		}
		return n
	}
	for range 3 { // its answer was lost twice
		must[struct{}](w, "node", "POST", reports, report)
	}
	if got := seen(); got != 3 {
		t.Errorf("a report that came three times counts %d, want 3", got)
	}
	must[struct{}](w, "node", "POST", reports, fmt.Sprintf(`{"id":"node","boot_id":"boot-one","seq":2,"applied_revision":%d,"applied_sum":%q,"load":0.5,"arrivals":[
		{"region":"us-east-1","listener":"private","reason":"not_tls","organization":"globex","count":4,"shoe_size":46,
		"first_seen":"2026-11-22T10:00:00Z","last_seen":"2026-11-22T10:00:00Z"}]}`, current.Revision, nodelink.Sum(current)))
	if got := seen(); got != 7 {
		t.Errorf("%d counted, want 7", got)
	}
	if n := w.nodeState(); n.Status.AppliedRevision != current.Revision {
		t.Errorf("%+v", n)
	}
	if got := w.events(); len(got) != before {
		t.Errorf("reports left events: %v", got[before:])
	}

	report.Seq = 3
	for says, change := range map[string]func(*client.NodeReport){
		"not a region that the node registered for": func(r *client.NodeReport) { r.Arrivals[0].Region = oregon },
		"not a VPC endpoint ID":                     func(r *client.NodeReport) { r.Arrivals[0].VPCEndpointID = "vpce-x" },
		"no such denial":                            func(r *client.NodeReport) { r.Arrivals[0].Reason = "mood" },
	} {
		r := report
		r.Arrivals = []client.Arrival{w.arrival(1)}
		change(&r)
		if p := w.refused(http.StatusBadRequest, "invalid", "node", "POST", reports, r); !strings.Contains(p.Detail, says) {
			t.Errorf("got %s, want %s", p.Detail, says)
		}
	}
	many := report
	many.Arrivals = slices.Repeat([]client.Arrival{w.arrival(1)}, 2001)
	if a := w.send("node", "POST", reports, many); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a report that is too large: %d", a.status)
	}
	foreign := report
	foreign.ID = "another"
	w.refused(http.StatusForbidden, "forbidden", "node", "POST", reports, foreign)
	stale := report
	stale.BootID = "boot-two"
	if p := w.refused(http.StatusConflict, "conflict", "node", "POST", reports, stale); p.Errors[0].Field != "boot_id" {
		t.Errorf("of another process: %+v", p.Errors)
	}
	if got := seen(); got != 7 {
		t.Errorf("what was refused counts: %d", got)
	}
	largest := report
	largest.Arrivals = nil
	for i := range postern.MaxReportArrivals {
		a := w.arrival(1)
		a.ServerName = strings.Repeat("a", 230) + fmt.Sprint(i)
		largest.Arrivals = append(largest.Arrivals, a)
	}
	must[struct{}](w, "node", "POST", reports, largest)
}

func TestOperatorsFenceNodes(t *testing.T) {
	w := newWorld(t)
	must[client.Node](w, "node", "POST", registrations, registration("boot-one", 0))
	list := must[client.Page[client.Node]](w, "operator", "GET", "/v1/nodes", nil)
	if len(list.Items) != 1 || list.Items[0].ID != "node" {
		t.Errorf("%+v", list)
	}
	for _, r := range []string{"GET /v1/nodes/none", "POST /v1/nodes/none/fence", "POST /v1/nodes/none/unfence", "DELETE /v1/nodes/none"} {
		method, path, _ := strings.Cut(r, " ")
		w.refused(http.StatusNotFound, "not_found", "operator", method, path, nil)
	}
	w.refused(http.StatusConflict, "conflict", "operator", "DELETE", "/v1/nodes/node", nil)
	w.refused(http.StatusConflict, "conflict", "operator", "POST", "/v1/nodes/node/fence", nil, `If-Match: "7"`)

	n := must[client.Node](w, "operator", "POST", "/v1/nodes/node/fence", nil, `If-Match: "1"`)
	if n.Status.State != "fenced" || !n.Status.Fenced || n.Status.FencedBy != "operator" || !n.Status.FencedAt.Equal(w.clock()) || n.ResourceVersion != "2" {
		t.Errorf("%+v", n)
	}
	if again := must[client.Node](w, "admin", "POST", "/v1/nodes/node/fence", nil); again.Status.FencedBy != "operator" || again.ResourceVersion != "2" {
		t.Errorf("fenced again: %+v", again)
	}
	report := client.NodeReport{ID: "node", BootID: "boot-one", Seq: 1}
	for _, r := range []struct {
		method, path string
		body         any
	}{
		{"POST", registrations, registration("boot-one", 1)},
		{"POST", registrations, registration("boot-two", 1)},
		{"POST", reports, report},
		{"GET", routes + "boot-one", nil},
	} {
		if p := w.refused(http.StatusConflict, "conflict", "node", r.method, r.path, r.body); p.Errors[0].Field != "fenced" || !strings.Contains(p.Detail, "by operator") {
			t.Errorf("%s %s: %+v", r.method, r.path, p)
		}
	}
	n = must[client.Node](w, "operator", "GET", "/v1/nodes/node", nil)
	if !n.Status.LastSeen.Equal(w.clock()) || n.ResourceVersion != "2" {
		t.Errorf("a fenced node that asked is heard of: %+v", n)
	}
	w.advance(postern.NodeSilentAfter + time.Second)
	if p := w.refused(http.StatusConflict, "conflict", "operator", "POST", "/v1/nodes/node/unfence", nil); !strings.Contains(p.Detail, "may still serve") {
		t.Errorf("%+v", p)
	}
	w.refused(http.StatusConflict, "conflict", "node", "POST", registrations, registration("boot-one", 1))
	n = must[client.Node](w, "operator", "POST", "/v1/nodes/node/unfence", nil)
	if n.Status.Fenced || n.Status.FencedBy != "" || n.ResourceVersion != "3" {
		t.Errorf("%+v", n)
	}
	must[client.Node](w, "operator", "POST", "/v1/nodes/node/unfence", nil)
	must[client.Node](w, "node", "POST", registrations, registration("boot-one", 1))
	must[client.Node](w, "operator", "POST", "/v1/nodes/node/fence", nil)
	w.refused(http.StatusConflict, "conflict", "operator", "DELETE", "/v1/nodes/node", nil, `If-Match: "1"`)
	must[struct{}](w, "operator", "DELETE", "/v1/nodes/node", nil)
	w.refused(http.StatusNotFound, "not_found", "operator", "GET", "/v1/nodes/node", nil)
	want := []string{"node.registered", "node.egress", "node.fenced", "node.unfenced", "node.fenced", "node.removed"}
	got := slices.DeleteFunc(w.events(), func(a string) bool { return !strings.HasPrefix(a, "node.") })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestStreamOfRoutesNeedsARegistration(t *testing.T) {
	w := newWorld(t)
	w.refused(http.StatusNotFound, "not_found", "node", "GET", routes+"boot-one", nil)
	must[client.Node](w, "node", "POST", registrations, registration("boot-one", 0))
	if p := w.refused(http.StatusConflict, "conflict", "node", "GET", routes+"boot-two", nil); p.Errors[0].Field != "boot_id" {
		t.Errorf("%+v", p)
	}
	if a := w.send("node", "GET", "/v1/nodelink/routes", nil); a.status != http.StatusUnprocessableEntity {
		t.Errorf("without a boot ID: %d", a.status)
	}
}

// A stream ends with its token, and with the registration of another process.
func TestStreamOfRoutesEnds(t *testing.T) {
	for name, end := range map[string]func(tx *store.Tx) error{
		"the token is revoked": func(tx *store.Tx) error { return tx.RevokeToken("tok_1", time.Now()) },
		"another process registers": func(tx *store.Tx) error {
			_, _, err := tx.UpsertNode(postern.Node{ID: "node", Regions: []string{virginia}, BootID: "boot-two", LastSeen: time.Now()})
			return err
		},
		"the node is removed": func(tx *store.Tx) error {
			n, err := tx.FindNode("node")
			if err != nil {
				return err
			}
			if n, err = tx.FenceNode(n, "ada", time.Now()); err != nil {
				return err
			}
			return tx.DeleteNode(n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "postern.db")
			synctest.Test(t, func(t *testing.T) {
				s, err := store.Open(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				hash := sha256.Sum256([]byte("secret"))
				if err := s.Update(t.Context(), func(tx *store.Tx) error {
					_, err := tx.CreateToken(postern.Token{ID: "tok_1", Name: "node", Role: postern.RoleNode}, hash[:])
					_, _, err2 := tx.UpsertNode(postern.Node{ID: "node", Regions: []string{virginia}, BootID: "boot-one", LastSeen: time.Now()})
					return errors.Join(err, err2)
				}); err != nil {
					t.Fatal(err)
				}
				hub := nodelink.NewHub()
				hub.Publish(postern.Routes{Revision: 1})
				h := api.New(api.Config{Platform: &postern.Platform{Name: "example"}, Store: s, Hub: hub, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
				out := &streamWriter{header: http.Header{}}
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, routes+"boot-one", nil)
				r.Header.Set("Authorization", "Bearer secret")
				done := make(chan time.Time)
				go func() {
					h.ServeHTTP(out, r)
					done <- time.Now()
				}()
				<-time.After(25 * time.Second)
				if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], `{"snapshot":`) || lines[2] != `{"ping":{"revision":1}}` {
					t.Errorf("in 25 s: %s", out)
				}
				ending := time.Now()
				if err := s.Update(t.Context(), end); err != nil {
					t.Fatal(err)
				}
				if took := (<-done).Sub(ending); took > 15*time.Second {
					t.Errorf("it went on for %v", took)
				}
				if strings.Contains(out.String(), "fenced") {
					t.Errorf("the node is told that it is fenced: %s", out)
				}
			})
		})
	}
}

// gates are the doors of a node, as far as these tests look at them.
type gates struct {
	mu       sync.Mutex
	revision int64 // -1: everything is refused
	arrivals []postern.ArrivalCount
}

func (g *gates) Apply(r postern.Routes) error { g.set(r.Revision); return nil }
func (g *gates) Withdraw()                    { g.set(-1) }

func (g *gates) set(revision int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.revision = revision
}

func (g *gates) Drain() []postern.ArrivalCount {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.arrivals
	g.arrivals = nil
	return out
}

func (g *gates) arrive(a postern.ArrivalCount) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.arrivals = append(g.arrivals, a)
}

func (g *gates) at() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.revision
}

// A real node over a real connection: it follows, acknowledges, reports, is
// parted and heals, is fenced and comes back, and a new process of it serves
// what it knew.
func TestNodeOverTheWire(t *testing.T) {
	w := newWorld(t)
	srv := httptest.NewServer(w.api)
	defer srv.Close()
	dir := t.TempDir()
	run := func() (*gates, *nodelink.Client, func()) {
		c, err := client.New(srv.URL, client.Options{Token: secretOf("node")})
		if err != nil {
			t.Fatal(err)
		}
		g := &gates{revision: -1}
		n := nodelink.New(nodelink.Config{
			ID: "node", Regions: []string{virginia}, Version: "v1", Link: c, Doors: g, CacheFile: filepath.Join(dir, "routes.json"), Logger: slog.New(slog.NewTextHandler(w.log, nil)),
		})
		n.Restore()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { n.Run(ctx) })
		return g, n, func() {
			cancel()
			running.Wait()
			c.Close()
		}
	}
	publish := func() (revision int64) {
		w.update(func(tx *store.Tx) (err error) {
			r, err := tx.FindRoutes()
			if err != nil {
				return err
			}
			r.Revision++
			revision = r.Revision
			w.hub.Publish(r)
			return tx.SaveRoutes(r)
		})
		return revision
	}
	g, n, stop := run()
	defer func() { stop() }()
	acknowledged := func(revision int64) func() bool {
		return func() bool {
			s := w.nodeState().Status
			return g.at() == revision && s.AppliedRevision == revision && s.State == "ready"
		}
	}
	eventually(t, "the node registers", func() bool { return w.send("operator", "GET", "/v1/nodes/node", nil).status == http.StatusOK })
	revision := publish()
	eventually(t, "the first table is acknowledged", acknowledged(revision))
	g.arrive(postern.ArrivalCount{Region: virginia, Listener: "private", Denial: postern.DenyNotTLS, Organization: "globex", Count: 5, FirstSeen: w.clock(), LastSeen: w.clock()})
	eventually(t, "an arrival is counted", func() bool {
		ds := must[client.Page[client.Denial]](w, "globex", "GET", "/v1/denials", nil).Items
		return len(ds) == 1 && ds[0].Count == 5
	})

	srv.CloseClientConnections()
	revision = publish()
	eventually(t, "it heals", acknowledged(revision))

	must[client.Node](w, "operator", "POST", "/v1/nodes/node/fence", nil)
	eventually(t, "a fenced node closes", func() bool { return g.at() == -1 && n.Status().Fenced })
	w.advance(time.Second) // it is heard of later than it was fenced
	eventually(t, "it was told of its fence", func() bool {
		return w.send("operator", "POST", "/v1/nodes/node/unfence", nil).status == http.StatusOK
	})
	eventually(t, "it opens again", acknowledged(revision))

	stop()
	g, n, stop = run()
	if g.at() != revision {
		t.Errorf("a new process begins with revision %d, want %d", g.at(), revision)
	}
	revision = publish()
	eventually(t, "a new process follows", acknowledged(revision))
	if !n.Status().Connected {
		t.Error("it is not linked")
	}
	if log := w.log.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("errors were logged:\n%s", log)
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within 30 s", what)
		case <-tick.C:
		}
	}
}
