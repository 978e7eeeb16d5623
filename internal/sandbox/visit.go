package sandbox

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// visitor is a client somewhere in the world: it connects from an address,
// resolves by a resolver, and trusts the sandbox's authority only.
type visitor struct {
	source    netip.Addr
	resolver  netip.AddrPort
	roots     *x509.CertPool
	ahead     []byte   // sent first on every connection, as load balancers do
	protocols []string // of ALPN
}

// reply is what an app answered, and what it says of the visitor.
type reply struct {
	status int
	major  int // version of HTTP
	app    appAnswer
}

const visitTimeout = 5 * time.Second

// errAlert is a refusal as the wire shows it: always the same TLS alert.
var errAlert = errors.New("refused by a TLS alert")

// get asks an address for https://host/ with a server name of its own, with
// verification on.
func (v visitor) get(ctx context.Context, at netip.AddrPort, serverName, host string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, visitTimeout)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return v.handshake(ctx, at, serverName)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		return reply{}, err
	}
	return ask(&http.Client{Transport: transport}, req)
}

// ask sends a request, and reads what the app says of itself.
func ask(c *http.Client, req *http.Request) (reply, error) {
	resp, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	r := reply{status: resp.StatusCode, major: resp.ProtoMajor}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return r, err
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		err = json.Unmarshal(b, &r.app)
	}
	return r, err
}

// handshake connects from the visitor's address and ends with TLS
// established, errAlert, or what went wrong.
func (v visitor) handshake(ctx context.Context, at netip.AddrPort, serverName string) (*tls.Conn, error) {
	raw, err := v.dial(ctx, at)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, &tls.Config{ServerName: serverName, RootCAs: v.roots, MinVersion: tls.VersionTLS12, NextProtos: v.protocols})
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // it has failed already
		// crypto/tls keeps the type of an alert to itself, but not that the
		// error came from the other side.
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "remote error" {
			return nil, fmt.Errorf("%w: %w", errAlert, op.Err)
		}
		return nil, err
	}
	return c, nil
}

func (v visitor) dial(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: v.source.AsSlice()}, Timeout: visitTimeout}
	c, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil || len(v.ahead) == 0 {
		return c, err
	}
	if _, err := c.Write(v.ahead); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// resolve asks the visitor's resolver for a name's address.
func (v visitor) resolve(ctx context.Context, name string) (netip.Addr, error) {
	c := dns.Client{Timeout: 2 * time.Second, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: v.source.AsSlice()}, Timeout: 2 * time.Second}}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	r, _, err := c.ExchangeContext(ctx, m, v.resolver.String())
	if err != nil && ctx.Err() == nil { // a datagram may be lost; resolvers of systems ask again too
		r, _, err = c.ExchangeContext(ctx, m, v.resolver.String())
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask %s for %s: %w", v.resolver, name, err)
	}
	for _, rr := range r.Answer {
		if a, ok := rr.(*dns.A); ok {
			addr, _ := netip.AddrFromSlice(a.A.To4())
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s answers %s for %s and no address", v.resolver, dns.RcodeToString[r.Rcode], name)
}
