package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Client calls one Postern API with one token. It is safe for concurrent use.
type Client struct {
	base    *url.URL
	token   string
	timeout time.Duration
	http    *http.Client
}

// Options are what a [Client] may be given.
type Options struct {
	// Token is the secret sent as "Authorization: Bearer …".
	Token string
	// CAs verifies the server's certificate; nil: the system's roots.
	CAs *x509.CertPool
	// Timeout bounds each attempt of a call, not a watch; 0: 30 s.
	Timeout time.Duration
}

// New makes a client for the API at base, such as "https://postern.example.com".
// A token is sent in clear text only to a loopback address.
func New(base string, o Options) (*Client, error) {
	u, err := url.Parse(strings.TrimSuffix(base, "/"))
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fmt.Errorf("the API's address %q is not a URL such as https://postern.example.com", base)
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return nil, fmt.Errorf("the API's address %q would send the token in clear text: use https", base)
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	tr := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.CAs},
		ResponseHeaderTimeout: o.Timeout,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       60 * time.Second,
	}
	return &Client{base: u, token: o.Token, timeout: o.Timeout, http: &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is a refusal by the API.
type Error struct {
	Problem
	// RetryAfter is how long the API asks to wait; 0: it does not say.
	RetryAfter time.Duration
}

// Error renders the problem for people: one line a field problem.
func (e *Error) Error() string {
	if len(e.Errors) == 0 {
		if e.Detail != "" {
			return e.Detail
		}
		return e.Title
	}
	lines := make([]string, 0, len(e.Errors))
	for _, f := range e.Errors {
		line := f.Message
		if f.Field != "" {
			line = f.Field + ": " + line
		}
		if f.Value != "" {
			line += fmt.Sprintf(" (got %q)", f.Value)
		}
		if f.Fix != "" {
			line += "; " + f.Fix
		}
		if f.Reason != "" {
			line += " [" + f.Reason + "]"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// Code is the stable code of the problem, such as "not_found".
func (e *Error) Code() string { return strings.TrimPrefix(e.Type, "urn:postern:problem:") }

// HasCode tells whether err is a refusal with the code.
func HasCode(err error, code string) bool {
	var e *Error
	return errors.As(err, &e) && e.Code() == code
}

// attempts bounds how often a call is sent: an idempotency key makes a write
// safe to send again, so that a dropped answer or a restarting server is not
// an error.
const attempts = 3

// call sends one request, again after a failure that may pass, and decodes the
// answer into out (nil: thrown away).
func (c *Client) call(ctx context.Context, method, path string, q url.Values, in, out any) error {
	var body []byte
	header := http.Header{}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = b
		header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPost {
		header.Set("Idempotency-Key", rand.Text())
	}
	var last error
	for n := range attempts {
		if n > 0 {
			wait := retryIn(n, last)
			if wait > maxWait {
				return last
			}
			if err := pause(ctx, wait); err != nil {
				return err
			}
		}
		retry, err := c.attempt(ctx, method, path, q, header, body, out)
		if n > 0 && method == http.MethodDelete && HasCode(err, "not_found") {
			return nil // an attempt before did it, and its answer was lost
		}
		if n > 0 && method == http.MethodPost && path == pathAccounts && spent(err) {
			return fmt.Errorf("%w; the challenge is spent: ask for a new one and sign that", last)
		}
		if err == nil || !retry || ctx.Err() != nil {
			return err
		}
		last = err
	}
	return last
}

// maxWait bounds how long a call waits because the API asks it to; whoever has
// to wait longer is told so.
const maxWait = 5 * time.Second

// retryIn is how long to wait before an attempt.
func retryIn(attempt int, last error) time.Duration {
	wait := time.Duration(attempt) * 300 * time.Millisecond
	var e *Error
	if errors.As(last, &e) {
		wait = max(wait, e.RetryAfter)
	}
	return wait
}

// spent tells whether a proof was refused because its challenge was used.
func spent(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code() == "invalid" && slices.ContainsFunc(e.Errors, func(f FieldProblem) bool { return f.Field == "nonce" })
}

func (c *Client) attempt(ctx context.Context, method, path string, q url.Values, header http.Header, body []byte, out any) (retry bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.send(ctx, method, path, q, header, body)
	if err != nil {
		return true, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests, problemOf(resp)
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		return true, err
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return true, fmt.Errorf("decode the answer of %s %s: %w", method, path, err)
	}
	return false, nil
}

// maxAnswer bounds what the client reads of one answer.
const maxAnswer = 32 << 20

func (c *Client) send(ctx context.Context, method, path string, q url.Values, header http.Header, body []byte) (*http.Response, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	req.Header.Set("User-Agent", "postern-client")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("reach the API: %w", err)
	}
	return resp, nil
}

func problemOf(resp *http.Response) error {
	e := &Error{}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // a cut answer is reported by its status below
	if json.Unmarshal(b, &e.Problem) != nil || e.Title == "" {
		e.Problem = Problem{
			Type: "urn:postern:problem:internal", Status: resp.StatusCode, Title: resp.Status,
			Detail: "the server answered " + resp.Status + " and not as Postern's API does; check the address",
		}
	}
	if s, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// listAll follows the page tokens of a list.
func listAll[T any](ctx context.Context, c *Client, path string, q url.Values) ([]T, error) {
	all := []T{}
	q = cloneValues(q)
	for {
		var page Page[T]
		if err := c.call(ctx, http.MethodGet, path, q, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.NextPageToken == "" {
			return all, nil
		}
		q.Set("page_token", page.NextPageToken)
	}
}

func cloneValues(q url.Values) url.Values {
	out := url.Values{}
	maps.Copy(out, q)
	return out
}

// query makes url.Values of key, value pairs and leaves empty values out.
func query(kv ...string) url.Values {
	q := url.Values{}
	for pair := range slices.Chunk(kv, 2) {
		if key, value := pair[0], pair[1]; value != "" {
			q.Set(key, value)
		}
	}
	return q
}

func boolText(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}
