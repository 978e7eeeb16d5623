package plan_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

// What several nodes say becomes one condition: one that finds the cluster bad
// holds it, and without one that found it good, lately, it is not known to be.
func TestWhatTheEgressSaysOfACluster(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	here := lookedAt("10.0.0.1")
	bad := postern.Finding{Reason: postern.ReasonPrivateCA, Message: "private"}
	soon := postern.Finding{Reason: postern.ReasonExpiresSoon, Warning: true, Message: "soon"}
	look := func(of string, ago time.Duration, fs ...postern.Finding) postern.ConnectionLook {
		return postern.ConnectionLook{Connection: connectionID, Of: of, At: now.Add(-ago), Findings: fs}
	}
	long := now.Add(-time.Hour)
	for name, c := range map[string]struct {
		before postern.ConditionStatus
		view   plan.CheckView
		status postern.ConditionStatus
		reason postern.Reason
		says   string
	}{
		"nobody could":                          {"", plan.CheckView{Since: long}, postern.Unknown, postern.ReasonNotVerified, "no egress node serves us-east-1"},
		"nobody did yet":                        {"", plan.CheckView{Nodes: 1, Since: long}, postern.Unknown, postern.ReasonNotVerified, "about to be looked at"},
		"good":                                  {"", plan.CheckView{Nodes: 1, Looks: []postern.ConnectionLook{look(here, 0)}, Since: long}, postern.True, postern.ReasonVerified, "the cluster answers"},
		"of another address":                    {postern.True, plan.CheckView{Nodes: 1, Looks: []postern.ConnectionLook{look(lookedAt("10.0.0.9"), 0)}, Since: long}, postern.Unknown, postern.ReasonNotVerified, "about to"},
		"of one address more":                   {postern.True, plan.CheckView{Nodes: 1, Looks: []postern.ConnectionLook{look(lookedAt("10.0.0.1", "10.0.0.2"), 0)}, Since: long}, postern.Unknown, postern.ReasonNotVerified, "about to"},
		"one of two is enough":                  {"", plan.CheckView{Nodes: 2, Looks: []postern.ConnectionLook{look(here, 0)}, Since: long}, postern.True, postern.ReasonVerified, ""},
		"one that is bad is enough":             {postern.True, plan.CheckView{Nodes: 2, Looks: []postern.ConnectionLook{look(here, 0), look(here, 0, bad)}, Since: long}, postern.False, postern.ReasonPrivateCA, "private"},
		"a warning of one":                      {"", plan.CheckView{Nodes: 2, Looks: []postern.ConnectionLook{look(here, 0), look(here, 0, soon)}, Since: long}, postern.True, postern.ReasonExpiresSoon, "soon"},
		"worse than a warning":                  {"", plan.CheckView{Nodes: 1, Looks: []postern.ConnectionLook{look(here, 0, soon, bad)}, Since: long}, postern.False, postern.ReasonPrivateCA, ""},
		"bad, but that was long ago":            {postern.False, plan.CheckView{Nodes: 2, Looks: []postern.ConnectionLook{look(here, 0), look(here, lookLifetime, bad)}, Since: long}, postern.True, postern.ReasonVerified, ""},
		"still counts":                          {postern.True, plan.CheckView{Nodes: 1, Looks: []postern.ConnectionLook{look(here, lookLifetime-1)}, Since: long}, postern.True, postern.ReasonVerified, ""},
		"long ago":                              {postern.True, plan.CheckView{Nodes: 1, Looks: []postern.ConnectionLook{look(here, lookLifetime)}, Since: long}, postern.Unknown, postern.ReasonNotVerified, "lately"},
		"long ago, and nobody could say":        {postern.True, plan.CheckView{Nodes: 1, Looks: []postern.ConnectionLook{look(here, time.Hour)}, Since: now.Add(1 - lookLifetime)}, postern.True, "Before", "as it was"},
		"a day ago, and nobody could say":       {postern.True, plan.CheckView{Nodes: 1, Looks: []postern.ConnectionLook{look(here, 24*time.Hour)}, Since: now}, postern.Unknown, postern.ReasonNotVerified, "lately"},
		"neither good nor bad before":           {postern.Unknown, plan.CheckView{Nodes: 1, Looks: []postern.ConnectionLook{look(here, time.Hour)}, Since: now}, postern.Unknown, postern.ReasonNotVerified, "lately"},
		"another address, and nobody could say": {postern.True, plan.CheckView{Nodes: 1, Looks: []postern.ConnectionLook{look(lookedAt("10.0.0.9"), 0)}, Since: now}, postern.Unknown, postern.ReasonNotVerified, "about to"},
	} {
		conn, v := carriedConnection(now)
		if c.before != "" {
			conn.Conditions = postern.SetCondition(conn.Conditions, postern.Condition{Type: postern.Verified, Status: c.before, Reason: "Before", Message: "as it was"})
		}
		v.Check = c.view
		after := plan.Connection(conn, v).After
		got := postern.FindCondition(after.Conditions, postern.Verified)
		if got.Status != c.status || got.Reason != c.reason || !strings.Contains(got.Message, c.says) {
			t.Errorf("%s: %+v", name, got)
		}
		if ready := after.State == postern.DataConnectionReady; ready != (c.status == postern.True) {
			t.Errorf("%s: it is %s", name, after.State)
		}
	}
}

