package control_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// From request to ready, in the order of a customer's steps; each wait says
// what to do.
func TestADataConnectionBecomesReady(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.request("dc_a", "example-corp")
	w.restOutbound(l)
	w.wants("dc_a", postern.DataConnectionRequested, postern.HostnameProven, postern.ReasonChallengeNotFound)
	w.wants("dc_a", postern.DataConnectionRequested, postern.ServiceAuthorized, postern.ReasonNotAuthorized)
	if m := w.condition(postern.ServiceAuthorized).Message; !strings.Contains(m, w.platform.Outbound.Principal) || !strings.Contains(m, w.service["example-corp"].Name) {
		t.Errorf("the condition does not name the principal and the service: %s", m)
	}
	if m := w.condition(postern.HostnameProven).Message; !strings.Contains(m, "_postern-challenge."+cluster) || !strings.Contains(m, "postern-verify=") {
		t.Errorf("the condition does not name the record: %s", m)
	}
	w.publishProof("example-corp", cluster)
	w.again(l)
	w.wants("dc_a", postern.DataConnectionRequested, postern.HostnameProven, postern.ReasonChallengeNotFound)
	w.ask("dc_a")
	w.restOutbound(l)
	w.wants("dc_a", postern.DataConnectionAwaitsPermission, postern.ServiceAuthorized, postern.ReasonNotAuthorized)
	if r := w.routes().Connections[cluster]; r.Ready || r.Reason != postern.ReasonNotAuthorized || r.Tenant != "example-corp" || r.ID != "dc_a" {
		t.Errorf("published %+v", r)
	}
	w.has(0, 0)

	w.authorize("example-corp")
	w.again(l)
	w.wants("dc_a", postern.DataConnectionPendingAcceptance, postern.Connected, postern.ReasonWaitsForAcceptance)
	endpoint := w.connection("dc_a").EndpointID
	if m := w.condition(postern.Connected).Message; !strings.Contains(m, endpoint) || !strings.Contains(m, w.service["example-corp"].ID) {
		t.Errorf("the condition does not name what to accept: %s", m)
	}
	w.has(1, 1)
	w.onlyEgress("dc_a")

	w.accept("example-corp", endpoint)
	w.again(l)
	c := w.connection("dc_a")
	if c.State != postern.DataConnectionReady || c.ReadyAt.IsZero() || len(c.Addresses) != 2 || len(c.DNSNames) != 3 || c.ServiceOwner != w.example.ID || c.CheckedAt.IsZero() {
		t.Errorf("%+v", c)
	}
	for _, cond := range c.Conditions {
		if cond.Status != postern.True {
			t.Errorf("condition %+v", cond)
		}
	}
	info, err := w.aws.Endpoint(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	route := postern.ConnectionRoute{ID: "dc_a", Tenant: "example-corp", Organization: "example-corp", Region: virginia, Ports: []uint16{w.port}, Ready: true}
	for _, a := range slices.Sorted(slices.Values(info.Addresses)) {
		route.Addresses = append(route.Addresses, netip.MustParseAddr(a))
	}
	slices.SortFunc(route.Addresses, netip.Addr.Compare)
	if diff := cmp.Diff(map[string]postern.ConnectionRoute{cluster: route}, w.routes().Connections, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("published: %s", diff)
	}
	got := w.actions(0)
	for _, a := range []string{"data-connection.group-created", "data-connection.group-rules", "data-connection.endpoint-created"} {
		if n := count(got, a); n != 1 {
			t.Errorf("%d events %s", n, a)
		}
	}
}

// onlyEgress checks what the group of a connection's endpoint admits, and that
// the endpoint has no other.
func (w *outboundWorld) onlyEgress(id string) {
	w.t.Helper()
	es, gs := w.atAWS()
	c := w.connection(id)
	if len(es) != 1 || len(es[0].Groups) != 1 || *es[0].Groups[0].GroupId != c.SecurityGroupID || len(gs) != 1 || *gs[0].GroupId != c.SecurityGroupID {
		w.t.Fatalf("endpoints %+v, groups %+v", es, gs)
	}
	ps := gs[0].IpPermissions
	if len(ps) != 1 || *ps[0].IpProtocol != "tcp" || *ps[0].FromPort != int32(w.port) || *ps[0].ToPort != int32(w.port) || len(ps[0].IpRanges) > 0 ||
		len(ps[0].UserIdGroupPairs) != 1 || *ps[0].UserIdGroupPairs[0].GroupId != w.egress.DefaultSecurityGroup {
		w.t.Errorf("the group admits %+v", ps)
	}
}

// What an operator, or anybody, adds to the group is taken out again, and another
// group is taken off the endpoint.
func TestTheGroupStaysTheEgressOnes(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.readyConnection(l)
	group := w.connection("dc_a").SecurityGroupID
	if _, err := w.vendor().AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: []types.IpPermission{
		{IpProtocol: awssdk.String("-1"), IpRanges: []types.IpRange{{CidrIp: awssdk.String("0.0.0.0/0")}}},
		{IpProtocol: awssdk.String("tcp"), FromPort: awssdk.Int32(1), ToPort: awssdk.Int32(9), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &group}}},
	}}); err != nil {
		t.Fatal(err)
	}
	endpoint := w.connection("dc_a").EndpointID
	if _, err := w.vendor().ModifyVpcEndpoint(t.Context(), &ec2.ModifyVpcEndpointInput{
		VpcEndpointId: &endpoint, AddSecurityGroupIds: []string{w.egress.DefaultSecurityGroup}, RemoveSecurityGroupIds: []string{group},
	}); err != nil {
		t.Fatal(err)
	}
	w.again(l)
	w.onlyEgress("dc_a")
	w.wants("dc_a", postern.DataConnectionReady, postern.Ready, postern.ReasonBytesPass)
}

