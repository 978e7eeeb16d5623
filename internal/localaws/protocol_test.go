package localaws_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/postern-net/postern/internal/localaws"
)

// post signs and sends a form by hand, after change had a hold of the signed
// request, and returns status and body.
func (f *fixture) post(k localaws.AccessKey, service, region, form string, change func(*http.Request)) (int, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.EndpointURL()+"/", strings.NewReader(form))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	sum := sha256.Sum256([]byte(form))
	creds := aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SessionToken: k.SessionToken}
	if err := v4.NewSigner().SignHTTP(f.t.Context(), creds, req, hex.EncodeToString(sum[:]), service, region, time.Now()); err != nil {
		f.t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

const (
	listVPCs = "Action=DescribeVpcs&Version=2016-11-15"
	whoAmI   = "Action=GetCallerIdentity&Version=2011-06-15"
)

func TestEveryRequestIsAuthenticated(t *testing.T) {
	f := newFixture(t, nil)
	good := f.example.AccessKeys[0]
	stranger, wrong := good, good
	stranger.ID = "AKIAAAAAAAAAAAAAAAAA"
	wrong.Secret = "not the secret"
	session := good
	session.SessionToken = "unexpected"
	setBody := func(body string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		}
	}
	for name, c := range map[string]struct {
		key             localaws.AccessKey
		service, region string
		form            string
		change          func(*http.Request)
		status          int
		contains        string
	}{
		"good":                {good, "ec2", virginia, listVPCs, nil, 200, "<vpcId>" + f.vpc.ID},
		"good STS":            {good, "sts", virginia, whoAmI, nil, 200, "<Account>" + f.example.ID},
		"STS by another host": {good, "sts", virginia, whoAmI, func(r *http.Request) { resign(t, r, good, "sts.amazonaws.com", whoAmI) }, 200, "<Account>" + f.example.ID},
		"unknown key":         {stranger, "ec2", virginia, listVPCs, nil, 401, "<Code>AuthFailure</Code>"},
		"unknown key at STS":  {stranger, "sts", virginia, whoAmI, nil, 403, "<Code>InvalidClientTokenId</Code>"},
		"wrong secret":        {wrong, "ec2", virginia, listVPCs, nil, 401, "<Code>AuthFailure</Code>"},
		"wrong secret at STS": {wrong, "sts", virginia, whoAmI, nil, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"session token":       {session, "sts", virginia, whoAmI, nil, 403, "<Code>InvalidClientTokenId</Code>"},
		"unsigned":            {good, "ec2", virginia, listVPCs, func(r *http.Request) { r.Header.Del("Authorization") }, 403, "<Code>MissingAuthenticationToken</Code>"},
		"malformed":           {good, "ec2", virginia, listVPCs, func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x") }, 400, "<Code>IncompleteSignature</Code>"},
		"tampered body":       {good, "ec2", virginia, listVPCs, setBody(listVPCs + "&VpcId.1=vpc-1"), 401, "<Code>AuthFailure</Code>"},
		"tampered header":     {good, "sts", virginia, whoAmI, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"another service":     {good, "s3", virginia, listVPCs, nil, 403, "scoped to correct service"},
		"no such region":      {good, "ec2", "us-east-9", listVPCs, nil, 403, "scoped to a valid region"},
		"STS action at EC2":   {good, "ec2", virginia, whoAmI, nil, 400, "<Code>InvalidAction</Code>"},
		"unknown action":      {good, "ec2", virginia, "Action=RunInstances&Version=2016-11-15", nil, 400, "<Code>InvalidAction</Code>"},
		"old version":         {good, "ec2", virginia, "Action=DescribeVpcs&Version=2006-06-26", nil, 400, "<Code>InvalidAction</Code>"},
		"no action":           {good, "ec2", virginia, "Version=2016-11-15", nil, 400, "<Code>MissingAction</Code>"},
		"malformed form":      {good, "ec2", virginia, listVPCs + "&Action=x", nil, 400, "<Code>MalformedQueryString</Code>"},
		"unknown parameter":   {good, "ec2", virginia, listVPCs + "&VpcIds.1=vpc-1", nil, 400, "<Code>UnknownParameter</Code>"},
		"bad number":          {good, "ec2", virginia, listVPCs + "&MaxResults=many", nil, 400, "<Code>InvalidParameterValue</Code>"},
		"too large":           {good, "ec2", virginia, listVPCs + "&X=" + strings.Repeat("x", 1<<20), nil, 413, "<Code>RequestEntityTooLarge</Code>"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := f.post(c.key, c.service, c.region, c.form, c.change)
			if status != c.status || !strings.Contains(body, c.contains) {
				t.Errorf("%d %s; want %d and %s", status, body, c.status, c.contains)
			}
			if status != 200 && c.service == "sts" && !strings.Contains(body, "<ErrorResponse xmlns=") {
				t.Errorf("not an STS error: %s", body)
			}
		})
	}
	t.Run("GET", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.EndpointURL()+"/?"+listVPCs, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusMethodNotAllowed {
			t.Error(res.Status)
		}
	})
}

// resign signs a request again for another Host.
func resign(t *testing.T, r *http.Request, k localaws.AccessKey, host, form string) {
	t.Helper()
	r.Host = host
	r.Header.Set("X-Postern-Nonce", "a nonce")
	r.Header.Del("Authorization")
	sum := sha256.Sum256([]byte(form))
	if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret}, r, hex.EncodeToString(sum[:]), "sts", virginia, time.Now()); err != nil {
		t.Fatal(err)
	}
}

