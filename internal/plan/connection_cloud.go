package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/postern-net/postern"
)

// endpoint is the connection's own among those that carry its tag: the one that
// is known, or else the oldest that AWS has not deleted. One to another service
// is none of its.
func (v ConnectionView) endpoint(c postern.DataConnection) (postern.OutboundEndpoint, bool) {
	if v.Cloud == nil {
		return postern.OutboundEndpoint{}, false
	}
	var own []postern.OutboundEndpoint
	for _, e := range v.Cloud.Endpoints {
		if e.ID == c.EndpointID {
			return e, true
		}
		if e.ServiceName == c.Service.Name && !going(e.State) {
			own = append(own, e)
		}
	}
	if c.EndpointID != "" || len(own) == 0 {
		return postern.OutboundEndpoint{}, false
	}
	return slices.MinFunc(own, func(a, b postern.OutboundEndpoint) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	}), true
}

// going tells whether AWS is deleting an endpoint, or has.
func going(s postern.ConnectionState) bool {
	return s == postern.ConnectionDeleting || s == postern.ConnectionDeleted
}

// group is the connection's own security group.
func (v ConnectionView) group(c postern.DataConnection) (postern.OutboundGroup, bool) {
	if v.Cloud == nil || len(v.Cloud.Groups) == 0 {
		return postern.OutboundGroup{}, false
	}
	for _, g := range v.Cloud.Groups {
		if g.ID == c.SecurityGroupID {
			return g, true
		}
	}
	return slices.MinFunc(v.Cloud.Groups, func(a, b postern.OutboundGroup) int { return cmp.Compare(a.ID, b.ID) }), true
}

// adopt copies what AWS lists; what is not listed keeps what was known of it,
// and since when it is missing.
func (v ConnectionView) adopt(c *postern.DataConnection) {
	if v.Cloud == nil {
		return
	}
	if g, ok := v.group(*c); ok {
		c.SecurityGroupID = g.ID
	}
	e, ok := v.endpoint(*c)
	switch {
	case ok:
		c.MissingSince, c.EndpointID = time.Time{}, e.ID
		if len(e.DNSNames) > 0 {
			c.DNSNames = slices.Clone(e.DNSNames)
		}
		if len(e.Addresses) > 0 {
			c.Addresses = slices.Clone(e.Addresses)
		}
	case c.EndpointID != "" && c.MissingSince.IsZero():
		c.MissingSince = v.Now
	}
}

// connected says what AWS says of the endpoint.
func (v ConnectionView) connected(c *postern.DataConnection) postern.Condition {
	out := postern.Condition{Type: postern.Connected, Status: postern.False}
	e, ok := v.endpoint(*c)
	if !ok {
		return v.absent(*c)
	}
	startOver := "; " + anew(*c)
	switch e.State {
	case postern.ConnectionPendingAcceptance:
		out.Reason = postern.ReasonWaitsForAcceptance
		out.Message = "accept endpoint " + e.ID + " on the service (aws ec2 accept-vpc-endpoint-connections --service-id " + c.Service.ID + " --vpc-endpoint-ids " + e.ID + ")"
	case postern.ConnectionPending:
		out.Reason, out.Message = postern.ReasonConnecting, "accepted; AWS is connecting it, which takes a minute or two"
	case postern.ConnectionAvailable:
		out.Status, out.Reason, out.Message = postern.True, postern.ReasonAvailable, "AWS carries its traffic"
	case postern.ConnectionDeleting, postern.ConnectionDeleted:
		out.Reason, out.Message = postern.ReasonDeleted, "its endpoint was deleted in the platform's AWS account"+startOver
	case postern.ConnectionRejected:
		out.Reason, out.Message = postern.ReasonRejected, "the endpoint was rejected on the service"+startOver
	case postern.ConnectionExpired:
		out.Reason, out.Message = postern.ReasonExpired, "AWS gave up on the endpoint because it was not accepted in time"+startOver
	case postern.ConnectionFailed:
		out.Reason, out.Message = postern.ReasonFailed, "AWS could not make the endpoint"+said(e.Failure)+startOver
	default:
		out.Status, out.Reason = postern.Unknown, postern.ReasonNotObserved
		out.Message = "AWS reports the state " + string(e.State) + ", which Postern does not know"
	}
	return out
}

