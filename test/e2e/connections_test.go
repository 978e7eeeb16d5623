package e2e_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	rtypes "github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/platformfile"
	"github.com/postern-net/postern/test/loopback"
)

// TestConnectionsSurviveKills kills the control plane, a process of its own, at
// each call that it makes to AWS for a data connection: as the call arrives, and
// after it took effect but before it is answered. Which calls those are is seen
// in an undisturbed run.
func TestConnectionsSurviveKills(t *testing.T) {
	if os.Getenv("POSTERN_E2E") == "" {
		t.Skip("kills a server some twenty times; run it with `make e2e`")
	}
	w := newOutboundWorld(t)
	w.serve()
	w.settle()

	first := len(w.calls(""))
	id := w.request("undisturbed.example.com")
	w.awaitState(id, "pending-acceptance")
	w.has(1, 1)
	making := w.actions(first)
	first = len(w.calls(""))
	w.remove(id)
	w.awaitGone(id)
	w.has(0, 0)
	deleting := w.actions(first)
	t.Logf("to make one: %v; to delete it: %v", making, deleting)
	for _, must := range []string{"CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "CreateVpcEndpoint"} {
		if !slices.Contains(making, must) {
			t.Fatalf("%s was not called", must)
		}
	}
	for _, must := range []string{"DeleteVpcEndpoints", "DeleteSecurityGroup"} {
		if !slices.Contains(deleting, must) {
			t.Fatalf("%s was not called", must)
		}
	}

	points := func(actions []string) (out []localaws.Fault) {
		for _, a := range actions {
			for _, when := range []localaws.FaultWhen{localaws.BeforeCommit, localaws.AfterCommit} {
				out = append(out, localaws.Fault{Kind: localaws.FaultPause, Action: a, When: when, Account: "platform", Times: 1})
			}
		}
		return out
	}
	makes, deletes := points(making), points(deleting)
	kills := 0
	for i := range max(len(makes), len(deletes)) {
		// Each point in turn; the shorter list comes round again.
		id := w.killedAt(makes[i%len(makes)], func() string { return w.request(fmt.Sprintf("c%d.example.com", i)) })
		w.awaitState(id, "pending-acceptance")
		w.has(1, 1)
		w.killedAt(deletes[i%len(deletes)], func() string { w.remove(id); return id })
		w.awaitGone(id)
		w.has(0, 0)
		kills += 2
	}

	// A call that takes effect only when all is over makes no second one, and
	// leaves nothing of one that was deleted.
	for _, action := range []string{"CreateSecurityGroup", "CreateVpcEndpoint"} {
		late := localaws.Fault{Kind: localaws.FaultPause, Action: action, When: localaws.BeforeCommit, Account: "platform", Times: 1}
		held, id := w.heldAt(late, func() string { return w.request("late-" + strings.ToLower(action) + ".example.com") })
		w.awaitState(id, "pending-acceptance")
		w.release(held)
		w.awaitRounds()
		w.has(1, 1)
		w.remove(id)
		w.awaitGone(id)

		held, id = w.heldAt(late, func() string { return w.request("gone-" + strings.ToLower(action) + ".example.com") })
		w.remove(id)
		w.awaitGone(id)
		w.release(held)
		w.awaitRounds()
		w.has(0, 0)
		kills += 2
	}
	t.Logf("%d kills; one endpoint each time, or none", kills)
}

// outboundWorld is AWS with the platform's network and a customer's service in
// it, and a control plane as a process of its own in front of it.
type outboundWorld struct {
	t        *testing.T
	aws      *localaws.Server
	vendor   localaws.Account
	customer localaws.Account
	network  localaws.VPC
	service  string
	config   string
	api      *client.Client
	binary   string
	log      *os.File
	cmd      *exec.Cmd
	token    string
	apiURL   string
	dnsPort  uint16
}

const outboundRegion = "us-east-1"

