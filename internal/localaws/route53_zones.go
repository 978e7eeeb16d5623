package localaws

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/postern-net/postern/internal/localaws/hostedzone"
)

// Limits of an account's zones (Route 53 quotas), and of pages.
const (
	maxZones        = 500
	zonesPerPage    = 100
	maxZoneTags     = 10
	maxCallerRef    = 128
	maxComment      = 256
	zoneIDPrefix    = "/hostedzone/"
	resourceTypeTag = "hostedzone" // of a zone's tags
)

type hostedZoneXML struct {
	ID              string     `xml:"Id"`
	Name            string     `xml:"Name"`
	CallerReference string     `xml:"CallerReference"`
	Config          zoneConfig `xml:"Config"`
	Records         int        `xml:"ResourceRecordSetCount"`
}

type zoneConfig struct {
	Comment string `xml:"Comment,omitempty"`
	Private bool   `xml:"PrivateZone"`
}

func (z *hostedZone) wire() hostedZoneXML {
	return hostedZoneXML{
		ID: zoneIDPrefix + z.ID, Name: z.Now.Zone.Name, CallerReference: z.CallerReference,
		Config: zoneConfig{Comment: z.Comment, Private: z.Private}, Records: len(z.Now.Zone.Records),
	}
}

// delegationSet is what only public zones tell.
type delegationSet struct {
	NameServers []string `xml:"NameServers>NameServer"`
}

func (z *hostedZone) delegation() *delegationSet {
	if z.Private {
		return nil
	}
	return &delegationSet{z.NameServers}
}

type createZoneInput struct {
	Name            string         `xml:"Name"`
	VPC             *vpcInput      `xml:"VPC"`
	CallerReference string         `xml:"CallerReference"`
	Config          *configInput   `xml:"HostedZoneConfig"`
	DelegationSet   *emptyOrString `xml:"DelegationSetId"`
	unread
}

type configInput struct {
	Comment string `xml:"Comment"`
	Private *bool  `xml:"PrivateZone"`
	unread
}

// emptyOrString tells an element that is there from one that is not.
type emptyOrString struct {
	Text string `xml:",chardata"`
}

type createZoneReply struct {
	route53Reply
	Zone       hostedZoneXML  `xml:"HostedZone"`
	Change     changeInfo     `xml:"ChangeInfo"`
	Delegation *delegationSet `xml:"DelegationSet"`
	VPC        *vpcRef        `xml:"VPC"`
}

func (r *createZoneReply) location() string {
	return "https://route53.amazonaws.com" + route53Prefix + strings.TrimPrefix(r.Zone.ID, "/")
}

func (in *createZoneInput) check() (name string, err error) {
	parts := []strict{in}
	if in.Config != nil {
		parts = append(parts, in.Config)
	}
	if in.VPC != nil {
		parts = append(parts, in.VPC)
	}
	if err := knownElements(parts...); err != nil {
		return "", err
	}
	config := configInput{}
	if in.Config != nil {
		config = *in.Config
	}
	switch {
	case in.CallerReference == "" || len(in.CallerReference) > maxCallerRef:
		return "", invalidInput("CallerReference must have 1 to %d characters", maxCallerRef)
	case len(config.Comment) > maxComment:
		return "", invalidInput("Comment must have at most %d characters", maxComment)
	case in.VPC == nil && config.Private != nil && *config.Private:
		return "", invalidInput("When you're creating a private hosted zone (when you specify true for PrivateZone), you must also specify values for VPCId and VPCRegion.")
	case in.DelegationSet != nil && in.DelegationSet.Text != "":
		return "", fail("NoSuchDelegationSet", "The specified delegation set does not exist: %s", in.DelegationSet.Text)
	}
	name, err = hostedzone.ParseName(in.Name)
	if err != nil || strings.HasPrefix(name, "*") {
		return "", fail("InvalidDomainName", "The domain name is not valid: '%s'", in.Name)
	}
	return name, nil
}

