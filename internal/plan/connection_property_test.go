package plan_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

const (
	connectionID   = "dc_a"
	egressGroup    = "sg-0123456789abcdef0"
	clusterService = "com.amazonaws.vpce.us-east-1.vpce-svc-0471015b106ad1d47"
)

var outboundZones = []string{"use1-az1", "use1-az2", "use1-az3"}

func drawSome(t *rapid.T, from []string, label string) []string {
	var out []string
	for _, v := range from {
		if rapid.Bool().Draw(t, label+" "+v) {
			out = append(out, v)
		}
	}
	return out
}

func drawMoment(t *rapid.T, now time.Time, label string) time.Time {
	if rapid.Bool().Draw(t, label+" never") {
		return time.Time{}
	}
	return now.Add(-time.Duration(rapid.IntRange(0, 40).Draw(t, label)) * time.Second)
}

func clusterConnection() postern.DataConnection {
	return postern.DataConnection{
		ID: connectionID, Organization: "o", Tenant: "t", Kind: postern.KindStarburstTrino, Region: "us-east-1", Zones: outboundZones[:2],
		Service:  postern.ServiceRef{Region: "us-east-1", ID: "vpce-svc-0471015b106ad1d47", Name: clusterService},
		Hostname: "starburst.example.com", Ports: []uint16{443, 8443}, State: postern.DataConnectionRequested,
	}
}

// drawConnection draws any state that a row may be in, sound or not.
func drawConnection(t *rapid.T, now time.Time) postern.DataConnection {
	c := clusterConnection()
	c.Zones = drawSome(t, outboundZones, "asked zone")
	c.Removing = rapid.Bool().Draw(t, "removing")
	c.ProvenAt, c.MadeSince, c.MissingSince, c.ReadyAt = drawMoment(t, now, "proven"), drawMoment(t, now, "made"), drawMoment(t, now, "missing"), drawMoment(t, now, "ready")
	c.CheckedAt = drawMoment(t, now, "checked")
	c.ServiceOwner = rapid.SampledFrom([]string{"", "111111111111", "222222222222"}).Draw(t, "stored owner")
	c.EndpointID = rapid.SampledFrom([]string{"", "vpce-1", "vpce-9"}).Draw(t, "stored endpoint")
	c.SecurityGroupID = rapid.SampledFrom([]string{"", "sg-1"}).Draw(t, "stored group")
	if rapid.Bool().Draw(t, "has addresses") {
		c.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	}
	c.State = rapid.SampledFrom(postern.DataConnectionStates()).Draw(t, "state")
	for _, typ := range connectionConditions {
		if rapid.Bool().Draw(t, "has "+string(typ)) {
			c.Conditions = postern.SetCondition(c.Conditions, postern.Condition{
				Type: typ, Status: rapid.SampledFrom([]postern.ConditionStatus{postern.True, postern.False, postern.Unknown}).Draw(t, "status"),
				Reason: rapid.SampledFrom(postern.Reasons()).Draw(t, "reason"), Message: "as it was",
				Since: now.Add(-time.Duration(rapid.SampledFrom([]int{0, 13, 14, 30}).Draw(t, "days so")) * 24 * time.Hour),
			})
		}
	}
	return c
}

var connectionConditions = []postern.ConditionType{
	postern.HostnameProven, postern.ServiceAuthorized, postern.ServiceSuitable, postern.Connected, postern.Verified, postern.Ready,
}

