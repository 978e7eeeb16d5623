package localaws_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern/internal/localaws"
)

// route53 is a client of an account that never retries.
func (f *fixture) route53(a localaws.Account) *route53.Client {
	return route53.New(route53.Options{
		Region: virginia, BaseEndpoint: aws.String(f.EndpointURL()), Credentials: provider(a.AccessKeys[0]), Retryer: aws.NopRetryer{},
	})
}

// zone creates a hosted zone, a private one when VPCs are given, and returns
// its ID.
func (f *fixture) zone(a localaws.Account, name string, vpcs ...localaws.VPC) string {
	f.t.Helper()
	in := &route53.CreateHostedZoneInput{Name: &name, CallerReference: aws.String(rand.Text())}
	if len(vpcs) > 0 {
		in.VPC = vpcOf(vpcs[0])
	}
	out, err := f.route53(a).CreateHostedZone(f.t.Context(), in)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, v := range vpcs[min(1, len(vpcs)):] {
		if _, err := f.route53(a).AssociateVPCWithHostedZone(f.t.Context(), &route53.AssociateVPCWithHostedZoneInput{HostedZoneId: out.HostedZone.Id, VPC: vpcOf(v)}); err != nil {
			f.t.Fatal(err)
		}
	}
	return strings.TrimPrefix(*out.HostedZone.Id, "/hostedzone/")
}

func vpcOf(v localaws.VPC) *types.VPC {
	return &types.VPC{VPCId: &v.ID, VPCRegion: types.VPCRegion(v.Region)}
}

func wantStatus(t *testing.T, err error, code string, status int) {
	t.Helper()
	wantCode(t, err, code)
	var res *smithyhttp.ResponseError
	if !errors.As(err, &res) || res.HTTPStatusCode() != status {
		t.Errorf("%v: want status %d", err, status)
	}
}

func TestHostedZones(t *testing.T) {
	f := newFixture(t, nil)
	c := f.route53(f.example)
	in := &route53.CreateHostedZoneInput{
		Name: aws.String("PrivateLink.immutacloud.com"), CallerReference: aws.String("once"), VPC: vpcOf(f.vpc),
		HostedZoneConfig: &types.HostedZoneConfig{Comment: aws.String("our door")},
	}
	out, err := c.CreateHostedZone(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	z := out.HostedZone
	if *z.Name != "privatelink.immutacloud.com." || !z.Config.PrivateZone || *z.Config.Comment != "our door" || *z.ResourceRecordSetCount != 2 ||
		!strings.HasSuffix(*out.Location, "/2013-04-01"+*z.Id) || out.ChangeInfo.Status != types.ChangeStatusPending || out.DelegationSet != nil || *out.VPC.VPCId != f.vpc.ID {
		t.Errorf("%+v %+v", out, z)
	}
	f.inSync(f.example, *out.ChangeInfo.Id)
	got, err := c.GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: z.Id})
	if err != nil || len(got.VPCs) != 1 || *got.VPCs[0].VPCId != f.vpc.ID || got.VPCs[0].VPCRegion != virginia || *got.HostedZone.CallerReference != "once" {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = c.CreateHostedZone(t.Context(), in)
	wantStatus(t, err, "HostedZoneAlreadyExists", http.StatusConflict)

	public := f.zone(f.example, "privatelink.immutacloud.com.")
	got, err = c.GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: &public})
	if err != nil || got.HostedZone.Config.PrivateZone || len(got.DelegationSet.NameServers) != 4 || len(got.VPCs) != 0 {
		t.Errorf("%+v, %v", got, err)
	}

	_, err = f.tryChange(f.example, public, change("CREATE", "a.privatelink.immutacloud.com", "A", 60, "192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteHostedZone(t.Context(), &route53.DeleteHostedZoneInput{Id: &public})
	wantStatus(t, err, "HostedZoneNotEmpty", http.StatusBadRequest)
	if _, err = f.tryChange(f.example, public, change("DELETE", "a.privatelink.immutacloud.com", "A", 60, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteHostedZone(t.Context(), &route53.DeleteHostedZoneInput{Id: &public}); err != nil {
		t.Fatal(err)
	}
	_, err = c.GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: &public})
	wantStatus(t, err, "NoSuchHostedZone", http.StatusNotFound)
}

func TestZonesThatAreRefused(t *testing.T) {
	f := newFixture(t, nil)
	f.zone(f.example, "taken.example.com", f.vpc)
	for name, c := range map[string]struct {
		change func(*route53.CreateHostedZoneInput)
		code   string
	}{
		"good": {func(*route53.CreateHostedZoneInput) {}, ""},
		"same name, other VPC": {func(in *route53.CreateHostedZoneInput) {
			in.Name, in.VPC = aws.String("taken.example.com"), vpcOf(f.far)
		}, ""},
		"same name, same VPC": {func(in *route53.CreateHostedZoneInput) {
			in.Name, in.VPC = aws.String("Taken.example.com."), vpcOf(f.vpc)
		}, "ConflictingDomainExists"},
		"child of a zone": {func(in *route53.CreateHostedZoneInput) {
			in.Name, in.VPC = aws.String("a.taken.example.com"), vpcOf(f.vpc)
		}, ""},
		"name":                {func(in *route53.CreateHostedZoneInput) { in.Name = aws.String("a..b") }, "InvalidDomainName"},
		"wildcard":            {func(in *route53.CreateHostedZoneInput) { in.Name = aws.String("*.example.com") }, "InvalidDomainName"},
		"no reference":        {func(in *route53.CreateHostedZoneInput) { in.CallerReference = aws.String("") }, "InvalidInput"},
		"somebody else's VPC": {func(in *route53.CreateHostedZoneInput) { in.VPC = vpcOf(f.other) }, "InvalidVPCId"},
		"no such VPC": {func(in *route53.CreateHostedZoneInput) {
			in.VPC = vpcOf(localaws.VPC{ID: "vpc-0aaaaaaaaaaaaaaaa", Region: virginia})
		}, "InvalidVPCId"},
		"another region": {func(in *route53.CreateHostedZoneInput) { in.VPC = vpcOf(localaws.VPC{ID: f.vpc.ID, Region: oregon}) }, "InvalidVPCId"},
		"private without VPC": {func(in *route53.CreateHostedZoneInput) {
			in.HostedZoneConfig = &types.HostedZoneConfig{PrivateZone: true}
		}, "InvalidInput"},
		"delegation set": {func(in *route53.CreateHostedZoneInput) { in.DelegationSetId = aws.String("N1") }, "NoSuchDelegationSet"},
		"long comment": {func(in *route53.CreateHostedZoneInput) {
			in.HostedZoneConfig = &types.HostedZoneConfig{Comment: aws.String(strings.Repeat("x", 257))}
		}, "InvalidInput"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &route53.CreateHostedZoneInput{Name: aws.String("new.example.com"), CallerReference: aws.String(name)}
			c.change(in)
			_, err := f.route53(f.example).CreateHostedZone(t.Context(), in)
			if c.code == "" && err != nil {
				t.Error(err)
			} else if c.code != "" {
				wantStatus(t, err, c.code, http.StatusBadRequest)
			}
		})
	}
}

