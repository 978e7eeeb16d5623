package plan

import (
	"slices"
	"strings"
	"time"

	"github.com/postern-net/postern"
)

// ConnectionView is what is known about one data connection in a round. What was
// not looked at decides nothing.
type ConnectionView struct {
	Network   *postern.OutboundNetwork // of its region; nil: the platform gave it up
	Principal string                   // the ARN that customers authorize
	Accounts  []string                 // AWS accounts that its organization has proven
	Hostname  HostnameView
	Service   ServiceView
	Cloud     *ConnectionCloud // nil: AWS did not answer
	Check     CheckView
	Removal   RemovalView
	Failed    Refusal
	Rules     Rules
	Now       time.Time
}

// HostnameView is what public DNS says of a hostname's challenge.
type HostnameView struct {
	Challenge string // the text that proves it
	Looked    bool
	Silent    string // why there was no answer; "": there was one
	Found     bool
	Others    bool // there are TXT records, with other texts
	Taken     bool // another connection has proven the hostname
}

// ServiceView is what AWS says of the customer's endpoint service.
type ServiceView struct {
	Looked  bool
	Silent  bool                     // AWS did not answer
	Service *postern.EndpointService // nil: there is none for the platform's principal
}

// ConnectionCloud is what AWS lists with the connection's tag.
type ConnectionCloud struct {
	Groups    []postern.OutboundGroup
	Endpoints []postern.OutboundEndpoint
}

// RemovalView is how far the route of a connection that is being removed has been
// taken back. Its endpoint is deleted when no egress node may lead workloads to
// its addresses any more: AWS gives them to the next endpoint, which may be
// another tenant's.
type RemovalView struct {
	Withdrawn bool     // the table that was published last leads nowhere near it
	Waiting   []string // egress nodes that do not provably obey such a table, and are not fenced
}

// ConnectionActionKind names what a [ConnectionAction] does.
type ConnectionActionKind string

// What can be done at AWS for a data connection.
const (
	CreateGroup       ConnectionActionKind = "create-security-group"
	SetGroupRules     ConnectionActionKind = "set-security-group-rules"
	CreateEndpoint    ConnectionActionKind = "create-endpoint"
	SetEndpointGroups ConnectionActionKind = "set-endpoint-security-groups"
	DeleteEndpoint    ConnectionActionKind = "delete-endpoint"
	DeleteGroup       ConnectionActionKind = "delete-security-group"
)

// ConnectionAction is one thing to do at AWS. Doing it twice is harmless: what
// is made carries the connection's ID, and is made once for it.
type ConnectionAction struct {
	Kind         ConnectionActionKind
	Connection   string
	Organization string
	Region       string
	Target       string // security group or endpoint; "" for what is to be made
	VPC          string // CreateGroup, CreateEndpoint
	Service      postern.ServiceRef
	Subnets      []string            // CreateEndpoint
	Group        string              // CreateEndpoint
	Add, Remove  []postern.GroupRule // SetGroupRules
	Put, Take    []string            // SetEndpointGroups: security groups
	Why          string
}

// Refusal is what AWS refused last of a connection, and why; the zero value:
// nothing.
type Refusal struct {
	Kind    ConnectionActionKind
	Message string
}

// ConnectionStep is what one round makes of one data connection.
type ConnectionStep struct {
	After     postern.DataConnection
	Delete    bool // nothing is left: drop the row
	Actions   []ConnectionAction
	Unsettled bool // something is on its way, so look again soon
}

// Connection decides what a data connection's status is and what to do about
// it. Nothing is made at AWS before the hostname is proven and the service is
// seen as one of a proven account, whose owner decides on each endpoint. One
// whose endpoint is not connected in time is removed.
func Connection(c postern.DataConnection, v ConnectionView) ConnectionStep {
	if c.Removing || v.overdue(c) {
		c.Removing = true
		return removeConnection(c, v)
	}
	s := ConnectionStep{After: c}
	a := &s.After
	v.set(a, v.hostname(a))
	v.set(a, v.service(a))
	v.set(a, v.suitable(*a))
	v.adopt(a)
	v.set(a, v.connected(a))
	v.set(a, v.verified(c, *a))
	a.State = connectionState(c, *a)
	if a.State == postern.DataConnectionReady && a.ReadyAt.IsZero() {
		a.ReadyAt = v.Now
	}
	v.set(a, connectionReady(*a))
	s.Actions = v.provision(a)
	s.Unsettled = len(s.Actions) > 0 || a.State == postern.DataConnectionProvisioning ||
		!a.MissingSince.IsZero() && a.State != postern.DataConnectionFailed
	return s
}

