// Package dnspublish knows what the zones' servers really answer, which is
// what a cutover waits for: published is what a resolver gets, not what was
// sent somewhere.
package dnspublish

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/postern-net/postern"
)

// Checker asks each of the zones' servers, without a resolver between.
type Checker struct {
	// Servers are the authoritative servers of the platform's zones.
	Servers []netip.AddrPort
	// Timeout of one query; zero: 2 s.
	Timeout time.Duration
}

// Answer is what one server says about a name.
type Answer struct {
	Server  netip.AddrPort
	Records []postern.Record // A and CNAME only, sorted; none: there is no such record
	Err     error            // it did not answer, or not with authority
}

// Ask asks every server for the A records of a name, side by side. A CNAME
// that leads out of the zone is the answer.
func (c Checker) Ask(ctx context.Context, name string) []Answer {
	out := make([]Answer, len(c.Servers))
	var wg sync.WaitGroup
	for i, s := range c.Servers {
		wg.Go(func() {
			records, err := c.askOne(ctx, s, name)
			out[i] = Answer{Server: s, Records: records, Err: err}
		})
	}
	wg.Wait()
	return out
}

func (c Checker) askOne(ctx context.Context, server netip.AddrPort, name string) ([]postern.Record, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 2 * time.Second
	}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	m.RecursionDesired = false
	r, _, err := (&dns.Client{Timeout: timeout}).ExchangeContext(ctx, m, server.String())
	if err == nil && r.Truncated {
		r, _, err = (&dns.Client{Net: "tcp", Timeout: timeout}).ExchangeContext(ctx, m, server.String())
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("no answer: %w", err)
	case r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("answers %s", dns.RcodeToString[r.Rcode])
	case !r.Authoritative:
		return nil, fmt.Errorf("answers without authority for the zone")
	}
	var records []postern.Record
	for _, rr := range r.Answer {
		switch v := rr.(type) {
		case *dns.A:
			records = append(records, postern.Record{Type: postern.RecordA, TTL: v.Hdr.Ttl, Value: v.A.String()})
		case *dns.CNAME:
			records = append(records, postern.Record{Type: postern.RecordCNAME, TTL: v.Hdr.Ttl, Value: strings.ToLower(strings.TrimSuffix(v.Target, "."))})
		}
	}
	slices.SortFunc(records, compare)
	return records, nil
}

func compare(a, b postern.Record) int {
	if a.Type != b.Type {
		return strings.Compare(a.Type, b.Type)
	}
	return strings.Compare(a.Value, b.Value)
}

// Differs tells which servers do not answer a name with the wanted records,
// and what they answer; "" when all do. A server whose records live longer than
// they should answers something else too: who waits for a TTL waits for the
// wanted one. Contradicted tells that some server did answer something else;
// one that does not answer contradicts nothing. With no server nothing is
// published.
func (c Checker) Differs(ctx context.Context, name string, wanted []postern.Record) (detail string, contradicted bool) {
	if len(c.Servers) == 0 {
		return "no server of the zones is configured", false
	}
	wanted = slices.Clone(wanted)
	slices.SortFunc(wanted, compare)
	var lines []string
	for _, a := range c.Ask(ctx, name) {
		switch {
		case a.Err != nil:
			lines = append(lines, fmt.Sprintf("%s: %v", a.Server, a.Err))
			continue
		case !slices.EqualFunc(a.Records, wanted, func(x, y postern.Record) bool { return x.Type == y.Type && x.Value == y.Value }):
			lines = append(lines, fmt.Sprintf("%s says %s for %s, not %s", a.Server, Text(a.Records), name, Text(wanted)))
		case !slices.EqualFunc(a.Records, wanted, func(x, y postern.Record) bool { return x.TTL <= y.TTL }):
			lines = append(lines, fmt.Sprintf("%s says %s for %s with a TTL of more than %d seconds", a.Server, Text(a.Records), name, wanted[0].TTL))
		default:
			continue
		}
		contradicted = true
	}
	return strings.Join(lines, "; "), contradicted
}

// Text writes records for people.
func Text(records []postern.Record) string {
	if len(records) == 0 {
		return "nothing"
	}
	parts := make([]string, len(records))
	for i, r := range records {
		parts[i] = r.Type + " " + r.Value
	}
	return strings.Join(parts, ", ")
}
