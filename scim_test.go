package postern_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/postern-net/postern"
)

func scimPlatform() *postern.Platform {
	p := examplePlatform()
	p.Domains.SCIM = "scim.example.com"
	p.Segments[0].Regions[0].PublicIngress = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	p.Segments[0].Regions[0].SCIMIngress = []netip.Addr{netip.MustParseAddr("192.0.2.2")}
	return p
}

func TestPlatformValidatesSCIM(t *testing.T) {
	if err := scimPlatform().Validate(); err != nil {
		t.Fatal(err)
	}
	const addresses = "segments[0].regions[0].scim_ingress"
	for name, c := range map[string]struct {
		spoil       func(*postern.Platform)
		field, says string
	}{
		"not a hostname":           {func(p *postern.Platform) { p.Domains.SCIM = "scim" }, "domains.scim", "not a hostname"},
		"the hosted domain":        {func(p *postern.Platform) { p.Domains.SCIM = p.Domains.Hosted }, "domains.scim", "overlaps"},
		"under the hosted domain":  {func(p *postern.Platform) { p.Domains.SCIM = "scim." + p.Domains.Hosted }, "domains.scim", "overlaps"},
		"above the private one":    {func(p *postern.Platform) { p.Domains.PrivateLink = "p." + p.Domains.SCIM }, "domains.scim", "overlaps"},
		"a shared host in it":      {func(p *postern.Platform) { p.Apps[1].Hosts[0] = "app.scim.example.com" }, "apps[1].hosts[0]", "SCIM hosts"},
		"addresses without domain": {func(p *postern.Platform) { p.Domains.SCIM = "" }, addresses, "goes with domains.scim"},
		"an address twice": {func(p *postern.Platform) {
			first := &p.Segments[0].Regions[0]
			first.SCIMIngress = append(first.SCIMIngress, first.SCIMIngress[0])
		}, addresses + "[1]", "named twice"},
		"IPv6": {func(p *postern.Platform) {
			p.Segments[0].Regions[0].SCIMIngress[0] = netip.MustParseAddr("2001:db8::1")
		}, addresses + "[0]", "not an IPv4"},
		"the public door's address": {func(p *postern.Platform) { p.Segments[0].Regions[0].SCIMIngress[0] = netip.MustParseAddr("192.0.2.1") }, addresses + "[0]", "public ingress's"},
	} {
		p := scimPlatform()
		c.spoil(p)
		var es postern.Errors
		if err := p.Validate(); !errors.As(err, &es) || len(es) != 1 || es[0].Field != c.field || !strings.Contains(es[0].Error(), c.says) {
			t.Errorf("%s: %v, want one problem of %s that says %q", name, err, c.field, c.says)
		}
	}
}

func TestWhoCanHaveASCIMIngress(t *testing.T) {
	p := scimPlatform()
	if e := p.CanSCIM("us-east-1"); e != nil || p.SCIMHost("acme") != "acme.scim.example.com" {
		t.Errorf("%v, %q", e, p.SCIMHost("acme"))
	}
	for _, region := range []string{"us-west-2", "sa-east-1"} {
		if e := p.CanSCIM(region); e == nil || e.Code != postern.CodeConflict {
			t.Errorf("%s: %v", region, e)
		}
	}
	if none := examplePlatform(); none.CanSCIM("us-east-1") == nil || none.SCIMHost("acme") != "" {
		t.Error("a platform without a SCIM domain has one")
	}
}

func TestSCIMIngressValidate(t *testing.T) {
	prefixes := func(texts ...string) (out []netip.Prefix) {
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	for _, good := range [][]netip.Prefix{nil, prefixes("192.0.2.0/24"), prefixes("192.0.2.7/32", "2001:db8::/32", "10.0.0.0/8")} {
		if err := (postern.SCIMIngress{Sources: good}).Validate(); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
	for says, bad := range map[string][]netip.Prefix{
		"not a network":     {netip.Prefix{}},
		"every address":     prefixes("0.0.0.0/0"),
		"leave the list":    prefixes("::/0"),
		"host bits":         prefixes("192.0.2.7/24"),
		"IPv6 form":         prefixes("::ffff:192.0.2.0/120"),
		"duplicate network": prefixes("192.0.2.0/24", "192.0.2.0/24"),
		"too many":          make([]netip.Prefix, postern.MaxSCIMSources+1),
	} {
		if err := (postern.SCIMIngress{Sources: bad}).Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v, want %q", bad[0], err, says)
		}
	}
}

func TestSCIMRouteAdmits(t *testing.T) {
	r := postern.SCIMRoute{Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}}
	for client, want := range map[string]bool{
		"192.0.2.7": true, "::ffff:192.0.2.7": true, "2001:db8::1": true, "192.0.3.7": false, "2001:db9::1": false,
	} {
		if r.Admits(netip.MustParseAddr(client)) != want {
			t.Errorf("%s: %v", client, !want)
		}
		if !(postern.SCIMRoute{}).Admits(netip.MustParseAddr(client)) {
			t.Errorf("%s is refused where everybody may come", client)
		}
	}
}