// Nothing is made at AWS before hostname, owner and settings are as they must
// be, whatever else is.
func TestNothingIsMadeBeforeItIsOwned(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(w *outboundWorld)
		state   postern.DataConnectionState
		t       postern.ConditionType
		reason  postern.Reason
		says    string
	}{
		"hostname not proven": {func(w *outboundWorld) {
			w.authorize("example-corp")
			w.request("dc_a", "example-corp")
		}, postern.DataConnectionRequested, postern.HostnameProven, postern.ReasonChallengeNotFound, "there is none"},
		"another's proof": {func(w *outboundWorld) {
			w.authorize("example-corp")
			w.publishProof("globex", cluster)
			w.request("dc_a", "example-corp")
		}, postern.DataConnectionRequested, postern.HostnameProven, postern.ReasonChallengeNotFound, "have other texts"},
		"proof of another hostname": {func(w *outboundWorld) {
			w.authorize("example-corp")
			w.publishProof("example-corp", "other.example.com")
			w.request("dc_a", "example-corp")
		}, postern.DataConnectionRequested, postern.HostnameProven, postern.ReasonChallengeNotFound, ""},
		"public DNS is silent": {func(w *outboundWorld) {
			w.authorize("example-corp")
			w.publishProof("example-corp", cluster)
			w.dnsDown = true
			w.request("dc_a", "example-corp")
		}, postern.DataConnectionRequested, postern.HostnameProven, postern.ReasonNotObserved, "did not answer"},
		"AWS is silent about the service": {func(w *outboundWorld) {
			w.authorize("example-corp")
			w.publishProof("example-corp", cluster)
			w.fault(localaws.Fault{Kind: localaws.FaultError, Action: "DescribeVpcEndpointServices", Code: "InternalError"})
			w.request("dc_a", "example-corp")
		}, postern.DataConnectionAwaitsPermission, postern.ServiceAuthorized, postern.ReasonNotObserved, "did not answer"},
		"principal missing": {func(w *outboundWorld) {
			w.publishProof("example-corp", cluster)
			w.request("dc_a", "example-corp")
		}, postern.DataConnectionAwaitsPermission, postern.ServiceAuthorized, postern.ReasonNotAuthorized, "allow arn:aws:iam::"},
		"account not proven": {func(w *outboundWorld) {
			w.authorize("example-corp")
			w.publishProof("example-corp", cluster)
			w.request("dc_a", "example-corp")
			w.removeAccount()
		}, postern.DataConnectionAwaitsPermission, postern.ServiceAuthorized, postern.ReasonNotAuthorized, "allow arn:aws:iam::"},
		"the platform's own service": {func(w *outboundWorld) {
			w.publishProof("example-corp", cluster)
			w.request("dc_a", "example-corp", func(c *postern.DataConnection) { c.Service = w.platform.Segments[0].Regions[0].Service() })
		}, postern.DataConnectionAwaitsPermission, postern.ServiceAuthorized, postern.ReasonNotAuthorized, "allow arn:aws:iam::"},
		"acceptance not required": {func(w *outboundWorld) {
			w.authorize("example-corp")
			w.publishProof("example-corp", cluster)
			w.requireAcceptance("example-corp", false)
			w.request("dc_a", "example-corp")
		}, postern.DataConnectionFailed, postern.ServiceSuitable, postern.ReasonAcceptanceNotRequired, "`Require acceptance`"},
		"no common zone": {func(w *outboundWorld) {
			w.authorize("example-corp")
			w.publishProof("example-corp", cluster)
			w.request("dc_a", "example-corp", func(c *postern.DataConnection) { c.Zones = []string{"use1-az1", "use1-az6"} })
		}, postern.DataConnectionFailed, postern.ServiceSuitable, postern.ReasonNoCommonZone, "(use1-az1, use1-az6)"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newOutboundWorld(t)
			c.prepare(w)
			l := control.New(w.config())
			w.restOutbound(l)
			w.again(l)
			w.wants("dc_a", c.state, c.t, c.reason)
			if m := w.condition(c.t).Message; !strings.Contains(m, c.says) {
				t.Errorf("it says %s", m)
			}
			w.has(0, 0)
			if r := w.routes().Connections[cluster]; r.Ready || len(r.Addresses) > 0 {
				t.Errorf("published %+v", r)
			}
		})
	}
}