func drawConnectionView(t *rapid.T, now time.Time) plan.ConnectionView {
	v := plan.ConnectionView{
		Principal: "arn:aws:iam::999999999999:root", Accounts: drawSome(t, []string{"111111111111", "222222222222"}, "proven"),
		Rules: plan.Rules{MissingGrace: 10 * time.Second, Looks: plan.LookRules{Every: 5 * time.Second, Soon: time.Second, Lifetime: lookLifetime}}, Now: now,
		Hostname: plan.HostnameView{
			Challenge: "postern-verify=x", Looked: rapid.Bool().Draw(t, "DNS looked"), Found: rapid.Bool().Draw(t, "found"),
			Others: rapid.Bool().Draw(t, "others"), Taken: rapid.Bool().Draw(t, "taken"),
		},
		Service: plan.ServiceView{Looked: rapid.Bool().Draw(t, "service looked"), Silent: rapid.Bool().Draw(t, "service silent")},
		Check:   drawLooks(t, now),
		Failed:  rapid.SampledFrom([]plan.Refusal{{}, {Kind: plan.CreateEndpoint, Message: "the quota"}, {Kind: plan.DeleteEndpoint, Message: "no"}}).Draw(t, "failed"),
	}
	v.Removal.Withdrawn = rapid.Bool().Draw(t, "withdrawn")
	if v.Removal.Withdrawn {
		v.Removal.Waiting = drawSome(t, []string{"egress-a", "egress-b"}, "waits for")
	}
	if rapid.Bool().Draw(t, "DNS silent") {
		v.Hostname.Silent, v.Hostname.Found = "no resolver", false
	}
	if rapid.Bool().Draw(t, "network") {
		v.Network = &postern.OutboundNetwork{Region: "us-east-1", VPC: "vpc-1", EgressGroup: egressGroup}
		for _, z := range drawSome(t, outboundZones, "own zone") {
			v.Network.Subnets = append(v.Network.Subnets, postern.OutboundSubnet{ID: "subnet-" + z, Zone: z})
		}
	}
	if !v.Service.Silent && rapid.Bool().Draw(t, "service seen") {
		v.Service.Service = &postern.EndpointService{
			Owner: rapid.SampledFrom([]string{"111111111111", "222222222222", "333333333333"}).Draw(t, "owner"),
			IPv4:  rapid.Bool().Draw(t, "ipv4"), Interface: rapid.Bool().Draw(t, "interface"), AcceptanceRequired: rapid.Bool().Draw(t, "acceptance"),
			Zones: drawSome(t, outboundZones, "service zone"),
		}
	}
	if rapid.Bool().Draw(t, "observed") {
		v.Cloud = &plan.ConnectionCloud{}
		for i := range rapid.IntRange(0, 2).Draw(t, "endpoints") {
			v.Cloud.Endpoints = append(v.Cloud.Endpoints, postern.OutboundEndpoint{
				ID: fmt.Sprintf("vpce-%d", i+1), ConnectionID: connectionID,
				CreatedAt:   now.Add(-time.Duration(rapid.SampledFrom([]int{0, 0, 0, 13, 14, 30}).Draw(t, "days old")) * 24 * time.Hour),
				ServiceName: rapid.SampledFrom([]string{clusterService, clusterService, "another"}).Draw(t, "of service"),
				State: rapid.SampledFrom([]postern.ConnectionState{
					postern.ConnectionPendingAcceptance, postern.ConnectionPending, postern.ConnectionAvailable, postern.ConnectionDeleting,
					postern.ConnectionDeleted, postern.ConnectionRejected, postern.ConnectionFailed, postern.ConnectionExpired, "newState",
				}).Draw(t, "endpoint state"),
			})
			v.Cloud.Endpoints[i].Groups = drawSome(t, []string{"sg-1", "sg-8"}, "endpoint's group")
			if rapid.Bool().Draw(t, "endpoint has addresses") {
				v.Cloud.Endpoints[i].Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.7")}
			}
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "groups") {
			g := postern.OutboundGroup{ID: fmt.Sprintf("sg-%d", i+1), ConnectionID: connectionID}
			for _, r := range append(goodRules(), postern.GroupRule{Protocol: "-1", From: -1, To: -1, Peer: "0.0.0.0/0"}) {
				if rapid.Bool().Draw(t, "rule") {
					g.Rules = append(g.Rules, r)
				}
			}
			v.Cloud.Groups = append(v.Cloud.Groups, g)
		}
	}
	return v
}

