package localaws_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/miekg/dns"

	"github.com/postern-net/postern/internal/localaws"
)

// resolve is what a VPC's resolver tells a host of it: rcode, then the data of
// the answer's records.
func (f *fixture) resolve(v localaws.VPC, name string, qtype ...uint16) string {
	f.t.Helper()
	return f.resolveBy(v.Host("", 10), v.Resolver(), name, qtype...)
}

// onTheInternet is what the public resolver tells.
func (f *fixture) onTheInternet(name string) string {
	f.t.Helper()
	return f.resolveBy(f.hub.Host("", 10), f.cfg.DNS.Public, name)
}

func (f *fixture) resolveBy(from, at netip.Addr, name string, qtype ...uint16) string {
	f.t.Helper()
	m := f.ask(from, at, name, append(qtype, dns.TypeA)[0])
	if m == nil {
		return "no answer"
	}
	out := dns.RcodeToString[m.Rcode]
	for _, rr := range m.Answer {
		out += " " + strings.Join(strings.Fields(rr.String())[4:], " ")
	}
	return out
}

func (f *fixture) want(got, want string) {
	f.t.Helper()
	if got != want {
		f.t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestTheCustomersCNAME is the journey of the seeds: the standard hostname, by
// the vendor's CNAME, to the name that the customer's private zone sends to the
// endpoint; everybody else gets the vendor's fallback.
func TestTheCustomersCNAME(t *testing.T) {
	const standard, door = "example.hosted.immutacloud.com", "example.privatelink.immutacloud.com"
	for _, zoneName := range []string{"privatelink.immutacloud.com", door} {
		t.Run(zoneName, func(t *testing.T) {
			f := newFixture(t, nil)
			e := f.ready("use1-az2")
			regional, eni := *e.DnsEntries[0].DnsName, f.address(e, "").String()
			public := serveZone(t, standard+". 60 IN CNAME "+door+".", door+". 60 IN A 192.0.2.80", "globex.privatelink.immutacloud.com. 60 IN A 192.0.2.81")
			f.SetZone("immutacloud.com", public.addr)
			fallback := "NOERROR " + door + ". 192.0.2.80"
			f.want(f.resolve(f.vpc, standard), fallback)

			zone := f.zone(f.example, zoneName, f.vpc)
			if zoneName == door {
				f.change(f.example, zone, aliasTo(door, *e.DnsEntries[0].HostedZoneId, regional))
				f.want(f.resolve(f.vpc, standard), "NOERROR "+door+". "+eni)
			} else {
				f.change(f.example, zone, change("CREATE", door, "CNAME", 60, regional))
				f.want(f.resolve(f.vpc, standard), "NOERROR "+door+". "+regional+". "+eni)
				// The private zone hides the public one of the same name entirely.
				f.want(f.resolve(f.vpc, "globex.privatelink.immutacloud.com"), "NXDOMAIN")
			}
			// The rest of the world does not see it.
			f.want(f.resolve(f.other, standard), fallback)
			f.want(f.resolve(f.far, standard), fallback)
			f.want(f.onTheInternet(standard), fallback)
			f.want(f.onTheInternet("globex.privatelink.immutacloud.com"), "NOERROR 192.0.2.81")
		})
	}
}

func TestTheMostSpecificPrivateZoneAnswers(t *testing.T) {
	f := newFixture(t, nil)
	outer, inner := f.zone(f.example, "example.com", f.vpc), f.zone(f.example, "a.example.com", f.vpc)
	f.change(f.example, outer, change("CREATE", "x.a.example.com", "A", 60, "192.0.2.1"), change("CREATE", "y.a.example.com", "A", 60, "192.0.2.2"),
		change("CREATE", "b.example.com", "CNAME", 60, "x.a.example.com"))
	f.change(f.example, inner, change("CREATE", "x.a.example.com", "A", 60, "192.0.2.3"))
	f.want(f.resolve(f.vpc, "x.a.example.com"), "NOERROR 192.0.2.3")
	f.want(f.resolve(f.vpc, "b.example.com"), "NOERROR x.a.example.com. 192.0.2.3")
	f.want(f.resolve(f.vpc, "y.a.example.com"), "NXDOMAIN")
	f.want(f.resolve(f.vpc, "a.example.com"), "NOERROR")
	m := f.ask(f.vpc.Host("", 10), f.vpc.Resolver(), "y.a.example.com", dns.TypeA)
	if len(m.Ns) != 1 || m.Ns[0].Header().Name != "a.example.com." || m.Ns[0].Header().Ttl != 900 {
		t.Errorf("%v", m.Ns)
	}
}

func TestWhatPrivateZonesAnswer(t *testing.T) {
	f := newFixture(t, nil)
	e := f.ready("use1-az2", "use1-az4")
	target := e.DnsEntries[0]
	zone := f.zone(f.example, "example.com", f.vpc)
	f.change(f.example, zone,
		aliasTo("example.com", *target.HostedZoneId, *target.DnsName), aliasTo("www.example.com", zone, "example.com"),
		change("CREATE", "*.wild.example.com", "CNAME", 60, "www.example.com"), change("CREATE", "t.example.com", "TXT", 60, `"vpce:a b"`),
		change("CREATE", "six.example.com", "AAAA", 60, "2001:db8::1"), change("CREATE", "child.example.com", "NS", 60, "ns.example.net"),
		change("CREATE", "loop.example.com", "CNAME", 60, "pool.example.com"), change("CREATE", "pool.example.com", "CNAME", 60, "loop.example.com"),
	)
	for _, name := range []string{"example.com", "www.example.com", "any.wild.example.com"} {
		if got := f.resolve(f.vpc, name); strings.Count(got, " 127.") != 2 {
			t.Errorf("%s: %s, want both interfaces", name, got)
		}
	}
	m := f.ask(f.vpc.Host("", 10), f.vpc.Resolver(), "WWW.example.com", dns.TypeA)
	for _, rr := range m.Answer {
		if rr.Header().Name != "WWW.example.com." || rr.Header().Ttl != 60 {
			t.Errorf("%v", rr)
		}
	}
	f.want(f.resolve(f.vpc, "t.example.com", dns.TypeTXT), `NOERROR "vpce:a b"`)
	f.want(f.resolve(f.vpc, "six.example.com", dns.TypeAAAA), "NOERROR 2001:db8::1")
	f.want(f.resolve(f.vpc, "child.example.com", dns.TypeNS), "NOERROR ns.example.net.")
	f.want(f.resolve(f.vpc, "x.child.example.com"), "NXDOMAIN") // private zones do not delegate
	f.want(f.resolve(f.vpc, "loop.example.com"), "SERVFAIL")
	f.want(f.resolve(f.vpc, "six.example.com"), "NOERROR")
	if got := f.resolve(f.vpc, "example.com", dns.TypeSOA); !strings.Contains(got, "awsdns-hostmaster.amazon.com.") {
		t.Error(got)
	}
	// An endpoint that is gone leaves aliases without an address, and CNAMEs
	// without a name.
	f.gone(*e.VpcEndpointId)
	f.want(f.resolve(f.vpc, "www.example.com"), "NOERROR")
}

// TestAnswersFollowInSync: the API tells a change at once, resolvers only when
// it is INSYNC; associations and deletions as well.
func TestAnswersFollowInSync(t *testing.T) {
	clock := newClock()
	f := newFixture(t, func(f *fixture) { f.cfg.Clock, f.cfg.Timing.Change = clock.now, time.Minute })
	c := f.route53(f.example)
	pass := func() { // time, and a call that notices
		t.Helper()
		clock.pass(time.Minute)
		if _, err := c.ListHostedZones(t.Context(), &route53.ListHostedZonesInput{}); err != nil {
			t.Fatal(err)
		}
	}
	zone := f.zone(f.example, "example.com", f.vpc)
	first, err := f.tryChange(f.example, zone, change("CREATE", "a.example.com", "A", 60, "192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	clock.pass(30 * time.Second)
	if _, err := f.tryChange(f.example, zone, change("UPSERT", "a.example.com", "A", 60, "192.0.2.2")); err != nil {
		t.Fatal(err)
	}
	if got := f.records(f.example, zone); len(got) != 1 || got[0] != "a.example.com. A 60 192.0.2.2" {
		t.Errorf("listed: %v", got)
	}
	f.want(f.resolve(f.vpc, "example.com", dns.TypeNS), "NXDOMAIN") // there is no zone yet
	clock.pass(30 * time.Second)
	f.inSync(f.example, *first.Id)
	f.want(f.resolve(f.vpc, "a.example.com"), "NOERROR 192.0.2.1") // the first change, not the second
	pass()
	f.want(f.resolve(f.vpc, "a.example.com"), "NOERROR 192.0.2.2")

	if _, err := c.AssociateVPCWithHostedZone(t.Context(), &route53.AssociateVPCWithHostedZoneInput{HostedZoneId: &zone, VPC: vpcOf(f.far)}); err != nil {
		t.Fatal(err)
	}
	f.want(f.resolve(f.far, "a.example.com"), "NXDOMAIN")
	pass()
	f.want(f.resolve(f.far, "a.example.com"), "NOERROR 192.0.2.2")
	if _, err := c.DisassociateVPCFromHostedZone(t.Context(), &route53.DisassociateVPCFromHostedZoneInput{HostedZoneId: &zone, VPC: vpcOf(f.vpc)}); err != nil {
		t.Fatal(err)
	}
	f.want(f.resolve(f.vpc, "a.example.com"), "NOERROR 192.0.2.2")
	pass()
	f.want(f.resolve(f.vpc, "a.example.com"), "NXDOMAIN")

	if _, err := f.tryChange(f.example, zone, change("DELETE", "a.example.com", "A", 60, "192.0.2.2")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteHostedZone(t.Context(), &route53.DeleteHostedZoneInput{Id: &zone}); err != nil {
		t.Fatal(err)
	}
	f.want(f.resolve(f.far, "example.com", dns.TypeA), "NOERROR")
	pass()
	f.want(f.resolve(f.far, "example.com", dns.TypeA), "NXDOMAIN")
}

func TestAnAuthorizedVPCSeesTheZone(t *testing.T) {
	f := newFixture(t, nil)
	zone := f.zone(f.example, "example.com", f.vpc)
	f.change(f.example, zone, change("CREATE", "a.example.com", "A", 60, "192.0.2.1"))
	f.want(f.resolve(f.other, "a.example.com"), "NXDOMAIN")
	if _, err := f.route53(f.example).CreateVPCAssociationAuthorization(t.Context(), &route53.CreateVPCAssociationAuthorizationInput{HostedZoneId: &zone, VPC: vpcOf(f.other)}); err != nil {
		t.Fatal(err)
	}
	out, err := f.route53(f.globex).AssociateVPCWithHostedZone(t.Context(), &route53.AssociateVPCWithHostedZoneInput{HostedZoneId: &zone, VPC: vpcOf(f.other)})
	if err != nil {
		t.Fatal(err)
	}
	f.inSync(f.globex, *out.ChangeInfo.Id) // the change is the caller's
	f.want(f.resolve(f.other, "a.example.com"), "NOERROR 192.0.2.1")
}

// TestPublicHostedZones: the topmost zone belongs to whoever made it first; one
// below it is found by NS records only; what is served elsewhere stays there.
func TestPublicHostedZones(t *testing.T) {
	clock := newClock() // nothing kept expires
	f := newFixture(t, func(f *fixture) { f.cfg.Clock, f.cfg.Timing.Change = clock.now, -1 })
	top := f.zone(f.platform, "example.com")
	clock.pass(time.Second)
	copied, child := f.zone(f.globex, "example.com"), f.zone(f.example, "child.example.com")
	f.change(f.platform, top, change("CREATE", "a.example.com", "A", 300, "192.0.2.1"))
	f.change(f.globex, copied, change("CREATE", "a.example.com", "A", 300, "192.0.2.66"))
	f.change(f.example, child, change("CREATE", "b.child.example.com", "A", 300, "192.0.2.2"))
	f.want(f.onTheInternet("a.example.com"), "NOERROR 192.0.2.1")
	f.want(f.resolve(f.other, "a.example.com"), "NOERROR 192.0.2.1")
	f.want(f.onTheInternet("b.child.example.com"), "NXDOMAIN") // not delegated

	got, err := f.route53(f.example).GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: &child})
	if err != nil {
		t.Fatal(err)
	}
	f.change(f.platform, top,
		change("CREATE", "child.example.com", "NS", 300, got.DelegationSet.NameServers...), change("CREATE", "lame.example.com", "NS", 300, "ns.example.net"))
	f.FlushResolvers() // the denial is kept for 900 s
	f.want(f.onTheInternet("b.child.example.com"), "NOERROR 192.0.2.2")
	f.want(f.onTheInternet("x.lame.example.com"), "SERVFAIL")

	// Public answers are kept, private ones are not.
	f.want(f.onTheInternet("a.example.com"), "NOERROR 192.0.2.1")
	f.change(f.platform, top, change("UPSERT", "a.example.com", "A", 300, "192.0.2.9"))
	f.want(f.onTheInternet("a.example.com"), "NOERROR 192.0.2.1")
	clock.pass(300 * time.Second)
	f.want(f.onTheInternet("a.example.com"), "NOERROR 192.0.2.9")

	elsewhere := serveZone(t, "a.example.com. 60 IN A 192.0.2.70")
	f.SetZone("example.com", elsewhere.addr)
	f.FlushResolvers()
	f.want(f.onTheInternet("a.example.com"), "NOERROR 192.0.2.70")
	f.want(f.onTheInternet("b.child.example.com"), "NXDOMAIN")
}

// TestResolversKeepPublicAnswers: a cutover waits for what resolvers keep.
func TestResolversKeepPublicAnswers(t *testing.T) {
	clock := newClock()
	f := newFixture(t, func(f *fixture) { f.cfg.Clock = clock.now })
	public := serveZone(t, "a.example.com. 60 IN A 192.0.2.1")
	f.SetZone("example.com", public.addr)
	asked := func(v localaws.VPC, want int32) {
		t.Helper()
		before := public.asked.Load()
		f.want(f.resolve(v, "a.example.com"), "NOERROR 192.0.2.1")
		if n := public.asked.Load() - before; n != want {
			t.Errorf("asked %d times, want %d", n, want)
		}
	}
	asked(f.vpc, 1)
	asked(f.vpc, 0)
	asked(f.other, 1)
	clock.pass(59 * time.Second)
	asked(f.vpc, 0)
	clock.pass(time.Second)
	asked(f.vpc, 1)
	f.FlushResolvers()
	asked(f.vpc, 1)
	// A private zone is in force at once, whatever is kept.
	zone := f.zone(f.example, "example.com", f.vpc)
	info, err := f.tryChange(f.example, zone, change("CREATE", "a.example.com", "A", 60, "192.0.2.2"))
	if err != nil {
		t.Fatal(err)
	}
	clock.pass(time.Second)
	f.inSync(f.example, *info.Id)
	f.want(f.resolve(f.vpc, "a.example.com"), "NOERROR 192.0.2.2")
	asked(f.other, 1)
}

// TestManyChanges: GetChange remembers at least the last two hundred.
func TestManyChanges(t *testing.T) {
	f := newFixture(t, func(f *fixture) { f.cfg.Timing.Change = -1 })
	zone := f.zone(f.example, "example.com")
	var ids []string
	for i := range 410 {
		info, err := f.tryChange(f.example, zone, change("UPSERT", "a.example.com", "A", int64(i), "192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, *info.Id)
	}
	get := func(id string) (types.ChangeStatus, error) {
		out, err := f.route53(f.example).GetChange(t.Context(), &route53.GetChangeInput{Id: &id})
		if err != nil {
			return "", err
		}
		return out.ChangeInfo.Status, nil
	}
	for _, id := range []string{ids[409], ids[300], ids[210]} {
		if status, err := get(id); err != nil || status != types.ChangeStatusInsync {
			t.Error(status, err)
		}
	}
	_, err := get(ids[0])
	wantCode(t, err, "NoSuchChange")
	if got := f.records(f.example, zone); len(got) != 1 || got[0] != "a.example.com. A 409 192.0.2.1" {
		t.Errorf("%v", got)
	}
}
