package serve_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

var endpointURL = regexp.MustCompile(`endpoint_url: "[^"]*"`)

// A region that was taken out of the platform file is still asked about, as long
// as something of a data connection may be there: else nobody could take it away.
func TestRegionsThatWereGivenUpAreStillTidied(t *testing.T) {
	defer goleak.VerifyNone(t)
	asked := make(chan string, 100)
	scope := regexp.MustCompile(`Credential=[^/]+/\d+/([a-z0-9-]+)/ec2/`)
	awsAPI := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if m := scope.FindStringSubmatch(r.Header.Get("Authorization")); m != nil && regexp.MustCompile(`Action=DescribeVpcEndpoints(&|$)`).Match(body) {
			select {
			case asked <- m[1]:
			default:
			}
		}
		http.Error(w, "no", http.StatusInternalServerError)
	}))
	defer awsAPI.Close()

	p := onlyControl(t, lay(t, ""))
	b, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	put(t, p.config, string(endpointURL.ReplaceAll(b, fmt.Appendf(nil, "endpoint_url: %q", awsAPI.URL))), 0o600)
	if err := os.MkdirAll(p.state, 0o700); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), filepath.Join(p.state, "postern.db"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	err = st.Update(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.CreateOrganization(postern.Organization{ID: "example-corp", Title: "Example", CreatedAt: now}); err != nil {
			return err
		}
		if _, err := tx.CreateTenant(postern.Tenant{Name: "example", Organization: "example-corp", Region: "us-east-1", CreatedAt: now}); err != nil {
			return err
		}
		_, err := tx.CreateConnection(postern.DataConnection{
			ID: "dc_a", Organization: "example-corp", Tenant: "example", Kind: postern.KindStarburstTrino, Region: "eu-west-1", Zones: []string{"euw1-az1"},
			Service:  postern.ServiceRef{Region: "eu-west-1", ID: "vpce-svc-0471015b106ad1d47", Name: "com.amazonaws.vpce.eu-west-1.vpce-svc-0471015b106ad1d47"},
			Hostname: clusterHost, Ports: []uint16{443}, State: postern.DataConnectionReady, Removing: true, CreatedAt: now, MadeSince: now, EndpointID: "vpce-0123456789abcdef0",
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.5")},
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	s, log := started(t, p)
	defer s.Stop()
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	for {
		select {
		case region := <-asked:
			if region == "eu-west-1" {
				return
			}
		case <-late.C:
			t.Fatalf("nobody asked AWS about eu-west-1:\n%s", log())
		}
	}
}
