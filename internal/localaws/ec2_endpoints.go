package localaws

import (
	"maps"
	"slices"

	"github.com/postern-net/postern"
)

type dnsEntry struct {
	Name string `xml:"dnsName"`
	Zone string `xml:"hostedZoneId"`
}

type groupIdentifier struct {
	ID   string `xml:"groupId"`
	Name string `xml:"groupName"`
}

type vpcEndpoint struct {
	ID               string                `xml:"vpcEndpointId"`
	Type             string                `xml:"vpcEndpointType"`
	VPC              string                `xml:"vpcId"`
	ServiceName      string                `xml:"serviceName"`
	State            string                `xml:"state"`
	Policy           string                `xml:"policyDocument,omitempty"`
	RouteTables      list[string]          `xml:"routeTableIdSet"`
	Subnets          list[string]          `xml:"subnetIdSet"`
	Groups           list[groupIdentifier] `xml:"groupSet"`
	IPAddressType    string                `xml:"ipAddressType"`
	RecordIPType     string                `xml:"dnsOptions>dnsRecordIpType"`
	PrivateDNS       bool                  `xml:"privateDnsEnabled"`
	RequesterManaged bool                  `xml:"requesterManaged"`
	Interfaces       list[string]          `xml:"networkInterfaceIdSet"`
	DNSEntries       list[dnsEntry]        `xml:"dnsEntrySet"`
	Created          string                `xml:"creationTimestamp"`
	Tags             list[tag]             `xml:"tagSet"`
	Owner            string                `xml:"ownerId"`
	LastError        *lastError            `xml:"lastError"`
	ServiceRegion    string                `xml:"serviceRegion"`
}

type lastError struct {
	Message string `xml:"message"`
	Code    string `xml:"code"`
}

func (s *Server) endpointXML(st *state, e *endpoint) vpcEndpoint {
	out := vpcEndpoint{
		ID: e.ID, Type: "Interface", VPC: e.VPC, ServiceName: serviceName(e.ServiceRegion, e.ServiceID), State: e.State,
		Policy: e.Policy, IPAddressType: "ipv4", RecordIPType: "ipv4", DNSEntries: s.dnsEntries(e),
		Created: timestamp(e.Created), Tags: tagList(e.Tags), Owner: e.Account, ServiceRegion: e.ServiceRegion,
	}
	for _, n := range e.Interfaces {
		out.Subnets.Items = append(out.Subnets.Items, n.Subnet)
		out.Interfaces.Items = append(out.Interfaces.Items, n.ID)
	}
	out.Groups = listOf(e.Groups, func(id string) groupIdentifier {
		g := groupIdentifier{ID: id}
		if have := st.Groups[id]; have != nil {
			g.Name = have.Name
		}
		return g
	})
	if e.Failure != "" {
		out.LastError = &lastError{Message: e.Failure, Code: "InternalError"}
	}
	return out
}

// dnsEntries are empty for the first moments of an endpoint, and after its
// last.
func (s *Server) dnsEntries(e *endpoint) list[dnsEntry] {
	if e.DNSFrom.After(s.now()) || e.State == stateDeleted {
		return list[dnsEntry]{}
	}
	return listOf(s.dnsNames(e), func(name string) dnsEntry { return dnsEntry{name, hostedZoneID(e.Region)} })
}

func (c *call) ownEndpoints(st *state) []*endpoint {
	var out []*endpoint
	for _, e := range st.Endpoints {
		if e.Account == c.caller.account && e.Region == c.region {
			out = append(out, e)
		}
	}
	return out
}

// ownEndpoint finds an endpoint of the caller's that is not deleted.
func (c *call) ownEndpoint(st *state, id string) (*endpoint, error) {
	e := st.Endpoints[id]
	switch {
	case id == "":
		return nil, missing("VpcEndpointId")
	case postern.CheckVPCEndpointID("", id) != nil:
		return nil, fail("InvalidVpcEndpointId.Malformed", "Invalid Id: \"%s\" (expecting \"vpce-...\")", id)
	case e == nil || e.Account != c.caller.account || e.Region != c.region:
		return nil, noEndpoint(id)
	}
	return e, nil
}