// drawLooks draws what two egress nodes found, lately or not, of one of the
// addresses that a connection may have, or of neither.
func drawLooks(t *rapid.T, now time.Time) plan.CheckView {
	v := plan.CheckView{Since: now.Add(-time.Duration(rapid.IntRange(0, 40).Draw(t, "looks since")) * time.Second)}
	for _, node := range drawSome(t, []string{"egress-a", "egress-b"}, "node") {
		v.Nodes++
		if !rapid.Bool().Draw(t, "looked") {
			continue
		}
		l := postern.ConnectionLook{
			Connection: connectionID, Node: node, At: now.Add(-time.Duration(rapid.IntRange(0, 40).Draw(t, "looked before")) * time.Second),
			Of: rapid.SampledFrom([]string{lookedAt("10.0.0.1"), lookedAt("10.0.0.7"), lookedAt("10.0.0.9")}).Draw(t, "looked of"),
		}
		for _, r := range []postern.Reason{postern.ReasonExpiresSoon, postern.ReasonPrivateCA} {
			if rapid.Bool().Draw(t, "finding "+string(r)) {
				l.Findings = append(l.Findings, postern.Finding{Reason: r, Warning: r == postern.ReasonExpiresSoon, Message: string(r)})
			}
		}
		v.Looks = append(v.Looks, l)
	}
	v.Never = len(v.Looks) == 0 && rapid.Bool().Draw(t, "never looked at")
	return v
}

// lookedAt is the sum of a look at the connection's cluster by an address.
func lookedAt(addresses ...string) string {
	c := clusterConnection()
	check := postern.ConnectionCheck{Kind: c.Kind, Hostname: c.Hostname, Region: c.Region, Ports: c.Ports}
	for _, a := range addresses {
		check.Addresses = append(check.Addresses, netip.MustParseAddr(a))
	}
	return check.Sum()
}

const lookLifetime = 20 * time.Second

func goodRules() []postern.GroupRule {
	return []postern.GroupRule{{Protocol: "tcp", From: 443, To: 443, Peer: egressGroup}, {Protocol: "tcp", From: 8443, To: 8443, Peer: egressGroup}}
}

// Every endpoint is made in exactly the zones that the request, the service as it
// was seen and the platform's network share: one bad subnet fails the whole
// endpoint (AWS). Where there is none, nothing is made.
func TestEndpointsAreMadeInCommonZones(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	all := []string{"use1-az1", "use1-az2", "use1-az3", "use1-az4", "use1-az5", "use1-az6"}
	rapid.Check(t, func(t *rapid.T) {
		c, v := carriedConnection(now)
		c.EndpointID, c.Addresses, c.Conditions, v.Cloud.Endpoints = "", nil, nil, nil
		c.State = rapid.SampledFrom([]postern.DataConnectionState{postern.DataConnectionProvisioning, postern.DataConnectionAwaitsPermission, postern.DataConnectionFailed}).Draw(t, "state")
		if rapid.Bool().Draw(t, "was suitable") { // with other zones, perhaps
			c.Conditions = postern.SetCondition(nil, postern.Condition{Type: postern.ServiceSuitable, Status: postern.True, Reason: postern.ReasonSuitable, Message: "m"})
		}
		c.Zones = drawSome(t, all, "asked zone")
		v.Service = plan.ServiceView{Looked: true, Service: &postern.EndpointService{
			Owner: "111111111111", IPv4: true, Interface: true, AcceptanceRequired: true, Zones: drawSome(t, all, "service zone"),
		}}
		var common []string
		for _, z := range drawSome(t, all, "own zone") {
			v.Network.Subnets = append(v.Network.Subnets, postern.OutboundSubnet{ID: "subnet-" + z, Zone: z})
			if slices.Contains(c.Zones, z) && slices.Contains(v.Service.Service.Zones, z) {
				common = append(common, "subnet-"+z)
			}
		}
		s := plan.Connection(c, v)
		if len(common) == 0 {
			if got := postern.FindCondition(s.After.Conditions, postern.ServiceSuitable); len(s.Actions) > 0 || got.Reason != postern.ReasonNoCommonZone {
				t.Fatalf("%+v, and %+v", s.Actions, got)
			}
			return
		}
		if len(s.Actions) != 1 || s.Actions[0].Kind != plan.CreateEndpoint {
			t.Fatalf("%+v", s.Actions)
		}
		if diff := cmp.Diff(common, s.Actions[0].Subnets); diff != "" {
			t.Fatal(diff)
		}
	})
}