func (s *Server) createZone(c *call) (replier, error) {
	var in createZoneInput
	if err := c.decode("CreateHostedZoneRequest", &in); err != nil {
		return nil, err
	}
	name, err := in.check()
	if err != nil {
		return nil, err
	}
	z := &hostedZone{
		ID: newZoneID("Z"), Account: c.caller.account, CallerReference: in.CallerReference,
		Private: in.VPC != nil, NameServers: newNameServers(in.VPC != nil), Created: c.at,
	}
	z.Now.Zone = hostedzone.New(name, z.NameServers)
	if in.Config != nil {
		z.Comment = in.Config.Comment
	}
	out := &createZoneReply{Zone: z.wire(), Delegation: z.delegation()}
	if in.VPC != nil {
		v, ok := s.vpcOf(c.caller.account, in.VPC.vpcRef)
		if !ok {
			return nil, badVPC(in.VPC.vpcRef)
		}
		z.Now.VPCs, out.VPC = []zoneVPC{v}, &in.VPC.vpcRef
	}
	return out, s.update(func(st *state) error {
		own := st.zonesOf(c.caller.account)
		if len(own) >= maxZones {
			return fail("TooManyHostedZones", "Limits Exceeded: MAX_HOSTED_ZONES_BY_OWNER - Cannot create more hosted zones.")
		}
		for _, o := range own {
			if o.CallerReference == z.CallerReference {
				e := fail("HostedZoneAlreadyExists", "A hosted zone has already been created with the specified caller reference.")
				e.Status = http.StatusConflict
				return e
			}
		}
		if err := st.nameFree(z, z.Now.VPCs...); err != nil {
			return err
		}
		st.Zones[z.ID] = z
		ch := st.submit(c, z, "", s.timing.Change)
		out.Change = ch.info()
		return nil
	})
}

type getZoneReply struct {
	route53Reply
	Zone       hostedZoneXML  `xml:"HostedZone"`
	Delegation *delegationSet `xml:"DelegationSet"`
	VPCs       *vpcList       `xml:"VPCs"`
}

func (s *Server) getZone(c *call) (replier, error) {
	z, err := s.state.Load().ownZone(c)
	if err != nil {
		return nil, err
	}
	out := &getZoneReply{Zone: z.wire(), Delegation: z.delegation()}
	if z.Private {
		out.VPCs = wireVPCs(z.Now.VPCs)
	}
	return out, nil
}

type zoneList struct {
	Items []hostedZoneXML `xml:"HostedZone"`
}

func wireZones(zones []*hostedZone) zoneList {
	var out zoneList
	for _, z := range zones {
		out.Items = append(out.Items, z.wire())
	}
	return out
}

type listZonesReply struct {
	route53Reply
	Zones     zoneList `xml:"HostedZones"`
	Marker    string   `xml:"Marker"`
	Truncated bool     `xml:"IsTruncated"`
	Next      string   `xml:"NextMarker,omitempty"`
	MaxItems  int      `xml:"MaxItems"`
}

func (s *Server) listZones(c *call) (replier, error) {
	n, err := c.maxItems("maxitems", zonesPerPage)
	if err != nil {
		return nil, err
	}
	out := &listZonesReply{Marker: c.query.Get("marker"), MaxItems: n}
	zones := slices.DeleteFunc(s.state.Load().zonesOf(c.caller.account), func(z *hostedZone) bool { return z.ID < out.Marker })
	if len(zones) > n {
		out.Truncated, out.Next, zones = true, zones[n].ID, zones[:n]
	}
	out.Zones = wireZones(zones)
	return out, nil
}

type listZonesByNameReply struct {
	route53Reply
	Zones     zoneList `xml:"HostedZones"`
	Name      string   `xml:"DNSName,omitempty"`
	ID        string   `xml:"HostedZoneId,omitempty"`
	Truncated bool     `xml:"IsTruncated"`
	NextName  string   `xml:"NextDNSName,omitempty"`
	NextID    string   `xml:"NextHostedZoneId,omitempty"`
	MaxItems  int      `xml:"MaxItems"`
}

