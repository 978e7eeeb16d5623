package control_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/store"
)

// The control plane is outside of the egress' security group: without a node of
// the region nothing is found good, and the condition says who is missing.
func TestWithoutAnEgressNothingIsVerified(t *testing.T) {
	w := newOutboundWorld(t)
	w.blind = true
	l := control.New(w.config())
	w.accept("example-corp", w.pending(l))
	w.again(l)
	w.wants("dc_a", postern.DataConnectionVerifying, postern.Verified, postern.ReasonNotVerified)
	r := w.routes()
	if c := r.Connections[cluster]; c.Ready || len(c.Addresses) > 0 {
		t.Errorf("published %+v", c)
	}
	if c := r.Checks["dc_a"]; len(c.Addresses) != 2 || c.Hostname != cluster || c.Every >= time.Minute {
		t.Errorf("the egress is to look at %+v", c)
	}
	w.blind = false
	w.fence(egressNode)
	w.again(l)
	if m := w.condition(postern.Verified).Message; !strings.Contains(m, "no egress node serves "+virginia) {
		t.Errorf("it says %s", m)
	}
}

func (w *outboundWorld) fence(node string) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		n, err := tx.FindNode(node)
		if err != nil {
			return err
		}
		_, err = tx.FenceNode(n, "test", w.clock())
		return err
	})
}

// What nobody looked at for three resync periods is not known to be good. A
// control plane that was away for as long gives the nodes the time to say so.
func TestAVerdictEnds(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.readyConnection(l)
	w.blind = true
	w.advance(2 * time.Minute)
	w.restOutbound(l)
	w.wants("dc_a", postern.DataConnectionReady, postern.Verified, postern.ReasonVerified)
	w.advance(2 * time.Minute)

	another := control.New(w.config())
	w.restOutbound(another)
	w.wants("dc_a", postern.DataConnectionReady, postern.Verified, postern.ReasonVerified)
	w.restOutbound(l)
	w.wants("dc_a", postern.DataConnectionDegraded, postern.Verified, postern.ReasonNotVerified)
	if r := w.routes().Connections[cluster]; r.Ready || r.Reason != postern.ReasonNotVerified {
		t.Errorf("published %+v", r)
	}
	w.blind = false
	w.restOutbound(another)
	w.again(another)
	w.wants("dc_a", postern.DataConnectionReady, postern.Verified, postern.ReasonVerified)
	w.blind = true
	w.advance(4 * time.Minute)
	w.restOutbound(another)
	w.wants("dc_a", postern.DataConnectionDegraded, postern.Verified, postern.ReasonNotVerified)
}

// A control plane that is started again and again while nodes speak to it gives
// them no new time to look each time.
func TestAVerdictEndsWhateverIsRestarted(t *testing.T) {
	w := newOutboundWorld(t)
	w.readyConnection(control.New(w.config()))
	w.blind = true
	var ready []time.Duration
	looked := w.clock()
	for range 6 {
		w.advance(50 * time.Second)
		l := control.New(w.config())
		if err := l.PublishStored(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.hear(egressNode)
		w.restOutbound(l)
		if w.connection("dc_a").State == postern.DataConnectionReady {
			ready = append(ready, w.clock().Sub(looked))
		}
	}
	w.wants("dc_a", postern.DataConnectionDegraded, postern.Verified, postern.ReasonNotVerified)
	if len(ready) < 2 || ready[len(ready)-1] > 4*time.Minute {
		t.Errorf("ready %s after the last look", ready)
	}
}

// hear has a node say that it is there.
func (w *outboundWorld) hear(node string) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		n, err := tx.FindNode(node)
		if err != nil {
			return err
		}
		_, err = tx.ReportNode(postern.NodeReport{Node: n.ID, BootID: n.BootID, Seq: n.ReportSeq + 1, AppliedRevision: n.AppliedRevision}, w.clock())
		return err
	})
}

// A second node that does not get through holds the connection: a tenant's
// workloads may use that one.
func TestEveryEgressNodeMustFindItGood(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.readyConnection(l)
	w.register("egress-b")
	c := w.routes().Checks["dc_a"]
	say := func(fs ...postern.Finding) {
		look := postern.ConnectionLook{Connection: "dc_a", Node: "egress-b", Of: c.Sum(), Asked: c.Asked, At: w.clock(), Findings: fs}
		w.update(func(tx *store.Tx) error { return tx.SaveLook(look) })
		w.restOutbound(l)
	}
	w.restOutbound(l)
	w.wants("dc_a", postern.DataConnectionReady, postern.Verified, postern.ReasonVerified)
	say(postern.Finding{Reason: postern.ReasonUnreachable, Message: "not reached"})
	w.wants("dc_a", postern.DataConnectionDegraded, postern.Verified, postern.ReasonUnreachable)
	say()
	w.wants("dc_a", postern.DataConnectionReady, postern.Verified, postern.ReasonVerified)
	say(postern.Finding{Reason: postern.ReasonUnreachable, Message: "not reached"})
	w.fence("egress-b")
	w.restOutbound(l)
	w.wants("dc_a", postern.DataConnectionReady, postern.Verified, postern.ReasonVerified)
}

