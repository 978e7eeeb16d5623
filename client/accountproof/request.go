package accountproof

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// The parts of the request that signer and platform both know and never
// exchange. GetCallerIdentity has no parameters and needs no permission
// (AWS STS API reference).
const (
	// Method of the signed request.
	Method = "POST"
	// Path of the signed request.
	Path = "/"
	// Body of the signed request, byte for byte.
	Body = "Action=GetCallerIdentity&Version=2011-06-15"
	// ContentType of the signed request, byte for byte.
	ContentType = "application/x-www-form-urlencoded; charset=utf-8"
	// Service is the name in the credential scope.
	Service = "sts"
	// BindingHeader carries the challenge's binding and must be signed.
	BindingHeader = "X-Postern-Binding"
	// DateFormat is the form of X-Amz-Date, always in UTC.
	DateFormat = "20060102T150405Z"
)

var region = regexp.MustCompile(`^[a-z]{2,4}(?:-[a-z]+){1,2}-[0-9]{1,2}$`)

// Host is the STS host of a region, or "" for something that is not a region's
// code, so that no other text can choose where a proof is sent. China has a
// DNS suffix of its own.
func Host(regionCode string) string {
	switch {
	case !region.MatchString(regionCode):
		return ""
	case strings.HasPrefix(regionCode, "cn-"):
		return "sts." + regionCode + ".amazonaws.com.cn"
	default:
		return "sts." + regionCode + ".amazonaws.com"
	}
}

// BodyHash is the SHA-256 of [Body] in hexadecimal, as the signature covers it.
func BodyHash() string {
	sum := sha256.Sum256([]byte(Body))
	return hex.EncodeToString(sum[:])
}