func TestExpiredSignature(t *testing.T) {
	f := newFixture(t, func(f *fixture) { f.cfg.Clock = func() time.Time { return time.Now().Add(16 * time.Minute) } })
	if _, body := f.post(f.example.AccessKeys[0], "ec2", virginia, listVPCs, nil); !strings.Contains(body, "<Code>RequestExpired</Code>") {
		t.Error(body)
	}
	if _, body := f.post(f.example.AccessKeys[0], "sts", virginia, whoAmI, nil); !strings.Contains(body, "Signature expired") {
		t.Error(body)
	}
}

func TestCallerIdentity(t *testing.T) {
	var user, session localaws.AccessKey
	f := newFixture(t, func(f *fixture) {
		user = localaws.AccessKey{ID: "AKIAUSERUSERUSERUSER", Secret: "u", Principal: "arn:aws:iam::" + f.example.ID + ":user/ada"}
		session = localaws.AccessKey{
			ID: "ASIAROLEROLEROLEROLE", Secret: "r", SessionToken: "a session",
			Principal: "arn:aws:sts::" + f.example.ID + ":assumed-role/network/ada",
		}
		for i := range f.cfg.World.Accounts {
			if f.cfg.World.Accounts[i].ID == f.example.ID {
				f.cfg.World.Accounts[i].AccessKeys = append(f.cfg.World.Accounts[i].AccessKeys, user, session)
			}
		}
	})
	for _, c := range []struct {
		key       localaws.AccessKey
		arn, unit string
	}{
		{f.example.AccessKeys[0], rootOf(f.example), f.example.ID},
		{user, user.Principal, "AIDA"},
		{session, session.Principal, "AROA"},
	} {
		out, err := f.sts(c.key).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		if err != nil {
			t.Fatal(err)
		}
		if *out.Account != f.example.ID || *out.Arn != c.arn || !strings.HasPrefix(*out.UserId, c.unit) {
			t.Errorf("%s %s %s", *out.Account, *out.Arn, *out.UserId)
		}
	}
}

