package postern

import (
	"strconv"
	"time"
)

// EndpointState sums an endpoint's conditions up in a word.
type EndpointState string

// The states of an [Endpoint]. Rejected, disconnected, expired and failed are
// final at AWS: a new endpoint is needed.
const (
	EndpointRequested         EndpointState = "requested"          // claimed; waits for an operator's approval
	EndpointPendingAcceptance EndpointState = "pending-acceptance" // approved; AWS has not been told yet
	EndpointPending           EndpointState = "pending"            // accepted; AWS is connecting it
	EndpointReady             EndpointState = "ready"              // bytes pass
	EndpointRejected          EndpointState = "rejected"           // by us or by the vendor's staff
	EndpointDisconnected      EndpointState = "disconnected"       // the customer deleted it
	EndpointExpired           EndpointState = "expired"            // AWS gave up on it
	EndpointFailed            EndpointState = "failed"             // AWS could not create it
	EndpointRemoving          EndpointState = "removing"           // unclaimed; the connection is being rejected
)

// EndpointStates lists every state, in the order of a good life.
func EndpointStates() []EndpointState {
	return []EndpointState{
		EndpointRequested, EndpointPendingAcceptance, EndpointPending, EndpointReady,
		EndpointRejected, EndpointDisconnected, EndpointExpired, EndpointFailed, EndpointRemoving,
	}
}

// Approval is a decision on a claim.
type Approval struct {
	By string    // "policy", or the name of the operator's token, which cannot be "policy"
	At time.Time // zero: nobody decided yet
}

// Endpoint is a customer's interface endpoint (vpce-…) that an organization
// claimed. Accepted by AWS is not authorized by us: the endpoint reaches the
// hosts of its tenants and nothing else.
type Endpoint struct {
	ID           string // vpce-…
	Organization string
	// Tenants it may reach; empty: all that the organization has in the
	// service region's segment, now and later.
	Tenants  []string
	Approval Approval
	Removing bool // unclaimed: desired to be gone

	// What was observed last.
	ServiceRegion  string   // region of the platform's service it is connected to
	EndpointRegion string   // region it is in; differs with cross-region access
	Owner          string   // AWS account
	DNSNames       []string // regional name first, then zonal names
	State          EndpointState
	Conditions     []Condition
	MissingSince   time.Time // when a listing first lacked it; zero while it is listed

	ResourceVersion int64
	CreatedAt       time.Time
}

// ConnectionState is the state of an endpoint connection as AWS names it, in
// the lower camel case of the wire (adapters normalize).
type ConnectionState string

// The states that AWS reports for interface endpoints.
const (
	ConnectionPendingAcceptance ConnectionState = "pendingAcceptance"
	ConnectionPending           ConnectionState = "pending"
	ConnectionAvailable         ConnectionState = "available"
	ConnectionDeleting          ConnectionState = "deleting"
	ConnectionDeleted           ConnectionState = "deleted"
	ConnectionRejected          ConnectionState = "rejected"
	ConnectionFailed            ConnectionState = "failed"
	ConnectionExpired           ConnectionState = "expired"
)

// Connection is an endpoint connection as the platform's side sees it at AWS
// (DescribeVpcEndpointConnections). AWS tells no VPC, subnet or zone.
type Connection struct {
	EndpointID     string
	ServiceID      string
	ServiceRegion  string
	EndpointRegion string
	Owner          string
	State          ConnectionState
	DNSNames       []string
	CreatedAt      time.Time
}

// Claim asks for private access: every endpoint and every tenant at once.
type Claim struct {
	Organization string
	Endpoints    []string // vpce-…, at least one
	Tenants      []string // empty: all of the segment
}

// MaxClaimEndpoints bounds one claim; AWS's own quota is 50 per VPC.
const MaxClaimEndpoints = 50

// Validate reports what is wrong with the claim by itself; whether the
// endpoints and tenants are the organization's is for the store and the cloud.
func (c Claim) Validate() error {
	var es Errors
	es.Add(CheckLabel("organization", c.Organization))
	if n := len(c.Endpoints); n == 0 || n > MaxClaimEndpoints {
		es.Add(Invalid("vpc_endpoint_ids", strconv.Itoa(n), "not between 1 and 50 endpoints", "give every endpoint ID of the request"))
	}
	seen := map[string]bool{}
	for i, id := range c.Endpoints {
		at := path("vpc_endpoint_ids", i)
		es.Add(CheckVPCEndpointID(at, id))
		es.Add(unique(seen, at, id, "endpoint"))
	}
	seen = map[string]bool{}
	for i, t := range c.Tenants {
		at := path("tenants", i)
		es.Add(CheckLabel(at, t))
		es.Add(unique(seen, at, t, "tenant"))
	}
	return es.Err()
}
