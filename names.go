package postern

import (
	"fmt"
	"regexp"
	"strings"
)

// The forms of AWS's identifiers, from the EC2 and IAM API references. The
// seeds' sample "vpce-svc-0d12345ddd89101112" has 18 digits and is not one.
var (
	vpcEndpointID = regexp.MustCompile(`^vpce-(?:[0-9a-f]{8}|[0-9a-f]{17})$`)
	serviceID     = regexp.MustCompile(`^vpce-svc-(?:[0-9a-f]{8}|[0-9a-f]{17})$`)
	serviceName   = regexp.MustCompile(`^(?:cn\.)?com\.amazonaws\.vpce\.([a-z]{2,4}(?:-[a-z]+){1,2}-\d+)\.(vpce-svc-(?:[0-9a-f]{8}|[0-9a-f]{17}))$`)
	regionName    = regexp.MustCompile(`^[a-z]{2,4}(?:-[a-z]+){1,2}-\d+$`)
	zoneID        = regexp.MustCompile(`^[a-z]{3,5}\d-az\d+$`)
	zoneName      = regexp.MustCompile(`^[a-z]{2,4}(?:-[a-z]+){1,2}-\d+[a-z]$`)
	vpcID         = regexp.MustCompile(`^vpc-(?:[0-9a-f]{8}|[0-9a-f]{17})$`)
	subnetID      = regexp.MustCompile(`^subnet-(?:[0-9a-f]{8}|[0-9a-f]{17})$`)
	groupID       = regexp.MustCompile(`^sg-(?:[0-9a-f]{8}|[0-9a-f]{17})$`)
	accountID     = regexp.MustCompile(`^\d{12}$`)
	principalARN  = regexp.MustCompile(`^arn:(?:aws|aws-cn|aws-us-gov):iam::(\d{12}):(?:root|(?:role|user)/[A-Za-z0-9+=,.@_-]{1,64})$`)
	dnsLabel      = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$`)
)

// CheckVPCEndpointID reports what is wrong with an interface endpoint's ID,
// which is "vpce-" and 8 or 17 lower-case hexadecimal digits.
func CheckVPCEndpointID(field, v string) *Error {
	if vpcEndpointID.MatchString(v) {
		return nil
	}
	fix := `copy VpcEndpointId as AWS shows it, such as "vpce-0d363d9ea82658bec"`
	switch {
	case strings.HasPrefix(v, "vpce-svc-"):
		fix = `that is an endpoint service; give the ID of your own endpoint, such as "vpce-0d363d9ea82658bec"`
	case serviceName.MatchString(v):
		fix = `that is an endpoint service; give the ID of your own endpoint, such as "vpce-0d363d9ea82658bec"`
	case strings.Contains(v, ".vpce."):
		fix = "that is a DNS name; give its first part, up to the second hyphen"
	}
	return Invalid(field, v, "not a VPC endpoint ID", fix)
}

// CheckAccountID reports what is wrong with an AWS account ID (12 digits).
func CheckAccountID(field, v string) *Error {
	if accountID.MatchString(v) {
		return nil
	}
	return Invalid(field, v, "not an AWS account ID", "give its 12 digits without hyphens")
}

// CheckRegionName reports what is wrong with the form of an AWS region's code.
func CheckRegionName(field, v string) *Error {
	switch {
	case regionName.MatchString(v):
		return nil
	case zoneName.MatchString(v):
		return Invalid(field, v, "an Availability Zone, not a region", fmt.Sprintf("leave out the last letter: %q", v[:len(v)-1]))
	}
	return Invalid(field, v, "not an AWS region", `give its code, such as "us-east-1"`)
}

// CheckZoneID reports what is wrong with an Availability Zone ID. IDs such as
// "use1-az3" mean the same zone in every account; names such as "us-east-1a"
// are mapped per account and are refused with that hint (AWS; the seeds).
func CheckZoneID(field, v string) *Error {
	switch {
	case zoneID.MatchString(v):
		return nil
	case zoneName.MatchString(v):
		return Invalid(field, v, "an Availability Zone name, which means a different zone in every account",
			`give the zone's ID, such as "use1-az3" (aws ec2 describe-availability-zones shows it as ZoneId)`)
	}
	return Invalid(field, v, "not an Availability Zone ID", `give the zone's ID, such as "use1-az3"`)
}

// CheckPrincipalARN reports what is wrong with a principal of an endpoint
// service's allow-list: an account's root, a role or a user, without a path
// (AWS does not take paths there).
func CheckPrincipalARN(field, v string) *Error {
	if principalARN.MatchString(v) {
		return nil
	}
	return Invalid(field, v, "not an IAM principal that PrivateLink accepts",
		`give "arn:aws:iam::ACCOUNT:root", or a role or user without a path`)
}

// CheckLabel reports what is wrong with a name that becomes one DNS label
// (RFC 1123): 1 to 63 lower-case letters, digits and inner hyphens.
func CheckLabel(field, v string) *Error {
	if dnsLabel.MatchString(v) {
		return nil
	}
	return Invalid(field, v, "not usable as a DNS label", "use 1 to 63 lower-case letters, digits and inner hyphens")
}

// CheckHostname reports what is wrong with a fully qualified hostname in
// lower case without a trailing dot (RFC 1123, at most 253 characters).
func CheckHostname(field, v string) *Error {
	labels := strings.Split(v, ".")
	ok := len(v) <= 253 && len(labels) >= 2
	for _, l := range labels {
		ok = ok && dnsLabel.MatchString(l)
	}
	if ok {
		return nil
	}
	return Invalid(field, v, "not a hostname", `write it in lower case without a trailing dot, such as "app.example.com"`)
}

// ServiceRef names an endpoint service both ways.
type ServiceRef struct {
	Region string // service region, "us-east-1"
	ID     string // "vpce-svc-0471015b106ad1d47"
	Name   string // "com.amazonaws.vpce.us-east-1.vpce-svc-0471015b106ad1d47"
}

// ParseServiceName takes an endpoint service name apart.
func ParseServiceName(field, v string) (ServiceRef, *Error) {
	m := serviceName.FindStringSubmatch(v)
	if m == nil {
		fix := `copy ServiceName as AWS shows it, such as "com.amazonaws.vpce.us-east-1.vpce-svc-0471015b106ad1d47"`
		if serviceID.MatchString(v) {
			fix = "that is the service's ID; give its name, which holds the region: com.amazonaws.vpce.REGION." + v
		}
		return ServiceRef{}, Invalid(field, v, "not an endpoint service name", fix)
	}
	return ServiceRef{Region: m[1], ID: m[2], Name: v}, nil
}

// AccountPrincipal is the principal that stands for a whole account on an
// endpoint service's allow-list. The partition follows the region.
func AccountPrincipal(region, account string) string {
	partition := "aws"
	switch {
	case strings.HasPrefix(region, "cn-"):
		partition = "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		partition = "aws-us-gov"
	}
	return "arn:" + partition + ":iam::" + account + ":root"
}
