package localaws

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
)

// DefaultPool is where a [Builder] takes networks from: loopback addresses,
// which need no configuration on Linux.
func DefaultPool() netip.Prefix { return netip.MustParsePrefix("127.80.0.0/12") }

// Each VPC is a /20, and each zone's subnet a /24 of it.
const (
	vpcBits    = 20
	subnetBits = 24
)

// Builder makes a [World]. Identifiers follow from names alone, so the same
// calls make the same world; secrets follow from the seed as well. Mistakes
// are reported by World.
type Builder struct {
	seed  string
	pool  netip.Prefix
	world World
	next  uint32 // VPCs made
	err   error
}

// NewBuilder starts a world with [DefaultRegions]. The seed makes the secrets
// of access keys: give one that others cannot guess where it matters. Networks
// come from the pool, in the order of the calls.
func NewBuilder(seed string, pool netip.Prefix) *Builder {
	b := &Builder{seed: seed, pool: pool.Masked(), world: World{Regions: DefaultRegions()}}
	if !pool.IsValid() || !pool.Addr().Is4() || pool.Bits() > vpcBits {
		b.err = fmt.Errorf("address pool %s: not an IPv4 network of at least a /%d", pool, vpcBits)
	}
	return b
}

// digest is the source of every deterministic identifier.
func digest(parts ...string) []byte {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

func stableID(prefix string, parts ...string) string {
	return prefix + "0" + hex.EncodeToString(digest(append([]string{prefix}, parts...)...)[:8])
}

// StableAccountID is the account ID that a builder gives to a name.
func StableAccountID(name string) string {
	n := binary.BigEndian.Uint64(digest("account", name)[:8]) % 900_000_000_000
	return fmt.Sprintf("%012d", 100_000_000_000+n)
}

// StableServiceID is the endpoint service ID that a builder gives by default.
func StableServiceID(account, region, name string) string {
	return stableID("vpce-svc-", account, region, name)
}

// AddAccount adds an account with one access key that acts as its root.
func (b *Builder) AddAccount(name string) Account {
	return b.AddAccountWithID(name, StableAccountID(name))
}

// AddAccountWithID adds an account with a given ID.
func (b *Builder) AddAccountWithID(name, id string) Account {
	b.world.Accounts = append(b.world.Accounts, Account{ID: id, Name: name})
	b.AddAccessKey(id, "")
	a, _ := b.world.account(id)
	return a
}

// AddAccessKey adds a key to an account, acting as a principal of it, or as
// its root when the ARN is "".
func (b *Builder) AddAccessKey(account, principalARN string) AccessKey {
	key := AccessKey{
		ID:        "AKIA" + base32.StdEncoding.EncodeToString(digest("access key", account, principalARN))[:16],
		Secret:    base64.StdEncoding.EncodeToString(digest("secret", b.seed, account, principalARN))[:40],
		Principal: principalARN,
	}
	for i := range b.world.Accounts {
		if b.world.Accounts[i].ID == account {
			b.world.Accounts[i].AccessKeys = append(b.world.Accounts[i].AccessKeys, key)
			return key
		}
	}
	b.fail("access key: no account %s", account)
	return key
}

// AddVPC adds a network with a subnet in each of the zones, or in all of the
// region's when none is given.
func (b *Builder) AddVPC(account, region, name string, zoneIDs ...string) VPC {
	if len(zoneIDs) == 0 {
		r, _ := b.world.region(region)
		zoneIDs = r.ZoneIDs
	}
	if b.err == nil && b.next >= 1<<(vpcBits-b.pool.Bits()) {
		b.fail("address pool %s has no room for VPC %s", b.pool, name)
	}
	if len(zoneIDs) > 1<<(subnetBits-vpcBits) {
		b.fail("VPC %s: %d zones are more than a /%d has room for", name, len(zoneIDs), vpcBits)
	}
	if b.err != nil {
		return VPC{}
	}
	base := nth(b.pool, b.next<<(32-vpcBits))
	b.next++
	v := VPC{
		ID: stableID("vpc-", account, region, name), Name: name, Account: account, Region: region,
		CIDR:                 netip.PrefixFrom(base, vpcBits),
		DefaultSecurityGroup: stableID("sg-", account, region, name),
	}
	for i, z := range zoneIDs {
		v.Subnets = append(v.Subnets, Subnet{
			ID: stableID("subnet-", account, region, name, z), ZoneID: z,
			CIDR: netip.PrefixFrom(nth(v.CIDR, uint32(i)<<(32-subnetBits)), subnetBits),
		})
	}
	b.world.VPCs = append(b.world.VPCs, v)
	return v
}

// AddGroup adds a security group to a VPC that hosts are in, and returns its ID.
func (b *Builder) AddGroup(vpc, name string, hosts ...netip.Addr) string {
	id := stableID("sg-", vpc, name)
	for i := range b.world.VPCs {
		if b.world.VPCs[i].ID == vpc {
			b.world.VPCs[i].Groups = append(b.world.VPCs[i].Groups, HostGroup{ID: id, Name: name, Hosts: hosts})
			return id
		}
	}
	b.fail("security group %s: no VPC %s", name, vpc)
	return id
}

// Host is the n-th address of the VPC's subnet in a zone, or in the first one
// when the zone is "". 4 is the first that AWS leaves to its users.
func (v VPC) Host(zoneID string, n uint8) netip.Addr {
	for _, s := range v.Subnets {
		if zoneID == "" || s.ZoneID == zoneID {
			return nth(s.CIDR, uint32(n))
		}
	}
	return netip.Addr{}
}

// AddLoadBalancer adds a Network Load Balancer of a VPC's owner with a node in
// each of the zones; nodeHost is the number of the node's address in the
// zone's subnet (see [VPC.Host]).
func (b *Builder) AddLoadBalancer(v VPC, name string, nodeHost uint8, zoneIDs []string, listeners ...LoadListener) LoadBalancer {
	l := LoadBalancer{
		ARN: fmt.Sprintf("arn:%s:elasticloadbalancing:%s:%s:loadbalancer/net/%s/%s", partition(v.Region), v.Region, v.Account, name,
			hex.EncodeToString(digest("load balancer", v.ID, name)[:8])),
		Account: v.Account, Region: v.Region, Listeners: listeners,
	}
	for _, z := range zoneIDs {
		l.Nodes = append(l.Nodes, Node{ZoneID: z, Address: v.Host(z, nodeHost)})
	}
	b.world.LoadBalancers = append(b.world.LoadBalancers, l)
	return l
}

// AddEndpointService adds an endpoint service.
func (b *Builder) AddEndpointService(s EndpointService) {
	b.world.EndpointServices = append(b.world.EndpointServices, s)
}

// World is the finished, validated world.
func (b *Builder) World() (World, error) {
	if b.err != nil {
		return World{}, b.err
	}
	return b.world, b.world.Validate()
}

func (b *Builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}
