package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/postern-net/postern"
)

// translate makes a domain error of what a call returned: action is the IAM
// action, such as "ec2:AcceptVpcEndpointConnections". The cause stays in the
// chain behind the *postern.Error, for errors.As and the log. A canceled call
// is no failure of AWS and stays what it is.
func translate(action string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", action, err)
	}
	var missing *noCredentialsError
	if errors.As(err, &missing) {
		return fmt.Errorf("%w: %w", &postern.Error{
			Code: postern.CodeForbidden, Message: "Postern has no AWS credentials for " + action,
			Fix: "give the process a role, or credentials that the SDK's default chain finds (docs/iam.md)",
		}, err)
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return fmt.Errorf("%w: %w", apiError(action, api.ErrorCode(), statusOf(err)), err)
	}
	return fmt.Errorf("%w: %w", unavailable(action), err)
}

// noCredentialsError is a call that was not sent for want of credentials.
type noCredentialsError struct{ cause error }

func (e *noCredentialsError) Error() string { return "no credentials: " + e.cause.Error() }
func (e *noCredentialsError) Unwrap() error { return e.cause }

func statusOf(err error) int {
	var r *awshttp.ResponseError
	if errors.As(err, &r) {
		return r.HTTPStatusCode()
	}
	return 0
}

// apiError classifies an error code of EC2. EC2 models no errors, so the code
// is all there is (AWS: "Error codes for the Amazon EC2 API").
func apiError(action, code string, status int) *postern.Error {
	switch {
	case throttleCode(code):
		return &postern.Error{
			Code: postern.CodeThrottled, Message: "AWS limits how often " + action + " is called",
			Fix: "it is tried again by itself; if it stays so, look for other callers in the account",
		}
	case code == "UnauthorizedOperation" || code == "AccessDenied" || code == "AccessDeniedException":
		return &postern.Error{
			Code: postern.CodeForbidden, Message: "Postern's AWS identity may not call " + action,
			Fix: "allow " + action + " in the policy of its role; docs/iam.md has the whole policy",
		}
	case credentialCode(code):
		return &postern.Error{
			Code: postern.CodeForbidden, Message: "AWS does not take Postern's credentials for " + action + " (" + code + ")",
			Fix: "check the credentials of the process, its clock, and that it is allowed " + action + " (docs/iam.md)",
		}
	case strings.HasSuffix(code, "NotFound"):
		return &postern.Error{
			Code: postern.CodeNotFound, Message: "AWS knows no such object for " + action + " (" + code + ")",
			Fix: "check the endpoint service's name, region and account in the platform file",
		}
	case status >= http.StatusInternalServerError, code == "InternalError", code == "ServiceUnavailable", code == "Unavailable", code == "InternalFailure":
		return unavailable(action)
	default:
		return &postern.Error{
			Code: postern.CodeInternal, Message: "AWS refused " + action + " (" + code + ")",
			Fix: "the log has what AWS said",
		}
	}
}

func unavailable(action string) *postern.Error {
	return &postern.Error{
		Code: postern.CodeUnavailable, Message: "AWS does not answer " + action,
		Fix: "it is tried again by itself; if it stays so, check the network path to AWS",
	}
}

func throttleCode(code string) bool {
	switch code {
	case "RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException",
		"RequestThrottled", "RequestThrottledException", "SlowDown", "EC2ThrottledException", "PriorRequestNotComplete":
		return true
	}
	return false
}

func credentialCode(code string) bool {
	switch code {
	case "AuthFailure", "Blocked", "OptInRequired", "PendingVerification", "InvalidClientTokenId", "UnrecognizedClientException",
		"SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken", "ExpiredToken", "ExpiredTokenException",
		"RequestExpired", "InvalidAccessKeyId":
		return true
	}
	return false
}

// hasCode tells whether AWS answered with an error code.
func hasCode(err error, code string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == code
}
