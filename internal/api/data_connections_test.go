package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

const cluster = "starburst.example.com"

// cluster is a good request for a customer's cluster.
func (w *world) cluster(customer, tenant string, change ...func(*client.DataConnectionSpec)) client.DataConnection {
	c := client.DataConnection{Spec: client.DataConnectionSpec{
		Tenant: tenant, Region: virginia, AvailabilityZones: []string{"use1-az2"}, ServiceName: w.clusters[customer].Name, Hostname: cluster, Ports: []int{443},
	}}
	for _, f := range change {
		f(&c.Spec)
	}
	return c
}

// publishProof publishes an organization's proof of the cluster's hostname.
func (w *world) publishProof(organization string) {
	w.t.Helper()
	var o postern.Organization
	if err := w.store.View(w.t.Context(), func(tx *store.Tx) (err error) { o, err = tx.FindOrganization(organization); return err }); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts[postern.ChallengeName(cluster)] = []string{postern.ChallengeValue(w.platform.Name, o, cluster)}
}

func (w *world) outboundRest() {
	w.t.Helper()
	for range 60 {
		settled, err := w.loop.OutboundRound(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if settled {
			return
		}
		w.advance(time.Second)
	}
	w.t.Fatalf("the outbound lane does not come to rest; log:\n%s", w.log)
}

// verify asks to look, and lets the loop do it.
func (w *world) verify(token, id string) {
	w.t.Helper()
	w.advance(time.Millisecond)
	must[client.DataConnection](w, token, "POST", "/v1/data-connections/"+id+"/verify", nil)
	w.outboundRest()
}

func (w *world) requestCluster(token, customer, tenant string, change ...func(*client.DataConnectionSpec)) client.DataConnection {
	w.t.Helper()
	return must[client.DataConnectionResult](w, token, "POST", "/v1/data-connections", w.cluster(customer, tenant, change...)).Connection
}

func TestADataConnectionIsRequested(t *testing.T) {
	w := newWorld(t)
	got := w.requestCluster("example", "example-corp", "example")
	st := got.Status
	if !strings.HasPrefix(got.ID, "dc_") || postern.CheckConnectionID("", got.ID) != nil || st.State != "requested" || st.Organization != "example-corp" ||
		st.ServiceID != w.clusters["example-corp"].ID || st.PrincipalARN != w.platform.Outbound.Principal || st.CreatedBy != "example" || got.ResourceVersion != "1" {
		t.Errorf("%+v", got)
	}
	if st.Challenge.Name != "_postern-challenge."+cluster || st.Challenge.Type != "TXT" || !strings.HasPrefix(st.Challenge.Value, "postern-verify=") {
		t.Errorf("challenge %+v", st.Challenge)
	}
	var order []string
	for _, c := range st.Conditions {
		order = append(order, c.Type)
		if c.Message == "" || c.Reason == "" {
			t.Errorf("%+v", c)
		}
	}
	if diff := cmp.Diff([]string{"HostnameProven", "ServiceAuthorized", "ServiceSuitable", "Connected", "Verified", "Ready"}, order); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(st.Conditions[0].Message, st.Challenge.Value) || !strings.Contains(st.Conditions[1].Message, st.PrincipalARN) {
		t.Errorf("the first conditions do not say what to do: %+v", st.Conditions[:2])
	}
	if diff := cmp.Diff(client.DataConnectionSpec{
		Tenant: "example", Kind: "starburst-trino", Region: virginia, AvailabilityZones: []string{"use1-az2"}, ServiceName: w.clusters["example-corp"].Name, Hostname: cluster, Ports: []int{443},
	}, got.Spec); diff != "" {
		t.Error(diff)
	}
	w.publishProof("example-corp")
	w.verify("example", got.ID)
	a := w.send("viewer", "GET", "/v1/data-connections/"+got.ID, nil)
	var now client.DataConnection
	a.decode(t, &now)
	if now.Status.State != "pending-acceptance" || !strings.HasPrefix(now.Status.EndpointID, "vpce-") || now.Status.ServiceOwner != w.customer["example-corp"].ID || a.header.Get("ETag") != `"`+now.ResourceVersion+`"` {
		t.Errorf("%+v; log:\n%s", now, w.log)
	}
	es := w.events()
	if es[0] == "" || !strings.Contains(strings.Join(es, " "), "data-connection.requested data-connection.verify data-connection.state data-connection.group-created") {
		t.Errorf("events %v", es)
	}
	// A service's ID is as good as its name, and another tenant of the
	// organization may have another cluster.
	must[client.Tenant](w, "admin", "POST", "/v1/tenants", client.Tenant{ID: "example-two", Spec: client.TenantSpec{Organization: "example-corp", Region: oregon}})
	other := w.requestCluster("operator", "example-corp", "example-two", func(s *client.DataConnectionSpec) {
		s.ServiceName, s.Hostname, s.Kind, s.Protocol, s.IPAddressType = w.clusters["example-corp"].ID, "other.example.com", "starburst-trino", "tcp", "ipv4"
	})
	if other.Spec.ServiceName != w.clusters["example-corp"].Name {
		t.Errorf("%+v", other.Spec)
	}
}

// Everything that is wrong is told at once, each with reason, field, value and
// fix, and nothing is stored.
func TestDataConnectionsAreRefusedWithReasons(t *testing.T) {
	w := newWorld(t)
	first := w.requestCluster("example", "example-corp", "example")
	for _, c := range []struct {
		name   string
		edit   func(*client.DataConnectionSpec)
		status int
		code   string
		says   []string // "Reason field"
	}{
		{"nothing", func(s *client.DataConnectionSpec) { *s = client.DataConnectionSpec{} }, 400, "invalid", []string{
			" spec.tenant", "UnsupportedRegion spec.region", "Missing spec.availability_zone_ids", "NotAService spec.vpc_endpoint_service_name", "NotAHostname spec.hostname", "Missing spec.ports",
		}},
		{"much", func(s *client.DataConnectionSpec) {
			s.AvailabilityZones, s.Hostname, s.Ports, s.Protocol = []string{"us-east-1a"}, "starburst-prod.local", []int{443, 443}, "udp"
		}, 400, "invalid", []string{"ZoneName spec.availability_zone_ids[0]", "PrivateTLD spec.hostname", "Duplicate spec.ports[1]", "UnsupportedProtocol spec.protocol"}},
		{"hostname taken", func(*client.DataConnectionSpec) {}, 409, "conflict", []string{"HostnameTaken spec.hostname"}},
		{"another's tenant", func(s *client.DataConnectionSpec) { s.Tenant, s.Hostname = "globex", "x.example.com" }, 404, "not_found", []string{" spec.tenant"}},
		{"both", func(s *client.DataConnectionSpec) { s.Tenant, s.Ports = "globex", nil }, 400, "invalid", []string{"Missing spec.ports", " spec.tenant"}},
		{"region not set up", func(s *client.DataConnectionSpec) {
			s.Region, s.ServiceName, s.Hostname = oregon, "vpce-svc-0471015b106ad1d47", "x.example.com"
		}, 400, "invalid", []string{"RegionNotSetUp spec.region"}},
		{"another segment", func(s *client.DataConnectionSpec) { s.Tenant, s.Hostname = "example-eu", "x.example.com" }, 400, "invalid", []string{"AnotherSegment spec.region"}},
		{"no common zone", func(s *client.DataConnectionSpec) {
			s.AvailabilityZones, s.Hostname = []string{"use1-az6"}, "x.example.com"
		}, 400, "invalid", []string{"NoCommonZone spec.availability_zone_ids"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, path := range []string{"/v1/data-connections?dry_run=true", "/v1/data-connections"} {
				p := w.refused(c.status, c.code, "example", "POST", path, w.cluster("example-corp", "example", c.edit))
				var says []string
				for _, e := range p.Errors {
					says = append(says, e.Reason+" "+e.Field)
					if e.Message == "" || e.Fix == "" {
						t.Errorf("%+v", e)
					}
				}
				if diff := cmp.Diff(c.says, says); diff != "" {
					t.Errorf("%s: %s", path, diff)
				}
			}
			if got := must[client.Page[client.DataConnection]](w, "example", "GET", "/v1/data-connections", nil).Items; len(got) != 1 || got[0].ID != first.ID {
				t.Errorf("a refused request left %+v", got)
			}
		})
	}
	p := w.refused(http.StatusConflict, "conflict", "example", "POST", "/v1/data-connections", w.cluster("example-corp", "example"))
	if !strings.Contains(p.Detail, first.ID) {
		t.Errorf("it does not name the other one: %s", p.Detail)
	}
}

// A dry run looks at everything, says what would be done and changes nothing.
func TestADryRunOfADataConnection(t *testing.T) {
	w := newWorld(t)
	before := w.events()
	got := must[client.DataConnectionResult](w, "example", "POST", "/v1/data-connections?dry_run=true", w.cluster("example-corp", "example"), "Idempotency-Key: k")
	if !got.DryRun || got.Connection.ID != "" || got.Connection.Status.State != "requested" || got.Connection.Status.Challenge.Value == "" {
		t.Errorf("%+v", got)
	}
	for _, c := range got.Connection.Status.Conditions {
		if c.Type == "ServiceAuthorized" && c.Status != "True" {
			t.Errorf("it did not look at the service: %+v", c)
		}
	}
	if w.asked > 0 {
		t.Error("it asked DNS for a record that can hardly be there")
	}
	var kinds []string
	for _, a := range got.Actions {
		kinds = append(kinds, a.Kind)
		if a.Target == "" || a.Why == "" {
			t.Errorf("%+v", a)
		}
	}
	if diff := cmp.Diff([]string{"create-security-group", "set-security-group-rules", "create-endpoint"}, kinds); diff != "" {
		t.Error(diff)
	}
	// Of a service that does not admit the platform nothing is foreseen.
	other := must[client.DataConnectionResult](w, "example", "POST", "/v1/data-connections?dry_run=true", w.cluster("globex", "example"))
	if len(other.Actions) > 0 {
		t.Errorf("%+v", other.Actions)
	}
	w.outboundRest()
	if diff := cmp.Diff(before, w.events()); diff != "" {
		t.Errorf("a dry run is recorded: %s", diff)
	}
	if got := must[client.Page[client.DataConnection]](w, "example", "GET", "/v1/data-connections", nil).Items; len(got) > 0 {
		t.Errorf("a dry run left %+v", got)
	}
	// The same key does the real thing afterwards, and once.
	one := must[client.DataConnectionResult](w, "example", "POST", "/v1/data-connections", w.cluster("example-corp", "example"), "Idempotency-Key: k")
	two := must[client.DataConnectionResult](w, "example", "POST", "/v1/data-connections", w.cluster("example-corp", "example"), "Idempotency-Key: k")
	if one.DryRun || one.Connection.ID == "" || one.Connection.ID != two.Connection.ID {
		t.Errorf("%+v\n%+v", one, two)
	}
	w.refused(http.StatusConflict, "conflict", "example", "POST", "/v1/data-connections", w.cluster("example-corp", "example-eu"), "Idempotency-Key: k")
}

func TestDataConnectionsAreListedAndConfined(t *testing.T) {
	w := newWorld(t)
	must[client.Tenant](w, "admin", "POST", "/v1/tenants", client.Tenant{ID: "example-two", Spec: client.TenantSpec{Organization: "example-corp", Region: oregon}})
	ids := map[string]string{
		"a": w.requestCluster("example", "example-corp", "example").ID,
		"b": w.requestCluster("example", "example-corp", "example-two", func(s *client.DataConnectionSpec) { s.Hostname = "other.example.com" }).ID,
		"g": w.requestCluster("globex", "globex", "globex").ID, // the hostname of another's: nobody is told
	}
	w.publishProof("example-corp")
	w.verify("example", ids["a"])
	for _, c := range []struct{ token, query, want string }{
		{"operator", "", "abg"},
		{"operator", "?organization=globex", "g"},
		{"operator", "?hostname=" + cluster, "ag"},
		{"operator", "?hostname=" + cluster + "&tenant=example", "a"},
		{"viewer", "", "ab"},
		{"viewer", "?organization=globex", ""},
		{"viewer", "?tenant=globex", ""},
		{"viewer", "?state=pending-acceptance", "a"},
		{"viewer", "?state=requested", "b"},
		{"globex", "?hostname=" + cluster, "g"},
	} {
		have := map[string]bool{}
		for _, i := range must[client.Page[client.DataConnection]](w, c.token, "GET", "/v1/data-connections"+c.query, nil).Items {
			have[i.ID] = true
		}
		got := ""
		for _, name := range []string{"a", "b", "g"} {
			if have[ids[name]] {
				got += name
			}
		}
		if got != c.want || len(have) != len(c.want) {
			t.Errorf("%s with %q: %s, want %s", c.token, c.query, got, c.want)
		}
	}
	page := must[client.Page[client.DataConnection]](w, "operator", "GET", "/v1/data-connections?page_size=2", nil)
	rest := must[client.Page[client.DataConnection]](w, "operator", "GET", "/v1/data-connections?page_size=2&page_token="+page.NextPageToken, nil)
	if len(page.Items) != 2 || len(rest.Items) != 1 || rest.NextPageToken != "" {
		t.Errorf("%d and %d", len(page.Items), len(rest.Items))
	}
	w.refused(http.StatusBadRequest, "invalid", "viewer", "GET", "/v1/data-connections?state=happy", nil)
	w.refused(http.StatusConflict, "conflict", "admin", "DELETE", "/v1/tenants/example", nil)
}

// What is another organization's looks as if it were not there, to the last byte.
func TestForeignDataConnectionsLookAbsent(t *testing.T) {
	w := newWorld(t)
	foreign := w.requestCluster("globex", "globex", "globex").ID
	token := must[client.WorkloadToken](w, "globex", "POST", "/v1/workload-tokens", client.WorkloadToken{Spec: client.WorkloadTokenSpec{Name: "w", Tenant: "globex"}})
	w.secrets = append(w.secrets, token.Secret)
	look := func(method, path string, body any, id string) string {
		a := w.send("example", method, strings.ReplaceAll(path, "{x}", id), body)
		var p client.Problem
		a.decode(t, &p)
		return fmt.Sprint(a.status) + strings.ReplaceAll(strings.ReplaceAll(a.body, p.RequestID, ""), id, "ID")
	}
	for _, c := range []struct {
		method, path    string
		body            func(id string) any
		foreign, absent string
	}{
		{"GET", "/v1/data-connections/{x}", nil, foreign, "dc_0000000000000000"},
		{"POST", "/v1/data-connections/{x}/verify", nil, foreign, "dc_0000000000000000"},
		{"DELETE", "/v1/data-connections/{x}", nil, foreign, "dc_0000000000000000"},
		{"POST", "/v1/data-connections", func(id string) any { return w.cluster("example-corp", id) }, "globex", "nobody"},
		{"POST", "/v1/data-connections?dry_run=true", func(id string) any { return w.cluster("example-corp", id) }, "globex", "nobody"},
		{"DELETE", "/v1/workload-tokens/{x}", nil, token.ID, "tok_absent"},
		{"DELETE", "/v1/workload-tokens/{x}", nil, "tok_admin", "tok_absent"},
		{"POST", "/v1/workload-tokens", func(id string) any {
			return client.WorkloadToken{Spec: client.WorkloadTokenSpec{Name: "w", Tenant: id}}
		}, "globex", "nobody"},
	} {
		body := func(id string) any {
			if c.body == nil {
				return nil
			}
			return c.body(id)
		}
		if diff := cmp.Diff(look(c.method, c.path, body(c.absent), c.absent), look(c.method, c.path, body(c.foreign), c.foreign)); diff != "" || !strings.HasPrefix(look(c.method, c.path, body(c.foreign), c.foreign), "404") {
			t.Errorf("%s %s tells absent from foreign:\n%s", c.method, c.path, diff)
		}
	}
	// Neither a dry run nor a stored request tells that a hostname is another's,
	// or what another's service is like.
	w.publishProof("globex")
	w.verify("globex", foreign)
	for i, hostname := range []string{cluster, "free.example.com"} {
		got := must[client.DataConnectionResult](w, "example", "POST", "/v1/data-connections?dry_run=true", w.cluster([]string{"globex", "globex"}[i], "example", func(s *client.DataConnectionSpec) { s.Hostname = hostname }))
		st := got.Connection.Status
		if st.ServiceOwner != "" || st.State != "requested" || strings.Contains(fmt.Sprint(st.Conditions), w.customer["globex"].ID) || strings.Contains(fmt.Sprint(st.Conditions), "another data connection") {
			t.Errorf("%+v", st)
		}
	}
}

func TestVerifyAndDelete(t *testing.T) {
	w := newWorld(t)
	c := w.requestCluster("example", "example-corp", "example")
	w.outboundRest()
	w.advance(time.Second)
	asked := must[client.DataConnection](w, "example", "POST", "/v1/data-connections/"+c.ID+"/verify", nil)
	if asked.Status.VerifyAsked.IsZero() || !asked.Status.CheckedAt.Before(asked.Status.VerifyAsked) {
		t.Errorf("%+v", asked.Status)
	}
	w.publishProof("example-corp")
	w.outboundRest()
	got := must[client.DataConnection](w, "viewer", "GET", "/v1/data-connections/"+c.ID, nil)
	if got.Status.CheckedAt.Before(got.Status.VerifyAsked) || got.Status.State != "pending-acceptance" {
		t.Errorf("%+v", got.Status)
	}
	w.refused(http.StatusConflict, "conflict", "example", "DELETE", "/v1/data-connections/"+c.ID, nil, `If-Match: "1"`)
	for range 2 {
		must[struct{}](w, "example", "DELETE", "/v1/data-connections/"+c.ID, nil)
	}
	w.refused(http.StatusConflict, "conflict", "example", "POST", "/v1/data-connections/"+c.ID+"/verify", nil)
	if got := must[client.DataConnection](w, "viewer", "GET", "/v1/data-connections/"+c.ID, nil).Status.State; got != "removing" {
		t.Error(got)
	}
	w.outboundRest()
	w.refused(http.StatusNotFound, "not_found", "viewer", "GET", "/v1/data-connections/"+c.ID, nil)
	if e, err := w.aws.Endpoint(got.Status.EndpointID); err == nil && e.State != "deleted" {
		t.Errorf("at AWS: %+v", e)
	}
	must[struct{}](w, "admin", "DELETE", "/v1/tenants/example", nil)
}

func TestOutboundRegionsNameThePrincipal(t *testing.T) {
	w := newWorld(t)
	want := []client.OutboundRegion{
		{Region: virginia, PrincipalARN: w.platform.Outbound.Principal, AvailabilityZones: []string{"use1-az2", "use1-az4"}},
		{Region: oregon, PrincipalARN: w.platform.Outbound.Principal, AvailabilityZones: []string{}},
	}
	if diff := cmp.Diff(want, must[client.Page[client.OutboundRegion]](w, "viewer", "GET", "/v1/outbound-regions", nil).Items); diff != "" {
		t.Error(diff)
	}
}

func TestTheNumberOfDataConnectionsIsBounded(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx *store.Tx) error {
		for i := range 10 {
			c := postern.DataConnection{ID: fmt.Sprintf("dc_%d", i), Organization: "example-corp", Tenant: "example", Hostname: fmt.Sprintf("h%d.example.com", i)}
			if _, err := tx.CreateConnection(c); err != nil {
				return err
			}
		}
		return nil
	})
	w.refused(http.StatusConflict, "conflict", "example", "POST", "/v1/data-connections", w.cluster("example-corp", "example"))
	w.requestCluster("globex", "globex", "globex")
}

