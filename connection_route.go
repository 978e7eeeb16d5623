package postern

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// ConnectionRoute is a data connection as an egress node obeys it: which
// tenant's workloads reach which hostname, and through which addresses. One
// that is not ready is in the table too, so that a workload is told why.
type ConnectionRoute struct {
	ID           string   `json:"id"` // "dc_…"
	Tenant       string   `json:"tenant"`
	Organization string   `json:"organization"`
	Region       string   `json:"region"` // whose egress serves it
	Ports        []uint16 `json:"ports"`  // TCP, sorted
	// Addresses are the IPv4 addresses of the network interfaces of the
	// platform's own endpoint; never empty when Ready. Nothing else is ever
	// connected to: no name is resolved on the way.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Ready     bool         `json:"ready"`
	Reason    Reason       `json:"reason,omitempty"`  // why it is not ready
	Message   string       `json:"message,omitempty"` // for the workload: what is wrong and what to do
}

// Workload is who a credential stands for at an egress node.
type Workload struct {
	Tenant       string    `json:"tenant"`
	Organization string    `json:"organization"`
	ExpiresAt    time.Time `json:"expires_at,omitzero"` // zero: never
}

// WorkloadKey is the key of a workload in a route table: the SHA-256, in lower
// case hexadecimal, of its bearer token or of its client certificate's DER.
// The table holds no secret. A token is visible ASCII, so that a certificate,
// which is no secret, never passes for one.
func WorkloadKey(credential []byte) string {
	sum := sha256.Sum256(credential)
	return hex.EncodeToString(sum[:])
}

var (
	connectionID = regexp.MustCompile(`^dc_[A-Za-z0-9]{1,40}$`)
	workloadKey  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// CheckConnectionID reports what is wrong with a data connection's ID, which
// is "dc_" and 1 to 40 letters and digits.
func CheckConnectionID(field, v string) *Error {
	if connectionID.MatchString(v) {
		return nil
	}
	return Invalid(field, v, "not a data connection's ID", `copy it as "postern connections list" shows it`)
}

// MaxConnectionPorts bounds the ports of a data connection.
const MaxConnectionPorts = 16

// CheckConnections reports everything in the table's outbound part that makes no
// sense: such a table is not to be obeyed. Where connections lead is not looked
// at here, see [Routes.VoidConnections].
func (r Routes) CheckConnections() error {
	var es Errors
	organizations := map[string]string{} // by tenant
	belongs := func(at, tenant, organization string) {
		if o, ok := organizations[tenant]; ok && o != organization {
			es.Add(Invalid(at+".organization", organization, "not the organization of the tenant elsewhere in the table, "+o, "a tenant belongs to one organization"))
		}
		organizations[tenant] = organization
	}
	ids := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(r.Connections)) {
		c, at := r.Connections[name], fmt.Sprintf("connections[%q]", name)
		es.Add(CheckHostname(at, name))
		es.Add(unique(ids, at+".id", c.ID, "data connection"))
		c.check(at, &es)
		belongs(at, c.Tenant, c.Organization)
	}
	for _, key := range slices.Sorted(maps.Keys(r.Workloads)) {
		w, at := r.Workloads[key], fmt.Sprintf("workloads[%q]", key)
		if !workloadKey.MatchString(key) {
			es.Add(Invalid(at, key, "not a SHA-256 in lower-case hexadecimal", "give the sum of the credential, never the credential"))
		}
		es.Add(CheckLabel(at+".tenant", w.Tenant))
		es.Add(CheckLabel(at+".organization", w.Organization))
		belongs(at, w.Tenant, w.Organization)
	}
	for _, id := range slices.Sorted(maps.Keys(r.Checks)) {
		at := fmt.Sprintf("checks[%q]", id)
		es.Add(CheckConnectionID(at, id))
		r.Checks[id].check(at, &es)
	}
	return es.Err()
}

func (c ConnectionRoute) check(at string, es *Errors) {
	es.Add(CheckConnectionID(at+".id", c.ID))
	es.Add(CheckLabel(at+".tenant", c.Tenant))
	es.Add(CheckLabel(at+".organization", c.Organization))
	es.Add(CheckRegionName(at+".region", c.Region))
	es.Add(checkPorts(at+".ports", c.Ports))
	switch {
	case c.Ready && len(c.Addresses) == 0:
		es.Add(Invalid(at+".addresses", "", "none, of a connection that is ready", "give the addresses of its endpoint's interfaces"))
	case !c.Ready && c.Reason == "":
		es.Add(Invalid(at+".reason", "", "missing, of a connection that is not ready", "say why it is not"))
	}
}

