package sandbox

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
)

// awaitConnected waits until a data connection is ready.
func (st *story) awaitConnected(ctx context.Context, p person, id string) (c client.DataConnection, err error) {
	err = until(ctx, func() error {
		if c, err = p.api.DataConnection(ctx, id); err == nil && c.Status.State != "ready" {
			err = fmt.Errorf("%s is %s: %+v", c.Spec.Hostname, c.Status.State, waits(c))
		}
		return err
	})
	return c, err
}

// bothWays runs a query by each way out.
func (st *story) bothWays(ctx context.Context, tenant, host, cluster string) error {
	w, err := st.workload(tenant)
	if err != nil {
		return err
	}
	for name, way := range map[string]func() *http.Transport{"by the proxy": w.byProxy, "straight": w.straight} {
		got, err := w.query(ctx, way(), host)
		if err != nil {
			return fmt.Errorf("%s's workload %s: %w", tenant, name, err)
		}
		if got != cluster {
			return fmt.Errorf("%w: %s's workload %s reached %s, want %s", errFinal, tenant, name, got, cluster)
		}
	}
	return nil
}

func (st *story) queries(ctx context.Context) error {
	if err := st.PresentCertificate("example-corp", certificateGood); err != nil {
		return err
	}
	if _, err := st.example.api.VerifyDataConnection(ctx, st.out.id); err != nil {
		return err
	}
	c, err := st.awaitConnected(ctx, st.example, st.out.id)
	if err != nil {
		return err
	}
	host := c.Spec.Hostname
	if err := until(ctx, func() error { return st.bothWays(ctx, "example", host, "example_corp") }); err != nil {
		return err
	}
	// The name leads to the egress in the tenant's view, and nowhere in others'.
	w, err := st.workload("example")
	if err != nil {
		return err
	}
	if at, err := w.resolve(ctx, host); err != nil || at != w.bound.Addr() {
		return fmt.Errorf("the tenant's DNS answers %v (%s), want %s", at, got(err), w.bound.Addr())
	}
	if at, err := st.visitor("internet").resolve(ctx, host); err == nil {
		return fmt.Errorf("the public resolver answers %s for %s", at, host)
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	line, err := st.logged(ctx, st.out.id, host)
	st.saw("SELECT 1 by the proxy and straight; the log: %s", line)
	return err
}

// globexReady connects Globex's own cluster.
func (st *story) globexReady(ctx context.Context) error {
	service := st.cluster("globex").service
	if err := st.globex.allow(ctx, service.Region, service.ID, []string{st.platform.Outbound.Principal}, nil); err != nil {
		return err
	}
	var err error
	if st.out.globex, err = st.request(ctx, st.globex, st.wish("globex")); err != nil {
		return err
	}
	c, err := st.awaitReason(ctx, st.globex, st.out.globex, "Connected", "WaitsForAcceptance")
	if err != nil {
		return err
	}
	if err := st.globex.accept(ctx, service.Region, service.ID, c.Status.EndpointID); err != nil {
		return err
	}
	_, err = st.awaitConnected(ctx, st.globex, st.out.globex)
	return err
}

// foreignWorkload lets Globex's workload, which has a connection of its own,
// try to get to Example Corp's cluster in every way that there is.
func (st *story) foreignWorkload(ctx context.Context) error {
	if err := st.globexReady(ctx); err != nil {
		return fmt.Errorf("the connection of Globex itself: %w", err)
	}
	own, theirs := st.cluster("globex"), st.cluster("example-corp")
	if err := until(ctx, func() error { return st.bothWays(ctx, "globex", own.hostname, "globex") }); err != nil {
		return err
	}
	w, err := st.workload("globex")
	if err != nil {
		return err
	}
	before := st.clusters["example-corp"].Statements()
	if err := st.strangersTargets(ctx, w, theirs); err != nil {
		return err
	}
	// Within the tunnel to its own cluster, another server name gets an alert.
	a, err := w.connect(ctx, fmt.Sprintf("%s:%d", own.hostname, st.httpsPort), w.token)
	if err != nil || a.conn == nil {
		return fmt.Errorf("its own cluster: %s (%s)", a, got(err))
	}
	defer a.conn.Close()
	if err := alerted(ctx, a.conn, theirs.hostname); err != nil {
		return fmt.Errorf("another server name in the tunnel: %w", err)
	}
	// Straight: its DNS does not answer for the name, its listener not to it.
	if rcode, err := w.rcode(ctx, theirs.hostname); err != nil || rcode != "REFUSED" {
		return fmt.Errorf("its DNS answers %s (%s) for the other's hostname, want REFUSED", rcode, got(err))
	}
	if c, err := w.handshake(ctx, w.bound, theirs.hostname); !errors.Is(err, errAlert) {
		if err == nil {
			_ = c.Close() // it should not be there
		}
		return fmt.Errorf("its listener: %s, want an alert", got(err))
	}
	if n := st.clusters["example-corp"].Statements(); n != before {
		return fmt.Errorf("%d statements of a stranger reached the cluster", n-before)
	}
	st.saw("its own cluster answers; the other's by name and address, by the proxy and straight: refused")
	return nil
}

// strangersTargets asks the proxy for what is not the workload's.
func (st *story) strangersTargets(ctx context.Context, w workload, theirs clusterPlace) error {
	endpoint, err := st.endpointAddress(ctx)
	if err != nil {
		return err
	}
	// Past the egress there is nothing: the endpoint admits that and nobody else.
	if c, err := w.dial(ctx, netip.AddrPortFrom(endpoint, st.httpsPort)); err == nil {
		defer c.Close()
		if err := alerted(ctx, c, theirs.hostname); err == nil || !errors.Is(err, syscall.ECONNRESET) {
			return fmt.Errorf("the endpoint itself, straight from a workload: %s, want a reset", got(err))
		}
	}
	for _, try := range []struct {
		target, token string
		status        int
		denial        string
	}{
		{fmt.Sprintf("%s:%d", theirs.hostname, st.httpsPort), w.token, 403, "unknown_host"},
		{fmt.Sprintf("nobody.example.org:%d", st.httpsPort), w.token, 403, "unknown_host"},
		{fmt.Sprintf("%s:%d", endpoint, st.httpsPort), w.token, 403, "forbidden_target"},
		{"169.254.169.254:80", w.token, 403, "forbidden_target"},
		{"[fd00:ec2::254]:80", w.token, 403, "forbidden_target"},
		{fmt.Sprintf("%s:22", st.cluster("globex").hostname), w.token, 403, "wrong_port"},
		{fmt.Sprintf("%s:%d", theirs.hostname, st.httpsPort), "not-a-token", 407, "anonymous_workload"},
	} {
		a, err := w.connect(ctx, try.target, try.token)
		if err != nil {
			return err
		}
		if a.conn != nil {
			_ = a.conn.Close() // it should not be there
		}
		if a.status != try.status || a.Denial != try.denial {
			return fmt.Errorf("%s: the proxy answers %s; want %d %s", try.target, a, try.status, try.denial)
		}
	}
	return nil
}

// endpointAddress is where the platform's endpoint to Example Corp is.
func (st *story) endpointAddress(ctx context.Context) (netip.Addr, error) {
	es, err := st.vendor().made(ctx, st.places.outbound.region, st.out.id)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(es.interfaces) == 0 {
		return netip.Addr{}, fmt.Errorf("the platform has no interface of the connection at AWS: %+v", es)
	}
	out, err := st.vendor().ec2(st.places.outbound.region).DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: es.interfaces[:1]})
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(awssdk.ToString(out.NetworkInterfaces[0].PrivateIpAddress))
}

