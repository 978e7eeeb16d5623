package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
)

const problemType = "application/problem+json"

// problem is an error as HTTP shows it.
type problem struct {
	client.Problem
	retryAfter int // seconds; 0: not said
}

// GetHeaders are what goes with the document.
func (p *problem) GetHeaders() http.Header {
	if p.retryAfter == 0 {
		return nil
	}
	return http.Header{"Retry-After": {strconv.Itoa(p.retryAfter)}}
}

// Error is the problem's title.
func (p *problem) Error() string { return p.Title }

// GetStatus is the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// ContentType is RFC 9457's.
func (p *problem) ContentType(string) string { return problemType }

func (p *problem) encode() []byte {
	b, err := json.Marshal(p.Problem)
	if err != nil {
		return []byte(`{"type":"urn:postern:problem:internal","title":"internal error","status":500}`)
	}
	return b
}

// kinds maps the domain's codes to HTTP; it is the only place that does.
var kinds = map[postern.Code]struct {
	status int
	title  string
}{
	postern.CodeInvalid:         {http.StatusBadRequest, "the request is not valid"},
	postern.CodeUnauthenticated: {http.StatusUnauthorized, "not authenticated"},
	postern.CodeForbidden:       {http.StatusForbidden, "not allowed"},
	postern.CodeNotFound:        {http.StatusNotFound, "not found"},
	postern.CodeConflict:        {http.StatusConflict, "conflict"},
	postern.CodeThrottled:       {http.StatusTooManyRequests, "too many requests"},
	postern.CodeUnavailable:     {http.StatusServiceUnavailable, "not available right now"},
	postern.CodeInternal:        {http.StatusInternalServerError, "internal error"},
}

// problem turns an error into its document. What is not of the domain is
// logged and shown as an internal error without its text; the cause behind an
// unavailable service is logged too.
func (s *Server) problem(ctx context.Context, err error) *problem {
	p := s.problemFor(ctx, err)
	p.RequestID = requestIDOf(ctx)
	if p.Status == http.StatusTooManyRequests {
		p.retryAfter = throttledFor
		var e *tooFastError
		if errors.As(err, &e) {
			p.retryAfter = e.seconds()
		}
	}
	return p
}

// throttledFor is when to come again, in seconds, after AWS throttled a call;
// it does not say so itself.
const throttledFor = 5

func (s *Server) problemFor(ctx context.Context, err error) *problem {
	var es postern.Errors
	var e *postern.Error
	switch {
	case errors.As(err, &es):
		return problemOf(es...)
	case errors.As(err, &e):
		if e.Code == postern.CodeUnavailable || e.Code == postern.CodeInternal {
			s.Logger.Warn("a request failed", "request_id", requestIDOf(ctx), "error", err)
		}
		return problemOf(e)
	case ctx.Err() != nil:
		return problemOf(&postern.Error{Code: postern.CodeUnavailable, Message: "the request was cut off", Fix: "send it again"})
	}
	s.Logger.Error("a request failed", "request_id", requestIDOf(ctx), "error", err)
	return internalProblem()
}

func internalProblem() *problem {
	return problemOf(&postern.Error{Code: postern.CodeInternal, Message: "something went wrong inside Postern", Fix: "look for the request ID in the server's log"})
}

func problemOf(es ...*postern.Error) *problem {
	code := es[0].Code
	k, ok := kinds[code]
	if !ok {
		code, k = postern.CodeInternal, kinds[postern.CodeInternal]
	}
	p := &problem{Problem: client.Problem{Type: "urn:postern:problem:" + string(code), Title: k.title, Status: k.status, Detail: postern.Errors(es).Error()}}
	for _, e := range es {
		p.Errors = append(p.Errors, client.FieldProblem{Reason: string(e.Reason), Field: e.Field, Value: e.Value, Message: e.Message, Fix: e.Fix})
	}
	return p
}

// problemTransformer turns what the framework itself says about a malformed
// request into the same document.
func (s *Server) problemTransformer(hc huma.Context, _ string, v any) (any, error) {
	switch e := v.(type) {
	case *problem:
		return e.Problem, nil
	case *huma.ErrorModel:
		p := s.frameworkProblem(hc.Context(), e)
		p.RequestID = requestIDOf(hc.Context())
		return p.Problem, nil
	}
	return v, nil
}

func (s *Server) frameworkProblem(ctx context.Context, m *huma.ErrorModel) *problem {
	if m.Status >= http.StatusInternalServerError {
		return s.problemFor(ctx, m)
	}
	var es postern.Errors
	for _, d := range m.Errors {
		field := strings.TrimPrefix(strings.TrimPrefix(d.Location, "body."), "query.")
		es = append(es, postern.Invalid(field, "", d.Message, "see /openapi.json for the form of the request"))
	}
	if len(es) == 0 {
		es = append(es, postern.Invalid("", "", m.Detail, "see /openapi.json for the form of the request"))
	}
	p := problemOf(es...)
	p.Status = m.Status // the framework has decided it already
	return p
}

func writeProblem(ctx context.Context, w http.ResponseWriter, p *problem) {
	p.RequestID = requestIDOf(ctx)
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_, _ = w.Write(p.encode()) // the client is gone, or it is not
}
