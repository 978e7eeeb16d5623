package postern

import (
	"net/netip"
	"time"
)

// Routes is everything that a data-plane node obeys, compiled by internal/plan
// from what is stored. A node that has it needs nothing else.
type Routes struct {
	Revision  int64                    `json:"revision"`  // grows with every change that matters to a node
	Hosts     map[string]Host          `json:"hosts"`     // by server name, lower case
	Endpoints map[string]EndpointGrant `json:"endpoints"` // by vpce-…

	// The other way, from the vendor's workloads to the customers.
	Connections map[string]ConnectionRoute `json:"connections,omitempty"` // by hostname, lower case
	Workloads   map[string]Workload        `json:"workloads,omitempty"`   // by WorkloadKey
	// Checks are the clusters that egress nodes look at, ready or not, by the
	// connection's ID. Nothing is connected to because of them for a workload.
	Checks map[string]ConnectionCheck `json:"checks,omitempty"`
	// SCIM holds the hosts of the SCIM-only public ingress, by server name.
	SCIM map[string]SCIMRoute `json:"scim,omitempty"`
}

// Host is a server name and where it leads.
type Host struct {
	Tenant       string `json:"tenant,omitempty"`
	Organization string `json:"organization"` // "" where organizations share it
	Public       bool   `json:"public"`       // reachable by the public listener
	// Drain lets public connections live on that were open when the host
	// stopped being public; zero: none.
	Drain    Drain            `json:"drain,omitzero"`
	Backends []netip.AddrPort `json:"backends"`
	// Shared: organizations share the host. It has neither tenant nor
	// organization: the backend decides by the organization of the endpoint,
	// which it is told, and serves no organization's data to who came publicly.
	Shared bool `json:"shared,omitempty"`
	// RegionBackends are the backends of a shared host, by the region of the
	// door that a connection arrives at; a region without any is not in it.
	RegionBackends map[string][]netip.AddrPort `json:"region_backends,omitempty"`
}

// Drain is the grace of connections that were opened before a moment.
type Drain struct {
	Before time.Time `json:"before,omitzero"` // opened earlier than this
	Until  time.Time `json:"until,omitzero"`  // and cut at this
}

// EndpointGrant is what a ready endpoint may reach.
type EndpointGrant struct {
	Organization string   `json:"organization"`
	Region       string   `json:"region"` // service region: the only one it may arrive in
	Hosts        []string `json:"hosts"`  // sorted
}

// Denial is why a connection was refused. The wire never tells; the log, the
// metrics and the organization's token holders do.
type Denial string

// The closed list of denials.
const (
	DenyUntrustedSource Denial = "untrusted_source"    // a PROXY header from an address that is no load balancer
	DenyBadProxyHeader  Denial = "bad_proxy_header"    // missing, garbage or a wrong CRC
	DenyNoEndpoint      Denial = "no_endpoint"         // a header without an endpoint ID
	DenyUnknownEndpoint Denial = "unknown_endpoint"    // no ready endpoint of that ID
	DenyWrongRegion     Denial = "wrong_region"        // the endpoint belongs to another region's service
	DenyNotTLS          Denial = "not_tls"             // the client does not speak TLS
	DenyBadHello        Denial = "bad_client_hello"    // malformed or too large
	DenyNoServerName    Denial = "no_server_name"      // a hello without SNI
	DenyUnknownHost     Denial = "unknown_host"        // no such host on the platform
	DenyNotAuthorized   Denial = "not_authorized"      // the endpoint may not reach that host
	DenyNotPublic       Denial = "not_public"          // the host is not reachable publicly
	DenyHelloTimeout    Denial = "hello_timeout"       // the hello did not arrive in time
	DenyBackendDown     Denial = "backend_unreachable" // admitted, but no backend answered
	DenyOverload        Denial = "overload"            // the node is at its connection limit

	// Those of the SCIM-only public ingress, which sees requests.
	DenySource   Denial = "source_not_allowed" // the client's address is not in the identity provider's networks
	DenyTLS      Denial = "tls_failed"         // the TLS handshake did not succeed
	DenyHost     Denial = "host_mismatch"      // another Host than the server name
	DenyMethod   Denial = "method_not_allowed" // not a method of SCIM
	DenyPath     Denial = "path_not_allowed"   // not a path of SCIM, or one that can be read in two ways
	DenyTooLarge Denial = "request_too_large"  // header or body over the limit
	DenyRate     Denial = "rate_limited"       // too many requests
	DenySlowBody Denial = "body_timeout"       // the body did not arrive in time

	// Of an egress.
	DenyBadRequest      Denial = "bad_request"          // to a proxy: no CONNECT, or a malformed one; to the SCIM ingress: malformed or ambiguous HTTP
	DenyAnonymous       Denial = "anonymous_workload"   // no token and no certificate
	DenyUnknownWorkload Denial = "unknown_workload"     // a credential of nobody, or one that expired
	DenyNameMismatch    Denial = "server_name_mismatch" // the hello names another host than the request
	DenyWrongPort       Denial = "wrong_port"           // no port of the connection
	DenyNotReady        Denial = "not_ready"            // the connection is not ready; its conditions say why
	DenyForbiddenTarget Denial = "forbidden_target"     // an address that no connection leads to
)

// Denials lists every denial.
func Denials() []Denial {
	return []Denial{
		DenyUntrustedSource, DenyBadProxyHeader, DenyNoEndpoint, DenyUnknownEndpoint, DenyWrongRegion,
		DenyNotTLS, DenyBadHello, DenyNoServerName, DenyUnknownHost, DenyNotAuthorized, DenyNotPublic,
		DenyHelloTimeout, DenyBackendDown, DenyOverload,
		DenyBadRequest, DenyAnonymous, DenyUnknownWorkload, DenyNameMismatch, DenyWrongPort, DenyNotReady, DenyForbiddenTarget,
		DenySource, DenyTLS, DenyHost, DenyMethod, DenyPath, DenyTooLarge, DenyRate, DenySlowBody,
	}
}

// ArrivalCount is how often connections of one kind arrived at a node, as
// nodes report it: aggregated and bounded, never one by one.
type ArrivalCount struct {
	Region       string // of the ingress or egress
	Listener     string // one of the Listener constants
	EndpointID   string // private listener
	Source       string // client address; not of the private listener
	ServerName   string // SNI
	Denial       Denial // "": admitted
	Organization string // of the endpoint, else of the host; "" when neither is known
	Count        int64  // that were opened or refused; 0: one that was opened before is still there
	FirstSeen    time.Time
	LastSeen     time.Time
	JA4          string // fingerprint of one of the clients' TLS: a hint, never an identity; "": not known
}
