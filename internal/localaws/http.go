package localaws

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/postern-net/postern/internal/localaws/query"
	"github.com/postern-net/postern/internal/localaws/sigv4"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 1 << 20

// What the services are called in credential scopes, and their API versions.
const (
	serviceEC2 = "ec2"
	serviceSTS = "sts"

	versionEC2 = "2016-11-15"
	versionSTS = "2011-06-15"

	namespaceEC2 = "http://ec2.amazonaws.com/doc/2016-11-15/"
	namespaceSTS = "https://sts.amazonaws.com/doc/2011-06-15/"
)

// call is one verified request.
type call struct {
	id      string // request ID
	service string // "ec2", "sts" or "route53"
	action  string
	region  string
	caller  principal
	form    *query.Form // of EC2 and STS
	at      time.Time
	// Of Route 53: what the path and the query string say, and the body.
	path  map[string]string
	query url.Values
	body  []byte
	alone bool // no other such call for the same hosted zone meanwhile
}

// parameters are what the caller sent, for [Faults.Calls].
func (c *call) parameters() map[string]string {
	if c.form != nil {
		return c.form.Values()
	}
	out := maps.Clone(c.path)
	for name, values := range c.query {
		out[name] = strings.Join(values, ",")
	}
	if len(c.body) > 0 {
		out["Body"] = string(c.body[:min(len(c.body), maxToldBody)])
	}
	return out
}

// maxToldBody is how much of a body [Faults.Calls] tells, in bytes.
const maxToldBody = 16 << 10

// action is how one API action is answered. run returns a pointer to the
// response, whose element is called after the action.
type action struct {
	run    func(*Server, *call) (replier, error)
	bucket bucketClass
}

// replier is a response that carries the request's ID.
type replier interface{ stamp(requestID string) }

// reply is embedded in every EC2 response.
type reply struct {
	RequestID string `xml:"requestId"`
}

func (r *reply) stamp(id string) { r.RequestID = id }

// list is a list of the wire: a "fooSet" of "item"s, present even when empty.
type list[T any] struct {
	Items []T `xml:"item"`
}

func listOf[F, T any](from []F, to func(F) T) list[T] {
	out := list[T]{}
	for _, f := range from {
		out.Items = append(out.Items, to(f))
	}
	return out
}

func listed[T any](items []T) list[T] { return list[T]{Items: items} }

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", s.serveAPI)
	mux.HandleFunc(route53Prefix, s.serveRoute53)
	if s.cfg.AllowFaults {
		s.faults.register(mux)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.RLock()
		defer s.calls.RUnlock()
		if s.ctx.Err() != nil {
			panic(http.ErrAbortHandler) // closing: no answer is better than a half one
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	id := requestID()
	// The service is taken from the scope before the signature is verified:
	// errors must have the shape that the caller's parser expects.
	auth, authErr := sigv4.Parse(r.Header.Get("Authorization"))
	if r.Method != http.MethodPost {
		s.writeError(w, auth.Service, id, &apiError{Code: "InvalidAction", Message: "Only POST requests are served", Status: http.StatusMethodNotAllowed})
		return
	}
	body, ok := s.readBody(w, r, auth.Service, id)
	if !ok {
		return
	}
	caller, denied := s.authenticate(r, auth, authErr, body)
	if denied != nil {
		s.writeError(w, auth.Service, id, denied)
		return
	}
	c, act, bad := s.parse(auth, caller, body)
	if bad != nil {
		s.writeError(w, auth.Service, id, bad)
		return
	}
	c.id = id
	s.answer(w, c, act)
}

// readBody reads a request's body, or answers that it is too large.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, service, id string) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		return body, true
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		s.writeError(w, service, id, &apiError{Code: "RequestEntityTooLarge", Message: fmt.Sprintf("The request is larger than %d bytes", maxBody), Status: http.StatusRequestEntityTooLarge})
	}
	return nil, false // else the client is gone
}

