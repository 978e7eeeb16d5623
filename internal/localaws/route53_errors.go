package localaws

import (
	"encoding/xml"
	"net/http"
	"strings"
)

const codeInvalidChangeBatch = "InvalidChangeBatch"

func invalidInput(format string, args ...any) *apiError { return fail("InvalidInput", format, args...) }

func noZone(id string) *apiError {
	e := fail("NoSuchHostedZone", "No hosted zone found with ID: %s", id)
	e.Status = http.StatusNotFound
	return e
}

func priorRequest() *apiError {
	return fail("PriorRequestNotComplete", "The request was rejected because Route 53 was still processing a prior request.")
}

// invalidBatch tells what is wrong with a change batch.
func invalidBatch(messages []string) *apiError {
	return fail(codeInvalidChangeBatch, "[%s]", strings.Join(messages, ", "))
}

func badVPC(v vpcRef) *apiError {
	return fail("InvalidVPCId", "The VPC: %s in region %s that you provided is not authorized to make the association.", v.ID, v.Region)
}

func conflictingDomain(v zoneVPC, zone string) *apiError {
	return fail("ConflictingDomainExists", "The VPC %s in region %s has already been associated with the hosted zone %s with the same domain name.", v.ID, v.Region, zone)
}

// documentedBatchError is how AWS's reference shows an InvalidChangeBatch. What
// Route 53 sends is an ErrorResponse with all messages in brackets.
type documentedBatchError struct {
	XMLName   xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ InvalidChangeBatch"`
	Messages  []string `xml:"Messages>Message"`
	RequestID string   `xml:"RequestId"`
}

func newRoute53Error(id string, e *apiError) any {
	if e.Code == codeInvalidChangeBatch && e.documented {
		return documentedBatchError{Messages: []string{e.Message}, RequestID: id}
	}
	return newFaultError(namespaceRoute53, id, e)
}
