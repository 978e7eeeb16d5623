package client

import "time"

// Condition is one observed fact about an object: what holds or not, why, and
// what to do about it.
type Condition struct {
	Type    string    `json:"type" example:"Ready"`
	Status  string    `json:"status" enum:"True,False,Unknown"`
	Reason  string    `json:"reason" doc:"From the closed list in docs/conditions.md"`
	Message string    `json:"message"`
	Since   time.Time `json:"since" doc:"When the status last changed"`
}

// Organization is a customer of the platform.
type Organization struct {
	ID              string           `json:"id" doc:"A DNS label" example:"example-corp"`
	Spec            OrganizationSpec `json:"spec"`
	ResourceVersion string           `json:"resource_version,omitempty" readOnly:"true"`
	CreatedAt       time.Time        `json:"created_at,omitzero" readOnly:"true"`
}

// OrganizationSpec is what is wanted of an organization.
type OrganizationSpec struct {
	Title string `json:"title,omitempty" doc:"For people" example:"Example Corp"`
}

// Tenant is one instance of the platform in its home region.
type Tenant struct {
	ID              string       `json:"id" doc:"The tenant's name, a DNS label" example:"example"`
	Spec            TenantSpec   `json:"spec"`
	Status          TenantStatus `json:"status,omitzero" readOnly:"true"`
	ResourceVersion string       `json:"resource_version,omitempty" readOnly:"true"`
	CreatedAt       time.Time    `json:"created_at,omitzero" readOnly:"true"`
}

// TenantSpec is what is wanted of a tenant.
type TenantSpec struct {
	Organization string `json:"organization" example:"example-corp"`
	Region       string `json:"region" doc:"Home region" example:"us-east-1"`
}

// TenantStatus is what follows from a tenant's spec and its endpoints.
type TenantStatus struct {
	State               string   `json:"state" doc:"public: no endpoint reaches it; private-and-public: at least one ready endpoint does" enum:"public,private-and-public"`
	Segment             string   `json:"segment" example:"na"`
	Hostname            string   `json:"hostname" doc:"The standard hostname, which never changes"`
	PrivateLinkHostname string   `json:"privatelink_hostname" doc:"The name that the customer's DNS answers"`
	VPCEndpointIDs      []string `json:"vpc_endpoint_ids" doc:"Ready endpoints that reach it"`
}

// Challenge is what a proof of an AWS account must be bound to.
type Challenge struct {
	Nonce        string    `json:"nonce" doc:"Good for one attempt"`
	Organization string    `json:"organization"`
	Header       string    `json:"header" doc:"The header that must be signed"`
	Binding      string    `json:"binding" doc:"The value of that header"`
	Regions      []string  `json:"regions" doc:"Regions whose STS may be signed for"`
	ExpiresAt    time.Time `json:"expires_at"`
}

// ChallengeRequest asks for a challenge.
type ChallengeRequest struct {
	Organization string `json:"organization"`
}

// Proof is a signed STS GetCallerIdentity request, taken apart. The server
// puts it together again with a fixed host, path and body; nothing else of it
// is taken over.
type Proof struct {
	Organization  string `json:"organization"`
	Nonce         string `json:"nonce"`
	Region        string `json:"region" doc:"Region whose STS the request is signed for" example:"us-east-1"`
	Authorization string `json:"authorization" doc:"Authorization header (AWS4-HMAC-SHA256 …)" maxLength:"4096"`
	Date          string `json:"date" doc:"X-Amz-Date header" example:"20261122T101500Z" maxLength:"32"`
	SecurityToken string `json:"security_token,omitempty" doc:"X-Amz-Security-Token header, for temporary credentials" maxLength:"8192"`
}

// Account is an AWS account that an organization proved to hold.
type Account struct {
	ID              string        `json:"id" doc:"12 digits" example:"111122223333"`
	Spec            AccountSpec   `json:"spec"`
	Status          AccountStatus `json:"status"`
	ResourceVersion string        `json:"resource_version"`
}

// AccountSpec names whose account it is.
type AccountSpec struct {
	Organization string `json:"organization"`
}

// AccountStatus tells how the account was proven.
type AccountStatus struct {
	State        string    `json:"state" enum:"active,removing"`
	PrincipalARN string    `json:"principal_arn" doc:"Who signed the proof"`
	ProvenAt     time.Time `json:"proven_at"`
}

// Endpoint is a claimed interface endpoint.
type Endpoint struct {
	ID              string         `json:"id" doc:"The VPC endpoint ID" example:"vpce-0d363d9ea82658bec"`
	Spec            EndpointSpec   `json:"spec"`
	Status          EndpointStatus `json:"status"`
	ResourceVersion string         `json:"resource_version"`
	CreatedAt       time.Time      `json:"created_at"`
}

// EndpointSpec is what the claim asked for.
type EndpointSpec struct {
	Organization string   `json:"organization"`
	Tenants      []string `json:"tenants" doc:"Tenants it may reach; empty: all of the organization's in the segment"`
}

// EndpointStatus is what was observed and decided.
type EndpointStatus struct {
	State          string      `json:"state" enum:"requested,pending-acceptance,pending,ready,rejected,disconnected,expired,failed,removing"`
	Conditions     []Condition `json:"conditions"`
	Segment        string      `json:"segment"`
	ServiceRegion  string      `json:"service_region"`
	EndpointRegion string      `json:"endpoint_region,omitempty"`
	Owner          string      `json:"owner" doc:"AWS account of the endpoint"`
	DNSNames       []string    `json:"vpc_endpoint_dns_names" doc:"Regional name first"`
	Hostnames      []string    `json:"hostnames" doc:"The tenants' hosts that it reaches now"`
	ApprovedBy     string      `json:"approved_by,omitempty"`
	ApprovedAt     time.Time   `json:"approved_at,omitzero"`
}

