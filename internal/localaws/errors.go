package localaws

import (
	"fmt"
	"net/http"
)

// apiError is an error as the API tells it: code and message are AWS's.
type apiError struct {
	Code    string
	Message string
	Status  int
	// documented: an InvalidChangeBatch in the shape of AWS's reference, not in
	// the one that Route 53 sends.
	documented bool
}

func (e *apiError) Error() string { return e.Code + ": " + e.Message }

// fail makes a client error (HTTP 400).
func fail(code, format string, args ...any) *apiError {
	return &apiError{Code: code, Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

func invalidParameter(format string, args ...any) *apiError {
	return fail("InvalidParameter", format, args...)
}

func missing(name string) *apiError {
	return fail("MissingParameter", "The request must contain the parameter %s", name)
}

// throttled is the refusal of a full bucket; Route 53 words it otherwise.
func throttled(service string) *apiError {
	if service == serviceRoute53 {
		return fail("Throttling", "Rate exceeded")
	}
	return &apiError{Code: "RequestLimitExceeded", Message: "Request limit exceeded.", Status: http.StatusServiceUnavailable}
}

func dryRun() *apiError {
	return &apiError{Code: "DryRunOperation", Message: "Request would have succeeded, but DryRun flag is set.", Status: http.StatusPreconditionFailed}
}

func internalError() *apiError {
	return &apiError{Code: "InternalError", Message: "An internal error has occurred", Status: http.StatusInternalServerError}
}

// The same missing service has different codes in different places.

func noServiceID(id string) *apiError {
	return fail("InvalidVpcEndpointServiceId.NotFound", "The VpcEndpointService Id '%s' does not exist", id)
}

func noServiceName(name string) *apiError {
	return fail("InvalidServiceName", "The Vpc Endpoint Service '%s' does not exist", name)
}

func noEndpoint(id string) *apiError {
	return fail("InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id '%s' does not exist", id)
}

func noGroup(id string) *apiError {
	return fail("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
}
