package postern

import (
	"regexp"
	"slices"
)

// OutboundNetwork is a VPC of the platform in which the endpoints of data
// connections are made.
type OutboundNetwork struct {
	Region  string           `yaml:"region"`
	VPC     string           `yaml:"vpc_id"`
	Subnets []OutboundSubnet `yaml:"subnets"` // one for each zone
	// EgressGroup is the security group of the egress nodes: the only one that
	// the endpoints admit.
	EgressGroup string `yaml:"egress_security_group_id"`
}

// OutboundSubnet is a subnet and the zone that it is in.
type OutboundSubnet struct {
	ID   string `yaml:"subnet_id"`
	Zone string `yaml:"availability_zone_id"`
}

// OutboundNetwork finds the network of a region.
func (p *Platform) OutboundNetwork(region string) (OutboundNetwork, bool) {
	i := slices.IndexFunc(p.Outbound.Networks, func(n OutboundNetwork) bool { return n.Region == region })
	if i < 0 {
		return OutboundNetwork{}, false
	}
	return p.Outbound.Networks[i], true
}

// ZoneIDs lists the zones that the network has a subnet in, sorted.
func (n OutboundNetwork) ZoneIDs() []string {
	ids := make([]string, len(n.Subnets))
	for i, s := range n.Subnets {
		ids[i] = s.Zone
	}
	slices.Sort(ids)
	return ids
}

// SubnetsIn lists the IDs of the network's subnets in some zones, sorted.
func (n OutboundNetwork) SubnetsIn(zones []string) (ids []string) {
	for _, s := range n.Subnets {
		if slices.Contains(zones, s.Zone) {
			ids = append(ids, s.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

func (p *Platform) validateNetworks(es *Errors) {
	regions := map[string]bool{}
	for i, n := range p.Outbound.Networks {
		at := path("outbound.networks", i)
		es.Add(CheckRegionName(at+".region", n.Region))
		es.Add(unique(regions, at+".region", n.Region, "region"))
		if regionName.MatchString(n.Region) && !slices.Contains(p.Outbound.Regions, n.Region) {
			es.Add(Invalid(at+".region", n.Region, "not among outbound.regions", "add it there, or take the network out"))
		}
		es.Add(checkID(at+".vpc_id", n.VPC, vpcID, "VPC", "vpc-0a1b2c3d4e5f60718"))
		es.Add(checkID(at+".egress_security_group_id", n.EgressGroup, groupID, "security group", "sg-0a1b2c3d4e5f60718"))
		if len(n.Subnets) == 0 {
			es.Add(Invalid(at+".subnets", "", "no subnet", "list one subnet for each zone in which endpoints may be made"))
		}
		zones, subnets := map[string]bool{}, map[string]bool{}
		for j, s := range n.Subnets {
			at := path(at+".subnets", j)
			es.Add(checkID(at+".subnet_id", s.ID, subnetID, "subnet", "subnet-0a1b2c3d4e5f60718"))
			es.Add(unique(subnets, at+".subnet_id", s.ID, "subnet"))
			es.Add(CheckZoneID(at+".availability_zone_id", s.Zone))
			// AWS puts at most one interface of an endpoint into a zone.
			es.Add(unique(zones, at+".availability_zone_id", s.Zone, "Availability Zone ID"))
		}
	}
}

func checkID(field, v string, form *regexp.Regexp, kind, example string) *Error {
	if form.MatchString(v) {
		return nil
	}
	return Invalid(field, v, "not the ID of a "+kind, `copy it as AWS shows it, such as "`+example+`"`)
}
