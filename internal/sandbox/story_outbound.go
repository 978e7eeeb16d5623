package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/postern-net/postern/client"
)

// outboundStory is what the steps of the way out share.
type outboundStory struct {
	id     string // Example Corp's data connection
	globex string // Globex's
}

// cluster is a customer's.
func (st *story) cluster(organization string) clusterPlace {
	return st.places.outbound.clusters[organization]
}

// wish is a sound request for a customer's cluster.
func (st *story) wish(organization string) client.DataConnectionSpec {
	c := st.cluster(organization)
	return client.DataConnectionSpec{
		Tenant: c.tenant, Region: st.places.outbound.region, AvailabilityZones: st.places.outbound.zones,
		ServiceName: c.service.ServiceName(), Hostname: c.hostname, Ports: []int{int(st.httpsPort)},
	}
}

// problems are the fields of a refused request, each with its reason.
func problems(err error) map[string]string {
	var e *client.Error
	if !errors.As(err, &e) {
		return nil
	}
	found := map[string]string{}
	for _, p := range e.Errors {
		found[p.Field] = p.Reason
		if p.Message == "" || p.Fix == "" {
			found[p.Field] = "without words: " + p.Reason
		}
	}
	return found
}

// refusedRequest sends a request that has everything wrong, and then hostnames
// that cannot work.
func (st *story) refusedRequest(ctx context.Context) error {
	region := st.places.outbound.region
	_, err := st.example.api.CreateDataConnection(ctx, client.DataConnectionSpec{
		Tenant: "globex", Region: region, AvailabilityZones: []string{region + "a"}, ServiceName: "starburst", Hostname: "starburst-prod.local",
		Ports: []int{0}, Protocol: "udp", IPAddressType: "ipv6",
	}, false)
	got := problems(err)
	for field, reason := range map[string]string{
		"spec.availability_zone_ids[0]": "ZoneName", "spec.vpc_endpoint_service_name": "NotAService", "spec.hostname": "PrivateTLD",
		"spec.ports[0]": "NotAPort", "spec.protocol": "UnsupportedProtocol", "spec.ip_address_type": "UnsupportedAddressType", "spec.tenant": "",
	} {
		if have, ok := got[field]; !ok || have != reason {
			return fmt.Errorf("%s is answered %q, want %q; in all %v", field, have, reason, got)
		}
	}
	if !strings.Contains(err.Error(), ".local") || !strings.Contains(err.Error(), "nobody owns it") {
		return fmt.Errorf("it does not say why a private domain cannot work: %w", err)
	}
	for _, wrong := range []struct {
		edit          func(*client.DataConnectionSpec)
		field, reason string
	}{
		{func(s *client.DataConnectionSpec) { s.Hostname = "10.20.30.40" }, "spec.hostname", "IPLiteral"},
		{func(s *client.DataConnectionSpec) { s.Hostname = "*.example.com" }, "spec.hostname", "Wildcard"},
		{func(s *client.DataConnectionSpec) { s.Hostname = "starburst.home.arpa" }, "spec.hostname", "SpecialUseDomain"},
		{func(s *client.DataConnectionSpec) { s.Hostname = "starburst.k8s" }, "spec.hostname", "UnknownTLD"},
		{func(s *client.DataConnectionSpec) { s.Hostname = "co.uk" }, "spec.hostname", "PublicSuffix"},
		{func(s *client.DataConnectionSpec) { s.Hostname = st.platform.Host("globex") }, "spec.hostname", "PlatformName"},
		{func(s *client.DataConnectionSpec) { s.Region = "sa-east-1" }, "spec.region", "UnsupportedRegion"},
		{func(s *client.DataConnectionSpec) { s.AvailabilityZones = []string{"euc1-az1"} }, "spec.availability_zone_ids", "NoCommonZone"},
	} {
		s := st.wish("example-corp")
		wrong.edit(&s)
		_, err := st.example.api.CreateDataConnection(ctx, s, true)
		if got := problems(err)[wrong.field]; got != wrong.reason {
			return fmt.Errorf("%s: %s is answered %q (%v), want %s", s.Hostname, wrong.field, got, err, wrong.reason)
		}
	}
	st.saw("%d problems in one answer: %v", len(got), got)
	return nil
}

// request publishes what proves a hostname, which a dry run tells, asks for the
// cluster, and says that the record is there: the public resolver would remember
// for a while if it had been asked before.
func (st *story) request(ctx context.Context, p person, spec client.DataConnectionSpec) (string, error) {
	tried, err := p.api.CreateDataConnection(ctx, spec, true)
	if err != nil {
		return "", err
	}
	record := tried.Connection.Status.Challenge
	zone := spec.Hostname[strings.IndexByte(spec.Hostname, '.')+1:]
	if err := p.publish(ctx, zone, record.Name, record.Value); err != nil {
		return "", err
	}
	made, err := p.api.CreateDataConnection(ctx, spec, false)
	if err == nil && made.Connection.Status.Challenge != record {
		err = fmt.Errorf("the dry run told another record: %+v, and now %+v", record, made.Connection.Status.Challenge)
	}
	if err != nil {
		return "", err
	}
	_, err = p.api.VerifyDataConnection(ctx, made.Connection.ID)
	return made.Connection.ID, err
}

