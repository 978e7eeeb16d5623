package cli_test

import (
	"context"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/store"
)

// outbound is what data connections meet: the platform's network, an endpoint
// service in front of each customer's cluster, public DNS, and what a look at a
// cluster finds besides whether it is reached.
type outbound struct {
	network  localaws.VPC
	services map[string]postern.ServiceRef // by customer

	mu       sync.Mutex
	texts    map[string][]string
	findings []postern.Finding
}

// addClusters puts it into the world's cloud.
func (w *world) addClusters(b *localaws.Builder, vendor string, platform *postern.Platform) {
	o := &w.outbound
	o.services, o.texts = map[string]postern.ServiceRef{}, map[string][]string{}
	o.network = b.AddVPC(vendor, virginia, "outbound", "use1-az2", "use1-az4")
	n := postern.OutboundNetwork{Region: virginia, VPC: o.network.ID, EgressGroup: o.network.DefaultSecurityGroup}
	for _, s := range o.network.Subnets {
		n.Subnets = append(n.Subnets, postern.OutboundSubnet{ID: s.ID, Zone: s.ZoneID})
	}
	platform.Outbound.Principal, platform.Outbound.Networks = "arn:aws:iam::"+vendor+":root", []postern.OutboundNetwork{n}
	for name, a := range w.customers {
		v := b.AddVPC(a.ID, virginia, name+"-trino", "use1-az2")
		lb := b.AddLoadBalancer(v, "trino", 5, []string{"use1-az2"}, localaws.LoadListener{Port: w.door, Targets: []netip.AddrPort{w.plane.private}})
		s := localaws.EndpointService{ID: localaws.StableServiceID(a.ID, virginia, "trino"), Account: a.ID, Region: virginia, LoadBalancers: []string{lb.ARN}, AcceptanceRequired: true}
		b.AddEndpointService(s)
		o.services[name] = postern.ServiceRef{Region: virginia, ID: s.ID, Name: s.ServiceName()}
	}
}

// Texts is what public DNS says.
func (o *outbound) Texts(_ context.Context, name string) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.texts[name], nil
}

// look does what an egress node does: it looks at every cluster that the table
// names, and tells what it found.
func (o *outbound) look(ctx context.Context, s *store.Store) error {
	var r postern.Routes
	if err := s.View(ctx, func(tx *store.Tx) (err error) { r, err = tx.FindRoutes(); return err }); err != nil {
		return err
	}
	for id, c := range r.Checks {
		l := postern.ConnectionLook{Connection: id, Node: "ingress-1", Of: c.Sum(), Asked: c.Asked, At: time.Now(), Findings: o.visit(ctx, c)}
		err := s.Update(ctx, func(tx *store.Tx) error {
			if _, err := tx.FindConnection(id); err != nil {
				return err
			}
			return tx.SaveLook(l)
		})
		if err != nil && postern.CodeOf(err) != postern.CodeNotFound { // it was removed meanwhile
			return err
		}
	}
	return nil
}

// visit connects as an egress does.
func (o *outbound) visit(ctx context.Context, c postern.ConnectionCheck) []postern.Finding {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: o.network.Host("", 10).AsSlice()}}
	for _, a := range c.Addresses {
		conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(a, c.Ports[0]).String())
		if err != nil {
			return []postern.Finding{{Reason: postern.ReasonUnreachable, Message: "not reached"}}
		}
		_ = conn.Close() // whether it can be reached is all that counts
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.findings
}

// keep VARIABLE PATTERN: the first match in what was printed.
func keep(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile(args[1]).FindString(ts.ReadFile("stdout"))
	if found == "" {
		ts.Fatalf("nothing printed matches %s", args[1])
	}
	ts.Setenv(args[0], found)
}

// cluster CUSTOMER: $SERVICE, $SERVICE_ID and $PORT of its cluster.
func clusterOf(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	s := w.outbound.services[args[0]]
	ts.Setenv("SERVICE", s.Name)
	ts.Setenv("SERVICE_ID", s.ID)
	ts.Setenv("PORT", strconv.Itoa(int(w.door)))
}

// prove-hostname CUSTOMER HOSTNAME: publishes the TXT record that the command
// line told.
func proveHostname(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	var o postern.Organization
	ts.Check(w.store.View(context.Background(), func(tx *store.Tx) (err error) { o, err = tx.FindOrganization(args[0]); return err }))
	w.outbound.mu.Lock()
	defer w.outbound.mu.Unlock()
	w.outbound.texts[postern.ChallengeName(args[1])] = []string{postern.ChallengeValue("immuta", o, args[1])}
}

// authorize CUSTOMER PRINCIPAL: on the service of its cluster.
func authorize(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	id := w.outbound.services[args[0]].ID
	_, err := w.ec2(args[0]).ModifyVpcEndpointServicePermissions(context.Background(), &ec2.ModifyVpcEndpointServicePermissionsInput{
		ServiceId: &id, AddAllowedPrincipals: []string{args[1]},
	})
	ts.Check(err)
}

// require-acceptance CUSTOMER true|false.
func requireAcceptance(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	id := w.outbound.services[args[0]].ID
	_, err := w.ec2(args[0]).ModifyVpcEndpointServiceConfiguration(context.Background(), &ec2.ModifyVpcEndpointServiceConfigurationInput{
		ServiceId: &id, AcceptanceRequired: awssdk.Bool(args[1] == "true"),
	})
	ts.Check(err)
}

// accept CUSTOMER: whatever waits on the service of its cluster.
func acceptAll(ts *testscript.TestScript, _ bool, args []string) {
	w, ctx := worldOf(ts), context.Background()
	id := w.outbound.services[args[0]].ID
	cl := w.ec2(args[0])
	ts.Check(until(ctx, func() (bool, error) {
		out, err := cl.DescribeVpcEndpointConnections(ctx, &ec2.DescribeVpcEndpointConnectionsInput{Filters: []types.Filter{
			{Name: awssdk.String("service-id"), Values: []string{id}}, {Name: awssdk.String("vpc-endpoint-state"), Values: []string{"pendingAcceptance"}},
		}})
		if err != nil || len(out.VpcEndpointConnections) == 0 {
			return false, err
		}
		_, err = cl.AcceptVpcEndpointConnections(ctx, &ec2.AcceptVpcEndpointConnectionsInput{ServiceId: &id, VpcEndpointIds: []string{*out.VpcEndpointConnections[0].VpcEndpointId}})
		return err == nil, err
	}))
}

// certificate REASON MESSAGE: what a look at clusters finds from now on; without
// arguments, nothing.
func certificate(ts *testscript.TestScript, _ bool, args []string) {
	o := &worldOf(ts).outbound
	o.mu.Lock()
	defer o.mu.Unlock()
	o.findings = nil
	if len(args) == 2 {
		o.findings = []postern.Finding{{Reason: postern.Reason(args[0]), Message: args[1]}}
	}
}
