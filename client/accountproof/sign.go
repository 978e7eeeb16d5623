package accountproof

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/postern-net/postern/client"
)

// A header value without spaces or control characters is the same before and
// after the canonical form of Signature Version 4.
var bindingForm = regexp.MustCompile(`^[!-~]{1,512}$`)

// Sign signs the answer to a challenge, for the STS of a region, with the
// caller's AWS credentials. It sends nothing.
//
// It refuses a challenge that asks for another header or whose binding does
// not end with the challenge's own organization and nonce: whoever relays the
// challenge of somebody else's organization must not get a proof for it. That
// the organization is the one meant is for the caller to check.
func Sign(ctx context.Context, creds aws.CredentialsProvider, ch client.Challenge, region string, now time.Time) (client.Proof, error) {
	if err := check(ch, region, now); err != nil {
		return client.Proof{}, err
	}
	keys, err := creds.Retrieve(ctx)
	if err != nil {
		return client.Proof{}, fmt.Errorf("get AWS credentials: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, Method, "https://"+Host(region)+Path, strings.NewReader(Body))
	if err != nil {
		return client.Proof{}, fmt.Errorf("make the request to sign: %w", err)
	}
	req.Header.Set("Content-Type", ContentType)
	req.Header.Set(BindingHeader, ch.Binding)
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, BodyHash(), Service, region, now.UTC()); err != nil {
		return client.Proof{}, fmt.Errorf("sign the proof: %w", err)
	}
	return client.Proof{
		Organization:  ch.Organization,
		Nonce:         ch.Nonce,
		Region:        region,
		Authorization: req.Header.Get("Authorization"),
		Date:          req.Header.Get("X-Amz-Date"),
		SecurityToken: req.Header.Get("X-Amz-Security-Token"),
	}, nil
}

// SignDefault is [Sign] with the credentials that the AWS CLI would use:
// environment, shared configuration (profile "": the default one), SSO,
// container or instance. With region "" it signs for the profile's own region
// if the challenge permits it, else for the first that the challenge names.
func SignDefault(ctx context.Context, ch client.Challenge, region, profile string) (client.Proof, error) {
	var opts []func(*config.LoadOptions) error
	if profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return client.Proof{}, fmt.Errorf("read the AWS configuration: %w", err)
	}
	if region == "" {
		region = cfg.Region
		if len(ch.Regions) > 0 && !slices.Contains(ch.Regions, region) {
			region = ch.Regions[0]
		}
	}
	return Sign(ctx, cfg.Credentials, ch, region, time.Now())
}

func check(ch client.Challenge, region string, now time.Time) error {
	switch {
	case !strings.EqualFold(ch.Header, BindingHeader):
		return fmt.Errorf("the challenge asks to sign the header %q, and only %s is ever signed: check the API's address", ch.Header, BindingHeader)
	case !bindingForm.MatchString(ch.Binding):
		return errors.New("the challenge's binding is not 1 to 512 printable characters without spaces: check the API's address")
	case ch.Organization == "" || ch.Nonce == "" || !strings.HasSuffix(ch.Binding, ";"+ch.Organization+";"+ch.Nonce):
		return errors.New("the challenge's binding is for another organization or nonce than the challenge: check the API's address")
	case !ch.ExpiresAt.IsZero() && !now.Before(ch.ExpiresAt):
		return errors.New("the challenge has expired: ask for a new one, and check this machine's clock")
	case Host(region) == "":
		return fmt.Errorf("%q is not an AWS region: give its code, such as us-east-1", region)
	case len(ch.Regions) > 0 && !slices.Contains(ch.Regions, region):
		return fmt.Errorf("the platform takes no proof for region %s: use one of %s", region, strings.Join(ch.Regions, ", "))
	}
	return nil
}
