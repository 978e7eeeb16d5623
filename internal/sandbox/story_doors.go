package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/proxyproto"
)

// foreignName lets Globex in by its own endpoint, and from there try the
// other's tenant.
func (st *story) foreignName(ctx context.Context) error {
	if _, err := st.globex.prove(ctx); err != nil {
		return err
	}
	if err := st.create(ctx, st.globex, "globex", "globex", st.home); err != nil {
		return err
	}
	if err := st.claimReady(ctx, st.globex, "globex"); err != nil {
		return err
	}
	if err := st.door(ctx, st.globex, "globex", "globex", st.home.Region); err != nil {
		return err
	}
	if err := until(ctx, func() error { return st.answered(ctx, "globex", "globex", "globex") }); err != nil {
		return err
	}
	since := time.Now()
	if err := st.refused(ctx, "globex", "globex", "example"); err != nil {
		return err
	}
	// An absent tenant must look the same on the wire.
	if err := st.refused(ctx, "globex", "globex", "no-such-tenant"); err != nil {
		return err
	}
	err := until(ctx, func() error {
		return st.denied(ctx, st.globex, st.ids["globex"], st.platform.Host("example"), "not_authorized", since)
	})
	st.saw("an alert; recorded as not_authorized for %s", st.ids["globex"])
	return err
}

// denied demands that a denial is among those that a person sees.
func (st *story) denied(ctx context.Context, p person, endpoint, serverName, reason string, since time.Time) error {
	denials, err := p.api.Denials(ctx, "")
	if err != nil {
		return err
	}
	for _, d := range denials {
		if d.VPCEndpointID == endpoint && d.ServerName == serverName && d.Reason == reason && d.LastSeen.After(since.Add(-time.Second)) {
			return nil
		}
	}
	return fmt.Errorf("no denial %s of %s for %s among %d", reason, endpoint, serverName, len(denials))
}

func (st *story) misdirected(ctx context.Context) error {
	r, err := st.visit(ctx, "globex", "globex", "globex", "example")
	if err != nil {
		return err
	}
	if r.status != 421 {
		return fmt.Errorf("server name globex with Host example: status %d, want 421", r.status)
	}
	st.saw("421 Misdirected Request")
	return nil
}

// forged says to the ingress what only the load balancer may say: that it
// comes from Example Corp's endpoint.
func (st *story) forged(ctx context.Context) error {
	v := st.visitor("internet")
	at := netip.AddrPortFrom(st.places.private[st.home.Region], st.httpsPort)
	header := proxyproto.AppendAWS(nil, netip.AddrPortFrom(v.source, 40000), at, st.ids["first"])
	alert, err := v.afterHeader(ctx, at, header, st.platform.Host("example"))
	if err != nil {
		return err
	}
	// Through an endpoint, a second header of the client's own is no header.
	v = st.visitor("globex")
	at = netip.AddrPortFrom(st.doors["globex"], st.httpsPort)
	nested, err := v.afterHeader(ctx, at, header, st.platform.Host("example"))
	if err != nil {
		return err
	}
	if !slices.Equal(alert, nested) {
		return fmt.Errorf("refusals differ on the wire: %x and %x", alert, nested)
	}
	st.saw("an alert each: %x", alert)
	return nil
}

// afterHeader connects, sends a PROXY header and a real ClientHello, and
// returns the alert that answers; anything else is an error.
func (v visitor) afterHeader(ctx context.Context, at netip.AddrPort, header []byte, serverName string) ([]byte, error) {
	conn, err := v.dial(ctx, at)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	hello, err := clientHello(ctx, serverName)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(visitTimeout)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(append(slices.Clone(header), hello...)); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 4096))
	if err != nil {
		return nil, fmt.Errorf("after a PROXY header of one's own: %w", err)
	}
	if len(answer) != 7 || answer[0] != 21 {
		return nil, fmt.Errorf("after a PROXY header of one's own: %d bytes %x…, want one alert", len(answer), answer[:min(len(answer), 16)])
	}
	return answer, nil
}

// outside tries Example Corp's endpoint from other networks.
func (st *story) outside(ctx context.Context) error {
	at := netip.AddrPortFrom(st.doors["first"], st.httpsPort)
	for _, network := range []string{"globex", "internet"} {
		r, err := st.visitor(network).get(ctx, at, st.platform.Host("example"), st.platform.Host("example"))
		if err == nil || errors.Is(err, errAlert) {
			return fmt.Errorf("from %s the endpoint answers: status %d, %v", network, r.status, err)
		}
	}
	return nil
}

// unclaimed leaves a connection alone for a few rounds of the loop.
func (st *story) unclaimed(ctx context.Context) error {
	if err := st.create(ctx, st.example, "unclaimed", "example-corp", st.home); err != nil {
		return err
	}
	no := false
	listed := func(p person) error {
		cs, err := p.api.Connections(ctx, "", &no)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(cs, func(c client.Connection) bool { return c.VPCEndpointID == st.ids["unclaimed"] }) {
			return errors.New("the connection is not listed")
		}
		return nil
	}
	if err := until(ctx, func() error { return listed(person{api: st.admin}) }); err != nil {
		return err
	}
	if err := listed(st.example); err != nil {
		return fmt.Errorf("for its own organization: %w", err)
	}
	if listed(st.globex) == nil {
		return errors.New("another organization sees the connection")
	}
	if err := st.rounds(ctx, 3); err != nil {
		return err
	}
	state, _, err := st.example.endpointState(ctx, st.home.Region, st.ids["unclaimed"])
	if err != nil {
		return err
	}
	if state != "pendingacceptance" {
		return fmt.Errorf("after three rounds AWS reports %s, want pendingAcceptance", state)
	}
	st.saw("%s is listed and still pendingAcceptance after three rounds", st.ids["unclaimed"])
	return nil
}