func said(failure string) string {
	if failure == "" {
		return ""
	}
	return " (it says: " + failure + ")"
}

// absent is about a connection of which AWS lists no endpoint.
func (v ConnectionView) absent(c postern.DataConnection) postern.Condition {
	out := postern.Condition{Type: postern.Connected, Status: postern.Unknown}
	last := postern.FindCondition(c.Conditions, postern.Connected)
	switch {
	case c.EndpointID != "" && last.Status == postern.False && final(last.Reason):
		return last // and AWS forgot it
	case c.EndpointID != "" && v.Cloud == nil:
		out.Reason, out.Message = postern.ReasonNotObserved, "AWS did not answer for the endpoint; this is what was seen last"
	case c.EndpointID != "" && v.Now.Sub(c.MissingSince) < v.Rules.MissingGrace:
		out.Reason, out.Message = postern.ReasonNotListed, "AWS does not list the endpoint; if it stays so, it counts as deleted"
	case c.EndpointID != "":
		out.Status, out.Reason = postern.False, postern.ReasonDeleted
		out.Message = "its endpoint is gone from AWS; " + anew(c)
	case v.Failed.Kind == CreateGroup || v.Failed.Kind == SetGroupRules || v.Failed.Kind == CreateEndpoint:
		out.Status, out.Reason, out.Message = postern.False, postern.ReasonCreateFailed, "AWS did not make it: "+v.Failed.Message+"; Postern tries again"
	case status(c, postern.HostnameProven) == postern.True && status(c, postern.ServiceAuthorized) == postern.True && status(c, postern.ServiceSuitable) == postern.True:
		out.Status, out.Reason, out.Message = postern.False, postern.ReasonCreating, "the endpoint is being made"
	default:
		out.Status, out.Reason, out.Message = postern.False, postern.ReasonCreating, "the endpoint is made once the conditions before this one hold"
	}
	return out
}

// provision plans what is missing at AWS, one thing after the other: the
// security group, its rules, the endpoint. The endpoint is never there before
// its group admits the egress and nobody else.
func (v ConnectionView) provision(c *postern.DataConnection) (out []ConnectionAction) {
	if v.Cloud == nil || v.Network == nil || c.State == postern.DataConnectionFailed && c.EndpointID == "" {
		return nil
	}
	action := ConnectionAction{Connection: c.ID, Organization: c.Organization, Region: c.Region, VPC: v.Network.VPC, Service: c.Service}
	out = v.doubles(*c, action)
	// Who lost the right to a connection gets nothing more.
	may := c.EndpointID == "" && v.Service.Looked && !v.Service.Silent && status(*c, postern.HostnameProven) == postern.True &&
		status(*c, postern.ServiceAuthorized) == postern.True && status(*c, postern.ServiceSuitable) == postern.True
	g, have := v.group(*c)
	if !have {
		if !may {
			return out
		}
		if c.MadeSince.IsZero() {
			c.MadeSince = v.Now
		}
		action.Kind, action.Why = CreateGroup, "the connection's own security group"
		return append(out, action)
	}
	wanted := wantedRules(*c, v.Network.EgressGroup)
	add, remove := lacking(wanted, g.Rules), lacking(g.Rules, wanted)
	if len(add)+len(remove) > 0 {
		action.Kind, action.Target, action.Add, action.Remove = SetGroupRules, g.ID, add, remove
		action.Why = "only the egress may use the endpoint"
		return append(out, action)
	}
	if e, made := v.endpoint(*c); made {
		return append(out, confine(e, g.ID, action)...)
	}
	if !may {
		return out
	}
	action.Kind, action.Group, action.Subnets = CreateEndpoint, g.ID, v.subnets(*c)
	action.Why = "the hostname is proven, and the service is of a proven account that admits the platform"
	return append(out, action)
}

// AcceptanceDays is for how many days the endpoint of a connection that never was
// ready may be there without being connected. Whatever is left of it then is taken
// off AWS, where it counts towards the quota of the egress' network.
const AcceptanceDays = "14"

const acceptanceTime = 14 * 24 * time.Hour

