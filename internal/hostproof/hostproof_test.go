package hostproof_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/postern-net/postern/internal/hostproof"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const name = "_postern-challenge.starburst.example.com"

// answering is a recursive resolver that answers as it is told.
func answering(t *testing.T, network string, change func(q, m *dns.Msg)) netip.AddrPort {
	t.Helper()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		change(q, m)
		_ = w.WriteMsg(m) // the client is gone, or it is not
	})
	s := &dns.Server{Handler: handler}
	var at string
	if network == "tcp" {
		ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Listener, at = ln, ln.Addr().String()
	} else {
		pc, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.PacketConn, at = pc, pc.LocalAddr().String()
	}
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	done := make(chan error, 1)
	go func() { done <- s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := s.ShutdownContext(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return netip.MustParseAddrPort(at)
}

func rr(t *testing.T, text string) dns.RR {
	t.Helper()
	out, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTexts(t *testing.T) {
	for what, c := range map[string]struct {
		answer []string
		rcode  int
		change func(*dns.Msg)
		want   string // the texts, "|" between; "!" and a part of the error
	}{
		"one":              {answer: []string{name + `. 60 IN TXT "postern-verify=a"`}, want: "postern-verify=a"},
		"several":          {answer: []string{name + `. 60 IN TXT "a"`, name + `. 60 IN TXT "b"`}, want: "a|b"},
		"in strings":       {answer: []string{name + `. 60 IN TXT "postern-" "verify=a"`}, want: "postern-verify=a"},
		"in capitals":      {answer: []string{strings.ToUpper(name) + `. 60 IN TXT "a"`}, want: "a"},
		"by a CNAME":       {answer: []string{name + `. 60 IN CNAME x.example.net.`, `x.example.net. 60 IN TXT "a"`}, want: "a"},
		"none":             {want: ""},
		"no name":          {rcode: dns.RcodeNameError, want: ""},
		"of another name":  {answer: []string{`starburst.example.com. 60 IN TXT "a"`}, want: ""},
		"beside the chain": {answer: []string{name + `. 60 IN CNAME x.example.net.`, name + `. 60 IN TXT "a"`}, want: ""},
		"another type":     {answer: []string{name + `. 60 IN SPF "a"`}, want: ""},
		"another class":    {answer: []string{name + `. 60 CH TXT "a"`}, want: ""},
		"a long text":      {answer: []string{name + ". 60 IN TXT " + strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 5)}, want: ""},
		"a loop":           {answer: []string{name + `. 60 IN CNAME ` + name + `.`}, want: "!more than 8 CNAMEs"},
		"a failure":        {rcode: dns.RcodeServerFailure, want: "!it answers SERVFAIL"},
		"a refusal":        {rcode: dns.RcodeRefused, want: "!it answers REFUSED"},
		"no resolver":      {change: func(m *dns.Msg) { m.RecursionAvailable = false }, want: "!no recursive resolver"},
		"cut short":        {change: func(m *dns.Msg) { m.Truncated = true }, want: "!cut short"},
		"another question": {change: func(m *dns.Msg) { m.Question[0].Name = "x.example.com." }, want: "!another question"},
		"no question":      {change: func(m *dns.Msg) { m.Question = nil }, want: "!another question"},
		"another's answer": {change: func(m *dns.Msg) { m.Id++ }, want: "!no answer"},
	} {
		t.Run(what, func(t *testing.T) {
			at := answering(t, "tcp", func(_, m *dns.Msg) {
				m.Rcode = c.rcode
				for _, text := range c.answer {
					m.Answer = append(m.Answer, rr(t, text))
				}
				if c.change != nil {
					c.change(m)
				}
			})
			got, err := hostproof.Resolver{Servers: []netip.AddrPort{at}}.Texts(t.Context(), name)
			text := strings.Join(got, "|")
			if err != nil {
				text = "!" + err.Error()
			}
			if fault, bad := strings.CutPrefix(c.want, "!"); bad != (err != nil) || bad && !strings.Contains(text, fault) || !bad && text != c.want {
				t.Errorf("got %q, want %q", text, c.want)
			}
		})
	}
}

// An alias of the challenge's name is the holder's word. One that all names have
// is not about the challenge: whoever it leads to would prove any of them.
func TestAWildcardProvesNothing(t *testing.T) {
	beside := func(q *dns.Msg) string {
		asked := q.Question[0].Name
		if !strings.HasSuffix(asked, ".starburst.example.com.") || strings.Count(asked, ".") != 4 {
			t.Errorf("asked for %s", asked)
		}
		return asked
	}
	for what, c := range map[string]struct {
		beside func(q, m *dns.Msg) // what the names beside it are
		want   string
	}{
		"there is none": {func(_, m *dns.Msg) { m.Rcode = dns.RcodeNameError }, "[a]"},
		"has records":   {func(q, m *dns.Msg) { m.Answer = []dns.RR{rr(t, beside(q)+` 60 IN TXT "a"`)} }, "[a]"},
		"the same alias": {func(q, m *dns.Msg) {
			m.Answer = []dns.RR{rr(t, beside(q)+` 60 IN CNAME lb.saas.example.`), rr(t, `lb.saas.example. 60 IN TXT "a"`)}
		}, "[]"},
		"an alias without a record": {func(q, m *dns.Msg) { m.Answer = []dns.RR{rr(t, beside(q)+` 60 IN CNAME other.saas.example.`)} }, "[]"},
		"nobody says":               {func(_, m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }, "!"},
	} {
		t.Run(what, func(t *testing.T) {
			var names sync.Map
			at := answering(t, "tcp", func(q, m *dns.Msg) {
				if asked := q.Question[0].Name; asked != name+"." {
					names.Store(asked, true)
					c.beside(q, m)
					return
				}
				m.Answer = []dns.RR{rr(t, name+`. 60 IN CNAME lb.saas.example.`), rr(t, `lb.saas.example. 60 IN TXT "a"`)}
			})
			for range 2 {
				got, err := hostproof.Resolver{Servers: []netip.AddrPort{at}}.Texts(t.Context(), name)
				if (err != nil) != (c.want == "!") || err == nil && fmt.Sprint(got) != c.want {
					t.Errorf("%v, %v, want %s", got, err, c.want)
				}
			}
			n := 0
			names.Range(func(any, any) bool { n++; return true })
			if n != 2 {
				t.Errorf("%d names beside it were asked for, want another each time", n)
			}
		})
	}
}

func TestAnAnswerIsBounded(t *testing.T) {
	serve := func(n int) netip.AddrPort {
		return answering(t, "tcp", func(_, m *dns.Msg) {
			for i := range n {
				m.Answer = append(m.Answer, rr(t, fmt.Sprintf(`%s. 60 IN TXT "%d"`, name, i)))
			}
			m.Compress = true
		})
	}
	got, err := hostproof.Resolver{Servers: []netip.AddrPort{serve(200)}}.Texts(t.Context(), name)
	if err != nil || len(got) != 100 {
		t.Errorf("%d texts, %v", len(got), err)
	}
	if _, err = (hostproof.Resolver{Servers: []netip.AddrPort{serve(501)}}).Texts(t.Context(), name); err == nil || !strings.Contains(err.Error(), "too many records") {
		t.Error(err)
	}
}

// The next resolver is asked when one does not answer, and only then.
func TestTheNextResolverIsAsked(t *testing.T) {
	broken := answering(t, "tcp", func(_, m *dns.Msg) { m.Rcode = dns.RcodeServerFailure })
	asked := false
	none := answering(t, "tcp", func(_, m *dns.Msg) { m.Rcode = dns.RcodeNameError })
	other := answering(t, "tcp", func(_, m *dns.Msg) { asked = true; m.Answer = []dns.RR{rr(t, name+`. 60 IN TXT "a"`)} })
	if got, err := (hostproof.Resolver{Servers: []netip.AddrPort{broken, none, other}}).Texts(t.Context(), name); err != nil || len(got) > 0 || asked {
		t.Errorf("%v, %v, asked on: %v", got, err, asked)
	}
	if got, err := (hostproof.Resolver{Servers: []netip.AddrPort{broken, other}}).Texts(t.Context(), name); err != nil || !slices.Equal(got, []string{"a"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := (hostproof.Resolver{}).Texts(t.Context(), name); err == nil {
		t.Error("nobody was asked, and there was an answer")
	}
}

// An answer that anybody may send unasked, by UDP, is not even looked for.
func TestOnlyTCPIsAsked(t *testing.T) {
	at := answering(t, "udp", func(_, m *dns.Msg) { m.Answer = []dns.RR{rr(t, name+`. 60 IN TXT "forged"`)} })
	if got, err := (hostproof.Resolver{Servers: []netip.AddrPort{at}, Timeout: time.Second}).Texts(t.Context(), name); err == nil {
		t.Errorf("got %v", got)
	}
}

func TestAResolverThatSaysNothingIsGivenUp(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := hostproof.Resolver{Servers: []netip.AddrPort{netip.MustParseAddrPort(ln.Addr().String())}, Timeout: 50 * time.Millisecond}
	if got, err := r.Texts(t.Context(), name); err == nil {
		t.Errorf("got %v", got)
	}
}

func TestSystem(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	for text, want := range map[string]string{
		"nameserver 192.0.2.1\nnameserver 2001:db8::1\n": "[192.0.2.1:53 [2001:db8::1]:53]", "search example.com\n": "!",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := hostproof.System(file)
		if fmt.Sprint(got) != want && (want != "!" || err == nil) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := hostproof.System(file + ".absent"); err == nil {
		t.Error("an absent file has resolvers")
	}
}

// FuzzRead demands that no answer makes it fail, or give a text that is not
// in it.
func FuzzRead(f *testing.F) {
	m := new(dns.Msg).SetQuestion(name+".", dns.TypeTXT)
	m.Response, m.RecursionAvailable = true, true
	m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: name + ".", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{"a"}}}
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		got, err := hostproof.Read(name+".", m)
		for _, text := range got {
			if err != nil || len(text) > 1024 {
				t.Errorf("%q, %v", text, err)
			}
		}
	})
}
