package localaws

import (
	"strings"
)

// principal is who an access key acts as.
type principal struct {
	key     AccessKey
	account string
	arn     string
}

// principals indexes the world's access keys by their IDs.
func principals(w *World) map[string]principal {
	out := map[string]principal{}
	for _, a := range w.Accounts {
		for _, k := range a.AccessKeys {
			arn := k.Principal
			if arn == "" {
				arn = "arn:aws:iam::" + a.ID + ":root"
			}
			out[k.ID] = principal{key: k, account: a.ID, arn: arn}
		}
	}
	return out
}

// allows tells whether an allow-list admits a caller: everybody, his account,
// or himself. The owner of a service needs no entry. An ARN is compared
// without its partition, because a principal has only one.
func (svc *service) allows(p principal) bool {
	if svc.Account == p.account {
		return true
	}
	for _, entry := range svc.Permissions {
		if entry.Principal == "*" {
			return true
		}
		account, resource := splitARN(entry.Principal)
		if account != p.account {
			continue
		}
		if _, own := splitARN(p.arn); resource == "root" || resource == role(own) {
			return true
		}
	}
	return false
}

// splitARN takes account and resource out of an IAM or STS ARN.
func splitARN(arn string) (account, resource string) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 {
		return "", ""
	}
	return parts[4], parts[5]
}

// role turns "assumed-role/NAME/SESSION" into the role's own "role/NAME", and
// leaves a path out, as allow-lists have none.
func role(resource string) string {
	parts := strings.Split(resource, "/")
	switch {
	case len(parts) == 3 && parts[0] == "assumed-role":
		return "role/" + parts[1]
	case len(parts) > 2:
		return parts[0] + "/" + parts[len(parts)-1]
	}
	return resource
}

// principalType is what DescribeVpcEndpointServicePermissions tells.
func principalType(p string) string {
	_, resource := splitARN(p)
	switch kind, _, _ := strings.Cut(resource, "/"); {
	case p == "*":
		return "All"
	case kind == "root":
		return "Account"
	case kind == "user":
		return "User"
	case kind == "role":
		return "Role"
	}
	return "Service"
}