type describeEndpointsResponse struct {
	reply
	Endpoints list[vpcEndpoint] `xml:"vpcEndpointSet"`
	NextToken string            `xml:"nextToken,omitempty"`
}

func (s *Server) describeEndpoints(c *call) (replier, error) {
	st := s.state.Load()
	ids := c.form.List("VpcEndpointId")
	for _, id := range ids {
		if postern.CheckVPCEndpointID("", id) != nil {
			return nil, fail("InvalidVpcEndpointId.Malformed", "Invalid Id: \"%s\" (expecting \"vpce-...\")", id)
		}
	}
	visible := slices.DeleteFunc(c.ownEndpoints(st), func(e *endpoint) bool { return s.hidden.hides(consumerSide, e.ID) })
	found, err := only(ids, visible, func(e *endpoint) string { return e.ID }, noEndpoint)
	if err != nil {
		return nil, err
	}
	found, err = filtered(c, found, map[string]field[*endpoint]{
		"vpc-endpoint-id":    func(e *endpoint) []string { return one(e.ID) },
		"vpc-endpoint-state": func(e *endpoint) []string { return one(e.State) },
		"vpc-endpoint-type":  func(*endpoint) []string { return one("Interface") },
		"vpc-id":             func(e *endpoint) []string { return one(e.VPC) },
		"service-name":       func(e *endpoint) []string { return one(serviceName(e.ServiceRegion, e.ServiceID)) },
		"service-region":     func(e *endpoint) []string { return one(e.ServiceRegion) },
		"ip-address-type":    func(*endpoint) []string { return one("ipv4") },
	}, func(e *endpoint) map[string]string { return e.Tags })
	if err != nil {
		return nil, err
	}
	page, next, err := paged(c, found, func(e *endpoint) string { return e.ID })
	if err != nil {
		return nil, err
	}
	res := &describeEndpointsResponse{NextToken: next}
	res.Endpoints = listOf(page, func(e *endpoint) vpcEndpoint { return s.endpointXML(st, e) })
	return res, c.known()
}

func (s *Server) modifyEndpoint(c *call) (replier, error) {
	id := c.form.String("VpcEndpointId")
	addSubnets, removeSubnets := c.form.List("AddSubnetId"), c.form.List("RemoveSubnetId")
	addGroups, removeGroups := c.form.List("AddSecurityGroupId"), c.form.List("RemoveSecurityGroupId")
	policy, setPolicy := c.form.Lookup("PolicyDocument")
	reset, _, err := c.form.Bool("ResetPolicy")
	if err != nil {
		return nil, err
	}
	if err := c.refusePrivateDNS(); err != nil {
		return nil, err
	}
	if err := c.onlyIPv4("IpAddressType", "DnsOptions.DnsRecordIpType"); err != nil {
		return nil, err
	}
	if err := c.known(); err != nil {
		return nil, err
	}
	return done(), s.update(func(st *state) error {
		e, err := c.ownEndpoint(st, id)
		if err != nil {
			return err
		}
		if !e.connected() || e.State == stateDeleting {
			return fail("IncorrectState", "The VPC endpoint %s is in state %s", id, e.State)
		}
		v, _ := s.world.vpc(e.VPC)
		if err := c.setGroups(st, e, change(e.Groups, addGroups, removeGroups)); err != nil {
			return err
		}
		e.Interfaces = slices.DeleteFunc(e.Interfaces, func(n netInterface) bool { return slices.Contains(removeSubnets, n.Subnet) })
		if err := s.addInterfaces(st, e, v, st.Services[e.ServiceID], addSubnets); err != nil {
			return err
		}
		if setPolicy || reset {
			e.Policy = policy
		}
		return nil
	})
}

