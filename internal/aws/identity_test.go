package aws_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/client/accountproof"
	"github.com/postern-net/postern/internal/aws"
)

const (
	binding    = "immuta;example-corp;n0nce"
	customerID = "AKIACUSTOMEREXAMPLE1"
	customer   = "customer-secret"
	good       = `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult>
    <Arn>arn:aws:sts::111122223333:assumed-role/network/ada</Arn>
    <UserId>AROA123456789EXAMPLE:ada</UserId>
    <Account>111122223333</Account>
  </GetCallerIdentityResult>
  <ResponseMetadata><RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ResponseMetadata>
</GetCallerIdentityResponse>
`
)

var signedAt = time.Date(2026, 11, 22, 10, 15, 0, 0, time.UTC)

type static awssdk.Credentials

func (s static) Retrieve(context.Context) (awssdk.Credentials, error) {
	return awssdk.Credentials(s), nil
}

// sign makes a proof as a customer does.
func sign(t *testing.T, bound, session string) client.Proof {
	t.Helper()
	parts := strings.Split(bound, ";")
	ch := client.Challenge{Header: postern.BindingHeader, Binding: bound, Organization: parts[1], Nonce: parts[2]}
	keys := static{AccessKeyID: customerID, SecretAccessKey: customer, SessionToken: session}
	p, err := accountproof.Sign(t.Context(), keys, ch, "us-east-1", signedAt)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// stsWire answers as STS does: 403 SignatureDoesNotMatch unless the signature,
// computed here from the bytes that arrived, is right.
func stsWire(t *testing.T, ok http.HandlerFunc) (endpoint string, calls *atomic.Int64) {
	t.Helper()
	calls = &atomic.Int64{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read the request: %v", err)
		}
		if r.Method != http.MethodPost || r.URL.String() != "/" || string(body) != "Action=GetCallerIdentity&Version=2011-06-15" {
			t.Errorf("got %s %s with %q", r.Method, r.URL, body)
		}
		if r.Host != "sts.us-east-1.amazonaws.com" || r.Header.Get("X-Postern-Binding") != binding {
			t.Errorf("host %s, binding %s", r.Host, r.Header.Get("X-Postern-Binding"))
		}
		if !signatureHolds(r, body) {
			w.Header().Set("Content-Type", "text/xml")
			w.WriteHeader(http.StatusForbidden)
			write(t, w, stsError("SignatureDoesNotMatch"))
			return
		}
		ok(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, calls
}

func stsError(code string) string {
	return `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>` + code +
		`</Code><Message>words of AWS</Message></Error><RequestId>8e5f</RequestId></ErrorResponse>`
}

// signatureHolds recomputes Signature Version 4 (AWS General Reference).
func signatureHolds(r *http.Request, body []byte) bool {
	rest := strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	parts := map[string]string{}
	for p := range strings.SplitSeq(rest, ", ") {
		k, v, _ := strings.Cut(p, "=")
		parts[k] = v
	}
	_, scope, _ := strings.Cut(parts["Credential"], "/")
	var canonical strings.Builder
	fmt.Fprintf(&canonical, "%s\n/\n\n", r.Method)
	for h := range strings.SplitSeq(parts["SignedHeaders"], ";") {
		v := r.Header.Get(h)
		switch h {
		case "host":
			v = r.Host
		case "content-length":
			v = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&canonical, "%s:%s\n", h, v)
	}
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	fmt.Fprintf(&canonical, "\n%s\n%s", parts["SignedHeaders"], sum(body))
	key := []byte("AWS4" + customer)
	mac := func(text string) []byte { m := hmac.New(sha256.New, key); m.Write([]byte(text)); return m.Sum(nil) }
	for p := range strings.SplitSeq(scope, "/") {
		key = mac(p)
	}
	text := "AWS4-HMAC-SHA256\n" + r.Header.Get("X-Amz-Date") + "\n" + scope + "\n" + sum([]byte(canonical.String()))
	return hex.EncodeToString(mac(text)) == parts["Signature"]
}

func respond(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body) // whoever reads too little hangs up
	}
}

