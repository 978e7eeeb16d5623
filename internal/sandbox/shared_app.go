package sandbox

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/backend"
)

// sharedApps lists the platform's apps whose hosts organizations share.
func sharedApps(p *postern.Platform) (out []postern.App) {
	for _, a := range p.Apps {
		if !a.PerTenant() {
			out = append(out, a)
		}
	}
	return out
}

// sharedAppHandler is an app whose hosts organizations share, such as Request.
// Its first page is for everybody; /organizations/ID is that organization's
// data, for who came through an endpoint of it. The ingress says whose endpoint
// that is; of who came publicly it says nothing, and nobody's data is theirs.
func sharedAppHandler(app, region string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, _ := backend.FromContext(r.Context())
		answer := appAnswer{App: app, Region: region, VPCEndpointID: a.VPCEndpointID, Organization: a.Organization, Source: a.Source.String()}
		if wanted, ok := strings.CutPrefix(strings.Trim(r.URL.Path, "/"), "organizations/"); ok {
			if wanted == "" || wanted != a.Organization {
				http.Error(w, "not this organization's", http.StatusForbidden)
				return
			}
			answer.Data = "the requests of " + wanted
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // the visitor is gone, or it is not
	})
}
