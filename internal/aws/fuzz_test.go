package aws_test

import (
	"strings"
	"testing"

	"github.com/postern-net/postern/internal/aws"
)

func FuzzAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/us-east-1/sts/aws4_request, SignedHeaders=host;x-amz-date;x-postern-binding, Signature=" + strings.Repeat("0a", 32))
	f.Add("AWS4-HMAC-SHA256 Signature=x,Credential==,SignedHeaders=;")
	f.Add("AWS4-HMAC-SHA256 ,,,")
	f.Fuzz(func(t *testing.T, v string) {
		sent, err := aws.ParseAuthorization(v)
		if err != nil {
			return
		}
		for _, r := range sent {
			if r < ' ' || r > '~' {
				t.Fatalf("%q would send %q", v, sent)
			}
		}
		if again, err := aws.ParseAuthorization(sent); err != nil || again != sent {
			t.Fatalf("%q became %q, and that %q, %v", v, sent, again, err)
		}
	})
}

func FuzzIdentityAnswer(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(stsError("ExpiredToken")))
	f.Add([]byte(`<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"/>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		caller, err := aws.DecodeIdentity(body, "us-east-1")
		if err != nil {
			return
		}
		if len(caller.Account) != 12 || !strings.Contains(caller.ARN, "::"+caller.Account+":") {
			t.Fatalf("%q became %+v", body, caller)
		}
	})
}