func atSigning(c *aws.Config) { c.Clock = func() time.Time { return signedAt.Add(time.Minute) } }

func TestCallerIdentity(t *testing.T) {
	endpoint, _ := stsWire(t, respond("text/xml", good))
	cloud := newCloud(t, endpoint, atSigning)
	for name, session := range map[string]string{"long-term keys": "", "temporary credentials": "FwoGZXIvYXdzEXAMPLE/+=="} {
		t.Run(name, func(t *testing.T) {
			got, err := cloud.CallerIdentity(t.Context(), sign(t, binding, session), binding)
			want := postern.Caller{Account: "111122223333", ARN: "arn:aws:sts::111122223333:assumed-role/network/ada"}
			if err != nil || got != want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// A proof signed for somebody else's challenge is not asked about when it says
// so, and is refused by AWS when it lies.
func TestAForeignProof(t *testing.T) {
	endpoint, calls := stsWire(t, respond("text/xml", good))
	cloud := newCloud(t, endpoint, atSigning)
	foreign := sign(t, "immuta;globex;other", "")
	if _, err := cloud.CallerIdentity(t.Context(), foreign, binding); postern.CodeOf(err) != postern.CodeInvalid || calls.Load() != 0 {
		t.Errorf("says so: got %v after %d calls", err, calls.Load())
	}
	for _, bound := range []string{"immuta;globex;other", "other;example-corp;n0nce", "immuta;example-corp;n0nce2"} {
		lying := sign(t, bound, "")
		lying.Organization, lying.Nonce = "example-corp", "n0nce"
		_, err := cloud.CallerIdentity(t.Context(), lying, binding)
		if postern.CodeOf(err) != postern.CodeInvalid || !strings.Contains(err.Error(), "not that of this challenge") {
			t.Errorf("%s: got %v", bound, err)
		}
	}
	if calls.Load() != 3 {
		t.Errorf("%d calls", calls.Load())
	}
}

func TestProofsThatAreNotAskedAbout(t *testing.T) {
	endpoint, calls := stsWire(t, respond("text/xml", good))
	cloud := newCloud(t, endpoint, atSigning)
	replace := func(old, with string) func(*client.Proof) {
		return func(p *client.Proof) {
			if !strings.Contains(p.Authorization, old) {
				panic("the case changes nothing: " + old)
			}
			p.Authorization = strings.Replace(p.Authorization, old, with, 1)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*client.Proof)
		field  string
	}{
		{"another organization", func(p *client.Proof) { p.Organization = "globex" }, "nonce"},
		{"another nonce", func(p *client.Proof) { p.Nonce = "x" }, "nonce"},
		{"no nonce", func(p *client.Proof) { p.Nonce = "" }, "nonce"},
		{"a region that is not configured", func(p *client.Proof) { p.Region = "ap-south-1" }, "region"},
		{"a host for a region", func(p *client.Proof) { p.Region = "us-east-1.evil.example/" }, "region"},
		{"another region than signed", func(p *client.Proof) { p.Region = "eu-central-1" }, "authorization"},
		{"another service", replace("/sts/", "/ec2/"), "authorization"},
		{"another day", replace("/20261122/", "/20261121/"), "authorization"},
		{"another algorithm", replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "authorization"},
		{"a header injected", replace("Signature=", "Signature=\r\nX-Evil: y"), "authorization"},
		{"a tab", replace(", SignedHeaders", ",\tSignedHeaders"), "authorization"},
		{"a part twice", replace("SignedHeaders=", "SignedHeaders=host, SignedHeaders="), "authorization"},
		{"a fourth part", replace("SignedHeaders=", "More=x, SignedHeaders="), "authorization"},
		{"the binding is not signed", replace(";x-postern-binding", ""), "authorization"},
		{"the host is not signed", replace(";host", ""), "authorization"},
		{"the date is not signed", replace(";x-amz-date", ""), "authorization"},
		{"headers out of order", replace("host;x-amz-date", "x-amz-date;host"), "authorization"},
		{"a header twice", replace("host;", "host;host;"), "authorization"},
		{"a header in upper case", replace("host;", "Host;"), "authorization"},
		{"a header that is not sent", replace("host;", "host;range;"), "authorization"},
		{"a token that is not signed", func(p *client.Proof) { p.SecurityToken = "FwoGZXIv" }, "authorization"},
		{"a token with a line break", func(p *client.Proof) { p.SecurityToken = "a\r\nHost: b" }, "security_token"},
		{"a token without end", func(p *client.Proof) { p.SecurityToken = strings.Repeat("a", 8193) }, "security_token"},
		{"nothing", func(p *client.Proof) { p.Authorization = "" }, "authorization"},
		{"a bearer token", func(p *client.Proof) { p.Authorization = "Bearer x" }, "authorization"},
		{"no date", func(p *client.Proof) { p.Date = "" }, "date"},
		{"another form of date", func(p *client.Proof) { p.Date = "Sun, 22 Nov 2026 10:15:00 GMT" }, "date"},
		{"an old date", func(p *client.Proof) { p.Date = "20261122T100000Z" }, "date"},
		{"a date to come", func(p *client.Proof) { p.Date = "20261122T103101Z" }, "date"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := sign(t, binding, "")
			c.change(&p)
			got, err := cloud.CallerIdentity(t.Context(), p, binding)
			if postern.CodeOf(err) != postern.CodeInvalid || got != (postern.Caller{}) {
				t.Fatalf("got %+v, %v", got, err)
			}
			if !strings.Contains("\n"+err.Error(), "\n"+c.field+": ") {
				t.Errorf("the error is not about %s: %v", c.field, err)
			}
			if sig := p.Authorization[max(0, len(p.Authorization)-20):]; len(sig) == 20 && strings.Contains(err.Error(), sig) {
				t.Errorf("the error repeats the signature: %v", err)
			}
		})
	}
	if calls.Load() != 0 {
		t.Errorf("STS was asked %d times", calls.Load())
	}
	if _, err := cloud.CallerIdentity(t.Context(), sign(t, binding, ""), "x\r\ny;example-corp;n0nce"); postern.CodeOf(err) != postern.CodeInvalid {
		t.Errorf("a binding with a line break: got %v", err)
	}
}

// 14 minutes early or late is within what AWS permits.
func TestClocksMayDiffer(t *testing.T) {
	endpoint, _ := stsWire(t, respond("text/xml", good))
	for _, skew := range []time.Duration{-15 * time.Minute, 15 * time.Minute} {
		cloud := newCloud(t, endpoint, func(c *aws.Config) { c.Clock = func() time.Time { return signedAt.Add(skew) } })
		if _, err := cloud.CallerIdentity(t.Context(), sign(t, binding, ""), binding); err != nil {
			t.Errorf("%s: %v", skew, err)
		}
	}
}

func TestAnswersOfSTS(t *testing.T) {
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/xml")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body) // a 204 has none
		}
	}
	change := func(old, with string) http.HandlerFunc {
		if !strings.Contains(good, old) {
			t.Fatalf("the case changes nothing: %s", old)
		}
		return respond("text/xml", strings.Replace(good, old, with, 1))
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   postern.Code
	}{
		{"expired", status(403, stsError("ExpiredToken")), postern.CodeInvalid},
		{"unknown key", status(403, stsError("InvalidClientTokenId")), postern.CodeInvalid},
		{"disabled region", status(403, stsError("RegionDisabledException")), postern.CodeInvalid},
		{"signed long ago", status(400, stsError("RequestExpired")), postern.CodeInvalid},
		{"some other refusal", status(403, stsError("AccessDenied")), postern.CodeInvalid},
		{"a refusal that is no XML", status(400, "no"), postern.CodeInvalid},
		{"throttled", status(400, stsError("Throttling")), postern.CodeThrottled},
		{"too many", status(429, ""), postern.CodeThrottled},
		{"failure", status(500, stsError("InternalFailure")), postern.CodeUnavailable},
		{"not there", status(503, "<html>"), postern.CodeUnavailable},
		{"success of another kind", status(204, ""), postern.CodeUnavailable},
		{"201", status(201, good), postern.CodeUnavailable},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, postern.CodeUnavailable},
		{"JSON", respond("application/json", good), postern.CodeUnavailable},
		{"no type", respond("", good), postern.CodeUnavailable},
		{"a web page", respond("text/xml", "<html></html>"), postern.CodeUnavailable},
		{"too large", respond("text/xml", good+strings.Repeat(" ", 64<<10)), postern.CodeUnavailable},
		{"cut", respond("text/xml", good[:200]), postern.CodeUnavailable},
		{"another namespace", change("https://sts.amazonaws.com/", "https://sts.example.com/"), postern.CodeUnavailable},
		{"two results", change("<ResponseMetadata>", "<GetCallerIdentityResult/><ResponseMetadata>"), postern.CodeUnavailable},
		{"two accounts", change("<Account>", "<Account>999999999999</Account><Account>"), postern.CodeUnavailable},
		{"an element too many", change("<Account>", "<Extra/><Account>"), postern.CodeUnavailable},
		{"an account of 11 digits", change("<Account>1", "<Account>"), postern.CodeUnavailable},
		{"an ARN of another account", change("sts::1", "sts::2"), postern.CodeUnavailable},
		{"an ARN of another partition", change("arn:aws:", "arn:aws-cn:"), postern.CodeUnavailable},
		{"an ARN of a bucket", change("arn:aws:sts::111122223333:assumed-role/network/ada", "arn:aws:s3:::bucket"), postern.CodeUnavailable},
		{"a second document", respond("text/xml", good+good), postern.CodeUnavailable},
		{"text after it", respond("text/xml", good+"x"), postern.CodeUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			endpoint, calls := stsWire(t, c.answer)
			got, err := newCloud(t, endpoint, atSigning).CallerIdentity(t.Context(), sign(t, binding, ""), binding)
			if postern.CodeOf(err) != c.want || got != (postern.Caller{}) {
				t.Errorf("got %+v, %v", got, err)
			}
			if calls.Load() != 1 {
				t.Errorf("%d calls: a redirect was followed, or it was sent again", calls.Load())
			}
			if err != nil && strings.Contains(err.Error(), "words of AWS") {
				t.Errorf("the error repeats what was answered: %v", err)
			}
		})
	}
	t.Run("a comment and white space around", func(t *testing.T) {
		endpoint, _ := stsWire(t, respond("text/xml; charset=utf-8", "<?xml version=\"1.0\"?>\n"+good+"\n<!-- x -->\n"))
		if _, err := newCloud(t, endpoint, atSigning).CallerIdentity(t.Context(), sign(t, binding, ""), binding); err != nil {
			t.Error(err)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		srv := httptest.NewServer(http.NotFoundHandler())
		srv.Close()
		if _, err := newCloud(t, srv.URL, atSigning).CallerIdentity(t.Context(), sign(t, binding, ""), binding); postern.CodeOf(err) != postern.CodeUnavailable {
			t.Errorf("got %v", err)
		}
	})
}

// The environment's proxy is not between the platform and STS.
func TestNoProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was used") }))
	t.Cleanup(proxy.Close)
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	endpoint, _ := stsWire(t, respond("text/xml", good))
	if _, err := newCloud(t, endpoint, atSigning).CallerIdentity(t.Context(), sign(t, binding, ""), binding); err != nil {
		t.Error(err)
	}
}