// Whatever the row and the world are, nothing is made that is not owned, nothing
// is deleted that is not the connection's, and nothing is promised that does not
// hold.
func TestConnectionObeysItsRules(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		c, v := drawConnection(t, now), drawConnectionView(t, now)
		p := &postern.Platform{}
		if v.Network != nil {
			p.Outbound.Networks = []postern.OutboundNetwork{*v.Network}
		}
		s := plan.Connection(c, v)
		a := s.After
		if a.Removing && !c.Removing {
			checkReleased(t, c, v)
			c.Removing = true
		}
		if v.Cloud == nil && len(s.Actions) > 0 {
			t.Fatalf("it acts on what it has not seen: %+v", s.Actions)
		}
		for _, act := range s.Actions {
			checkAction(t, c, v, a, act)
		}
		if s.Delete {
			checkDeletion(t, c, v)
		}
		if c.Removing {
			if a.State != postern.DataConnectionRemoving {
				t.Fatalf("it is %s", a.State)
			}
			if _, _, ok := plan.CompileConnection(p, a, nil); ok {
				t.Fatal("a connection that is being removed has a route")
			}
			return
		}
		for _, typ := range connectionConditions {
			got := postern.FindCondition(a.Conditions, typ)
			if got.Message == "" || !slices.Contains(postern.Reasons(), got.Reason) {
				t.Fatalf("condition %s is %+v", typ, got)
			}
		}
		if !c.ProvenAt.IsZero() && !a.ProvenAt.Equal(c.ProvenAt) {
			t.Fatal("a proof was lost")
		}
		if c.ProvenAt.IsZero() && !a.ProvenAt.IsZero() && (!v.Hostname.Looked || !v.Hostname.Found || v.Hostname.Taken) {
			t.Fatal("proven without a proof")
		}
		if c.EndpointID != "" && a.EndpointID != c.EndpointID {
			t.Fatalf("endpoint %s became %s", c.EndpointID, a.EndpointID)
		}
		if a.State == postern.DataConnectionReady {
			checkReady(t, c, v, a)
		}
		if postern.FindCondition(a.Conditions, postern.Verified).Status == postern.True {
			checkVerified(t, c, v, a)
		}
		var accounts []postern.Account
		for _, id := range v.Accounts {
			accounts = append(accounts, postern.Account{ID: id, Organization: "o", State: postern.AccountActive})
		}
		name, route, ok := plan.CompileConnection(p, a, accounts)
		switch {
		case ok != !a.ProvenAt.IsZero():
			t.Fatalf("a route: %v, proven at %s", ok, a.ProvenAt)
		case ok && (name != a.Hostname || route.Ready != (a.State == postern.DataConnectionReady) || route.Ready && len(route.Addresses) == 0 ||
			!route.Ready && (len(route.Addresses) > 0 || route.Reason == "" || route.Message == "")):
			t.Fatalf("%s: %+v", a.State, route)
		}
		if _, stranger, _ := plan.CompileConnection(p, a, nil); stranger.Ready {
			t.Fatal("ready without a proven account")
		}
		if _, gone, _ := plan.CompileConnection(&postern.Platform{}, a, accounts); gone.Ready || len(gone.Addresses) > 0 {
			t.Fatal("ready in a region that the platform gave up")
		}
		// Looking again at the same changes nothing more, once what was just
		// adopted is taken into account.
		again := plan.Connection(a, v).After
		if third := plan.Connection(again, v).After; !plan.SameConnection(again, third) {
			t.Fatalf("not at rest: %s", cmp.Diff(again, third, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })))
		}
	})
}

