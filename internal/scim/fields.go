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

// answered are the header fields of an answer that go on to the client: what
// SCIM (RFC 7644), caches, conditions, sign-in and patience need. All others end
// here, because they tell of what is behind, or would have a client do
// something at this host that is none of the app's business.
var answered = map[string]bool{
	"Age": true, "Allow": true, "Cache-Control": true, "Content-Disposition": true, "Content-Encoding": true, "Content-Language": true,
	"Content-Length": true, "Content-Location": true, "Content-Type": true, "Date": true, "Etag": true, "Expires": true,
	"Last-Modified": true, "Location": true, "Pragma": true, "Preference-Applied": true,
	"Ratelimit": true, "Ratelimit-Limit": true, "Ratelimit-Policy": true, "Ratelimit-Remaining": true, "Ratelimit-Reset": true,
	"Retry-After": true, "Traceresponse": true, "Vary": true, "Www-Authenticate": true,
	"X-Ratelimit-Limit": true, "X-Ratelimit-Remaining": true, "X-Ratelimit-Reset": true, "X-Request-Id": true,
}

// protect adds what every answer tells: that the host is TLS only (RFC 6797), for
// a year, and that nothing is to be guessed from a body.
func protect(h http.Header) {
	h.Set("Strict-Transport-Security", "max-age=31536000")
	h.Set("X-Content-Type-Options", "nosniff")
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
