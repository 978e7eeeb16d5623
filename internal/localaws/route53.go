package localaws

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/postern-net/postern/internal/localaws/sigv4"
)

// Route 53 is REST with XML bodies, and one service for all regions.
const (
	serviceRoute53   = "route53"
	route53Region    = "us-east-1" // of credential scopes at AWS
	route53Prefix    = "/2013-04-01/"
	namespaceRoute53 = "https://route53.amazonaws.com/doc/2013-04-01/"
)

type route struct {
	method, path, action string
	alone                bool
}

// route53Routes are the requests that are known: method, path below the
// version with {variables}, and the action. alone: while one is processed,
// others of the kind for the same zone are refused.
func route53Routes() []route {
	return []route{
		{http.MethodPost, "hostedzone", "CreateHostedZone", false},
		{http.MethodGet, "hostedzone", "ListHostedZones", false},
		{http.MethodGet, "hostedzonesbyname", "ListHostedZonesByName", false},
		{http.MethodGet, "hostedzone/{Id}", "GetHostedZone", false},
		{http.MethodDelete, "hostedzone/{Id}", "DeleteHostedZone", true},
		{http.MethodPost, "hostedzone/{Id}/rrset", "ChangeResourceRecordSets", true},
		{http.MethodGet, "hostedzone/{Id}/rrset", "ListResourceRecordSets", false},
		{http.MethodGet, "change/{Id}", "GetChange", false},
		{http.MethodPost, "hostedzone/{Id}/associatevpc", "AssociateVPCWithHostedZone", true},
		{http.MethodPost, "hostedzone/{Id}/disassociatevpc", "DisassociateVPCFromHostedZone", false},
		{http.MethodPost, "hostedzone/{Id}/authorizevpcassociation", "CreateVPCAssociationAuthorization", false},
		{http.MethodGet, "hostedzone/{Id}/authorizevpcassociation", "ListVPCAssociationAuthorizations", false},
		{http.MethodPost, "hostedzone/{Id}/deauthorizevpcassociation", "DeleteVPCAssociationAuthorization", false},
		{http.MethodGet, "tags/{ResourceType}/{Id}", "ListTagsForResource", false},
		{http.MethodPost, "tags/{ResourceType}/{Id}", "ChangeTagsForResource", false},
	}
}

// route53Actions are the Route 53 actions that the stand-in knows, and no
// other.
func route53Actions() map[string]action {
	return map[string]action{
		"CreateHostedZone":                  {(*Server).createZone, route53Bucket},
		"GetHostedZone":                     {(*Server).getZone, route53Bucket},
		"ListHostedZones":                   {(*Server).listZones, route53Bucket},
		"ListHostedZonesByName":             {(*Server).listZonesByName, route53Bucket},
		"DeleteHostedZone":                  {(*Server).deleteZone, route53Bucket},
		"ChangeResourceRecordSets":          {(*Server).changeRecords, route53Bucket},
		"ListResourceRecordSets":            {(*Server).listRecords, route53Bucket},
		"GetChange":                         {(*Server).getChange, route53Bucket},
		"AssociateVPCWithHostedZone":        {(*Server).associateVPC, route53Bucket},
		"DisassociateVPCFromHostedZone":     {(*Server).disassociateVPC, route53Bucket},
		"CreateVPCAssociationAuthorization": {(*Server).authorizeVPC, route53Bucket},
		"ListVPCAssociationAuthorizations":  {(*Server).listAuthorizations, route53Bucket},
		"DeleteVPCAssociationAuthorization": {(*Server).deauthorizeVPC, route53Bucket},
		"ListTagsForResource":               {(*Server).listZoneTags, route53Bucket},
		"ChangeTagsForResource":             {(*Server).changeZoneTags, route53Bucket},
	}
}

func (s *Server) serveRoute53(w http.ResponseWriter, r *http.Request) {
	id := requestID()
	auth, authErr := sigv4.Parse(r.Header.Get("Authorization"))
	body, ok := s.readBody(w, r, serviceRoute53, id)
	if !ok {
		return
	}
	caller, denied := s.authenticate(r, auth, authErr, body)
	if denied != nil {
		s.writeError(w, serviceRoute53, id, denied)
		return
	}
	c := &call{id: id, service: serviceRoute53, region: auth.Region, caller: caller, at: s.now(), body: body}
	act, bad := s.routeRoute53(c, r)
	if bad != nil {
		s.writeError(w, serviceRoute53, id, bad)
		return
	}
	s.answer(w, c, act)
}