func TestZonesAreListed(t *testing.T) {
	f := newFixture(t, nil)
	for _, name := range []string{"b.example.com", "example.org", "a.example.com", "example.com", "b.example.com"} {
		f.zone(f.example, name)
	}
	f.zone(f.globex, "b.example.com")
	c := f.route53(f.example)
	seen := map[string]bool{}
	pages := route53.NewListHostedZonesPaginator(c, &route53.ListHostedZonesInput{MaxItems: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, z := range page.HostedZones {
			seen[*z.Id] = true
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d zones, want 5", len(seen))
	}
	// By name there is no paginator.
	var names []string
	in := &route53.ListHostedZonesByNameInput{DNSName: aws.String("a.example.com"), MaxItems: aws.Int32(2)}
	for {
		page, err := c.ListHostedZonesByName(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, z := range page.HostedZones {
			names = append(names, *z.Name)
		}
		if !page.IsTruncated {
			break
		}
		in.DNSName, in.HostedZoneId = page.NextDNSName, page.NextHostedZoneId
	}
	if diff := cmp.Diff([]string{"a.example.com.", "b.example.com.", "b.example.com.", "example.org."}, names); diff != "" {
		t.Error(diff)
	}
	_, err := c.ListHostedZonesByName(t.Context(), &route53.ListHostedZonesByNameInput{DNSName: aws.String("a..b")})
	wantStatus(t, err, "InvalidDomainName", http.StatusBadRequest)
	_, err = c.ListHostedZonesByName(t.Context(), &route53.ListHostedZonesByNameInput{HostedZoneId: aws.String("Z1")})
	wantStatus(t, err, "InvalidInput", http.StatusBadRequest)
	_, err = c.ListHostedZones(t.Context(), &route53.ListHostedZonesInput{MaxItems: aws.Int32(0)})
	wantStatus(t, err, "InvalidInput", http.StatusBadRequest)
}

func TestOnlyTheOwnerChangesAZone(t *testing.T) {
	f := newFixture(t, nil)
	zone := f.zone(f.example, "example.com", f.vpc)
	info, err := f.tryChange(f.example, zone, change("CREATE", "a.example.com", "A", 60, "192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	c, ctx := f.route53(f.globex), t.Context()
	for name, call := range map[string]func(id string) error{
		"GetHostedZone": func(id string) error {
			_, err := c.GetHostedZone(ctx, &route53.GetHostedZoneInput{Id: &id})
			return err
		},
		"DeleteHostedZone": func(id string) error {
			_, err := c.DeleteHostedZone(ctx, &route53.DeleteHostedZoneInput{Id: &id})
			return err
		},
		"ListResourceRecordSets": func(id string) error {
			_, err := c.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: &id})
			return err
		},
		"ChangeResourceRecordSets": func(id string) error {
			_, err := f.tryChange(f.globex, id, change("UPSERT", "a.example.com", "A", 60, "192.0.2.66"))
			return err
		},
		"CreateVPCAssociationAuthorization": func(id string) error {
			_, err := c.CreateVPCAssociationAuthorization(ctx, &route53.CreateVPCAssociationAuthorizationInput{HostedZoneId: &id, VPC: vpcOf(f.other)})
			return err
		},
		"DeleteVPCAssociationAuthorization": func(id string) error {
			_, err := c.DeleteVPCAssociationAuthorization(ctx, &route53.DeleteVPCAssociationAuthorizationInput{HostedZoneId: &id, VPC: vpcOf(f.other)})
			return err
		},
		"ListVPCAssociationAuthorizations": func(id string) error {
			_, err := c.ListVPCAssociationAuthorizations(ctx, &route53.ListVPCAssociationAuthorizationsInput{HostedZoneId: &id})
			return err
		},
		"DisassociateVPCFromHostedZone": func(id string) error {
			_, err := c.DisassociateVPCFromHostedZone(ctx, &route53.DisassociateVPCFromHostedZoneInput{HostedZoneId: &id, VPC: vpcOf(f.vpc)})
			return err
		},
		"ListTagsForResource": func(id string) error {
			_, err := c.ListTagsForResource(ctx, &route53.ListTagsForResourceInput{ResourceId: &id, ResourceType: "hostedzone"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Foreign and absent look the same.
			for _, id := range []string{zone, "Z00000000000000000000"} {
				err := call(id)
				wantStatus(t, err, "NoSuchHostedZone", http.StatusNotFound)
				if err != nil && !strings.Contains(err.Error(), "No hosted zone found with ID: "+id) {
					t.Error(err)
				}
			}
		})
	}
	for _, id := range []string{*info.Id, "C00000000000000000000"} {
		_, err = c.GetChange(ctx, &route53.GetChangeInput{Id: &id})
		wantStatus(t, err, "NoSuchChange", http.StatusNotFound)
	}
	if diff := cmp.Diff([]string{"a.example.com. A 60 192.0.2.1"}, f.records(f.example, zone)); diff != "" {
		t.Error(diff)
	}
}

func TestAssociations(t *testing.T) {
	f := newFixture(t, nil)
	private, public := f.zone(f.example, "example.com", f.vpc), f.zone(f.example, "example.com")
	associate := func(a localaws.Account, zone string, v localaws.VPC) error {
		_, err := f.route53(a).AssociateVPCWithHostedZone(t.Context(), &route53.AssociateVPCWithHostedZoneInput{HostedZoneId: &zone, VPC: vpcOf(v)})
		return err
	}
	disassociate := func(a localaws.Account, v localaws.VPC) error {
		_, err := f.route53(a).DisassociateVPCFromHostedZone(t.Context(), &route53.DisassociateVPCFromHostedZoneInput{HostedZoneId: &private, VPC: vpcOf(v)})
		return err
	}
	wantStatus(t, disassociate(f.example, f.vpc), "LastVPCAssociation", http.StatusBadRequest)
	if err := associate(f.example, private, f.far); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, associate(f.example, private, f.far), "ConflictingDomainExists", http.StatusBadRequest)
	wantStatus(t, associate(f.example, public, f.far), "PublicZoneVPCAssociation", http.StatusBadRequest)
	wantStatus(t, associate(f.example, "Z00000000000000000000", f.far), "NoSuchHostedZone", http.StatusNotFound)
	wantStatus(t, associate(f.example, private, localaws.VPC{ID: "vpc-1", Region: virginia}), "InvalidVPCId", http.StatusBadRequest)
	wantStatus(t, associate(f.example, private, f.other), "NotAuthorizedException", http.StatusUnauthorized)
	wantStatus(t, associate(f.globex, private, f.other), "NotAuthorizedException", http.StatusUnauthorized)
	wantStatus(t, associate(f.globex, private, f.vpc), "InvalidVPCId", http.StatusBadRequest)
	wantStatus(t, disassociate(f.globex, f.other), "VPCAssociationNotFound", http.StatusNotFound)

	c := f.route53(f.example)
	for range 2 { // idempotent
		out, err := c.CreateVPCAssociationAuthorization(t.Context(), &route53.CreateVPCAssociationAuthorizationInput{HostedZoneId: &private, VPC: vpcOf(f.other)})
		if err != nil || *out.HostedZoneId != private || *out.VPC.VPCId != f.other.ID {
			t.Fatal(out, err)
		}
	}
	list, err := c.ListVPCAssociationAuthorizations(t.Context(), &route53.ListVPCAssociationAuthorizationsInput{HostedZoneId: &private})
	if err != nil || len(list.VPCs) != 1 || *list.VPCs[0].VPCId != f.other.ID {
		t.Error(list, err)
	}
	wantStatus(t, associate(f.example, private, f.other), "NotAuthorizedException", http.StatusUnauthorized) // the VPC's owner must ask
	if err := associate(f.globex, private, f.other); err != nil {
		t.Fatal(err)
	}
	// Taking the authorization back leaves the association.
	deauthorize := &route53.DeleteVPCAssociationAuthorizationInput{HostedZoneId: &private, VPC: vpcOf(f.other)}
	if _, err := c.DeleteVPCAssociationAuthorization(t.Context(), deauthorize); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteVPCAssociationAuthorization(t.Context(), deauthorize)
	wantStatus(t, err, "VPCAssociationAuthorizationNotFound", http.StatusNotFound)
	got, err := c.GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: &private})
	if err != nil || len(got.VPCs) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := disassociate(f.globex, f.other); err != nil { // the VPC's owner may, too
		t.Error(err)
	}
	wantStatus(t, associate(f.globex, private, f.other), "NotAuthorizedException", http.StatusUnauthorized)
	if err := disassociate(f.example, f.vpc); err != nil {
		t.Error(err)
	}
}

func TestTags(t *testing.T) {
	f := newFixture(t, nil)
	c, zone := f.route53(f.example), f.zone(f.example, "example.com")
	add := func(tags ...types.Tag) error {
		_, err := c.ChangeTagsForResource(t.Context(), &route53.ChangeTagsForResourceInput{ResourceId: &zone, ResourceType: "hostedzone", AddTags: tags, RemoveTagKeys: []string{"gone"}})
		return err
	}
	tag := func(k, v string) types.Tag { return types.Tag{Key: &k, Value: &v} }
	if err := errors.Join(add(tag("gone", "1"), tag("b", "2")), add(tag("a", ""))); err != nil {
		t.Fatal(err)
	}
	out, err := c.ListTagsForResource(t.Context(), &route53.ListTagsForResourceInput{ResourceId: &zone, ResourceType: "hostedzone"})
	if err != nil || *out.ResourceTagSet.ResourceId != zone || len(out.ResourceTagSet.Tags) != 2 || *out.ResourceTagSet.Tags[1].Value != "2" {
		t.Errorf("%+v, %v", out, err)
	}
	wantStatus(t, add(tag("aws:x", "")), "InvalidInput", http.StatusBadRequest)
	_, err = c.ListTagsForResource(t.Context(), &route53.ListTagsForResourceInput{ResourceId: &zone, ResourceType: "healthcheck"})
	wantStatus(t, err, "InvalidInput", http.StatusBadRequest)
}

// TestOneRequestAtATime: while a change of a zone is processed, another one is
// refused.
func TestOneRequestAtATime(t *testing.T) {
	f := newFixture(t, nil)
	zone, free := f.zone(f.example, "example.com"), f.zone(f.example, "example.org")
	if _, err := f.Faults().Add(localaws.Fault{Kind: localaws.FaultPause, Action: "ChangeResourceRecordSets", Times: 1}); err != nil {
		t.Fatal(err)
	}
	first := make(chan error)
	go func() {
		_, err := f.tryChange(f.example, zone, change("CREATE", "a.example.com", "A", 60, "192.0.2.1"))
		first <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	held, err := f.Faults().WaitPaused(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if held.Parameters["Id"] != zone || !strings.Contains(held.Parameters["Body"], "a.example.com") || held.Service != "route53" {
		t.Errorf("%+v", held)
	}
	second := change("CREATE", "b.example.com", "A", 60, "192.0.2.1")
	_, err = f.tryChange(f.example, zone, second)
	wantStatus(t, err, "PriorRequestNotComplete", http.StatusBadRequest)
	if _, err = f.tryChange(f.example, free, change("CREATE", "b.example.org", "A", 60, "192.0.2.1")); err != nil {
		t.Errorf("another zone: %v", err)
	}
	f.Faults().Release(held.ID)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err = f.tryChange(f.example, zone, second); err != nil { // PENDING changes may follow one another
		t.Error(err)
	}
}

func TestFiveRequestsPerSecond(t *testing.T) {
	clock := newClock()
	f := newFixture(t, func(f *fixture) { f.cfg.Throttle, f.cfg.Clock = true, clock.now })
	list := func(a localaws.Account) error {
		_, err := f.route53(a).ListHostedZones(t.Context(), &route53.ListHostedZonesInput{})
		return err
	}
	byName := func() error {
		_, err := f.route53(f.example).ListHostedZonesByName(t.Context(), &route53.ListHostedZonesByNameInput{})
		return err
	}
	for range 5 {
		if err := list(f.example); err != nil {
			t.Fatal(err)
		}
	}
	wantStatus(t, list(f.example), "Throttling", http.StatusBadRequest)
	wantStatus(t, byName(), "Throttling", http.StatusBadRequest) // all requests share the bucket
	if err := list(f.globex); err != nil {
		t.Errorf("another account: %v", err)
	}
	clock.pass(200 * time.Millisecond)
	if err := byName(); err != nil {
		t.Error(err)
	}
	wantStatus(t, list(f.example), "Throttling", http.StatusBadRequest)
	// The fault answers as the bucket does.
	clock.pass(time.Minute)
	if _, err := f.Faults().Add(localaws.Fault{Kind: localaws.FaultThrottle, Action: "ListHostedZones", Account: "example-corp"}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, list(f.example), "Throttling", http.StatusBadRequest)
}

// TestBothShapesOfAnInvalidBatch: the one that Route 53 sends, and by a fault
// the one of AWS's reference.
func TestBothShapesOfAnInvalidBatch(t *testing.T) {
	f := newFixture(t, nil)
	zone := f.zone(f.example, "example.com")
	bad := change("DELETE", "a.example.com", "A", 60, "192.0.2.1")
	_, err := f.tryChange(f.example, zone, bad)
	var sent *types.InvalidChangeBatch
	if !errors.As(err, &sent) || len(sent.Messages) != 0 || !strings.HasPrefix(*sent.Message, "[Tried to delete") {
		t.Errorf("%v", err)
	}
	if _, err := f.Faults().Add(localaws.Fault{Kind: localaws.FaultError, Action: "ChangeResourceRecordSets", Code: "InvalidChangeBatch", Message: "so it is", Status: 400}); err != nil {
		t.Fatal(err)
	}
	_, err = f.tryChange(f.example, zone, bad)
	if !errors.As(err, &sent) || len(sent.Messages) != 1 || sent.Messages[0] != "so it is" {
		t.Errorf("%v", err)
	}
}

// TestZonesSurviveARestart: records, associations, and a change that was still
// PENDING.
func TestZonesSurviveARestart(t *testing.T) {
	clock := newClock()
	f := newFixture(t, func(f *fixture) {
		f.cfg.StatePath, f.cfg.Clock, f.cfg.Timing.Change = filepath.Join(t.TempDir(), "state.json"), clock.now, time.Minute
	})
	zone := f.zone(f.example, "example.com", f.vpc, f.far)
	info, err := f.tryChange(f.example, zone, change("CREATE", "a.example.com", "A", 60, "192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	f.start()
	status := func() types.ChangeStatus {
		out, err := f.route53(f.example).GetChange(t.Context(), &route53.GetChangeInput{Id: info.Id})
		if err != nil {
			t.Fatal(err)
		}
		return out.ChangeInfo.Status
	}
	if got := status(); got != types.ChangeStatusPending {
		t.Error(got)
	}
	clock.pass(time.Minute)
	if got := status(); got != types.ChangeStatusInsync {
		t.Error(got)
	}
	if diff := cmp.Diff([]string{"a.example.com. A 60 192.0.2.1"}, f.records(f.example, zone)); diff != "" {
		t.Error(diff)
	}
	if addrs, _, _ := f.lookup(f.vpc.Host("", 10), f.vpc.Resolver(), "a.example.com"); len(addrs) != 1 {
		t.Error(addrs)
	}
	f.cfg.World.VPCs = f.cfg.World.VPCs[:3]
	f.Close()
	if _, err := localaws.New(f.cfg); err == nil || !strings.Contains(err.Error(), f.far.ID) {
		t.Errorf("a world without an associated VPC: %v", err)
	}
}
