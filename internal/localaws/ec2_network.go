package localaws

import (
	"slices"

	"github.com/postern-net/postern"
)

func (s *Server) ownVPCs(c *call) []VPC {
	return slices.DeleteFunc(slices.Clone(s.world.VPCs), func(v VPC) bool {
		return v.Account != c.caller.account || v.Region != c.region
	})
}

type vpcXML struct {
	ID      string    `xml:"vpcId"`
	Owner   string    `xml:"ownerId"`
	State   string    `xml:"state"`
	CIDR    string    `xml:"cidrBlock"`
	Options string    `xml:"dhcpOptionsId"`
	Tenancy string    `xml:"instanceTenancy"`
	Default bool      `xml:"isDefault"`
	Tags    list[tag] `xml:"tagSet"`
}

type describeVPCsResponse struct {
	reply
	VPCs      list[vpcXML] `xml:"vpcSet"`
	NextToken string       `xml:"nextToken,omitempty"`
}

func (v VPC) tags() map[string]string {
	if v.Name == "" {
		return nil
	}
	return map[string]string{"Name": v.Name}
}

func (s *Server) describeVPCs(c *call) (replier, error) {
	id := func(v VPC) string { return v.ID }
	found, err := only(c.form.List("VpcId"), s.ownVPCs(c), id, func(id string) *apiError {
		return fail("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", id)
	})
	if err != nil {
		return nil, err
	}
	found, err = filtered(c, found, map[string]field[VPC]{
		"vpc-id":     func(v VPC) []string { return one(v.ID) },
		"cidr":       func(v VPC) []string { return one(v.CIDR.String()) },
		"owner-id":   func(v VPC) []string { return one(v.Account) },
		"state":      func(VPC) []string { return one("available") },
		"is-default": func(VPC) []string { return yesNo(false) },
	}, VPC.tags)
	if err != nil {
		return nil, err
	}
	page, next, err := paged(c, found, id)
	if err != nil {
		return nil, err
	}
	res := &describeVPCsResponse{NextToken: next}
	res.VPCs = listOf(page, func(v VPC) vpcXML {
		return vpcXML{ID: v.ID, Owner: v.Account, State: "available", CIDR: v.CIDR.String(), Options: "default", Tenancy: "default", Tags: tagList(v.tags())}
	})
	return res, c.known()
}

// placedSubnet is a subnet and its VPC.
type placedSubnet struct {
	Subnet
	vpc VPC
}

func (s *Server) ownSubnets(c *call) []placedSubnet {
	var out []placedSubnet
	for _, v := range s.ownVPCs(c) {
		for _, sub := range v.Subnets {
			out = append(out, placedSubnet{sub, v})
		}
	}
	return out
}

type subnetXML struct {
	ID        string    `xml:"subnetId"`
	ARN       string    `xml:"subnetArn"`
	State     string    `xml:"state"`
	VPC       string    `xml:"vpcId"`
	Owner     string    `xml:"ownerId"`
	CIDR      string    `xml:"cidrBlock"`
	Available int       `xml:"availableIpAddressCount"`
	Zone      string    `xml:"availabilityZone"`
	ZoneID    string    `xml:"availabilityZoneId"`
	Default   bool      `xml:"defaultForAz"`
	PublicIP  bool      `xml:"mapPublicIpOnLaunch"`
	Tags      list[tag] `xml:"tagSet"`
}

type describeSubnetsResponse struct {
	reply
	Subnets   list[subnetXML] `xml:"subnetSet"`
	NextToken string          `xml:"nextToken,omitempty"`
}

