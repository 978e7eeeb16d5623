package sandbox

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/localaws"
)

// customer is an organization of the sandbox's world and the AWS account that
// it has there.
type customer struct {
	id, title string
	tenants   []postern.Tenant
	networks  []network
}

// network is a VPC of a customer.
type network struct{ name, region string }

// customers makes the sandbox's organizations for a platform: two in its first
// segment, so that one can try what is the other's, and one in each further
// segment.
func customers(p *postern.Platform) []customer {
	first := p.Segments[0]
	home := first.Regions[0].ID
	other := first.Regions[len(first.Regions)-1].ID
	all := []customer{
		{
			id: "example-corp", title: "Example Corp",
			tenants:  []postern.Tenant{{Name: "example", Region: home}, {Name: "example-dev", Region: other}},
			networks: []network{{"example-corp", home}, {"example-corp-isolated", other}},
		},
		{
			id: "globex", title: "Globex",
			tenants:  []postern.Tenant{{Name: "globex", Region: home}},
			networks: []network{{"globex", home}},
		},
	}
	names := []struct{ id, title string }{{"initech", "Initech"}, {"umbrella", "Umbrella"}, {"hooli", "Hooli"}, {"stark", "Stark"}}
	for i, s := range p.Segments[1:] {
		if i == len(names) {
			break
		}
		n, r := names[i], s.Regions[0].ID
		all = append(all, customer{id: n.id, title: n.title, tenants: []postern.Tenant{{Name: n.id, Region: r}}, networks: []network{{n.id, r}}})
	}
	return all
}

// Hosts in each of the platform's VPCs, by the last byte of the address.
const (
	ingressHost  = 20 // node-a
	ingressHostB = 21 // node-b
	backendHost  = 30
	sharedHosts  = 40 // the first app that organizations share
	nodeHost     = 5  // the load balancer
	clientHost   = 10
)

// nodePlaces are the addresses of an ingress node's doors, by region.
type nodePlaces struct {
	private, public map[string]netip.Addr
}

// places says where everything of the world is.
type places struct {
	world    localaws.World
	platform *postern.Platform // with the backends and load balancer sources of this world
	accounts map[string]localaws.Account
	networks map[string]localaws.VPC // by network name
	private  map[string]netip.Addr   // ingress, by region; node-a's
	public   map[string]netip.Addr   // likewise
	nodes    map[string]nodePlaces   // by node
	scim     map[string]netip.Addr
	backends map[string]netip.Addr            // by region
	shared   map[string]map[string]netip.Addr // apps that organizations share, by app and region
	outbound outboundPlaces
}

// layOut builds the world of a platform: its account with a VPC, a load
// balancer and an endpoint service in each region, and the customers' accounts
// and networks.
func layOut(p *postern.Platform, seed string, g ground, port uint16) (places, error) {
	b := localaws.NewBuilder(seed, g.networks)
	own := *p
	own.Segments = slices.Clone(p.Segments)
	out := places{
		platform: &own, accounts: map[string]localaws.Account{}, networks: map[string]localaws.VPC{},
		private: map[string]netip.Addr{}, public: map[string]netip.Addr{}, scim: map[string]netip.Addr{}, backends: map[string]netip.Addr{},
		shared: map[string]map[string]netip.Addr{},
	}
	second := nodePlaces{private: map[string]netip.Addr{}, public: map[string]netip.Addr{}}
	out.nodes = map[string]nodePlaces{nodeA: {private: out.private, public: out.public}, nodeB: second}
	app, ok := p.TenantApp()
	if !ok {
		return out, fmt.Errorf("platform %s has no app with a host per tenant", p.Name)
	}
	vendor := b.AddAccount("platform")
	out.accounts["platform"] = vendor
	public, scim, publicB := g.ingress, g.scim, g.ingressB
	var home localaws.VPC // in the first region
	for i, s := range own.Segments {
		own.Segments[i].Regions = slices.Clone(s.Regions)
		for j := range own.Segments[i].Regions {
			r := &own.Segments[i].Regions[j]
			vpc := b.AddVPC(vendor.ID, r.ID, "platform-"+r.ID, r.AvailabilityZones...)
			if i == 0 && j == 0 {
				home = vpc
			}
			out.private[r.ID], out.backends[r.ID] = vpc.Host(r.AvailabilityZones[0], ingressHost), vpc.Host(r.AvailabilityZones[0], backendHost)
			public, scim, publicB = public.Next(), scim.Next(), publicB.Next()
			out.public[r.ID], out.scim[r.ID] = public, scim
			second.private[r.ID], second.public[r.ID] = vpc.Host(r.AvailabilityZones[0], ingressHostB), publicB
			lb := b.AddLoadBalancer(vpc, "ingress-"+r.ID, nodeHost, r.AvailabilityZones,
				localaws.LoadListener{Port: port, Targets: []netip.AddrPort{
					netip.AddrPortFrom(out.private[r.ID], port), netip.AddrPortFrom(second.private[r.ID], port),
				}})
			b.AddEndpointService(localaws.EndpointService{
				ID: r.Service().ID, Account: vendor.ID, Region: r.ID, LoadBalancers: []string{lb.ARN}, AcceptanceRequired: true,
			})
			r.Backends = map[string][]netip.AddrPort{app.ID: {netip.AddrPortFrom(out.backends[r.ID], port)}}
			for n, a := range sharedApps(p) {
				at := vpc.Host(r.AvailabilityZones[0], sharedHosts+uint8(n))
				if out.shared[a.ID] == nil {
					out.shared[a.ID] = map[string]netip.Addr{}
				}
				out.shared[a.ID][r.ID] = at
				r.Backends[a.ID] = []netip.AddrPort{netip.AddrPortFrom(at, port)}
			}
			r.PublicIngress = []netip.Addr{public}
			if own.Domains.SCIM != "" {
				r.SCIMIngress = []netip.Addr{scim}
			}
			r.LoadBalancerSources = nil
			for _, n := range lb.Nodes {
				r.LoadBalancerSources = append(r.LoadBalancerSources, netip.PrefixFrom(n.Address, 32))
			}
		}
	}
	for _, c := range customers(p) {
		a := b.AddAccount(c.id)
		out.accounts[c.id] = a
		for _, n := range c.networks {
			out.networks[n.name] = b.AddVPC(a.ID, n.region, n.name)
		}
	}
	out.layOutbound(b, p, home, port)
	world, err := b.World()
	out.world = world
	for name, a := range maps.Clone(out.accounts) {
		i := slices.IndexFunc(world.Accounts, func(w localaws.Account) bool { return w.ID == a.ID })
		if i >= 0 {
			out.accounts[name] = world.Accounts[i]
		}
	}
	return out, err
}

// source is the address in a network that a client connects from.
func (pl places) source(network string) netip.Addr {
	v := pl.networks[network]
	if len(v.Subnets) == 0 {
		return netip.Addr{}
	}
	return v.Host(v.Subnets[0].ZoneID, clientHost)
}