// waits is the first condition that does not hold.
func waits(c client.DataConnection) client.Condition {
	for _, k := range c.Status.Conditions {
		if k.Status != "True" && k.Type != "Ready" {
			return k
		}
	}
	return client.Condition{}
}

// awaitReason waits until a data connection waits for something for a reason,
// and returns it.
func (st *story) awaitReason(ctx context.Context, p person, id, condition, reason string) (c client.DataConnection, err error) {
	err = until(ctx, func() error {
		if c, err = p.api.DataConnection(ctx, id); err != nil {
			return err
		}
		if k := waits(c); k.Type != condition || k.Reason != reason {
			return fmt.Errorf("%s is %s: %s=%s (%s: %s); want %s for %s", c.Spec.Hostname, c.Status.State, k.Type, k.Status, k.Reason, k.Message, condition, reason)
		}
		return nil
	})
	return c, err
}

// told demands that the proxy refuses the tenant's own workload for a reason.
func (st *story) told(ctx context.Context, status int, denial, reason string) error {
	w, err := st.workload("example")
	if err != nil {
		return err
	}
	target := fmt.Sprintf("%s:%d", st.cluster("example-corp").hostname, st.httpsPort)
	return until(ctx, func() error {
		a, err := w.connect(ctx, target, w.token)
		if err != nil {
			return err
		}
		if a.conn != nil {
			_ = a.conn.Close() // it should not be there
		}
		if a.status != status || a.Denial != denial || a.Reason != reason {
			return fmt.Errorf("the proxy answers %s; want %d %s %s", a, status, denial, reason)
		}
		return nil
	})
}

func (st *story) principal(ctx context.Context) error {
	var err error
	if st.out.id, err = st.request(ctx, st.example, st.wish("example-corp")); err != nil {
		return err
	}
	c, err := st.awaitReason(ctx, st.example, st.out.id, "ServiceAuthorized", "NotAuthorized")
	if err != nil {
		return err
	}
	k := waits(c)
	if c.Status.PrincipalARN == "" || !strings.Contains(k.Message, c.Status.PrincipalARN) || !strings.Contains(k.Message, c.Spec.ServiceName) {
		return fmt.Errorf("the condition does not name the principal %s and the service: %s", c.Status.PrincipalARN, k.Message)
	}
	if err := st.told(ctx, 503, "not_ready", "NotAuthorized"); err != nil {
		return err
	}
	st.saw("%s: %s", c.Status.State, k.Message)
	return st.nothingMade(ctx)
}

// nothingMade demands that nothing asked for a connection to Example Corp's
// service.
func (st *story) nothingMade(ctx context.Context) error {
	service := st.cluster("example-corp").service
	arrived, err := st.example.arrivals(ctx, service.Region, service.ID)
	if err == nil && len(arrived) > 0 {
		err = fmt.Errorf("endpoints were made to the service: %v", arrived)
	}
	return err
}

// acceptanceOff is a service that would connect whoever is allowed without
// asking its owner.
func (st *story) acceptanceOff(ctx context.Context) error {
	service := st.cluster("example-corp").service
	if err := st.example.requireAcceptance(ctx, service.Region, service.ID, false); err != nil {
		return err
	}
	if err := st.example.allow(ctx, service.Region, service.ID, []string{st.platform.Outbound.Principal}, nil); err != nil {
		return err
	}
	if _, err := st.example.api.VerifyDataConnection(ctx, st.out.id); err != nil {
		return err
	}
	c, err := st.awaitReason(ctx, st.example, st.out.id, "ServiceSuitable", "AcceptanceNotRequired")
	if err != nil {
		return err
	}
	if k := waits(c); !strings.Contains(k.Message, "Require acceptance") {
		return fmt.Errorf("the condition does not name the setting: %s", k.Message)
	}
	if err := st.nothingMade(ctx); err != nil {
		return err
	}
	st.saw("%s: %s", c.Status.State, waits(c).Message)
	return st.example.requireAcceptance(ctx, service.Region, service.ID, true)
}

func (st *story) pendingConnection(ctx context.Context) error {
	if _, err := st.example.api.VerifyDataConnection(ctx, st.out.id); err != nil {
		return err
	}
	c, err := st.awaitReason(ctx, st.example, st.out.id, "Connected", "WaitsForAcceptance")
	if err != nil {
		return err
	}
	service := st.cluster("example-corp").service
	arrived, err := st.example.arrivals(ctx, service.Region, service.ID)
	if err != nil {
		return err
	}
	if len(arrived) != 1 || arrived[c.Status.EndpointID] != "pendingacceptance" {
		return fmt.Errorf("the service's owner sees %v, want %s pending", arrived, c.Status.EndpointID)
	}
	st.saw("%s waits for its owner; workloads are told so", c.Status.EndpointID)
	return st.told(ctx, 503, "not_ready", "WaitsForAcceptance")
}