// Claim asks for private access: all endpoint IDs and tenants at once.
type Claim struct {
	Organization   string   `json:"organization"`
	VPCEndpointIDs []string `json:"vpc_endpoint_ids"`
	Tenants        []string `json:"tenants,omitempty" doc:"Empty: all of the organization's tenants in the segment"`
}

// ClaimResult is the endpoints of a claim and, for a dry run, what would be
// done for them.
type ClaimResult struct {
	Endpoints []Endpoint `json:"endpoints"`
	DryRun    bool       `json:"dry_run,omitempty"`
	Actions   []Action   `json:"actions,omitempty"`
}

// Connection is an endpoint connection at AWS, claimed or not.
type Connection struct {
	VPCEndpointID  string    `json:"vpc_endpoint_id"`
	ServiceName    string    `json:"vpc_endpoint_service_name"`
	ServiceRegion  string    `json:"service_region"`
	EndpointRegion string    `json:"endpoint_region,omitempty"`
	Owner          string    `json:"owner"`
	Organization   string    `json:"organization,omitempty" doc:"Whose proven account the owner is"`
	State          string    `json:"state" doc:"As AWS says, such as pendingAcceptance"`
	Claimed        bool      `json:"claimed"`
	CreatedAt      time.Time `json:"created_at"`
}

// Action is one thing that the control loop would do, or does.
type Action struct {
	Kind    string `json:"kind" example:"accept-connection"`
	Target  string `json:"target" doc:"What it is done to" example:"vpce-0d363d9ea82658bec"`
	Service string `json:"vpc_endpoint_service_name,omitempty"`
	Why     string `json:"why"`
}

// Denial is refused connections of one kind, counted.
type Denial struct {
	Listener      string    `json:"listener" enum:"private,public,scim,connect,transparent"`
	Region        string    `json:"region"`
	VPCEndpointID string    `json:"vpc_endpoint_id,omitempty"`
	Source        string    `json:"source,omitempty" doc:"Client address; not of the private listener"`
	ServerName    string    `json:"server_name,omitempty"`
	Reason        string    `json:"reason"`
	Count         int64     `json:"count"`
	FirstSeen     time.Time `json:"first_seen"`
	LastSeen      time.Time `json:"last_seen"`
	JA4           string    `json:"ja4,omitempty" doc:"FoxIO's JA4 of one of the clients' TLS: which program it may be, never who"`
}

// Event is one line of the append-only record.
type Event struct {
	Seq          int64     `json:"seq"`
	At           time.Time `json:"at"`
	Actor        string    `json:"actor"`
	Action       string    `json:"action"`
	Kind         string    `json:"kind"`
	Subject      string    `json:"subject"`
	Organization string    `json:"organization,omitempty"`
	Message      string    `json:"message"`
}

// Token is a credential's record.
type Token struct {
	ID        string    `json:"id,omitempty" readOnly:"true"`
	Spec      TokenSpec `json:"spec"`
	Secret    string    `json:"secret,omitempty" readOnly:"true" doc:"Shown once, when the token is created"`
	CreatedAt time.Time `json:"created_at,omitzero" readOnly:"true"`
}

// TokenSpec is what a token may do.
type TokenSpec struct {
	Name         string    `json:"name" doc:"Appears in events"`
	Role         string    `json:"role" enum:"admin,operator,organization-admin,organization-viewer,node,workload"`
	Organization string    `json:"organization,omitempty"`
	Tenant       string    `json:"tenant,omitempty" readOnly:"true" doc:"Of a workload's token, which is made at /v1/workload-tokens"`
	ExpiresAt    time.Time `json:"expires_at,omitzero" doc:"Left out: never"`
}

// Identity is who the caller is.
type Identity struct {
	Name         string `json:"name"`
	Role         string `json:"role"`
	Organization string `json:"organization,omitempty"`
}

// Offer is one region of the catalogue.
type Offer struct {
	Segment           string   `json:"segment"`
	Region            string   `json:"region"`
	Title             string   `json:"title"`
	ServiceName       string   `json:"vpc_endpoint_service_name"`
	AvailabilityZones []string `json:"availability_zone_ids"`
	Home              bool     `json:"home,omitempty" doc:"The tenant's own region: the first choice"`
}

// Page is one page of a list.
type Page[T any] struct {
	Items         []T    `json:"items"`
	NextPageToken string `json:"next_page_token,omitempty"`
}

// Problem is the body of every error (RFC 9457, application/problem+json).
type Problem struct {
	Type      string         `json:"type" doc:"Stable" example:"urn:postern:problem:not_found"`
	Title     string         `json:"title"`
	Status    int            `json:"status"`
	Detail    string         `json:"detail,omitempty"`
	RequestID string         `json:"request_id,omitempty"`
	Errors    []FieldProblem `json:"errors,omitempty"`
}

// FieldProblem is one thing that is wrong with a request.
type FieldProblem struct {
	Reason  string `json:"reason,omitempty" doc:"Where one field can be wrong in several ways: from the closed list in docs/outbound.md"`
	Field   string `json:"field,omitempty"`
	Value   string `json:"value,omitempty"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// EndpointUpdate changes which tenants a claimed endpoint may reach: those
// named, or all. It says one of the two.
type EndpointUpdate struct {
	Tenants    []string `json:"tenants,omitempty" doc:"At least one, unless all_tenants is true"`
	AllTenants bool     `json:"all_tenants,omitempty" doc:"All of the organization's in the segment, now and later"`
}