// routeRoute53 finds the action of a request and fills in what path and query
// string say.
func (s *Server) routeRoute53(c *call, r *http.Request) (action, *apiError) {
	var err error
	if c.query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return action{}, invalidInput("The query string is malformed")
	}
	path := strings.Split(strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, route53Prefix), "/"), "/")
	for _, route := range route53Routes() {
		if vars, ok := pathVariables(route.path, path); ok && route.method == r.Method {
			c.action, c.path, c.alone = route.action, vars, route.alone
			return s.route53[c.action], nil
		}
	}
	return action{}, &apiError{Code: "UnknownOperationException", Message: "The request is for no operation that is served here", Status: http.StatusNotFound}
}

func pathVariables(pattern string, path []string) (map[string]string, bool) {
	parts := strings.Split(pattern, "/")
	vars := map[string]string{}
	if len(parts) != len(path) {
		return nil, false
	}
	for i, part := range parts {
		switch name, ok := strings.CutPrefix(part, "{"); {
		case ok && path[i] != "":
			vars[strings.TrimSuffix(name, "}")] = path[i]
		case part != path[i]:
			return nil, false
		}
	}
	return vars, true
}

// route53Reply is embedded in every Route 53 response: the request's ID is only
// in a header.
type route53Reply struct{}

func (route53Reply) stamp(string) {}

// unread takes the elements that a request must not have.
type unread struct {
	Other []element `xml:",any"`
}

type element struct {
	XMLName xml.Name
}

func (u unread) others() []element { return u.Other }

// strict is a part of a request that may hold elements it should not.
type strict interface{ others() []element }

// known refuses elements that the API does not have.
func knownElements(parts ...strict) error {
	for _, p := range parts {
		for _, e := range p.others() {
			return invalidInput("Invalid XML ; unexpected element '%s'", e.XMLName.Local)
		}
	}
	return nil
}

// decode reads the request's body: one element of the API's namespace, without
// a document type, so no entities but XML's own. Query parameters that the
// action does not have are ignored, as at AWS.
func (c *call) decode(root string, into any) error {
	d := xml.NewDecoder(bytes.NewReader(c.body)) //nolint:gosec // into plain structs, of at most maxBody
	start, err := rootElement(d)
	if err != nil {
		return err
	}
	if start.Name.Local != root || start.Name.Space != namespaceRoute53 {
		return invalidInput("Invalid XML ; the root element is not '%s' of %s", root, namespaceRoute53)
	}
	if err := d.DecodeElement(into, &start); err != nil {
		return invalidInput("Invalid XML ; %v", err)
	}
	switch _, err := rootElement(d); {
	case errors.Is(err, errNoElement):
		return nil
	case err != nil:
		return err
	}
	return invalidInput("Invalid XML ; there is more than one root element")
}

// errNoElement is a document without (another) element.
var errNoElement = errors.New("no element")

// rootElement reads up to the next element of the document.
func rootElement(d *xml.Decoder) (xml.StartElement, error) {
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return xml.StartElement{}, fmt.Errorf("%w: %w", errNoElement, invalidInput("Invalid XML ; the document has no element"))
		}
		if err != nil {
			return xml.StartElement{}, invalidInput("Invalid XML ; %v", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			return t, nil
		case xml.Directive:
			return xml.StartElement{}, invalidInput("Invalid XML ; a document type is not allowed")
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return xml.StartElement{}, invalidInput("Invalid XML ; there is text outside of the root element")
			}
		}
	}
}

// maxItems reads the query parameter of a page's size; larger ones than the
// limit mean the limit.
func (c *call) maxItems(name string, limit int) (int, error) {
	raw := c.query.Get(name)
	if raw == "" {
		return limit, nil
	}
	n, err := strconv.Atoi(raw)
	if err != nil || n < 1 {
		return 0, invalidInput("%s '%s' is not a positive number", name, raw)
	}
	return min(n, limit), nil
}

// changeInfo is a change on the wire.
type changeInfo struct {
	ID          string `xml:"Id"`
	Status      string `xml:"Status"`
	SubmittedAt string `xml:"SubmittedAt"`
	Comment     string `xml:"Comment,omitempty"`
}

func (c *zoneChange) info() changeInfo {
	return changeInfo{ID: "/change/" + c.ID, Status: c.status(), SubmittedAt: timestamp(c.Submitted), Comment: c.Comment}
}

type changeReply struct {
	route53Reply
	Info changeInfo `xml:"ChangeInfo"`
}

func (s *Server) getChange(c *call) (replier, error) {
	ch := s.state.Load().Changes[c.path["Id"]]
	if ch == nil || ch.Account != c.caller.account {
		return nil, &apiError{Code: "NoSuchChange", Message: "Could not find resource with ID: " + c.path["Id"], Status: http.StatusNotFound}
	}
	return &changeReply{Info: ch.info()}, nil
}
