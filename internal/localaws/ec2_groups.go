package localaws

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/postern-net/postern/internal/localaws/query"
)

// maxRules is AWS's quota of inbound rules for one security group.
const maxRules = 60

// ownGroup finds a security group of the caller's.
func (c *call) ownGroup(st *state, id string) (*securityGroup, error) {
	g := st.Groups[id]
	switch {
	case id == "":
		return nil, missing("GroupId")
	case g == nil || g.Account != c.caller.account || g.Region != c.region:
		return nil, noGroup(id)
	}
	return g, nil
}

type createGroupResponse struct {
	reply
	Return bool      `xml:"return"`
	ID     string    `xml:"groupId"`
	Tags   list[tag] `xml:"tagSet"`
}

func (s *Server) createGroup(c *call) (replier, error) {
	name, description, vpc := c.form.String("GroupName"), c.form.String("GroupDescription"), c.form.String("VpcId")
	switch {
	case name == "":
		return nil, missing("GroupName")
	case description == "":
		return nil, missing("GroupDescription")
	case vpc == "":
		return nil, missing("VpcId")
	}
	tags, err := c.tags("security-group")
	if err != nil {
		return nil, err
	}
	if err := c.known(); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(s.ownVPCs(c), func(v VPC) bool { return v.ID == vpc }) {
		return nil, fail("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", vpc)
	}
	g := &securityGroup{
		ID: newID("sg-"), Account: c.caller.account, Region: c.region, VPC: vpc, Name: name, Description: description, Tags: tags,
	}
	return &createGroupResponse{Return: true, ID: g.ID, Tags: tagList(tags)}, s.update(func(st *state) error {
		for _, o := range st.Groups {
			if o.VPC == vpc && o.Name == name {
				return fail("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", name, vpc)
			}
		}
		st.Groups[g.ID] = g
		return nil
	})
}

type deleteGroupResponse struct {
	reply
	Return bool   `xml:"return"`
	ID     string `xml:"groupId"`
}

func (s *Server) deleteGroup(c *call) (replier, error) {
	id := c.form.String("GroupId")
	if err := c.known(); err != nil {
		return nil, err
	}
	return &deleteGroupResponse{Return: true, ID: id}, s.update(func(st *state) error {
		g, err := c.ownGroup(st, id)
		if err != nil {
			return err
		}
		if g.Name == "default" {
			return fail("CannotDelete", "the specified group: \"%s\" name: \"default\" cannot be deleted by a user", id)
		}
		for _, e := range st.Endpoints {
			if e.State != stateDeleted && slices.Contains(e.Groups, id) {
				return fail("DependencyViolation", "resource %s has a dependent object", id)
			}
		}
		delete(st.Groups, id)
		return nil
	})
}

type ipRange struct {
	CIDR        string `xml:"cidrIp"`
	Description string `xml:"description,omitempty"`
}

type groupPair struct {
	Owner string `xml:"userId"`
	ID    string `xml:"groupId"`
}

type ipPermission struct {
	Protocol string          `xml:"ipProtocol"`
	From     *int            `xml:"fromPort"`
	To       *int            `xml:"toPort"`
	Groups   list[groupPair] `xml:"groups"`
	Ranges   list[ipRange]   `xml:"ipRanges"`
}

type groupXML struct {
	Owner       string             `xml:"ownerId"`
	ID          string             `xml:"groupId"`
	Name        string             `xml:"groupName"`
	Description string             `xml:"groupDescription"`
	VPC         string             `xml:"vpcId"`
	Ingress     list[ipPermission] `xml:"ipPermissions"`
	Egress      list[ipPermission] `xml:"ipPermissionsEgress"`
	Tags        list[tag]          `xml:"tagSet"`
}

