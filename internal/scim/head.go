package scim

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// framing is how a request's body ends.
type framing struct {
	length  int64 // bytes; 0: there is none
	chunked bool
}

// parseHead judges the head of an HTTP/1.1 request, from the request line to
// the empty line that ends it, by the letter of RFC 9112: where that lets a
// recipient choose how to read something, it is refused.
func parseHead(head []byte) (framing, bool) {
	text, ok := bytes.CutSuffix(head, []byte("\r\n\r\n"))
	if !ok {
		return framing{}, false
	}
	line, rest, _ := strings.Cut(string(text), "\r\n")
	if !isRequestLine(line) {
		return framing{}, false
	}
	fields := http.Header{}
	for field := range strings.SplitSeq(rest, "\r\n") {
		// Without a name, or with blanks around it, it is no field: folded lines
		// begin with a blank.
		name, value, found := strings.Cut(field, ":")
		if !found || !isToken(name) || strings.ContainsAny(value, "\r\n\x00") {
			return framing{}, false
		}
		key := textproto.CanonicalMIMEHeaderKey(name)
		fields[key] = append(fields[key], strings.Trim(value, " \t"))
	}
	if len(fields["Host"]) != 1 || !allowedFields(fields) {
		return framing{}, false
	}
	return framingOf(fields)
}

// isRequestLine demands a method, a path and the version, with one space
// between them.
func isRequestLine(line string) bool {
	method, rest, _ := strings.Cut(line, " ")
	target, version, found := strings.Cut(rest, " ")
	if !found || version != "HTTP/1.1" || !isToken(method) || len(target) > maxTarget || !strings.HasPrefix(target, "/") {
		return false
	}
	for i, c := range []byte(target) {
		if c <= ' ' || c >= 0x7f || c == '%' && (i+2 >= len(target) || unhex(target[i+1]) < 0 || unhex(target[i+2]) < 0) {
			return false
		}
	}
	return true
}

// framingOf reads how the body ends. Both ways at once, another coding than
// chunked and a length that is no plain number are what requests are smuggled
// by.
func framingOf(fields http.Header) (framing, bool) {
	coding, chunked := fields["Transfer-Encoding"]
	length, sized := fields["Content-Length"]
	switch {
	case chunked && sized:
		return framing{}, false
	case chunked:
		return framing{chunked: true}, strings.EqualFold(coding[0], "chunked")
	case sized:
		n, ok := parseLength(length[0])
		return framing{length: n}, ok
	}
	return framing{}, true
}

// parseLength reads a Content-Length: digits, and no zero ahead of others.
func parseLength(s string) (int64, bool) {
	if s == "" || len(s) > 15 || s[0] == '0' && s != "0" {
		return 0, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
