package aws

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/postern-net/postern"
)

// Config is what a [Cloud] needs.
type Config struct {
	// Regions are those that the platform has endpoint services in, and those
	// whose STS an account may be proven at.
	Regions []string
	// EndpointURL sends every call to one server, such as the stand-in for
	// AWS; "": AWS itself. The environment's AWS_ENDPOINT_URL is ignored: what
	// decides who proves an account is not inherited by accident. Plain http
	// only to addresses that are never routed on the internet.
	EndpointURL string
	// Credentials, or the zero value for the SDK's default chain.
	Credentials Credentials
	// CABundle holds PEM certificates that replace the system's roots; nil:
	// the system's roots.
	CABundle []byte
	// Attempts bounds how often one call is sent, with the SDK's backoff
	// between; 0: 3.
	Attempts int
	// Timeout bounds one attempt; 0: 30 s.
	Timeout time.Duration
	// Clock tells the time that proofs are held against; nil: time.Now.
	Clock func() time.Time
	// Logger gets one line for each change made at AWS; nil: none.
	Logger *slog.Logger
}

// Credentials are static keys of an AWS principal.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
}

// String tells the access key ID, never the secrets.
func (c Credentials) String() string { return "AWS credentials " + c.AccessKeyID }

// GoString is String, so that %#v tells no secrets either.
func (c Credentials) GoString() string { return c.String() }

// LogValue keeps the secrets out of logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Cloud calls AWS in the platform's regions. It is safe for concurrent use.
type Cloud struct {
	ec2      map[string]*ec2.Client // by region
	idle     *http.Transport        // of the EC2 clients; keeps connections open between calls
	sts      *http.Client
	endpoint *url.URL // nil: AWS itself
	clock    func() time.Time
	log      *slog.Logger
}

// New makes a Cloud. It reads the credential configuration of the process but
// sends nothing yet.
func New(c Config) (*Cloud, error) {
	if c.Attempts == 0 {
		c.Attempts = 3
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := checkRegions(c.Regions); err != nil {
		return nil, err
	}
	endpoint, err := parseEndpoint(c.EndpointURL)
	if err != nil {
		return nil, err
	}
	sts, err := stsClient(c)
	if err != nil {
		return nil, err
	}
	clients, idle, err := ec2Clients(c)
	if err != nil {
		return nil, err
	}
	return &Cloud{ec2: clients, idle: idle, sts: sts, endpoint: endpoint, clock: c.Clock, log: c.Logger}, nil
}

// Close drops the connections that are kept open between calls. A call after
// it opens new ones.
func (c *Cloud) Close() {
	c.idle.CloseIdleConnections()
	c.sts.CloseIdleConnections()
}

func checkRegions(regions []string) error {
	var es postern.Errors
	if len(regions) == 0 {
		es.Add(postern.Invalid("regions", "", "no region", "list the regions of the platform"))
	}
	for _, r := range regions {
		es.Add(postern.CheckRegionName("regions", r))
	}
	return es.Err()
}

func parseEndpoint(v string) (*url.URL, error) {
	if v == "" {
		return nil, nil //nolint:nilnil // no override is a good answer
	}
	const fix = `give only scheme, host and port, such as "http://127.0.0.1:4566"`
	u, err := url.Parse(v)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return nil, postern.Invalid("aws.endpoint_url", v, "not the address of a server", fix)
	}
	if u.Scheme == "http" && !neverRouted(u.Hostname()) {
		return nil, postern.Invalid("aws.endpoint_url", v, "would ask a public address over plain http who proves an account", "use https")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}, nil
}

var (
	sharedSpace    = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	benchmarkSpace = netip.MustParsePrefix("198.18.0.0/15") // RFC 2544
)

func neverRouted(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && (a.IsLoopback() || a.IsPrivate() || sharedSpace.Contains(a) || benchmarkSpace.Contains(a))
}

