package aws

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strings"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/client/accountproof"
)

// maxIdentityAnswer bounds what is read of STS's answer, which is some 500
// bytes.
const maxIdentityAnswer = 64 << 10

const actCallerIdentity = "sts:GetCallerIdentity"

// CallerIdentity asks STS who signed a proof. The request is built here, to a
// fixed host with a fixed body, with binding as the signed header's value: a
// proof that was signed for another platform, organization or challenge has
// another signature, and STS refuses it.
//
// The error's code is invalid when the proof is wrong, and throttled or
// unavailable when nothing is known about it yet.
func (c *Cloud) CallerIdentity(ctx context.Context, p client.Proof, binding string) (postern.Caller, error) {
	known := func(region string) bool { _, ok := c.ec2[region]; return ok }
	auth, err := checkProof(p, binding, known, c.clock())
	if err != nil {
		return postern.Caller{}, err
	}
	req, err := c.identityRequest(ctx, p, auth, binding)
	if err != nil {
		return postern.Caller{}, fmt.Errorf("make the request to STS: %w", err)
	}
	resp, err := c.sts.Do(req)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return postern.Caller{}, fmt.Errorf("%s: %w", actCallerIdentity, err)
		}
		return postern.Caller{}, fmt.Errorf("%w: %w", unavailable(actCallerIdentity), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxIdentityAnswer+1))
	switch {
	case err != nil:
		return postern.Caller{}, fmt.Errorf("%w: %w", unavailable(actCallerIdentity), err)
	case len(body) > maxIdentityAnswer:
		return postern.Caller{}, fmt.Errorf("%w: the answer is larger than %d bytes", unavailable(actCallerIdentity), maxIdentityAnswer)
	case resp.StatusCode != http.StatusOK:
		return postern.Caller{}, refusedProof(resp.StatusCode, body)
	case !isXML(resp.Header):
		return postern.Caller{}, fmt.Errorf("%w: the answer is of type %q", unavailable(actCallerIdentity), resp.Header.Get("Content-Type"))
	}
	caller, err := decodeIdentity(body, p.Region)
	if err != nil {
		return postern.Caller{}, fmt.Errorf("%w: %w", unavailable(actCallerIdentity), err)
	}
	return caller, nil
}

func (c *Cloud) identityRequest(ctx context.Context, p client.Proof, auth authorization, binding string) (*http.Request, error) {
	host := accountproof.Host(p.Region)
	target := "https://" + host + accountproof.Path
	if c.endpoint != nil {
		target = c.endpoint.String()
	}
	req, err := http.NewRequestWithContext(ctx, accountproof.Method, target, strings.NewReader(accountproof.Body))
	if err != nil {
		return nil, err
	}
	req.Host = host // part of what is signed, whoever answers
	req.Header.Set("Content-Type", accountproof.ContentType)
	req.Header.Set("X-Amz-Date", p.Date)
	req.Header.Set("Authorization", auth.String())
	req.Header.Set(accountproof.BindingHeader, binding)
	if p.SecurityToken != "" {
		req.Header.Set("X-Amz-Security-Token", p.SecurityToken)
	}
	req.Header.Set("Accept", "text/xml")
	req.Header.Set("User-Agent", "postern")
	return req, nil
}

func isXML(h http.Header) bool {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (t == "text/xml" || t == "application/xml")
}

type identityAnswer struct {
	XMLName xml.Name   `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	Attrs   []xml.Attr `xml:",any,attr"`
	Results []struct {
		ARNs     []string  `xml:"Arn"`
		UserIDs  []string  `xml:"UserId"`
		Accounts []string  `xml:"Account"`
		Others   []element `xml:",any"`
	} `xml:"GetCallerIdentityResult"`
	Metadata []element `xml:"ResponseMetadata"`
	Others   []element `xml:",any"`
}

type element struct {
	XMLName xml.Name
}

// callerARN is the ARN of whoever can sign: IAM names users and root, STS the
// sessions of roles and federated users.
var callerARN = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov):(?:iam|sts)::([0-9]{12}):(?:root|(?:user|assumed-role|federated-user)/[!-~]+)$`)