// foreignService is Globex's request for its own hostname by Example Corp's
// service, which admits the platform for Example Corp's sake only.
func (st *story) foreignService(ctx context.Context) error {
	spec := st.wish("globex")
	spec.ServiceName = st.cluster("example-corp").service.ServiceName()
	id, err := st.request(ctx, st.globex, spec)
	if err != nil {
		return err
	}
	if err := st.globex.prove(ctx); err != nil { // an account it has, but not that one
		return err
	}
	c, err := st.awaitReason(ctx, st.globex, id, "ServiceAuthorized", "NotAuthorized")
	if err != nil {
		return err
	}
	if strings.Contains(waits(c).Message, st.example.account.ID) {
		return fmt.Errorf("it tells whose the service is: %s", waits(c).Message)
	}
	if err := st.rounds(ctx, 2); err != nil {
		return err
	}
	if c, err = st.globex.api.DataConnection(ctx, id); err != nil || waits(c).Reason != "NotAuthorized" {
		return fmt.Errorf("two rounds later it waits for %+v (%s)", waits(c), got(err))
	}
	service := st.cluster("example-corp").service
	arrived, err := st.example.arrivals(ctx, service.Region, service.ID)
	if err != nil || len(arrived) != 1 {
		return fmt.Errorf("the service of Example Corp sees %v (%s), want its own connection's endpoint only", arrived, got(err))
	}
	st.saw("refused as a service that is not there; two rounds later nothing was made")
	return st.globex.api.DeleteDataConnection(ctx, id)
}

// certificates has the cluster present one bad certificate after the other.
func (st *story) certificates(ctx context.Context) error {
	service := st.cluster("example-corp").service
	c, err := st.example.api.DataConnection(ctx, st.out.id)
	if err != nil {
		return err
	}
	kinds := []struct{ kind, reason string }{
		{certificateSelfSigned, "SelfSigned"},
		{certificatePrivateCA, "PrivateCA"},
		{certificateWrongName, "NameMismatch"},
		{certificateCommonName, "CommonNameOnly"},
		{certificateExpired, "CertificateExpired"},
	}
	if err := st.PresentCertificate("example-corp", kinds[0].kind); err != nil {
		return err
	}
	if err := st.example.accept(ctx, service.Region, service.ID, c.Status.EndpointID); err != nil {
		return err
	}
	var seen []string
	for i, k := range kinds {
		if i > 0 {
			if err := st.PresentCertificate("example-corp", k.kind); err != nil {
				return err
			}
			if _, err := st.example.api.VerifyDataConnection(ctx, st.out.id); err != nil {
				return err
			}
		}
		if c, err = st.awaitReason(ctx, st.example, st.out.id, "Verified", k.reason); err != nil {
			return err
		}
		if c.Status.State != "verifying" || waits(c).Message == "" {
			return fmt.Errorf("with %s it is %s: %+v", k.kind, c.Status.State, waits(c))
		}
		if err := st.told(ctx, 503, "not_ready", k.reason); err != nil {
			return err
		}
		seen = append(seen, k.reason)
	}
	if n := st.clusters["example-corp"].Statements(); n != 0 {
		return fmt.Errorf("%d statements reached a cluster whose certificate is bad", n)
	}
	st.saw("accepted; refused for %s, and each workload told so", strings.Join(seen, ", "))
	return nil
}

// connectionEvent demands an event about a data connection that says a reason.
func (st *story) connectionEvent(ctx context.Context, p person, id, reason string, after int64) error {
	events, err := p.api.Events(ctx, "", after)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(events, func(e client.Event) bool {
		return e.Action == "data-connection.state" && e.Subject == id && strings.Contains(e.Message, reason)
	}) {
		return fmt.Errorf("none of %d events tells of %s", len(events), reason)
	}
	return nil
}

// withdrawConnections takes back what an earlier run asked for, and what it
// changed at the clusters and their services.
func (st *story) withdrawConnections(ctx context.Context, removed *int) error {
	left, err := st.admin.DataConnections(ctx, client.DataConnectionFilter{})
	if err != nil {
		return err
	}
	for _, c := range left {
		*removed++
		if err := st.admin.DeleteDataConnection(ctx, c.ID); err != nil {
			return err
		}
	}
	for id, c := range st.places.outbound.clusters {
		p := st.person(id)
		if err := st.PresentCertificate(id, certificateGood); err != nil {
			return err
		}
		if err := p.requireAcceptance(ctx, c.service.Region, c.service.ID, true); err != nil {
			return err
		}
		allowed, err := p.allowed(ctx, c.service.Region, c.service.ID)
		if err != nil {
			return err
		}
		if len(allowed) > 0 {
			if err := p.allow(ctx, c.service.Region, c.service.ID, nil, allowed); err != nil {
				return err
			}
		}
	}
	return until(ctx, func() error {
		left, err := st.admin.DataConnections(ctx, client.DataConnectionFilter{})
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d data connections are still there", len(left))
		}
		return err
	})
}
