package certcheck

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/postern-net/postern"
)

const (
	// Timeout bounds the check of one port at one address.
	Timeout = 8 * time.Second
	// connectTimeout bounds the part of it until there is a connection. Where
	// packets vanish, as behind a wrong security group, all of a check's are
	// waited for so long, side by side: whoever asks must get to know it.
	connectTimeout = 4 * time.Second
	// atOnce bounds the connections that one check has open: enough for every
	// port in six zones, and no region has more.
	atOnce = 6 * postern.MaxConnectionPorts
)

// Config is what a [Checker] is made of. In production, it is empty.
type Config struct {
	// Roots are taken for publicly trusted too. Only the sandbox and tests,
	// which cannot have a public authority's certificate, give any.
	Roots []*x509.Certificate
	// Networks pass for those of endpoints though they are loopback. Only the
	// sandbox and tests, whose cloud is on loopback addresses, give any.
	Networks []netip.Prefix
	// Source is the local address to connect from. Default: the routing
	// table's.
	Source netip.Addr
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Checker checks data connections. Make one with [New]. Its methods may be
// called from several goroutines at once.
type Checker struct {
	roots    authorities
	networks []netip.Prefix
	source   netip.Addr
	now      func() time.Time
}

// New makes a checker. It fails only where the list of authorities that is
// built in is damaged.
func New(c Config) (*Checker, error) {
	roots, err := publicAuthorities(c.Roots)
	if err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Checker{roots: roots, networks: c.Networks, source: c.Source, now: c.Now}, nil
}

// Target is what to check: every port at every address.
type Target struct {
	Hostname  string       // that the certificate must be for
	Addresses []netip.Addr // of the endpoint's network interfaces
	Ports     []uint16
}

// Good tells whether nothing was found that stops a query.
func Good(findings []postern.Finding) bool {
	return !slices.ContainsFunc(findings, func(f postern.Finding) bool { return !f.Warning })
}

// Check connects to every port at every address and reports what it found,
// what stops queries first, and in the order of [postern.Reasons]; nothing:
// all is well. The error is about the target itself, or the end of ctx before a
// bad certificate was seen: then nothing is known. An address that does not answer while others do is a
// warning, for a workload goes on to those.
func (c *Checker) Check(ctx context.Context, t Target) ([]postern.Finding, error) {
	if err := c.checkTarget(t); err != nil {
		return nil, err
	}
	var seen []visit
	for _, port := range t.Ports {
		for _, a := range t.Addresses {
			seen = append(seen, visit{port: port, address: netip.AddrPortFrom(a, port)})
		}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range seen {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, Timeout)
			defer cancel()
			c.visit(ctx, t.Hostname, &seen[i])
		})
	}
	wg.Wait()
	if err := ended(ctx); err != nil {
		if found := order(certificates(t, seen)); len(found) > 0 && !Good(found) {
			return found, nil
		}
		return nil, fmt.Errorf("certcheck: %s: %w", t.Hostname, err)
	}
	return judge(t, seen), nil
}

// ended is why the time for a look is over. A connection's deadline, which is the
// same as ctx', may be noticed a moment before that one.
func ended(ctx context.Context) error {
	if until, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(until) {
		return context.DeadlineExceeded
	}
	return context.Cause(ctx)
}

func (c *Checker) checkTarget(t Target) error {
	var es postern.Errors
	es.Add(postern.CheckHostname("hostname", t.Hostname))
	for i, a := range t.Addresses {
		es.Add(postern.CheckEndpointAddress(fmt.Sprintf("addresses[%d]", i), a, c.networks...))
	}
	if len(t.Addresses) == 0 {
		es.Add(postern.Invalid("addresses", "", "none", "give those of the endpoint's network interfaces"))
	}
	if len(t.Ports) == 0 {
		es.Add(postern.Invalid("ports", "", "none", "give the ports of the cluster"))
	}
	return es.Err()
}

// visit is what was seen of one port at one address.
type visit struct {
	port    uint16
	address netip.AddrPort
	away    string // why it was not reached; "": it was
	found   []postern.Finding
	trino   *postern.Finding // why it is no Trino; nil: it is, or was not asked
	asked   bool             // /v1/info
	judged  bool             // a certificate was, and found tells of it
	mutual  bool             // the server asked for a client's certificate
}

func (c *Checker) visit(ctx context.Context, hostname string, v *visit) {
	if conn := c.handshake(ctx, hostname, v); conn != nil {
		defer conn.Close()
		if Good(v.found) {
			v.asked = true
			v.trino = askTrino(ctx, conn, hostname)
		}
	}
	if v.trino != nil && v.mutual && v.trino.Reason == postern.ReasonNotTrino {
		v.trino.Warning, v.trino.Message = true, "the server asks for a client's certificate, so it cannot be told whether this is Trino; if it is, nothing needs to be done"
	}
}

// judge sums all visits up.
func judge(t Target, seen []visit) []postern.Finding {
	var findings []postern.Finding
	for _, port := range t.Ports {
		findings = append(findings, unreachable(port, seen)...)
	}
	trino := false
	for _, v := range seen {
		for _, f := range v.found {
			findings = append(findings, at(f, v.port, t.Ports))
		}
		trino = trino || v.asked && v.trino == nil
	}
	// One port of several may be for something else; none that is Trino is
	// no cluster, and one that is starting is not there yet.
	for _, v := range seen {
		if v.trino != nil && (!trino || v.trino.Reason == postern.ReasonClusterStarting) {
			findings = append(findings, at(*v.trino, v.port, t.Ports))
		}
	}
	return order(findings)
}

// certificates lists what was found of certificates, whatever else could not be
// seen in time.
func certificates(t Target, seen []visit) (findings []postern.Finding) {
	for _, v := range seen {
		if !v.judged {
			continue
		}
		for _, f := range v.found {
			findings = append(findings, at(f, v.port, t.Ports))
		}
	}
	return findings
}

// unreachable sums up who of a port's addresses did not answer.
func unreachable(port uint16, seen []visit) []postern.Finding {
	away, all, how := 0, 0, ""
	for _, v := range seen {
		if v.port != port {
			continue
		}
		all++
		if v.away != "" {
			away++
			how = v.away
		}
	}
	const fix = "check the load balancer's listener and healthy targets on that port in each of the connection's Availability Zones, and the security groups"
	switch away {
	case 0:
		return nil
	case all:
		return []postern.Finding{{Reason: postern.ReasonUnreachable, Message: fmt.Sprintf("port %d: %s; %s", port, how, fix)}}
	}
	return []postern.Finding{{
		Reason: postern.ReasonUnreachable, Warning: true,
		Message: fmt.Sprintf("port %d: of the endpoint's %d network interfaces %d did not work (%s); %s", port, all, away, how, fix),
	}}
}

// at names the port where there are several.
func at(f postern.Finding, port uint16, ports []uint16) postern.Finding {
	if len(ports) > 1 {
		f.Message = fmt.Sprintf("port %d: %s", port, f.Message)
	}
	return f
}

// order sorts findings and names each once.
func order(fs []postern.Finding) []postern.Finding {
	rank := func(f postern.Finding) int {
		r := slices.Index(postern.Reasons(), f.Reason)
		if f.Warning {
			r += len(postern.Reasons())
		}
		return r
	}
	slices.SortStableFunc(fs, func(a, b postern.Finding) int { return rank(a) - rank(b) })
	var out []postern.Finding
	for _, f := range fs {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}