func (s *Server) describeSubnets(c *call) (replier, error) {
	id := func(p placedSubnet) string { return p.ID }
	zoneName := func(p placedSubnet) string { return s.world.zoneName(p.vpc.Account, p.vpc.Region, p.ZoneID) }
	found, err := only(c.form.List("SubnetId"), s.ownSubnets(c), id, func(id string) *apiError {
		return fail("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
	})
	if err != nil {
		return nil, err
	}
	found, err = filtered(c, found, map[string]field[placedSubnet]{
		"subnet-id":            func(p placedSubnet) []string { return one(p.ID) },
		"vpc-id":               func(p placedSubnet) []string { return one(p.vpc.ID) },
		"availability-zone":    func(p placedSubnet) []string { return one(zoneName(p)) },
		"availability-zone-id": func(p placedSubnet) []string { return one(p.ZoneID) },
		"cidr-block":           func(p placedSubnet) []string { return one(p.CIDR.String()) },
		"owner-id":             func(p placedSubnet) []string { return one(p.vpc.Account) },
		"state":                func(placedSubnet) []string { return one("available") },
	}, func(placedSubnet) map[string]string { return nil })
	if err != nil {
		return nil, err
	}
	page, next, err := paged(c, found, id)
	if err != nil {
		return nil, err
	}
	st := s.state.Load()
	res := &describeSubnetsResponse{NextToken: next}
	res.Subnets = listOf(page, func(p placedSubnet) subnetXML {
		return subnetXML{
			ID: p.ID, ARN: "arn:" + partition(c.region) + ":ec2:" + c.region + ":" + p.vpc.Account + ":subnet/" + p.ID, State: "available",
			VPC: p.vpc.ID, Owner: p.vpc.Account, CIDR: p.CIDR.String(), Zone: zoneName(p), ZoneID: p.ZoneID,
			Available: 1<<(32-p.CIDR.Bits()) - 5 - st.interfacesIn(p.ID),
		}
	})
	return res, c.known()
}

func (st *state) interfacesIn(subnet string) int {
	n := 0
	for _, e := range st.Endpoints {
		for _, i := range e.Interfaces {
			if i.Subnet == subnet {
				n++
			}
		}
	}
	return n
}

type zoneXML struct {
	Name     string `xml:"zoneName"`
	ID       string `xml:"zoneId"`
	State    string `xml:"zoneState"`
	Region   string `xml:"regionName"`
	Type     string `xml:"zoneType"`
	OptIn    string `xml:"optInStatus"`
	Group    string `xml:"groupName"`
	Boundary string `xml:"networkBorderGroup"`
}

type describeZonesResponse struct {
	reply
	Zones list[zoneXML] `xml:"availabilityZoneInfo"`
}

func (s *Server) describeZones(c *call) (replier, error) {
	if _, _, err := c.form.Bool("AllAvailabilityZones"); err != nil {
		return nil, err
	}
	noZone := func(v string) *apiError { return fail("InvalidParameterValue", "Invalid availability zone: [%s]", v) }
	found := s.world.zoneNames(c.caller.account, c.region)
	found, err := only(c.form.List("ZoneName"), found, func(z zone) string { return z.Name }, noZone)
	if err != nil {
		return nil, err
	}
	found, err = only(c.form.List("ZoneId"), found, func(z zone) string { return z.ID }, noZone)
	if err != nil {
		return nil, err
	}
	found, err = filtered(c, found, map[string]field[zone]{
		"zone-name":     func(z zone) []string { return one(z.Name) },
		"zone-id":       func(z zone) []string { return one(z.ID) },
		"region-name":   func(zone) []string { return one(c.region) },
		"state":         func(zone) []string { return one("available") },
		"zone-type":     func(zone) []string { return one("availability-zone") },
		"opt-in-status": func(zone) []string { return one("opt-in-not-required") },
	}, nil)
	if err != nil {
		return nil, err
	}
	res := &describeZonesResponse{Zones: listOf(found, func(z zone) zoneXML {
		return zoneXML{z.Name, z.ID, "available", c.region, "availability-zone", "opt-in-not-required", c.region, c.region}
	})}
	return res, c.known()
}

type interfaceXML struct {
	ID          string                `xml:"networkInterfaceId"`
	Subnet      string                `xml:"subnetId"`
	VPC         string                `xml:"vpcId"`
	Zone        string                `xml:"availabilityZone"`
	Description string                `xml:"description"`
	Owner       string                `xml:"ownerId"`
	Managed     bool                  `xml:"requesterManaged"`
	Status      string                `xml:"status"`
	Address     string                `xml:"privateIpAddress"`
	Type        string                `xml:"interfaceType"`
	Groups      list[groupIdentifier] `xml:"groupSet"`
	Tags        list[tag]             `xml:"tagSet"`
}

type describeInterfacesResponse struct {
	reply
	Interfaces list[interfaceXML] `xml:"networkInterfaceSet"`
	NextToken  string             `xml:"nextToken,omitempty"`
}

// describeInterfaces lists the interfaces of endpoints, the only ones there
// are: it is how a client finds their addresses without DNS.
func (s *Server) describeInterfaces(c *call) (replier, error) {
	st := s.state.Load()
	var all []interfaceXML
	for _, e := range c.ownEndpoints(st) {
		if e.State == stateDeleted {
			continue
		}
		groups := s.endpointXML(st, e).Groups
		for _, n := range e.Interfaces {
			all = append(all, interfaceXML{
				ID: n.ID, Subnet: n.Subnet, VPC: e.VPC, Zone: s.world.zoneName(e.Account, e.Region, n.ZoneID),
				Description: "VPC Endpoint Interface " + e.ID, Owner: e.Account, Managed: true, Status: "in-use",
				Address: n.Address.String(), Type: "vpc_endpoint", Groups: groups,
			})
		}
	}
	id := func(i interfaceXML) string { return i.ID }
	found, err := only(c.form.List("NetworkInterfaceId"), all, id, func(id string) *apiError {
		return fail("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", id)
	})
	if err != nil {
		return nil, err
	}
	found, err = filtered(c, found, map[string]field[interfaceXML]{
		"network-interface-id": func(i interfaceXML) []string { return one(i.ID) },
		"subnet-id":            func(i interfaceXML) []string { return one(i.Subnet) },
		"vpc-id":               func(i interfaceXML) []string { return one(i.VPC) },
		"availability-zone":    func(i interfaceXML) []string { return one(i.Zone) },
		"private-ip-address":   func(i interfaceXML) []string { return one(i.Address) },
		"description":          func(i interfaceXML) []string { return one(i.Description) },
		"interface-type":       func(i interfaceXML) []string { return one(i.Type) },
		"status":               func(i interfaceXML) []string { return one(i.Status) },
	}, nil)
	if err != nil {
		return nil, err
	}
	page, next, err := paged(c, found, id)
	if err != nil {
		return nil, err
	}
	return &describeInterfacesResponse{Interfaces: listed(page), NextToken: next}, c.known()
}

// EndpointInfo is what the server itself knows about an endpoint, for tests
// and the sandbox.
type EndpointInfo struct {
	ID, Account, Region, ServiceName, State string
	Addresses                               []string // of its network interfaces
	DNSNames                                []string
}

// Endpoint tells about an endpoint of any account; the error is of the domain.
func (s *Server) Endpoint(id string) (EndpointInfo, error) {
	e := s.state.Load().Endpoints[id]
	if e == nil {
		return EndpointInfo{}, postern.NotFound("endpoint", id)
	}
	info := EndpointInfo{
		ID: id, Account: e.Account, Region: e.Region, ServiceName: serviceName(e.ServiceRegion, e.ServiceID), State: e.State,
		DNSNames: s.dnsNames(e),
	}
	for _, n := range e.Interfaces {
		info.Addresses = append(info.Addresses, n.Address.String())
	}
	return info, nil
}