// listZonesByName begins at a name and, for zones that share it, at an ID. The
// name is where the list starts, not what it is restricted to.
func (s *Server) listZonesByName(c *call) (replier, error) {
	n, err := c.maxItems("maxitems", zonesPerPage)
	if err != nil {
		return nil, err
	}
	out := &listZonesByNameReply{Name: c.query.Get("dnsname"), ID: strings.TrimPrefix(c.query.Get("hostedzoneid"), zoneIDPrefix), MaxItems: n}
	from := ""
	switch {
	case out.Name != "":
		if from, err = hostedzone.ParseName(out.Name); err != nil {
			return nil, fail("InvalidDomainName", "The domain name is not valid: '%s'", out.Name)
		}
	case out.ID != "":
		return nil, invalidInput("hostedzoneid needs a dnsname")
	}
	zones := s.state.Load().zonesOf(c.caller.account)
	slices.SortStableFunc(zones, func(a, b *hostedZone) int { return hostedzone.CompareNames(a.Now.Zone.Name, b.Now.Zone.Name) })
	zones = slices.DeleteFunc(zones, func(z *hostedZone) bool {
		order := hostedzone.CompareNames(z.Now.Zone.Name, from)
		return from != "" && (order < 0 || (order == 0 && z.ID < out.ID))
	})
	if len(zones) > n {
		out.Truncated, out.NextName, out.NextID, zones = true, zones[n].Now.Zone.Name, zones[n].ID, zones[:n]
	}
	out.Zones = wireZones(zones)
	return out, nil
}

func (s *Server) deleteZone(c *call) (replier, error) {
	out := &changeReply{}
	return out, s.update(func(st *state) error {
		z, err := st.ownZone(c)
		if err != nil {
			return err
		}
		if !z.Now.Zone.Empty() {
			return fail("HostedZoneNotEmpty", "The specified hosted zone contains non-required resource record sets and so cannot be deleted.")
		}
		z.Deleted = true
		ch := st.submit(c, z, "", s.timing.Change)
		out.Info = ch.info()
		return nil
	})
}

// Tags.

type zoneTag struct {
	Key   string `xml:"Key"`
	Value string `xml:"Value"`
}

type listZoneTagsReply struct {
	route53Reply
	Type string    `xml:"ResourceTagSet>ResourceType"`
	ID   string    `xml:"ResourceTagSet>ResourceId"`
	Tags []zoneTag `xml:"ResourceTagSet>Tags>Tag"`
}

func (st *state) taggedZone(c *call) (*hostedZone, error) {
	if kind := c.path["ResourceType"]; kind != resourceTypeTag {
		return nil, invalidInput("'%s' is not a resource type that can be tagged here", kind)
	}
	return st.ownZone(c)
}

func (s *Server) listZoneTags(c *call) (replier, error) {
	z, err := s.state.Load().taggedZone(c)
	if err != nil {
		return nil, err
	}
	out := &listZoneTagsReply{Type: resourceTypeTag, ID: z.ID}
	for _, key := range slices.Sorted(maps.Keys(z.Tags)) {
		out.Tags = append(out.Tags, zoneTag{key, z.Tags[key]})
	}
	return out, nil
}

type changeTagsInput struct {
	Add    []zoneTag `xml:"AddTags>Tag"`
	Remove []string  `xml:"RemoveTagKeys>Key"`
	unread
}

type changeTagsReply struct{ route53Reply }

func (s *Server) changeZoneTags(c *call) (replier, error) {
	var in changeTagsInput
	if err := c.decode("ChangeTagsForResourceRequest", &in); err != nil {
		return nil, err
	}
	if err := knownElements(in); err != nil {
		return nil, err
	}
	return &changeTagsReply{}, s.update(func(st *state) error {
		z, err := st.taggedZone(c)
		if err != nil {
			return err
		}
		if z.Tags == nil {
			z.Tags = map[string]string{}
		}
		for _, key := range in.Remove {
			delete(z.Tags, key)
		}
		for _, t := range in.Add {
			if t.Key == "" || len(t.Key) > 128 || len(t.Value) > 256 || strings.HasPrefix(strings.ToLower(t.Key), "aws:") {
				return invalidInput("The tag '%s' is not valid", t.Key)
			}
			z.Tags[t.Key] = t.Value
		}
		if len(z.Tags) > maxZoneTags {
			return invalidInput("A hosted zone can have at most %d tags", maxZoneTags)
		}
		return nil
	})
}