// decodeIdentity reads GetCallerIdentity's answer and nothing that only looks
// like it: one result, each of its values once, nothing else around.
func decodeIdentity(body []byte, region string) (postern.Caller, error) {
	var a identityAnswer
	d := xml.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&a); err != nil {
		return postern.Caller{}, fmt.Errorf("decode the answer: %w", err)
	}
	if err := onlySpace(d); err != nil {
		return postern.Caller{}, err
	}
	if len(a.Results) != 1 || len(a.Others) > 0 || len(a.Metadata) > 1 {
		return postern.Caller{}, errors.New("the answer is not one GetCallerIdentityResult")
	}
	r := a.Results[0]
	if len(r.ARNs) != 1 || len(r.Accounts) != 1 || len(r.UserIDs) != 1 || len(r.Others) > 0 {
		return postern.Caller{}, errors.New("the result is not one Arn, UserId and Account")
	}
	caller := postern.Caller{Account: strings.TrimSpace(r.Accounts[0]), ARN: strings.TrimSpace(r.ARNs[0])}
	m := callerARN.FindStringSubmatch(caller.ARN)
	switch {
	case postern.CheckAccountID("", caller.Account) != nil:
		return postern.Caller{}, errors.New("the account is not 12 digits")
	case m == nil || len(caller.ARN) > 2048:
		return postern.Caller{}, errors.New("the ARN is not that of a caller")
	case m[2] != caller.Account:
		return postern.Caller{}, errors.New("the ARN is of another account")
	case !strings.HasPrefix(postern.AccountPrincipal(region, caller.Account), "arn:"+m[1]+":"):
		return postern.Caller{}, errors.New("the ARN is of another partition")
	}
	return caller, nil
}

// onlySpace fails when anything but white space and comments follows.
func onlySpace(d *xml.Decoder) error {
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("decode the answer: %w", err)
		}
		switch t := t.(type) {
		case xml.Comment:
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return errors.New("text follows the answer")
			}
		default:
			return errors.New("something follows the answer")
		}
	}
}

// refusedProof makes an error of an answer that is not a success. Only STS's
// error code is used, and only codes that say something to the one who signed.
func refusedProof(status int, body []byte) error {
	var a struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		Code    string   `xml:"Error>Code"`
		Message string   `xml:"Error>Message"`
	}
	code := ""
	if xml.Unmarshal(body, &a) == nil {
		code = a.Code
	}
	cause := fmt.Errorf("STS answered %d %q", status, code)
	switch {
	case throttleCode(code) || status == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %w", apiError(actCallerIdentity, "Throttling", status), cause)
	case status < http.StatusBadRequest || status >= http.StatusInternalServerError || status == http.StatusRequestTimeout:
		return fmt.Errorf("%w: %w", unavailable(actCallerIdentity), cause)
	}
	e := postern.Invalid("authorization", "", "AWS does not recognize the proof", "ask for a new challenge and sign that, with credentials that work")
	switch code {
	case "SignatureDoesNotMatch", "IncompleteSignature":
		e.Message, e.Fix = "the signature is not that of this challenge", proofFix+", on the machine that asked for it"
	case "ExpiredToken", "ExpiredTokenException":
		e.Message, e.Fix = "the credentials that signed have expired", "sign in to AWS again, then prove again"
	case "RequestExpired":
		e.Message, e.Fix = "the proof was signed too long ago", "check the clock of the machine that signs, and prove again"
	case "InvalidClientTokenId", "InvalidAccessKeyId", "UnrecognizedClientException":
		e.Message, e.Fix = "AWS does not know the access key that signed", "check which credentials are in use (aws sts get-caller-identity), then prove again"
	case "RegionDisabledException":
		e.Message, e.Fix = "the account has not enabled the region that was signed for", "prove again with --region and another of the challenge's regions"
	}
	return fmt.Errorf("%w: %w", e, cause)
}