// ec2Clients makes a client for each region, over one transport.
func ec2Clients(c Config) (map[string]*ec2.Client, *http.Transport, error) {
	opts := []func(*config.LoadOptions) error{
		config.WithRegion(c.Regions[0]),
		config.WithHTTPClient(awshttp.NewBuildableClient()),
		config.WithRetryer(func() awssdk.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = c.Attempts })
		}),
	}
	if c.Credentials != (Credentials{}) {
		opts = append(opts, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			c.Credentials.AccessKeyID, c.Credentials.SecretAccessKey, c.Credentials.SessionToken)))
	}
	if len(c.CABundle) > 0 {
		opts = append(opts, config.WithCustomCABundle(bytes.NewReader(c.CABundle)))
	}
	// Loading reads the environment and files only, so there is nothing to
	// cancel.
	cfg, err := config.LoadDefaultConfig(context.Background(), opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("read the AWS configuration: %w", err)
	}
	// The SDK's own transport cannot be closed, so each client would leave
	// connections behind. EC2 redirects nobody.
	transport := cfg.HTTPClient.(*awshttp.BuildableClient).GetTransport()
	cfg.HTTPClient = &http.Client{
		Transport: transport, Timeout: c.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	cfg.Credentials = namedFailure(cfg.Credentials)
	clients := make(map[string]*ec2.Client, len(c.Regions))
	for _, region := range c.Regions {
		clients[region] = ec2.NewFromConfig(cfg, func(o *ec2.Options) {
			o.Region = region
			o.HTTPClient = patientClient{o.HTTPClient}
			o.BaseEndpoint = nil // what the environment or a profile says
			if c.EndpointURL != "" {
				o.BaseEndpoint = awssdk.String(c.EndpointURL)
			}
		})
	}
	return clients, transport, nil
}

// namedFailure lets translate tell missing credentials from an AWS that does
// not answer.
func namedFailure(from awssdk.CredentialsProvider) awssdk.CredentialsProvider {
	return awssdk.CredentialsProviderFunc(func(ctx context.Context) (awssdk.Credentials, error) {
		keys, err := from.Retrieve(ctx)
		if err != nil {
			return keys, &noCredentialsError{cause: err}
		}
		return keys, nil
	})
}

// patientClient keeps an answer that comes before net/http has finished with
// the request's body from breaking the connection. The SDK closes the body as
// soon as there is an answer; smithy-go's body then answers io.EOF from WriteTo,
// which net/http takes for a failure to write, and from Read, which is fine. So
// only Read is let through. Servers nearby, such as the stand-in, are quick
// enough for that.
type patientClient struct{ next ec2.HTTPClient }

// Do sends a request.
func (c patientClient) Do(req *http.Request) (*http.Response, error) {
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = struct{ io.ReadCloser }{req.Body}
	}
	return c.next.Do(req)
}

// stsClient makes the client that proofs are sent with: no redirects, for STS
// sends none, and no proxy of the environment between the platform and the
// answer that proves an account.
func stsClient(c Config) (*http.Client, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(c.CABundle) > 0 {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(c.CABundle) {
			return nil, postern.Invalid("aws.ca_bundle", "", "holds no PEM certificate", "give a file of CERTIFICATE blocks")
		}
	}
	return &http.Client{
		Timeout:       min(c.Timeout, 10*time.Second),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil,
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSClientConfig:        tlsConfig,
			TLSHandshakeTimeout:    5 * time.Second,
			DisableCompression:     true, // the limit on the answer is a limit on what is read
			MaxResponseHeaderBytes: maxIdentityAnswer,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        30 * time.Second,
		},
	}, nil
}

// client finds the EC2 client of a service's region.
func (c *Cloud) client(svc postern.ServiceRef) (*ec2.Client, error) {
	if cl, ok := c.ec2[svc.Region]; ok {
		return cl, nil
	}
	return nil, postern.Invalid("region", svc.Region, "not a configured region", "add it to the platform's regions")
}

// inBatches calls do for every n of ids, in order, until it fails.
func inBatches(ids []string, n int, do func([]string) error) error {
	for batch := range slices.Chunk(ids, n) {
		if err := do(batch); err != nil {
			return err
		}
	}
	return nil
}