// overdue tells whether a connection's endpoint has not been connected for long,
// and will not be.
func (v ConnectionView) overdue(c postern.DataConnection) bool {
	e, ok := v.endpoint(c)
	if !ok || !c.ReadyAt.IsZero() || e.CreatedAt.IsZero() {
		return false
	}
	since := e.CreatedAt
	switch e.State {
	case postern.ConnectionPendingAcceptance: // AWS lets none return to this
	case postern.ConnectionRejected, postern.ConnectionExpired, postern.ConnectionFailed:
		last := postern.FindCondition(c.Conditions, postern.Connected)
		if last.Status != postern.False {
			return false // it is about to be told
		}
		if last.Since.After(since) { // it was connected until then
			since = last.Since
		}
	default:
		return false
	}
	return v.Now.Sub(since) >= acceptanceTime
}

// confine plans that an endpoint has its connection's security group and no
// other: any other would admit somebody else.
func confine(e postern.OutboundEndpoint, group string, action ConnectionAction) []ConnectionAction {
	switch e.State {
	case postern.ConnectionPendingAcceptance, postern.ConnectionPending, postern.ConnectionAvailable:
	default:
		return nil // AWS changes no other
	}
	if !slices.Contains(e.Groups, group) {
		action.Put = []string{group}
	}
	action.Take = slices.DeleteFunc(slices.Clone(e.Groups), func(g string) bool { return g == group })
	if len(action.Put)+len(action.Take) == 0 {
		return nil
	}
	action.Kind, action.Target, action.Why = SetEndpointGroups, e.ID, "only the egress may use the endpoint"
	return []ConnectionAction{action}
}

// doubles are endpoints of the connection besides its own. There should be none:
// AWS makes one for a client token.
func (v ConnectionView) doubles(c postern.DataConnection, action ConnectionAction) (out []ConnectionAction) {
	for _, e := range v.Cloud.Endpoints {
		if c.EndpointID != "" && e.ID != c.EndpointID && e.ServiceName == c.Service.Name && !going(e.State) {
			action.Kind, action.Target, action.Why = DeleteEndpoint, e.ID, "the connection has another endpoint, "+c.EndpointID
			out = append(out, action)
		}
	}
	return out
}

// wantedRules admit the egress to the connection's ports.
func wantedRules(c postern.DataConnection, egress string) (out []postern.GroupRule) {
	for _, p := range c.Ports {
		out = append(out, postern.GroupRule{Protocol: "tcp", From: int(p), To: int(p), Peer: egress})
	}
	return out
}

// lacking are those of a that b lacks.
func lacking(a, b []postern.GroupRule) []postern.GroupRule {
	return slices.DeleteFunc(slices.Clone(a), func(r postern.GroupRule) bool { return slices.Contains(b, r) })
}

// removeConnection takes a connection off AWS in order: the route went with the
// row's mark, and the egress nodes obey that; then the endpoint, then its group, which AWS keeps until the
// endpoint's interfaces are gone, and last the row.
func removeConnection(c postern.DataConnection, v ConnectionView) ConnectionStep {
	s := ConnectionStep{After: c, Unsettled: true}
	s.After.State = postern.DataConnectionRemoving
	message := "the data connection was deleted; its endpoint is being deleted"
	held := len(c.Addresses) > 0 && (!v.Removal.Withdrawn || len(v.Removal.Waiting) > 0)
	switch {
	case held && len(v.Removal.Waiting) > 0:
		message = "the data connection was deleted; before its endpoint is, egress node " + few(v.Removal.Waiting) +
			" has to obey that: if it is gone for good, make sure that no workload reaches it, and say so (vendor: `postern node fence NODE`)"
	case held:
		message = "the data connection was deleted; its route is being taken back"
	case v.Failed.Kind == DeleteEndpoint:
		message = "its endpoint could not be deleted: " + v.Failed.Message + "; Postern tries again"
	case v.Failed.Kind == DeleteGroup:
		message = "its endpoint was deleted, and its security group could not be: " + v.Failed.Message + "; Postern tries again"
	}
	v.set(&s.After, postern.Condition{Type: postern.Connected, Status: postern.False, Reason: postern.ReasonRemoving, Message: message})
	v.set(&s.After, postern.Condition{Type: postern.Ready, Status: postern.False, Reason: postern.ReasonNotReady, Message: "see the other conditions"})
	if c.MadeSince.IsZero() && c.EndpointID == "" {
		s.Delete = true // nothing of it was ever at AWS
		return s
	}
	// What a node obeys wakes the loop: until then there is nothing to look for.
	waits := held && len(v.Removal.Waiting) > 0
	if v.Cloud == nil {
		s.Unsettled = !waits
		return s
	}
	if held && slices.ContainsFunc(v.Cloud.Endpoints, func(e postern.OutboundEndpoint) bool { return !going(e.State) }) {
		s.After.MissingSince, s.Unsettled = time.Time{}, !waits
		return s
	}
	var left bool
	s.Actions, left = sweep(c.ID, c.Organization, c.Region, *v.Cloud, "the data connection was deleted")
	switch {
	case left:
		s.After.MissingSince = time.Time{}
	case s.After.MissingSince.IsZero():
		s.After.MissingSince = v.Now
		s.Delete = v.Rules.MissingGrace <= 0
	default:
		// A listing that lags behind must not leave anything at AWS.
		s.Delete = v.Now.Sub(s.After.MissingSince) >= v.Rules.MissingGrace
	}
	return s
}

