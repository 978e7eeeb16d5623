package postern

import (
	"errors"
	"fmt"
	"strings"
)

// Code classifies an [Error] by what the caller can do about it.
type Code string

// The closed list of codes. internal/api alone maps them to HTTP.
const (
	CodeInvalid         Code = "invalid"         // the request is wrong; the caller can mend it
	CodeUnauthenticated Code = "unauthenticated" // no identity, or one that is no longer good
	CodeForbidden       Code = "forbidden"       // the identity may not do this
	CodeNotFound        Code = "not_found"       // absent, or not the caller's: the two look the same
	CodeConflict        Code = "conflict"        // the state of things does not allow it, or it changed meanwhile
	CodeThrottled       Code = "throttled"       // too many requests; again later
	CodeUnavailable     Code = "unavailable"     // something Postern needs does not answer; again later
	CodeInternal        Code = "internal"        // a defect; details are in the log only
)

// Error is the one error type of the domain. Every text in it may be shown to
// a user; causes that may not be shown are wrapped around it, never put in it.
type Error struct {
	Code    Code
	Reason  Reason // for programs, where one field can be wrong in several ways (RequestReasons); else ""
	Field   string // the field concerned, as a path such as "spec.tenants[1]"; "" for the whole request
	Value   string // what was seen there
	Message string // what is wrong, one sentence without a full stop
	Fix     string // what to do about it, one sentence without a full stop
}

// Error renders field, message, value and fix on one line.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Field != "" {
		b.WriteString(e.Field)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	if e.Value != "" {
		fmt.Fprintf(&b, " (got %q)", e.Value)
	}
	if e.Fix != "" {
		b.WriteString("; ")
		b.WriteString(e.Fix)
	}
	return b.String()
}

// Errorf makes an [Error] that concerns the whole request.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid makes an [Error] about one field of a request.
func Invalid(field, value, message, fix string) *Error {
	return &Error{Code: CodeInvalid, Field: field, Value: value, Message: message, Fix: fix}
}

// NotFound makes the error for a thing that is absent or belongs to somebody
// else; both read the same, so that an identifier is never an oracle.
func NotFound(kind, id string) *Error {
	return &Error{Code: CodeNotFound, Message: fmt.Sprintf("no %s %q", kind, id), Fix: "check the identifier, and that your token belongs to its organization"}
}

// Errors are several problems found in one request, reported together.
type Errors []*Error

// Error lists the problems, one per line.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the first *Error.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// Add appends e unless it is nil.
func (es *Errors) Add(e *Error) {
	if e != nil {
		*es = append(*es, e)
	}
}

// Err returns nil when there is no problem, so that a nil Errors never
// becomes a non-nil error.
func (es Errors) Err() error {
	if len(es) == 0 {
		return nil
	}
	return es
}

// CodeOf returns the code of the first [Error] in err's chain, or
// [CodeInternal] for an error that is not of the domain.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