// A mended setting is enough to go on.
func TestARequestGoesOnWhenItIsMended(t *testing.T) {
	w := newOutboundWorld(t)
	w.authorize("example-corp")
	w.publishProof("example-corp", cluster)
	w.requireAcceptance("example-corp", false)
	w.request("dc_a", "example-corp")
	l := control.New(w.config())
	w.restOutbound(l)
	w.wants("dc_a", postern.DataConnectionFailed, postern.ServiceSuitable, postern.ReasonAcceptanceNotRequired)
	w.requireAcceptance("example-corp", true)
	w.again(l)
	w.wants("dc_a", postern.DataConnectionPendingAcceptance, postern.ServiceSuitable, postern.ReasonSuitable)
}

// Naming another's service, which admits the platform, tells no more than
// naming one that is not there.
func TestAnothersServiceReadsAsAbsent(t *testing.T) {
	w := newOutboundWorld(t)
	w.authorize("example-corp")
	absent := w.service["example-corp"]
	absent.ID = "vpce-svc-0123456789abcdef0"
	absent.Name = "com.amazonaws.vpce." + virginia + "." + absent.ID
	for i, s := range []postern.ServiceRef{w.service["example-corp"], absent} {
		hostname := []string{"a.globex.com", "b.globex.com"}[i]
		w.publishProof("globex", hostname)
		w.request([]string{"dc_foreign", "dc_absent"}[i], "globex", func(c *postern.DataConnection) { c.Service, c.Hostname = s, hostname })
	}
	l := control.New(w.config())
	w.restOutbound(l)
	told := func(id string, s postern.ServiceRef) string {
		var b strings.Builder
		c := w.connection(id)
		for _, cond := range c.Conditions {
			b.WriteString(string(cond.Type) + string(cond.Status) + string(cond.Reason) + strings.ReplaceAll(cond.Message, s.Name, "SERVICE") + "\n")
		}
		return b.String() + string(c.State) + c.ServiceOwner
	}
	if diff := cmp.Diff(told("dc_absent", absent), told("dc_foreign", w.service["example-corp"])); diff != "" {
		t.Error(diff)
	}
	w.has(0, 0)
	if !strings.Contains(w.log.String(), "not proven") {
		t.Errorf("the log does not tell the vendor: %s", w.log)
	}
}

// A hostname is whose proof is found; who comes second is told only when his is
// found too.
func TestAHostnameHasOneConnection(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.authorize("globex")
	w.readyConnection(l)
	w.request("dc_b", "globex")
	w.again(l)
	w.wants("dc_b", postern.DataConnectionRequested, postern.HostnameProven, postern.ReasonChallengeNotFound)
	w.publishProof("globex", cluster)
	w.ask("dc_b")
	w.restOutbound(l)
	w.wants("dc_b", postern.DataConnectionRequested, postern.HostnameProven, postern.ReasonHostnameTaken)
	w.wants("dc_a", postern.DataConnectionReady, postern.Ready, postern.ReasonBytesPass)
	if r := w.routes().Connections[cluster]; r.ID != "dc_a" || !r.Ready {
		t.Errorf("published %+v", r)
	}
	w.has(1, 1)
	w.remove()
	w.restOutbound(l)
	w.ask("dc_b")
	w.restOutbound(l)
	w.wants("dc_b", postern.DataConnectionPendingAcceptance, postern.HostnameProven, postern.ReasonChallengeFound)
}

