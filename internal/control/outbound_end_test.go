package control_test

import (
	"context"
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
)

// Deletion goes in the order of the gates, backwards, and leaves nothing.
func TestADataConnectionGoesInOrder(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.readyConnection(l)
	w.remove()
	var order []string
	note := func(what string, holds bool) {
		if holds && !slices.Contains(order, what) {
			order = append(order, what)
		}
	}
	for range 60 {
		settled, err := l.OutboundRound(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		es, gs := w.atAWS()
		_, routed := w.routes().Connections[cluster]
		note("route", !routed)
		note("endpoint", len(es) == 0)
		note("group", len(gs) == 0)
		note("row", w.connection("dc_a").ID == "")
		if news := w.look(); settled && !news {
			break
		}
		w.advance(time.Second)
	}
	if diff := cmp.Diff([]string{"route", "endpoint", "group", "row"}, order); diff != "" {
		t.Errorf("%s; log:\n%s", diff, w.log)
	}
	w.has(0, 0)
	if strings.Contains(w.log.String(), "in use") {
		t.Errorf("what is expected is no failure: %s", w.log)
	}
}

func TestARequestThatMadeNothingGoesAtOnce(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.request("dc_a", "example-corp")
	w.restOutbound(l)
	w.remove()
	w.fault(localaws.Fault{Kind: localaws.FaultError, Action: "DescribeVpcEndpoints", Code: "InternalError"})
	if _, err := l.OutboundRound(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.connection("dc_a").ID != "" {
		t.Error("the row stays")
	}
}

// Listings that lag make no second endpoint, and a deletion in the meantime
// leaves none.
func TestListingsThatLagDoNoHarm(t *testing.T) {
	w := newOutboundWorld(t, func(timing *localaws.Timing) { timing.HiddenDescribes = 4 })
	l := control.New(w.config())
	w.readyConnection(l)
	w.has(1, 1)
	for _, n := range []string{"data-connection.endpoint-created", "data-connection.group-created"} {
		if got := count(w.actions(0), n); got != 1 {
			t.Errorf("%d events %s", got, n)
		}
	}

	w = newOutboundWorld(t, func(timing *localaws.Timing) { timing.HiddenDescribes = 6 })
	l = control.New(w.config())
	w.authorize("example-corp")
	w.publishProof("example-corp", cluster)
	w.request("dc_a", "example-corp")
	for range 10 {
		if _, err := l.OutboundRound(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.advance(time.Second)
		if slices.Contains(w.actions(0), "data-connection.endpoint-created") {
			break
		}
	}
	w.remove() // made, and not listed yet
	w.restOutbound(l)
	for range 8 { // whatever is hidden is seen
		w.atAWS()
	}
	w.has(0, 0)
	if w.connection("dc_a").ID != "" {
		t.Error("the row stays")
	}
}

// A call that takes effect after the connection was removed leaves nothing.
func TestWhatIsMadeTooLateIsSweptUp(t *testing.T) {
	for _, action := range []string{"CreateSecurityGroup", "CreateVpcEndpoint"} {
		t.Run(action, func(t *testing.T) {
			w := newOutboundWorld(t)
			w.authorize("example-corp")
			w.publishProof("example-corp", cluster)
			w.request("dc_a", "example-corp")
			w.fault(localaws.Fault{Kind: localaws.FaultPause, When: localaws.BeforeCommit, Action: action, Times: 1})
			dying, die := context.WithCancel(t.Context())
			defer die()
			dead := make(chan struct{})
			go func() {
				defer close(dead)
				l := control.New(w.config())
				for dying.Err() == nil {
					_, _ = l.OutboundRound(dying)
					w.advance(time.Second)
				}
			}()
			held, err := w.aws.Faults().WaitPaused(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			die()
			<-dead
			l := control.New(w.config())
			w.remove()
			w.restOutbound(l)
			if w.connection("dc_a").ID != "" {
				t.Fatalf("the row stays; log:\n%s", w.log)
			}
			w.has(0, 0)
			w.aws.Faults().Release(held.ID)
			w.until(func() bool {
				return slices.ContainsFunc(w.aws.Faults().Calls(), func(c localaws.Call) bool { return c.ID == held.ID && c.State == "done" })
			})
			if _, gs := w.atAWS(); action == "CreateSecurityGroup" && len(gs) != 1 {
				t.Fatal("the call took no effect: the test proves nothing")
			}
			// An endpoint is not made any more, for its group is gone. One that was
			// made, with another group, would be deleted.
			if action == "CreateVpcEndpoint" {
				w.makeTagged("example", "dc_a")
				w.has(1, 0)
			}
			w.again(l)
			w.has(0, 0)
		})
	}
}

// until waits for what another goroutine does.
func (w *outboundWorld) until(holds func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within the time; log:\n%s", w.log)
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // a condition is polled
	}
}

// makeTagged makes an endpoint to Example's service by hand, with the tags of a
// platform and a connection, or none.
func (w *outboundWorld) makeTagged(platform, connection string) {
	w.t.Helper()
	in := &ec2.CreateVpcEndpointInput{
		VpcEndpointType: types.VpcEndpointTypeInterface, ServiceName: awssdk.String(w.service["example-corp"].Name), VpcId: &w.egress.ID,
		SubnetIds: []string{w.egress.Subnets[0].ID},
	}
	if platform != "" {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeVpcEndpoint, Tags: []types.Tag{
			{Key: awssdk.String("postern:platform"), Value: &platform}, {Key: awssdk.String("postern:connection"), Value: &connection},
		}}}
	}
	if _, err := w.vendor().CreateVpcEndpoint(w.t.Context(), in); err != nil {
		w.t.Fatal(err)
	}
}

// A second endpoint with the connection's tag is deleted, the first one stays.
func TestDoublesAreDeleted(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	endpoint := w.readyConnection(l)
	w.makeTagged("example", "dc_a")
	w.has(2, 1)
	w.again(l)
	w.has(1, 1)
	if c := w.connection("dc_a"); c.EndpointID != endpoint || c.State != postern.DataConnectionReady {
		t.Errorf("%+v", c)
	}
}

// What was not made here, and what carries the ID of a connection that never
// was, is left alone.
func TestStrangersAreLeftAlone(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.readyConnection(l)
	for _, tags := range [][2]string{{"", ""}, {"other", "dc_a"}, {"example", "dc_never"}} {
		w.makeTagged(tags[0], tags[1])
	}
	w.again(l)
	w.has(4, 1)
	w.remove()
	w.restOutbound(l)
	w.again(l)
	w.has(3, 0)
}

// AWS's refusal is told, and tried again.
func TestARefusalIsToldAndTriedAgain(t *testing.T) {
	w := newOutboundWorld(t)
	w.authorize("example-corp")
	w.publishProof("example-corp", cluster)
	w.request("dc_a", "example-corp")
	l := control.New(w.config())
	w.fault(localaws.Fault{Kind: localaws.FaultError, Action: "CreateVpcEndpoint", Code: "VpcEndpointLimitExceeded", Status: 400, Times: 3})
	said := false
	for range 20 {
		if _, err := l.OutboundRound(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := w.condition(postern.Connected)
		said = said || c.Reason == postern.ReasonCreateFailed && strings.Contains(c.Message, "quota")
		w.advance(time.Second)
	}
	if !said {
		t.Errorf("the refusal was not told; log:\n%s", w.log)
	}
	w.wants("dc_a", postern.DataConnectionPendingAcceptance, postern.Connected, postern.ReasonWaitsForAcceptance)
	w.has(1, 1)
}

// The lane runs by itself, beside the other one.
func TestTheOutboundLaneRuns(t *testing.T) {
	w := newOutboundWorld(t)
	w.authorize("example-corp")
	w.publishProof("example-corp", cluster)
	c := w.config()
	c.Settle = 4 * time.Millisecond
	w.running(control.New(c))
	w.request("dc_a", "example-corp")
	w.until(func() bool {
		w.advance(time.Second)
		return w.connection("dc_a").State == postern.DataConnectionPendingAcceptance
	})
}

// A removal that waits for a node goes on when that node obeys it, and not only
// at the next resync period.
func TestAHeldRemovalGoesOnAtOnce(t *testing.T) {
	w := newOutboundWorld(t)
	w.readyConnection(control.New(w.config()))
	w.blind = true
	w.remove()
	c := w.config()
	c.Settle = 4 * time.Millisecond
	w.running(control.New(c))
	w.until(func() bool { return strings.Contains(w.condition(postern.Connected).Message, egressNode) })
	w.has(1, 1)
	w.blind = false
	w.until(func() bool {
		w.look()
		es, _ := w.atAWS()
		return len(es) == 0
	})
}

// AWS gives the addresses of a deleted endpoint to the next one, which may be
// another tenant's: so an endpoint stays until no egress node leads there.
func TestAnEndpointStaysWhileANodeLeadsThere(t *testing.T) {
	for name, mend := range map[string]func(w *outboundWorld, l *control.Loop){
		"it hears of it": func(w *outboundWorld, _ *control.Loop) { w.blind = false },
		"it is fenced":   func(w *outboundWorld, _ *control.Loop) { w.fence(egressNode) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newOutboundWorld(t)
			l := control.New(w.config())
			w.readyConnection(l)
			w.blind = true
			w.remove()
			for range 10 {
				// Nobody looks before the node, or an operator, does something.
				if settled, err := l.OutboundRound(t.Context()); err != nil || !settled {
					t.Fatal(settled, err)
				}
				w.advance(time.Minute)
			}
			if _, routed := w.routes().Connections[cluster]; routed || w.routes().Checks["dc_a"].Hostname != "" {
				t.Errorf("published %+v", w.routes())
			}
			w.has(1, 1)
			if m := w.condition(postern.Connected).Message; !strings.Contains(m, egressNode) || !strings.Contains(m, "postern node fence") {
				t.Errorf("it says %s", m)
			}
			l = control.New(w.config()) // another process waits as well
			if _, err := l.OutboundRound(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.has(1, 1)
			// Globex gets no address that the node leads to meanwhile.
			old := w.connection("dc_a").Addresses
			w.authorize("globex")
			w.publishProof("globex", "trino.example.net")
			w.request("dc_g", "globex", func(c *postern.DataConnection) { c.Hostname = "trino.example.net" })
			for range 20 {
				if _, err := l.OutboundRound(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.advance(time.Second)
			}
			w.accept("globex", w.connection("dc_g").EndpointID)
			w.advance(time.Minute)
			if _, err := l.OutboundRound(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := w.connection("dc_g").Addresses; len(got) == 0 || slices.ContainsFunc(got, func(a netip.Addr) bool { return slices.Contains(old, a) }) {
				t.Errorf("Globex has %v, and the node leads Example to %v", got, old)
			}
			mend(w, l)
			w.restOutbound(l)
			w.again(l)
			w.has(1, 1) // Globex's
			if c := w.connection("dc_a"); c.ID != "" {
				t.Errorf("the row stays: %+v", c)
			}
		})
	}
}

// countedOutbound counts the calls that make something.
type countedOutbound struct {
	control.Outbound
	created, asked, deleted int
}

func (c *countedOutbound) DeleteOutboundEndpoints(ctx context.Context, region string, ids []string) (map[string]error, error) {
	c.deleted++
	return c.Outbound.DeleteOutboundEndpoints(ctx, region, ids)
}

func (c *countedOutbound) CreateOutboundEndpoint(ctx context.Context, e postern.NewOutboundEndpoint) (string, error) {
	c.created++
	return c.Outbound.CreateOutboundEndpoint(ctx, e)
}

func (c *countedOutbound) FindService(ctx context.Context, svc postern.ServiceRef) (*postern.EndpointService, error) {
	c.asked++
	return c.Outbound.FindService(ctx, svc)
}

// What AWS refuses is tried again after ever longer pauses, a resync period at
// most; a person who asks does not wait, and what it refused stays told.
func TestWhatAWSRefusesIsTriedEverMoreSeldom(t *testing.T) {
	w := newOutboundWorld(t)
	w.authorize("example-corp")
	w.publishProof("example-corp", cluster)
	w.request("dc_a", "example-corp")
	w.fault(localaws.Fault{Kind: localaws.FaultError, Action: "CreateVpcEndpoint", Code: "VpcEndpointLimitExceeded", Status: 400})
	c := w.config()
	count := &countedOutbound{Outbound: w.cloud}
	c.Outbound = count
	l := control.New(c)
	round := func() {
		if _, err := l.OutboundRound(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.advance(time.Second)
	}
	for range 120 {
		refused := count.created > 0
		round()
		if refused {
			w.wants("dc_a", postern.DataConnectionProvisioning, postern.Connected, postern.ReasonCreateFailed)
		}
	}
	// After 1, 2, 4, 8, 16 and 32 s, and then once a minute.
	if count.created < 6 || count.created > 8 || count.asked > 16 {
		t.Errorf("in two minutes an endpoint was to be made %d times, and its service was asked for %d times", count.created, count.asked)
	}
	before := count.created
	w.ask("dc_a")
	round()
	if count.created != before+1 {
		t.Error("a person who asks has to wait")
	}
	w.aws.Faults().Clear()
	w.ask("dc_a")
	w.restOutbound(l)
	w.wants("dc_a", postern.DataConnectionPendingAcceptance, postern.Connected, postern.ReasonWaitsForAcceptance)

	// A deletion likewise, which waits for nothing that was refused before.
	w.fault(localaws.Fault{Kind: localaws.FaultError, Action: "DeleteVpcEndpoints", Code: "InternalError", Status: 500})
	w.remove()
	rested := 0
	for range 120 {
		settled, err := l.OutboundRound(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if settled {
			rested++
		}
		w.advance(time.Second)
		w.look()
	}
	if count.deleted < 6 || count.deleted > 8 {
		t.Errorf("in two minutes it was to be deleted %d times", count.deleted)
	}
	// The first pauses add up to a minute; in the second nobody looks.
	if rested < 50 || rested > 65 {
		t.Errorf("it was at rest for %d of 120 seconds", rested)
	}
	w.aws.Faults().Clear()
	w.advance(time.Minute)
	w.restOutbound(l)
	w.again(l)
	w.has(0, 0)
}

// A region that is taken out of the platform file serves no workload from the
// next start on, and what is there can still be removed.
func TestARegionIsGivenUp(t *testing.T) {
	w := newOutboundWorld(t)
	w.readyConnection(control.New(w.config()))
	w.platform.Outbound.Regions, w.platform.Outbound.Networks = nil, nil
	l := control.New(w.config())
	if err := l.PublishStored(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := w.routes()
	if c := r.Connections[cluster]; c.Ready || len(c.Addresses) > 0 || c.Reason != postern.ReasonNotVerified || !strings.Contains(c.Message, "postern connections delete dc_a") {
		t.Errorf("published %+v", c)
	}
	if len(r.Checks) > 0 {
		t.Errorf("looked at: %+v", r.Checks)
	}
	w.restOutbound(l)
	w.wants("dc_a", postern.DataConnectionDegraded, postern.Verified, postern.ReasonNotVerified)
	w.has(1, 1)
	w.remove()
	w.restOutbound(l)
	w.again(l)
	w.has(0, 0)
	if c := w.connection("dc_a"); c.ID != "" {
		t.Errorf("the row stays: %+v", c)
	}
}
