package egress

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/postern-net/postern"
)

// Bounds of a request's head. What workloads send is some hundred bytes.
const (
	maxHead    = 8 << 10
	maxHeaders = 64
)

// What is wrong with the head of a request; each has its answer.
var (
	errIncomplete = errors.New("egress: the request's head is not complete")
	errTooLarge   = errors.New("egress: the request's head is too large")
	errNotConnect = errors.New("egress: a method other than CONNECT")
	errMalformed  = errors.New("egress: malformed request")
	errLiteral    = errors.New("egress: an IP address instead of a hostname")
)

// connectRequest is what a CONNECT request asks for.
type connectRequest struct {
	host       string // a hostname in lower case
	port       uint16
	credential []byte // the bearer token, or the password of basic authentication; nil: none
}

// parseConnect reads the head of a request, to its empty line, and how long it
// is. It is stricter than a web server has to be (RFC 9112, section 3), so that
// it can never be of another opinion than a program before or behind it: no
// bare line feeds, no folded lines, no second value of what must be one, and
// nothing that announces a body, for what follows a CONNECT is the tunnel.
func parseConnect(b []byte) (r connectRequest, size int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		// A line that cannot be the first one need not be waited for.
		if line, _, ok := bytes.Cut(b, []byte("\r\n")); ok {
			if _, err := requestLine(string(line)); err != nil {
				return r, 0, err
			}
		}
		if len(b) >= maxHead {
			return r, 0, errTooLarge
		}
		return r, 0, errIncomplete
	}
	size = end + 4
	if size > maxHead {
		return r, 0, errTooLarge
	}
	lines := strings.Split(string(b[:end]), "\r\n")
	line, err := requestLine(lines[0])
	if err != nil {
		return r, 0, err
	}
	if len(lines)-1 > maxHeaders {
		return r, 0, errTooLarge
	}
	r.host, r.port, err = authority(line.target)
	if err != nil {
		return r, 0, err
	}
	err = r.headers(line, lines[1:])
	return r, size, err
}

type startLine struct{ target, version string }

func requestLine(line string) (startLine, error) {
	method, rest, ok := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	switch {
	case !ok || !ok2 || !isToken(method) || target == "" || !visible(target) || version != "HTTP/1.1" && version != "HTTP/1.0":
		return startLine{}, fmt.Errorf("%w: the first line is none of HTTP/1.1", errMalformed)
	case method != "CONNECT": // methods are case-sensitive
		return startLine{}, errNotConnect
	}
	return startLine{target, version}, nil
}

// authority takes host:port apart. Neither part has a default, a second form or
// a user (RFC 9110, section 9.3.6).
func authority(target string) (string, uint16, error) {
	i := strings.LastIndexByte(target, ':')
	if i < 0 {
		return "", 0, fmt.Errorf("%w: the target is not host:port", errMalformed)
	}
	host, digits := strings.ToLower(target[:i]), target[i+1:]
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 || strconv.FormatUint(port, 10) != digits {
		return "", 0, fmt.Errorf("%w: the target's port is not a number from 1 to 65535", errMalformed)
	}
	if e := postern.CheckConnectionHostname("", host); e != nil && e.Reason == postern.ReasonIPLiteral {
		return "", 0, errLiteral
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return "", 0, errLiteral
	}
	if postern.CheckHostname("", host) != nil {
		return "", 0, fmt.Errorf("%w: the target's host is no hostname", errMalformed)
	}
	return host, uint16(port), nil
}

// headers reads the fields that matter and refuses those that must not be
// there.
func (r *connectRequest) headers(line startLine, fields []string) error {
	seen := map[string]bool{}
	for _, f := range fields {
		name, value, ok := strings.Cut(f, ":")
		if !ok || !isToken(name) || !fieldValue(value) {
			return fmt.Errorf("%w: a line that is no header field", errMalformed)
		}
		name, value = strings.ToLower(name), strings.Trim(value, " \t")
		switch name {
		case "host", "proxy-authorization":
			if seen[name] {
				return fmt.Errorf("%w: %s twice", errMalformed, name)
			}
			seen[name] = true
		case "content-length", "transfer-encoding", "trailer", "te", "upgrade", "expect":
			return fmt.Errorf("%w: %s, which a CONNECT request has no use for", errMalformed, name)
		}
		switch name {
		case "host":
			// Some clients leave the port out.
			if v := strings.ToLower(value); v != r.host && v != r.host+":"+strconv.Itoa(int(r.port)) {
				return fmt.Errorf("%w: Host is not the target", errMalformed)
			}
		case "proxy-authorization":
			credential, err := credential(value)
			if err != nil {
				return err
			}
			r.credential = credential
		}
	}
	if line.version == "HTTP/1.1" && !seen["host"] {
		return fmt.Errorf("%w: without Host", errMalformed)
	}
	return nil
}

// maxCredential bounds a token; one that Postern makes has some fifty bytes.
const maxCredential = 1024

// credential reads Proxy-Authorization: a bearer token (RFC 6750), or a token
// as the password of any user, which is what most HTTP clients can do (RFC
// 7617). A token is visible ASCII, which no certificate's DER is: that is known
// by its sum as well, is no secret, and must not pass for a token.
func credential(value string) ([]byte, error) {
	scheme, rest, _ := strings.Cut(value, " ")
	token := strings.TrimLeft(rest, " ")
	switch strings.ToLower(scheme) {
	case "bearer":
	case "basic":
		b, err := base64.StdEncoding.Strict().DecodeString(token)
		if err != nil {
			return nil, fmt.Errorf("%w: Proxy-Authorization is not base64", errMalformed)
		}
		var ok bool
		if _, token, ok = strings.Cut(string(b), ":"); !ok {
			return nil, fmt.Errorf("%w: Proxy-Authorization without a password", errMalformed)
		}
	default:
		return nil, fmt.Errorf("%w: Proxy-Authorization is neither Bearer nor Basic", errMalformed)
	}
	if len(token) > maxCredential || !visible(token) {
		return nil, fmt.Errorf("%w: Proxy-Authorization holds no token", errMalformed)
	}
	return []byte(token), nil
}

// isToken tells the names of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// visible tells text of visible ASCII characters.
func visible(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// fieldValue tells what may stand behind a field's name.
func fieldValue(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