// Two proofs that are found in the same round make one winner.
func TestTwoProofsInOneRoundHaveOneWinner(t *testing.T) {
	w := newOutboundWorld(t)
	for _, o := range []string{"example-corp", "globex"} {
		w.publishProof(o, cluster)
		w.request("dc_"+o[:1], o)
	}
	l := control.New(w.config())
	w.restOutbound(l)
	w.wants("dc_e", postern.DataConnectionAwaitsPermission, postern.HostnameProven, postern.ReasonChallengeFound)
	w.wants("dc_g", postern.DataConnectionRequested, postern.HostnameProven, postern.ReasonHostnameTaken)
}

// When the cluster's certificate turns bad, the condition, the event and the
// route say so within one resync, and when it is good again too.
func TestACertificateThatTurnsBadDegrades(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.readyConnection(l)
	before := len(w.actions(0))
	w.found(postern.Finding{Reason: postern.ReasonExpiresSoon, Warning: true, Message: "soon"})
	w.again(l)
	w.wants("dc_a", postern.DataConnectionReady, postern.Verified, postern.ReasonExpiresSoon)
	w.found(postern.Finding{Reason: postern.ReasonExpiresSoon, Warning: true}, postern.Finding{Reason: postern.ReasonCertificateExpired, Message: "it has expired; renew it"})
	w.advance(time.Minute)
	w.look()
	if _, err := l.OutboundRound(t.Context()); err != nil { // one round
		t.Fatal(err)
	}
	w.wants("dc_a", postern.DataConnectionDegraded, postern.Verified, postern.ReasonCertificateExpired)
	r := w.routes().Connections[cluster]
	if r.Ready || r.Reason != postern.ReasonCertificateExpired || r.Message != "it has expired; renew it" || len(r.Addresses) > 0 {
		t.Errorf("published %+v", r)
	}
	var events []string
	w.view(func(tx *store.Tx) error {
		es, err := tx.ListEvents("example-corp", int64(before), 100)
		for _, e := range es {
			events = append(events, e.Action+": "+e.Message)
		}
		return err
	})
	if len(events) != 1 || events[0] != "data-connection.state: "+cluster+": from ready to degraded: CertificateExpired: it has expired; renew it" {
		t.Errorf("events %q", events)
	}
	w.found(postern.Finding{Reason: postern.ReasonNameMismatch, Message: "another name"})
	w.again(l)
	w.wants("dc_a", postern.DataConnectionDegraded, postern.Verified, postern.ReasonNameMismatch)
	w.found()
	w.again(l)
	w.wants("dc_a", postern.DataConnectionReady, postern.Verified, postern.ReasonVerified)
	if !w.routes().Connections[cluster].Ready {
		t.Error("not published again")
	}
	w.has(1, 1)
}

// What would be done is told, and not done.
func TestThePlanShowsBothDirections(t *testing.T) {
	w := newOutboundWorld(t)
	w.authorize("example-corp")
	w.publishProof("example-corp", cluster)
	w.request("dc_a", "example-corp")
	l := control.New(w.config())
	preview := func() (kinds []string) {
		actions, err := l.Preview(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range actions {
			if a.Target == "" || a.Why == "" {
				t.Errorf("%+v", a)
			}
			if a.Kind != plan.AllowPrincipal {
				kinds = append(kinds, string(a.Kind))
			}
		}
		return kinds
	}
	if _, err := l.OutboundRound(t.Context()); err != nil { // the group is made
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"set-security-group-rules"}, preview()); diff != "" {
		t.Error(diff)
	}
	w.restOutbound(l)
	if got := preview(); len(got) > 0 {
		t.Errorf("at rest, and %v", got)
	}
	w.remove()
	if got := preview(); len(got) > 0 {
		t.Errorf("before its route is taken back: %v", got)
	}
	if err := l.PublishStored(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.look()
	if diff := cmp.Diff([]string{"delete-endpoint"}, preview()); diff != "" {
		t.Error(diff)
	}
	w.has(1, 1)
}

// A person who asks does not wait for the resync period.
func TestAskingLooksAtOnce(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.readyConnection(l)
	checks := w.checks
	w.restOutbound(l)
	if w.checks != checks {
		t.Errorf("looked %d times without a reason", w.checks-checks)
	}
	w.advance(time.Second)
	w.ask("dc_a")
	w.found(postern.Finding{Reason: postern.ReasonNotTrino, Message: "no Trino"})
	w.restOutbound(l)
	c := w.connection("dc_a")
	w.wants("dc_a", postern.DataConnectionDegraded, postern.Verified, postern.ReasonNotTrino)
	if c.CheckedAt.Before(c.VerifyAsked) {
		t.Errorf("checked at %s, asked at %s", c.CheckedAt, c.VerifyAsked)
	}
}

// To ask for a record that is not there makes resolvers remember that: DNS is
// asked when a person says so, and seldom otherwise.
func TestDNSIsAskedSeldom(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.request("dc_a", "example-corp", func(c *postern.DataConnection) { c.VerifyAsked = time.Time{} })
	asked := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.asked
	}
	for range 4 {
		w.again(l)
	}
	if n := asked(); n != 0 {
		t.Errorf("asked %d times within five minutes", n)
	}
	w.ask("dc_a")
	w.restOutbound(l)
	w.again(l)
	if n := asked(); n != 1 {
		t.Errorf("asked %d times, and was told to once", n)
	}
	for range 5 {
		w.again(l)
	}
	if n := asked(); n != 2 {
		t.Errorf("asked %d times in five more minutes", n)
	}
	w.restOutbound(control.New(w.config())) // another process: it does not know that it was asked
	if n := asked(); n != 3 {
		t.Errorf("asked %d times after a restart", n)
	}
}

