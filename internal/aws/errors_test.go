package aws_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/aws"
)

func TestErrorsAreTranslated(t *testing.T) {
	for _, c := range []struct {
		name  string
		reply reply
		want  postern.Code
		says  string
	}{
		{"throttled", refusal(503, "RequestLimitExceeded"), postern.CodeThrottled, "AWS limits how often ec2:DescribeVpcEndpointConnections is called"},
		{"a missing service", refusal(400, "InvalidVpcEndpointServiceId.NotFound"), postern.CodeNotFound, "InvalidVpcEndpointServiceId.NotFound"},
		{"its other spelling", refusal(400, "InvalidVpcEndpointService.NotFound"), postern.CodeNotFound, "platform file"},
		{"no permission", refusal(403, "UnauthorizedOperation"), postern.CodeForbidden, "allow ec2:DescribeVpcEndpointConnections in the policy of its role; docs/iam.md"},
		{"bad credentials", refusal(401, "AuthFailure"), postern.CodeForbidden, "does not take Postern's credentials"},
		{"expired credentials", refusal(400, "RequestExpired"), postern.CodeForbidden, "its clock"},
		{"a failure of AWS", refusal(500, "InternalError"), postern.CodeUnavailable, "does not answer"},
		{"a proxy's error page", reply{status: 502, body: "<html>Bad gateway</html>"}, postern.CodeUnavailable, "does not answer"},
		{"garbage with success", reply{body: "\x00\x01 not xml"}, postern.CodeUnavailable, "does not answer"},
		{"half an answer", reply{body: "<DescribeVpcEndpointConnectionsResponse><vpcEnd"}, postern.CodeUnavailable, "does not answer"},
		{"a defect of ours", refusal(400, "InvalidParameterValue"), postern.CodeInternal, "InvalidParameterValue"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cloud, _ := newWire(t, map[string][]reply{describe: {c.reply}})
			got, err := cloud.Connections(t.Context(), service)
			var e *postern.Error
			if got != nil || !errors.As(err, &e) {
				t.Fatalf("got %v, %v", got, err)
			}
			if e.Code != c.want || !strings.Contains(e.Error(), c.says) {
				t.Errorf("got %s: %s", e.Code, e)
			}
			if e.Fix == "" {
				t.Error("it does not say what to do")
			}
			// Request IDs and AWS's words are for the log, not for users.
			if strings.Contains(e.Error(), "example") || strings.Contains(e.Error(), "words of AWS") {
				t.Errorf("it tells too much: %s", e)
			}
			var api smithy.APIError
			if strings.Contains(c.reply.body, "<Errors>") && !errors.As(err, &api) {
				t.Error("the cause is lost")
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	cloud := newCloud(t, srv.URL, nil)
	if _, err := cloud.Connections(t.Context(), service); postern.CodeOf(err) != postern.CodeUnavailable {
		t.Errorf("got %v", err)
	}
}

func TestCanceledIsNoFailureOfAWS(t *testing.T) {
	cloud, _ := newWire(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := cloud.Connections(ctx, service)
	var e *postern.Error
	if !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
}

func TestThrottledCallsAreSentAgain(t *testing.T) {
	w := &wire{t: t, answers: map[string][]reply{describe: {refusal(503, "RequestLimitExceeded"), listing("", one+" available")}}}
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	cloud := newCloud(t, srv.URL, func(c *aws.Config) { c.Attempts = 3 })
	if got, err := cloud.Connections(t.Context(), service); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestMissingCredentials(t *testing.T) {
	for k, v := range map[string]string{
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "",
	} {
		t.Setenv(k, v)
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	cloud := newCloud(t, srv.URL, func(c *aws.Config) { c.Credentials = aws.Credentials{} })
	_, err := cloud.Connections(t.Context(), service)
	if postern.CodeOf(err) != postern.CodeForbidden || !strings.Contains(err.Error(), "no AWS credentials") {
		t.Errorf("got %v", err)
	}
}
