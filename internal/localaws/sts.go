package localaws

import (
	"encoding/hex"
	"strings"
)

func stsActions() map[string]action {
	return map[string]action{"GetCallerIdentity": {run: (*Server).getCallerIdentity}}
}

type callerIdentity struct {
	ARN       string `xml:"GetCallerIdentityResult>Arn"`
	UserID    string `xml:"GetCallerIdentityResult>UserId"`
	Account   string `xml:"GetCallerIdentityResult>Account"`
	RequestID string `xml:"ResponseMetadata>RequestId"`
}

func (r *callerIdentity) stamp(id string) { r.RequestID = id }

func (*Server) getCallerIdentity(c *call) (replier, error) {
	return &callerIdentity{ARN: c.caller.arn, UserID: c.caller.userID(), Account: c.caller.account}, c.known()
}

// userID is IAM's unique ID of a principal: the account itself for its root.
func (p principal) userID() string {
	_, resource := splitARN(p.arn)
	unique := strings.ToUpper(hex.EncodeToString(digest("unique ID", p.account, role(resource))[:8])) + "EX"
	kind, rest, _ := strings.Cut(resource, "/")
	switch kind {
	case "user":
		return "AIDA" + unique
	case "role":
		return "AROA" + unique
	case "assumed-role":
		_, session, _ := strings.Cut(rest, "/")
		return "AROA" + unique + ":" + session
	}
	return p.account
}
