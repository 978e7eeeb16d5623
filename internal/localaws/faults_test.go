package localaws_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/postern-net/postern/internal/localaws"
)

func (f *fixture) fault(rule localaws.Fault) string {
	f.t.Helper()
	id, err := f.Faults().Add(rule)
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

// tryCreate creates an endpoint, always by the same intent.
func (f *fixture) tryCreate() error {
	in := f.request(f.vpc, "use1-az2")
	in.ClientToken = aws.String("one")
	_, err := f.ec2(f.example).CreateVpcEndpoint(f.t.Context(), in)
	return err
}

func TestFaultKinds(t *testing.T) {
	for name, c := range map[string]struct {
		rule      localaws.Fault
		code      string // of the error, or "": any error
		committed bool
	}{
		"error":          {localaws.Fault{Kind: localaws.FaultError, Code: "Unavailable", Status: 503}, "Unavailable", false},
		"error, after":   {localaws.Fault{Kind: localaws.FaultError, Code: "InternalError", When: localaws.AfterCommit}, "InternalError", true},
		"throttle":       {localaws.Fault{Kind: localaws.FaultThrottle}, "RequestLimitExceeded", false},
		"drop":           {localaws.Fault{Kind: localaws.FaultDrop}, "", true},
		"drop, before":   {localaws.Fault{Kind: localaws.FaultDrop, When: localaws.BeforeCommit}, "", false},
		"garbage":        {localaws.Fault{Kind: localaws.FaultGarbage}, "", true},
		"garbage before": {localaws.Fault{Kind: localaws.FaultGarbage, When: localaws.BeforeCommit}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			c.rule.Action, c.rule.Account, c.rule.Region, c.rule.Times = "CreateVpcEndpoint", "example-corp", virginia, 1
			f.fault(c.rule)
			// Others are not concerned.
			if _, err := f.ec2(f.globex).CreateVpcEndpoint(t.Context(), f.request(f.other, "use1-az2")); err != nil {
				t.Fatal(err)
			}
			err := f.tryCreate()
			if err == nil {
				t.Fatal("the fault did not strike")
			}
			if c.code != "" {
				wantCode(t, err, c.code)
			}
			if got := len(f.connections()) == 2; got != c.committed {
				t.Errorf("committed: %t", got)
			}
			// Once is enough, and the same intent makes one endpoint.
			if err := f.tryCreate(); err != nil {
				t.Error(err)
			}
			if got := len(f.connections()); got != 2 {
				t.Errorf("%d endpoints", got)
			}
		})
	}
}

func TestDelay(t *testing.T) {
	f := newFixture(t, nil)
	id := f.fault(localaws.Fault{Kind: localaws.FaultDelay, Delay: 30 * time.Millisecond})
	start := time.Now()
	f.connections()
	if d := time.Since(start); d < 30*time.Millisecond {
		t.Errorf("took %s", d)
	}
	if !f.Faults().Remove(id) || f.Faults().Remove(id) || len(f.Faults().List()) != 0 {
		t.Error("the rule was not removed once")
	}
}