func (g *securityGroup) xml() groupXML {
	all := ipPermission{Protocol: "-1"}
	all.Ranges.Items = []ipRange{{CIDR: "0.0.0.0/0"}}
	out := groupXML{Owner: g.Account, ID: g.ID, Name: g.Name, Description: g.Description, VPC: g.VPC, Tags: tagList(g.Tags), Egress: listed([]ipPermission{all})}
	for _, r := range g.Rules {
		p := ipPermission{Protocol: r.Protocol}
		if r.Protocol != "-1" {
			from, to := r.From, r.To
			p.From, p.To = &from, &to
		}
		if r.Group != "" {
			p.Groups.Items = []groupPair{{g.Account, r.Group}}
		} else {
			p.Ranges.Items = []ipRange{{r.CIDR.String(), r.Description}}
		}
		out.Ingress.Items = append(out.Ingress.Items, p)
	}
	return out
}

type describeGroupsResponse struct {
	reply
	Groups    list[groupXML] `xml:"securityGroupInfo"`
	NextToken string         `xml:"nextToken,omitempty"`
}

func (s *Server) describeGroups(c *call) (replier, error) {
	st := s.state.Load()
	var all []*securityGroup
	for _, g := range st.Groups {
		if g.Account == c.caller.account && g.Region == c.region {
			all = append(all, g)
		}
	}
	id := func(g *securityGroup) string { return g.ID }
	found, err := only(c.form.List("GroupId"), all, id, noGroup)
	if err != nil {
		return nil, err
	}
	found, err = filtered(c, found, map[string]field[*securityGroup]{
		"group-id":    func(g *securityGroup) []string { return one(g.ID) },
		"group-name":  func(g *securityGroup) []string { return one(g.Name) },
		"description": func(g *securityGroup) []string { return one(g.Description) },
		"vpc-id":      func(g *securityGroup) []string { return one(g.VPC) },
		"owner-id":    func(g *securityGroup) []string { return one(g.Account) },
	}, func(g *securityGroup) map[string]string { return g.Tags })
	if err != nil {
		return nil, err
	}
	page, next, err := paged(c, found, id)
	if err != nil {
		return nil, err
	}
	return &describeGroupsResponse{Groups: listOf(page, (*securityGroup).xml), NextToken: next}, c.known()
}

type groupRuleXML struct {
	ID          string           `xml:"securityGroupRuleId"`
	Group       string           `xml:"groupId"`
	Owner       string           `xml:"groupOwnerId"`
	Egress      bool             `xml:"isEgress"`
	Protocol    string           `xml:"ipProtocol"`
	From        int              `xml:"fromPort"`
	To          int              `xml:"toPort"`
	CIDR        string           `xml:"cidrIpv4,omitempty"`
	Description string           `xml:"description,omitempty"`
	Reference   *referencedGroup `xml:"referencedGroupInfo"`
}

type referencedGroup struct {
	ID string `xml:"groupId"`
}

func (r ingressRule) xml(g *securityGroup) groupRuleXML {
	out := groupRuleXML{ID: r.ID, Group: g.ID, Owner: g.Account, Protocol: r.Protocol, From: r.From, To: r.To, Description: r.Description}
	if r.Group == "" {
		out.CIDR = r.CIDR.String()
		return out
	}
	out.Reference = &referencedGroup{r.Group}
	return out
}

type authorizeResponse struct {
	reply
	Return bool               `xml:"return"`
	Rules  list[groupRuleXML] `xml:"securityGroupRuleSet"`
}

func (s *Server) authorizeIngress(c *call) (replier, error) {
	id := c.form.String("GroupId")
	rules, err := c.rules()
	if err != nil {
		return nil, err
	}
	if len(rules) == 0 {
		return nil, missing("IpPermissions")
	}
	if err := c.known(); err != nil {
		return nil, err
	}
	res := &authorizeResponse{Return: true}
	return res, s.update(func(st *state) error {
		g, err := c.ownGroup(st, id)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if slices.ContainsFunc(g.Rules, r.same) {
				return fail("InvalidPermission.Duplicate", "the specified rule \"%s\" already exists", r.text())
			}
			if r.Group != "" {
				if _, err := c.ownGroup(st, r.Group); err != nil {
					return err
				}
			}
			r.ID = newID("sgr-")
			g.Rules = append(g.Rules, r)
			res.Rules.Items = append(res.Rules.Items, r.xml(g))
		}
		if len(g.Rules) > maxRules {
			return fail("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
		}
		return nil
	})
}

