package postern

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ConnectionKind is what a data connection leads to.
type ConnectionKind string

// KindStarburstTrino is a Starburst or Trino cluster behind HTTPS.
const KindStarburstTrino ConnectionKind = "starburst-trino"

// connectionKinds are the kinds there are, with their names for people. Another
// one is a row here and a check of what answers at its endpoint.
var connectionKinds = []struct {
	kind  ConnectionKind
	title string
}{
	{KindStarburstTrino, "Starburst (Trino)"},
}

// ConnectionKinds lists every kind.
func ConnectionKinds() []ConnectionKind {
	out := make([]ConnectionKind, len(connectionKinds))
	for i, k := range connectionKinds {
		out[i] = k.kind
	}
	return out
}

// Title is the kind's name for people.
func (k ConnectionKind) Title() string {
	for _, known := range connectionKinds {
		if known.kind == k {
			return known.title
		}
	}
	return string(k)
}

// DataConnectionState sums the conditions of a data connection up in a word.
type DataConnectionState string

// The states of a [DataConnection], in the order of a good life.
const (
	DataConnectionRequested         DataConnectionState = "requested"              // the hostname is not proven yet
	DataConnectionAwaitsPermission  DataConnectionState = "awaiting-authorization" // the customer's service does not admit the platform's principal
	DataConnectionProvisioning      DataConnectionState = "provisioning"           // the endpoint is being made
	DataConnectionPendingAcceptance DataConnectionState = "pending-acceptance"     // the customer has to accept it
	DataConnectionVerifying         DataConnectionState = "verifying"              // connected; what answers is not found good yet
	DataConnectionReady             DataConnectionState = "ready"                  // workloads reach the cluster
	DataConnectionDegraded          DataConnectionState = "degraded"               // it was ready; workloads are refused
	DataConnectionFailed            DataConnectionState = "failed"                 // it goes no further until what a condition names is mended
	DataConnectionRemoving          DataConnectionState = "removing"
)

// DataConnectionStates lists every state.
func DataConnectionStates() []DataConnectionState {
	return []DataConnectionState{
		DataConnectionRequested, DataConnectionAwaitsPermission, DataConnectionProvisioning, DataConnectionPendingAcceptance,
		DataConnectionVerifying, DataConnectionReady, DataConnectionDegraded, DataConnectionFailed, DataConnectionRemoving,
	}
}

// DataConnection lets one tenant's workloads reach a customer's cluster through
// an interface endpoint that the platform makes to the customer's endpoint
// service, and in no other way.
type DataConnection struct {
	ID           string // "dc_…"
	Organization string
	Tenant       string
	Kind         ConnectionKind
	Region       string     // of the service and of the endpoint
	Zones        []string   // Availability Zone IDs of the customer's load balancer, sorted
	Service      ServiceRef // the customer's endpoint service
	Hostname     string     // of the cluster, in lower case
	Ports        []uint16   // TCP, sorted
	CreatedBy    string
	CreatedAt    time.Time
	Removing     bool // desired to be gone

	// What was observed last.
	// ProvenAt is when the hostname's challenge was found in DNS; zero before.
	// It holds from then on: the record may go.
	ProvenAt     time.Time
	ServiceOwner string // AWS account; "" until the service was seen as a proven account's
	// MadeSince is from when on something of the connection may be at AWS. It
	// is stored before AWS is asked to make the first thing.
	MadeSince       time.Time
	SecurityGroupID string
	EndpointID      string
	DNSNames        []string     // of the endpoint, the regional one first
	Addresses       []netip.Addr // of the endpoint's network interfaces, sorted
	MissingSince    time.Time    // when a listing first lacked what is or may be there; zero otherwise
	ReadyAt         time.Time    // when it was ready first
	State           DataConnectionState
	Conditions      []Condition

	VerifyAsked time.Time // when somebody last asked to look again
	CheckedAt   time.Time // when DNS, the service or the cluster was last looked at, and somebody answered

	ResourceVersion int64 // CheckedAt changes without it
}

