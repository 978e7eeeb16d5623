package localaws

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Limits of a private zone (Route 53 quotas).
const (
	maxZoneVPCs       = 300
	maxAuthorizations = 1000
	authorizationPage = 50
)

type vpcRef struct {
	Region string `xml:"VPCRegion"`
	ID     string `xml:"VPCId"`
}

type vpcInput struct {
	vpcRef
	unread
}

type vpcList struct {
	Items []vpcRef `xml:"VPC"`
}

func wireVPCs(vpcs []zoneVPC) *vpcList {
	out := &vpcList{}
	for _, v := range vpcs {
		out.Items = append(out.Items, vpcRef(v))
	}
	return out
}

// vpcOf finds a VPC of the account by region and ID.
func (s *Server) vpcOf(account string, v vpcRef) (zoneVPC, bool) {
	found, ok := s.world.vpc(v.ID)
	return zoneVPC(v), ok && found.Region == v.Region && found.Account == account
}

// vpcRequest is the body of all requests about a VPC and a zone.
type vpcRequest struct {
	VPC     *vpcInput `xml:"VPC"`
	Comment string    `xml:"Comment"`
	unread
}

func (c *call) vpcRequest() (vpcRef, string, error) {
	var in vpcRequest
	if err := c.decode(c.action+"Request", &in); err != nil {
		return vpcRef{}, "", err
	}
	if in.VPC == nil {
		return vpcRef{}, "", invalidInput("Invalid XML ; the element VPC is missing")
	}
	if err := knownElements(in, in.VPC); err != nil {
		return vpcRef{}, "", err
	}
	if !vpcID.MatchString(in.VPC.ID) || in.VPC.Region == "" {
		return vpcRef{}, "", badVPC(in.VPC.vpcRef)
	}
	return in.VPC.vpcRef, in.Comment, nil
}

// nameFree refuses a VPC that already sees another private zone of the same
// name, or this one.
func (st *state) nameFree(z *hostedZone, vpcs ...zoneVPC) error {
	for _, o := range st.Zones {
		if o.Deleted || !o.Private || o.Now.Zone.Name != z.Now.Zone.Name {
			continue
		}
		for _, v := range vpcs {
			if slices.Contains(o.Now.VPCs, v) {
				return conflictingDomain(v, o.ID)
			}
		}
	}
	return nil
}

// associateVPC lets a VPC see a private zone. Its owner asks, and owns the zone
// as well or was authorized by the one who does.
func (s *Server) associateVPC(c *call) (replier, error) {
	wire, comment, err := c.vpcRequest()
	if err != nil {
		return nil, err
	}
	v, own := s.vpcOf(c.caller.account, wire)
	out := &changeReply{}
	return out, s.update(func(st *state) error {
		z, ok := st.zone(c.path["Id"])
		switch {
		case !ok:
			return noZone(c.path["Id"])
		case !own && z.Account != c.caller.account:
			return badVPC(wire)
		case !own || (z.Account != c.caller.account && !slices.Contains(z.Authorized, v)):
			e := fail("NotAuthorizedException", "The VPC: %s has not authorized to associate with your hosted zone.", v.ID)
			e.Status = http.StatusUnauthorized
			return e
		case !z.Private:
			return fail("PublicZoneVPCAssociation", "You're trying to associate a VPC with a public hosted zone. Amazon Route 53 doesn't support associating a VPC with a public hosted zone.")
		case len(z.Now.VPCs) >= maxZoneVPCs:
			return fail("LimitsExceeded", "A private hosted zone can be associated with at most %d VPCs", maxZoneVPCs)
		}
		if err := st.nameFree(z, v); err != nil {
			return err
		}
		z.Now.VPCs = append(slices.Clone(z.Now.VPCs), v)
		ch := st.submit(c, z, comment, s.timing.Change)
		out.Info = ch.info()
		return nil
	})
}

