package egress

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/postern-net/postern"
)

// problem is a refusal as a workload reads it (RFC 9457), with the denial and,
// where a connection is not ready, the reason of its condition.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Denial string `json:"denial"`
	Reason string `json:"reason,omitempty"`
}

// retryAfter is when a workload should ask again, in seconds: about as soon as
// the control plane looks at a connection again.
const retryAfter = 30

// statuses are the denials of a proxy as HTTP shows them.
var statuses = map[postern.Denial]struct {
	status int
	title  string
}{
	postern.DenyBadRequest:      {http.StatusBadRequest, "not a CONNECT request that can be taken"},
	postern.DenyAnonymous:       {http.StatusProxyAuthRequired, "the workload is not known"},
	postern.DenyUnknownWorkload: {http.StatusProxyAuthRequired, "the workload is not known"},
	postern.DenyUnknownHost:     {http.StatusForbidden, "no such data connection"},
	postern.DenyWrongPort:       {http.StatusForbidden, "no such port"},
	postern.DenyWrongRegion:     {http.StatusMisdirectedRequest, "another egress' data connection"},
	postern.DenyForbiddenTarget: {http.StatusForbidden, "not a place to connect to"},
	postern.DenyNotReady:        {http.StatusServiceUnavailable, "the data connection is not ready"},
	postern.DenyBackendDown:     {http.StatusBadGateway, "the endpoint does not answer"},
	postern.DenyOverload:        {http.StatusServiceUnavailable, "too many connections"},
}

// established is the answer that makes a connection a tunnel. It must announce
// no body (RFC 9110, section 9.3.6).
const established = "HTTP/1.1 200 Connection established\r\n\r\n"

// answerHead is the answer to a request whose head cannot be taken.
func answerHead(err error) []byte {
	p := problem{Status: http.StatusBadRequest, Denial: string(postern.DenyBadRequest)}
	var headers []string
	switch {
	case errors.Is(err, errNotConnect):
		p.Status = http.StatusMethodNotAllowed
		p.Detail = "this proxy takes CONNECT only; reach the cluster by https, and set the proxy for https"
		headers = append(headers, "Allow: CONNECT")
	case errors.Is(err, errTooLarge):
		p.Status = http.StatusRequestHeaderFieldsTooLarge
		p.Detail = fmt.Sprintf("the request's head has more than %d bytes or %d header fields; send only what a proxy needs", maxHead, maxHeaders)
	case errors.Is(err, errLiteral):
		p.Status, p.Denial = http.StatusForbidden, string(postern.DenyForbiddenTarget)
		p.Detail = "the target is an IP address; connect to a data connection by its hostname"
	default:
		p.Detail = strings.TrimPrefix(err.Error(), "egress: ") + "; send CONNECT host:port HTTP/1.1 with Host and Proxy-Authorization, and nothing behind it until it is answered"
	}
	p.Title = statuses[postern.Denial(p.Denial)].title
	return render(p, headers...)
}

// answerDenial is the answer to a request that is refused. Whoever is not known
// gets one text, whatever is the matter with the credential.
func answerDenial(d Decision) []byte {
	s, ok := statuses[d.Deny]
	if !ok {
		s.status, s.title = http.StatusForbidden, "refused"
	}
	p := problem{Status: s.status, Title: s.title, Detail: d.Message, Denial: string(d.Deny), Reason: string(d.Reason)}
	var headers []string
	switch s.status {
	case http.StatusProxyAuthRequired:
		p.Denial = string(postern.DenyAnonymous)
		p.Detail = "show a token of the workload's tenant in Proxy-Authorization, as a bearer token or as the password of any user, or its client certificate"
		headers = append(headers, `Proxy-Authenticate: Bearer realm="postern"`, `Proxy-Authenticate: Basic realm="postern"`)
	case http.StatusServiceUnavailable:
		headers = append(headers, "Retry-After: "+strconv.Itoa(retryAfter))
	}
	return render(p, headers...)
}

func render(p problem, headers ...string) []byte {
	p.Type = "urn:postern:egress:" + p.Denial
	body, err := json.Marshal(p)
	if err != nil {
		body = []byte("{}") // strings and a number always encode
	}
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", p.Status, http.StatusText(p.Status))
	for _, h := range append(headers, "Content-Type: application/problem+json", "Content-Length: "+strconv.Itoa(len(body)), "Cache-Control: no-store", "Connection: close") {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	return []byte(b.String())
}
