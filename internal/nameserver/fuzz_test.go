package nameserver_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/nameserver"
)

// FuzzServer sends any bytes by both transports. Whatever has a query's header
// gets exactly one answer, which is small, an answer, and of no other server's
// making; everything else gets none, and what follows is answered all the same.
func FuzzServer(f *testing.F) {
	for _, m := range []*dns.Msg{
		query(globex, dns.TypeA), query("ALIAS."+hosted+".", dns.TypeAAAA), query("much."+hosted+".", dns.TypeTXT, with(opt(".", 0, 600, true))),
		query(globex, dns.TypeA, with(opt(".", 1, 0, false))), query(hosted+".", dns.TypeAXFR), query("x.sub.example.net.", dns.TypeDS),
		query("example.net.", dns.TypeNS), query(globex, dns.TypeANY, opcode(dns.OpcodeUpdate)), query(globex, dns.TypeA, func(m *dns.Msg) { m.Response = true }),
	} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-3])
	}
	f.Add(append(header(1, 0x0100, 1, 0, 0, 0), 0xC0, 12, 0, 1, 0, 1))
	f.Add(append(header(1, 0xFFFF, 9, 9, 9, 9), 0, 0, 1, 0, 1))
	w := serve(f, zones())
	next, err := query(globex, dns.TypeA, func(m *dns.Msg) { m.Id = 4711 }).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		isQuery := len(message) >= 12 && message[2]&0x80 == 0
		for _, transport := range []string{"udp", "tcp"} {
			if len(message) > 65535 || transport == "udp" && len(message) > 1200 {
				continue
			}
			conn := w.dial(t, transport)
			if tcp, ok := conn.(*net.TCPConn); ok {
				if err := tcp.SetLinger(0); err != nil { // ports would run out
					t.Fatal(err)
				}
			}
			if err := send(conn, message); err != nil {
				t.Fatal(err)
			}
			if isQuery {
				answer, err := receive(conn)
				if err != nil {
					t.Fatalf("%s: no answer: %v", transport, err)
				}
				checkAnswer(t, transport, message, answer)
			}
			if err := send(conn, next); err != nil {
				t.Fatal(err)
			}
			if answer, err := receive(conn); err != nil || answer[0] != next[0] || answer[1] != next[1] || len(answer) < 60 {
				t.Fatalf("%s: the next query: %x, %v", transport, answer, err)
			}
			conn.SetReadDeadline(time.Now())
			if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
				t.Fatalf("%s: then %v", transport, err)
			}
			conn.Close()
		}
	})
}

func checkAnswer(t *testing.T, transport string, message, answer []byte) {
	t.Helper()
	r := new(dns.Msg)
	if err := r.Unpack(answer); err != nil {
		t.Fatalf("%s: answer %x: %v", transport, answer, err)
	}
	if answer[0] != message[0] || answer[1] != message[1] || !r.Response {
		t.Errorf("%s: not an answer to the query: %x", transport, answer[:4])
	}
	if r.RecursionAvailable || r.AuthenticatedData || r.CheckingDisabled || r.Zero {
		t.Errorf("%s: flags %s", transport, show(r))
	}
	if transport == "tcp" && r.Truncated {
		t.Error("tcp: truncated")
	}
	limit := 512
	if r.IsEdns0() != nil {
		limit = 1232
	}
	if transport == "udp" && len(answer) > limit {
		t.Errorf("udp: %d bytes, want at most %d", len(answer), limit)
	}
	for _, rr := range r.Answer {
		if !dns.IsSubDomain("example.net.", rr.Header().Name) {
			t.Errorf("%s: speaks of %v", transport, rr)
		}
	}
}

// FuzzZones serves whatever passes validation: every name and type can be
// asked for, is answered with what the record says, and ends.
func FuzzZones(f *testing.F) {
	f.Add(hosted, "a."+hosted, "CNAME", "b."+hosted, "b."+hosted, "A", "192.0.2.1")
	f.Add(hosted, hosted, "TXT", `back\slash "quote" \000`, "a."+hosted, "AAAA", "2001:db8::1")
	f.Add(hosted, "sub."+hosted, "NS", "ns.sub."+hosted, "ns.sub."+hosted, "A", "192.0.2.1")
	f.Add(hosted, "a."+hosted, "CNAME", "b."+hosted, "b."+hosted, "CNAME", "a."+hosted)
	f.Add(hosted, "a.b.c."+hosted, "TXT", "x", "b.c."+hosted, "CNAME", "c."+hosted)
	f.Fuzz(func(t *testing.T, apex, name, kind, value, name2, kind2, value2 string) {
		z := postern.Zones{Revision: 1, Zones: map[string]postern.Zone{apex: {Records: map[string][]postern.Record{
			name: one(kind, 60, value),
		}}}}
		z.Zones[apex].Records[name2] = append(z.Zones[apex].Records[name2], one(kind2, 60, value2)...)
		if z.Validate() != nil {
			return
		}
		reply := nameserver.Reply(z)
		for owner, records := range z.Zones[apex].Records {
			for _, r := range records {
				m := reply(query(dns.Fqdn(owner), dns.StringToType[r.Type]))
				if _, err := m.Pack(); err != nil {
					t.Fatalf("%s %s: %v", owner, r.Type, err)
				}
				if m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 && m.Authoritative {
					t.Errorf("%s %s: %s", owner, r.Type, show(m))
				}
				if r.Type == postern.RecordTXT && m.Authoritative {
					checkText(t, m, records)
				}
			}
		}
	})
}

// checkText compares the text as the wire has it with the records' values.
func checkText(t *testing.T, m *dns.Msg, records []postern.Record) {
	t.Helper()
	for i, rr := range m.Answer {
		b := make([]byte, 65535)
		end, err := dns.PackRR(rr, b, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		start := len(rr.Header().Name) + 1 + 10 // no name in valid zones has escapes
		got := ""
		for at := start; at < end; at += 1 + int(b[at]) {
			got += string(b[at+1 : at+1+int(b[at])])
		}
		if got != records[i].Value {
			t.Errorf("text %q, want %q", got, records[i].Value)
		}
	}
}
