package postern_test

import (
	"strings"
	"testing"

	"github.com/postern-net/postern"
)

// checkForm runs one Check function over what it takes and what it refuses;
// refused values map to a part of the advice that must come with them.
func checkForm(t *testing.T, check func(field, v string) *postern.Error, takes []string, refuses map[string]string) {
	t.Helper()
	for _, v := range takes {
		if err := check("f", v); err != nil {
			t.Errorf("refused %q: %v", v, err)
		}
	}
	for v, advice := range refuses {
		err := check("spec.f", v)
		if err == nil {
			t.Errorf("took %q", v)
			continue
		}
		if err.Code != postern.CodeInvalid || err.Field != "spec.f" || err.Value != v || err.Message == "" || err.Fix == "" {
			t.Errorf("%q: the error lacks code, field, value, message or fix: %#v", v, err)
		}
		if !strings.Contains(err.Error(), advice) {
			t.Errorf("%q: %q does not say %q", v, err, advice)
		}
	}
}

func TestCheckVPCEndpointID(t *testing.T) {
	checkForm(
		t, postern.CheckVPCEndpointID,
		[]string{"vpce-0d363d9ea82658bec", "vpce-12345678"},
		map[string]string{
			"":                            "copy VpcEndpointId",
			"vpce-":                       "copy VpcEndpointId",
			"vpce-0D363D9EA82658BEC":      "copy VpcEndpointId",
			"vpce-0d363d9ea82658bec ":     "copy VpcEndpointId",
			"vpce-0d363d9ea82658be":       "copy VpcEndpointId",
			"vpce-0d363d9ea82658becc":     "copy VpcEndpointId",
			"vpce-svc-0d12345ddd89101112": "that is an endpoint service",
			"com.amazonaws.vpce.us-east-1.vpce-svc-0471015b106ad1d47":                 "that is an endpoint service",
			"vpce-0d363d9ea82658bec-29p5708s.vpce-svc-1.us-east-1.vpce.amazonaws.com": "up to the second hyphen",
		},
	)
}

func TestCheckRegionName(t *testing.T) {
	checkForm(
		t, postern.CheckRegionName,
		[]string{"us-east-1", "ap-southeast-2", "us-gov-west-1", "cn-north-1", "eu-isoe-west-1"},
		map[string]string{"us-east-1a": `"us-east-1"`, "US-EAST-1": "its code", "use1-az1": "its code", "": "its code", "us-east-1\n": "its code"},
	)
}

func TestCheckZoneID(t *testing.T) {
	checkForm(
		t, postern.CheckZoneID,
		[]string{"use1-az3", "apne1-az1", "usgw1-az1", "cnnw1-az1"},
		map[string]string{
			"us-east-1a":      "describe-availability-zones",
			"ap-southeast-2b": "different zone in every account",
			"us-east-1":       "use1-az3",
			"USE1-AZ3":        "use1-az3",
			"":                "use1-az3",
		},
	)
}

func TestCheckAccountID(t *testing.T) {
	checkForm(
		t, postern.CheckAccountID,
		[]string{"111122223333", "000000000000"},
		map[string]string{"1111-2222-3333": "12 digits", "11112222333": "12 digits", "1111222233334": "12 digits", "": "12 digits", "١١١١٢٢٢٢٣٣٣٣": "12 digits"},
	)
}

func TestCheckPrincipalARN(t *testing.T) {
	checkForm(
		t, postern.CheckPrincipalARN,
		[]string{
			"arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:role/postern", "arn:aws:iam::111122223333:user/a.b@c",
			"arn:aws-cn:iam::111122223333:root", "arn:aws-us-gov:iam::111122223333:root",
		},
		map[string]string{
			"*":                                       "without a path",
			"arn:aws:iam::*:root":                     "without a path",
			"arn:aws:iam::111122223333:role/a/b":      "without a path",
			"arn:aws:iam::111122223333:role/":         "without a path",
			"arn:aws:iam::11112222333:root":           "without a path",
			"arn:aws:sts::111122223333:assumed-role/": "without a path",
			"": "without a path",
		},
	)
}

func TestCheckLabel(t *testing.T) {
	checkForm(
		t, postern.CheckLabel,
		[]string{"a", "example", "example-dev", "0", strings.Repeat("a", 63), "xn--bcher-kva"},
		map[string]string{
			"": "1 to 63", "-a": "1 to 63", "a-": "1 to 63", "A": "1 to 63", "a.b": "1 to 63", "a_b": "1 to 63", "bücher": "1 to 63",
			strings.Repeat("a", 64): "1 to 63", "*": "1 to 63", "a\n": "1 to 63",
		},
	)
}

func TestCheckHostname(t *testing.T) {
	long := strings.Repeat("a23456789.", 25)
	checkForm(
		t, postern.CheckHostname,
		[]string{"example.com", "a.b.c.example", long + "abc"},
		map[string]string{
			"": "lower case", "example": "lower case", "example.com.": "trailing dot", "Example.com": "lower case", "*.example.com": "lower case",
			"a..b": "lower case", "10.0.0.1/8": "lower case", long + "abcd": "lower case",
		},
	)
}

func TestParseServiceName(t *testing.T) {
	check := func(field, v string) *postern.Error { _, err := postern.ParseServiceName(field, v); return err }
	checkForm(
		t, check,
		[]string{
			"com.amazonaws.vpce.us-east-1.vpce-svc-0471015b106ad1d47", "cn.com.amazonaws.vpce.cn-north-1.vpce-svc-0471015b106ad1d47",
			"com.amazonaws.vpce.us-east-1.vpce-svc-12345678",
		},
		map[string]string{
			// The seeds' sample has 18 digits, and is not what AWS makes.
			"com.amazonaws.vpce.us-east-1.vpce-svc-0d12345ddd89101112": "copy ServiceName",
			"vpce-svc-0471015b106ad1d47":                               "that is the service's ID",
			"com.amazonaws.us-east-1.s3":                               "copy ServiceName",
			"":                                                         "copy ServiceName",
		},
	)
	ref, err := postern.ParseServiceName("f", "com.amazonaws.vpce.ap-southeast-2.vpce-svc-0471015b106ad1d47")
	want := postern.ServiceRef{Region: "ap-southeast-2", ID: "vpce-svc-0471015b106ad1d47", Name: "com.amazonaws.vpce.ap-southeast-2.vpce-svc-0471015b106ad1d47"}
	if err != nil || ref != want {
		t.Errorf("got %+v, %v; want %+v", ref, err, want)
	}
}

func TestAccountPrincipal(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1":     "arn:aws:iam::111122223333:root",
		"cn-north-1":    "arn:aws-cn:iam::111122223333:root",
		"us-gov-west-1": "arn:aws-us-gov:iam::111122223333:root",
	} {
		got := postern.AccountPrincipal(region, "111122223333")
		if got != want {
			t.Errorf("%s: got %s, want %s", region, got, want)
		}
		if err := postern.CheckPrincipalARN("f", got); err != nil {
			t.Error(err)
		}
	}
}