// replaced has the certificate replaced by a bad one, as a mistake of the
// customer's would: within a resync period workloads are refused, open sessions
// end, and no statement goes anywhere.
func (st *story) replaced(ctx context.Context) error {
	host := st.cluster("example-corp").hostname
	w, err := st.workload("example")
	if err != nil {
		return err
	}
	open, err := w.tunnel(ctx, host)
	if err != nil {
		return err
	}
	defer open.Close()
	if err := answers(open, host); err != nil {
		return err
	}
	after, err := st.lastEvent(ctx)
	if err != nil {
		return err
	}
	if err := st.PresentCertificate("example-corp", certificatePrivateCA); err != nil {
		return err
	}
	start, before := time.Now(), st.clusters["example-corp"].Statements()
	noticing, cancel := context.WithTimeout(ctx, st.resync+roundTimeout)
	defer cancel()
	c, err := st.awaitReason(noticing, st.example, st.out.id, "Verified", "PrivateCA")
	if err != nil {
		return err
	}
	took := time.Since(start)
	if c.Status.State != "degraded" {
		return fmt.Errorf("it is %s, want degraded", c.Status.State)
	}
	if err := st.connectionEvent(ctx, st.example, st.out.id, "PrivateCA", after); err != nil {
		return err
	}
	if err := st.told(ctx, 503, "not_ready", "PrivateCA"); err != nil {
		return err
	}
	if err := cut(open); err != nil {
		return err
	}
	// Straight, the name still leads to the egress, which refuses: were it
	// unknown, the workload would ask elsewhere and go there.
	if at, err := w.resolve(ctx, host); err != nil || at != w.bound.Addr() {
		return fmt.Errorf("the tenant's DNS answers %v (%s), want %s still", at, got(err), w.bound.Addr())
	}
	if _, err := w.handshake(ctx, w.bound, host); !errors.Is(err, errAlert) {
		return fmt.Errorf("straight: %s, want an alert", got(err))
	}
	if n := st.clusters["example-corp"].Statements(); n != before {
		return fmt.Errorf("%d statements reached the cluster meanwhile", n-before)
	}
	if err := st.PresentCertificate("example-corp", certificateGood); err != nil {
		return err
	}
	if _, err := st.awaitConnected(ctx, st.example, st.out.id); err != nil {
		return err
	}
	st.saw("degraded after %s; 503 PrivateCA, the open session was cut; ready again with the good one", took.Round(time.Millisecond))
	return until(ctx, func() error { return st.bothWays(ctx, "example", host, "example_corp") })
}

