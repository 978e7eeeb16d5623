package control_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/store"
	"github.com/postern-net/postern/test/loopback"
)

const cluster = "starburst.example.com"

// outboundWorld is a world in which Example and Globex each have a cluster
// behind an endpoint service, and the platform has a network to reach them
// from. What public DNS says is a map; the cluster is a listener.
type outboundWorld struct {
	*world
	egress  localaws.VPC
	service map[string]postern.ServiceRef // by organization
	account map[string]localaws.Account
	port    uint16

	mu       sync.Mutex
	texts    map[string][]string
	dnsDown  bool
	asked    int
	findings []postern.Finding // besides what the connection itself tells
	checks   int
	held     map[string]chan struct{} // questions that are not answered before; set at the beginning
	gaveUp   atomic.Bool              // one of them never was

	looks map[string]postern.ConnectionLook // the egress node's last ones
	blind bool                              // it does nothing
}

// egressNode is the node by which workloads get out.
const egressNode = "egress-a"

func newOutboundWorld(t *testing.T, timing ...func(*localaws.Timing)) *outboundWorld {
	t.Helper()
	w := &outboundWorld{
		world:   &world{t: t, now: time.Now().UTC().Truncate(time.Second), log: &logBuffer{}},
		service: map[string]postern.ServiceRef{}, account: map[string]localaws.Account{}, texts: map[string][]string{}, looks: map[string]postern.ConnectionLook{},
	}
	pool := localaws.DefaultPool().Addr().As4()
	pool[1] += byte(os.Getpid() % 16) // not the networks of other test processes
	b := localaws.NewBuilder("control", netip.PrefixFrom(netip.AddrFrom4(pool), 16))
	vendor := b.AddAccount("platform")
	w.egress = b.AddVPC(vendor.ID, virginia, "outbound", "use1-az2", "use1-az4", "use1-az6")
	target := w.serveCluster()
	w.port = loopback.MustPort(t, w.egress.Host("", 250))
	for _, name := range []string{"example-corp", "globex"} {
		a := b.AddAccount(name)
		v := b.AddVPC(a.ID, virginia, name, "use1-az2", "use1-az4")
		lb := b.AddLoadBalancer(v, "trino", 5, []string{"use1-az2", "use1-az4"}, localaws.LoadListener{Port: w.port, Targets: []netip.AddrPort{target}})
		id := localaws.StableServiceID(a.ID, virginia, "trino")
		s := localaws.EndpointService{ID: id, Account: a.ID, Region: virginia, LoadBalancers: []string{lb.ARN}, AcceptanceRequired: true}
		b.AddEndpointService(s)
		w.account[name] = a
		w.service[name] = postern.ServiceRef{Region: virginia, ID: id, Name: s.ServiceName()}
	}
	w.example = w.account["example-corp"]
	network := postern.OutboundNetwork{Region: virginia, VPC: w.egress.ID, EgressGroup: w.egress.DefaultSecurityGroup}
	for _, s := range w.egress.Subnets {
		network.Subnets = append(network.Subnets, postern.OutboundSubnet{ID: s.ID, Zone: s.ZoneID})
	}
	id := localaws.StableServiceID(vendor.ID, virginia, "postern")
	hub := b.AddVPC(vendor.ID, virginia, "hub")
	lb := b.AddLoadBalancer(hub, "ingress", 5, []string{hub.Subnets[0].ZoneID}, localaws.LoadListener{Port: w.port, Targets: []netip.AddrPort{target}})
	b.AddEndpointService(localaws.EndpointService{ID: id, Account: vendor.ID, Region: virginia, LoadBalancers: []string{lb.ARN}, AcceptanceRequired: true})
	w.platform = &postern.Platform{
		Name: "example", Domains: postern.Domains{Hosted: "hosted.example.net", PrivateLink: "privatelink.example.net"},
		Segments: []postern.Segment{{ID: "na", Regions: []postern.Region{{
			ID: virginia, ServiceName: "com.amazonaws.vpce." + virginia + "." + id, AvailabilityZones: []string{hub.Subnets[0].ZoneID},
		}}}},
		Apps:     []postern.App{{ID: "govern", Port: 443}},
		Outbound: postern.Outbound{Regions: []string{virginia}, Principal: "arn:aws:iam::" + vendor.ID + ":root", Networks: []postern.OutboundNetwork{network}},
	}
	if err := w.platform.Validate(); err != nil {
		t.Fatal(err)
	}
	made, err := b.World()
	if err != nil {
		t.Fatal(err)
	}
	c := localaws.Config{World: made, Clock: w.clock, Timing: localaws.Timing{Available: 2 * time.Second, DNS: 2 * time.Second, Delete: 2 * time.Second, Linger: 5 * time.Second}}
	for _, change := range timing {
		change(&c.Timing)
	}
	w.start(c, vendor)
	w.openStore()
	w.register(egressNode)
	w.update(func(tx *store.Tx) error {
		var errs []error
		for name, a := range w.account {
			_, e1 := tx.CreateOrganization(postern.Organization{ID: name, CreatedAt: w.clock()})
			_, e2 := tx.CreateTenant(postern.Tenant{Name: name, Organization: name, Region: virginia})
			_, e3 := tx.ProveAccount(postern.Account{ID: a.ID, Organization: name, ProvenAt: w.clock()})
			errs = append(errs, e1, e2, e3)
		}
		return errors.Join(errs...)
	})
	return w
}

