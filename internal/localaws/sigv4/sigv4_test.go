package sigv4_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/postern-net/postern/internal/localaws/sigv4"
)

const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

var signedAt = time.Date(2026, 1, 31, 23, 59, 59, 0, time.UTC)

// signed builds a request, lets the SDK sign it, and sends it over a real
// server, so that what is verified is what net/http hands to a handler.
func signed(t *testing.T, method, target, body string, prepare func(*http.Request), creds aws.Credentials) (*http.Request, []byte) {
	t.Helper()
	type arrival struct {
		r    *http.Request
		body []byte
	}
	got := make(chan arrival, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- arrival{r, b}
	}))
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if prepare != nil {
		prepare(req)
	}
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, req, hex.EncodeToString(sum[:]), "ec2", "us-east-1", signedAt); err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	a := <-got
	return a.r, a.body
}

func verify(t *testing.T, r *http.Request, body []byte, secret string, now time.Time) error {
	t.Helper()
	a, err := sigv4.Parse(r.Header.Get("Authorization"))
	if err != nil {
		return err
	}
	return a.Verify(r, body, secret, now)
}

func TestAdmitsWhatTheSDKSigns(t *testing.T) {
	plain := aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret}
	session := plain
	session.SessionToken = "IQoJb3JpZ2luX2VjE+/=="
	for name, c := range map[string]struct {
		method, target, body string
		prepare              func(*http.Request)
		creds                aws.Credentials
	}{
		"form":          {"POST", "/", "Action=DescribeVpcs&Version=2016-11-15", nil, plain},
		"no body":       {"GET", "/", "", nil, plain},
		"session token": {"POST", "/", "Action=X", nil, session},
		"other host":    {"POST", "/", "Action=X", func(r *http.Request) { r.Host = "sts.us-east-1.amazonaws.com" }, plain},
		"query":         {"POST", "/?b=2&a=1&a=%2F+x&c", "", nil, plain},
		"path":          {"GET", "/2013-04-01/hosted%20zone/a:b/", "", nil, plain},
		"more signed headers": {"POST", "/", "Action=X", func(r *http.Request) {
			r.Header.Set("X-Postern-Proof", "  platform   example  ")
			r.Header.Add("X-Many", "a")
			r.Header.Add("X-Many", "b,  c")
		}, plain},
		"payload hash header": {"POST", "/", "x", func(r *http.Request) {
			sum := sha256.Sum256([]byte("x"))
			r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
		}, plain},
	} {
		t.Run(name, func(t *testing.T) {
			r, body := signed(t, c.method, c.target, c.body, c.prepare, c.creds)
			if err := verify(t, r, body, secret, signedAt.Add(sigv4.MaxSkew)); err != nil {
				t.Error(err)
			}
			a, err := sigv4.Parse(r.Header.Get("Authorization"))
			if err != nil {
				t.Fatal(err)
			}
			if a.AccessKeyID != "AKIDEXAMPLE" || a.Region != "us-east-1" || a.Service != "ec2" || a.Date != "20260131" {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	creds := aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret, SessionToken: "token"}
	mine := func(r *http.Request) { r.Header.Set("X-Postern-Proof", "nonce-1") }
	for name, c := range map[string]struct {
		tamper func(*http.Request) []byte // returns the body to verify, nil: as sent
		secret string
		now    time.Time
		want   error
	}{
		"body":            {tamper: func(*http.Request) []byte { return []byte("Action=Y") }, want: sigv4.ErrMismatch},
		"method":          {tamper: func(r *http.Request) []byte { r.Method = "PUT"; return nil }, want: sigv4.ErrMismatch},
		"path":            {tamper: func(r *http.Request) []byte { r.URL.Path = "/x"; return nil }, want: sigv4.ErrMismatch},
		"query":           {tamper: func(r *http.Request) []byte { r.URL.RawQuery = "a=1"; return nil }, want: sigv4.ErrMismatch},
		"host":            {tamper: func(r *http.Request) []byte { r.Host = "other"; return nil }, want: sigv4.ErrMismatch},
		"signed header":   {tamper: func(r *http.Request) []byte { r.Header.Set("X-Postern-Proof", "nonce-2"); return nil }, want: sigv4.ErrMismatch},
		"header removed":  {tamper: func(r *http.Request) []byte { r.Header.Del("X-Postern-Proof"); return nil }, want: sigv4.ErrMismatch},
		"session token":   {tamper: func(r *http.Request) []byte { r.Header.Set("X-Amz-Security-Token", "x"); return nil }, want: sigv4.ErrMismatch},
		"payload hash":    {tamper: func(r *http.Request) []byte { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"); return nil }, want: sigv4.ErrMismatch},
		"date":            {tamper: func(r *http.Request) []byte { r.Header.Set("X-Amz-Date", "20260131T235958Z"); return nil }, want: sigv4.ErrMismatch},
		"another day":     {tamper: func(r *http.Request) []byte { r.Header.Set("X-Amz-Date", "20260201T000000Z"); return nil }, want: sigv4.ErrMalformed},
		"no date":         {tamper: func(r *http.Request) []byte { r.Header.Del("X-Amz-Date"); return nil }, want: sigv4.ErrMalformed},
		"secret":          {secret: "other", want: sigv4.ErrMismatch},
		"late":            {now: signedAt.Add(sigv4.MaxSkew + time.Second), want: sigv4.ErrSkewed},
		"early":           {now: signedAt.Add(-sigv4.MaxSkew - time.Second), want: sigv4.ErrSkewed},
		"no signature":    {tamper: func(r *http.Request) []byte { r.Header.Del("Authorization"); return nil }, want: sigv4.ErrMissing},
		"other algorithm": {tamper: func(r *http.Request) []byte { r.Header.Set("Authorization", "Bearer x"); return nil }, want: sigv4.ErrMalformed},
		"scope region": {tamper: func(r *http.Request) []byte {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "us-east-1", "us-west-2", 1))
			return nil
		}, want: sigv4.ErrMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			r, body := signed(t, "POST", "/", "Action=X", mine, creds)
			if c.tamper != nil {
				if b := c.tamper(r); b != nil {
					body = b
				}
			}
			if c.secret == "" {
				c.secret = secret
			}
			if c.now.IsZero() {
				c.now = signedAt
			}
			if err := verify(t, r, body, c.secret, c.now); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	sig := strings.Repeat("0a", 32)
	good := "AWS4-HMAC-SHA256 Credential=AK/20260131/us-east-1/ec2/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + sig
	if _, err := sigv4.Parse(good); err != nil {
		t.Fatal(err)
	}
	if _, err := sigv4.Parse(strings.ReplaceAll(good, ", ", ",")); err != nil {
		t.Errorf("without spaces after commas: %v", err)
	}
	for name, header := range map[string]string{
		"scope":         strings.Replace(good, "/ec2", "", 1),
		"scope end":     strings.Replace(good, "aws4_request", "aws5_request", 1),
		"scope date":    strings.Replace(good, "20260131", "20261331", 1),
		"no host":       strings.Replace(good, "host;", "", 1),
		"no date":       strings.Replace(good, ";x-amz-date", "", 1),
		"unsorted":      strings.Replace(good, "host;x-amz-date", "x-amz-date;host", 1),
		"twice":         strings.Replace(good, "host;", "host;host;", 1),
		"upper case":    strings.Replace(good, "host;", "Host;", 1),
		"short":         good[:len(good)-2],
		"not hex":       good[:len(good)-2] + "zz",
		"upper hex":     good[:len(good)-2] + "AA",
		"field twice":   good + ", Signature=" + sig,
		"no credential": "AWS4-HMAC-SHA256 SignedHeaders=host;x-amz-date, Signature=" + sig,
	} {
		if _, err := sigv4.Parse(header); !errors.Is(err, sigv4.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AK/20260131/us-east-1/ec2/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + strings.Repeat("0a", 32))
	f.Add("AWS4-HMAC-SHA256 Credential=////, SignedHeaders=;;, Signature=")
	f.Fuzz(func(t *testing.T, header string) {
		a, err := sigv4.Parse(header)
		if err != nil {
			if !errors.Is(err, sigv4.ErrMalformed) && !errors.Is(err, sigv4.ErrMissing) {
				t.Fatal(err)
			}
			return
		}
		again := sigv4.Algorithm + " Credential=" + strings.Join([]string{a.AccessKeyID, a.Date, a.Region, a.Service, "aws4_request"}, "/") +
			", SignedHeaders=" + strings.Join(a.SignedHeaders, ";") + ", Signature=" + a.Signature
		b, err := sigv4.Parse(again)
		if err != nil || b.Signature != a.Signature || b.AccessKeyID != a.AccessKeyID {
			t.Fatalf("%q parsed, %q did not: %v", header, again, err)
		}
	})
}