// TestWireSpelling: states are lower camel on the wire, whatever the SDKs'
// constants say, and the shapes are those of the API reference.
func TestWireSpelling(t *testing.T) {
	f := newFixture(t, nil)
	e := f.create(f.example, f.vpc, "use1-az2")
	key := f.platform.AccessKeys[0]
	_, body := f.post(key, "ec2", virginia, "Action=DescribeVpcEndpointConnections&Version=2016-11-15", nil)
	for _, want := range []string{
		`<DescribeVpcEndpointConnectionsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>`,
		"<vpcEndpointConnectionSet><item><serviceId>" + f.service + "</serviceId><vpcEndpointId>" + *e.VpcEndpointId + "</vpcEndpointId>",
		"<vpcEndpointOwner>" + f.example.ID + "</vpcEndpointOwner><vpcEndpointState>pendingAcceptance</vpcEndpointState>",
		"<vpcEndpointRegion>us-east-1</vpcEndpointRegion></item></vpcEndpointConnectionSet></DescribeVpcEndpointConnectionsResponse>",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
	_, body = f.post(key, "ec2", virginia, "Action=AcceptVpcEndpointConnections&Version=2016-11-15&ServiceId="+f.service+"&VpcEndpointId.1="+*e.VpcEndpointId, nil)
	if !strings.Contains(body, "<unsuccessful></unsuccessful>") {
		t.Error(body)
	}
	f.await(*e.VpcEndpointId, "available")
	_, body = f.post(f.example.AccessKeys[0], "ec2", virginia, "Action=DescribeVpcEndpoints&Version=2016-11-15", nil)
	if !strings.Contains(body, "<state>available</state>") {
		t.Error(body)
	}
	_, body = f.post(key, "ec2", virginia, "Action=DescribeVpcEndpointServiceConfigurations&Version=2016-11-15", nil)
	if !strings.Contains(body, "<serviceType><item><serviceType>Interface</serviceType></item></serviceType>") || !strings.Contains(body, "<serviceState>Available</serviceState>") {
		t.Error(body)
	}
	status, body := f.post(key, "ec2", virginia, "Action=DescribeVpcEndpointServicePermissions&Version=2016-11-15&ServiceId=vpce-svc-0aaaaaaaaaaaaaaaa", nil)
	if status != 400 || !strings.Contains(body, "<Response><Errors><Error><Code>InvalidVpcEndpointServiceId.NotFound</Code>") || !strings.Contains(body, "<RequestID>") {
		t.Error(status, body)
	}
}

func TestDryRun(t *testing.T) {
	f := newFixture(t, nil)
	in := f.request(f.vpc, "use1-az2")
	in.DryRun = aws.Bool(true)
	_, err := f.ec2(f.example).CreateVpcEndpoint(t.Context(), in)
	wantCode(t, err, "DryRunOperation")
	out, err := f.ec2(f.example).DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{})
	if err != nil || len(out.VpcEndpoints) != 0 {
		t.Error(out, err)
	}
}

func TestPaging(t *testing.T) {
	f := newFixture(t, nil)
	want := map[string]bool{}
	for range 12 {
		want[*f.create(f.example, f.vpc).VpcEndpointId] = true
	}
	c, p := f.ec2(f.example), f.ec2(f.platform)
	seen, pages := map[string]bool{}, 0
	for pager := ec2.NewDescribeVpcEndpointConnectionsPaginator(p, &ec2.DescribeVpcEndpointConnectionsInput{MaxResults: aws.Int32(5)}); pager.HasMorePages(); pages++ {
		out, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range out.VpcEndpointConnections {
			seen[*v.VpcEndpointId] = true
		}
		if pages == 0 {
			// One of a page that was given goes, nothing is skipped for it.
			f.gone(*out.VpcEndpointConnections[0].VpcEndpointId)
		}
	}
	if len(seen) != len(want) || pages != 3 {
		t.Errorf("%d connections on %d pages, want %d on 3", len(seen), pages, len(want))
	}
	first, err := c.DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{MaxResults: aws.Int32(5)})
	if err != nil || len(first.VpcEndpoints) != 5 || first.NextToken == nil {
		t.Fatal(first, err)
	}
	_, err = c.DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{
		NextToken: first.NextToken, Filters: []types.Filter{{Name: aws.String("vpc-id"), Values: []string{f.vpc.ID}}},
	})
	wantCode(t, err, "InvalidNextToken") // another question
	_, err = c.DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{NextToken: aws.String((*first.NextToken)[:20])})
	wantCode(t, err, "InvalidNextToken")
	_, err = c.DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{MaxResults: aws.Int32(4)})
	wantCode(t, err, "InvalidParameterValue")
	if out, err := c.DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{MaxResults: aws.Int32(5000)}); err != nil || out.NextToken != nil {
		t.Error(out, err)
	}
}