// sweep plans what takes everything of a connection off AWS, and tells whether
// there is something left.
func sweep(connection, organization, region string, cloud ConnectionCloud, why string) (out []ConnectionAction, left bool) {
	action := ConnectionAction{Connection: connection, Organization: organization, Region: region, Why: why}
	for _, e := range cloud.Endpoints {
		switch e.State {
		case postern.ConnectionDeleted:
			continue
		case postern.ConnectionDeleting:
		default:
			action.Kind, action.Target = DeleteEndpoint, e.ID
			out = append(out, action)
		}
		left = true
	}
	if left {
		return out, true // its group is in use until it is gone
	}
	for _, g := range cloud.Groups {
		action.Kind, action.Target = DeleteGroup, g.ID
		out, left = append(out, action), true
	}
	return out, left
}

// Sweep plans the deletion of what AWS lists of removed connections: a call that
// was on its way when a connection was removed may take effect after its row is
// gone. cloud holds what is listed in the connections' region, by connection ID.
// What carries an ID that no record has is left alone.
func Sweep(removed []postern.RemovedConnection, region string, cloud map[string]ConnectionCloud) (out []ConnectionAction) {
	for _, r := range removed {
		if listed, ok := cloud[r.ID]; ok && r.Region == region {
			actions, _ := sweep(r.ID, "", region, listed, "the data connection was deleted before this was made")
			out = append(out, actions...)
		}
	}
	return out
}

// ForeseeConnection lists everything that would be done at AWS for a connection
// one after the other, if nothing else changes: until the customer has to act.
func ForeseeConnection(c postern.DataConnection, v ConnectionView) (out []ConnectionAction) {
	const madeUp = "(new)"
	for range len(c.Ports) + 5 { // more than there are steps
		s := Connection(c, v)
		if len(s.Actions) == 0 {
			return out
		}
		out = append(out, s.Actions...)
		c = s.After
		cloud := *v.Cloud
		for _, a := range s.Actions {
			switch a.Kind {
			case CreateGroup:
				cloud.Groups = append(slices.Clone(cloud.Groups), postern.OutboundGroup{ID: madeUp, ConnectionID: c.ID})
			case SetGroupRules:
				cloud.Groups = slices.Clone(cloud.Groups)
				for i, g := range cloud.Groups {
					if g.ID == a.Target {
						cloud.Groups[i].Rules = wantedRules(c, v.Network.EgressGroup)
					}
				}
			case CreateEndpoint, SetEndpointGroups:
				return out // the customer's turn
			case DeleteEndpoint:
				cloud.Endpoints = slices.DeleteFunc(slices.Clone(cloud.Endpoints), func(e postern.OutboundEndpoint) bool { return e.ID == a.Target })
			case DeleteGroup:
				cloud.Groups = slices.DeleteFunc(slices.Clone(cloud.Groups), func(g postern.OutboundGroup) bool { return g.ID == a.Target })
			}
		}
		v.Cloud = &cloud
	}
	return out
}