// serveCluster takes connections, and says nothing.
func (w *outboundWorld) serveCluster() netip.AddrPort {
	w.t.Helper()
	ln, err := new(net.ListenConfig).Listen(w.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 1)) // until the other side is done
			})
		}
	})
	w.t.Cleanup(func() { ln.Close(); open.Wait() })
	return netip.MustParseAddrPort(ln.Addr().String())
}

func (w *outboundWorld) config() control.Config {
	c := w.world.config()
	c.Outbound, c.Texts = w.cloud, w
	return c
}

// Texts is what public DNS says.
func (w *outboundWorld) Texts(ctx context.Context, name string) ([]string, error) {
	if held := w.held[name]; held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			w.gaveUp.Store(true)
			return nil, ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.dnsDown {
		return nil, errors.New("no answer")
	}
	return w.texts[name], nil
}

// register registers the node by which workloads get out.
func (w *outboundWorld) register(node string) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		_, _, err := tx.UpsertNode(postern.Node{ID: node, Regions: []string{virginia}, Egress: []string{virginia}, BootID: "boot-of-" + node, LastSeen: w.clock()})
		return err
	})
}

// look does what the egress node does with the table that was published last: it
// obeys it, says so, and looks at the clusters that are due. It tells whether it
// did anything.
func (w *outboundWorld) look() (news bool) {
	w.t.Helper()
	if w.blind {
		return false
	}
	r := w.routes()
	var n postern.Node
	w.view(func(tx *store.Tx) (err error) { n, err = tx.FindNode(egressNode); return err })
	if n.Fenced {
		return false
	}
	w.update(func(tx *store.Tx) error {
		if n.AppliedRevision == r.Revision {
			return nil
		}
		news = true
		_, err := tx.ReportNode(postern.NodeReport{Node: n.ID, BootID: n.BootID, Seq: n.ReportSeq + 1, AppliedRevision: r.Revision}, w.clock())
		return err
	})
	for id, c := range r.Checks {
		last, ok := w.looks[id]
		if ok && last.Of == c.Sum() && last.Asked.Equal(c.Asked) && w.clock().Sub(last.At) < c.Every {
			continue
		}
		news = true
		w.looks[id] = postern.ConnectionLook{Connection: id, Node: egressNode, Of: c.Sum(), Asked: c.Asked, At: w.clock(), Findings: w.visit(c)}
		w.update(func(tx *store.Tx) error { return tx.SaveLook(w.looks[id]) })
	}
	return news
}

// visit connects to every address from the egress' network, as an egress does.
func (w *outboundWorld) visit(c postern.ConnectionCheck) []postern.Finding {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: w.egress.Host("use1-az2", 10).AsSlice()}, Timeout: 30 * time.Second}
	for _, a := range c.Addresses {
		conn, err := d.DialContext(w.t.Context(), "tcp", netip.AddrPortFrom(a, c.Ports[0]).String())
		if err != nil {
			return []postern.Finding{{Reason: postern.ReasonUnreachable, Message: "port not reached"}}
		}
		if err := conn.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checks++
	return slices.Clone(w.findings)
}

