package localaws_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern/internal/localaws"
)

func change(a types.ChangeAction, name string, rtype types.RRType, ttl int64, values ...string) types.Change {
	set := &types.ResourceRecordSet{Name: &name, Type: rtype, TTL: &ttl}
	for _, v := range values {
		set.ResourceRecords = append(set.ResourceRecords, types.ResourceRecord{Value: &v})
	}
	return types.Change{Action: a, ResourceRecordSet: set}
}

func aliasTo(name, zone, target string) types.Change {
	return types.Change{Action: types.ChangeActionUpsert, ResourceRecordSet: &types.ResourceRecordSet{
		Name: &name, Type: types.RRTypeA, AliasTarget: &types.AliasTarget{HostedZoneId: &zone, DNSName: &target},
	}}
}

func (f *fixture) tryChange(a localaws.Account, zone string, changes ...types.Change) (*types.ChangeInfo, error) {
	f.t.Helper()
	out, err := f.route53(a).ChangeResourceRecordSets(f.t.Context(), &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: &zone, ChangeBatch: &types.ChangeBatch{Changes: changes},
	})
	if err != nil {
		return nil, err
	}
	return out.ChangeInfo, nil
}

// change makes a change and waits until it is answered.
func (f *fixture) change(a localaws.Account, zone string, changes ...types.Change) {
	f.t.Helper()
	info, err := f.tryChange(a, zone, changes...)
	if err != nil {
		f.t.Fatal(err)
	}
	f.inSync(a, *info.Id)
}

func (f *fixture) inSync(a localaws.Account, id string) {
	f.t.Helper()
	waiter := route53.NewResourceRecordSetsChangedWaiter(f.route53(a), func(o *route53.ResourceRecordSetsChangedWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 5*time.Millisecond
	})
	if err := waiter.Wait(f.t.Context(), &route53.GetChangeInput{Id: &id}, 30*time.Second); err != nil {
		f.t.Fatal(err)
	}
}

