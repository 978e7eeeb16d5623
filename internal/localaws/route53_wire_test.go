package localaws_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/localaws/hostedzone"
)

// rest signs and sends a Route 53 request by hand.
func (f *fixture) rest(k localaws.AccessKey, method, path, service, region, body string, change func(*http.Request)) (int, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.EndpointURL()+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	creds := aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret}
	if err := v4.NewSigner().SignHTTP(f.t.Context(), creds, req, hex.EncodeToString(sum[:]), service, region, time.Now()); err != nil {
		f.t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

const (
	zonesPath   = "/2013-04-01/hostedzone"
	route53XMLN = `xmlns="https://route53.amazonaws.com/doc/2013-04-01/"`
)

func TestRoute53Authenticates(t *testing.T) {
	f := newFixture(t, nil)
	good := f.example.AccessKeys[0]
	stranger, wrong := good, good
	stranger.ID, wrong.Secret = "AKIAAAAAAAAAAAAAAAAA", "not the secret"
	for name, c := range map[string]struct {
		key             localaws.AccessKey
		service, region string
		path            string
		change          func(*http.Request)
		status          int
		contains        string
	}{
		"good":              {good, "route53", virginia, zonesPath, nil, 200, "<ListHostedZonesResponse " + route53XMLN},
		"unknown key":       {stranger, "route53", virginia, zonesPath, nil, 403, "<Code>InvalidClientTokenId</Code>"},
		"wrong secret":      {wrong, "route53", virginia, zonesPath, nil, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"its own region":    {good, "route53", oregon, zonesPath, nil, 200, "<ListHostedZonesResponse "},
		"no such region":    {good, "route53", "us-east-9", zonesPath, nil, 403, "scoped to a valid region"},
		"another service":   {good, "ec2", virginia, zonesPath, nil, 403, "scoped to correct service: &#39;route53&#39;"},
		"route53 at EC2":    {good, "route53", virginia, "/", nil, 405, "InvalidAction"},
		"unsigned":          {good, "route53", virginia, zonesPath, func(r *http.Request) { r.Header.Del("Authorization") }, 403, "<Code>MissingAuthenticationToken</Code>"},
		"tampered query":    {good, "route53", virginia, zonesPath, func(r *http.Request) { r.URL.RawQuery = "maxitems=1" }, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"tampered path":     {good, "route53", virginia, zonesPath, func(r *http.Request) { r.URL.Path += "/Z1" }, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"malformed":         {good, "route53", virginia, zonesPath, func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x") }, 400, "<Code>IncompleteSignature</Code>"},
		"unknown operation": {good, "route53", virginia, "/2013-04-01/healthcheck", nil, 404, "<Code>UnknownOperationException</Code>"},
		"no zone's ID":      {good, "route53", virginia, zonesPath + "/Z1/x/y", nil, 404, "<Code>UnknownOperationException</Code>"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := f.rest(c.key, http.MethodGet, c.path, c.service, c.region, "", c.change)
			if status != c.status || !strings.Contains(body, c.contains) {
				t.Errorf("%d %s; want %d and %s", status, body, c.status, c.contains)
			}
			if status != 200 && c.path != "/" && !strings.Contains(body, "<ErrorResponse "+route53XMLN) {
				t.Errorf("not a Route 53 error: %s", body)
			}
		})
	}
}

func TestXMLThatIsRefused(t *testing.T) {
	f := newFixture(t, nil)
	const open, shut = `<CreateHostedZoneRequest ` + route53XMLN + `>`, `</CreateHostedZoneRequest>`
	const zone = `<Name>example.com</Name><CallerReference>`
	for name, c := range map[string]struct {
		body     string
		status   int
		contains string
	}{
		"good":             {`<?xml version="1.0" encoding="UTF-8"?>` + open + zone + `1</CallerReference>` + shut, 201, "<Name>example.com.</Name>"},
		"predefined":       {open + zone + `&lt;2&gt;</CallerReference>` + shut, 201, "<CallerReference>&lt;2&gt;<"},
		"document type":    {`<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>` + open + zone + `&e;</CallerReference>` + shut, 400, "a document type is not allowed"},
		"unknown entity":   {open + zone + `&e;</CallerReference>` + shut, 400, "Invalid XML"},
		"other encoding":   {`<?xml version="1.0" encoding="UTF-16"?>` + open + zone + `3</CallerReference>` + shut, 400, "Invalid XML"},
		"other namespace":  {`<CreateHostedZoneRequest>` + zone + `4</CallerReference>` + shut, 400, "the root element is not"},
		"other root":       {`<X ` + route53XMLN + `/>`, 400, "the root element is not"},
		"unknown element":  {open + zone + `5</CallerReference><Nam/>` + shut, 400, "unexpected element &#39;Nam&#39;"},
		"unknown in a VPC": {open + zone + `6</CallerReference><VPC><X/></VPC>` + shut, 400, "unexpected element &#39;X&#39;"},
		"not closed":       {open + zone + `7</CallerReference>`, 400, "Invalid XML"},
		"two roots":        {open + zone + `8</CallerReference>` + shut + `<x/>`, 400, "more than one root"},
		"text behind":      {open + zone + `9</CallerReference>` + shut + `x`, 400, "text outside"},
		"empty":            {"", 400, "no element"},
		"not XML":          {"Action=DescribeVpcs", 400, "text outside"},
		"too large":        {open + zone + strings.Repeat("x", 1<<20) + `</CallerReference>` + shut, 413, "RequestEntityTooLarge"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := f.rest(f.example.AccessKeys[0], http.MethodPost, zonesPath, "route53", virginia, c.body, nil)
			if status != c.status || !strings.Contains(body, c.contains) {
				t.Errorf("%d %s; want %d and %s", status, body, c.status, c.contains)
			}
		})
	}
}

// FuzzChangeBatch: whatever arrives, what is admitted by its form can be judged
// by a zone, and leaves it readable.
func FuzzChangeBatch(f *testing.F) {
	const open, shut = `<ChangeResourceRecordSetsRequest ` + route53XMLN + `><ChangeBatch><Comment>c</Comment><Changes>`, `</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>`
	const a = `<Change><Action>UPSERT</Action><ResourceRecordSet><Name>a.example.com</Name><Type>A</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></Change>`
	for _, s := range []string{
		open + a + shut, open + a + a + shut, open + shut, open + strings.Replace(a, "192.0.2.1", "&e;", 1) + shut, "<!DOCTYPE x>" + open + a + shut,
		open + strings.Replace(a, "<TTL>60</TTL>", "<TTL>x</TTL>", 1) + shut, open + strings.Replace(a, "a.example.com", `\052.example.com`, 1) + shut,
		open + `<Change><Action>CREATE</Action><ResourceRecordSet><Name>example.com</Name><Type>A</Type><AliasTarget><HostedZoneId>/hostedzone/Z1</HostedZoneId><DNSName>b.example.com</DNSName><EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget></ResourceRecordSet></Change>` + shut,
		open + strings.Replace(strings.Replace(a, ">A<", ">TXT<", 1), "192.0.2.1", `"\303" "b"`, 1) + shut, "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		batch, problems, err := localaws.DecodeBatch(body)
		if err != nil || len(problems) > 0 {
			return
		}
		if len(batch) == 0 {
			t.Fatalf("%q: no change and no error", body)
		}
		for _, c := range batch {
			if name, err := hostedzone.ParseName(c.Set.Name); err != nil || name != c.Set.Name {
				t.Fatalf("%q: name %q is not in its kept form", body, c.Set.Name)
			}
		}
		z, problems := hostedzone.New("example.com.", []string{"ns-1.awsdns-01.com"}).Apply(batch, func(hostedzone.RecordSet) string { return "" })
		if len(problems) > 0 {
			return
		}
		for _, r := range z.Records {
			if got := z.Lookup(r.Name, r.Type); !got.Exists || len(got.Records) != len(r.Values) {
				t.Fatalf("%q: %+v is not found", body, r)
			}
		}
	})
}