func (w *outboundWorld) found(fs ...postern.Finding) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.findings = fs
}

// request stores a request of an organization for its own service, as the API
// does.
func (w *outboundWorld) request(id, organization string, change ...func(*postern.DataConnection)) {
	w.t.Helper()
	c := postern.DataConnection{
		ID: id, Organization: organization, Tenant: organization, Kind: postern.KindStarburstTrino, Region: virginia,
		Zones: []string{"use1-az2", "use1-az4"}, Service: w.service[organization], Hostname: cluster, Ports: []uint16{w.port},
		CreatedAt: w.clock(), State: postern.DataConnectionRequested,
		VerifyAsked: w.clock(), // whoever asks here has published, or not, before
	}
	for _, f := range change {
		f(&c)
	}
	w.update(func(tx *store.Tx) error {
		_, err := tx.CreateConnection(c)
		return errors.Join(err, tx.AppendEvent(postern.Event{At: w.clock(), Actor: "test", Action: "data-connection.requested", Subject: id}))
	})
}

// publishProof puts the proof of a hostname into public DNS.
func (w *outboundWorld) publishProof(organization, hostname string) {
	w.t.Helper()
	var o postern.Organization
	w.view(func(tx *store.Tx) (err error) { o, err = tx.FindOrganization(organization); return err })
	w.mu.Lock()
	defer w.mu.Unlock()
	name := postern.ChallengeName(hostname)
	w.texts[name] = append(w.texts[name], postern.ChallengeValue(w.platform.Name, o, hostname))
}

// ask has the loop look now, as a person does.
func (w *outboundWorld) ask(id string) {
	w.t.Helper()
	w.advance(time.Millisecond)
	w.update(func(tx *store.Tx) error {
		c, err := tx.FindConnection(id)
		if err != nil {
			return err
		}
		c.VerifyAsked = w.clock()
		_, err = tx.UpdateConnection(c)
		return err
	})
}

// connection reads one; the zero value: it is gone.
func (w *outboundWorld) connection(id string) (c postern.DataConnection) {
	w.t.Helper()
	w.view(func(tx *store.Tx) (err error) {
		c, err = tx.FindConnection(id)
		if postern.CodeOf(err) == postern.CodeNotFound {
			return nil
		}
		return err
	})
	return c
}

func (w *outboundWorld) condition(t postern.ConditionType) postern.Condition {
	w.t.Helper()
	return postern.FindCondition(w.connection("dc_a").Conditions, t)
}

// wants checks the state and the first condition that does not hold.
func (w *outboundWorld) wants(id string, state postern.DataConnectionState, t postern.ConditionType, reason postern.Reason) {
	w.t.Helper()
	c := w.connection(id)
	if got := postern.FindCondition(c.Conditions, t); c.State != state || got.Reason != reason {
		w.t.Errorf("%s is %s with %+v; want %s with %s; log:\n%s", id, c.State, got, state, reason, w.log)
	}
}

