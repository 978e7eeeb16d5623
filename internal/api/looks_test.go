package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

const clusterReports = "/v1/nodelink/clusters"

func (w *world) clusterReport(connection string) client.ClusterReport {
	return client.ClusterReport{ID: "node", SentAt: w.clock(), Clusters: []client.ClusterLook{{
		ConnectionID: connection, Of: "0123456789abcdef0123456789abcdef", Asked: w.clock(), LookedAt: w.clock().Add(-time.Second),
		Findings: []client.ClusterFinding{{Reason: "PrivateCA", Message: "use another"}},
	}}}
}

func (w *world) looks() (out []postern.ConnectionLook) {
	w.t.Helper()
	w.update(func(tx *store.Tx) (err error) { out, err = tx.ListLooks(); return err })
	return out
}

// What an egress node finds is taken of the connections of its regions, at the
// time of the server's clock.
func TestAnEgressNodeReportsClusters(t *testing.T) {
	w := newWorld(t)
	r := registration("boot-one", 0)
	r.EgressRegions = []string{virginia}
	must[client.Node](w, "node", "POST", registrations, r)
	id := w.requestCluster("example", "example-corp", "example").ID
	report := w.clusterReport(id)
	report.SentAt, report.Clusters[0].LookedAt = w.clock().Add(time.Hour), w.clock().Add(time.Hour-3*time.Second) // its clock is ahead
	report.Clusters = append(report.Clusters, w.clusterReport("dc_gone").Clusters...)
	must[struct{}](w, "node", "POST", clusterReports, report)
	want := []postern.ConnectionLook{{
		Connection: id, Node: "node", Of: "0123456789abcdef0123456789abcdef", Asked: w.clock(), At: w.clock().Add(-3 * time.Second),
		Findings: []postern.Finding{{Reason: postern.ReasonPrivateCA, Message: "use another"}},
	}}
	if diff := cmp.Diff(want, w.looks()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatANodeMayNotReportOfClusters(t *testing.T) {
	w := newWorld(t)
	id := w.requestCluster("example", "example-corp", "example").ID
	w.refused(http.StatusNotFound, "not_found", "node", "POST", clusterReports, w.clusterReport(id)) // it has not registered
	r := registration("boot-one", 0)
	r.Regions, r.EgressRegions = []string{virginia, oregon}, []string{oregon}
	must[client.Node](w, "node", "POST", registrations, r)
	w.refused(http.StatusForbidden, "forbidden", "node", "POST", clusterReports, w.clusterReport(id)) // another region's egress
	r.EgressRegions = []string{virginia}
	must[client.Node](w, "node", "POST", registrations, r)
	for name, change := range map[string]func(*client.ClusterReport){
		"no connection's ID":  func(r *client.ClusterReport) { r.Clusters[0].ConnectionID = "vpce-1" },
		"of nothing":          func(r *client.ClusterReport) { r.Clusters[0].Of = "" },
		"no reason":           func(r *client.ClusterReport) { r.Clusters[0].Findings[0].Reason = "Available" },
		"a finding of nobody": func(r *client.ClusterReport) { r.Clusters[0].Findings[0].Message = "" },
	} {
		report := w.clusterReport(id)
		change(&report)
		if got := w.send("node", "POST", clusterReports, report); got.status != http.StatusUnprocessableEntity && got.status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	other := w.clusterReport(id)
	other.ID = "another"
	w.refused(http.StatusForbidden, "forbidden", "node", "POST", clusterReports, other)
	must[client.Node](w, "operator", "POST", "/v1/nodes/node/fence", nil)
	w.refused(http.StatusConflict, "conflict", "node", "POST", clusterReports, w.clusterReport(id)) // it looks at nothing
	if got := w.looks(); len(got) > 0 {
		t.Errorf("taken: %v", got)
	}
}

// Which regions a node is the egress of is what it says itself: the vendor is
// told of each that it was not before.
func TestANewEgressIsTold(t *testing.T) {
	w := newWorld(t)
	register := func(boot string, egress ...string) {
		r := registration(boot, 0)
		r.Regions, r.EgressRegions = []string{virginia, oregon}, egress
		must[client.Node](w, "node", "POST", registrations, r)
	}
	told := func(want int, regions string) {
		t.Helper()
		var last postern.Event
		n := 0
		w.update(func(tx *store.Tx) error {
			es, err := tx.ListEvents("", 0, 1000)
			for _, e := range es {
				if e.Action == "node.egress" {
					n, last = n+1, e
				}
			}
			return err
		})
		if n != want || n > 0 && (last.Subject != "node" || !strings.Contains(last.Message, "egress of "+regions+",")) {
			t.Errorf("told %d times, want %d for %s; last: %+v", n, want, regions, last)
		}
	}
	register("boot-one", []string{}...)
	told(0, "")
	register("boot-one", virginia)
	told(1, virginia)
	register("boot-two", virginia)
	told(1, virginia)
	register("boot-two") // it does not say: it may be both's
	told(2, oregon)
}