func checkAction(t *rapid.T, c postern.DataConnection, v plan.ConnectionView, a postern.DataConnection, act plan.ConnectionAction) {
	own := func(id string) bool {
		return slices.ContainsFunc(v.Cloud.Endpoints, func(e postern.OutboundEndpoint) bool { return e.ID == id }) ||
			slices.ContainsFunc(v.Cloud.Groups, func(g postern.OutboundGroup) bool { return g.ID == id })
	}
	switch act.Kind {
	case plan.CreateGroup, plan.CreateEndpoint:
		svc := v.Service.Service
		switch {
		case c.Removing, c.EndpointID != "", a.EndpointID != "":
			t.Fatalf("%s for one that has, or is to have none: %+v", act.Kind, a)
		case a.ProvenAt.IsZero():
			t.Fatal("made before the hostname was proven")
		case !v.Service.Looked || v.Service.Silent || svc == nil || !slices.Contains(v.Accounts, svc.Owner):
			t.Fatal("made to a service that was not seen as a proven account's")
		case !svc.AcceptanceRequired || !svc.IPv4 || !svc.Interface:
			t.Fatal("made to an unsuitable service")
		case a.MadeSince.IsZero():
			t.Fatal("made before it is stored that it may be")
		}
		if act.Kind == plan.CreateGroup {
			if len(v.Cloud.Groups) > 0 {
				t.Fatal("a second group")
			}
			return
		}
		if len(act.Subnets) == 0 || act.VPC != v.Network.VPC || act.Service != c.Service {
			t.Fatalf("made at random: %+v", act)
		}
		for _, s := range v.Network.Subnets {
			if slices.Contains(act.Subnets, s.ID) && (!slices.Contains(c.Zones, s.Zone) || !slices.Contains(svc.Zones, s.Zone)) {
				t.Fatalf("subnet %s is in no common zone", s.ID)
			}
		}
		i := slices.IndexFunc(v.Cloud.Groups, func(g postern.OutboundGroup) bool { return g.ID == act.Group })
		if i < 0 || !sameRules(v.Cloud.Groups[i].Rules, goodRules()) {
			t.Fatal("made with a group that is not closed to everybody but the egress")
		}
	case plan.SetGroupRules:
		i := slices.IndexFunc(v.Cloud.Groups, func(g postern.OutboundGroup) bool { return g.ID == act.Target })
		if i < 0 || c.Removing {
			t.Fatalf("rules of a group that is not there: %+v", act)
		}
		after := slices.DeleteFunc(slices.Clone(v.Cloud.Groups[i].Rules), func(r postern.GroupRule) bool { return slices.Contains(act.Remove, r) })
		if !sameRules(append(after, act.Add...), goodRules()) {
			t.Fatalf("the rules become %v", append(after, act.Add...))
		}
	case plan.SetEndpointGroups:
		i := slices.IndexFunc(v.Cloud.Endpoints, func(e postern.OutboundEndpoint) bool { return e.ID == act.Target })
		if i < 0 || c.Removing || act.Target != a.EndpointID {
			t.Fatalf("groups of an endpoint that is not its: %+v", act)
		}
		after := slices.DeleteFunc(slices.Clone(v.Cloud.Endpoints[i].Groups), func(g string) bool { return slices.Contains(act.Take, g) })
		if got := append(after, act.Put...); len(got) != 1 || !own(got[0]) {
			t.Fatalf("its groups become %v", got)
		}
	case plan.DeleteEndpoint:
		if !own(act.Target) || !c.Removing && act.Target == a.EndpointID {
			t.Fatalf("it deletes %s", act.Target)
		}
		if c.Removing && len(c.Addresses) > 0 && (!v.Removal.Withdrawn || len(v.Removal.Waiting) > 0) {
			t.Fatalf("it deletes %s while a node may lead workloads to its addresses", act.Target)
		}
	case plan.DeleteGroup:
		live := slices.ContainsFunc(v.Cloud.Endpoints, func(e postern.OutboundEndpoint) bool { return e.State != postern.ConnectionDeleted })
		if !own(act.Target) || !c.Removing || live {
			t.Fatalf("it deletes group %s", act.Target)
		}
	}
}

func sameRules(a, b []postern.GroupRule) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(r postern.GroupRule) bool { return !slices.Contains(b, r) })
}

