package postern_test

import (
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern"
)

func TestNodeState(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		node postern.Node
		want postern.NodeState
	}{
		{postern.Node{LastSeen: now, AppliedRevision: 7}, postern.NodeReady},
		{postern.Node{LastSeen: now, AppliedRevision: 8}, postern.NodeReady}, // the table was read a moment before
		{postern.Node{LastSeen: now, AppliedRevision: 6}, postern.NodeBehind},
		{postern.Node{LastSeen: now}, postern.NodeBehind},
		{postern.Node{LastSeen: now.Add(-postern.NodeSilentAfter), AppliedRevision: 7}, postern.NodeReady},
		{postern.Node{LastSeen: now.Add(-postern.NodeSilentAfter - 1), AppliedRevision: 7}, postern.NodeSilent},
		{postern.Node{LastSeen: now.Add(-postern.NodeSilentAfter - 1), AppliedRevision: 6}, postern.NodeSilent},
		{postern.Node{LastSeen: now, AppliedRevision: 7, Fenced: true}, postern.NodeFenced},
		{postern.Node{Fenced: true}, postern.NodeFenced},
	} {
		if got := c.node.State(now, 7); got != c.want {
			t.Errorf("%+v is %s, want %s", c.node, got, c.want)
		}
	}
}

func TestNodeValidate(t *testing.T) {
	good := postern.Node{ID: "ingress-1", Regions: []string{"us-east-1", "eu-west-1"}, Version: "v1", BootID: "12345678"}
	for says, change := range map[string]func(*postern.Node){
		"":                               func(*postern.Node) {},
		"id: not usable as a DNS label":  func(n *postern.Node) { n.ID = "Ingress 1" },
		"regions: missing":               func(n *postern.Node) { n.Regions = nil },
		"regions[1]: an Availability Zo": func(n *postern.Node) { n.Regions = []string{"us-east-1", "us-east-1a"} },
		"regions[1]: duplicate region":   func(n *postern.Node) { n.Regions = []string{"us-east-1", "us-east-1"} },
		"version: longer":                func(n *postern.Node) { n.Version = strings.Repeat("v", 101) },
		"boot_id: not between":           func(n *postern.Node) { n.BootID = "1234567" },
		"boot_id: not between 8":         func(n *postern.Node) { n.BootID = strings.Repeat("b", 65) },
		"applied_revision: negative":     func(n *postern.Node) { n.AppliedRevision = -1 },
	} {
		n := good
		change(&n)
		checkSays(t, n.Validate(), says)
	}
}

func TestNodeFences(t *testing.T) {
	if err := (postern.Node{ID: "a"}).Fences(); err != nil {
		t.Error(err)
	}
	checkSays(t, postern.Node{ID: "a", Fenced: true, FencedBy: "ada"}.Fences(), "fenced by ada")
}

func TestNodeReportValidate(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	full := postern.ArrivalCount{
		Region: "us-east-1", Listener: "public", Source: "192.0.2.1", ServerName: "a.example.com", Denial: postern.DenyNotPublic,
		Organization: "globex", Count: 1, FirstSeen: at, LastSeen: at, JA4: "t13d1516h2_8daaf6152771_e5627efa2ab1",
	}
	least := postern.ArrivalCount{Region: "us-east-1", Listener: "private", Count: 1, FirstSeen: at, LastSeen: at}
	report := func(change func(*postern.NodeReport)) postern.NodeReport {
		r := postern.NodeReport{Node: "a", BootID: "12345678", Seq: 1, Arrivals: []postern.ArrivalCount{full, least}}
		change(&r)
		return r
	}
	for says, change := range map[string]func(*postern.NodeReport){
		"":                                    func(*postern.NodeReport) {},
		"id: not usable":                      func(r *postern.NodeReport) { r.Node = "" },
		"boot_id: not between":                func(r *postern.NodeReport) { r.BootID = "" },
		"seq: not a report's number":          func(r *postern.NodeReport) { r.Seq = 0 },
		"applied_revision: negative":          func(r *postern.NodeReport) { r.AppliedRevision = -1 },
		"arrivals: more than 2000":            func(r *postern.NodeReport) { r.Arrivals = make([]postern.ArrivalCount, 2001) },
		"arrivals[0].region: not an AWS":      func(r *postern.NodeReport) { r.Arrivals[0].Region = "mars" },
		"arrivals[1].listener: no such":       func(r *postern.NodeReport) { r.Arrivals[1].Listener = "both" },
		"arrivals[0].vpc_endpoint_id: not":    func(r *postern.NodeReport) { r.Arrivals[0].EndpointID = "vpce-1" },
		"arrivals[0].source: not an IP":       func(r *postern.NodeReport) { r.Arrivals[0].Source = "localhost" },
		"arrivals[0].server_name: longer":     func(r *postern.NodeReport) { r.Arrivals[0].ServerName = strings.Repeat("a", 256) },
		"arrivals[0].organization: not":       func(r *postern.NodeReport) { r.Arrivals[0].Organization = "*" },
		"arrivals[0].ja4: not a JA4":          func(r *postern.NodeReport) { r.Arrivals[0].JA4 = "firefox" },
		"arrivals[0].reason: no such":         func(r *postern.NodeReport) { r.Arrivals[0].Denial = "bad_mood" },
		"arrivals[1].count: counts nothing":   func(r *postern.NodeReport) { r.Arrivals[1].Count, r.Arrivals[1].Denial = 0, postern.DenyNotTLS },
		"arrivals[1].count: counts nothing (": func(r *postern.NodeReport) { r.Arrivals[1].Count = -5 },
		"arrivals[0].last_seen: before":       func(r *postern.NodeReport) { r.Arrivals[0].LastSeen = at.Add(-1) },
		"arrivals[1].last_seen: before":       func(r *postern.NodeReport) { r.Arrivals[1].FirstSeen = time.Time{} },
	} {
		checkSays(t, report(change).Validate(), says)
	}
}

// checkSays demands an error that says something, or none for "".
func checkSays(t *testing.T, err error, says string) {
	t.Helper()
	if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %q", err, says)
	}
}
