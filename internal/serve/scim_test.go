package serve_test

import (
	"crypto/tls"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/scim"
	"github.com/postern-net/postern/internal/serve"
)

type noCertificate struct{}

func (noCertificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return nil, postern.NotFound("certificate", "")
}

// Certificates are kept for the hosts of all regions at once: what is not named
// is forgotten, so that one region's must not be named without the others'.
func TestCertificatesAreKeptForAllRegions(t *testing.T) {
	doors := map[string]*scim.Door{}
	for _, region := range []string{"us-east-1", "eu-west-1", "ap-southeast-2"} {
		d, err := scim.New(scim.Config{Region: region, Certificates: noCertificate{}, AccessLog: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Shutdown(t.Context()) })
		doors[region] = d
	}
	var named [][]string
	all := serve.NewSCIMDoors(func(hosts []string) { named = append(named, hosts) }, doors)
	route := func(region string) postern.SCIMRoute {
		return postern.SCIMRoute{Tenant: "example", Organization: "example-corp", Region: region, Upstream: "example.hosted.example.com"}
	}
	east, west := route("us-east-1"), route("eu-west-1")
	bad := east
	bad.Upstream = "no host"
	for i, table := range []map[string]postern.SCIMRoute{
		{"example.scim.example.com": east, "other.scim.example.com": west},
		{"other.scim.example.com": west},
		{"example.scim.example.com": bad}, // the one before stays
		{},
	} {
		if err := all.Apply(postern.Routes{Revision: int64(i + 1), SCIM: table}); (err != nil) != (i == 2) {
			t.Errorf("table %d: %v", i+1, err)
		}
	}
	if diff := cmp.Diff([][]string{{"example.scim.example.com", "other.scim.example.com"}, {"other.scim.example.com"}, {"other.scim.example.com"}, nil}, named); diff != "" {
		t.Error(diff)
	}
}
