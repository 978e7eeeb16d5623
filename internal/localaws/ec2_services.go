package localaws

import (
	"slices"

	"github.com/postern-net/postern"
)

type typed struct {
	Type string `xml:"serviceType"`
}

func interfaceType() list[typed] { return listed([]typed{{"Interface"}}) }

type serviceConfiguration struct {
	Type               list[typed]       `xml:"serviceType"`
	ID                 string            `xml:"serviceId"`
	Name               string            `xml:"serviceName"`
	State              string            `xml:"serviceState"`
	ZoneIDs            list[string]      `xml:"availabilityZoneIdSet"`
	Zones              list[string]      `xml:"availabilityZoneSet"`
	AcceptanceRequired bool              `xml:"acceptanceRequired"`
	ManagesEndpoints   bool              `xml:"managesVpcEndpoints"`
	LoadBalancers      list[string]      `xml:"networkLoadBalancerArnSet"`
	IPAddressTypes     list[string]      `xml:"supportedIpAddressTypeSet"`
	BaseNames          list[string]      `xml:"baseEndpointDnsNameSet"`
	Regions            list[regionState] `xml:"supportedRegionSet"`
	RemoteAccess       bool              `xml:"remoteAccessEnabled"`
	Tags               list[tag]         `xml:"tagSet"`
}

type regionState struct {
	Region string `xml:"region"`
	State  string `xml:"serviceState"`
}

// zonesSeen are the IDs and names of the zones among ids that an account has.
func (s *Server) zonesSeen(account, region string, ids []string) (seen, names []string) {
	for _, z := range s.world.zoneNames(account, region) {
		if slices.Contains(ids, z.ID) {
			seen, names = append(seen, z.ID), append(names, z.Name)
		}
	}
	return seen, names
}

func (s *Server) configuration(svc *service) serviceConfiguration {
	ids, names := s.zonesSeen(svc.Account, svc.Region, svc.ZoneIDs)
	return serviceConfiguration{
		Type: interfaceType(), ID: svc.ID, Name: serviceName(svc.Region, svc.ID), State: "Available",
		ZoneIDs: listed(ids), Zones: listed(names), AcceptanceRequired: svc.AcceptanceRequired,
		LoadBalancers: listed(svc.LoadBalancers), IPAddressTypes: listed([]string{"ipv4"}),
		BaseNames:    listed([]string{serviceDomain(svc.Region, svc.ID)}),
		Regions:      listOf(svc.Regions, func(r serviceRegion) regionState { return regionState{r.Name, r.State} }),
		RemoteAccess: len(svc.Regions) > 1, Tags: tagList(svc.Tags),
	}
}

// ownService finds a service of the caller's in the call's region.
func (c *call) ownService(st *state, id string) (*service, error) {
	switch svc := st.Services[id]; {
	case id == "":
		return nil, missing("ServiceId")
	case svc == nil || svc.Account != c.caller.account || svc.Region != c.region:
		if _, e := postern.ParseServiceName("", serviceName(c.region, id)); e != nil {
			return nil, fail("InvalidVpcEndpointServiceIdId.Malformed", "Invalid Id: \"%s\" (expecting \"vpce-svc-...\")", id)
		}
		return nil, noServiceID(id)
	default:
		return svc, nil
	}
}

func (c *call) ownServices(st *state) []*service {
	var out []*service
	for _, svc := range st.Services {
		if svc.Account == c.caller.account && svc.Region == c.region {
			out = append(out, svc)
		}
	}
	return out
}

type createServiceResponse struct {
	reply
	Configuration serviceConfiguration `xml:"serviceConfiguration"`
	ClientToken   string               `xml:"clientToken,omitempty"`
}

func (s *Server) createService(c *call) (replier, error) {
	arns, regions := c.form.List("NetworkLoadBalancerArn"), c.form.List("SupportedRegion")
	acceptance, given, err := c.form.Bool("AcceptanceRequired")
	if err != nil {
		return nil, err
	}
	tags, err := c.tags("vpc-endpoint-service")
	if err != nil {
		return nil, err
	}
	token := c.form.String("ClientToken")
	if err := c.onlyIPv4("SupportedIpAddressType"); err != nil {
		return nil, err
	}
	if c.form.String("PrivateDnsName") != "" {
		return nil, fail("UnsupportedOperation", "Private DNS names of endpoint services are not supported here")
	}
	if err := c.known(); err != nil {
		return nil, err
	}
	var made *service
	err = s.update(func(st *state) error {
		id, err := c.once(st, func() (string, error) {
			svc := &service{
				ID: newID("vpce-svc-"), Account: c.caller.account, Region: c.region, Created: c.at, Tags: tags,
				AcceptanceRequired: acceptance || !given, Regions: []serviceRegion{{c.region, "Available"}},
			}
			if err := s.setBalancers(st, svc, arns); err != nil {
				return "", err
			}
			if err := s.setRegions(svc, regions, nil); err != nil {
				return "", err
			}
			st.Services[svc.ID] = svc
			return svc.ID, nil
		})
		made = st.Services[id]
		return err
	})
	if err != nil {
		return nil, err
	}
	return &createServiceResponse{Configuration: s.configuration(made), ClientToken: token}, nil
}

