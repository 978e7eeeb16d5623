package aws

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/client/accountproof"
)

// maxClockSkew is how far X-Amz-Date may be from the true time; AWS refuses
// more itself.
const maxClockSkew = 15 * time.Minute

// maxSecurityToken bounds X-Amz-Security-Token. AWS gives no size but says that
// session tokens may grow; those of today have some hundred to 2,000 bytes.
const maxSecurityToken = 8192

// authorization is an Authorization header of Signature Version 4, taken
// apart. Nothing but what is in it is ever sent on.
type authorization struct {
	accessKeyID string
	date        string // of the credential scope, YYYYMMDD
	region      string
	service     string
	signed      []string // header names, lower case, ascending
	signature   string   // 64 hexadecimal digits
}

const algorithm = "AWS4-HMAC-SHA256"

var (
	credentialForm = regexp.MustCompile(`^([A-Za-z0-9_]{16,128})/([0-9]{8})/([a-z0-9-]{1,32})/([a-z0-9-]{1,32})/aws4_request$`)
	headerListForm = regexp.MustCompile(`^[a-z0-9-]{1,64}(?:;[a-z0-9-]{1,64}){0,15}$`)
	signatureForm  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	tokenForm      = regexp.MustCompile(`^[A-Za-z0-9+/=_.~-]+$`)
	bindingForm    = regexp.MustCompile(`^[!-~]{1,512}$`)
)

const proofFix = `sign the challenge with "postern account prove"`

// parseAuthorization reads the header strictly: the algorithm and exactly
// Credential, SignedHeaders and Signature, once each. An error never repeats
// the header, for it is as good as a credential until it expires.
func parseAuthorization(v string) (authorization, *postern.Error) {
	bad := func(message string) *postern.Error { return postern.Invalid("authorization", "", message, proofFix) }
	rest, ok := strings.CutPrefix(v, algorithm+" ")
	if !ok || len(v) > 4096 {
		return authorization{}, bad("not an " + algorithm + " authorization")
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.Trim(part, " "), "=")
		if _, twice := parts[name]; !ok || twice {
			return authorization{}, bad("not made of Credential, SignedHeaders and Signature")
		}
		parts[name] = value
	}
	credential := credentialForm.FindStringSubmatch(parts["Credential"])
	switch {
	case len(parts) != 3:
		return authorization{}, bad("not made of Credential, SignedHeaders and Signature")
	case credential == nil:
		return authorization{}, bad("has no credential of the form KEY/DATE/REGION/SERVICE/aws4_request")
	case !headerListForm.MatchString(parts["SignedHeaders"]):
		return authorization{}, bad("has no list of signed headers in lower case")
	case !signatureForm.MatchString(parts["Signature"]):
		return authorization{}, bad("has no signature of 64 hexadecimal digits")
	}
	signed := strings.Split(parts["SignedHeaders"], ";")
	if !slices.IsSorted(signed) || len(slices.Compact(slices.Clone(signed))) != len(signed) {
		return authorization{}, bad("has signed headers out of order")
	}
	return authorization{
		accessKeyID: credential[1], date: credential[2], region: credential[3], service: credential[4],
		signed: signed, signature: parts["Signature"],
	}, nil
}

// String is the header, written anew.
func (a authorization) String() string {
	return algorithm + " Credential=" + strings.Join([]string{a.accessKeyID, a.date, a.region, a.service, "aws4_request"}, "/") +
		", SignedHeaders=" + strings.Join(a.signed, ";") + ", Signature=" + a.signature
}

// checkProof finds everything that is wrong with a proof before AWS is asked:
// regions are those configured, binding is what the platform wants signed.
func checkProof(p client.Proof, binding string, regions func(string) bool, now time.Time) (authorization, error) {
	var es postern.Errors
	if !bindingForm.MatchString(binding) || p.Organization == "" || p.Nonce == "" || !strings.HasSuffix(binding, ";"+p.Organization+";"+p.Nonce) {
		es.Add(postern.Invalid("nonce", "", "not the nonce and organization of the challenge", "ask for a new challenge and sign that"))
	}
	if !regions(p.Region) || accountproof.Host(p.Region) == "" {
		es.Add(postern.Invalid("region", p.Region, "not a region whose STS is asked", "sign for one of the regions that the challenge lists"))
	}
	if p.SecurityToken != "" && (len(p.SecurityToken) > maxSecurityToken || !tokenForm.MatchString(p.SecurityToken)) {
		es.Add(postern.Invalid("security_token", "", "not a session token", "send X-Amz-Security-Token as it was signed"))
	}
	a, bad := parseAuthorization(p.Authorization)
	if bad != nil {
		es.Add(bad)
	}
	checkDate(&es, p.Date, now)
	if bad == nil {
		checkScope(&es, a, p)
		checkSigned(&es, a.signed, p.SecurityToken != "")
	}
	return a, es.Err()
}

func checkDate(es *postern.Errors, date string, now time.Time) {
	at, err := time.Parse(accountproof.DateFormat, date)
	switch {
	case err != nil || len(date) != len(accountproof.DateFormat):
		es.Add(postern.Invalid("date", "", "not a time such as 20261122T101500Z", "send X-Amz-Date as it was signed"))
	case at.Sub(now).Abs() > maxClockSkew:
		es.Add(postern.Invalid("date", date, "more than 15 minutes from now", "check the clock of the machine that signs, and sign again"))
	}
}

func checkScope(es *postern.Errors, a authorization, p client.Proof) {
	if a.service != accountproof.Service {
		es.Add(postern.Invalid("authorization", a.service, "signed for another service than sts", proofFix))
	}
	if a.region != p.Region {
		es.Add(postern.Invalid("authorization", a.region, "signed for another region than the proof names", proofFix))
	}
	if !strings.HasPrefix(p.Date, a.date+"T") {
		es.Add(postern.Invalid("authorization", a.date, "signed for another day than X-Amz-Date", proofFix))
	}
}

// checkSigned holds the list of signed headers against what is sent. The
// binding above all: a header that is not signed binds nothing.
func checkSigned(es *postern.Errors, signed []string, token bool) {
	binding := strings.ToLower(accountproof.BindingHeader)
	must := []string{"host", "x-amz-date", binding}
	may := []string{"content-length", "content-type"}
	if token {
		must = append(must, "x-amz-security-token")
	}
	for _, h := range must {
		if !slices.Contains(signed, h) {
			es.Add(postern.Invalid("authorization", h, "a header that must be signed is not", proofFix))
		}
	}
	for _, h := range signed {
		if !slices.Contains(must, h) && !slices.Contains(may, h) {
			es.Add(postern.Invalid("authorization", h, "a signed header that is not sent", proofFix))
		}
	}
}