// RemovedConnection remembers a connection of which something was at AWS. A call
// that was on its way when the connection was removed may take effect later;
// what it makes carries the connection's ID, and is deleted because of this
// record. What carries an ID without one is left alone.
type RemovedConnection struct {
	ID        string
	Region    string
	RemovedAt time.Time
}

// ConnectionRequest asks for a data connection. Protocol and IPAddressType are
// there to be refused with a reason when they are not the only ones that there
// are (the seeds: TCP over IPv4).
type ConnectionRequest struct {
	Tenant        string // whose workloads are to reach it
	Kind          string
	Region        string
	Zones         []string
	Service       string // name or ID
	Hostname      string
	Ports         []int
	Protocol      string // "" or "tcp"
	IPAddressType string // "" or "ipv4"
}

// MaxConnectionZones bounds the zones of one request; no region has as many.
const MaxConnectionZones = 16

// Parse checks a request by itself and against the platform, and makes the
// connection that it asks for. Everything that is wrong is reported at once,
// each with a reason. Whose the tenant is, and whether the hostname is free, is for
// the store.
func (r ConnectionRequest) Parse(p *Platform) (DataConnection, error) {
	var es Errors
	c := DataConnection{
		Tenant: r.Tenant, Kind: ConnectionKind(r.Kind), Region: r.Region, Hostname: r.Hostname,
		State: DataConnectionRequested, Zones: slices.Sorted(slices.Values(r.Zones)),
	}
	es.Add(CheckLabel("spec.tenant", r.Tenant))
	if !slices.Contains(ConnectionKinds(), c.Kind) {
		es.Add(because(ReasonUnknownKind, Invalid("spec.kind", r.Kind, "no such kind of data connection", "use "+kindNames())))
	}
	network := r.checkRegion(p, &es)
	r.checkZones(network, &es)
	ref, err := ParseServiceRef("spec.vpc_endpoint_service_name", r.Service, r.Region)
	es.Add(err)
	c.Service = ref
	es.Add(CheckConnectionHostname("spec.hostname", r.Hostname))
	es.Add(p.checkNotOurs("spec.hostname", r.Hostname))
	c.Ports = r.checkPorts(&es)
	if r.Protocol != "" && r.Protocol != "tcp" {
		es.Add(because(ReasonUnsupportedProtocol, Invalid("spec.protocol", r.Protocol, "only TCP connections are supported", `give the cluster's TCP ports and leave the protocol out, or send "tcp"`)))
	}
	if r.IPAddressType != "" && r.IPAddressType != "ipv4" {
		es.Add(because(ReasonUnsupportedAddressType, Invalid("spec.ip_address_type", r.IPAddressType, "only IPv4 is supported", `have the endpoint service support IPv4 and leave the type out, or send "ipv4"`)))
	}
	return c, es.Err()
}

func because(reason Reason, e *Error) *Error {
	if e != nil {
		e.Reason = reason
	}
	return e
}

func kindNames() string {
	names := make([]string, len(connectionKinds))
	for i, k := range connectionKinds {
		names[i] = string(k.kind)
	}
	return strings.Join(names, ", ")
}

func (r ConnectionRequest) checkRegion(p *Platform, es *Errors) *OutboundNetwork {
	if e := CheckRegionName("spec.region", r.Region); e != nil {
		es.Add(because(ReasonUnsupportedRegion, e))
		return nil
	}
	if !slices.Contains(p.Outbound.Regions, r.Region) {
		fix := "data connections are supported in " + strings.Join(p.Outbound.Regions, ", ")
		if len(p.Outbound.Regions) == 0 {
			fix = "this platform makes no data connections; ask the vendor"
		} else if near := nearest(r.Region, p.Outbound.Regions); near != "" {
			fix = "the nearest supported region is " + near + "; all of them: " + strings.Join(p.Outbound.Regions, ", ")
		}
		es.Add(because(ReasonUnsupportedRegion, Invalid("spec.region", r.Region, "not a region in which the platform makes data connections", fix)))
		return nil
	}
	network, ok := p.OutboundNetwork(r.Region)
	if !ok {
		es.Add(because(ReasonRegionNotSetUp, Invalid("spec.region", r.Region, "the platform has no network for data connections in this region yet", "ask the vendor to set it up (outbound.networks of the platform file)")))
		return nil
	}
	return &network
}