// Requests that come together do not slip past the bound.
func TestTheBoundHoldsForRequestsThatComeTogether(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for i := range 16 {
		request := w.cluster("example-corp", "example", func(s *client.DataConnectionSpec) { s.Hostname = fmt.Sprintf("h%d.example.com", i) })
		all.Go(func() {
			got := w.send("example", "POST", "/v1/data-connections", request).status
			mu.Lock()
			defer mu.Unlock()
			statuses[got]++
		})
	}
	all.Wait()
	if statuses[http.StatusCreated] > 10 || statuses[http.StatusCreated]+statuses[http.StatusConflict]+statuses[http.StatusTooManyRequests] != 16 {
		t.Errorf("answered %v", statuses)
	}
}

func TestWorkloadTokens(t *testing.T) {
	w := newWorld(t)
	published := func() map[string]postern.Workload {
		if err := w.loop.PublishStored(t.Context()); err != nil {
			t.Fatal(err)
		}
		var r postern.Routes
		if err := w.store.View(t.Context(), func(tx *store.Tx) (err error) { r, err = tx.FindRoutes(); return err }); err != nil {
			t.Fatal(err)
		}
		return r.Workloads
	}
	end := w.clock().Add(time.Hour)
	made := must[client.WorkloadToken](w, "example", "POST", "/v1/workload-tokens", client.WorkloadToken{Spec: client.WorkloadTokenSpec{Name: "etl", Tenant: "example", ExpiresAt: end}}, "Idempotency-Key: k")
	w.secrets = append(w.secrets, made.Secret)
	if len(made.Secret) < 43 || made.Organization != "example-corp" || !made.Spec.ExpiresAt.Equal(end) {
		t.Errorf("%+v", made)
	}
	key := postern.WorkloadKey([]byte(made.Secret))
	if got := published()[key]; got.Tenant != "example" || got.Organization != "example-corp" || !got.ExpiresAt.Equal(end) {
		t.Errorf("published %+v", published())
	}
	// It opens nothing of the API.
	if got := w.send("", "GET", "/v1/whoami", nil, "Authorization: Bearer "+made.Secret).status; got != http.StatusForbidden {
		t.Errorf("a workload's token at the API: %d", got)
	}
	w.refused(http.StatusConflict, "conflict", "example", "POST", "/v1/workload-tokens", client.WorkloadToken{Spec: client.WorkloadTokenSpec{Name: "etl", Tenant: "example", ExpiresAt: end}}, "Idempotency-Key: k")
	late := must[client.WorkloadToken](w, "operator", "POST", "/v1/workload-tokens", client.WorkloadToken{Spec: client.WorkloadTokenSpec{Name: "x", Tenant: "globex"}})
	w.secrets = append(w.secrets, late.Secret)
	if left := late.Spec.ExpiresAt.Sub(w.clock()); left < 89*24*time.Hour || left > 91*24*time.Hour {
		t.Errorf("it lives for %s", left)
	}
	for _, c := range []struct{ token, query, want string }{
		{"viewer", "", made.ID + "tok_workload"}, {"viewer", "?organization=globex", ""}, {"globex", "", late.ID}, {"operator", "?tenant=globex", late.ID}, {"viewer", "?tenant=example-eu", ""},
	} {
		got := ""
		a := w.send(c.token, "GET", "/v1/workload-tokens"+c.query, nil)
		var page client.Page[client.WorkloadToken]
		a.decode(t, &page)
		for _, i := range page.Items {
			got += i.ID
		}
		if len(got) != len(c.want) || strings.Contains(a.body, "secret") {
			t.Errorf("%s %s: %s", c.token, c.query, a.body)
		}
	}
	for name, s := range map[string]client.WorkloadTokenSpec{
		"no name":   {Tenant: "example"},
		"too long":  {Name: "x", Tenant: "example", ExpiresAt: w.clock().Add(400 * 24 * time.Hour)},
		"reserved":  {Name: "loop", Tenant: "example"},
		"no tenant": {Name: "x"},
	} {
		p := w.refused(http.StatusBadRequest, "invalid", "example", "POST", "/v1/workload-tokens", client.WorkloadToken{Spec: s})
		if len(p.Errors) != 1 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	w.refused(http.StatusBadRequest, "invalid", "admin", "POST", "/v1/tokens", client.Token{Spec: client.TokenSpec{Name: "x", Role: "workload"}})
	w.refused(http.StatusNotFound, "not_found", "example", "DELETE", "/v1/workload-tokens/tok_example", nil) // its own, and no workload's
	must[struct{}](w, "example", "DELETE", "/v1/workload-tokens/"+made.ID, nil)
	if _, there := published()[key]; there {
		t.Error("a revoked token is published")
	}
	w.refused(http.StatusNotFound, "not_found", "example", "DELETE", "/v1/workload-tokens/"+made.ID, nil)
}