// restOutbound runs rounds until nothing is left to do, a second apart.
func (w *outboundWorld) restOutbound(l *control.Loop) {
	w.t.Helper()
	for range 60 {
		settled, err := l.OutboundRound(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if news := w.look(); settled && !news {
			return
		}
		w.advance(time.Second)
	}
	w.t.Fatalf("not at rest after 60 rounds; log:\n%s", w.log)
}

// again lets a resync period pass and comes to rest.
func (w *outboundWorld) again(l *control.Loop) {
	w.t.Helper()
	w.advance(time.Minute)
	w.restOutbound(l)
}

// as is an organization's own client of AWS.
func (w *outboundWorld) as(organization string) *ec2.Client {
	return w.clientOf(w.account[organization])
}

// authorize allows the platform's principal on an organization's service.
func (w *outboundWorld) authorize(organization string) {
	w.t.Helper()
	id := w.service[organization].ID
	if _, err := w.as(organization).ModifyVpcEndpointServicePermissions(w.t.Context(), &ec2.ModifyVpcEndpointServicePermissionsInput{
		ServiceId: &id, AddAllowedPrincipals: []string{w.platform.Outbound.Principal},
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *outboundWorld) requireAcceptance(organization string, required bool) {
	w.t.Helper()
	id := w.service[organization].ID
	if _, err := w.as(organization).ModifyVpcEndpointServiceConfiguration(w.t.Context(), &ec2.ModifyVpcEndpointServiceConfigurationInput{
		ServiceId: &id, AcceptanceRequired: awssdk.Bool(required),
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *outboundWorld) accept(organization, endpoint string) {
	w.t.Helper()
	id := w.service[organization].ID
	out, err := w.as(organization).AcceptVpcEndpointConnections(w.t.Context(), &ec2.AcceptVpcEndpointConnectionsInput{ServiceId: &id, VpcEndpointIds: []string{endpoint}})
	if err != nil || len(out.Unsuccessful) > 0 {
		w.t.Fatal(err, out)
	}
}

func (w *outboundWorld) reject(endpoint string) {
	w.t.Helper()
	id := w.service["example-corp"].ID
	if _, err := w.as("example-corp").RejectVpcEndpointConnections(w.t.Context(), &ec2.RejectVpcEndpointConnectionsInput{ServiceId: &id, VpcEndpointIds: []string{endpoint}}); err != nil {
		w.t.Fatal(err)
	}
}

// pending requests a connection and brings it to where the customer accepts.
func (w *outboundWorld) pending(l *control.Loop) string {
	w.t.Helper()
	w.authorize("example-corp")
	w.publishProof("example-corp", cluster)
	w.request("dc_a", "example-corp")
	w.restOutbound(l)
	w.wants("dc_a", postern.DataConnectionPendingAcceptance, postern.Connected, postern.ReasonWaitsForAcceptance)
	return w.connection("dc_a").EndpointID
}

// readyConnection brings one to the end of a good life.
func (w *outboundWorld) readyConnection(l *control.Loop) string {
	w.t.Helper()
	endpoint := w.pending(l)
	w.accept("example-corp", endpoint)
	w.again(l)
	if got := w.connection("dc_a"); got.State != postern.DataConnectionReady {
		w.t.Fatalf("it is %+v; log:\n%s", got, w.log)
	}
	return endpoint
}

// remove marks a connection as the API does.
func (w *outboundWorld) remove() {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		c, err := tx.FindConnection("dc_a")
		if err != nil {
			return err
		}
		c.Removing, c.State = true, postern.DataConnectionRemoving
		_, err = tx.UpdateConnection(c)
		return errors.Join(err, tx.AppendEvent(postern.Event{At: w.clock(), Actor: "test", Action: "data-connection.removing", Subject: "dc_a"}))
	})
}

// atAWS is what the platform's own account has in the outbound network: the
// endpoints that are not deleted, and the security groups but the default one.
func (w *outboundWorld) atAWS() (endpoints []types.VpcEndpoint, groups []types.SecurityGroup) {
	w.t.Helper()
	cl := w.vendor()
	es, err := cl.DescribeVpcEndpoints(w.t.Context(), &ec2.DescribeVpcEndpointsInput{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range es.VpcEndpoints {
		if e.State != "deleted" && e.State != "deleting" {
			endpoints = append(endpoints, e)
		}
	}
	gs, err := cl.DescribeSecurityGroups(w.t.Context(), &ec2.DescribeSecurityGroupsInput{
		Filters: []types.Filter{{Name: awssdk.String("vpc-id"), Values: []string{w.egress.ID}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, g := range gs.SecurityGroups {
		if *g.GroupName != "default" {
			groups = append(groups, g)
		}
	}
	return endpoints, groups
}

// vendor is a client of AWS with the platform's own key.
func (w *outboundWorld) vendor() *ec2.Client { return w.clientOf(w.platformAccount) }

// has checks how many endpoints and security groups there are at AWS.
func (w *outboundWorld) has(endpoints, groups int) {
	w.t.Helper()
	es, gs := w.atAWS()
	if len(es) != endpoints || len(gs) != groups {
		w.t.Errorf("%d endpoints and %d groups at AWS, want %d and %d; log:\n%s", len(es), len(gs), endpoints, groups, w.log)
	}
}
