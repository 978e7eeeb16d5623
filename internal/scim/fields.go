package scim

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// methods are those of RFC 7644 §3.2.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// forwarded are the header fields that go on to the backend. All others end
// here, so that nothing that some framework takes an instruction from (another
// path, another method, another client) needs to be known to be kept out.
var forwarded = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "Authorization": true, "Content-Type": true,
	"If-Match": true, "If-Modified-Since": true, "If-None-Match": true, "If-Unmodified-Since": true,
	"Prefer": true, "Traceparent": true, "Tracestate": true, "User-Agent": true, "X-Request-Id": true,
}

// refusedFields change what a request means: leaving them out would do something
// else than was asked for, or hide that somebody tries.
var refusedFields = []string{
	"Content-Encoding", "Content-Range", "Http2-Settings", "Te", "Trailer", "Upgrade",
	"X-Http-Method", "X-Http-Method-Override", "X-Method-Override",
	"X-Original-Uri", "X-Original-Url", "X-Rewrite-Url",
}

// single are the fields of which two would be read differently by different
// readers.
var single = []string{"Authorization", "Content-Length", "Content-Type", "Expect", "Host", "Transfer-Encoding"}

// maxFields bounds the number of header fields.
const maxFields = 64

// allowedFields tells whether the header is one that every reader reads alike
// and that asks for nothing but a plain request.
func allowedFields(h http.Header) bool {
	n := 0
	for name, values := range h {
		n += len(values)
		for _, v := range values {
			if !isFieldValue(v) {
				return false
			}
		}
		// Some servers take a_b for a-b.
		dashed := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if n > maxFields || slices.Contains(refusedFields, dashed) || len(values) > 1 && slices.Contains(single, dashed) {
			return false
		}
		if dashed != name && (forwarded[dashed] || slices.Contains(single, dashed)) {
			return false
		}
	}
	return plainConnection(h["Connection"]) && (len(h["Expect"]) == 0 || strings.EqualFold(h.Get("Expect"), "100-continue"))
}

// plainConnection refuses to have fields named that must not go on: it is a way
// to take a field away behind a check.
func plainConnection(values []string) bool {
	for _, v := range values {
		for option := range strings.SplitSeq(v, ",") {
			if o := strings.TrimSpace(option); !strings.EqualFold(o, "close") && !strings.EqualFold(o, "keep-alive") {
				return false
			}
		}
	}
	return true
}

// isFieldValue tells visible ASCII with blanks between it. Octets beyond ASCII
// are allowed by RFC 9110 for old times' sake and used by no SCIM client.
func isFieldValue(v string) bool {
	if v != strings.Trim(v, " \t") {
		return false
	}
	for _, c := range []byte(v) {
		if (c < ' ' && c != '\t') || c >= 0x7f {
			return false
		}
	}
	return true
}

// isToken tells a token of RFC 9110 §5.6.2.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