func checkDeletion(t *rapid.T, c postern.DataConnection, v plan.ConnectionView) {
	switch {
	case !c.Removing:
		t.Fatal("a row that is wanted goes")
	case c.MadeSince.IsZero() && c.EndpointID == "":
	case v.Cloud == nil, len(v.Cloud.Groups) > 0, c.MissingSince.IsZero(), v.Now.Sub(c.MissingSince) < v.Rules.MissingGrace,
		slices.ContainsFunc(v.Cloud.Endpoints, func(e postern.OutboundEndpoint) bool { return e.State != postern.ConnectionDeleted }):
		t.Fatal("the row goes while something may be left at AWS")
	}
}

// checkReleased demands that a connection that nobody deleted is given up only
// when its endpoint is old, and was not connected for long.
func checkReleased(t *rapid.T, c postern.DataConnection, v plan.ConnectionView) {
	last := postern.FindCondition(c.Conditions, postern.Connected)
	apart := last.Status == postern.False && v.Now.Sub(last.Since) >= 14*24*time.Hour
	old := v.Cloud != nil && slices.ContainsFunc(v.Cloud.Endpoints, func(e postern.OutboundEndpoint) bool {
		return (c.EndpointID == "" || e.ID == c.EndpointID) && v.Now.Sub(e.CreatedAt) >= 14*24*time.Hour &&
			e.State != postern.ConnectionAvailable && e.State != postern.ConnectionPending && (e.State == postern.ConnectionPendingAcceptance || apart)
	})
	if !c.ReadyAt.IsZero() || !old {
		t.Fatalf("given up: %+v of %+v", c, v.Cloud)
	}
}

// checkVerified demands that a good cluster was seen to be good, lately, at the
// addresses that it has, and that no node lately found it bad.
func checkVerified(t *rapid.T, c postern.DataConnection, v plan.ConnectionView, a postern.DataConnection) {
	sum := postern.ConnectionCheck{Kind: a.Kind, Hostname: a.Hostname, Region: a.Region, Ports: a.Ports, Addresses: a.Addresses}.Sum()
	known, good, bad := false, false, false
	if v.Network == nil {
		t.Fatal("good in a region that the platform gave up")
	}
	for _, l := range v.Check.Looks {
		if l.Of != sum {
			continue
		}
		known = true
		if v.Now.Sub(l.At) >= lookLifetime {
			continue
		}
		if slices.ContainsFunc(l.Findings, func(f postern.Finding) bool { return !f.Warning }) {
			bad = true
		} else {
			good = true
		}
	}
	before := postern.FindCondition(c.Conditions, postern.Verified).Status
	justStarted := known && before == postern.True && v.Now.Sub(v.Check.Since) < lookLifetime
	upgraded := v.Check.Never && before == postern.True && v.Now.Sub(c.CheckedAt) < lookLifetime && slices.Equal(a.Addresses, c.Addresses)
	if bad || !good && !justStarted && !upgraded {
		t.Fatalf("verified, and the looks are %+v", v.Check.Looks)
	}
}

func checkReady(t *rapid.T, c postern.DataConnection, v plan.ConnectionView, a postern.DataConnection) {
	connected := postern.FindCondition(a.Conditions, postern.Connected)
	carried := connected.Status == postern.True || connected.Status == postern.Unknown && (c.State == postern.DataConnectionReady || c.State == postern.DataConnectionDegraded)
	switch {
	case a.ProvenAt.IsZero(), a.EndpointID == "", len(a.Addresses) == 0, a.ReadyAt.IsZero():
		t.Fatalf("ready, and %+v", a)
	case !slices.Contains(v.Accounts, a.ServiceOwner):
		t.Fatal("ready without a proven account")
	case !carried:
		// A ready connection of which AWS was silent stays so, if nothing else fell.
		if c.State != postern.DataConnectionReady || connected.Status != postern.Unknown {
			t.Fatalf("ready, and %+v", connected)
		}
	case postern.FindCondition(a.Conditions, postern.Verified).Status != postern.True && connected.Status == postern.True:
		t.Fatalf("ready, and not verified: %+v", a.Conditions)
	}
}
