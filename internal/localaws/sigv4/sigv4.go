// Package sigv4 verifies AWS Signature Version 4 in the Authorization header,
// from the server's side: it rebuilds the canonical request from what arrived
// and recomputes the signature. Presigned query strings, chunked and unsigned
// payloads are not for the services of the stand-in and are refused.
//
// Source: AWS IAM User Guide, "Create a signed AWS API request".
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Algorithm is the only one that is understood.
const Algorithm = "AWS4-HMAC-SHA256"

// MaxSkew is how far a request's time may be from the server's.
const MaxSkew = 15 * time.Minute

const timeFormat = "20060102T150405Z"

// What may be wrong with a request's signature.
var (
	ErrMissing   = errors.New("no Authorization header")
	ErrMalformed = errors.New("malformed signature")
	ErrSkewed    = errors.New("signature expired or not yet current")
	ErrMismatch  = errors.New("signature does not match")
)

// Authorization is the content of an Authorization header.
type Authorization struct {
	AccessKeyID   string
	Date          string // of the credential scope, "20260131"
	Region        string
	Service       string
	SignedHeaders []string // lower case, sorted
	Signature     string   // 64 lower-case hexadecimal digits
}

// Parse reads an Authorization header's value. Errors are [ErrMissing] or
// wrap [ErrMalformed].
func Parse(header string) (Authorization, error) {
	if header == "" {
		return Authorization{}, ErrMissing
	}
	rest, ok := strings.CutPrefix(header, Algorithm)
	if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '\t') {
		return Authorization{}, fmt.Errorf("%w: the algorithm is not %s", ErrMalformed, Algorithm)
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := fields[name]; !ok || twice {
			return Authorization{}, fmt.Errorf("%w: %q in the Authorization header", ErrMalformed, strings.TrimSpace(part))
		}
		fields[name] = value
	}
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		if fields[name] == "" {
			return Authorization{}, fmt.Errorf("%w: the Authorization header requires %q", ErrMalformed, name)
		}
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" || slices.Contains(scope, "") {
		return Authorization{}, fmt.Errorf("%w: the credential scope is not KEY/DATE/REGION/SERVICE/aws4_request", ErrMalformed)
	}
	if _, err := time.Parse("20060102", scope[1]); err != nil {
		return Authorization{}, fmt.Errorf("%w: the date of the credential scope", ErrMalformed)
	}
	a := Authorization{
		AccessKeyID: scope[0], Date: scope[1], Region: scope[2], Service: scope[3],
		SignedHeaders: strings.Split(fields["SignedHeaders"], ";"), Signature: fields["Signature"],
	}
	if b, err := hex.DecodeString(a.Signature); err != nil || len(b) != sha256.Size || strings.ToLower(a.Signature) != a.Signature {
		return Authorization{}, fmt.Errorf("%w: the signature is not 64 hexadecimal digits", ErrMalformed)
	}
	return a, a.checkSignedHeaders()
}

func (a Authorization) checkSignedHeaders() error {
	for i, h := range a.SignedHeaders {
		if h == "" || strings.ToLower(h) != h || (i > 0 && a.SignedHeaders[i-1] >= h) {
			return fmt.Errorf("%w: SignedHeaders is not a sorted list of lower-case names", ErrMalformed)
		}
	}
	for _, need := range []string{"host", "x-amz-date"} {
		if !slices.Contains(a.SignedHeaders, need) {
			return fmt.Errorf("%w: %q must be a signed header", ErrMalformed, need)
		}
	}
	return nil
}

// Verify recomputes the signature of a request that carries a, whose body was
// read before. Errors wrap one of the package's.
func (a Authorization) Verify(r *http.Request, body []byte, secret string, now time.Time) error {
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse(timeFormat, stamp)
	if err != nil || !strings.HasPrefix(stamp, a.Date) {
		return fmt.Errorf("%w: X-Amz-Date is not a time on the day of the credential scope", ErrMalformed)
	}
	if d := now.Sub(at); d > MaxSkew || d < -MaxSkew {
		return fmt.Errorf("%w: signed at %s, it is %s", ErrSkewed, stamp, now.UTC().Format(timeFormat))
	}
	if r.Header.Get("X-Amz-Security-Token") != "" && !slices.Contains(a.SignedHeaders, "x-amz-security-token") {
		return fmt.Errorf("%w: the session token must be signed", ErrMalformed)
	}
	hash := sha256.Sum256(body)
	payload := hex.EncodeToString(hash[:])
	if h := r.Header.Get("X-Amz-Content-Sha256"); h != "" && h != payload {
		return fmt.Errorf("%w: X-Amz-Content-Sha256 is not the body's", ErrMismatch)
	}
	canonical, err := a.canonicalRequest(r, payload)
	if err != nil {
		return err
	}
	if !hmac.Equal([]byte(a.sign(canonical, stamp, secret)), []byte(a.Signature)) {
		return ErrMismatch
	}
	return nil
}

func (a Authorization) sign(canonical, stamp, secret string) string {
	key := []byte("AWS4" + secret)
	for _, part := range []string{a.Date, a.Region, a.Service, "aws4_request"} {
		key = mac(key, part)
	}
	sum := sha256.Sum256([]byte(canonical))
	scope := strings.Join([]string{a.Date, a.Region, a.Service, "aws4_request"}, "/")
	return hex.EncodeToString(mac(key, strings.Join([]string{Algorithm, stamp, scope, hex.EncodeToString(sum[:])}, "\n")))
}

func mac(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}

func (a Authorization) canonicalRequest(r *http.Request, payload string) (string, error) {
	query, err := canonicalQuery(r.URL.RawQuery)
	if err != nil {
		return "", err
	}
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	var b strings.Builder
	// Every service but S3 encodes the path once more than it is on the wire.
	b.WriteString(r.Method + "\n" + escape(path, true) + "\n" + query + "\n")
	for _, name := range a.SignedHeaders {
		value, err := canonicalHeader(r, name)
		if err != nil {
			return "", err
		}
		b.WriteString(name + ":" + value + "\n")
	}
	b.WriteString("\n" + strings.Join(a.SignedHeaders, ";") + "\n" + payload)
	return b.String(), nil
}

// canonicalHeader joins the values of a header, each trimmed and with single
// spaces inside. net/http keeps two headers outside the map.
func canonicalHeader(r *http.Request, name string) (string, error) {
	values := r.Header.Values(name)
	switch {
	case name == "host":
		values = []string{r.Host}
	case name == "content-length" && len(values) == 0 && r.ContentLength >= 0:
		values = []string{strconv.FormatInt(r.ContentLength, 10)}
	}
	if len(values) == 0 {
		return "", fmt.Errorf("%w: the signed header %q is not in the request", ErrMismatch, name)
	}
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strings.Join(strings.FieldsFunc(v, func(c rune) bool { return c == ' ' || c == '\t' }), " ")
	}
	return strings.Join(out, ","), nil
}

func canonicalQuery(raw string) (string, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return "", fmt.Errorf("%w: the query string: %w", ErrMalformed, err)
	}
	var pairs []string
	for name, vs := range values {
		for _, v := range vs {
			pairs = append(pairs, escape(name, false)+"="+escape(v, false))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&"), nil
}

// escape percent-encodes every byte that RFC 3986 does not call unreserved.
func escape(s string, keepSlash bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~', keepSlash && c == '/':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}
