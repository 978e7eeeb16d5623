package localaws

import (
	"slices"
	"time"
)

type connection struct {
	ServiceID      string         `xml:"serviceId"`
	EndpointID     string         `xml:"vpcEndpointId"`
	Owner          string         `xml:"vpcEndpointOwner"`
	State          string         `xml:"vpcEndpointState"`
	Created        string         `xml:"creationTimestamp"`
	DNSEntries     list[dnsEntry] `xml:"dnsEntrySet"`
	LoadBalancers  list[string]   `xml:"networkLoadBalancerArnSet"`
	IPAddressType  string         `xml:"ipAddressType"`
	ConnectionID   string         `xml:"vpcEndpointConnectionId"`
	Tags           list[tag]      `xml:"tagSet"`
	EndpointRegion string         `xml:"vpcEndpointRegion"`
}

// connection is what the service's owner sees of an endpoint: no VPC, subnet
// or zone, and tags of his own, of which there are none here.
func (s *Server) connection(st *state, e *endpoint) connection {
	out := connection{
		ServiceID: e.ServiceID, EndpointID: e.ID, Owner: e.Account, State: e.State, Created: timestamp(e.Created),
		DNSEntries: s.dnsEntries(e), IPAddressType: "ipv4", ConnectionID: e.ConnectionID, EndpointRegion: e.Region,
	}
	if svc := st.Services[e.ServiceID]; svc != nil {
		out.LoadBalancers = listed(svc.LoadBalancers)
	}
	return out
}

type describeConnectionsResponse struct {
	reply
	Connections list[connection] `xml:"vpcEndpointConnectionSet"`
	NextToken   string           `xml:"nextToken,omitempty"`
}

func (s *Server) describeConnections(c *call) (replier, error) {
	st := s.state.Load()
	var all []*endpoint
	for id, e := range st.Endpoints {
		if e.ServiceAccount == c.caller.account && e.ServiceRegion == c.region && !e.ConnectionGone && !s.hidden.hides(providerSide, id) {
			all = append(all, e)
		}
	}
	found, err := filtered(c, all, map[string]field[*endpoint]{
		"service-id":         func(e *endpoint) []string { return one(e.ServiceID) },
		"vpc-endpoint-owner": func(e *endpoint) []string { return one(e.Account) },
		"vpc-endpoint-id":    func(e *endpoint) []string { return one(e.ID) },
		"vpc-endpoint-state": func(e *endpoint) []string { return one(e.State) },
		"ip-address-type":    func(*endpoint) []string { return one("ipv4") },
		"vpc-endpoint-region": func(e *endpoint) []string {
			if e.Region != e.ServiceRegion {
				return []string{e.Region, "cross-region"}
			}
			return one(e.Region)
		},
	}, nil)
	if err != nil {
		return nil, err
	}
	page, next, err := paged(c, found, func(e *endpoint) string { return e.ID })
	if err != nil {
		return nil, err
	}
	res := &describeConnectionsResponse{NextToken: next}
	res.Connections = listOf(page, func(e *endpoint) connection { return s.connection(st, e) })
	return res, c.known()
}

func (s *Server) acceptConnections(c *call) (replier, error) {
	return s.decide(c, []string{statePendingAcceptance}, (*endpoint).accept)
}

func (s *Server) rejectConnections(c *call) (replier, error) {
	return s.decide(c, []string{statePendingAcceptance, statePending, stateAvailable}, (*endpoint).reject)
}

// decide accepts or rejects endpoints that are in one of the states; the rest
// is told in the answer. AWS does not document the code for a wrong state.
func (s *Server) decide(c *call, from []string, apply func(*endpoint, time.Time, Timing)) (replier, error) {
	serviceID, ids := c.form.String("ServiceId"), c.form.List("VpcEndpointId")
	if len(ids) == 0 {
		return nil, missing("VpcEndpointId")
	}
	if err := c.known(); err != nil {
		return nil, err
	}
	res := &unsuccessful{}
	return res, s.update(func(st *state) error {
		if _, err := c.ownService(st, serviceID); err != nil {
			return err
		}
		for _, id := range ids {
			switch e := st.Endpoints[id]; {
			case e == nil || e.ServiceID != serviceID:
				res.add(id, fail("InvalidVpcEndpoint.NotFound", "The Vpc Endpoint Id '%s' does not exist", id))
			case !slices.Contains(from, e.State):
				res.add(id, fail("InvalidState", "The VPC endpoint connection %s is in state %s", id, e.State))
			default:
				apply(e, c.at, s.timing)
			}
		}
		return nil
	})
}
