package accountproof_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/client/accountproof"
)

var now = time.Date(2026, 11, 22, 10, 15, 0, 0, time.UTC)

type keys struct {
	aws.Credentials
	err error
}

func (k keys) Retrieve(context.Context) (aws.Credentials, error) { return k.Credentials, k.err }

func challenge() client.Challenge {
	return client.Challenge{
		Nonce: "n0nce", Organization: "example-corp", Header: "X-Postern-Binding",
		Binding: "immuta;example-corp;n0nce", Regions: []string{"us-east-1", "eu-central-1"}, ExpiresAt: now.Add(time.Minute),
	}
}

func TestTheBindingHeaderIsThePlatforms(t *testing.T) {
	if accountproof.BindingHeader != postern.BindingHeader {
		t.Errorf("signer uses %q, platform %q", accountproof.BindingHeader, postern.BindingHeader)
	}
}

func TestHost(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1":         "sts.us-east-1.amazonaws.com",
		"us-gov-west-1":     "sts.us-gov-west-1.amazonaws.com",
		"cn-northwest-1":    "sts.cn-northwest-1.amazonaws.com.cn",
		"us-east-1a":        "",
		"":                  "",
		"x.example/":        "",
		"us-east-1.evil.io": "",
	} {
		if got := accountproof.Host(region); got != want {
			t.Errorf("Host(%q) = %q, want %q", region, got, want)
		}
	}
}

// The expected signatures were computed by an independent implementation of
// Signature Version 4 (AWS General Reference) in Python.
func TestSign(t *testing.T) {
	k := keys{Credentials: aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}}
	p, err := accountproof.Sign(t.Context(), k, challenge(), "us-east-1", now)
	if err != nil {
		t.Fatal(err)
	}
	want := client.Proof{
		Organization: "example-corp", Nonce: "n0nce", Region: "us-east-1", Date: "20261122T101500Z",
		Authorization: "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/us-east-1/sts/aws4_request, " +
			"SignedHeaders=content-length;content-type;host;x-amz-date;x-postern-binding, Signature=89710b061b20f1543b4956e4b6ac484f4e53049f4e7c3e3503541b5124e5ca1f",
	}
	if p != want {
		t.Errorf("got\n%+v\nwant\n%+v", p, want)
	}

	k.SessionToken = "FwoGZXIvYXdzEXAMPLE"
	p, err = accountproof.Sign(t.Context(), k, challenge(), "us-east-1", now)
	if err != nil {
		t.Fatal(err)
	}
	want.SecurityToken = "FwoGZXIvYXdzEXAMPLE"
	want.Authorization = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/us-east-1/sts/aws4_request, " +
		"SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token;x-postern-binding, Signature=e59da329fa6f1dc04a0fcfd206c1b6e3ec72acb70e57d08e2f4bc295b43a8b1b"
	if p != want {
		t.Errorf("got\n%+v\nwant\n%+v", p, want)
	}
}

func TestSignRefuses(t *testing.T) {
	good := keys{Credentials: aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "secret-words"}}
	for _, c := range []struct {
		name   string
		change func(*client.Challenge)
		region string
		keys   keys
		want   string
	}{
		{"another header", func(ch *client.Challenge) { ch.Header = "X-Vault-AWS-IAM-Server-ID" }, "us-east-1", good, "only X-Postern-Binding is ever signed"},
		{"no header", func(ch *client.Challenge) { ch.Header = "" }, "us-east-1", good, "only X-Postern-Binding is ever signed"},
		{"a line break", func(ch *client.Challenge) { ch.Binding = "immuta;x\r\nHost: y;example-corp;n0nce" }, "us-east-1", good, "printable characters"},
		{"somebody else's organization", func(ch *client.Challenge) { ch.Binding = "immuta;globex;n0nce" }, "us-east-1", good, "another organization"},
		{"another nonce", func(ch *client.Challenge) { ch.Binding = "immuta;example-corp;other" }, "us-east-1", good, "another organization or nonce"},
		{"expired", func(ch *client.Challenge) { ch.ExpiresAt = now }, "us-east-1", good, "has expired"},
		{"not a region", func(*client.Challenge) {}, "us-east-1a", good, "not an AWS region"},
		{"a region that is not taken", func(*client.Challenge) {}, "ap-south-1", good, "use one of us-east-1, eu-central-1"},
		{"no credentials", func(*client.Challenge) {}, "us-east-1", keys{err: errors.New("none found")}, "get AWS credentials: none found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch := challenge()
			c.change(&ch)
			p, err := accountproof.Sign(t.Context(), c.keys, ch, c.region, now)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %+v, %v; want an error with %q", p, err, c.want)
			}
			if strings.Contains(err.Error(), "secret-words") {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func TestSignDefault(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	text := "[profile nine]\nregion=eu-central-1\naws_access_key_id=AKIANINEEXAMPLE12345\naws_secret_access_key=secret\n" +
		"[profile far]\nregion=ap-south-1\naws_access_key_id=AKIAFAREXAMPLE123456\naws_secret_access_key=secret\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"AWS_CONFIG_FILE": file, "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(dir, "none"), "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
	} {
		t.Setenv(k, v)
	}
	ch := challenge()
	ch.ExpiresAt = time.Time{}
	for _, c := range []struct{ profile, region, want string }{
		{"nine", "", "AKIANINEEXAMPLE12345 eu-central-1"},
		{"nine", "us-east-1", "AKIANINEEXAMPLE12345 us-east-1"},
		{"far", "", "AKIAFAREXAMPLE123456 us-east-1"},
	} {
		p, err := accountproof.SignDefault(t.Context(), ch, c.region, c.profile)
		if err != nil {
			t.Errorf("profile %s: %v", c.profile, err)
			continue
		}
		key, _, _ := strings.Cut(strings.TrimPrefix(p.Authorization, "AWS4-HMAC-SHA256 Credential="), "/")
		if got := key + " " + p.Region; got != c.want {
			t.Errorf("profile %s, region %q: signed with %s, want %s", c.profile, c.region, got, c.want)
		}
	}
	if _, err := accountproof.SignDefault(t.Context(), ch, "", "absent"); err == nil {
		t.Error("an absent profile was taken")
	}
}