// checkZones demands IDs, each once, and one at least that the platform has a
// subnet in: an endpoint in a zone that its service lacks fails as a whole, and
// late (AWS).
func (r ConnectionRequest) checkZones(network *OutboundNetwork, es *Errors) {
	const field = "spec.availability_zone_ids"
	switch n := len(r.Zones); {
	case n == 0:
		es.Add(because(ReasonMissing, Invalid(field, "", "no Availability Zone", `give the IDs of the zones that your load balancer is in, such as "use1-az3"`)))
		return
	case n > MaxConnectionZones:
		es.Add(because(ReasonNotAZone, Invalid(field, strconv.Itoa(n), fmt.Sprintf("more than %d Availability Zones", MaxConnectionZones), "give those that your load balancer is in")))
		return
	}
	seen, good := map[string]bool{}, true
	for i, z := range r.Zones {
		at := path(field, i)
		if e := CheckZoneID(at, z); e != nil {
			reason := ReasonNotAZone
			if zoneName.MatchString(z) {
				reason = ReasonZoneName
			}
			es.Add(because(reason, e))
			good = false
			continue
		}
		es.Add(because(ReasonDuplicate, unique(seen, at, z, "Availability Zone ID")))
	}
	if network == nil || !good || len(network.SubnetsIn(r.Zones)) > 0 {
		return
	}
	es.Add(because(ReasonNoCommonZone, Invalid(field, strings.Join(r.Zones, ","), "none of these is a zone in which the platform has a subnet in "+r.Region,
		"extend your load balancer to one of "+strings.Join(network.ZoneIDs(), ", ")+" and name that")))
}

func (r ConnectionRequest) checkPorts(es *Errors) []uint16 {
	const field = "spec.ports"
	switch n := len(r.Ports); {
	case n == 0:
		es.Add(because(ReasonMissing, Invalid(field, "", "no port", "give the cluster's TCP ports, such as 443")))
	case n > MaxConnectionPorts:
		es.Add(because(ReasonNotAPort, Invalid(field, strconv.Itoa(n), fmt.Sprintf("more than %d ports", MaxConnectionPorts), "give only those that workloads connect to")))
		return nil
	}
	var ports []uint16
	for i, n := range r.Ports {
		at, text := path(field, i), strconv.Itoa(n)
		switch {
		case n < 1 || n > 65535:
			es.Add(because(ReasonNotAPort, Invalid(at, text, "not a TCP port", "give a number from 1 to 65535")))
		case slices.Contains(ports, uint16(n)):
			es.Add(because(ReasonDuplicate, Invalid(at, text, "duplicate port", "name it once")))
		default:
			ports = append(ports, uint16(n))
		}
	}
	slices.Sort(ports)
	return ports
}

// checkNotOurs refuses a hostname of the platform itself: a connection there
// would lead a tenant's workloads back to the platform.
func (p *Platform) checkNotOurs(field, hostname string) *Error {
	ours := within(hostname, p.Domains.Hosted) || within(hostname, p.Domains.PrivateLink)
	for _, a := range p.Apps {
		ours = ours || slices.Contains(a.Hosts, hostname)
	}
	if !ours {
		return nil
	}
	return because(ReasonPlatformName, Invalid(field, hostname, "a hostname of the platform itself", "give the hostname of your own cluster"))
}

// CheckConnectionSegment refuses a connection in another global segment than its
// tenant's: the tenant's traffic would pass between segments. A region that is in
// no segment is the vendor's to offer.
func (p *Platform) CheckConnectionSegment(field, region string, t Tenant) *Error {
	_, from, home := p.Region(t.Region)
	_, to, known := p.Region(region)
	if !home || !known || from.ID == to.ID {
		return nil
	}
	var here []string
	for _, r := range from.Regions {
		if slices.Contains(p.Outbound.Regions, r.ID) {
			here = append(here, r.ID)
		}
	}
	return because(ReasonAnotherSegment, Invalid(field, region, "in segment "+to.ID+", and tenant "+t.Name+" is in segment "+from.ID,
		"offer the cluster in a region of the tenant's segment: "+strings.Join(here, ", ")))
}