func (v ConnectionView) set(c *postern.DataConnection, n postern.Condition) {
	n.Since = v.Now
	c.Conditions = postern.SetCondition(c.Conditions, n)
}

func status(c postern.DataConnection, t postern.ConditionType) postern.ConditionStatus {
	return postern.FindCondition(c.Conditions, t).Status
}

// kept is the condition as it was, or one for the time before anything is known.
func kept(c postern.DataConnection, t postern.ConditionType, reason postern.Reason, message string) postern.Condition {
	if last := postern.FindCondition(c.Conditions, t); last.Type != "" {
		return last
	}
	return postern.Condition{Type: t, Status: postern.Unknown, Reason: reason, Message: message}
}

// hostname says whether the hostname is proven. Once it was, it stays so.
func (v ConnectionView) hostname(c *postern.DataConnection) postern.Condition {
	h := v.Hostname
	out := postern.Condition{Type: postern.HostnameProven, Status: postern.False}
	record := `a TXT record ` + postern.ChallengeName(c.Hostname) + ` with the text "` + h.Challenge + `"`
	switch {
	case c.ProvenAt.IsZero() && h.Looked && h.Found && !h.Taken:
		c.ProvenAt = v.Now
		fallthrough
	case !c.ProvenAt.IsZero():
		out.Status, out.Reason, out.Message = postern.True, postern.ReasonChallengeFound, "its TXT record was found"
	case h.Looked && h.Silent != "":
		out.Status, out.Reason = postern.Unknown, postern.ReasonNotObserved
		out.Message = "public DNS was asked for " + record + " and did not answer: " + h.Silent + "; it is asked again"
	case h.Looked && h.Found:
		out.Reason = postern.ReasonHostnameTaken
		out.Message = "its TXT record was found, and another data connection has this hostname; delete that one if it is yours (`postern connections list`, `postern connections delete`), else ask the vendor"
	case h.Looked && h.Others:
		out.Reason, out.Message = postern.ReasonChallengeNotFound, "publish "+record+"; the TXT records there have other texts"
	case h.Looked:
		out.Reason, out.Message = postern.ReasonChallengeNotFound, "publish "+record+"; there is none"
	default:
		if last := postern.FindCondition(c.Conditions, postern.HostnameProven); last.Type != "" && last.Status != postern.True {
			return last
		}
		out.Reason, out.Message = postern.ReasonChallengeNotFound, "publish "+record
	}
	return out
}

// service says whether the platform sees the customer's service and its owner
// is proven. A service that is not seen and one of somebody else's account read
// the same, or a request would tell what others have.
func (v ConnectionView) service(c *postern.DataConnection) postern.Condition {
	out := postern.Condition{Type: postern.ServiceAuthorized, Status: postern.False, Reason: postern.ReasonNotAuthorized}
	wanted := "allow " + v.Principal + " on " + c.Service.Name + ", and prove the AWS account that owns it (`postern account prove`)"
	owned := func(account string) bool { return account != "" && slices.Contains(v.Accounts, account) }
	good := func() postern.Condition {
		out.Status, out.Reason = postern.True, postern.ReasonAuthorized
		out.Message = "the service is of AWS account " + c.ServiceOwner + ", which is proven, and admits the platform"
		return out
	}
	made := c.EndpointID != "" // from here on it is the account that counts
	switch {
	case made && owned(c.ServiceOwner):
		return good()
	case made:
		out.Message = "AWS account " + c.ServiceOwner + ", which owns the service, is not proven for the organization any more; prove it (`postern account prove`)"
	case v.Service.Looked && v.Service.Silent:
		out.Status, out.Reason, out.Message = postern.Unknown, postern.ReasonNotObserved, "AWS was asked for the service and did not answer; it is asked again"
	case v.Service.Looked && v.Service.Service != nil && owned(v.Service.Service.Owner):
		c.ServiceOwner = v.Service.Service.Owner
		return good()
	case v.Service.Looked:
		if c.MadeSince.IsZero() {
			c.ServiceOwner = ""
		}
		out.Message = "no such endpoint service of an account that the organization has proven admits the platform; " + wanted
	default:
		last := kept(*c, postern.ServiceAuthorized, postern.ReasonNotObserved, "was not looked at yet; "+wanted)
		if last.Status == postern.True && !owned(c.ServiceOwner) {
			out.Message = "AWS account " + c.ServiceOwner + ", which owns the service, is not proven for the organization any more; prove it (`postern account prove`)"
			return out
		}
		return last
	}
	return out
}