// Who has no proven account any more has no route, and no endpoint is made or
// deleted for it; proving it again is enough.
func TestAnAccountThatIsTakenOffDegrades(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.readyConnection(l)
	w.removeAccount()
	if err := l.PublishStored(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := w.routes().Connections[cluster]; r.Ready || r.Reason == "" {
		t.Errorf("published before any round: %+v", r)
	}
	w.again(l)
	w.wants("dc_a", postern.DataConnectionDegraded, postern.ServiceAuthorized, postern.ReasonNotAuthorized)
	w.has(1, 1)
	w.rest(l) // forgets the account
	w.update(func(tx *store.Tx) error {
		_, err := tx.ProveAccount(postern.Account{ID: w.example.ID, Organization: "example-corp", ProvenAt: w.clock()})
		return err
	})
	w.again(l)
	w.wants("dc_a", postern.DataConnectionReady, postern.ServiceAuthorized, postern.ReasonAuthorized)
}

// Nothing is concluded from silence: what was ready stays so.
func TestSilenceChangesNothing(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.readyConnection(l)
	before := len(w.actions(0))
	for _, action := range []string{"DescribeVpcEndpoints", "DescribeSecurityGroups", "DescribeNetworkInterfaces"} {
		w.fault(localaws.Fault{Kind: localaws.FaultError, Action: action, Code: "InternalError", Times: 1})
		w.advance(time.Minute)
		if _, err := l.OutboundRound(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wants("dc_a", postern.DataConnectionReady, postern.Connected, postern.ReasonNotObserved)
		if !w.routes().Connections[cluster].Ready {
			t.Errorf("%s failed, and the route went", action)
		}
		w.again(l)
		w.wants("dc_a", postern.DataConnectionReady, postern.Connected, postern.ReasonAvailable)
	}
	if news := w.actions(int64(before)); len(news) > 0 {
		t.Errorf("events %v", news)
	}
}

func TestWhatTheCustomerEndsIsFinal(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(w *outboundWorld, endpoint string)
		reason postern.Reason
	}{
		"rejected": {func(w *outboundWorld, endpoint string) { w.reject(endpoint) }, postern.ReasonRejected},
		"deleted by hand": {func(w *outboundWorld, endpoint string) {
			if _, err := w.vendor().DeleteVpcEndpoints(w.t.Context(), &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{endpoint}}); err != nil {
				w.t.Fatal(err)
			}
		}, postern.ReasonDeleted},
	} {
		t.Run(name, func(t *testing.T) {
			w := newOutboundWorld(t)
			l := control.New(w.config())
			endpoint := w.readyConnection(l)
			c.end(w, endpoint)
			w.again(l)
			w.wants("dc_a", postern.DataConnectionFailed, postern.Connected, c.reason)
			if r := w.routes().Connections[cluster]; r.Ready || r.Reason != c.reason {
				t.Errorf("published %+v", r)
			}
			w.again(l) // AWS forgets the row
			w.again(l)
			w.wants("dc_a", postern.DataConnectionFailed, postern.Connected, c.reason)
			if es, _ := w.atAWS(); len(es) > 1 {
				t.Errorf("another endpoint was made: %v", es)
			}
			w.remove()
			w.restOutbound(l)
			w.has(0, 0)
			if w.connection("dc_a").ID != "" {
				t.Error("the row stays")
			}
		})
	}
}