// Before egress nodes looked, the control plane did: what it found counts as long
// as any other look, for the nodes to take over.
func TestTheEgressTakesLookingOver(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		change func(*postern.DataConnection, *plan.ConnectionView)
		ready  bool
	}{
		"just now": {func(*postern.DataConnection, *plan.ConnectionView) {}, true},
		"long ago": {func(c *postern.DataConnection, _ *plan.ConnectionView) { c.CheckedAt = now.Add(-lookLifetime) }, false},
		"found bad": {func(c *postern.DataConnection, _ *plan.ConnectionView) {
			c.Conditions = verifiedBefore(c, postern.False)
		}, false},
		"not known": {func(c *postern.DataConnection, _ *plan.ConnectionView) {
			c.Conditions = verifiedBefore(c, postern.Unknown)
		}, false},
		"elsewhere": {func(c *postern.DataConnection, _ *plan.ConnectionView) {
			c.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.9")}
		}, false},
		"a node did": {func(_ *postern.DataConnection, v *plan.ConnectionView) { v.Check.Never = false }, false},
	} {
		conn, v := carriedConnection(now)
		conn.CheckedAt, conn.ReadyAt, conn.State = now.Add(1-lookLifetime), now, postern.DataConnectionReady
		conn.Conditions = verifiedBefore(&conn, postern.True)
		v.Check = plan.CheckView{Nodes: 1, Never: true, Since: now.Add(-time.Hour)}
		c.change(&conn, &v)
		if after := plan.Connection(conn, v).After; (after.State == postern.DataConnectionReady) != c.ready {
			t.Errorf("%s: it is %s: %+v", name, after.State, after.Conditions)
		}
	}
}

func verifiedBefore(c *postern.DataConnection, s postern.ConditionStatus) []postern.Condition {
	return postern.SetCondition(c.Conditions, postern.Condition{Type: postern.Verified, Status: s, Reason: "Before", Message: "as it was"})
}

// carriedConnection is one whose endpoint AWS carries, and that is ready once it
// is verified.
func carriedConnection(now time.Time) (postern.DataConnection, plan.ConnectionView) {
	c := clusterConnection()
	c.ProvenAt, c.MadeSince, c.ServiceOwner, c.EndpointID, c.SecurityGroupID = now, now, "111111111111", "vpce-1", "sg-1"
	c.Addresses, c.State = []netip.Addr{netip.MustParseAddr("10.0.0.1")}, postern.DataConnectionVerifying
	v := plan.ConnectionView{
		Network:  &postern.OutboundNetwork{Region: "us-east-1", VPC: "vpc-1", EgressGroup: egressGroup},
		Accounts: []string{"111111111111"}, Rules: plan.Rules{Looks: plan.LookRules{Every: 5 * time.Second, Soon: time.Second, Lifetime: lookLifetime}}, Now: now,
		Cloud: &plan.ConnectionCloud{
			Groups: []postern.OutboundGroup{{ID: "sg-1", ConnectionID: connectionID, Rules: goodRules()}},
			Endpoints: []postern.OutboundEndpoint{{
				ID: "vpce-1", ConnectionID: connectionID, ServiceName: clusterService, State: postern.ConnectionAvailable, Groups: []string{"sg-1"}, Addresses: c.Addresses,
			}},
		},
	}
	c.Conditions = postern.SetCondition(nil, postern.Condition{Type: postern.Connected, Status: postern.True, Reason: postern.ReasonAvailable, Message: "m"})
	return c, v
}

