// Package hostproof asks public DNS for the TXT record that proves a hostname.
//
// It asks recursive resolvers that the operator chose, over TCP only: an answer
// cannot be forged by somebody who merely guesses, and it is not cut short. What
// it takes of an answer is bounded, and anything that is not a clean answer to
// the question is no answer.
//
// A CNAME may lead to the record, as when another zone is there for proofs. One
// that is there for every name does not count: whoever a company points
// *.apps.example.com to could else prove any name below it.
package hostproof

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Limits of one answer. A name has a handful of TXT records, and a challenge is
// shorter than one of their strings.
const (
	maxTexts  = 100
	maxText   = 1024 // bytes, of all strings of one record
	maxChain  = 8    // CNAMEs that lead to the records
	maxAnswer = 500  // records of any kind
)

// Resolver asks recursive resolvers.
type Resolver struct {
	// Servers are asked in order, until one answers.
	Servers []netip.AddrPort
	// Timeout of one server; zero: 3 s.
	Timeout time.Duration
}

// ErrNoServer is the error of a resolver without servers.
var ErrNoServer = errors.New("no resolver is configured")

// Texts lists the TXT records at a name; none: the resolver says that there are
// none, or no such name, or that a CNAME leads to them as from any name beside it.
// An error means that nothing is known.
func (r Resolver) Texts(ctx context.Context, name string) ([]string, error) {
	if len(r.Servers) == 0 {
		return nil, ErrNoServer
	}
	if _, ok := dns.IsDomainName(name); !ok {
		return nil, fmt.Errorf("%q is no domain name", name)
	}
	var errs []error
	for _, s := range r.Servers {
		texts, err := r.own(ctx, s, name)
		if err == nil {
			return texts, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", s, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// own asks one server for the texts that a name has of its own.
func (r Resolver) own(ctx context.Context, server netip.AddrPort, name string) ([]string, error) {
	texts, alias, err := r.ask(ctx, server, name)
	if err != nil || !alias || len(texts) == 0 {
		return texts, err
	}
	_, parent, _ := strings.Cut(name, ".")
	_, wildcard, err := r.ask(ctx, server, "_postern-"+strings.ToLower(rand.Text()[:20])+"."+parent)
	switch {
	case err != nil:
		return nil, fmt.Errorf("whether every name beside it is such an alias: %w", err)
	case wildcard:
		return nil, nil
	}
	return texts, nil
}

// ask asks one server for the texts at a name, and whether a CNAME leads away
// from there.
func (r Resolver) ask(ctx context.Context, server netip.AddrPort, name string) (texts []string, alias bool, err error) {
	timeout := r.Timeout
	if timeout <= 0 {
		timeout = 3 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m := new(dns.Msg).SetQuestion(dns.CanonicalName(name), dns.TypeTXT)
	m.RecursionDesired = true
	answer, _, err := (&dns.Client{Net: "tcp", Timeout: timeout}).ExchangeContext(ctx, m, server.String())
	if err != nil {
		return nil, false, fmt.Errorf("no answer: %w", err)
	}
	return read(m.Question[0], answer)
}

// read takes the texts out of an answer; alias: a CNAME leads to them, or to
// nothing.
func read(q dns.Question, m *dns.Msg) (texts []string, alias bool, err error) {
	switch {
	case !m.Response || m.Opcode != dns.OpcodeQuery || len(m.Question) != 1 ||
		m.Question[0].Qtype != q.Qtype || m.Question[0].Qclass != q.Qclass || !strings.EqualFold(m.Question[0].Name, q.Name):
		return nil, false, errors.New("the answer is to another question")
	case m.Truncated:
		return nil, false, errors.New("the answer is cut short")
	case !m.RecursionAvailable:
		return nil, false, errors.New("it is no recursive resolver")
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, false, fmt.Errorf("it answers %s", dns.RcodeToString[m.Rcode])
	case len(m.Answer) > maxAnswer:
		return nil, false, errors.New("the answer has too many records")
	}
	asked := dns.CanonicalName(q.Name)
	owner, err := follow(asked, m.Answer)
	if err != nil {
		return nil, false, err
	}
	for _, rr := range m.Answer {
		txt, ok := rr.(*dns.TXT)
		if !ok || dns.CanonicalName(txt.Hdr.Name) != owner || txt.Hdr.Class != dns.ClassINET {
			continue
		}
		// A record's strings are one text (RFC 7208, 3.3, as everybody reads them).
		if text := strings.Join(txt.Txt, ""); len(text) <= maxText && len(texts) < maxTexts {
			texts = append(texts, text)
		}
	}
	return texts, owner != asked, nil
}

// follow walks the CNAMEs of an answer from the name that was asked to the one
// that has the records.
func follow(owner string, answer []dns.RR) (string, error) {
	for range maxChain {
		next := ""
		for _, rr := range answer {
			if c, ok := rr.(*dns.CNAME); ok && dns.CanonicalName(c.Hdr.Name) == owner {
				next = dns.CanonicalName(c.Target)
			}
		}
		if next == "" {
			return owner, nil
		}
		owner = next
	}
	return "", fmt.Errorf("more than %d CNAMEs lead on", maxChain)
}

// System are the resolvers of the machine (resolv.conf), for where none are
// configured. The error is for a file that cannot be read or names none.
func System(path string) ([]netip.AddrPort, error) {
	c, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var out []netip.AddrPort
	for _, s := range c.Servers {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s names no resolver", path)
	}
	return out, nil
}