// disassociateVPC takes a zone from a VPC, for the owner of either.
func (s *Server) disassociateVPC(c *call) (replier, error) {
	wire, comment, err := c.vpcRequest()
	if err != nil {
		return nil, err
	}
	v, own := s.vpcOf(c.caller.account, wire)
	out := &changeReply{}
	return out, s.update(func(st *state) error {
		z, ok := st.zone(c.path["Id"])
		switch {
		case !ok || (!own && z.Account != c.caller.account):
			return noZone(c.path["Id"])
		case !slices.Contains(z.Now.VPCs, v):
			e := fail("VPCAssociationNotFound", "The VPC: %s in region %s is not associated with the hosted zone.", v.ID, v.Region)
			e.Status = http.StatusNotFound
			return e
		case len(z.Now.VPCs) == 1:
			return fail("LastVPCAssociation", "The VPC that you're trying to disassociate from the private hosted zone is the last VPC that is associated with the hosted zone.")
		}
		z.Now.VPCs = slices.DeleteFunc(slices.Clone(z.Now.VPCs), func(have zoneVPC) bool { return have == v })
		ch := st.submit(c, z, comment, s.timing.Change)
		out.Info = ch.info()
		return nil
	})
}

type authorizationReply struct {
	route53Reply
	Zone string `xml:"HostedZoneId"`
	VPC  vpcRef `xml:"VPC"`
}

// authorizeVPC lets the owner of a VPC, usually another account, associate it.
// Whether the VPC exists shows only then.
func (s *Server) authorizeVPC(c *call) (replier, error) {
	wire, _, err := c.vpcRequest()
	if err != nil {
		return nil, err
	}
	return &authorizationReply{Zone: c.path["Id"], VPC: wire}, s.update(func(st *state) error {
		z, err := st.ownZone(c)
		switch {
		case err != nil:
			return err
		case !z.Private:
			return invalidInput("%s is a public hosted zone", z.ID)
		case slices.Contains(z.Authorized, zoneVPC(wire)):
			return nil
		case len(z.Authorized) >= maxAuthorizations:
			return fail("TooManyVPCAssociationAuthorizations", "A hosted zone can have at most %d authorizations", maxAuthorizations)
		}
		z.Authorized = append(z.Authorized, zoneVPC(wire))
		return nil
	})
}

type deauthorizationReply struct{ route53Reply }

// deauthorizeVPC takes an authorization back. The association that was made by
// it stays.
func (s *Server) deauthorizeVPC(c *call) (replier, error) {
	wire, _, err := c.vpcRequest()
	if err != nil {
		return nil, err
	}
	return &deauthorizationReply{}, s.update(func(st *state) error {
		z, err := st.ownZone(c)
		if err != nil {
			return err
		}
		at := slices.Index(z.Authorized, zoneVPC(wire))
		if at < 0 {
			e := fail("VPCAssociationAuthorizationNotFound", "The VPC %s is not authorized to be associated with the hosted zone.", wire.ID)
			e.Status = http.StatusNotFound
			return e
		}
		z.Authorized = slices.Delete(z.Authorized, at, at+1)
		return nil
	})
}

type listAuthorizationsReply struct {
	route53Reply
	Zone string   `xml:"HostedZoneId"`
	Next string   `xml:"NextToken,omitempty"`
	VPCs *vpcList `xml:"VPCs"`
}

func (s *Server) listAuthorizations(c *call) (replier, error) {
	z, err := s.state.Load().ownZone(c)
	if err != nil {
		return nil, err
	}
	n, err := c.maxItems("maxresults", authorizationPage)
	if err != nil {
		return nil, err
	}
	all := slices.SortedFunc(slices.Values(z.Authorized), func(a, b zoneVPC) int { return strings.Compare(a.ID, b.ID) })
	from := 0
	if token := c.query.Get("nexttoken"); token != "" {
		if from, err = strconv.Atoi(token); err != nil || from < 0 || from > len(all) {
			return nil, fail("InvalidPaginationToken", "The value that you specified for NextToken is not valid: %s", token)
		}
	}
	out := &listAuthorizationsReply{Zone: z.ID}
	page := all[from:]
	if len(page) > n {
		page, out.Next = page[:n], strconv.Itoa(from+n)
	}
	out.VPCs = wireVPCs(page)
	return out, nil
}