// VoidConnections finds the connections that lead where none may, with the
// reason, by hostname: to an address that no endpoint has, or to one that
// another tenant's connection has, too. These are not to be obeyed; the others of
// the table are, or one connection would hold up what all others need. Addresses
// in the networks of also pass though they are forbidden otherwise; only the
// sandbox and tests, whose clouds are on loopback addresses, give any.
func (r Routes) VoidConnections(also ...netip.Prefix) map[string]*Error {
	tenants := map[netip.Addr]map[string]bool{} // whose it is
	for _, c := range r.Connections {
		for _, a := range c.Addresses {
			if tenants[a] == nil {
				tenants[a] = map[string]bool{}
			}
			tenants[a][c.Tenant] = true
		}
	}
	void := map[string]*Error{}
	for name, c := range r.Connections {
		for i, a := range c.Addresses {
			field := fmt.Sprintf("connections[%q].addresses[%d]", name, i)
			err := CheckEndpointAddress(field, a, also...)
			// An interface belongs to one endpoint, and an endpoint to the
			// connections of one tenant.
			if err == nil && len(tenants[a]) > 1 {
				err = &Error{
					Code: CodeInvalid, Reason: ReasonForbiddenTarget, Field: field, Value: a.String(),
					Message: "an address of several tenants' connections", Fix: "give the addresses of the connection's own endpoint",
				}
			}
			if err != nil {
				void[name] = err
				break
			}
		}
	}
	return void
}

func checkPorts(at string, ports []uint16) *Error {
	if n := len(ports); n == 0 || n > MaxConnectionPorts {
		return Invalid(at, strconv.Itoa(n), fmt.Sprintf("not between 1 and %d ports", MaxConnectionPorts), "give the TCP ports of the cluster, such as 443")
	}
	for i, p := range ports {
		if p == 0 || i > 0 && p <= ports[i-1] {
			return Invalid(path(at, i), strconv.Itoa(int(p)), "not sorted, doubled or zero", "give each port once, in ascending order")
		}
	}
	return nil
}

// forbiddenTargets are the networks that an egress must not be led into,
// whatever its table says. The first that holds an address names it.
var forbiddenTargets = []struct {
	network netip.Prefix
	what    string
}{
	{netip.MustParsePrefix("169.254.169.254/32"), "the instance metadata service"},
	{netip.MustParsePrefix("169.254.170.2/32"), "the container credentials service"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "the metadata, DNS and time services of EC2"},
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved or broadcast"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a 6to4 relay"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "an IPv4-mapped address"},
	{netip.MustParsePrefix("::/96"), "an IPv4-compatible address"},
	{netip.MustParsePrefix("64:ff9b::/96"), "NAT64"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "NAT64"},
	{netip.MustParsePrefix("2001::/32"), "Teredo"},
	{netip.MustParsePrefix("2002::/16"), "6to4"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

// CheckEndpointAddress reports why an egress must not connect to an address as
// that of an interface endpoint. What passes is an IPv4 address of a private
// network (RFC 1918, 6598 and 2544), which is where endpoints are: the check
// names the worst of the others and refuses all of them. Addresses in the
// networks of also pass.
func CheckEndpointAddress(field string, a netip.Addr, also ...netip.Prefix) *Error {
	const fix = "give the private IPv4 addresses of the endpoint's network interfaces"
	refuse := func(what string) *Error {
		return &Error{Code: CodeInvalid, Reason: ReasonForbiddenTarget, Field: field, Value: a.String(), Message: what + ", which is no address of an endpoint", Fix: fix}
	}
	for _, p := range also {
		if a.Is4() && p.Contains(a) {
			return nil
		}
	}
	for _, f := range forbiddenTargets {
		// Contains is never true of an IPv4-mapped address, which is why those
		// are asked for by Is4In6 below.
		if f.network.Contains(a) {
			return refuse(f.what)
		}
	}
	switch {
	case a.Is4In6():
		return refuse("an IPv4-mapped address")
	case !a.Is4():
		return refuse("not an IPv4 address")
	case !private(a):
		return refuse("a public address")
	}
	return nil
}