// Egress nodes look at what AWS carries of a proven hostname and account, in a
// region where the platform still is, ready or not; and at nothing else.
func TestWhatTheEgressLooksAt(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	p := &postern.Platform{Outbound: postern.Outbound{Networks: []postern.OutboundNetwork{{Region: "us-east-1"}}}}
	rules := plan.LookRules{Every: time.Minute, Soon: time.Second, Lifetime: time.Hour}
	account := postern.Account{ID: "111111111111", Organization: "o", State: postern.AccountActive}
	for name, c := range map[string]struct {
		change func(*postern.DataConnection, *postern.Account)
		every  time.Duration // 0: not at all
	}{
		"not found good yet": {func(*postern.DataConnection, *postern.Account) {}, time.Second},
		"ready":              {func(c *postern.DataConnection, _ *postern.Account) { c.State = postern.DataConnectionReady }, time.Minute},
		"degraded":           {func(c *postern.DataConnection, _ *postern.Account) { c.State = postern.DataConnectionDegraded }, time.Minute},
		"AWS is silent": {func(c *postern.DataConnection, _ *postern.Account) {
			c.Conditions = postern.SetCondition(c.Conditions, postern.Condition{Type: postern.Connected, Status: postern.Unknown})
		}, time.Second},
		"rejected": {func(c *postern.DataConnection, _ *postern.Account) {
			c.Conditions = postern.SetCondition(c.Conditions, postern.Condition{Type: postern.Connected, Status: postern.False})
		}, 0},
		"being removed":        {func(c *postern.DataConnection, _ *postern.Account) { c.Removing = true }, 0},
		"not proven":           {func(c *postern.DataConnection, _ *postern.Account) { c.ProvenAt = time.Time{} }, 0},
		"no address":           {func(c *postern.DataConnection, _ *postern.Account) { c.Addresses = nil }, 0},
		"no endpoint":          {func(c *postern.DataConnection, _ *postern.Account) { c.EndpointID = "" }, 0},
		"in a region given up": {func(c *postern.DataConnection, _ *postern.Account) { c.Region = "us-west-2" }, 0},
		"of a lost account":    {func(_ *postern.DataConnection, a *postern.Account) { a.State = postern.AccountRemoving }, 0},
		"of another's account": {func(_ *postern.DataConnection, a *postern.Account) { a.Organization = "other" }, 0},
	} {
		conn, _ := carriedConnection(now)
		conn.VerifyAsked = now
		a := account
		c.change(&conn, &a)
		got := plan.CompileChecks(p, plan.Desired{Connections: []postern.DataConnection{conn}, Accounts: []postern.Account{a}}, rules)
		var want map[string]postern.ConnectionCheck
		if c.every > 0 {
			want = map[string]postern.ConnectionCheck{connectionID: {
				Kind: postern.KindStarburstTrino, Hostname: "starburst.example.com", Region: "us-east-1", Ports: []uint16{443, 8443},
				Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Every: c.every, Asked: now,
			}}
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if err := (postern.Routes{Checks: got}).CheckConnections(); err != nil {
			t.Errorf("%s: no node would obey it: %v", name, err)
		}
	}
}

// Whoever has to start over is told by which commands.
func TestFinalReasonsNameTheCommands(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, s := range []postern.ConnectionState{
		postern.ConnectionRejected, postern.ConnectionExpired, postern.ConnectionFailed, postern.ConnectionDeleting, postern.ConnectionDeleted,
	} {
		c, v := carriedConnection(now)
		v.Cloud.Endpoints[0].State = s
		got := postern.FindCondition(plan.Connection(c, v).After.Conditions, postern.Connected)
		if !strings.Contains(got.Message, "`postern connections delete "+c.ID+"`, then `postern connections create`") {
			t.Errorf("%s: %s", s, got.Message)
		}
	}
}

// What AWS refused is told of what it refused, and of nothing else.
func TestARefusalIsToldOfWhatWasRefused(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	const why = "the quota of endpoints is used up"
	for kind, says := range map[plan.ConnectionActionKind]struct{ wanted, removed string }{
		"":                     {"is made once", "its endpoint is being deleted"},
		plan.CreateGroup:       {"AWS did not make it: " + why, "its endpoint is being deleted"},
		plan.SetGroupRules:     {"AWS did not make it: " + why, "its endpoint is being deleted"},
		plan.CreateEndpoint:    {"AWS did not make it: " + why, "its endpoint is being deleted"},
		plan.SetEndpointGroups: {"is made once", "its endpoint is being deleted"},
		plan.DeleteEndpoint:    {"is made once", "its endpoint could not be deleted: " + why},
		plan.DeleteGroup:       {"is made once", "its security group could not be: " + why},
	} {
		for _, removing := range []bool{false, true} {
			c, v := carriedConnection(now)
			c.EndpointID, c.Addresses, c.Conditions, c.Removing = "", nil, nil, removing
			v.Cloud.Endpoints, v.Failed, v.Removal.Withdrawn = nil, plan.Refusal{Kind: kind, Message: why}, true
			want := says.wanted
			if removing {
				want = says.removed
			}
			got := postern.FindCondition(plan.Connection(c, v).After.Conditions, postern.Connected)
			if !strings.Contains(got.Message, want) || strings.Contains(got.Message, why) != strings.Contains(want, why) {
				t.Errorf("%s refused, removed %t: %s", kind, removing, got.Message)
			}
		}
	}
}
