package aws_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/aws"
)

// service is the one whose connections the canned answers list.
var service = postern.ServiceRef{
	Region: "us-east-1", ID: "vpce-svc-0471015b106ad1d47",
	Name: "com.amazonaws.vpce.us-east-1.vpce-svc-0471015b106ad1d47",
}

// wire is a server that answers each EC2 action with bytes as AWS sends them,
// so that the SDK's own encoding and decoding are in the test.
type wire struct {
	t  *testing.T
	mu sync.Mutex
	// answers by action; the last one is repeated.
	answers map[string][]reply
	calls   []url.Values
}

type reply struct {
	status int // 0: 200
	body   string
}

func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Errorf("read the request: %v", err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		w.t.Errorf("the request is no form: %q", body)
	}
	if !strings.Contains(r.Header.Get("Authorization"), "/us-east-1/ec2/aws4_request") {
		w.t.Errorf("signed for another scope: %s", r.Header.Get("Authorization"))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, form)
	action := form.Get("Action")
	queue := w.answers[action]
	if len(queue) == 0 {
		w.t.Errorf("unexpected call of %s: %v", action, form)
		rw.WriteHeader(http.StatusTeapot)
		return
	}
	if len(queue) > 1 {
		w.answers[action] = queue[1:]
	}
	rw.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	if queue[0].status != 0 {
		rw.WriteHeader(queue[0].status)
	}
	write(w.t, rw, queue[0].body)
}

func write(t *testing.T, w io.Writer, s string) {
	if _, err := io.WriteString(w, s); err != nil {
		t.Errorf("answer: %v", err)
	}
}

// sent returns the forms of the calls of an action.
func (w *wire) sent(action string) []url.Values {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []url.Values
	for _, c := range w.calls {
		if c.Get("Action") == action {
			out = append(out, c)
		}
	}
	return out
}

func newWire(t *testing.T, answers map[string][]reply) (*aws.Cloud, *wire) {
	t.Helper()
	w := &wire{t: t, answers: answers}
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	return newCloud(t, srv.URL, nil), w
}

func newCloud(t *testing.T, endpoint string, change func(*aws.Config)) *aws.Cloud {
	t.Helper()
	c := aws.Config{
		Regions: []string{"us-east-1", "eu-central-1"}, EndpointURL: endpoint, Attempts: 1, Timeout: 5 * time.Second,
		Credentials: aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "secret-words"},
	}
	if change != nil {
		change(&c)
	}
	cloud, err := aws.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	return cloud
}

func answer(action, inner string) reply {
	return reply{body: fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<%[1]sResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>59dbff89-35bd-4eac-99ed-be587EXAMPLE</requestId>%[2]s</%[1]sResponse>`, action, inner)}
}

func refusal(status int, code string) reply {
	return reply{status: status, body: fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>%s</Code><Message>words of AWS</Message></Error></Errors><RequestID>ea966190-f9aa-478e-9ede-example</RequestID></Response>`, code)}
}

// listing is an answer of DescribeVpcEndpointConnections; each row is
// "endpoint state" or "endpoint state service".
func listing(next string, rows ...string) reply {
	var b strings.Builder
	b.WriteString("<vpcEndpointConnectionSet>")
	for _, row := range rows {
		f := append(strings.Fields(row), service.ID)
		fmt.Fprintf(&b, `<item><serviceId>%s</serviceId><vpcEndpointId>%s</vpcEndpointId><vpcEndpointOwner>111122223333</vpcEndpointOwner>
<vpcEndpointState>%s</vpcEndpointState><creationTimestamp>2026-11-20T10:00:24.350Z</creationTimestamp>
<dnsEntrySet><item><dnsName>%[2]s-oivwbiyc.vpce.example</dnsName><hostedZoneId>Z7HUB22UULQXV</hostedZoneId></item></dnsEntrySet>
<ipAddressType>ipv4</ipAddressType></item>`, f[2], f[0], f[1])
	}
	b.WriteString("</vpcEndpointConnectionSet>")
	if next != "" {
		fmt.Fprintf(&b, "<nextToken>%s</nextToken>", next)
	}
	return answer("DescribeVpcEndpointConnections", b.String())
}