// ParseServiceRef takes an endpoint service's name or, with the region that it
// is in, its ID. The seeds call a name an ID, so both are taken everywhere.
func ParseServiceRef(field, v, region string) (ServiceRef, *Error) {
	if serviceID.MatchString(v) {
		return ServiceRef{Region: region, ID: v, Name: serviceNameIn(region, v)}, nil
	}
	ref, err := ParseServiceName(field, v)
	if err != nil {
		err.Fix = `copy ServiceName or ServiceId as AWS shows it, such as "com.amazonaws.vpce.us-east-1.vpce-svc-0471015b106ad1d47"`
		return ref, because(ReasonNotAService, err)
	}
	if ref.Region != region {
		return ref, because(ReasonServiceOfAnotherRegion, Invalid(field, v, "a service of "+ref.Region+", not of "+region, "name the service's own region; the endpoint is made beside it"))
	}
	return ref, nil
}

// serviceNameIn is the name of an endpoint service of a region; China's have a
// prefix of their own (AWS).
func serviceNameIn(region, id string) string {
	name := "com.amazonaws.vpce." + region + "." + id
	if strings.HasPrefix(region, "cn-") {
		name = "cn." + name
	}
	return name
}

// ChallengeName is the name at which the TXT record that proves a hostname is
// looked for.
func ChallengeName(hostname string) string { return "_postern-challenge." + hostname }

// ChallengeValue is the text that proves to a platform that an organization may
// have a connection to a hostname. It need not be secret, only of that
// organization and no other: what proves is that somebody could publish it
// under the hostname. The organization's creation is part of it, so that the
// next organization of the same name finds no record good that was not made for
// it.
func ChallengeValue(platform string, o Organization, hostname string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "postern data connection\x00%s\x00%s\x00%d\x00%s", platform, o.ID, o.CreatedAt.UnixMicro(), hostname))
	return "postern-verify=" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20]))
}

// HostnameTaken is the refusal of a second connection of an organization to one
// hostname: a workload that asks for the hostname must mean one of them.
func HostnameTaken(hostname, id string) *Error {
	return &Error{
		Code: CodeConflict, Reason: ReasonHostnameTaken, Field: "spec.hostname", Value: hostname,
		Message: "the organization has a data connection to this hostname already: " + id, Fix: "use that one, or delete it first (`postern connections delete " + id + "`)",
	}
}

// EndpointService is somebody's endpoint service as a consumer sees it
// (DescribeVpcEndpointServices).
type EndpointService struct {
	Ref                ServiceRef
	Owner              string   // AWS account
	Interface          bool     // interface endpoints can be made to it
	IPv4               bool     // and speak IPv4
	AcceptanceRequired bool     // its owner accepts each
	Zones              []string // Availability Zone IDs, sorted
}

// OutboundEndpoint is an interface endpoint that the platform made, as AWS lists
// it in the platform's account.
type OutboundEndpoint struct {
	ID           string
	ConnectionID string // from its tag
	ServiceName  string
	State        ConnectionState
	Groups       []string // security groups
	Subnets      []string
	DNSNames     []string     // regional one first; empty at first (AWS)
	Addresses    []netip.Addr // of its network interfaces, sorted
	Failure      string       // what AWS says went wrong
	CreatedAt    time.Time
}

// NewOutboundEndpoint is an interface endpoint to make for a data connection.
type NewOutboundEndpoint struct {
	Platform     string
	ConnectionID string // also what makes AWS make it once
	Service      ServiceRef
	VPC          string
	Subnets      []string // one in each zone at most, each in a zone of the service: one that is not fails the whole (AWS)
	Group        string   // security group
}

// OutboundGroup is a security group that the platform made for one endpoint.
type OutboundGroup struct {
	ID           string
	ConnectionID string      // from its tag
	Rules        []GroupRule // inbound, sorted
}

// GroupRule admits one peer to a range of ports.
type GroupRule struct {
	Protocol string // "tcp", "udp", "icmp", a number, or "-1": all
	From, To int    // ports, both inclusive; -1: all
	Peer     string // a security group, a network of either family, or a prefix list
}