// TestPause holds a call whose client goes away, and lets it happen then.
func TestPause(t *testing.T) {
	for _, when := range []localaws.FaultWhen{localaws.BeforeCommit, localaws.AfterCommit} {
		t.Run(string(when), func(t *testing.T) {
			f := newFixture(t, nil)
			f.fault(localaws.Fault{Kind: localaws.FaultPause, When: when, Action: "CreateVpcEndpoint", Times: 1})
			ctx, goAway := context.WithCancel(t.Context())
			answered := make(chan error, 1)
			go func() {
				_, err := f.ec2(f.example).CreateVpcEndpoint(ctx, f.request(f.vpc, "use1-az2"))
				answered <- err
			}()
			held, err := f.Faults().WaitPaused(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if held.Action != "CreateVpcEndpoint" || held.Account != f.example.ID || held.Parameters["VpcId"] != f.vpc.ID {
				t.Errorf("%+v", held)
			}
			if got := len(f.connections()); (got == 1) != (when == localaws.AfterCommit) {
				t.Errorf("%d connections while held", got)
			}
			goAway()
			if err := <-answered; err == nil {
				t.Error("a held call was answered")
			}
			if !f.Faults().Release(held.ID) || f.Faults().Release(held.ID) {
				t.Error("not released once")
			}
			eventually(t, func() bool { return len(f.connections()) == 1 }, func() string { return "the call had no effect" })
		})
	}
}

func TestFaultsAreValidated(t *testing.T) {
	f := newFixture(t, nil)
	for name, rule := range map[string]localaws.Fault{
		"kind": {}, "when": {Kind: localaws.FaultDrop, When: "later"}, "code": {Kind: localaws.FaultError},
		"times": {Kind: localaws.FaultDrop, Times: -1}, "status": {Kind: localaws.FaultError, Code: "X", Status: 99},
	} {
		if _, err := f.Faults().Add(rule); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestAdminByHTTP(t *testing.T) {
	f := newFixture(t, func(f *fixture) { f.cfg.AllowFaults = true })
	do := func(method, path, body string, admin bool) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, f.EndpointURL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if admin {
			req.Header.Set(localaws.AdminHeader, "yes")
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	rule := `{"kind":"pause","action":"DescribeVpcs","times":1}`
	if status, body := do("POST", "/_localaws/faults", rule, false); status != http.StatusForbidden {
		t.Error(status, body)
	}
	if status, body := do("POST", "/_localaws/faults", rule, true); status != http.StatusCreated || !strings.Contains(body, `"id":"fault-1"`) {
		t.Error(status, body)
	}
	for _, bad := range []string{`{`, `{"kind":"pause","until":"x"}`, `{"kind":"melt"}`} {
		if status, _ := do("POST", "/_localaws/faults", bad, true); status != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, status)
		}
	}
	if _, body := do("GET", "/_localaws/faults", "", true); !strings.Contains(body, `"action":"DescribeVpcs"`) {
		t.Error(body)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := f.ec2(f.example).DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
		answered <- err
	}()
	if _, err := f.Faults().WaitPaused(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, body := do("GET", "/_localaws/paused", "", true)
	var paused []localaws.Call
	if err := json.Unmarshal([]byte(body), &paused); err != nil || len(paused) != 1 {
		t.Fatal(body, err)
	}
	if status, _ := do("POST", "/_localaws/paused/"+paused[0].ID+"/release", "", true); status != http.StatusNoContent {
		t.Error(status)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if status, _ := do("POST", "/_localaws/paused/"+paused[0].ID+"/release", "", true); status != http.StatusNotFound {
		t.Error(status)
	}
	if _, body := do("GET", "/_localaws/calls", "", true); !strings.Contains(body, `"state":"done"`) {
		t.Error(body)
	}
	if status, _ := do("DELETE", "/_localaws/faults/fault-9", "", true); status != http.StatusNotFound {
		t.Error(status)
	}
	if status, _ := do("DELETE", "/_localaws/faults", "", true); status != http.StatusNoContent {
		t.Error(status)
	}
}

func TestAdminIsClosedByDefault(t *testing.T) {
	f := newFixture(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.EndpointURL()+"/_localaws/calls", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(localaws.AdminHeader, "yes")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Error(res.Status)
	}
}

func TestCallsAreListed(t *testing.T) {
	f := newFixture(t, nil)
	f.connections()
	_, err := f.ec2(f.example).DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{VpcEndpointIds: []string{"vpce-x"}, MaxResults: aws.Int32(7)})
	wantCode(t, err, "InvalidVpcEndpointId.Malformed")
	calls := f.Faults().Calls()
	if len(calls) != 2 || calls[0].Account != f.platform.ID || calls[1].Code != "InvalidVpcEndpointId.Malformed" || calls[1].Parameters["MaxResults"] != "7" {
		t.Errorf("%+v", calls)
	}
}