// When nobody answers, nothing was looked at.
func TestWhatDidNotAnswerWasNotLookedAt(t *testing.T) {
	w := newOutboundWorld(t)
	l := control.New(w.config())
	w.dnsDown = true
	w.fault(localaws.Fault{Kind: localaws.FaultError, Action: "DescribeVpcEndpointServices", Code: "InternalError"})
	w.request("dc_a", "example-corp")
	w.restOutbound(l)
	w.wants("dc_a", postern.DataConnectionRequested, postern.HostnameProven, postern.ReasonNotObserved)
	if at := w.connection("dc_a").CheckedAt; !at.IsZero() {
		t.Errorf("looked at %s", at)
	}
	w.mu.Lock()
	w.dnsDown = false
	w.mu.Unlock()
	checked := func() {
		t.Helper()
		w.advance(time.Second)
		w.ask("dc_a")
		w.restOutbound(l)
		if c := w.connection("dc_a"); c.CheckedAt.IsZero() || c.CheckedAt.Before(c.VerifyAsked) {
			t.Errorf("%s: looked at %s, asked at %s", c.State, c.CheckedAt, c.VerifyAsked)
		}
	}
	checked()

	// While the customer does not accept, there is only AWS's listing.
	w.aws.Faults().Clear()
	w.authorize("example-corp")
	w.publishProof("example-corp", cluster)
	checked()
	w.wants("dc_a", postern.DataConnectionPendingAcceptance, postern.Connected, postern.ReasonWaitsForAcceptance)
	checked()
}

// A customer's name servers that do not answer hold up nobody else's connection,
// and not what was found once they do.
func TestSlowLooksHoldUpNobodyElse(t *testing.T) {
	w := newOutboundWorld(t)
	answer := make(chan struct{})
	w.held = map[string]chan struct{}{postern.ChallengeName(cluster): answer}
	for o, hostname := range map[string]string{"example-corp": cluster, "globex": "trino.example.net"} {
		w.authorize(o)
		w.publishProof(o, hostname)
	}
	w.request("dc_a", "example-corp")
	w.request("dc_g", "globex", func(c *postern.DataConnection) { c.Hostname = "trino.example.net" })
	l := control.New(w.config())
	round := func() {
		t.Helper()
		settled, err := l.OutboundRound(t.Context())
		if err != nil || settled {
			t.Fatal(settled, err)
		}
		w.advance(time.Second)
	}
	for w.connection("dc_g").State != postern.DataConnectionPendingAcceptance && !w.gaveUp.Load() {
		round()
	}
	if w.gaveUp.Load() {
		t.Error("it waited for a customer's name servers")
	}
	if c := w.connection("dc_a"); c.State != postern.DataConnectionRequested || !c.CheckedAt.IsZero() {
		t.Errorf("nobody answered, and it is %s, looked at %s", c.State, c.CheckedAt)
	}
	close(answer)
	w.restOutbound(l)
	w.wants("dc_a", postern.DataConnectionPendingAcceptance, postern.Connected, postern.ReasonWaitsForAcceptance)
}

// What a look found is not lost with a round that could not store it.
func TestAProofThatWasNotStoredIsAskedForAgain(t *testing.T) {
	w := newOutboundWorld(t)
	ids := map[string]string{"dc_a": "example-corp", "dc_g": "globex"}
	for id, o := range ids {
		hostname := "trino." + o + ".com"
		w.publishProof(o, hostname)
		w.request(id, o, func(c *postern.DataConnection) { c.Hostname, c.VerifyAsked = hostname, time.Time{} })
	}
	w.advance(6 * time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := w.config()
	c.Now = func() time.Time { // is asked for again when the first event is written
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.asked == len(ids) {
			cancel()
		}
		return w.clock()
	}
	l := control.New(c)
	if _, err := l.OutboundRound(ctx); err == nil || ctx.Err() == nil {
		t.Fatal("the round stored what it found: the test proves nothing", err)
	}
	for id := range ids {
		w.wants(id, postern.DataConnectionRequested, postern.HostnameProven, "")
	}
	w.restOutbound(l)
	for id := range ids {
		w.wants(id, postern.DataConnectionAwaitsPermission, postern.HostnameProven, postern.ReasonChallengeFound)
	}
}