func newOutboundWorld(t *testing.T) *outboundWorld {
	t.Helper()
	w := &outboundWorld{t: t, binary: build(t)}
	dir := t.TempDir()
	b := localaws.NewBuilder("kills", localaws.DefaultPool())
	w.vendor, w.customer = b.AddAccount("platform"), b.AddAccount(theCustomer)
	hub := b.AddVPC(w.vendor.ID, outboundRegion, "hub", "use1-az2")
	nobody := netip.MustParseAddrPort("127.0.0.1:9")
	in := b.AddLoadBalancer(hub, "ingress", 5, []string{"use1-az2"}, localaws.LoadListener{Port: 8443, Targets: []netip.AddrPort{nobody}})
	inbound := localaws.StableServiceID(w.vendor.ID, outboundRegion, "postern")
	b.AddEndpointService(localaws.EndpointService{ID: inbound, Account: w.vendor.ID, Region: outboundRegion, LoadBalancers: []string{in.ARN}, AcceptanceRequired: true})
	w.network = b.AddVPC(w.vendor.ID, outboundRegion, "outbound", "use1-az2", "use1-az4")
	theirs := b.AddVPC(w.customer.ID, outboundRegion, "trino", "use1-az2", "use1-az4")
	out := b.AddLoadBalancer(theirs, "trino", 5, []string{"use1-az2", "use1-az4"}, localaws.LoadListener{Port: 8443, Targets: []netip.AddrPort{nobody}})
	principal := "arn:aws:iam::" + w.vendor.ID + ":root"
	svc := localaws.EndpointService{
		ID: localaws.StableServiceID(w.customer.ID, outboundRegion, "trino"), Account: w.customer.ID, Region: outboundRegion,
		LoadBalancers: []string{out.ARN}, AcceptanceRequired: true, AllowedPrincipals: []string{principal},
	}
	b.AddEndpointService(svc)
	w.service = svc.ServiceName()
	world, err := b.World()
	if err != nil {
		t.Fatal(err)
	}
	if w.log, err = os.Create(filepath.Join(dir, "serve.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.log.Close() })
	w.startAWS(world)
	w.lay(dir, &postern.Platform{
		Name: "kills", Domains: postern.Domains{Hosted: "hosted.kills.net", PrivateLink: "privatelink.kills.net"},
		Segments: []postern.Segment{{ID: "na", Regions: []postern.Region{{
			ID: outboundRegion, ServiceName: "com.amazonaws.vpce." + outboundRegion + "." + inbound, AvailabilityZones: []string{"use1-az2"},
		}}}},
		Apps: []postern.App{{ID: "app", Port: 443}},
		Outbound: postern.Outbound{Regions: []string{outboundRegion}, Principal: principal, Networks: []postern.OutboundNetwork{{
			Region: outboundRegion, VPC: w.network.ID, EgressGroup: w.network.DefaultSecurityGroup,
			Subnets: []postern.OutboundSubnet{{ID: w.network.Subnets[0].ID, Zone: "use1-az2"}, {ID: w.network.Subnets[1].ID, Zone: "use1-az4"}},
		}}},
	})
	return w
}

var local = netip.MustParseAddr("127.0.0.1")

// resolver is where public DNS answers.
var resolver = netip.MustParseAddr("127.64.16.2")

func (w *outboundWorld) startAWS(world localaws.World) {
	w.t.Helper()
	w.dnsPort = loopback.MustPort(w.t, resolver)
	var err error
	w.aws, err = localaws.New(localaws.Config{
		World: world, DNS: localaws.DNS{Port: w.dnsPort, Public: resolver},
		Timing: localaws.Timing{Available: 50 * time.Millisecond, DNS: 200 * time.Millisecond, Delete: 200 * time.Millisecond, Linger: 2 * time.Second, Change: -1, HiddenDescribes: 1},
		Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.aws.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.aws.Close)
}

// lay writes what the server reads.
func (w *outboundWorld) lay(dir string, p *postern.Platform) {
	w.t.Helper()
	b, err := platformfile.Marshal(p)
	if err != nil {
		w.t.Fatal(err)
	}
	api, key := loopback.MustPort(w.t, local), w.vendor.AccessKeys[0]
	w.config, w.token, w.apiURL = filepath.Join(dir, "serve.yaml"), filepath.Join(dir, "state", "admin.token"), fmt.Sprintf("http://127.0.0.1:%d", api)
	for name, text := range map[string]string{
		"platform.yaml": string(b), "aws.secret": key.Secret + "\n",
		"serve.yaml": fmt.Sprintf(`platform: platform.yaml
state_dir: state
roles: [control]
api: {listen: "127.0.0.1:%d"}
admin: {listen: "127.0.0.1:%d"}
aws: {endpoint_url: %q, access_key_id: %s, secret_access_key_file: aws.secret}
dns: {resolvers: ["%s"]}
approval: policy
resync: 400ms
settle: 100ms
`, api, loopback.MustPort(w.t, local), w.aws.EndpointURL(), key.ID, netip.AddrPortFrom(resolver, w.dnsPort)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

// serve starts the control plane.
func (w *outboundWorld) serve() {
	w.t.Helper()
	w.cmd = exec.Command(w.binary, "serve", "--config", w.config)
	w.cmd.Stdout, w.cmd.Stderr = w.log, w.log
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	started := w.cmd
	w.t.Cleanup(func() {
		if w.cmd == started {
			_ = started.Process.Signal(syscall.SIGTERM) // it may have ended
			_ = started.Wait()
		}
	})
	w.until("the API answers", func() error {
		secret, err := os.ReadFile(w.token)
		if err != nil {
			return err
		}
		if w.api == nil {
			if w.api, err = client.New(w.apiURL, client.Options{Token: strings.TrimSpace(string(secret)), Timeout: 5 * time.Second}); err != nil {
				return err
			}
			w.t.Cleanup(w.api.Close)
		}
		_, err = w.api.WhoAmI(w.t.Context())
		return err
	})
}

func (w *outboundWorld) kill() {
	w.t.Helper()
	if err := w.cmd.Process.Kill(); err != nil {
		w.t.Fatal(err)
	}
	_ = w.cmd.Wait() // "signal: killed"
}

// settle makes the organization, its tenant and its proven account, and the
// zone in which it publishes proofs.
func (w *outboundWorld) settle() {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.api.CreateOrganization(ctx, client.Organization{ID: theCustomer}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.api.CreateTenant(ctx, client.Tenant{ID: "example", Spec: client.TenantSpec{Organization: theCustomer, Region: outboundRegion}}); err != nil {
		w.t.Fatal(err)
	}
	key := w.customer.AccessKeys[0]
	engineer := customer{t: w.t, api: w.api, keys: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, "")}
	if err := engineer.prove(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// publish puts a proof into the customer's public zone, which it makes first.
func (w *outboundWorld) publish(record client.Challenged) {
	w.t.Helper()
	ctx, key := w.t.Context(), w.customer.AccessKeys[0]
	cl := route53.New(route53.Options{
		Region: outboundRegion, BaseEndpoint: awssdk.String(w.aws.EndpointURL()), Credentials: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, ""),
	})
	zones, err := cl.ListHostedZones(ctx, &route53.ListHostedZonesInput{})
	if err != nil {
		w.t.Fatal(err)
	}
	var zone *string
	if len(zones.HostedZones) > 0 {
		zone = zones.HostedZones[0].Id
	} else {
		made, err := cl.CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: awssdk.String("example.com"), CallerReference: awssdk.String("kills")})
		if err != nil {
			w.t.Fatal(err)
		}
		zone = made.HostedZone.Id
	}
	if _, err := cl.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{HostedZoneId: zone, ChangeBatch: &rtypes.ChangeBatch{Changes: []rtypes.Change{{
		Action: rtypes.ChangeActionUpsert, ResourceRecordSet: &rtypes.ResourceRecordSet{
			Name: &record.Name, Type: rtypes.RRTypeTxt, TTL: awssdk.Int64(1), ResourceRecords: []rtypes.ResourceRecord{{Value: awssdk.String(`"` + record.Value + `"`)}},
		},
	}}}}); err != nil {
		w.t.Fatal(err)
	}
}

// request asks for a connection to a hostname that is proven.
func (w *outboundWorld) request(hostname string) string {
	w.t.Helper()
	spec := client.DataConnectionSpec{
		Tenant: "example", Region: outboundRegion, AvailabilityZones: []string{"use1-az2", "use1-az4"}, ServiceName: w.service, Hostname: hostname, Ports: []int{8443},
	}
	made, err := w.api.CreateDataConnection(w.t.Context(), spec, false)
	if err != nil {
		w.t.Fatal(err)
	}
	w.publish(made.Connection.Status.Challenge)
	if _, err := w.api.VerifyDataConnection(w.t.Context(), made.Connection.ID); err != nil {
		w.t.Fatal(err)
	}
	return made.Connection.ID
}

func (w *outboundWorld) remove(id string) {
	w.t.Helper()
	if err := w.api.DeleteDataConnection(w.t.Context(), id); err != nil {
		w.t.Fatal(err)
	}
}

// killedAt does something, kills the server at the call that follows from it,
// lets the call take effect, and starts the server again.
func (w *outboundWorld) killedAt(at localaws.Fault, do func() string) string {
	w.t.Helper()
	held, id := w.stoppedAt(at, do)
	w.release(held)
	w.serve()
	return id
}

// heldAt is killedAt with the call still held.
func (w *outboundWorld) heldAt(at localaws.Fault, do func() string) (held localaws.Call, id string) {
	w.t.Helper()
	held, id = w.stoppedAt(at, do)
	w.serve()
	return held, id
}

func (w *outboundWorld) stoppedAt(at localaws.Fault, do func() string) (localaws.Call, string) {
	w.t.Helper()
	// What is looked at again and again is caught only after it was asked for.
	id := ""
	looks := strings.HasPrefix(at.Action, "Describe")
	if looks {
		id = do()
	}
	if _, err := w.aws.Faults().Add(at); err != nil {
		w.t.Fatal(err)
	}
	if !looks {
		id = do()
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	held, err := w.aws.Faults().WaitPaused(ctx)
	if err != nil {
		w.t.Fatalf("%s %s was not called: %v", at.When, at.Action, err)
	}
	w.kill()
	return held, id
}

// release lets a held call go on, and waits until it has taken effect.
func (w *outboundWorld) release(held localaws.Call) {
	w.t.Helper()
	w.aws.Faults().Release(held.ID)
	w.until("the held call ends", func() error {
		for _, c := range w.calls("") {
			if c.ID == held.ID && (c.State == "running" || c.State == string(localaws.FaultPause)) {
				return fmt.Errorf("%s is %s", c.Action, c.State)
			}
		}
		return nil
	})
}

func (w *outboundWorld) awaitState(id, state string) {
	w.t.Helper()
	w.until("the connection is "+state, func() error {
		c, err := w.api.DataConnection(w.t.Context(), id)
		if err == nil && c.Status.State != state {
			err = fmt.Errorf("it is %s: %+v", c.Status.State, c.Status.Conditions)
		}
		return err
	})
}

func (w *outboundWorld) awaitGone(id string) {
	w.t.Helper()
	w.until("the connection is gone", func() error {
		c, err := w.api.DataConnection(w.t.Context(), id)
		if client.HasCode(err, "not_found") {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it is %s", c.Status.State)
		}
		return err
	})
}

// awaitRounds waits until the loop has listed the endpoints a few times more.
func (w *outboundWorld) awaitRounds() {
	w.t.Helper()
	since := time.Now()
	w.until("the loop looks again", func() error {
		seen := slices.DeleteFunc(w.calls("DescribeSecurityGroups"), func(c localaws.Call) bool { return c.At.Before(since) })
		if len(seen) < 4 {
			return fmt.Errorf("%d times", len(seen))
		}
		return nil
	})
}

// calls are those of the platform's account, of one action or all.
func (w *outboundWorld) calls(action string) []localaws.Call {
	return slices.DeleteFunc(w.aws.Faults().Calls(), func(c localaws.Call) bool {
		return c.Account != w.vendor.ID || action != "" && c.Action != action
	})
}

// actions are those that were called since, besides the other direction's.
func (w *outboundWorld) actions(since int) (out []string) {
	for _, c := range w.calls("")[since:] {
		inbound := c.Action == "DescribeVpcEndpointConnections" || strings.Contains(c.Action, "VpcEndpointServicePermissions")
		if !inbound && !slices.Contains(out, c.Action) && c.Service == "ec2" {
			out = append(out, c.Action)
		}
	}
	slices.Sort(out)
	return out
}

// has checks how many endpoints and security groups of Postern's are at AWS, as
// soon as AWS lists what there is.
func (w *outboundWorld) has(endpoints, groups int) {
	w.t.Helper()
	w.until(fmt.Sprintf("there are %d endpoints and %d groups at AWS", endpoints, groups), func() error {
		key := w.vendor.AccessKeys[0]
		cl := ec2.New(ec2.Options{
			Region: outboundRegion, BaseEndpoint: awssdk.String(w.aws.EndpointURL()), Credentials: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, ""),
		})
		es, err := cl.DescribeVpcEndpoints(w.t.Context(), &ec2.DescribeVpcEndpointsInput{})
		if err != nil {
			return err
		}
		gs, err := cl.DescribeSecurityGroups(w.t.Context(), &ec2.DescribeSecurityGroupsInput{})
		if err != nil {
			return err
		}
		var live, own []string
		for _, e := range es.VpcEndpoints {
			if e.State != "deleted" {
				live = append(live, *e.VpcEndpointId+" "+string(e.State))
			}
		}
		for _, g := range gs.SecurityGroups {
			if *g.GroupName != "default" {
				own = append(own, *g.GroupName)
			}
		}
		if len(live) > endpoints || len(own) > groups {
			w.t.Fatalf("more than %d endpoints and %d groups: %v, %v", endpoints, groups, live, own)
		}
		if len(live) < endpoints || len(own) < groups {
			return fmt.Errorf("%v, %v", live, own)
		}
		return nil
	})
}

// until waits for what a process does.
func (w *outboundWorld) until(what string, holds func() error) {
	w.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || w.t.Context().Err() != nil {
			log, _ := os.ReadFile(w.log.Name()) // what there is of it
			w.t.Fatalf("not within the time: %s: %v; the log ends with:\n%s", what, err, log[max(0, len(log)-4000):])
		}
		wait(w.t, 20*time.Millisecond)
	}
}
