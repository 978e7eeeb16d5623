package localaws

import (
	"net/netip"
	"slices"

	"github.com/postern-net/postern"
)

// maxEndpoints is AWS's quota of interface endpoints for one VPC.
const maxEndpoints = 50

type createEndpointResponse struct {
	reply
	Endpoint    vpcEndpoint `xml:"vpcEndpoint"`
	ClientToken string      `xml:"clientToken,omitempty"`
}

// endpointRequest is a CreateVpcEndpoint as it was sent.
type endpointRequest struct {
	vpc, serviceName, serviceRegion string
	subnets, groups                 []string
	policy                          string
	tags                            map[string]string
}

func (s *Server) createEndpoint(c *call) (replier, error) {
	req, err := c.endpointRequest()
	if err != nil {
		return nil, err
	}
	token := c.form.String("ClientToken")
	if err := c.known(); err != nil {
		return nil, err
	}
	res := &createEndpointResponse{ClientToken: token}
	return res, s.update(func(st *state) error {
		id, err := c.once(st, func() (string, error) {
			e, err := s.newEndpoint(c, st, req)
			if err != nil {
				return "", err
			}
			st.Endpoints[e.ID] = e
			s.hidden.add(e.ID, s.timing.HiddenDescribes)
			return e.ID, nil
		})
		if err != nil {
			return err
		}
		res.Endpoint = s.endpointXML(st, st.Endpoints[id])
		return nil
	})
}

func (c *call) endpointRequest() (endpointRequest, error) {
	f := c.form
	req := endpointRequest{
		vpc: f.String("VpcId"), serviceName: f.String("ServiceName"), serviceRegion: f.String("ServiceRegion"),
		subnets: f.List("SubnetId"), groups: f.List("SecurityGroupId"), policy: f.String("PolicyDocument"),
	}
	switch {
	case req.vpc == "":
		return req, missing("VpcId")
	case req.serviceName == "":
		return req, missing("ServiceName")
	}
	switch kind := f.String("VpcEndpointType"); kind {
	case "Interface":
	case "", "Gateway": // the default
		return req, invalidParameter("Endpoint type (Gateway) does not match available service types ([Interface]).")
	case "GatewayLoadBalancer", "Resource", "ServiceNetwork":
		return req, invalidParameter("Endpoint type (%s) does not match available service types ([Interface]).", kind)
	default:
		return req, fail("InvalidVpcEndpointType", "The VPC endpoint type '%s' is not valid", kind)
	}
	if err := c.refusePrivateDNS(); err != nil {
		return req, invalidParameter("Private DNS can't be enabled because the service %s does not provide a private DNS name.", req.serviceName)
	}
	if err := c.onlyIPv4("IpAddressType", "DnsOptions.DnsRecordIpType"); err != nil {
		return req, err
	}
	var err error
	req.tags, err = c.tags("vpc-endpoint")
	return req, err
}

func (c *call) refusePrivateDNS() error {
	on, _, err := c.form.Bool("PrivateDnsEnabled")
	if err != nil {
		return err
	}
	if on {
		return invalidParameter("Private DNS can't be enabled because the service does not provide a private DNS name.")
	}
	return nil
}

func (s *Server) newEndpoint(c *call, st *state, req endpointRequest) (*endpoint, error) {
	v, ok := s.world.vpc(req.vpc)
	if !ok || v.Account != c.caller.account || v.Region != c.region {
		return nil, fail("InvalidVpcId.NotFound", "The vpc ID '%s' does not exist", req.vpc)
	}
	svc, err := s.serviceFor(c, st, req)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, e := range st.Endpoints {
		if e.VPC == v.ID && e.State != stateDeleted {
			n++
		}
	}
	if n >= maxEndpoints {
		return nil, fail("VpcEndpointLimitExceeded", "The maximum number of VPC endpoints of the VPC %s has been reached: %d", v.ID, maxEndpoints)
	}
	e := &endpoint{
		ID: newID("vpce-"), ConnectionID: newID("vpce-con-"), Account: c.caller.account, Region: c.region, VPC: v.ID,
		ServiceID: svc.ID, ServiceAccount: svc.Account, ServiceRegion: svc.Region,
		State: statePendingAcceptance, DNSToken: newDNSToken(), DNSFrom: c.at.Add(s.timing.DNS),
		Policy: req.policy, Tags: req.tags, Created: c.at,
	}
	groups := req.groups
	if len(groups) == 0 {
		groups = []string{v.DefaultSecurityGroup}
	}
	if err := c.setGroups(st, e, groups); err != nil {
		return nil, err
	}
	if err := s.addInterfaces(st, e, v, svc, req.subnets); err != nil {
		return nil, err
	}
	if !svc.AcceptanceRequired {
		e.accept(c.at, s.timing)
	}
	return e, nil
}

