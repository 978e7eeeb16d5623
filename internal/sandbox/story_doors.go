package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/proxyproto"
)

// foreignName lets Globex in by its own endpoint, and from there try the
// other's tenant.
func (st *story) foreignName(ctx context.Context) error {
	if err := st.globex.prove(ctx); err != nil {
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
	// An absent tenant must look the same on the wire, to the byte.
	var err error
	v, at := st.visitor("globex"), netip.AddrPortFrom(st.doors["globex"], st.httpsPort)
	if st.alert, err = v.alert(ctx, at, nil, st.platform.Host("example")); err != nil {
		return err
	}
	absent, err := v.alert(ctx, at, nil, st.platform.Host("no-such-tenant"))
	if err != nil {
		return err
	}
	if !slices.Equal(st.alert, absent) {
		return fmt.Errorf("another's tenant is refused with %x, an absent one with %x", st.alert, absent)
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	err = until(ctx, func() error {
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

// forged says to the ingress what only the load balancer may say, that it comes
// from Example Corp's endpoint, and to the app what only the ingress may say.
func (st *story) forged(ctx context.Context) error {
	v, host := st.visitor("internet"), st.platform.Host("example")
	at := netip.AddrPortFrom(st.places.private[st.home.Region], st.httpsPort)
	header := proxyproto.AppendAWS(nil, netip.AddrPortFrom(v.source, 40000), at, st.ids["first"])
	alert, err := v.alert(ctx, at, header, host)
	if err != nil {
		return fmt.Errorf("from the internet: %w", err)
	}
	// Through an endpoint, a second header of the client's own is no header.
	nested, err := st.visitor("globex").alert(ctx, netip.AddrPortFrom(st.doors["globex"], st.httpsPort), header, host)
	if err != nil {
		return fmt.Errorf("from Globex's endpoint: %w", err)
	}
	if !slices.Equal(alert, st.alert) || !slices.Equal(nested, st.alert) {
		return fmt.Errorf("refusals differ on the wire: %x and %x, and %x for another's tenant", alert, nested, st.alert)
	}
	at = netip.AddrPortFrom(st.places.backends[st.home.Region], st.httpsPort)
	header, err = proxyproto.Append(nil, proxyproto.Header{
		Source: netip.AddrPortFrom(v.source, 40000), Destination: at, VPCEndpointID: st.ids["first"], Authority: host, Organization: "example-corp",
	})
	if err != nil {
		return err
	}
	if answer, err := v.exchange(ctx, at, header, host); len(answer) > 0 || isTimeout(err) {
		return fmt.Errorf("the app takes a header from the internet: %d bytes, %s", len(answer), got(err))
	}
	st.saw("an alert each: %x; the app says nothing", alert)
	return nil
}

// alert sends a PROXY header and a real ClientHello, and returns the alert
// that answers; anything else is an error.
func (v visitor) alert(ctx context.Context, at netip.AddrPort, header []byte, serverName string) ([]byte, error) {
	answer, err := v.exchange(ctx, at, header, serverName)
	if len(answer) != 7 || answer[0] != 21 {
		return nil, fmt.Errorf("%d bytes %x…, %s, want one alert", len(answer), answer[:min(len(answer), 16)], got(err))
	}
	return answer, err
}

// exchange connects, sends a PROXY header and a real ClientHello, and reads
// what answers to its end.
func (v visitor) exchange(ctx context.Context, at netip.AddrPort, header []byte, serverName string) ([]byte, error) {
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
	return io.ReadAll(io.LimitReader(conn, 1024))
}

// outside tries Example Corp's endpoint from other networks.
func (st *story) outside(ctx context.Context) error {
	at := netip.AddrPortFrom(st.doors["first"], st.httpsPort)
	for _, network := range []string{"globex", "internet"} {
		r, err := st.visitor(network).get(ctx, at, st.platform.Host("example"), st.platform.Host("example"))
		if err == nil || errors.Is(err, errAlert) {
			return fmt.Errorf("from %s the endpoint answers: status %d, %s", network, r.status, got(err))
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

// withdrawn takes a tenant from the first endpoint. AWS keeps the endpoint, so
// that it is the ingress alone that cuts the connection.
func (st *story) withdrawn(ctx context.Context) error {
	v, at := st.visitor("example-corp"), netip.AddrPortFrom(st.doors["first"], st.httpsPort)
	kept, err := v.handshake(ctx, at, st.platform.Host("example"))
	if err != nil {
		return err
	}
	defer kept.Close()
	lost, err := v.handshake(ctx, at, st.platform.Host("example-dev"))
	if err != nil {
		return err
	}
	defer lost.Close()
	if _, err := st.example.api.UpdateEndpoint(ctx, st.ids["first"], []string{"example"}); err != nil {
		return err
	}
	start := time.Now()
	if err := cut(lost); err != nil {
		return fmt.Errorf("example-dev's: %w", err)
	}
	took := time.Since(start)
	soon, cancel := context.WithTimeout(ctx, cutTimeout) // the other nodes
	defer cancel()
	if err := until(soon, func() error { return st.refused(soon, "example-corp", "first", "example-dev") }); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(kept, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", st.platform.Host("example")); err != nil {
		return fmt.Errorf("example's open connection: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(kept), nil)
	if err != nil {
		return fmt.Errorf("example's open connection: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("example's open connection: status %d", resp.StatusCode)
	}
	st.saw("example-dev cut after %s, example 200 on a connection from before", took.Round(time.Millisecond))
	return nil
}

// roundTimeout is what a round may take after the resync that begins it, on a
// machine that has other things to do.
const roundTimeout = 5 * time.Second

// cutTimeout is how long what is revoked may live on.
const cutTimeout = 5 * time.Second

// cut waits until an open connection is closed by the other side.
func cut(open net.Conn) error {
	if err := open.SetReadDeadline(time.Now().Add(cutTimeout)); err != nil {
		return err
	}
	if _, err := open.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		return fmt.Errorf("the open connection lives on: %s", got(err))
	}
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
	noticing, cancel := context.WithTimeout(ctx, st.resync+roundTimeout)
	defer cancel()
	err = until(noticing, func() error {
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
	var reached []string
	for _, c := range customers(st.platform)[2:] {
		if err := st.other(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.id, err)
		}
		reached = append(reached, c.tenants[0].Name+" in "+c.networks[0].region)
	}
	if len(reached) > 0 {
		st.saw("200 from %s", strings.Join(reached, " and "))
	}
	return nil
}

// other also gives the customer a tenant in the first segment: its own, and
// still none that an endpoint in another segment reaches.
func (st *story) other(ctx context.Context, c customer) error {
	p, n := st.person(c.id), c.networks[0]
	abroad := client.Tenant{ID: c.id + "-abroad", Spec: client.TenantSpec{Organization: c.id, Region: st.home.Region}}
	if _, err := st.admin.CreateTenant(ctx, abroad); err != nil && !client.HasCode(err, "conflict") {
		return err
	}
	if err := p.prove(ctx); err != nil {
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
	for _, tenant := range []string{"example", abroad.ID} {
		if err := st.refused(ctx, n.name, c.id, tenant); err != nil {
			return err
		}
	}
	return st.admin.DeleteTenant(ctx, abroad.ID)
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
	if err := cut(open); err != nil {
		return err
	}
	err = until(ctx, func() error {
		if _, err := st.globex.api.Account(ctx, st.globex.account.ID); !client.HasCode(err, "not_found") {
			return fmt.Errorf("the account is still there: %s", got(err))
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
		return fmt.Errorf("a new endpoint: AWS answers %s, want InvalidServiceName", got(err))
	}
	st.saw("the open connection was cut, %s is rejected, the service does not exist for the account", st.ids["globex"])
	return nil
}