// onlyIPv4 refuses address types that the stand-in's networks do not have.
func (c *call) onlyIPv4(names ...string) error {
	for _, name := range names {
		for _, t := range append(c.form.List(name), c.form.String(name)) {
			if t != "" && t != "ipv4" {
				return fail("UnsupportedOperation", "Only the IP address type ipv4 is supported here, not '%s'", t)
			}
		}
	}
	return nil
}

// setBalancers gives a service its load balancers and takes their zones over.
func (s *Server) setBalancers(st *state, svc *service, arns []string) error {
	if len(arns) == 0 {
		return invalidParameter("An endpoint service requires at least one Network Load Balancer")
	}
	for _, arn := range arns {
		lb, ok := s.world.loadBalancer(arn)
		if !ok || lb.Account != svc.Account || lb.Region != svc.Region {
			return fail("InvalidLoadBalancer.NotFound", "The load balancer '%s' does not exist", arn)
		}
		for id, other := range st.Services {
			if id != svc.ID && slices.Contains(other.LoadBalancers, arn) {
				return invalidParameter("The load balancer %s is already associated with the endpoint service %s", arn, id)
			}
		}
	}
	svc.LoadBalancers, svc.ZoneIDs = arns, s.world.zonesOf(arns)
	return nil
}

// setRegions adds and removes supported regions. A removed one stays listed as
// Closed.
func (s *Server) setRegions(svc *service, add, remove []string) error {
	find := func(name string) int {
		return slices.IndexFunc(svc.Regions, func(r serviceRegion) bool { return r.Name == name })
	}
	for _, name := range add {
		if _, ok := s.world.region(name); !ok {
			return invalidParameter("The region '%s' is not valid", name)
		}
		if i := find(name); i >= 0 {
			svc.Regions[i].State = "Available"
		} else {
			svc.Regions = append(svc.Regions, serviceRegion{name, "Available"})
		}
	}
	for _, name := range remove {
		i := find(name)
		if i < 0 || name == svc.Region || svc.Regions[i].State == "Closed" {
			return invalidParameter("The region '%s' cannot be removed from the supported regions", name)
		}
		svc.Regions[i].State = "Closed"
	}
	return nil
}

type describeConfigurationsResponse struct {
	reply
	Configurations list[serviceConfiguration] `xml:"serviceConfigurationSet"`
	NextToken      string                     `xml:"nextToken,omitempty"`
}

func (s *Server) describeServiceConfigurations(c *call) (replier, error) {
	st := s.state.Load()
	id := func(svc *service) string { return svc.ID }
	found, err := only(c.form.List("ServiceId"), c.ownServices(st), id, noServiceID)
	if err != nil {
		return nil, err
	}
	found, err = filtered(c, found, map[string]field[*service]{
		"service-id":                 func(svc *service) []string { return one(svc.ID) },
		"service-name":               func(svc *service) []string { return one(serviceName(svc.Region, svc.ID)) },
		"service-state":              func(*service) []string { return one("Available") },
		"supported-ip-address-types": func(*service) []string { return one("ipv4") },
	}, func(svc *service) map[string]string { return svc.Tags })
	if err != nil {
		return nil, err
	}
	page, next, err := paged(c, found, id)
	if err != nil {
		return nil, err
	}
	return &describeConfigurationsResponse{Configurations: listOf(page, s.configuration), NextToken: next}, c.known()
}

func (s *Server) modifyService(c *call) (replier, error) {
	id := c.form.String("ServiceId")
	acceptance, given, err := c.form.Bool("AcceptanceRequired")
	if err != nil {
		return nil, err
	}
	addLB, removeLB := c.form.List("AddNetworkLoadBalancerArn"), c.form.List("RemoveNetworkLoadBalancerArn")
	addRegion, removeRegion := c.form.List("AddSupportedRegion"), c.form.List("RemoveSupportedRegion")
	if err := c.known(); err != nil {
		return nil, err
	}
	return done(), s.update(func(st *state) error {
		svc, err := c.ownService(st, id)
		if err != nil {
			return err
		}
		if len(removeLB) > 0 && st.holdsConnections(id) {
			return fail("ExistingVpcEndpointConnections", "The load balancers of the endpoint service %s are in use by endpoint connections", id)
		}
		if given {
			svc.AcceptanceRequired = acceptance
		}
		// Zones are taken over by every modification, even an empty one (AWS).
		if err := s.setBalancers(st, svc, change(svc.LoadBalancers, addLB, removeLB)); err != nil {
			return err
		}
		return s.setRegions(svc, addRegion, removeRegion)
	})
}

// holdsConnections tells whether an endpoint is attached to a service.
func (st *state) holdsConnections(serviceID string) bool {
	for _, e := range st.Endpoints {
		if e.ServiceID == serviceID && e.connected() {
			return true
		}
	}
	return false
}

func (s *Server) deleteServices(c *call) (replier, error) {
	ids := c.form.List("ServiceId")
	if len(ids) == 0 {
		return nil, missing("ServiceId")
	}
	if err := c.known(); err != nil {
		return nil, err
	}
	res := &unsuccessful{}
	return res, s.update(func(st *state) error {
		for _, id := range ids {
			_, err := c.ownService(st, id)
			switch {
			case err != nil:
				res.add(id, fail("InvalidVpcEndpointService.NotFound", "The VpcEndpointService Id '%s' does not exist", id))
			case st.holdsConnections(id):
				res.add(id, fail("ExistingVpcEndpointConnections", "The endpoint service %s has existing active VPC endpoint connections", id))
			default:
				delete(st.Services, id)
			}
		}
		return nil
	})
}