// gone deletes an endpoint of Example's.
func (f *fixture) gone(id string) {
	f.t.Helper()
	if _, err := f.ec2(f.example).DeleteVpcEndpoints(f.t.Context(), &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{id}}); err != nil {
		f.t.Fatal(err)
	}
}

func TestClientToken(t *testing.T) {
	f := newFixture(t, nil)
	c := f.ec2(f.example)
	in := f.request(f.vpc, "use1-az2")
	in.ClientToken = aws.String("intent-1")
	first, err := c.CreateVpcEndpoint(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.CreateVpcEndpoint(t.Context(), in)
	if err != nil || *again.VpcEndpoint.VpcEndpointId != *first.VpcEndpoint.VpcEndpointId || *again.ClientToken != "intent-1" {
		t.Fatal(again, err)
	}
	in.SubnetIds = []string{subnetOf(t, f.vpc, "use1-az4")}
	_, err = c.CreateVpcEndpoint(t.Context(), in)
	wantCode(t, err, "IdempotentParameterMismatch")
	in.ClientToken = aws.String("intent-2")
	other, err := c.CreateVpcEndpoint(t.Context(), in)
	if err != nil || *other.VpcEndpoint.VpcEndpointId == *first.VpcEndpoint.VpcEndpointId {
		t.Error(other, err)
	}
	// The token is its account's and its region's.
	in = f.request(f.other, "use1-az2")
	in.ClientToken = aws.String("intent-1")
	if _, err := f.ec2(f.globex).CreateVpcEndpoint(t.Context(), in); err != nil {
		t.Error(err)
	}
	lb := []string{f.spare.ARN}
	svc := &ec2.CreateVpcEndpointServiceConfigurationInput{NetworkLoadBalancerArns: lb, ClientToken: aws.String("intent-1")}
	a, err := f.ec2(f.platform).CreateVpcEndpointServiceConfiguration(t.Context(), svc)
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.ec2(f.platform).CreateVpcEndpointServiceConfiguration(t.Context(), svc)
	if err != nil || *a.ServiceConfiguration.ServiceId != *b.ServiceConfiguration.ServiceId {
		t.Error(b, err)
	}
}

func TestFiltersAndTags(t *testing.T) {
	f := newFixture(t, nil)
	c := f.ec2(f.example)
	in := f.request(f.vpc, "use1-az2")
	in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeVpcEndpoint, Tags: []types.Tag{
		{Key: aws.String("Name"), Value: aws.String("door*")}, {Key: aws.String("team"), Value: aws.String("net")},
	}}}
	out, err := c.CreateVpcEndpoint(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	id := *out.VpcEndpoint.VpcEndpointId
	f.create(f.example, f.vpc, "use1-az2")
	for _, c := range []struct {
		name   string
		values []string
		want   int
	}{
		{"vpc-endpoint-id", []string{id}, 1},
		{"vpc-endpoint-state", []string{"pendingAcceptance"}, 2},
		{"vpc-endpoint-state", []string{"available", "rejected"}, 0},
		{"vpc-endpoint-state", []string{"PendingAcceptance"}, 0},
		{"vpc-id", []string{f.vpc.ID}, 2},
		{"vpc-id", []string{"vpc-*"}, 2},
		{"vpc-id", []string{"vpc-?"}, 0},
		{"service-name", []string{f.name}, 2},
		{"service-region", []string{virginia}, 2},
		{"tag:team", []string{"net", "dev"}, 1},
		{"tag:Name", []string{`door\*`}, 1},
		{"tag:Name", []string{`door\?`}, 0},
		{"tag-key", []string{"team"}, 1},
		{"tag-key", []string{"absent"}, 0},
	} {
		got, err := f.ec2(f.example).DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{Filters: []types.Filter{{Name: &c.name, Values: c.values}}})
		if err != nil || len(got.VpcEndpoints) != c.want {
			t.Errorf("%s=%v: %d, %v; want %d", c.name, c.values, len(got.VpcEndpoints), err, c.want)
		}
	}
	_, err = c.DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{Filters: []types.Filter{{Name: aws.String("vpc-endpoint"), Values: []string{id}}}})
	wantCode(t, err, "InvalidFilter")
	in.TagSpecifications[0].ResourceType = types.ResourceTypeInstance
	_, err = c.CreateVpcEndpoint(t.Context(), in)
	wantCode(t, err, "InvalidParameterValue")
	in.TagSpecifications[0].ResourceType = types.ResourceTypeVpcEndpoint
	in.TagSpecifications[0].Tags[0].Key = aws.String("aws:mine")
	_, err = c.CreateVpcEndpoint(t.Context(), in)
	wantCode(t, err, "InvalidParameterValue")
}

