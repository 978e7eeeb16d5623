package postern

import (
	"slices"
	"time"
)

// ConditionStatus is "True", "False" or "Unknown".
type ConditionStatus string

// The three values of a condition.
const (
	True    ConditionStatus = "True"
	False   ConditionStatus = "False"
	Unknown ConditionStatus = "Unknown"
)

// ConditionType names one thing that must hold for an object to work.
type ConditionType string

// The conditions of an [Endpoint].
const (
	// AccountProven: the endpoint's owner is an account that the organization
	// proved to hold.
	AccountProven ConditionType = "AccountProven"
	// Approved: the policy, or an operator, lets the endpoint in.
	Approved ConditionType = "Approved"
	// Connected: AWS carries the endpoint's traffic to the platform.
	Connected ConditionType = "Connected"
	// Ready: bytes pass from the endpoint to its tenants.
	Ready ConditionType = "Ready"
)

// Reason says why a condition is as it is. The list is closed and documented
// in docs/conditions.md; a test compares the two.
type Reason string

// The reasons.
const (
	ReasonProven    Reason = "Proven"    // AccountProven=True
	ReasonNotProven Reason = "NotProven" // AccountProven=False

	ReasonApprovedByPolicy   Reason = "ApprovedByPolicy"   // Approved=True
	ReasonApprovedByOperator Reason = "ApprovedByOperator" // Approved=True
	ReasonWaitsForApproval   Reason = "WaitsForApproval"   // Approved=False

	ReasonAvailable          Reason = "Available"          // Connected=True
	ReasonWaitsForAcceptance Reason = "WaitsForAcceptance" // Connected=False; Postern is about to accept
	ReasonAcceptFailed       Reason = "AcceptFailed"       // Connected=False; AWS refused to accept
	ReasonConnecting         Reason = "Connecting"         // Connected=False; accepted, AWS is at work
	ReasonRejected           Reason = "Rejected"           // Connected=False
	ReasonDeleted            Reason = "Deleted"            // Connected=False; by the customer
	ReasonExpired            Reason = "Expired"            // Connected=False
	ReasonFailed             Reason = "Failed"             // Connected=False
	ReasonNotListed          Reason = "NotListed"          // Connected=Unknown
	ReasonNotObserved        Reason = "NotObserved"        // Connected=Unknown; AWS did not answer
	ReasonRemoving           Reason = "Removing"           // Connected=False

	ReasonBytesPass Reason = "BytesPass" // Ready=True
	ReasonNotReady  Reason = "NotReady"  // Ready=False; another condition says why
	ReasonNoTenant  Reason = "NoTenant"  // Ready=False; nothing to reach in the segment

	ReasonPublished       Reason = "Published"       // DNSPublished=True
	ReasonNotPublished    Reason = "NotPublished"    // DNSPublished=False
	ReasonSeen            Reason = "Seen"            // PrivateTraffic=True
	ReasonNotSeen         Reason = "NotSeen"         // PrivateTraffic=False
	ReasonNobody          Reason = "Nobody"          // PublicClients=True
	ReasonAcknowledged    Reason = "Acknowledged"    // PublicClients=True
	ReasonStillPublic     Reason = "StillPublic"     // PublicClients=False
	ReasonRequiredPrivate Reason = "RequiredPrivate" // RequiredAppPrivate=True
	ReasonRequiredPublic  Reason = "RequiredPublic"  // RequiredAppPrivate=False
	ReasonOneSegment      Reason = "OneSegment"      // SingleSegment=True
	ReasonSeveralSegments Reason = "SeveralSegments" // SingleSegment=False
	ReasonNotEnabled      Reason = "NotEnabled"      // Ready=False; nobody asked for it
	ReasonNoEndpoint      Reason = "NoEndpoint"      // Ready=False; no endpoint reaches it

	ReasonInStep          Reason = "InStep"          // NodesAcknowledged=True
	ReasonWaitsForNodes   Reason = "WaitsForNodes"   // NodesAcknowledged=False
	ReasonEndpointsReady  Reason = "EndpointsReady"  // PathReady=True
	ReasonNoEndpointReady Reason = "NoEndpointReady" // PathReady=False
	ReasonPrivateRefused  Reason = "PrivateRefused"  // PrivateTraffic=False
	ReasonPassed          Reason = "Passed"          // TimePassed=True
	ReasonWaitsForTime    Reason = "WaitsForTime"    // TimePassed=False
)

// Reasons lists every reason.
func Reasons() []Reason {
	return append([]Reason{
		ReasonProven, ReasonNotProven,
		ReasonApprovedByPolicy, ReasonApprovedByOperator, ReasonWaitsForApproval,
		ReasonAvailable, ReasonWaitsForAcceptance, ReasonAcceptFailed, ReasonConnecting, ReasonRejected, ReasonDeleted,
		ReasonExpired, ReasonFailed, ReasonNotListed, ReasonNotObserved, ReasonRemoving,
		ReasonBytesPass, ReasonNotReady, ReasonNoTenant,
		ReasonPublished, ReasonNotPublished, ReasonSeen, ReasonNotSeen, ReasonNobody, ReasonAcknowledged, ReasonStillPublic,
		ReasonInStep, ReasonWaitsForNodes, ReasonEndpointsReady, ReasonNoEndpointReady, ReasonPrivateRefused, ReasonPassed, ReasonWaitsForTime,
		ReasonRequiredPrivate, ReasonRequiredPublic, ReasonOneSegment, ReasonSeveralSegments, ReasonNotEnabled, ReasonNoEndpoint,
	}, append(connectionReasons(), findingReasons()...)...)
}

// Condition is one observed fact about an object. Message says what is wrong
// and what to do; it carries no request IDs and no times, so that it changes
// only when the fact does.
type Condition struct {
	Type    ConditionType   `json:"type"`
	Status  ConditionStatus `json:"status"`
	Reason  Reason          `json:"reason"`
	Message string          `json:"message"`
	Since   time.Time       `json:"since"` // when Status last changed
}

// SetCondition puts c in place of the condition of its type. Since is kept
// while the status stays the same. It returns a new slice, ordered by type.
func SetCondition(cs []Condition, c Condition) []Condition {
	out := slices.Clone(cs)
	i := slices.IndexFunc(out, func(o Condition) bool { return o.Type == c.Type })
	if i < 0 {
		out = append(out, c)
		slices.SortFunc(out, func(a, b Condition) int {
			if a.Type < b.Type {
				return -1
			}
			return 1
		})
		return out
	}
	if out[i].Status == c.Status {
		c.Since = out[i].Since
	}
	out[i] = c
	return out
}

// FindCondition returns the condition of a type, or the zero Condition.
func FindCondition(cs []Condition, t ConditionType) Condition {
	for _, c := range cs {
		if c.Type == t {
			return c
		}
	}
	return Condition{}
}
