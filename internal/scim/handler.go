package scim

import (
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/accesslog"
)

// serveHTTP judges a request and forwards it, or answers it here.
func (d *Door) serveHTTP(w http.ResponseWriter, r *http.Request) {
	s, ok := r.Context().Value(sessionKey{}).(*session)
	if !ok {
		panic(http.ErrAbortHandler) // not a connection of this door; an answer would be "200 OK"
	}
	if !d.handling.TryRLock() {
		panic(http.ErrAbortHandler) // the door is shut
	}
	defer d.handling.RUnlock()
	s.wake()
	deny, wait := d.judge(s, r)
	x, ctx := d.newExchange(w, r, s)
	defer x.end()
	if deny == "" && !d.begin(x) {
		deny, wait = postern.DenyRate, time.Second
	}
	if deny != "" {
		d.refused(s, deny, nil, slog.String("method", clip(r.Method)), slog.String("path", clip(r.URL.Path)))
		if answer(w, r, deny, wait) {
			s.hangUp()
		}
		return
	}
	defer d.end(x)
	d.forward(x, r.WithContext(ctx))
}

// judge decides on a request as net/http understood it. For HTTP/1.1 much of
// it was demanded of the bytes before; here HTTP/2 is held to the same.
func (d *Door) judge(s *session, r *http.Request) (deny postern.Denial, wait time.Duration) {
	now := time.Now()
	if wait = d.rate(s, now); wait > 0 { // whatever it asks for
		return postern.DenyRate, wait
	}
	path, query, _ := strings.Cut(r.RequestURI, "?")
	switch {
	case !s.stillAdmitted():
		return postern.DenyUnknownHost, 0 // and about to be cut
	case !wellFormed(r):
		return postern.DenyBadRequest, 0
	case !isHost(r.Host, s.name) || len(r.Header["Host"]) > 0 && r.Header["Host"][0] != r.Host:
		return postern.DenyHost, 0
	case !slices.Contains(methods, r.Method):
		return postern.DenyMethod, 0
	case !allowedPath(path):
		return postern.DenyPath, 0
	case !allowedQuery(query) || len(r.RequestURI) > maxTarget || bodyless(r.Method) && r.ContentLength != 0:
		return postern.DenyBadRequest, 0
	case r.ContentLength > d.limits.MaxBody:
		return postern.DenyTooLarge, 0
	}
	if wait = d.hosts.take(s.name, now); wait > 0 {
		return postern.DenyRate, wait
	}
	return "", 0
}

// wellFormed refuses what could be read in two ways, or asks for more than a
// plain request does.
func wellFormed(r *http.Request) bool {
	if !strings.HasPrefix(r.RequestURI, "/") || !allowedFields(r.Header) || len(r.Trailer) > 0 {
		return false
	}
	length, sized := r.Header["Content-Length"]
	if !sized {
		return true
	}
	n, ok := parseLength(length[0])
	return ok && n == r.ContentLength
}

// bodyless methods have no body in RFC 7644, and one is a way to hide a request.
func bodyless(method string) bool { return method == http.MethodGet || method == http.MethodDelete }

// isHost compares a Host field, with or without a port, with the server name
// (in lower case) of the handshake.
func isHost(hostport, name string) bool {
	host, port, found := strings.Cut(hostport, ":")
	if found {
		if _, ok := parseLength(port); !ok || len(port) > 5 {
			return false
		}
	}
	for _, c := range []byte(host) {
		if c >= 0x80 { // EqualFold takes the Kelvin sign for a k
			return false
		}
	}
	return strings.EqualFold(host, name)
}

// refusals are the status of each denial, and what to say.
var refusals = map[postern.Denial]struct {
	status int
	detail string
}{
	postern.DenyUnknownHost: {http.StatusMisdirectedRequest, "not served here"},
	postern.DenyBadRequest:  {http.StatusBadRequest, "malformed request"},
	postern.DenyHost:        {http.StatusMisdirectedRequest, "the host is not the one that the connection is for"},
	postern.DenyMethod:      {http.StatusMethodNotAllowed, "not a method of SCIM (RFC 7644)"},
	postern.DenyPath:        {http.StatusNotFound, "only SCIM is served here, under " + base},
	postern.DenyTooLarge:    {http.StatusRequestEntityTooLarge, "the request is too large"},
	postern.DenyRate:        {http.StatusTooManyRequests, "too many requests"},
	postern.DenySlowBody:    {http.StatusRequestTimeout, "the body did not arrive in time"},
	postern.DenyBackendDown: {http.StatusBadGateway, "the tenant does not answer"},
}

// answer refuses a request with an error as SCIM has it (RFC 7644 §3.12). Over
// HTTP/1.1 the connection ends with it mostly, so that nothing behind it is
// looked at; it tells whether it does.
func answer(w http.ResponseWriter, r *http.Request, deny postern.Denial, wait time.Duration) (last bool) {
	refusal := refusals[deny]
	h := w.Header()
	h.Set("Content-Type", "application/scim+json")
	h.Set("Cache-Control", "no-store")
	protect(h)
	goesOn := deny == postern.DenyRate && r.ContentLength == 0 || deny == postern.DenyBackendDown
	if last = r.ProtoMajor == 1 && !goesOn; last {
		h.Set("Connection", "close")
	}
	if deny == postern.DenyMethod {
		h.Set("Allow", strings.Join(methods, ", "))
	}
	if wait > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	w.WriteHeader(refusal.status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client is gone, or it is not
		"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:Error"}, "status": strconv.Itoa(refusal.status), "detail": refusal.detail,
	})
	return last
}

// clip bounds what a client makes the log hold.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// done counts and logs an admitted request.
func (d *Door) done(s *session, r *http.Request, x *exchange) {
	took := time.Since(x.start)
	d.metrics.bytes.WithLabelValues("up").Add(float64(x.up()))
	d.metrics.bytes.WithLabelValues("down").Add(float64(x.down))
	d.metrics.seconds.Observe(took.Seconds())
	if x.counted {
		return
	}
	if x.denial != "" {
		d.refused(s, x.denial, x.cause, slog.String("method", r.Method), slog.String("path", clip(r.URL.Path)))
		return
	}
	d.metrics.requests.WithLabelValues(resultAdmitted).Inc()
	d.seen.Add(s.key(""), x.start)
	// Without the query: filters name people.
	d.access.Add(accesslog.Admitted, "request", func() entry {
		return append(s.attrs(),
			slog.String("method", r.Method), slog.String("path", clip(r.URL.Path)), slog.String("protocol", r.Proto),
			slog.Int("status", x.status), slog.Int64("bytes_up", x.up()), slog.Int64("bytes_down", x.down), slog.Duration("duration", took),
		)
	})
}