// serviceFor finds the service that a request names. One that exists, and that
// the caller may not use, does not exist for him.
func (s *Server) serviceFor(c *call, st *state, req endpointRequest) (*service, error) {
	region := req.serviceRegion
	if region == "" {
		region = c.region
	}
	ref, bad := postern.ParseServiceName("", req.serviceName)
	svc := st.Services[ref.ID]
	if bad != nil || svc == nil || ref.Region != region || svc.Region != region || !svc.offeredIn(c.region) || !svc.allows(c.caller) {
		return nil, noServiceName(req.serviceName)
	}
	return svc, nil
}

// setGroups gives an endpoint its security groups.
func (c *call) setGroups(st *state, e *endpoint, ids []string) error {
	if len(ids) == 0 {
		return invalidParameter("An interface endpoint requires at least one security group")
	}
	for _, id := range ids {
		g := st.Groups[id]
		if g == nil || g.Account != c.caller.account || g.Region != c.region {
			return noGroup(id)
		}
		if g.VPC != e.VPC {
			return invalidParameter("The security group %s does not belong to the VPC %s", id, e.VPC)
		}
	}
	e.Groups = slices.Compact(slices.Clone(ids))
	return nil
}

// addInterfaces puts an endpoint into subnets; one that does not fit fails
// them all.
func (s *Server) addInterfaces(st *state, e *endpoint, v VPC, svc *service, subnets []string) error {
	for _, id := range subnets {
		sub, ok := v.subnet(id)
		if !ok {
			if s.subnetExists(e, id) {
				return invalidParameter("The subnet %s does not belong to the VPC %s", id, v.ID)
			}
			return fail("InvalidSubnetId.NotFound", "The subnet ID '%s' does not exist", id)
		}
		if slices.ContainsFunc(e.Interfaces, func(n netInterface) bool { return n.ZoneID == sub.ZoneID }) {
			return fail("DuplicateSubnetsInSameZone", "Found another VPC endpoint subnet in the availability zone of %s", id)
		}
		// Across regions zones need not match (AWS).
		if svc == nil || (svc.Region == e.Region && !slices.Contains(svc.ZoneIDs, sub.ZoneID)) {
			return invalidParameter("The VPC endpoint service %s does not support the availability zone of the subnet: %s.", serviceName(e.ServiceRegion, e.ServiceID), id)
		}
		addr, ok := s.freeAddress(st, e, sub)
		if !ok {
			return fail("InsufficientFreeAddressesInSubnet", "The subnet %s has no free address", id)
		}
		e.Interfaces = append(e.Interfaces, netInterface{ID: newID("eni-"), Subnet: id, ZoneID: sub.ZoneID, Address: addr})
	}
	return nil
}

func (s *Server) subnetExists(e *endpoint, id string) bool {
	return slices.ContainsFunc(s.world.VPCs, func(v VPC) bool {
		_, ok := v.subnet(id)
		return ok && v.Account == e.Account && v.Region == e.Region
	})
}

// freeAddress takes the highest address of a subnet that nothing has. Those of
// deleted endpoints are free only when their rows are gone, so that a client
// with an old address does not meet a stranger.
func (s *Server) freeAddress(st *state, e *endpoint, sub Subnet) (netip.Addr, bool) {
	taken := map[netip.Addr]bool{}
	for _, o := range st.Endpoints {
		for _, n := range o.Interfaces {
			taken[n.Address] = true
		}
	}
	for _, n := range e.Interfaces {
		taken[n.Address] = true
	}
	for _, l := range s.world.LoadBalancers {
		for _, n := range l.Nodes {
			taken[n.Address] = true
		}
		for _, ln := range l.Listeners {
			for _, t := range ln.Targets {
				taken[t.Addr()] = true
			}
		}
	}
	lowest := nth(sub.CIDR, 4)
	for a := lastOf(sub.CIDR).Prev(); a.Compare(lowest) >= 0; a = a.Prev() {
		if !taken[a] {
			return a, true
		}
	}
	return netip.Addr{}, false
}
