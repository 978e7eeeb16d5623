package localaws

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"

	"github.com/postern-net/postern"
)

var (
	vpcID    = regexp.MustCompile(`^vpc-(?:[0-9a-f]{8}|[0-9a-f]{17})$`)
	subnetID = regexp.MustCompile(`^subnet-(?:[0-9a-f]{8}|[0-9a-f]{17})$`)
	groupID  = regexp.MustCompile(`^sg-(?:[0-9a-f]{8}|[0-9a-f]{17})$`)
	keyID    = regexp.MustCompile(`^[A-Z0-9]{16,128}$`)
	lbARN    = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov):elasticloadbalancing:([a-z0-9-]+):(\d{12}):loadbalancer/net/[A-Za-z0-9-]+/[0-9a-f]{16}$`)
	iamARN   = regexp.MustCompile(`^arn:(?:aws|aws-cn|aws-us-gov):(?:iam::\d{12}:(?:root|(?:user|role)/[A-Za-z0-9+=,.@_/-]+)|sts::\d{12}:assumed-role/[A-Za-z0-9+=,.@_-]+/[A-Za-z0-9+=,.@_-]+)$`)
)

// Validate reports every problem of the world at once; fields are paths of the
// world file. The error is a postern.Errors.
func (w World) Validate() error {
	v := validation{w: &w, seen: map[string]bool{}}
	v.accounts()
	v.regions()
	v.vpcs()
	v.loadBalancers()
	v.services()
	return v.es.Err()
}

type validation struct {
	w    *World
	es   postern.Errors
	seen map[string]bool // IDs of all kinds
}

func (v *validation) invalid(field, value, message, fix string) {
	v.es.Add(postern.Invalid(field, value, message, fix))
}

func (v *validation) id(field, value string, form *regexp.Regexp, fix string) {
	switch {
	case !form.MatchString(value):
		v.invalid(field, value, "not an identifier of the right form", fix)
	case v.seen[value]:
		v.invalid(field, value, "named twice", "name it once")
	}
	v.seen[value] = true
}

func (v *validation) owner(at, account, region string) {
	if _, ok := v.w.account(account); !ok {
		v.invalid(at+".account", account, "no such account", "use the id of an entry of accounts")
	}
	if _, ok := v.w.region(region); !ok {
		v.invalid(at+".region", region, "no such region", "use the name of an entry of regions")
	}
}

// zone checks that a region has a zone.
func (v *validation) zone(field, region, id string) {
	r, ok := v.w.region(region)
	if e := postern.CheckZoneID(field, id); e != nil {
		v.es.Add(e)
	} else if ok && !slices.Contains(r.ZoneIDs, id) {
		v.invalid(field, id, "not a zone of "+region, "use one of its availability_zone_ids")
	}
}

// zoneOnce checks the i-th of a list's zones, which are named once each.
func (v *validation) zoneOnce(field, region string, i int, ids []string) {
	v.zone(field, region, ids[i])
	if slices.Contains(ids[:i], ids[i]) {
		v.invalid(field, ids[i], "named twice", "name each Availability Zone once")
	}
}

func (v *validation) accounts() {
	names := map[string]bool{}
	for i, a := range v.w.Accounts {
		at := fmt.Sprintf("accounts[%d]", i)
		if e := postern.CheckAccountID(at+".id", a.ID); e != nil {
			v.es.Add(e)
		}
		if v.seen[a.ID] {
			v.invalid(at+".id", a.ID, "named twice", "name it once")
		}
		v.seen[a.ID] = true
		if a.Name == "" || names[a.Name] {
			v.invalid(at+".name", a.Name, "missing or named twice", "give each account a name of its own")
		}
		names[a.Name] = true
		for j, k := range a.AccessKeys {
			at := fmt.Sprintf("%s.access_keys[%d]", at, j)
			v.id(at+".id", k.ID, keyID, "use at least 16 capital letters and digits")
			if k.Secret == "" {
				v.invalid(at+".secret", "", "missing", "give the key a secret")
			}
			if k.Principal != "" && !iamARN.MatchString(k.Principal) {
				v.invalid(at+".principal_arn", k.Principal, "not the ARN of a root, user, role or assumed role", "leave it out for the account's root")
			}
		}
	}
}

func (v *validation) regions() {
	for i, r := range v.w.Regions {
		at := fmt.Sprintf("regions[%d]", i)
		v.es.Add(postern.CheckRegionName(at+".name", r.Name))
		if v.seen[r.Name] {
			v.invalid(at+".name", r.Name, "named twice", "name it once")
		}
		v.seen[r.Name] = true
		for j := range r.ZoneIDs {
			v.zoneOnce(fmt.Sprintf("%s.availability_zone_ids[%d]", at, j), r.Name, j, r.ZoneIDs)
		}
		if n := len(r.ZoneIDs); n == 0 || n > 26 {
			v.invalid(at+".availability_zone_ids", strconv.Itoa(n), "not between 1 and 26 zones", "list the region's zone IDs")
		}
	}
}

func (v *validation) vpcs() {
	for i, n := range v.w.VPCs {
		at := fmt.Sprintf("vpcs[%d]", i)
		v.id(at+".id", n.ID, vpcID, "use vpc- and 17 hexadecimal digits")
		v.id(at+".default_security_group", n.DefaultSecurityGroup, groupID, "use sg- and 17 hexadecimal digits")
		for j, g := range n.Groups {
			at := fmt.Sprintf("%s.security_groups[%d]", at, j)
			v.id(at+".id", g.ID, groupID, "use sg- and 17 hexadecimal digits")
			for k, h := range g.Hosts {
				if !n.CIDR.Contains(h) {
					v.invalid(fmt.Sprintf("%s.hosts[%d]", at, k), h.String(), "outside of the VPC", "give an address in its cidr")
				}
			}
		}
		v.owner(at, n.Account, n.Region)
		if !v.network(at+".cidr", n.CIDR) {
			continue
		}
		for j, o := range v.w.VPCs[:i] {
			// At AWS networks may overlap; on one machine an address is one.
			if o.CIDR.IsValid() && o.CIDR.Overlaps(n.CIDR) {
				v.invalid(at+".cidr", n.CIDR.String(), fmt.Sprintf("overlaps vpcs[%d]", j), "give each VPC a network of its own")
			}
		}
		for j, s := range n.Subnets {
			at := fmt.Sprintf("%s.subnets[%d]", at, j)
			v.id(at+".id", s.ID, subnetID, "use subnet- and 17 hexadecimal digits")
			// Several subnets may share a zone.
			v.zone(at+".availability_zone_id", n.Region, s.ZoneID)
			if !v.network(at+".cidr", s.CIDR) {
				continue
			}
			if !n.CIDR.Contains(s.CIDR.Addr()) || s.CIDR.Bits() < n.CIDR.Bits() {
				v.invalid(at+".cidr", s.CIDR.String(), "not within the VPC's network", "use a part of "+n.CIDR.String())
			}
			for k, o := range n.Subnets[:j] {
				if o.CIDR.IsValid() && o.CIDR.Overlaps(s.CIDR) {
					v.invalid(at+".cidr", s.CIDR.String(), fmt.Sprintf("overlaps subnets[%d]", k), "give each subnet a network of its own")
				}
			}
		}
	}
}

func (v *validation) network(field string, p netip.Prefix) bool {
	if p.IsValid() && p.Addr().Is4() && p.Masked() == p && p.Bits() >= 8 && p.Bits() <= 28 {
		return true
	}
	value := ""
	if p.IsValid() {
		value = p.String()
	}
	v.invalid(field, value, "not an IPv4 network between /8 and /28 without host bits", `write it as "127.80.0.0/20"`)
	return false
}

func (v *validation) loadBalancers() {
	for i, l := range v.w.LoadBalancers {
		at := fmt.Sprintf("load_balancers[%d]", i)
		v.id(at+".arn", l.ARN, lbARN, "use arn:aws:elasticloadbalancing:REGION:ACCOUNT:loadbalancer/net/NAME/ and 16 hexadecimal digits")
		v.owner(at, l.Account, l.Region)
		if m := lbARN.FindStringSubmatch(l.ARN); m != nil && (m[2] != l.Region || m[3] != l.Account) {
			v.invalid(at+".arn", l.ARN, "names another region or account than the load balancer's", "make them agree")
		}
		if len(l.Nodes) == 0 {
			v.invalid(at+".nodes", "", "no node", "list at least one zone")
		}
		for j, n := range l.Nodes {
			v.zoneOnce(fmt.Sprintf("%s.nodes[%d].availability_zone_id", at, j), l.Region, j, l.zoneIDs())
			if n.Address.IsValid() && !n.Address.Is4() {
				v.invalid(fmt.Sprintf("%s.nodes[%d].address", at, j), n.Address.String(), "not an IPv4 address", "PrivateLink reaches targets by IPv4 here")
			}
		}
		ports := map[uint16]bool{}
		for j, ln := range l.Listeners {
			at := fmt.Sprintf("%s.listeners[%d]", at, j)
			if ln.Port == 0 || ports[ln.Port] {
				v.invalid(at+".port", strconv.Itoa(int(ln.Port)), "missing or used twice", "give each listener a TCP port of its own")
			}
			ports[ln.Port] = true
			for k, t := range ln.Targets {
				if !t.IsValid() || t.Port() == 0 || !t.Addr().Is4() {
					v.invalid(fmt.Sprintf("%s.targets[%d]", at, k), t.String(), "not an IPv4 address with a port", `write it as "127.0.0.1:8443"`)
				}
			}
		}
	}
}

func (v *validation) services() {
	used := map[string]int{}
	for i, s := range v.w.EndpointServices {
		at := fmt.Sprintf("endpoint_services[%d]", i)
		if _, e := postern.ParseServiceName(at+".id", s.ServiceName()); e != nil || v.seen[s.ID] {
			v.invalid(at+".id", s.ID, "not an endpoint service ID, or named twice", "use vpce-svc- and 17 hexadecimal digits")
		}
		v.seen[s.ID] = true
		v.owner(at, s.Account, s.Region)
		if len(s.LoadBalancers) == 0 {
			v.invalid(at+".load_balancer_arns", "", "no load balancer", "an endpoint service needs at least one")
		}
		for j, arn := range s.LoadBalancers {
			at := fmt.Sprintf("%s.load_balancer_arns[%d]", at, j)
			l, ok := v.w.loadBalancer(arn)
			switch other, taken := used[arn]; {
			case !ok:
				v.invalid(at, arn, "no such load balancer", "use the arn of an entry of load_balancers")
			case l.Account != s.Account || l.Region != s.Region:
				v.invalid(at, arn, "belongs to another account or region", "use a load balancer of the service's own")
			case taken:
				v.invalid(at, arn, fmt.Sprintf("belongs to endpoint_services[%d]", other), "a load balancer serves one endpoint service")
			}
			used[arn] = i
		}
		for j, p := range s.AllowedPrincipals {
			if p != "*" {
				v.es.Add(postern.CheckPrincipalARN(fmt.Sprintf("%s.allowed_principals[%d]", at, j), p))
			}
		}
		for j, r := range s.SupportedRegions {
			if _, ok := v.w.region(r); !ok {
				v.invalid(fmt.Sprintf("%s.supported_regions[%d]", at, j), r, "no such region", "use the name of an entry of regions")
			}
		}
	}
}
