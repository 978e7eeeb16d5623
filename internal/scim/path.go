package scim

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// base is where SCIM begins on a tenant's host.
const base = "/scim/v2"

// maxTarget bounds a request target in bytes, filter included.
const maxTarget = 8 << 10

// allowedPath tells whether a path, as it stands in the request, is one of
// SCIM's and can be read in one way only: no server, proxy or framework behind
// may take it for another one, whatever it decodes, collapses or cuts off.
//
// It refuses a segment that begins with a dot (but .search, RFC 7644 §3.4.3),
// empty segments but a last one, path parameters (";"), backslashes, and
// whatever hides such a thing in an escape: encoded separators, dots, percent
// signs, control characters, punctuation outside of ASCII, and octets that are
// no UTF-8, such as overlong forms.
func allowedPath(path string) bool {
	rest, ok := strings.CutPrefix(path, base)
	switch {
	case !ok || len(path) > maxTarget:
		return false
	case rest == "":
		return true
	case rest[0] != '/':
		return false
	}
	segments := strings.Split(rest[1:], "/")
	for i, s := range segments {
		if s == "" && i == len(segments)-1 {
			return true // a slash at the end
		}
		if !allowedSegment(s) {
			return false
		}
	}
	return true
}

func allowedSegment(s string) bool {
	for _, c := range []byte(s) {
		if !isPathByte(c) {
			return false
		}
	}
	text, err := url.PathUnescape(s)
	if err != nil || text == "" || !utf8.ValidString(text) || text[0] == '.' && text != ".search" || text == ".search" && s != text {
		return false
	}
	// A dot or a separator is a dot or a separator only where it stands as such.
	if strings.Count(text, ".") != strings.Count(s, ".") {
		return false
	}
	for _, r := range text {
		switch {
		case r < 0x20 || r == 0x7f || strings.ContainsRune(`/\;%?#`, r):
			return false
		case r >= 0x80 && !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r):
			return false
		}
	}
	return true
}

// isPathByte tells the bytes that a segment may consist of (RFC 3986 §3.3)
// but for the semicolon.
func isPathByte(c byte) bool {
	return c == '%' || isAlphanumeric(c) || strings.IndexByte("-._~!$&'()*+,=:@", c) >= 0
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// allowedQuery tells whether a query is visible ASCII in well-formed escapes
// that hide no control character. Semicolons divide parameters for some
// servers and not for others, so they must be encoded.
func allowedQuery(query string) bool {
	for i := 0; i < len(query); i++ {
		c := query[i]
		switch {
		case c <= ' ' || c >= 0x7f || strings.IndexByte(`;\#<>`, c) >= 0:
			return false
		case c != '%':
			continue
		case i+2 >= len(query):
			return false
		}
		hi, lo := unhex(query[i+1]), unhex(query[i+2])
		if hi < 0 || lo < 0 || hi<<4|lo < 0x20 || hi<<4|lo == 0x7f {
			return false
		}
		i += 2
	}
	return true
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
