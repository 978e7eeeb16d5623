package sandbox

import (
	"net/netip"
	"slices"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/localaws"
)

// Hosts in the zones of the platform's VPC, and of the customers', for the way
// out; by the last byte of the address.
const (
	egressHost   = 22 // the egress node
	boundHost    = 60 // its listener for the first tenant; then one for each
	workloadHost = 70 // likewise, where the tenant's workloads run
	clusterHost  = 40 // in a customer's VPC
)

// clusterNames are the hostnames of the customers' clusters: names that RFC
// 2606 sets aside, so that they are nobody's.
var clusterNames = map[string]string{"example-corp": "starburst.example.com", "globex": "trino.example.net"}

// outboundPlaces says where everything of the way out is: in the first region
// of the first segment.
type outboundPlaces struct {
	region    string
	vpc       localaws.VPC          // the platform's there
	zones     []string              // that the clusters' load balancers and the platform have
	proxy     netip.Addr            // the egress node; also where its connections come from
	bound     map[string]netip.Addr // its listener, by tenant
	workloads map[string]netip.Addr // by tenant
	clusters  map[string]clusterPlace
}

// clusterPlace is a customer's cluster behind its endpoint service.
type clusterPlace struct {
	tenant   string // whose workloads are to reach it
	hostname string
	service  localaws.EndpointService
	at       netip.Addr
}

// layOutbound adds the way out to a world: for each customer that has a cluster
// a load balancer and an endpoint service in its own account, which nobody is
// allowed on yet.
func (pl *places) layOutbound(b *localaws.Builder, p *postern.Platform, vpc localaws.VPC, port uint16) {
	home := p.Segments[0].Regions[0]
	o := outboundPlaces{
		region: home.ID, vpc: vpc, zones: home.AvailabilityZones[:min(2, len(home.AvailabilityZones))],
		bound: map[string]netip.Addr{}, workloads: map[string]netip.Addr{}, clusters: map[string]clusterPlace{},
	}
	zone := home.AvailabilityZones[0]
	o.proxy = vpc.Host(zone, egressHost)
	for i, c := range customers(p) {
		hostname, ok := clusterNames[c.id]
		if !ok {
			continue
		}
		tenant, network := c.tenants[0].Name, pl.networks[c.networks[0].name]
		o.bound[tenant], o.workloads[tenant] = vpc.Host(zone, boundHost+uint8(i)), vpc.Host(zone, workloadHost+uint8(i))
		cluster := clusterPlace{tenant: tenant, hostname: hostname, at: network.Host(o.zones[0], clusterHost)}
		lb := b.AddLoadBalancer(network, "starburst", nodeHost, o.zones, localaws.LoadListener{
			Port: port, Targets: []netip.AddrPort{netip.AddrPortFrom(cluster.at, port)}, Plain: true,
		})
		cluster.service = localaws.EndpointService{
			ID: localaws.StableServiceID(network.Account, home.ID, "starburst"), Account: network.Account, Region: home.ID,
			LoadBalancers: []string{lb.ARN}, AcceptanceRequired: true,
		}
		b.AddEndpointService(cluster.service)
		o.clusters[c.id] = cluster
	}
	pl.outbound = o
	pl.platform.Outbound = outboundOf(p, vpc, b.AddGroup(vpc.ID, "egress", o.proxy))
}

// outboundOf is what the platform says of its way out in this world: the
// platform file's regions, and the one where the sandbox has everything.
func outboundOf(p *postern.Platform, vpc localaws.VPC, group string) postern.Outbound {
	regions := slices.Clone(p.Outbound.Regions)
	if !slices.Contains(regions, vpc.Region) {
		regions = append(regions, vpc.Region)
	}
	network := postern.OutboundNetwork{Region: vpc.Region, VPC: vpc.ID, EgressGroup: group}
	for _, s := range vpc.Subnets {
		network.Subnets = append(network.Subnets, postern.OutboundSubnet{ID: s.ID, Zone: s.ZoneID})
	}
	return postern.Outbound{
		Regions: regions, Principal: postern.AccountPrincipal(vpc.Region, vpc.Account), Networks: []postern.OutboundNetwork{network},
	}
}
