package sandbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/postern-net/postern/client"
)

// privateDNS makes the customer's CNAME in a private hosted zone, as the seed
// asks for, and finds that its VPC, and nobody else, is led to the endpoint.
func (st *story) privateDNS(ctx context.Context) error {
	want, err := st.example.api.TenantDNS(ctx, "example")
	if err != nil {
		return err
	}
	name := st.platform.PrivateLinkHost("example")
	i := slices.IndexFunc(want.Customer, func(n client.NetworkDNS) bool { return n.VPCEndpointID == st.ids["first"] })
	if i < 0 || want.Customer[i].Record.Name != name {
		return fmt.Errorf("the customer is told to create %+v, want a CNAME at %s for %s", want.Customer, name, st.ids["first"])
	}
	if err := st.example.createCNAME(ctx, st.vpc("example-corp"), st.platform.Domains.PrivateLink, name, want.Customer[i].Record.Value); err != nil {
		return err
	}
	err = until(ctx, func() error {
		at, err := st.visitor("example-corp").resolve(ctx, name)
		if err == nil && !st.behind("first", at) {
			err = fmt.Errorf("in the VPC %s is %s, which is no address of %s", name, at, st.ids["first"])
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, network := range []string{"internet", "globex"} {
		if at, err := st.visitor(network).resolve(ctx, name); err == nil {
			return fmt.Errorf("from %s %s resolves to %s", network, name, at)
		}
	}
	st.saw("%s is %s in the VPC, and nothing in another's or on the internet", name, st.doors["first"])
	return nil
}

// behind tells whether an address is one of an endpoint's interfaces.
func (st *story) behind(endpoint string, at netip.Addr) bool {
	info, err := st.aws.Endpoint(st.ids[endpoint])
	return err == nil && slices.Contains(info.Addresses, at.String())
}

// pathProbe sends a probe's name through the endpoint, and through another
// organization's, which proves nothing.
func (st *story) pathProbe(ctx context.Context) error {
	foreign, err := st.example.api.CreateProbe(ctx, "example")
	if err != nil {
		return err
	}
	probe, err := st.example.api.CreateProbe(ctx, "example")
	if err != nil {
		return err
	}
	since := time.Now()
	if err := st.probe(ctx, "globex", "globex", foreign.ServerName); err != nil {
		return err
	}
	// Nodes report each by itself: this one's arrival is known before the own
	// probe is sent, or it would not be known yet whether it counts.
	err = until(ctx, func() error {
		return st.denied(ctx, st.globex, st.ids["globex"], foreign.ServerName, "unknown_host", since)
	})
	if err != nil {
		return err
	}
	if err := st.probe(ctx, "example-corp", "first", probe.ServerName); err != nil {
		return err
	}
	err = until(ctx, func() error {
		probes, err := st.example.api.Probes(ctx, "example")
		if err != nil {
			return err
		}
		through := map[string]string{}
		for _, p := range probes {
			through[p.ServerName] = p.VPCEndpointID
		}
		switch {
		case through[foreign.ServerName] != "":
			return fmt.Errorf("%w: a probe through another organization's endpoint counts: %s", errFinal, through[foreign.ServerName])
		case through[probe.ServerName] != st.ids["first"]:
			return errors.New("the probe was not recorded")
		}
		return nil
	})
	if err != nil {
		return err
	}
	blockers, err := st.blockers(ctx, "example")
	if err != nil {
		return err
	}
	if slices.Contains(blockers, "PathUnproven") {
		return fmt.Errorf("the path is proven, and PathUnproven still blocks: %v", blockers)
	}
	st.saw("refused and recorded through %s; what is left: %s", st.ids["first"], strings.Join(blockers, ", "))
	return nil
}

// probe shows a probe's name at an endpoint, which must refuse it.
func (st *story) probe(ctx context.Context, network, endpoint, name string) error {
	at := netip.AddrPortFrom(st.doors[endpoint], st.httpsPort)
	c, err := st.visitor(network).handshake(ctx, at, name)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, errAlert) {
		return fmt.Errorf("the probe through %s: %s, want an alert", st.ids[endpoint], got(err))
	}
	return nil
}

func (st *story) blockers(ctx context.Context, tenant string) (names []string, err error) {
	bs, err := st.example.api.Preflight(ctx, tenant)
	for _, b := range bs {
		names = append(names, b.Name)
	}
	return names, err
}

// standard visits a tenant as anybody would: by the standard hostname, as the
// network's own resolver answers it.
func (st *story) standard(ctx context.Context, network, tenant string) (reply, error) {
	v, host := st.visitor(network), st.platform.Host(tenant)
	at, err := v.resolve(ctx, host)
	if err != nil {
		return reply{}, err
	}
	return v.get(ctx, netip.AddrPortFrom(at, st.httpsPort), host, host)
}

// privately demands that the standard hostname leads through an endpoint.
func (st *story) privately(ctx context.Context, network, tenant, endpoint string) error {
	r, err := st.standard(ctx, network, tenant)
	if err != nil {
		return err
	}
	if r.status != 200 || r.app.VPCEndpointID != st.ids[endpoint] {
		return fmt.Errorf("from %s: status %d through %q, want 200 through %s", network, r.status, r.app.VPCEndpointID, st.ids[endpoint])
	}
	return nil
}

// publicly demands that the internet reaches the tenant.
func (st *story) publicly(ctx context.Context, tenant string) error {
	r, err := st.standard(ctx, "internet", tenant)
	if err != nil {
		return err
	}
	if r.status != 200 || r.app.VPCEndpointID != "" {
		return fmt.Errorf("from the internet: status %d through %q, want 200 publicly", r.status, r.app.VPCEndpointID)
	}
	return nil
}

// rehearse starts a cutover when nothing stands against it, and waits until
// the rehearsal's records are published.
func (st *story) rehearse(ctx context.Context, tenant string, acknowledged ...string) (client.Cutover, error) {
	var c client.Cutover
	err := until(ctx, func() (err error) {
		c, err = st.example.api.StartCutover(ctx, client.CutoverRequest{Tenant: tenant, Acknowledged: acknowledged})
		return err
	})
	if err != nil {
		return c, err
	}
	return c, until(ctx, func() error {
		now, err := st.example.api.Cutover(ctx, c.ID)
		if err == nil && now.Status.PublishedAt.IsZero() {
			err = fmt.Errorf("the rehearsal is not published: %s", cutoverConditions(now))
		}
		return err
	})
}

func cutoverConditions(c client.Cutover) (text string) {
	for _, k := range c.Status.Conditions {
		if k.Status != "True" {
			text += fmt.Sprintf("%s (%s) ", k.Type, k.Message)
		}
	}
	return text
}

// rehearsal: refused while a blocker is neither mended nor accepted; then the
// VPC is private and the internet as before.
func (st *story) rehearsal(ctx context.Context) error {
	if err := until(ctx, func() error { return st.publicly(ctx, "example") }); err != nil {
		return err
	}
	_, err := st.example.api.StartCutover(ctx, client.CutoverRequest{Tenant: "example"})
	if !client.HasCode(err, "conflict") || !strings.Contains(err.Error(), "Integrations") {
		return fmt.Errorf("a start with nothing accepted: %s, want a conflict that names Integrations", got(err))
	}
	if st.moving, err = st.rehearse(ctx, "example", "Integrations"); err != nil {
		return err
	}
	if err := until(ctx, func() error { return st.privately(ctx, "example-corp", "example", "first") }); err != nil {
		return err
	}
	// Until the internet's resolver has forgotten the records of before.
	forgotten := time.Now().Add(1500 * time.Millisecond)
	err = until(ctx, func() error {
		if err := st.publicly(ctx, "example"); err != nil {
			return fmt.Errorf("%w: %w", errFinal, err)
		}
		if time.Now().Before(forgotten) {
			return errors.New("the old records may still be in use")
		}
		return nil
	})
	if err != nil {
		return err
	}
	line, err := st.logged(ctx, st.ids["first"], st.platform.Host("example"))
	st.saw("the standard hostname by the VPC's resolver goes through %s, by the internet's to the fallback; the log: %s", st.ids["first"], line)
	return err
}

// stillPublic: the rehearsal goes no further while a public client comes, and
// preflight names it by its source.
func (st *story) stillPublic(ctx context.Context) error {
	reported, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	err := until(reported, func() error {
		if err := st.publicly(ctx, "example"); err != nil {
			return err
		}
		bs, err := st.example.api.Preflight(ctx, "example")
		if err != nil {
			return err
		}
		for _, b := range bs {
			if b.Name == "PublicClients" && slices.Contains(b.Evidence, st.ground.client.String()) {
				return nil
			}
		}
		return fmt.Errorf("preflight does not name %s among %+v", st.ground.client, bs)
	})
	if err != nil {
		return err
	}
	st.saw("preflight names %s", st.ground.client)
	// Also when the rehearsal has lasted for as long as it must.
	return until(ctx, func() error {
		now, err := st.example.api.Cutover(ctx, st.moving.ID)
		if err != nil {
			return err
		}
		if now.Status.State != "rehearsing" {
			return fmt.Errorf("%w: a public client comes, and the cutover is %s", errFinal, now.Status.State)
		}
		if err := st.publicly(ctx, "example"); err != nil {
			return err
		}
		if err := st.privately(ctx, "example-corp", "example", "first"); err != nil {
			return err
		}
		if time.Since(now.Status.PublishedAt) < 4*time.Second+2*st.resync {
			return errors.New("the rehearsal has not lasted long enough")
		}
		return nil
	})
}

// cutover takes example's public access away while one private connection
// stays open and others come and go, and one node has to be fenced on the way.
func (st *story) cutover(ctx context.Context) error {
	st.deregister(cutOff) // it will be stopped, and whatever is open there with it
	lasting, err := st.openLasting(ctx)
	st.register(cutOff)
	if err != nil {
		return err
	}
	defer lasting.Close()
	pulse := startPulse(ctx, 50, func(ctx context.Context) error { return st.privately(ctx, "example-corp", "example", "first") })
	err = st.enforce(ctx)
	sent, failed := pulse.stop()
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if err := lasting.ask(); err != nil {
		return fmt.Errorf("the private connection that was open from the start did not survive: %w", err)
	}
	st.saw("held back by %s until it was fenced; complete; %d private visits and 0 failed, the open connection lives", cutOff, sent)
	return nil
}

// cutOff is the node that loses its link on the way.
const cutOff = "node-b"

func (st *story) enforce(ctx context.Context) error {
	if err := st.CutLink(cutOff); err != nil {
		return err
	}
	if _, err := st.example.api.AcknowledgeCutover(ctx, st.moving.ID, "PublicClients"); err != nil {
		return err
	}
	// A node counts as cut off when it was silent for eight seconds.
	silent, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := until(silent, func() error { return st.waitsFor(ctx, cutOff) }); err != nil {
		return err
	}
	// It stays so for as long as nobody says that the node is out of service.
	if err := st.rounds(ctx, 2); err != nil {
		return err
	}
	if err := st.waitsFor(ctx, cutOff); err != nil {
		return err
	}
	// What an operator does: out of the target groups, past its drain, fenced.
	st.deregister(cutOff)
	if err := st.rounds(ctx, 2); err != nil { // visits that are under way there end
		return err
	}
	if err := st.StopNode(cutOff); err != nil {
		return err
	}
	if _, err := st.admin.FenceNode(ctx, cutOff); err != nil {
		return err
	}
	return until(ctx, func() error {
		now, err := st.example.api.Cutover(ctx, st.moving.ID)
		if err == nil && now.Status.State != "complete" {
			err = fmt.Errorf("the cutover is %s: %s", now.Status.State, cutoverConditions(now))
		}
		return err
	})
}

// waitsFor demands that the cutover is held back, and that its status names
// the node that it waits for.
func (st *story) waitsFor(ctx context.Context, node string) error {
	now, err := st.example.api.Cutover(ctx, st.moving.ID)
	if err != nil {
		return err
	}
	for _, k := range now.Status.Conditions {
		if k.Type == "NodesAcknowledged" && k.Status == "False" && strings.Contains(k.Message, node) && (now.Status.State == "rehearsing" || now.Status.State == "enforcing") {
			return nil
		}
	}
	return fmt.Errorf("the cutover is %s and does not wait for %s: %s", now.Status.State, node, cutoverConditions(now))
}

// publicClosed: no address of the platform, on any node, gives the internet a
// TLS session for the tenant; its VPC is served as before. The fenced node is
// brought back first: it must come back closed.
func (st *story) publicClosed(ctx context.Context) error {
	if _, err := st.admin.UnfenceNode(ctx, cutOff); !client.HasCode(err, "conflict") {
		return fmt.Errorf("%s, which was never told of its fence, is trusted again: %s, want a conflict", cutOff, got(err))
	}
	if err := st.RestoreLink(cutOff); err != nil {
		return err
	}
	if err := st.StartNode(ctx, cutOff); err != nil {
		return err
	}
	told, cancel := context.WithTimeout(ctx, cutTimeout)
	defer cancel()
	if err := until(told, func() error { return st.shut(ctx, cutOff) }); err != nil {
		return fmt.Errorf("%s is fenced: %w", cutOff, err)
	}
	if err := st.unfence(ctx, cutOff); err != nil {
		return err
	}
	if err := until(ctx, func() error { return st.inStep(ctx, cutOff) }); err != nil {
		return err
	}
	st.register(cutOff)
	if err := st.shut(ctx, slices.Collect(maps.Keys(st.places.nodes))...); err != nil {
		return err
	}
	if err := st.privately(ctx, "example-corp", "example", "first"); err != nil {
		return err
	}
	host := st.platform.Host("example")
	if at, err := st.visitor("internet").resolve(ctx, host); err == nil {
		return fmt.Errorf("the internet still resolves %s to %s", host, at)
	}
	st.saw("%d addresses tried: no TLS session; the VPC gets 200", len(st.doorAddresses(slices.Collect(maps.Keys(st.places.nodes))...)))
	return nil
}

// shut demands that no door of the nodes gives the internet a TLS session for
// the tenant.
func (st *story) shut(ctx context.Context, nodes ...string) error {
	host := st.platform.Host("example")
	for _, at := range st.doorAddresses(nodes...) {
		c, err := st.visitor("internet").handshake(ctx, netip.AddrPortFrom(at, st.httpsPort), host)
		if err == nil {
			c.Close()
			return fmt.Errorf("the internet gets a TLS session for %s at %s", host, at)
		}
	}
	return nil
}

// inStep demands that a node obeys the route table that all others obey.
func (st *story) inStep(ctx context.Context, node string) error {
	nodes, err := st.admin.Nodes(ctx)
	if err != nil {
		return err
	}
	var latest int64
	for _, n := range nodes {
		latest = max(latest, n.Status.AppliedRevision)
	}
	for _, n := range nodes {
		if n.ID == node && !n.Status.Fenced && n.Status.AppliedRevision == latest {
			return nil
		}
	}
	return fmt.Errorf("node %s is not in step: %+v", node, nodes)
}

// rollback makes the tenant public again, by a person.
func (st *story) rollback(ctx context.Context) error {
	if _, err := st.example.api.RollBackCutover(ctx, st.moving.ID, "we were not ready"); err != nil {
		return err
	}
	if err := until(ctx, func() error { return st.publicly(ctx, "example") }); err != nil {
		return err
	}
	if r, err := st.visit(ctx, "example-corp", "first", "example", "example"); err != nil || r.status != 200 {
		return fmt.Errorf("through the endpoint: status %d, %s", r.status, got(err))
	}
	st.saw("the internet gets 200 again, the endpoint too")
	return nil
}

// turnsBack: during another rehearsal the endpoint dies. The cutover goes back
// by itself, and the internet never notices.
func (st *story) turnsBack(ctx context.Context) error {
	pulse := startPulse(ctx, 20, func(ctx context.Context) error { return st.publicly(ctx, "example-dev") })
	c, err := st.dyingRehearsal(ctx)
	if err == nil {
		err = st.remembered(ctx, c.ID, "example-dev")
	}
	sent, failed := pulse.stop()
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	st.saw("%s; %d public visits, 0 failed", c.Status.EndedWhy, sent)
	return nil
}

func (st *story) dyingRehearsal(ctx context.Context) (client.Cutover, error) {
	v := st.vpc("example-corp-isolated")
	dns, err := st.example.api.TenantDNS(ctx, "example-dev")
	if err != nil {
		return client.Cutover{}, err
	}
	for _, n := range dns.Customer {
		if n.VPCEndpointID != st.ids["second"] {
			continue
		}
		if err := st.example.createCNAME(ctx, v, st.platform.Domains.PrivateLink, n.Record.Name, n.Record.Value); err != nil {
			return client.Cutover{}, err
		}
	}
	c, err := st.rehearse(ctx, "example-dev", "Integrations", "PathUnproven")
	if err != nil {
		return c, err
	}
	if err := until(ctx, func() error { return st.privately(ctx, "example-corp-isolated", "example-dev", "second") }); err != nil {
		return c, err
	}
	err = until(ctx, func() error {
		now, err := st.example.api.Cutover(ctx, c.ID)
		for _, k := range now.Status.Conditions {
			if k.Type == "PrivateTraffic" && k.Status == "True" {
				return nil
			}
		}
		return errors.Join(errors.New("the private visit is not seen"), err)
	})
	if err != nil {
		return c, err
	}
	// Every endpoint that reaches the tenant goes, or the others carry on.
	if err := st.example.deleteEndpoints(ctx, v.Region, st.ids["second"]); err != nil {
		return c, err
	}
	noticing, cancel := context.WithTimeout(ctx, st.resync+2*roundTimeout)
	defer cancel()
	err = until(noticing, func() error {
		c, err = st.example.api.Cutover(ctx, c.ID)
		if err == nil && (c.Status.State != "rolled-back" || c.Status.EndedBy != "loop") {
			err = fmt.Errorf("the cutover is %s by %q: %s", c.Status.State, c.Status.EndedBy, cutoverConditions(c))
		}
		return err
	})
	return c, err
}

// remembered demands that a resolver which remembers the way over the
// privatelink name finds the public ingress there, until the cutover that was
// rolled back is settled.
func (st *story) remembered(ctx context.Context, cutover, tenant string) error {
	public := slices.Collect(maps.Values(st.places.public))
	return until(ctx, func() error {
		at, err := st.visitor("internet").resolve(ctx, st.platform.PrivateLinkHost(tenant))
		c, e2 := st.example.api.Cutover(ctx, cutover)
		switch {
		case e2 != nil:
			return e2
		case !c.Status.SettledAt.IsZero() && c.Status.SettledAt.Sub(c.Status.EndedAt) < time.Second: // the records' TTL
			return fmt.Errorf("%w: rolled back and settled at once", errFinal)
		case !c.Status.SettledAt.IsZero():
			return nil
		case err != nil || !slices.Contains(public, at):
			return fmt.Errorf("%w: rolled back and not settled, and the privatelink name leads to %v: %s", errFinal, at, got(err))
		}
		return errors.New("the fallback is still there")
	})
}

// deregister takes a node's private doors out of the load balancers.
func (st *story) deregister(node string) {
	for _, at := range st.places.nodes[node].private {
		st.aws.Deregister(netip.AddrPortFrom(at, st.httpsPort))
	}
}

func (st *story) register(node string) {
	for _, at := range st.places.nodes[node].private {
		st.aws.Register(netip.AddrPortFrom(at, st.httpsPort))
	}
}

// doorAddresses lists every address that the nodes have a door at.
func (st *story) doorAddresses(nodes ...string) (all []netip.Addr) {
	for _, id := range nodes {
		n := st.places.nodes[id]
		for _, region := range st.platform.RegionIDs() {
			all = append(all, n.public[region], n.private[region])
		}
	}
	return all
}