// tokenRevoked takes a workload's token away in the middle of a session.
func (st *story) tokenRevoked(ctx context.Context) error {
	host := st.cluster("example-corp").hostname
	made, err := st.example.api.CreateWorkloadToken(ctx, client.WorkloadTokenSpec{Name: "leaked", Tenant: "example"})
	if err != nil {
		return err
	}
	w, err := st.workload("example")
	if err != nil {
		return err
	}
	kept, err := w.tunnel(ctx, host)
	if err != nil {
		return err
	}
	defer kept.Close()
	w.token = made.Secret
	var open *tls.Conn
	err = until(ctx, func() error { // until the node knows it
		open, err = w.tunnel(ctx, host)
		return err
	})
	if err != nil {
		return err
	}
	defer open.Close()
	if err := st.example.api.DeleteWorkloadToken(ctx, made.ID); err != nil {
		return err
	}
	target := fmt.Sprintf("%s:%d", host, st.httpsPort)
	err = until(ctx, func() error {
		a, err := w.connect(ctx, target, w.token)
		if err == nil && a.conn != nil {
			_ = a.conn.Close() // it is tried again
		}
		if err == nil && a.status != 407 {
			err = fmt.Errorf("the proxy answers %s to a revoked token", a)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := cut(open); err != nil {
		return err
	}
	st.saw("407, and its open session was cut; the other token's goes on")
	return answers(kept, host)
}

// vendor is somebody at the platform with its AWS account.
func (st *story) vendor() person {
	return person{account: st.places.accounts["platform"], awsURL: st.aws.EndpointURL()}
}

// madeOf is what the platform's account has at AWS of a data connection.
type madeOf struct{ endpoints, interfaces, groups []string }

// made finds what carries a connection's ID in any tag, or is in a group that
// does.
func (p person) made(ctx context.Context, region, connection string) (m madeOf, err error) {
	tagged := func(tags []types.Tag) bool {
		for _, t := range tags {
			if awssdk.ToString(t.Value) == connection {
				return true
			}
		}
		return false
	}
	endpoints, err := p.endpoints(ctx, region)
	if err != nil {
		return m, err
	}
	for _, e := range endpoints {
		if tagged(e.Tags) {
			m.endpoints = append(m.endpoints, awssdk.ToString(e.VpcEndpointId))
			m.interfaces = append(m.interfaces, e.NetworkInterfaceIds...)
		}
	}
	groups, err := p.ec2(region).DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{})
	if err != nil {
		return m, err
	}
	for _, g := range groups.SecurityGroups {
		if tagged(g.Tags) {
			m.groups = append(m.groups, awssdk.ToString(g.GroupId))
		}
	}
	return m, nil
}

// connectionDeleted takes both connections away: workloads are refused at once,
// and nothing is left at AWS. Before an endpoint goes, and AWS may give its
// addresses to another tenant's, every egress node has heard of it.
func (st *story) connectionDeleted(ctx context.Context) error {
	region := st.places.outbound.region
	before, err := st.vendor().made(ctx, region, st.out.id)
	if err != nil {
		return err
	}
	if len(before.endpoints) != 1 || len(before.groups) != 1 {
		return fmt.Errorf("before the deletion the platform has %+v, want one endpoint and one group", before)
	}
	st.egress.link.set(false)
	defer st.egress.link.set(true)
	for p, id := range map[*person]string{&st.example: st.out.id, &st.globex: st.out.globex} {
		if err := p.api.DeleteDataConnection(ctx, id); err != nil {
			return err
		}
	}
	if err := st.heldByNode(ctx, before.endpoints[0]); err != nil {
		return err
	}
	st.egress.link.set(true)
	if err := st.told(ctx, 403, "unknown_host", ""); err != nil {
		return err
	}
	for p, id := range map[*person]string{&st.example: st.out.id, &st.globex: st.out.globex} {
		err := until(ctx, func() error {
			left, err := st.vendor().made(ctx, region, id)
			if err != nil {
				return err
			}
			if len(left.endpoints)+len(left.groups) > 0 {
				return fmt.Errorf("AWS still has %+v", left)
			}
			if _, err := p.api.DataConnection(ctx, id); !client.HasCode(err, "not_found") {
				return fmt.Errorf("the connection is still listed: %s", got(err))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	st.saw("its endpoint waited for %s; 403 when that heard of it; %s and its security group are gone", egressNode, before.endpoints[0])
	return st.nothingMade(ctx)
}

// heldByNode demands that the deletion of Example's endpoint waits for the egress
// node, which does not hear of it.
func (st *story) heldByNode(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := until(ctx, func() error {
		c, err := st.example.api.DataConnection(ctx, st.out.id)
		if err != nil {
			return err
		}
		for _, cond := range c.Status.Conditions {
			if cond.Type == string(postern.Connected) && cond.Reason == string(postern.ReasonRemoving) && strings.Contains(cond.Message, egressNode) {
				return nil
			}
		}
		return fmt.Errorf("no condition says that it waits for %s: %+v", egressNode, c.Status.Conditions)
	})
	if err != nil {
		return err
	}
	left, err := st.vendor().made(ctx, st.places.outbound.region, st.out.id)
	if err == nil && !slices.Contains(left.endpoints, endpoint) {
		err = fmt.Errorf("%s is gone while %s may lead workloads to its addresses; AWS has %+v", endpoint, egressNode, left)
	}
	return err
}

// alerted sends a ClientHello for a server name on a connection and demands
// that an alert is the answer.
func alerted(ctx context.Context, c net.Conn, serverName string) error {
	hello, err := clientHello(ctx, serverName)
	if err != nil {
		return err
	}
	if _, err := c.Write(hello); err != nil {
		return err
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	switch {
	case err != nil:
		return err
	case b[0] != 0x15:
		return fmt.Errorf("%x, want an alert", b[:n])
	}
	return nil
}