// records are a zone's, "name type TTL values", by pages of two.
func (f *fixture) records(a localaws.Account, zone string) (out []string) {
	f.t.Helper()
	pages := route53.NewListResourceRecordSetsPaginator(f.route53(a), &route53.ListResourceRecordSetsInput{HostedZoneId: &zone, MaxItems: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(f.t.Context())
		if err != nil {
			f.t.Fatal(err)
		}
		for _, r := range page.ResourceRecordSets {
			if r.Type == types.RRTypeSoa || (r.Type == types.RRTypeNs && *r.TTL == 172800) {
				continue
			}
			line := *r.Name + " " + string(r.Type)
			if r.AliasTarget != nil {
				line += " alias " + *r.AliasTarget.DNSName
			} else {
				line += fmt.Sprint(" ", *r.TTL)
			}
			for _, v := range r.ResourceRecords {
				line += " " + *v.Value
			}
			out = append(out, line)
		}
	}
	return out
}

func TestRecords(t *testing.T) {
	f := newFixture(t, nil)
	zone := f.zone(f.example, "example.com")
	f.change(f.example, zone,
		change("CREATE", "a.example.com", "A", 60, "192.0.2.1", "192.0.2.2"), change("CREATE", "a.example.com.", "AAAA", 60, "2001:db8::1"),
		change("CREATE", "*.example.com", "CNAME", 30, "a.example.com"), change("CREATE", "_vpce.example.com", "TXT", 0, `"vpce:abc"`),
		change("UPSERT", "child.example.com", "NS", 60, "ns.example.net."), aliasTo("example.com", zone, "a.example.com"),
	)
	want := []string{
		"example.com. A alias a.example.com.", `\052.example.com. CNAME 30 a.example.com`, `_vpce.example.com. TXT 0 "vpce:abc"`,
		"a.example.com. A 60 192.0.2.1 192.0.2.2", "a.example.com. AAAA 60 2001:db8::1", "child.example.com. NS 60 ns.example.net.",
	}
	if diff := cmp.Diff(want, f.records(f.example, zone)); diff != "" {
		t.Error(diff)
	}
	// A batch with one mistake changes nothing, and names every mistake.
	_, err := f.tryChange(f.example, zone,
		change("CREATE", "b.example.com", "A", 60, "192.0.2.1"), change("CREATE", "a.example.com", "A", 60, "192.0.2.1"), change("CREATE", "example.com", "CNAME", 60, "x.example.net"))
	wantStatus(t, err, "InvalidChangeBatch", http.StatusBadRequest)
	if want := "[RRSet of type CNAME with DNS name example.com. is not permitted at apex in zone example.com.]"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = f.tryChange(f.example, zone, change("CREATE", "a.example.com", "A", 60, "192.0.2.1"), change("DELETE", "none.example.com", "A", 60, "192.0.2.1"))
	if want := "[Tried to create resource record set [name='a.example.com.', type='A'] but it already exists, Tried to delete resource record set [name='none.example.com.', type='A'] but it was not found]"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = f.tryChange(f.example, zone, change("CREATE", "a..b", "A", 60, "192.0.2.1"))
	wantStatus(t, err, "InvalidChangeBatch", http.StatusBadRequest)
	if diff := cmp.Diff(want, f.records(f.example, zone)); diff != "" {
		t.Error(diff)
	}
	// The list begins at a name, and at a type of it.
	out, err := f.route53(f.example).ListResourceRecordSets(t.Context(), &route53.ListResourceRecordSetsInput{
		HostedZoneId: &zone, StartRecordName: aws.String("A.example.com"), StartRecordType: types.RRTypeAaaa, MaxItems: aws.Int32(1),
	})
	if err != nil || len(out.ResourceRecordSets) != 1 || out.ResourceRecordSets[0].Type != types.RRTypeAaaa || *out.NextRecordName != "child.example.com." || out.NextRecordType != types.RRTypeNs {
		t.Errorf("%+v, %v", out, err)
	}
	_, err = f.route53(f.example).ListResourceRecordSets(t.Context(), &route53.ListResourceRecordSetsInput{HostedZoneId: &zone, StartRecordType: types.RRTypeA})
	wantStatus(t, err, "InvalidInput", http.StatusBadRequest)
}

func TestRecordSetsThatAreRefused(t *testing.T) {
	f := newFixture(t, nil)
	e := f.ready("use1-az2")
	target := e.DnsEntries[0]
	zone := f.zone(f.example, "example.com", f.vpc)
	f.change(f.example, zone, aliasTo("z.example.com", *target.HostedZoneId, *e.DnsEntries[1].DnsName+"."))
	with := func(edit func(*types.ResourceRecordSet)) types.Change {
		c := change("CREATE", "a.example.com", "A", 60, "192.0.2.1")
		edit(c.ResourceRecordSet)
		return c
	}
	for name, c := range map[string]struct {
		change  types.Change
		code    string
		message string
	}{
		"good":              {with(func(*types.ResourceRecordSet) {}), "", ""},
		"alias":             {aliasTo("example.com", *target.HostedZoneId, *target.DnsName), "", ""},
		"zonal alias":       {aliasTo("z.example.com", *target.HostedZoneId, *e.DnsEntries[1].DnsName+"."), "", ""},
		"alias, other zone": {aliasTo("b.example.com", "Z0000000000000", *target.DnsName), "InvalidChangeBatch", "does not lie within the target zone"},
		"alias, this zone":  {aliasTo("b.example.com", zone, *target.DnsName), "InvalidChangeBatch", "does not lie within the target zone"},
		"alias to nothing":  {aliasTo("b.example.com", *target.HostedZoneId, "x"+*target.DnsName), "InvalidChangeBatch", "but that target was not found"},
		"no TTL":            {with(func(r *types.ResourceRecordSet) { r.TTL = nil }), "InvalidInput", "found only a part in Change with [Action=CREATE, Name=a.example.com, Type=A"},
		"no values":         {with(func(r *types.ResourceRecordSet) { r.ResourceRecords = nil }), "InvalidInput", "found only a part"},
		"nothing":           {with(func(r *types.ResourceRecordSet) { r.TTL, r.ResourceRecords = nil, nil }), "InvalidInput", "found none"},
		"both": {with(func(r *types.ResourceRecordSet) {
			r.AliasTarget = aliasTo("x", "Z1", "y").ResourceRecordSet.AliasTarget
		}), "InvalidInput", "found more than one"},
		"alias with TTL": {with(func(r *types.ResourceRecordSet) {
			r.ResourceRecords, r.AliasTarget = nil, aliasTo("x", "Z1", "y").ResourceRecordSet.AliasTarget
		}), "InvalidInput", "found more than one"},
		"weighted":           {with(func(r *types.ResourceRecordSet) { r.SetIdentifier, r.Weight = aws.String("one"), aws.Int64(1) }), "InvalidInput", "simple routing"},
		"health check":       {with(func(r *types.ResourceRecordSet) { r.HealthCheckId = aws.String("1") }), "InvalidInput", "simple routing"},
		"unknown action":     {change("REPLACE", "b.example.com", "A", 60, "192.0.2.1"), "InvalidInput", "is not an Action"},
		"another zone":       {change("CREATE", "b.example.org", "A", 60, "192.0.2.1"), "InvalidChangeBatch", "is not permitted in zone example.com."},
		"CNAME beside alias": {change("CREATE", "z.example.com", "CNAME", 60, "x.example.net"), "InvalidChangeBatch", "conflicts with other records"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.tryChange(f.example, zone, c.change)
			if c.code == "" && err != nil {
				t.Error(err)
			} else if c.code != "" {
				wantStatus(t, err, c.code, http.StatusBadRequest)
				if !strings.Contains(err.Error(), c.message) {
					t.Errorf("%v, want %s", err, c.message)
				}
			}
		})
	}
}
