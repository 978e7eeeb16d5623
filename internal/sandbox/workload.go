package sandbox

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/trinodb/trino-go-client/trino"
)

// workload is a query engine of the vendor's that works for one tenant: it runs
// in the platform's network, has the tenant's token, and trusts only whom the
// sandbox takes for a public authority.
type workload struct {
	visitor // its resolver is the tenant's
	tenant  string
	token   string
	proxy   netip.AddrPort
	name    string // of the proxy
	bound   netip.AddrPort
}

// workload is a tenant's.
func (s *Sandbox) workload(tenant string) (workload, error) {
	b, err := os.ReadFile(s.workloadTokenFile(tenant))
	o := s.places.outbound
	return workload{
		visitor: visitor{source: o.workloads[tenant], resolver: netip.AddrPortFrom(o.bound[tenant], s.dnsPort), roots: s.authority.pool()},
		tenant:  tenant, token: strings.TrimSpace(string(b)), proxy: netip.AddrPortFrom(o.proxy, s.httpsPort), name: s.proxyName(),
		bound: netip.AddrPortFrom(o.bound[tenant], s.httpsPort),
	}, err
}

// byProxy is the way through the proxy, with the token as a password, as any
// HTTP client can.
func (w workload) byProxy() *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS12},
		Proxy: http.ProxyURL(&url.URL{Scheme: "https", Host: fmt.Sprintf("%s:%d", w.name, w.proxy.Port()), User: url.UserPassword("workload", w.token)}),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return w.dial(ctx, w.proxy) // whatever the name is: nothing is resolved
		},
	}
}

// straight is the way of a client that knows no proxy: it resolves the hostname
// by the tenant's DNS and connects to what that answers.
func (w workload) straight() *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			at, err := w.resolve(ctx, host)
			if err != nil {
				return nil, err
			}
			return w.dial(ctx, netip.AddrPortFrom(at, w.bound.Port()))
		},
	}
}

// query runs SELECT 1 and asks which cluster answered, by Trino's own client,
// with verification on.
func (w workload) query(ctx context.Context, by *http.Transport, host string) (cluster string, err error) {
	defer by.CloseIdleConnections()
	key := "sandbox-" + rand.Text()
	if err := trino.RegisterCustomClient(key, &http.Client{Transport: by, Timeout: visitTimeout}); err != nil {
		return "", err
	}
	defer trino.DeregisterCustomClient(key)
	db, err := sql.Open("trino", fmt.Sprintf("https://workload@%s:%d?custom_client=%s", host, w.bound.Port(), key))
	if err != nil {
		return "", err
	}
	defer db.Close() //nolint:errcheck // it holds nothing but the client
	var one int
	if err := db.QueryRowContext(ctx, "SELECT 1").Scan(&one); err != nil {
		return "", err
	}
	if one != 1 {
		return "", fmt.Errorf("SELECT 1 is %d", one)
	}
	return cluster, db.QueryRowContext(ctx, "SELECT current_catalog").Scan(&cluster)
}

// proxyAnswer is what the proxy says to a request.
type proxyAnswer struct {
	status int
	Denial string `json:"denial"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
	conn   *tls.Conn
}

func (a proxyAnswer) String() string {
	return fmt.Sprintf("%d %s %s: %s", a.status, a.Denial, a.Reason, a.Detail)
}

// connect asks the proxy for a tunnel to host:port. On 200 the connection is the
// tunnel, and the caller closes it.
func (w workload) connect(ctx context.Context, target, token string) (a proxyAnswer, err error) {
	raw, err := w.dial(ctx, w.proxy)
	if err != nil {
		return a, err
	}
	defer func() {
		if a.conn == nil {
			_ = raw.Close() // it is given up
		}
	}()
	if err := raw.SetDeadline(time.Now().Add(visitTimeout)); err != nil {
		return a, err
	}
	c := tls.Client(raw, &tls.Config{ServerName: w.name, RootCAs: w.roots, MinVersion: tls.VersionTLS12})
	auth := base64.StdEncoding.EncodeToString([]byte("workload:" + token))
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: Basic %s\r\n\r\n", target, target, auth); err != nil {
		return a, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	if a.status == http.StatusOK {
		a.conn = c
		return a, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(body, &a)
}

// tunnel is an open TLS session with a host, through the proxy.
func (w workload) tunnel(ctx context.Context, host string) (*tls.Conn, error) {
	a, err := w.connect(ctx, fmt.Sprintf("%s:%d", host, w.bound.Port()), w.token)
	if err != nil {
		return nil, err
	}
	if a.conn == nil {
		return nil, fmt.Errorf("the proxy answers %s", a)
	}
	c := tls.Client(a.conn, &tls.Config{ServerName: host, RootCAs: w.roots, MinVersion: tls.VersionTLS12})
	if err := c.HandshakeContext(ctx); err != nil {
		_ = a.conn.Close() // it has failed already
		return nil, err
	}
	return c, nil
}

// answers sends a request on an open session.
func answers(c *tls.Conn, host string) error {
	if err := c.SetDeadline(time.Now().Add(visitTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "GET /v1/info HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// rcode is how the tenant's DNS answers for a name.
func (w workload) rcode(ctx context.Context, name string) (string, error) {
	c := dns.Client{Timeout: 2 * time.Second, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: w.source.AsSlice()}, Timeout: 2 * time.Second}}
	r, _, err := c.ExchangeContext(ctx, new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA), w.resolver.String())
	if err != nil {
		return "", err
	}
	return dns.RcodeToString[r.Rcode], nil
}
