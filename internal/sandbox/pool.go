package sandbox

import (
	"fmt"
	"net/netip"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/localaws"
)

// ground is where the sandbox's addresses are: the networks that VPCs are cut
// from, and the internet, which is what lies outside of every VPC.
type ground struct {
	networks   netip.Prefix
	client     netip.Addr // on the internet
	resolver   netip.Addr // the public one
	nameserver netip.Addr // of the platform's public zones
	ingress    netip.Addr // of node-a, plus the region's number, from 1
	scim       netip.Addr // likewise
	ingressB   netip.Addr // of node-b, likewise
	aws        netip.Addr // AWS's API
}

// maxPoolBits leaves each half of a pool room for one VPC (a /20), which is
// also more than the internet needs.
const maxPoolBits = 19

// groundOf divides a pool: its first half is for VPCs, its second one is the
// internet. It must have room for the platform's VPCs and the customers'. Without
// a pool everything is on loopback addresses.
func groundOf(pool netip.Prefix, p *postern.Platform) (ground, error) {
	if !pool.IsValid() {
		g := internetAt(netip.MustParseAddr("127.64.0.0"))
		g.networks, g.aws = localaws.DefaultPool(), loopback
		return g, nil
	}
	if !pool.Addr().Is4() || pool != pool.Masked() || pool.Bits() > maxPoolBits || pool.Bits() == 0 {
		return ground{}, postern.Invalid("--pool", pool.String(), "not an IPv4 network of at least a /19 without host bits",
			"give one that is this machine's alone, such as 198.18.0.0/15")
	}
	vpcs := len(p.RegionIDs())
	for _, c := range customers(p) {
		vpcs += len(c.networks)
	}
	if room := 1 << (maxPoolBits - pool.Bits()); room < vpcs {
		return ground{}, postern.Invalid("--pool", pool.String(), fmt.Sprintf("has room for %d VPCs, and the platform and its customers have %d", room, vpcs),
			"give a larger network, such as 198.18.0.0/15")
	}
	half := netip.PrefixFrom(pool.Addr(), pool.Bits()+1)
	base := pool.Addr().As4()
	bit := half.Bits() - 1 // the one that the halves differ in
	base[bit/8] |= 1 << (7 - bit%8)
	g := internetAt(netip.AddrFrom4(base))
	g.networks = half
	return g, nil
}

// internetAt gives the internet's hosts their addresses in a block.
func internetAt(base netip.Addr) ground {
	at := func(third, fourth byte) netip.Addr {
		a := base.As4()
		a[2] |= third // the block is at least a /20
		a[3] = fourth
		return netip.AddrFrom4(a)
	}
	return ground{
		client: at(0, 10), resolver: at(0, 2), nameserver: at(0, 53),
		ingress: at(1, 0), scim: at(2, 0), ingressB: at(3, 0), aws: at(4, 1),
	}
}