// suitable says whether an endpoint can be made to the service. It matters, and
// changes, only until one is made.
func (v ConnectionView) suitable(c postern.DataConnection) postern.Condition {
	out := postern.Condition{Type: postern.ServiceSuitable, Status: postern.False}
	svc := v.Service.Service
	switch {
	case c.EndpointID != "":
		return kept(c, postern.ServiceSuitable, postern.ReasonSuitable, "an endpoint is made to it")
	case !v.Service.Looked || svc == nil || status(c, postern.ServiceAuthorized) != postern.True:
		return kept(c, postern.ServiceSuitable, postern.ReasonNotObserved, "is looked at once the service is seen")
	case !svc.Interface || !svc.IPv4:
		out.Reason, out.Message = postern.ReasonUnsupportedService, "the service takes no interface endpoints over IPv4; offer the cluster by a Network Load Balancer with IPv4"
	case !svc.AcceptanceRequired:
		out.Reason = postern.ReasonAcceptanceNotRequired
		out.Message = "the service connects endpoints without asking its owner; turn `Require acceptance` on (aws ec2 modify-vpc-endpoint-service-configuration --service-id " +
			c.Service.ID + " --acceptance-required)"
	case len(v.subnets(c)) == 0:
		out.Reason = postern.ReasonNoCommonZone
		out.Message = "no Availability Zone is the request's (" + list(c.Zones) + "), the service's (" + list(svc.Zones) + ") and the platform's (" + list(v.zones()) +
			") at once; extend the load balancer, and request the connection with a zone of the platform (`postern connections delete` this one, then `postern connections create --zone-id`)"
	default:
		out.Status, out.Reason, out.Message = postern.True, postern.ReasonSuitable, "an endpoint can be made to it"
	}
	return out
}

// subnets are those of the platform's network in zones that the request and the
// service have too: one bad subnet fails the whole endpoint (AWS).
func (v ConnectionView) subnets(c postern.DataConnection) []string {
	if v.Network == nil || v.Service.Service == nil {
		return nil
	}
	return v.Network.SubnetsIn(slices.DeleteFunc(slices.Clone(c.Zones), func(z string) bool { return !slices.Contains(v.Service.Service.Zones, z) }))
}

func (v ConnectionView) zones() []string {
	if v.Network == nil {
		return nil
	}
	return v.Network.ZoneIDs()
}

// anew says how to start over: what was requested is never changed.
func anew(c postern.DataConnection) string {
	return "delete the data connection and request it anew (`postern connections delete " + c.ID + "`, then `postern connections create`)"
}

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// ConnectionConditions lists the conditions of a connection in the order in
// which they come to hold, but for Ready, which sums them up.
func ConnectionConditions() []postern.ConditionType {
	return []postern.ConditionType{postern.HostnameProven, postern.ServiceAuthorized, postern.ServiceSuitable, postern.Connected, postern.Verified}
}

// Waits is the first condition of a connection that does not hold, in the order
// in which they come to; the zero value: all do.
func Waits(c postern.DataConnection) postern.Condition {
	for _, t := range ConnectionConditions() {
		if got := postern.FindCondition(c.Conditions, t); got.Status != postern.True {
			return got
		}
	}
	return postern.Condition{}
}

// connectionState sums the conditions up; before is the connection as it was.
func connectionState(before, c postern.DataConnection) postern.DataConnectionState {
	connected := postern.FindCondition(c.Conditions, postern.Connected)
	wasReady := !c.ReadyAt.IsZero()
	switch {
	case status(c, postern.HostnameProven) != postern.True:
		return postern.DataConnectionRequested
	case c.EndpointID == "" && status(c, postern.ServiceAuthorized) != postern.True:
		return postern.DataConnectionAwaitsPermission
	case c.EndpointID == "" && status(c, postern.ServiceSuitable) != postern.True:
		return postern.DataConnectionFailed
	case c.EndpointID == "":
		return postern.DataConnectionProvisioning
	case connected.Status == postern.False && final(connected.Reason):
		return postern.DataConnectionFailed
	case connected.Reason == postern.ReasonWaitsForAcceptance:
		return postern.DataConnectionPendingAcceptance
	case connected.Status == postern.False:
		return postern.DataConnectionProvisioning
	case connected.Status == postern.Unknown && before.State != postern.DataConnectionReady && before.State != postern.DataConnectionDegraded:
		return before.State // nothing is known that would change it
	case len(c.Addresses) == 0:
		return postern.DataConnectionProvisioning
	case status(c, postern.ServiceAuthorized) == postern.True && status(c, postern.Verified) == postern.True:
		return postern.DataConnectionReady
	case wasReady:
		return postern.DataConnectionDegraded
	case status(c, postern.ServiceAuthorized) != postern.True:
		return postern.DataConnectionAwaitsPermission
	}
	return postern.DataConnectionVerifying
}