func TestThrottling(t *testing.T) {
	clock := newClock()
	f := newFixture(t, func(f *fixture) {
		f.cfg.Throttle = true
		f.cfg.Clock = clock.now
	})
	c := f.ec2(f.example)
	remove := func(c *ec2.Client) error {
		_, err := c.DeleteVpcEndpoints(t.Context(), &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{"vpce-0aaaaaaaaaaaaaaaa"}})
		return err
	}
	for range 4 {
		if err := remove(c); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, remove(c), "RequestLimitExceeded")
	status, _ := f.post(f.example.AccessKeys[0], "ec2", virginia, "Action=DeleteVpcEndpoints&Version=2016-11-15&VpcEndpointId.1=x", nil)
	if status != http.StatusServiceUnavailable {
		t.Error(status)
	}
	// Buckets are of an account, a region and an action.
	if err := remove(f.ec2(f.globex)); err != nil {
		t.Error(err)
	}
	if err := remove(f.ec2(f.example, oregon)); err != nil {
		t.Error(err)
	}
	f.create(f.example, f.vpc, "use1-az2")
}

func TestCloseIsPromptAndRepeatable(t *testing.T) {
	f := newFixture(t, nil)
	if _, err := f.Faults().Add(localaws.Fault{Kind: localaws.FaultPause}); err != nil {
		t.Fatal(err)
	}
	client := f.ec2(f.example)
	failed := make(chan error, 1)
	go func() {
		_, err := client.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
		failed <- err
	}()
	if _, err := f.Faults().WaitPaused(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Close()
	f.Close()
	if err := <-failed; err == nil {
		t.Error("a held call was answered by a closed server")
	}
	if err := f.Start(t.Context()); err == nil {
		t.Error("a closed server starts")
	}
	s, err := localaws.New(f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Close() // never started
}

func TestServeEndsWithItsContext(t *testing.T) {
	f := newFixture(t, nil)
	f.Close()
	s, err := localaws.New(f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// FuzzRequest: whatever an authenticated caller sends is answered with XML.
func FuzzRequest(f *testing.F) {
	f.Add("CreateVpcEndpoint", []byte("VpcId=v&ServiceName=s&VpcEndpointType=Interface&SubnetId.1=a&TagSpecification.1.ResourceType=vpc-endpoint"))
	f.Add("AuthorizeSecurityGroupIngress", []byte("GroupId=sg&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=1&IpPermissions.1.ToPort=2&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0"))
	f.Add("DescribeVpcEndpoints", []byte("MaxResults=5&NextToken=AAAA&Filter.1.Name=tag:x&Filter.1.Value.1=*"))
	shared := newFixture(f, nil)
	f.Fuzz(func(t *testing.T, action string, rest []byte) {
		fx := *shared
		fx.t = t
		form := "Version=2016-11-15&Action=" + url.QueryEscape(action) + "&" + string(rest)
		status, body := fx.post(fx.example.AccessKeys[0], "ec2", virginia, form, nil)
		if status >= 500 || !strings.HasPrefix(body, "<?xml") {
			t.Fatalf("%s: %d %s", form, status, body)
		}
	})
}
