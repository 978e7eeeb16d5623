package localaws

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/postern-net/postern/internal/strictyaml"
)

// World is what exists before anybody calls the API: accounts, regions,
// networks, load balancers, endpoint services. It is read from YAML, strictly,
// or made by a [Builder]. It does not change while a server runs.
type World struct {
	Accounts         []Account         `yaml:"accounts"`
	Regions          []Region          `yaml:"regions"`
	VPCs             []VPC             `yaml:"vpcs"`
	LoadBalancers    []LoadBalancer    `yaml:"load_balancers,omitempty"`
	EndpointServices []EndpointService `yaml:"endpoint_services,omitempty"`
}

// Account is an AWS account.
type Account struct {
	ID         string      `yaml:"id"`   // 12 digits
	Name       string      `yaml:"name"` // for people, and for fault rules
	AccessKeys []AccessKey `yaml:"access_keys"`
	// HiddenZones are zones that the account does not have, as old accounts
	// lack some of a large region.
	HiddenZones []string `yaml:"hidden_availability_zone_ids,omitempty"`
}

// AccessKey is a credential of an account and the principal it acts as.
type AccessKey struct {
	ID           string `yaml:"id"`
	Secret       string `yaml:"secret"`
	SessionToken string `yaml:"session_token,omitempty"`
	Principal    string `yaml:"principal_arn,omitempty"` // user, role or assumed role; default: the account's root
}

// Region is an AWS region and its zones. What names the zones have differs per
// account, as at AWS.
type Region struct {
	Name    string   `yaml:"name"`
	ZoneIDs []string `yaml:"availability_zone_ids"`
}

// VPC is a network. Its resolver answers at the base address plus two.
type VPC struct {
	ID                   string       `yaml:"id"`
	Name                 string       `yaml:"name,omitempty"` // its Name tag
	Account              string       `yaml:"account"`        // account ID
	Region               string       `yaml:"region"`
	CIDR                 netip.Prefix `yaml:"cidr"`
	DefaultSecurityGroup string       `yaml:"default_security_group"`
	Subnets              []Subnet     `yaml:"subnets"`
	Groups               []HostGroup  `yaml:"security_groups,omitempty"`
}

// HostGroup is a security group that some hosts of a VPC are in from the start.
// A host that is in none is in the VPC's default one.
type HostGroup struct {
	ID    string       `yaml:"id"`
	Name  string       `yaml:"name"`
	Hosts []netip.Addr `yaml:"hosts"`
}

// Subnet is a part of a VPC in one zone. Its first four addresses and the last
// one are AWS's; interface endpoints are given addresses from the upper end
// downwards, so the lower ones are for hosts.
type Subnet struct {
	ID     string       `yaml:"id"`
	ZoneID string       `yaml:"availability_zone_id"`
	CIDR   netip.Prefix `yaml:"cidr"`
}

// LoadBalancer is a Network Load Balancer.
type LoadBalancer struct {
	ARN       string         `yaml:"arn"`
	Account   string         `yaml:"account"`
	Region    string         `yaml:"region"`
	Nodes     []Node         `yaml:"nodes"` // one per zone
	Listeners []LoadListener `yaml:"listeners"`
}

// Node is a load balancer's presence in one zone. Address, if given, is what
// targets see as the source of connections.
type Node struct {
	ZoneID  string     `yaml:"availability_zone_id"`
	Address netip.Addr `yaml:"address"`
}

// LoadListener forwards a TCP port to targets.
type LoadListener struct {
	Port    uint16           `yaml:"port"`
	Targets []netip.AddrPort `yaml:"targets"`
	// Plain sends no PROXY header ahead: proxy_protocol_v2.enabled is off,
	// which is AWS's default.
	Plain bool `yaml:"plain,omitempty"`
}