// final tells the reasons from which AWS lets no endpoint come back.
func final(r postern.Reason) bool {
	return r == postern.ReasonRejected || r == postern.ReasonDeleted || r == postern.ReasonExpired || r == postern.ReasonFailed
}

func connectionReady(c postern.DataConnection) postern.Condition {
	if c.State == postern.DataConnectionReady {
		return postern.Condition{Type: postern.Ready, Status: postern.True, Reason: postern.ReasonBytesPass, Message: "the tenant's workloads reach the cluster"}
	}
	return postern.Condition{Type: postern.Ready, Status: postern.False, Reason: postern.ReasonNotReady, Message: "see the other conditions"}
}

// CompileConnection makes the route of a data connection whose hostname is
// proven. One that is not ready, or in a region that the platform gave up, is in
// the table too, with the reason that a workload is told; it leads nowhere.
func CompileConnection(p *postern.Platform, c postern.DataConnection, accounts []postern.Account) (string, postern.ConnectionRoute, bool) {
	if c.Removing || c.ProvenAt.IsZero() {
		return "", postern.ConnectionRoute{}, false
	}
	r := postern.ConnectionRoute{ID: c.ID, Tenant: c.Tenant, Organization: c.Organization, Region: c.Region, Ports: slices.Clone(c.Ports)}
	owned := slices.Contains(provenAccounts(accounts, c.Organization), c.ServiceOwner)
	if _, here := p.OutboundNetwork(c.Region); !here {
		r.Reason, r.Message = postern.ReasonNotVerified, givenUp(c)
		return c.Hostname, r, true
	}
	if c.State == postern.DataConnectionReady && owned && len(c.Addresses) > 0 {
		r.Ready, r.Addresses = true, slices.Clone(c.Addresses)
		return c.Hostname, r, true
	}
	waits := Waits(c)
	r.Reason, r.Message = waits.Reason, waits.Message
	if r.Reason == "" { // its account was taken off a moment ago, or its addresses are not known yet
		r.Reason, r.Message = postern.ReasonNotReady, "the data connection is not ready; see `postern connections show "+c.ID+"`"
	}
	return c.Hostname, r, true
}

// givenUp is about a connection in a region that is off the platform file.
func givenUp(c postern.DataConnection) string {
	return "the platform makes no data connections in " + c.Region + " any more; delete this one (`postern connections delete " + c.ID + "`), or ask the vendor to set the region up again"
}

// provenAccounts are the AWS accounts that an organization holds.
func provenAccounts(accounts []postern.Account, organization string) (ids []string) {
	for _, a := range accounts {
		if a.Organization == organization && a.State == postern.AccountActive {
			ids = append(ids, a.ID)
		}
	}
	return ids
}

// SameConnection compares what a round may change.
func SameConnection(a, b postern.DataConnection) bool {
	return a.State == b.State && a.Removing == b.Removing && a.ProvenAt.Equal(b.ProvenAt) && a.ServiceOwner == b.ServiceOwner && a.MadeSince.Equal(b.MadeSince) &&
		a.SecurityGroupID == b.SecurityGroupID && a.EndpointID == b.EndpointID && slices.Equal(a.DNSNames, b.DNSNames) &&
		slices.Equal(a.Addresses, b.Addresses) && a.MissingSince.Equal(b.MissingSince) && a.ReadyAt.Equal(b.ReadyAt) &&
		slices.EqualFunc(a.Conditions, b.Conditions, func(x, y postern.Condition) bool {
			return x.Type == y.Type && x.Status == y.Status && x.Reason == y.Reason && x.Message == y.Message
		})
}
