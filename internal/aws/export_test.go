package aws

import "github.com/postern-net/postern"

// ParseAuthorization is for the fuzz test: the header as it would be sent on.
func ParseAuthorization(v string) (string, *postern.Error) {
	a, err := parseAuthorization(v)
	if err != nil {
		return "", err
	}
	return a.String(), nil
}

// DecodeIdentity is for the fuzz test.
var DecodeIdentity = decodeIdentity