// EndpointService is an endpoint service that exists from the start.
type EndpointService struct {
	ID                 string   `yaml:"id"`
	Account            string   `yaml:"account"`
	Region             string   `yaml:"region"`
	LoadBalancers      []string `yaml:"load_balancer_arns"`
	AcceptanceRequired bool     `yaml:"acceptance_required"`
	AllowedPrincipals  []string `yaml:"allowed_principals,omitempty"`
	// SupportedRegions are further regions in which endpoints may be created.
	SupportedRegions []string `yaml:"supported_regions,omitempty"`
}

// LoadWorld reads and validates a world file. Every problem in it is in the
// returned [*strictyaml.Error], with its line.
func LoadWorld(path string) (World, error) {
	data, err := strictyaml.Read(path)
	if err != nil {
		return World{}, fmt.Errorf("world file: %w", err)
	}
	var w World
	doc, err := strictyaml.Decode(path, data, &w, strictyaml.Options{
		Kind:  "world file",
		Start: "start from the one that every sandbox writes, world.yaml",
	})
	if err != nil {
		return World{}, err
	}
	if err := w.Validate(); err != nil {
		return World{}, doc.Locate(err)
	}
	return w, nil
}

// Write stores the world as a file that LoadWorld reads, readable by its owner
// only, for it holds secrets.
func (w World) Write(path string) error {
	data, err := strictyaml.Encode(w)
	if err != nil {
		return fmt.Errorf("world file: %w", err)
	}
	return writeFile(path, data)
}

func (w *World) account(id string) (Account, bool) {
	i := slices.IndexFunc(w.Accounts, func(a Account) bool { return a.ID == id })
	if i < 0 {
		return Account{}, false
	}
	return w.Accounts[i], true
}

func (w *World) region(name string) (Region, bool) {
	i := slices.IndexFunc(w.Regions, func(r Region) bool { return r.Name == name })
	if i < 0 {
		return Region{}, false
	}
	return w.Regions[i], true
}

func (w *World) vpc(id string) (VPC, bool) {
	i := slices.IndexFunc(w.VPCs, func(v VPC) bool { return v.ID == id })
	if i < 0 {
		return VPC{}, false
	}
	return w.VPCs[i], true
}

func (w *World) loadBalancer(arn string) (LoadBalancer, bool) {
	i := slices.IndexFunc(w.LoadBalancers, func(l LoadBalancer) bool { return l.ARN == arn })
	if i < 0 {
		return LoadBalancer{}, false
	}
	return w.LoadBalancers[i], true
}

func (v VPC) subnet(id string) (Subnet, bool) {
	i := slices.IndexFunc(v.Subnets, func(s Subnet) bool { return s.ID == id })
	if i < 0 {
		return Subnet{}, false
	}
	return v.Subnets[i], true
}

// inGroup tells whether a host of the VPC is in a security group.
func (v VPC) inGroup(host netip.Addr, group string) bool {
	alone := true
	for _, g := range v.Groups {
		if slices.Contains(g.Hosts, host) {
			if g.ID == group {
				return true
			}
			alone = false
		}
	}
	return alone && group == v.DefaultSecurityGroup
}

// Resolver is the address of the VPC's resolver.
func (v VPC) Resolver() netip.Addr { return nth(v.CIDR, 2) }

// ServiceName is the name by which consumers know the service.
func (e EndpointService) ServiceName() string { return serviceName(e.Region, e.ID) }

func (l LoadBalancer) zoneIDs() []string {
	ids := make([]string, len(l.Nodes))
	for i, n := range l.Nodes {
		ids[i] = n.ZoneID
	}
	return ids
}

// nth is the n-th address of an IPv4 network, counted from its base.
func nth(p netip.Prefix, n uint32) netip.Addr {
	b := p.Masked().Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+n)
	return netip.AddrFrom4(b)
}

// lastOf is the last address of an IPv4 network.
func lastOf(p netip.Prefix) netip.Addr { return nth(p, 1<<(32-p.Bits())-1) }