func (s *Server) deleteEndpoints(c *call) (replier, error) {
	ids := c.form.List("VpcEndpointId")
	if len(ids) == 0 {
		return nil, missing("VpcEndpointId")
	}
	if err := c.known(); err != nil {
		return nil, err
	}
	res := &unsuccessful{}
	return res, s.update(func(st *state) error {
		for _, id := range ids {
			e, err := c.ownEndpoint(st, id)
			switch {
			case err != nil || e.State == stateDeleted:
				res.add(id, fail("InvalidVpcEndpoint.NotFound", "The Vpc Endpoint Id '%s' does not exist", id))
			case e.State != stateDeleting: // twice is no failure
				e.remove(c.at, s.timing)
			}
		}
		return nil
	})
}

// visibleServices are those that the caller may create endpoints to from the
// call's region.
func (s *Server) visibleServices(c *call, st *state, regions []string) []*service {
	if len(regions) == 0 {
		regions = []string{c.region}
	}
	return slices.DeleteFunc(slices.Collect(maps.Values(st.Services)), func(svc *service) bool {
		return !slices.Contains(regions, svc.Region) || !svc.offeredIn(c.region) || !svc.allows(c.caller)
	})
}

// offeredIn tells whether endpoints to the service may be made in a region.
func (svc *service) offeredIn(region string) bool {
	return slices.Contains(svc.Regions, serviceRegion{region, "Available"})
}

type serviceDetail struct {
	Name               string       `xml:"serviceName"`
	ID                 string       `xml:"serviceId"`
	Type               list[typed]  `xml:"serviceType"`
	Region             string       `xml:"serviceRegion"`
	ZoneIDs            list[string] `xml:"availabilityZoneIdSet"`
	Zones              list[string] `xml:"availabilityZoneSet"`
	Owner              string       `xml:"owner"`
	BaseNames          list[string] `xml:"baseEndpointDnsNameSet"`
	PolicySupported    bool         `xml:"vpcEndpointPolicySupported"`
	AcceptanceRequired bool         `xml:"acceptanceRequired"`
	ManagesEndpoints   bool         `xml:"managesVpcEndpoints"`
	Tags               list[tag]    `xml:"tagSet"`
	IPAddressTypes     list[string] `xml:"supportedIpAddressTypeSet"`
}

type describeServicesResponse struct {
	reply
	Names     list[string]        `xml:"serviceNameSet"`
	Details   list[serviceDetail] `xml:"serviceDetailSet"`
	NextToken string              `xml:"nextToken,omitempty"`
}

func (s *Server) describeServices(c *call) (replier, error) {
	st := s.state.Load()
	name := func(svc *service) string { return serviceName(svc.Region, svc.ID) }
	visible := s.visibleServices(c, st, c.form.List("ServiceRegion"))
	found, err := only(c.form.List("ServiceName"), visible, name, noServiceName)
	if err != nil {
		return nil, err
	}
	found, err = filtered(c, found, map[string]field[*service]{
		"owner":                      func(svc *service) []string { return one(svc.Account) },
		"service-name":               func(svc *service) []string { return one(name(svc)) },
		"service-region":             func(svc *service) []string { return one(svc.Region) },
		"service-type":               func(*service) []string { return one("Interface") },
		"supported-ip-address-types": func(*service) []string { return one("ipv4") },
	}, func(svc *service) map[string]string { return svc.Tags })
	if err != nil {
		return nil, err
	}
	page, next, err := paged(c, found, name)
	if err != nil {
		return nil, err
	}
	res := &describeServicesResponse{Names: listOf(page, name), NextToken: next}
	res.Details = listOf(page, func(svc *service) serviceDetail {
		// Only zones that both sides have.
		ids, names := s.zonesSeen(c.caller.account, svc.Region, svc.ZoneIDs)
		return serviceDetail{
			Name: name(svc), ID: svc.ID, Type: interfaceType(), Region: svc.Region, ZoneIDs: listed(ids), Zones: listed(names),
			Owner: svc.Account, BaseNames: listed([]string{serviceDomain(svc.Region, svc.ID)}),
			AcceptanceRequired: svc.AcceptanceRequired, Tags: tagList(svc.Tags), IPAddressTypes: listed([]string{"ipv4"}),
		}
	})
	return res, c.known()
}