// named: an isolated network in another region of the segment, for one tenant.
func (st *story) named(ctx context.Context) error {
	v := st.vpc("example-corp-isolated")
	if err := st.create(ctx, st.example, "second", "example-corp-isolated", st.offer(v.Region)); err != nil {
		return err
	}
	if err := st.claimReady(ctx, st.example, "second", "example-dev"); err != nil {
		return err
	}
	if err := st.door(ctx, st.example, "second", "example-corp-isolated", v.Region); err != nil {
		return err
	}
	if err := until(ctx, func() error { return st.answered(ctx, "example-corp-isolated", "second", "example-dev") }); err != nil {
		return err
	}
	if err := st.refused(ctx, "example-corp-isolated", "second", "example"); err != nil {
		return err
	}
	st.saw("%s in %s: example-dev 200, example an alert", st.ids["second"], v.Region)
	return nil
}

func (st *story) deleted(ctx context.Context) error {
	if err := st.answered(ctx, "example-corp", "first", "example"); err != nil {
		return err
	}
	after, err := st.lastEvent(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := st.example.deleteEndpoints(ctx, st.home.Region, st.ids["first"]); err != nil {
		return err
	}
	err = until(ctx, func() error {
		e, err := st.example.api.Endpoint(ctx, st.ids["first"])
		if err != nil {
			return err
		}
		for _, c := range e.Status.Conditions {
			if e.Status.State == "disconnected" && c.Type == "Connected" && c.Status == "False" && c.Reason == "Deleted" {
				return nil
			}
		}
		return fmt.Errorf("the endpoint is %s: %s", e.Status.State, conditions(e))
	})
	if err != nil {
		return err
	}
	took := time.Since(start)
	if limit := st.resync + 2*time.Second; took > limit {
		return fmt.Errorf("it took %s to notice, more than a resync period and what a round takes (%s)", took, limit)
	}
	events, err := st.example.api.Events(ctx, "", after)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(events, func(e client.Event) bool { return e.Action == "endpoint.state" && e.Subject == st.ids["first"] }) {
		return fmt.Errorf("no event about it among %d", len(events))
	}
	if r, err := st.visit(ctx, "example-corp", "first", "example", "example"); err == nil {
		return fmt.Errorf("traffic goes on: status %d", r.status)
	}
	st.saw("disconnected %s after the deletion", took.Round(time.Millisecond))
	return nil
}

// lastEvent is the sequence number of the last event so far.
func (st *story) lastEvent(ctx context.Context) (int64, error) {
	events, err := st.admin.Events(ctx, "", 0)
	if err != nil || len(events) == 0 {
		return 0, err
	}
	return events[len(events)-1].Seq, nil
}

// others: prove, create, claim and visit in each further segment, and no
// further than that segment.
func (st *story) others(ctx context.Context) error {
	reached := ""
	for _, c := range customers(st.platform)[2:] {
		p, n := st.person(c.id), c.networks[0]
		if _, err := p.prove(ctx); err != nil {
			return err
		}
		if err := st.create(ctx, p, c.id, n.name, st.offer(n.region)); err != nil {
			return err
		}
		if err := st.claimReady(ctx, p, c.id); err != nil {
			return err
		}
		if err := st.door(ctx, p, c.id, n.name, n.region); err != nil {
			return err
		}
		if err := until(ctx, func() error { return st.answered(ctx, n.name, c.id, c.tenants[0].Name) }); err != nil {
			return err
		}
		if err := st.refused(ctx, n.name, c.id, "example"); err != nil {
			return err
		}
		reached += " " + c.tenants[0].Name + " in " + n.region
	}
	st.saw("200 from%s", reached)
	return nil
}

// revoked takes Globex off the platform, while it has a connection open.
func (st *story) revoked(ctx context.Context) error {
	at := netip.AddrPortFrom(st.doors["globex"], st.httpsPort)
	open, err := st.visitor("globex").handshake(ctx, at, st.platform.Host("globex"))
	if err != nil {
		return err
	}
	defer open.Close()
	if err := st.globex.api.DeleteAccount(ctx, st.globex.account.ID); err != nil {
		return err
	}
	if err := open.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := open.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		return fmt.Errorf("the open connection lives on: %w", err)
	}
	err = until(ctx, func() error {
		if _, err := st.globex.api.Account(ctx, st.globex.account.ID); !client.HasCode(err, "not_found") {
			return fmt.Errorf("the account is still there: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	state, _, err := st.globex.endpointState(ctx, st.home.Region, st.ids["globex"])
	if err != nil {
		return err
	}
	if state != "rejected" {
		return fmt.Errorf("AWS reports the endpoint %s, want rejected", state)
	}
	if _, err = st.globex.createEndpoint(ctx, st.vpc("globex"), st.home); awsCode(err) != "InvalidServiceName" {
		return fmt.Errorf("a new endpoint: AWS answers %w, want InvalidServiceName", err)
	}
	st.saw("the open connection was cut, %s is rejected, the service does not exist for the account", st.ids["globex"])
	return nil
}
