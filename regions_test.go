package postern_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/platformfile"
)

// theSeeds is the platform that the seeds describe.
func theSeeds(t *testing.T) *postern.Platform {
	t.Helper()
	p, err := platformfile.Builtin("immuta")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCatalogueFollowsTheHome(t *testing.T) {
	p := theSeeds(t)
	for _, c := range []struct{ home, want string }{
		{"", "us-east-1 us-west-2 eu-central-1 eu-west-1 eu-west-2 ap-northeast-1 ap-southeast-2"},
		{"us-east-1", "us-east-1 us-west-2"},
		{"us-west-2", "us-west-2 us-east-1"},
		{"eu-west-1", "eu-west-1 eu-central-1 eu-west-2"},
		{"ap-southeast-2", "ap-southeast-2 ap-northeast-1"},
	} {
		offers, err := p.Catalogue(c.home)
		if err != nil {
			t.Errorf("%s: %v", c.home, err)
			continue
		}
		var ids []string
		for _, o := range offers {
			ids = append(ids, o.Region.ID)
			if _, s, _ := p.Region(o.Region.ID); s.ID != o.Segment.ID {
				t.Errorf("%s is offered in segment %s", o.Region.ID, o.Segment.ID)
			}
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("home %q: got %s, want %s", c.home, got, c.want)
		}
		homes := slices.DeleteFunc(offers, func(o postern.Offer) bool { return !o.Home })
		if c.home == "" && len(homes) != 0 || c.home != "" && (len(homes) != 1 || homes[0].Region.ID != c.home) {
			t.Errorf("home %q: %v are marked as home", c.home, homes)
		}
	}
}

func TestCatalogueRefusesUnsupportedRegions(t *testing.T) {
	p := theSeeds(t)
	for region, says := range map[string]string{
		"us-east-2":  "the nearest supported region is us-east-1;",
		"eu-north-9": "the supported regions are us-east-1, us-west-2,",
		"us-east-1a": `leave out the last letter: "us-east-1"`,
		"Virginia":   "not an AWS region",
	} {
		_, err := p.Catalogue(region)
		if postern.CodeOf(err) != postern.CodeInvalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %q", region, err, says)
		}
	}
}

func TestNearest(t *testing.T) {
	p := theSeeds(t)
	for region, want := range map[string]string{
		"us-east-2":      "us-east-1",
		"us-west-1":      "us-west-2",
		"ca-central-1":   "us-east-1",
		"sa-east-1":      "us-east-1",
		"eu-west-3":      "eu-west-2", // Paris: London 340 km, Frankfurt 480 km
		"eu-north-1":     "eu-central-1",
		"eu-south-1":     "eu-central-1",
		"ap-northeast-3": "ap-northeast-1",
		"ap-southeast-4": "ap-southeast-2",
		"us-east-1":      "us-east-1",
		"mars-north-1":   "",
	} {
		if got := p.Nearest(region); got != want {
			t.Errorf("nearest to %s: got %q, want %q", region, got, want)
		}
	}
}

func TestTenantValidate(t *testing.T) {
	p := theSeeds(t)
	good := postern.Tenant{Name: "example", Organization: "example-corp", Region: "us-east-1"}
	if err := good.Validate(p); err != nil {
		t.Error(err)
	}
	for says, v := range map[string]postern.Tenant{
		"a reserved name":                     {Name: "probe", Organization: "o", Region: "us-east-1"},
		"id: not usable as a DNS label":       {Name: "a.b", Organization: "o", Region: "us-east-1"},
		"spec.organization: not usable":       {Name: "a", Region: "us-east-1"},
		"the nearest supported region is us-": {Name: "a", Organization: "o", Region: "us-east-2"},
		"spec.region: not an AWS region":      {Name: "a", Organization: "o"},
	} {
		if err := v.Validate(p); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v; want %q", v, err, says)
		}
	}
}