func (s *Server) revokeIngress(c *call) (replier, error) {
	id, ruleIDs := c.form.String("GroupId"), c.form.List("SecurityGroupRuleId")
	rules, err := c.rules()
	if err != nil {
		return nil, err
	}
	if len(rules)+len(ruleIDs) == 0 {
		return nil, missing("IpPermissions")
	}
	if err := c.known(); err != nil {
		return nil, err
	}
	return done(), s.update(func(st *state) error {
		g, err := c.ownGroup(st, id)
		if err != nil {
			return err
		}
		remove := func(match func(ingressRule) bool, what string) error {
			n := len(g.Rules)
			if g.Rules = slices.DeleteFunc(g.Rules, match); len(g.Rules) == n {
				return fail("InvalidPermission.NotFound", "The specified rule \"%s\" does not exist in this security group.", what)
			}
			return nil
		}
		for _, r := range rules {
			if err := remove(r.same, r.text()); err != nil {
				return err
			}
		}
		for _, ruleID := range ruleIDs {
			if err := remove(func(r ingressRule) bool { return r.ID == ruleID }, ruleID); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r ingressRule) text() string {
	peer := r.Group
	if peer == "" {
		peer = r.CIDR.String()
	}
	return "peer: " + peer + ", " + r.Protocol + ", from port: " + strconv.Itoa(r.From) + ", to port: " + strconv.Itoa(r.To) + ", ALLOW"
}

// rules reads IpPermissions.N, and the older form of one rule without it.
func (c *call) rules() ([]ingressRule, error) {
	perms := c.form.Structs("IpPermissions")
	var out []ingressRule
	if len(perms) == 0 {
		cidr, ok := c.form.Lookup("CidrIp")
		if !ok {
			return nil, nil
		}
		r, err := protocolAndPorts(c.form)
		if err != nil {
			return nil, err
		}
		if r.CIDR, err = network(cidr); err != nil {
			return nil, err
		}
		return []ingressRule{r}, nil
	}
	for _, p := range perms {
		r, err := protocolAndPorts(p)
		if err != nil {
			return nil, err
		}
		for _, rng := range p.Structs("IpRanges") {
			n := r
			n.Description = rng.String("Description")
			if n.CIDR, err = network(rng.String("CidrIp")); err != nil {
				return nil, err
			}
			out = append(out, n)
		}
		for _, peer := range p.Structs("Groups") {
			n := r
			n.Group, n.Description = peer.String("GroupId"), peer.String("Description")
			if owner := peer.String("UserId"); owner != "" && owner != c.caller.account {
				return nil, noGroup(n.Group)
			}
			out = append(out, n)
		}
	}
	return out, nil
}

func network(cidr string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(cidr)
	if err != nil || !p.Addr().Is4() {
		return netip.Prefix{}, fail("InvalidParameterValue", "CIDR block %s is malformed", cidr)
	}
	return p.Masked(), nil
}

func protocolAndPorts(f *query.Form) (ingressRule, error) {
	r := ingressRule{Protocol: f.String("IpProtocol"), From: -1, To: -1}
	switch r.Protocol {
	case "6":
		r.Protocol = "tcp"
	case "17":
		r.Protocol = "udp"
	case "1":
		r.Protocol = "icmp"
	case "tcp", "udp", "icmp", "-1":
	default:
		return r, fail("InvalidParameterValue", "Invalid value '%s' for IP protocol. Unknown protocol.", r.Protocol)
	}
	from, fromGiven, err := f.Int("FromPort")
	if err != nil {
		return r, err
	}
	to, toGiven, err := f.Int("ToPort")
	if err != nil {
		return r, err
	}
	if r.Protocol == "-1" {
		return r, nil // for all protocols, ports mean nothing
	}
	if !fromGiven || !toGiven {
		return r, fail("MissingParameter", "FromPort and ToPort are required for the protocol %s", r.Protocol)
	}
	if ports := r.Protocol != "icmp"; ports && (from < 0 || to > 65535 || from > to) {
		return r, fail("InvalidParameterValue", "Invalid TCP/UDP port range (%d:%d)", from, to)
	}
	r.From, r.To = from, to
	return r, nil
}
