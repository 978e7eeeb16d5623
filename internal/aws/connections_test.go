package aws_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/aws"
)

const (
	describe = "DescribeVpcEndpointConnections"
	one      = "vpce-0d363d9ea82658be1"
	two      = "vpce-0d363d9ea82658be2"
	three    = "vpce-0d363d9ea82658be3"
)

func TestConnections(t *testing.T) {
	cloud, w := newWire(t, map[string][]reply{describe: {
		listing("page2", two+" pendingAcceptance", three+" available vpce-svc-0aaaaaaaaaaaaaaaa"),
		listing("", one+" Available"),
	}})
	got, err := cloud.Connections(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	row := func(id string, state postern.ConnectionState) postern.Connection {
		return postern.Connection{
			EndpointID: id, ServiceID: service.ID, ServiceRegion: "us-east-1", EndpointRegion: "us-east-1", Owner: "111122223333", State: state,
			DNSNames: []string{id + "-oivwbiyc.vpce.example"}, CreatedAt: time.Date(2026, 11, 20, 10, 0, 24, 350e6, time.UTC),
		}
	}
	// Ordered, both pages, and not the row of another service.
	if d := cmp.Diff([]postern.Connection{row(one, "available"), row(two, "pendingAcceptance")}, got); d != "" {
		t.Error(d)
	}
	calls := w.sent(describe)
	if len(calls) != 2 || calls[1].Get("NextToken") != "page2" {
		t.Fatalf("calls: %v", calls)
	}
	for k, want := range map[string]string{"MaxResults": "1000", "Filter.1.Name": "service-id", "Filter.1.Value.1": service.ID, "Filter.2.Name": ""} {
		if calls[0].Get(k) != want {
			t.Errorf("%s = %q, want %q", k, calls[0].Get(k), want)
		}
	}
}

func TestStatesAreNormalized(t *testing.T) {
	for wire, want := range map[string]postern.ConnectionState{
		"pendingAcceptance": "pendingAcceptance", "PendingAcceptance": "pendingAcceptance", "PENDINGACCEPTANCE": "pendingAcceptance",
		"pending": "pending", "Pending": "pending", "available": "available", "Available": "available",
		"deleting": "deleting", "Deleted": "deleted", "rejected": "rejected", "Failed": "failed", "Expired": "expired",
		"Partial": "partial", "somethingNew": "somethingNew", "SomethingNew": "somethingNew",
	} {
		cloud, _ := newWire(t, map[string][]reply{describe: {listing("", one+" "+wire)}})
		got, err := cloud.Connections(t.Context(), service)
		if err != nil || len(got) != 1 || got[0].State != want {
			t.Errorf("%s: got %+v, %v; want %s", wire, got, err, want)
		}
	}
}

func TestFindConnections(t *testing.T) {
	find := func(t *testing.T, cloud *aws.Cloud, id string) (postern.Connection, bool, error) {
		t.Helper()
		found, err := cloud.FindConnections(t.Context(), service, []string{id})
		c, ok := found[id]
		return c, ok, err
	}
	t.Run("many in one call", func(t *testing.T) {
		cloud, w := newWire(t, map[string][]reply{describe: {listing("", one+" available", two+" pending")}})
		found, err := cloud.FindConnections(t.Context(), service, []string{one, two})
		if err != nil || len(found) != 2 || found[two].State != "pending" || len(w.sent(describe)) != 1 {
			t.Errorf("found %+v, %v, in %d calls", found, err, len(w.sent(describe)))
		}
	})
	t.Run("found by the filter", func(t *testing.T) {
		cloud, w := newWire(t, map[string][]reply{describe: {listing("", one+" available")}})
		got, ok, err := find(t, cloud, one)
		if err != nil || !ok || got.EndpointID != one {
			t.Fatalf("got %+v, %v, %v", got, ok, err)
		}
		if c := w.sent(describe)[0]; c.Get("Filter.2.Name") != "vpc-endpoint-id" || c.Get("Filter.2.Value.1") != one {
			t.Errorf("sent %v", c)
		}
	})
	t.Run("absent", func(t *testing.T) {
		cloud, _ := newWire(t, map[string][]reply{describe: {listing("")}})
		if got, ok, err := find(t, cloud, one); err != nil || ok {
			t.Errorf("got %+v, %v, %v", got, ok, err)
		}
	})
	t.Run("a filter that does nothing finds nobody else's", func(t *testing.T) {
		cloud, _ := newWire(t, map[string][]reply{describe: {listing("", two+" available")}})
		if got, ok, err := find(t, cloud, one); err != nil || ok {
			t.Errorf("got %+v, %v, %v", got, ok, err)
		}
	})
	t.Run("a filter that AWS does not take", func(t *testing.T) {
		cloud, w := newWire(t, map[string][]reply{describe: {refusal(400, "InvalidFilter"), listing("", two+" available", one+" pending")}})
		got, ok, err := find(t, cloud, one)
		if err != nil || !ok || got.State != "pending" {
			t.Errorf("got %+v, %v, %v", got, ok, err)
		}
		if c := w.sent(describe); len(c) != 2 || c[1].Get("Filter.2.Name") != "" {
			t.Errorf("sent %v", c)
		}
	})
	t.Run("not an endpoint ID", func(t *testing.T) {
		cloud, w := newWire(t, nil)
		if _, _, err := find(t, cloud, service.ID); postern.CodeOf(err) != postern.CodeInvalid || len(w.calls) != 0 {
			t.Errorf("got %v after %d calls", err, len(w.calls))
		}
	})
}

// A listing that stops early would look like deletions.
func TestAnEndlessListingIsAnError(t *testing.T) {
	cloud, _ := newWire(t, map[string][]reply{describe: {listing("again", one+" available")}})
	if got, err := cloud.Connections(t.Context(), service); postern.CodeOf(err) != postern.CodeUnavailable || got != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAFailingPageIsAnError(t *testing.T) {
	cloud, _ := newWire(t, map[string][]reply{describe: {listing("page2", one+" available"), refusal(500, "InternalError")}})
	if got, err := cloud.Connections(t.Context(), service); postern.CodeOf(err) != postern.CodeUnavailable || got != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestARegionThatIsNotConfigured(t *testing.T) {
	cloud, _ := newWire(t, nil)
	if _, err := cloud.Connections(t.Context(), postern.ServiceRef{Region: "ap-south-1", ID: service.ID}); postern.CodeOf(err) != postern.CodeInvalid {
		t.Errorf("got %v", err)
	}
}