// authenticate verifies the signature. EC2 tells some mistakes by other codes
// than the rest. Which services an address serves follows from its path.
func (s *Server) authenticate(r *http.Request, auth sigv4.Authorization, parseErr error, body []byte) (principal, *apiError) {
	forbidden := func(code, format string, args ...any) *apiError {
		e := fail(code, format, args...)
		e.Status = http.StatusForbidden
		return e
	}
	ec2Denied := &apiError{Code: "AuthFailure", Message: "AWS was not able to validate the provided access credentials", Status: http.StatusUnauthorized}
	onRoute53 := strings.HasPrefix(r.URL.Path, route53Prefix)
	switch {
	case errors.Is(parseErr, sigv4.ErrMissing):
		return principal{}, forbidden("MissingAuthenticationToken", "Request is missing Authentication Token")
	case parseErr != nil:
		return principal{}, fail("IncompleteSignature", "%v", parseErr)
	case onRoute53 && auth.Service != serviceRoute53:
		return principal{}, forbidden("SignatureDoesNotMatch", "Credential should be scoped to correct service: 'route53', not '%s'", auth.Service)
	case !onRoute53 && auth.Service != serviceEC2 && auth.Service != serviceSTS:
		return principal{}, forbidden("SignatureDoesNotMatch", "Credential should be scoped to correct service: 'ec2' or 'sts', not '%s'", auth.Service)
	}
	p, ok := s.keys[auth.AccessKeyID]
	if !ok || p.key.SessionToken != r.Header.Get("X-Amz-Security-Token") {
		if auth.Service == serviceEC2 {
			return principal{}, ec2Denied
		}
		return principal{}, forbidden("InvalidClientTokenId", "The security token included in the request is invalid.")
	}
	// Route 53's region is us-east-1, but a client that was given an endpoint's
	// URL cannot know that it speaks to a service without regions.
	if _, ok := s.world.region(auth.Region); !ok && (!onRoute53 || auth.Region != route53Region) {
		return principal{}, forbidden("SignatureDoesNotMatch", "Credential should be scoped to a valid region, not '%s'.", auth.Region)
	}
	err := auth.Verify(r, body, p.key.Secret, s.now())
	switch {
	case err == nil:
		return p, nil
	case errors.Is(err, sigv4.ErrMalformed):
		return principal{}, fail("IncompleteSignature", "%v", err)
	case errors.Is(err, sigv4.ErrSkewed) && auth.Service == serviceEC2:
		return principal{}, fail("RequestExpired", "Request has expired.")
	case errors.Is(err, sigv4.ErrSkewed):
		return principal{}, forbidden("SignatureDoesNotMatch", "Signature expired: %v", err)
	case auth.Service == serviceEC2:
		return principal{}, ec2Denied
	}
	return principal{}, forbidden("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}

func (s *Server) parse(auth sigv4.Authorization, caller principal, body []byte) (*call, action, *apiError) {
	form, err := query.Parse(body)
	if err != nil {
		return nil, action{}, fail("MalformedQueryString", "%v", err)
	}
	c := &call{service: auth.Service, region: auth.Region, caller: caller, form: form, action: form.String("Action"), at: s.now()}
	if c.action == "" {
		return nil, action{}, fail("MissingAction", "The request is missing an action or a required parameter")
	}
	actions, version := s.ec2, versionEC2
	if c.service == serviceSTS {
		actions, version = s.sts, versionSTS
	}
	act, ok := actions[c.action]
	if got := form.String("Version"); !ok || got != version {
		return nil, action{}, fail("InvalidAction", "The action %s is not valid for this web service, version %s.", c.action, got)
	}
	return c, act, nil
}

// answer runs a call between the faults that match it.
func (s *Server) answer(w http.ResponseWriter, c *call, act action) {
	acc, _ := s.world.account(c.caller.account)
	run := s.faults.begin(c, acc.Name)
	if c.alone {
		zone := c.caller.account + " " + c.path["Id"]
		if !s.busy.enter(zone) {
			run.finish(priorRequest())
			s.writeError(w, c.service, c.id, priorRequest())
			return
		}
		defer s.busy.leave(zone)
	}
	if s.broken(w, run, BeforeCommit) {
		return
	}
	res, err := s.run(c, act)
	if s.broken(w, run, AfterCommit) {
		return
	}
	if err != nil {
		run.finish(err)
		s.writeError(w, c.service, c.id, err)
		return
	}
	run.finish(nil)
	s.writeReply(w, c, res)
}

func (s *Server) run(c *call, act action) (replier, *apiError) {
	if err := s.advance(); err != nil {
		s.log.Error("state could not be saved", "error", err)
		return nil, internalError()
	}
	if s.cfg.Throttle && !s.buckets.take(c, act.bucket) {
		return nil, throttled(c.service)
	}
	if c.service == serviceEC2 {
		dry, _, err := c.form.Bool("DryRun")
		if err != nil {
			return nil, fail("InvalidParameterValue", "%v", err)
		}
		if dry {
			return nil, dryRun()
		}
	}
	res, err := act.run(s, c)
	if err == nil {
		return res, nil
	}
	var api *apiError
	var param *query.ParameterError
	switch {
	case errors.As(err, &api):
		return nil, api
	case errors.As(err, &param):
		return nil, fail("InvalidParameterValue", "%v", param)
	}
	s.log.Error("call failed", "action", c.action, "error", err)
	return nil, internalError()
}

// known refuses parameters that the action did not ask for. An action calls it
// once all of its own are read, before it changes anything.
func (c *call) known() error {
	if left := c.form.Unread(); len(left) > 0 {
		return fail("UnknownParameter", "The parameter %s is not recognized", left[0])
	}
	return nil
}

func (s *Server) writeReply(w http.ResponseWriter, c *call, res replier) {
	res.stamp(c.id)
	ns := namespaceEC2
	status := http.StatusOK
	switch c.service {
	case serviceSTS:
		ns = namespaceSTS
	case serviceRoute53:
		ns = namespaceRoute53
	}
	if created, ok := res.(interface{ location() string }); ok {
		status = http.StatusCreated
		w.Header().Set("Location", created.location())
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	start := xml.StartElement{Name: xml.Name{Local: c.action + "Response"}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: ns}}}
	if err := xml.NewEncoder(&b).EncodeElement(res, start); err != nil {
		s.log.Error("response could not be encoded", "action", c.action, "error", err)
		s.writeError(w, c.service, c.id, internalError())
		return
	}
	s.write(w, c.id, status, b.Bytes())
}

type ec2Error struct {
	XMLName   xml.Name `xml:"Response"`
	Code      string   `xml:"Errors>Error>Code"`
	Message   string   `xml:"Errors>Error>Message"`
	RequestID string   `xml:"RequestID"`
}

// faultError is how the services other than EC2 tell an error.
type faultError struct {
	XMLName   xml.Name
	Type      string `xml:"Error>Type"` // whose fault it is: Sender's or Receiver's
	Code      string `xml:"Error>Code"`
	Message   string `xml:"Error>Message"`
	RequestID string `xml:"RequestId"`
}

func newFaultError(namespace, id string, e *apiError) any {
	kind := "Sender"
	if e.Status >= http.StatusInternalServerError {
		kind = "Receiver"
	}
	return faultError{XMLName: xml.Name{Space: namespace, Local: "ErrorResponse"}, Type: kind, Code: e.Code, Message: e.Message, RequestID: id}
}

func (s *Server) writeError(w http.ResponseWriter, service, id string, e *apiError) {
	var v any
	switch service {
	case serviceSTS:
		v = newFaultError(namespaceSTS, id, e)
	case serviceRoute53:
		v = newRoute53Error(id, e)
	default:
		v = ec2Error{Code: e.Code, Message: e.Message, RequestID: id}
	}
	data, err := xml.Marshal(v)
	if err != nil {
		s.log.Error("error could not be encoded", "code", e.Code, "error", err)
		data = nil
	}
	s.write(w, id, e.Status, append([]byte(xml.Header), data...))
}

func (s *Server) write(w http.ResponseWriter, id string, status int, body []byte) {
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.Header().Set("X-Amzn-Requestid", id)
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil { //nolint:gosec // XML, encoded as such, and no browser signs requests
		s.log.Debug("answer not sent", "request_id", id, "error", err)
	}
}

// requestID has the form of a UUID, as AWS's have.
func requestID() string {
	h := randomHex(16)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
