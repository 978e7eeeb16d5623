package platformfile_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/platformfile"
	"github.com/postern-net/postern/internal/strictyaml"
)

// The seeds' tables, typed from them a second time: the built-in file is right
// when both agree.
func TestBuiltinIsThePlatformOfTheSeeds(t *testing.T) {
	p, err := platformfile.Builtin("immuta")
	if err != nil {
		t.Fatal(err)
	}

	type row struct{ segment, region, title, service, zones string }
	want := []row{
		{"NA", "us-east-1", "US East (Virginia)", "com.amazonaws.vpce.us-east-1.vpce-svc-0c33df1aaf78a8955", "use1-az2 use1-az4 use1-az6"},
		{"NA", "us-west-2", "US West (Oregon)", "com.amazonaws.vpce.us-west-2.vpce-svc-0e35fa96fd264e0a6", "usw2-az1 usw2-az2 usw2-az3"},
		{"EU", "eu-central-1", "Europe (Frankfurt)", "com.amazonaws.vpce.eu-central-1.vpce-svc-027e6fd0c1cf62c68", "euc1-az1 euc1-az2 euc1-az3"},
		{"EU", "eu-west-1", "Europe (Ireland)", "com.amazonaws.vpce.eu-west-1.vpce-svc-0bd003f6352dc5e58", "euw1-az1 euw1-az2 euw1-az3"},
		{"EU", "eu-west-2", "Europe (London)", "com.amazonaws.vpce.eu-west-2.vpce-svc-0cb6dcde93257e082", "euw2-az1 euw2-az2 euw2-az3"},
		{"AP", "ap-northeast-1", "Asia Pacific (Tokyo)", "com.amazonaws.vpce.ap-northeast-1.vpce-svc-056d170f71688f5f9", "apne1-az1 apne1-az2 apne1-az4"},
		{"AP", "ap-southeast-2", "Asia Pacific (Sydney)", "com.amazonaws.vpce.ap-southeast-2.vpce-svc-0f1fad760b7efc4d7", "apse2-az1 apse2-az2 apse2-az3"},
	}
	var got []row
	for _, s := range p.Segments {
		for _, r := range s.Regions {
			got = append(got, row{s.Title, r.ID, r.Title, r.ServiceName, strings.Join(r.AvailabilityZones, " ")})
		}
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(row{})); d != "" {
		t.Errorf("segments (-seeds +file):\n%s", d)
	}

	const docs = "https://documentation.immuta.com/SaaS/configuration/"
	rest := postern.Platform{
		Name: "immuta", Title: "Immuta SaaS",
		// The SCIM domain is the one name that the seeds do not give.
		Domains: postern.Domains{Hosted: "hosted.immutacloud.com", PrivateLink: "privatelink.immutacloud.com", SCIM: "scim.immutacloud.com"},
		Apps: []postern.App{
			{ID: "govern", Title: "Govern", Port: 443},
			{ID: "request", Title: "Request", Port: 443, Hosts: []string{"app.immutacloud.com", "marketplace-fe.immutacloud.com"}, Requires: "govern", SingleSegment: true},
		},
		Integrations: []postern.Integration{
			{ID: "starburst-trino", Title: "Starburst (Trino)", Documentation: docs + "integrations/starburst-trino"},
			{ID: "databricks-spark", Title: "Databricks Spark", Documentation: docs + "integrations/databricks/databricks-spark"},
			{ID: "scim", Title: "All SCIM Integrations", Documentation: docs + "people/section-contents/reference-guides/index", PublicException: "scim"},
		},
		Outbound: postern.Outbound{
			Regions:   []string{"us-east-1", "us-west-2", "eu-central-1", "eu-west-1", "eu-west-2", "ap-northeast-1", "ap-southeast-2"},
			Principal: "arn:aws:iam::111122223333:role/postern-egress",
		},
	}
	p.Segments = nil
	if d := cmp.Diff(&rest, p); d != "" {
		t.Errorf("everything but segments (-seeds +file):\n%s", d)
	}
}

func TestBuiltinHandsOutCopies(t *testing.T) {
	a, err := platformfile.Builtin("immuta")
	if err != nil {
		t.Fatal(err)
	}
	a.Segments[0].Regions[0].AvailabilityZones[0] = "spoiled"
	b, err := platformfile.Builtin("immuta")
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Segments[0].Regions[0].AvailabilityZones[0]; got != "use1-az2" {
		t.Errorf("a change to one copy shows in another: %q", got)
	}
}

func TestBuiltinNames(t *testing.T) {
	if got := platformfile.BuiltinNames(); !slices.Equal(got, []string{"immuta"}) {
		t.Errorf("built in: %q", got)
	}
	_, err := platformfile.Builtin("imuta")
	if postern.CodeOf(err) != postern.CodeNotFound || !strings.Contains(err.Error(), "built in: immuta") {
		t.Errorf("an unknown built-in platform: %v", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine.yaml")
	b, err := os.ReadFile("testdata/northwind-cloud.yaml")
	if err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large.yaml")
	for name, content := range map[string][]byte{mine: b, large: make([]byte, strictyaml.MaxSize+1)} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ from, name, fault string }{
		{from: "immuta", name: "immuta"},
		{from: mine, name: "northwind-cloud"},
		{from: large, fault: large + ": larger than 1 MiB"},
		{from: filepath.Join(dir, "absent.yaml"), fault: "or a built-in name: immuta"},
		{from: dir, fault: "is a directory"},
	} {
		p, err := platformfile.Load(tt.from)
		switch {
		case tt.fault != "":
			if err == nil || !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("Load(%s): %v; want an error with %q", tt.from, err, tt.fault)
			}
		case err != nil:
			t.Errorf("Load(%s): %v", tt.from, err)
		case p.Name != tt.name:
			t.Errorf("Load(%s) is %q", tt.from, p.Name)
		}
	}
}
