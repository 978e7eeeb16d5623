package nameserver_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/postern-net/postern"
)

func query(name string, kind uint16, change ...func(*dns.Msg)) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	for _, f := range change {
		f(m)
	}
	return m
}

func opt(name string, version uint8, size uint16, do bool) *dns.OPT {
	o := &dns.OPT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeOPT}}
	o.SetVersion(version)
	o.SetUDPSize(size)
	o.SetDo(do)
	return o
}

func with(rrs ...dns.RR) func(*dns.Msg) {
	return func(m *dns.Msg) { m.Extra = append(m.Extra, rrs...) }
}

func opcode(n int) func(*dns.Msg) { return func(m *dns.Msg) { m.Opcode = n } }

const globex = "globex." + hosted + "."

func TestMessages(t *testing.T) {
	w := serve(t, zones())
	const answered = `
answer globex.hosted.example.net. 60 IN A 192.0.2.10
answer globex.hosted.example.net. 60 IN A 192.0.2.11`
	soa := &dns.SOA{Hdr: dns.RR_Header{Name: hosted + ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: ".", Mbox: "."}
	plain := opt(".", 0, 4096, false)
	unknown := opt(".", 0, 4096, false)
	unknown.Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
	for _, tt := range []struct {
		rule  string
		query *dns.Msg
		want  string
		edns  bool // an OPT record is in the answer
	}{
		{"no EDNS asked, none given", query(globex, dns.TypeA), "NOERROR aa rd" + answered, false},
		{"EDNS", query(globex, dns.TypeA, with(plain)), "NOERROR aa rd" + answered, true},
		{"EDNS options that are not known are ignored", query(globex, dns.TypeA, with(unknown)), "NOERROR aa rd" + answered, true},
		{"a version of EDNS that is not known", query(globex, dns.TypeA, with(opt(".", 1, 4096, false))), "BADVERS rd", true},
		{"two OPT records", query(globex, dns.TypeA, with(plain, plain)), "FORMERR rd", true},
		{"an OPT record that is not of the root", query(globex, dns.TypeA, with(opt("x.", 0, 4096, false))), "FORMERR rd", true},
		{"refused with EDNS", query("example.org.", dns.TypeA, with(plain)), "REFUSED rd", true},
		{"recursion not desired", query(globex, dns.TypeA, func(m *dns.Msg) { m.RecursionDesired = false }), "NOERROR aa" + answered, false},
		{"bits that only answers may have", query(globex, dns.TypeA, func(m *dns.Msg) {
			m.RecursionAvailable, m.AuthenticatedData, m.CheckingDisabled, m.Zero = true, true, true, true
			m.Authoritative, m.Truncated, m.Rcode = true, true, dns.RcodeRefused
		}), "NOERROR aa rd" + answered, false},

		{"class CH", query("version.bind.", dns.TypeTXT, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), "REFUSED rd", false},
		{"class CH of a name that exists", query(globex, dns.TypeA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), "REFUSED rd", false},
		{"class ANY", query(globex, dns.TypeA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }), "REFUSED rd", false},
		{"AXFR", query(hosted+".", dns.TypeAXFR), "REFUSED rd", false},
		{"IXFR", query(hosted+".", dns.TypeIXFR, func(m *dns.Msg) { m.Ns = []dns.RR{soa} }), "REFUSED rd", false},
		{"a type that asks for the message", query(globex, dns.TypeTSIG), "NOTIMP rd", false},
		{"MAILA", query(globex, dns.TypeMAILA), "NOTIMP rd", false},
		{"OPT as a type", query(globex, dns.TypeOPT), "NOTIMP rd", false},
		{"NOTIFY", query(hosted+".", dns.TypeSOA, opcode(dns.OpcodeNotify), func(m *dns.Msg) { m.Answer = []dns.RR{soa} }), "NOTIMP", false},
		{"NOTIFY with EDNS", query(hosted+".", dns.TypeSOA, opcode(dns.OpcodeNotify), with(plain)), "NOTIMP", true},
		{"UPDATE", query(hosted+".", dns.TypeSOA, opcode(dns.OpcodeUpdate), func(m *dns.Msg) { m.Ns = []dns.RR{soa, soa} }), "NOTIMP rd", false},
		{"IQUERY", query(globex, dns.TypeA, opcode(dns.OpcodeIQuery)), "NOTIMP", false},
		{"an opcode that nobody has", query(globex, dns.TypeA, opcode(15)), "NOTIMP", false},
		{"no question", query(globex, dns.TypeA, func(m *dns.Msg) { m.Question = nil }), "FORMERR rd", false},
		{"no question with EDNS", query(globex, dns.TypeA, func(m *dns.Msg) { m.Question = nil }, with(plain)), "FORMERR rd", true},
		{"two questions", query(globex, dns.TypeA, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), "FORMERR rd", false},
		{"answers in a question", query(globex, dns.TypeA, func(m *dns.Msg) { m.Answer = []dns.RR{soa, soa} }), "FORMERR rd", false},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			message, err := tt.query.Pack()
			if err != nil {
				t.Fatal(err)
			}
			for _, transport := range []string{"udp", "tcp"} {
				r := new(dns.Msg)
				if err := r.Unpack(w.raw(t, transport, message)); err != nil {
					t.Fatal(err)
				}
				got := strings.Replace(show(r), "BADSIG", "BADVERS", 1)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", transport, diff)
				}
				if r.Id != tt.query.Id || !r.Response || r.Opcode != tt.query.Opcode {
					t.Errorf("%s: ID %d, response %v, opcode %d; want the query's", transport, r.Id, r.Response, r.Opcode)
				}
				checkOPT(t, r, tt.edns)
			}
		})
	}
}

func checkOPT(t *testing.T, r *dns.Msg, want bool) {
	t.Helper()
	o := r.IsEdns0()
	if (o != nil) != want {
		t.Errorf("OPT record %v, want one: %v", o, want)
	}
	if o != nil && (o.Version() != 0 || o.UDPSize() != 1232 || len(o.Option) != 0) {
		t.Errorf("OPT record %v", o)
	}
}

func TestDNSSECOKIsCopied(t *testing.T) {
	w := serve(t, zones())
	for _, do := range []bool{false, true} { // RFC 3225 §3
		if r := w.exchange(t, "udp", query(globex, dns.TypeA, with(opt(".", 0, 1232, do)))); r.IsEdns0().Do() != do {
			t.Errorf("DO %v, want %v", r.IsEdns0().Do(), do)
		}
	}
}

func TestTruncation(t *testing.T) {
	w := serve(t, zones())
	for _, tt := range []struct {
		name      string
		edns      uint16 // 0: none
		limit     int
		truncated bool
	}{
		{"much", 0, 512, true},
		{"much", 100, 512, true}, // less than 512 means 512
		{"much", 1000, 1000, true},
		{"much", 1232, 1232, true},
		{"much", 65535, 1232, true}, // whatever the client can take
		{"long", 0, 512, true},
		{"long", 600, 600, true},
		{"long", 4096, 1232, false},
		{"globex", 0, 512, false},
	} {
		q := query(tt.name+"."+hosted+".", dns.TypeTXT)
		if tt.edns != 0 {
			q.Extra = []dns.RR{opt(".", 0, tt.edns, false)}
		}
		message, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		answer := w.raw(t, "udp", message)
		r := new(dns.Msg)
		if err := r.Unpack(answer); err != nil {
			t.Fatal(err)
		}
		if r.Truncated != tt.truncated || len(answer) > tt.limit {
			t.Errorf("%s, EDNS %d: truncated %v, %d bytes; want %v, at most %d", tt.name, tt.edns, r.Truncated, len(answer), tt.truncated, tt.limit)
		}
		checkOPT(t, r, tt.edns != 0)
		if r = w.exchange(t, "tcp", q); r.Truncated {
			t.Errorf("%s by TCP: truncated", tt.name)
		}
	}
	if n := len(w.ask(t, "tcp", "much."+hosted, dns.TypeTXT).Answer); n != 30 {
		t.Errorf("%d records by TCP, want 30", n)
	}
	if n := w.counted(t, "postern_dns_truncated_total", nil); n != 7 {
		t.Errorf("counted %v truncated answers, want 7", n)
	}
}

func header(id, bits uint16, counts ...uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = binary.BigEndian.AppendUint16(b, bits)
	for _, n := range counts {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return b
}

func TestGarbage(t *testing.T) {
	w := serve(t, zones())
	const allBits = 0x7FFF &^ 0x7800 // of a query, without the opcode's
	for name, message := range map[string][]byte{
		"a header alone that promises a question": header(1, 0x0100, 1, 0, 0, 0),
		"half a name":                        append(header(1, 0x0100, 1, 0, 0, 0), 9, 'x'),
		"a name that points to itself":       append(header(1, 0x0100, 1, 0, 0, 0), 0xC0, 12, 0, 1, 0, 1),
		"a label of a kind that is not":      append(header(1, 0x0100, 1, 0, 0, 0), 0x80, 1, 0, 1, 0, 1),
		"a record that is cut off":           append(header(1, 0x0100, 1, 0, 0, 1), 0, 0, 1, 0, 1, 0, 0, 41, 4),
		"all bits that a query may not have": append(header(1, allBits, 1, 0, 0, 0), 9, 'x'),
	} {
		for _, transport := range []string{"udp", "tcp"} {
			answer := w.raw(t, transport, message)
			r := new(dns.Msg)
			if err := r.Unpack(answer); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := show(r); r.Id != 1 || !r.Response || got != "FORMERR rd" {
				t.Errorf("%s by %s: ID %d, response %v, %s", name, transport, r.Id, r.Response, got)
			}
		}
	}
	if n := w.counted(t, "postern_dns_queries_total", map[string]string{"rcode": "FORMERR"}); n != 12 {
		t.Errorf("counted %v FORMERR, want 12", n)
	}
}

// A query whose questions share one long name by compression, and which cannot
// be parsed to its end, must not be answered with the names in full.
func TestGarbageIsNotAmplified(t *testing.T) {
	w := serve(t, zones())
	message := header(1, 0x0100, 180, 0, 0, 0)
	for range 3 {
		message = append(append(message, 63), bytes.Repeat([]byte{'x'}, 63)...)
	}
	message = append(message, 0, 0, 1, 0, 1)
	for range 170 {
		message = append(message, 0xC0, 12, 0, 1, 0, 1)
	}
	if answer := w.raw(t, "udp", message); len(answer) != 12 {
		t.Errorf("answered %d bytes with %d, want a header", len(message), len(answer))
	}
}

// What is no query gets no answer, neither an error: two servers could send
// one another errors for ever.
func TestNoAnswer(t *testing.T) {
	w := serve(t, zones())
	response := query(globex, dns.TypeA, func(m *dns.Msg) { m.Response = true })
	packed, err := response.Pack()
	if err != nil {
		t.Fatal(err)
	}
	next, err := query(globex, dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	messages := [][]byte{packed, {0}, header(9, 0x8000, 0, 0, 0, 0), header(9, 0, 1)}
	for _, transport := range []string{"udp", "tcp"} {
		conn := w.dial(t, transport)
		for _, m := range messages {
			if err := send(conn, m); err != nil {
				t.Fatal(err)
			}
		}
		if err := send(conn, next); err != nil {
			t.Fatal(err)
		}
		answer, err := receive(conn)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(answer[:2], next[:2]) {
			t.Errorf("%s: an answer to what is no query: %x", transport, answer)
		}
		conn.Close()
		until(t, "discarded messages are counted", func() bool {
			return w.counted(t, "postern_dns_discarded_total", map[string]string{"transport": transport}) == float64(len(messages))
		})
	}
}

func TestMetrics(t *testing.T) {
	w := serve(t, zones())
	want := map[string]float64{}
	for _, q := range []struct {
		name  string
		rcode string
	}{
		{globex, "NOERROR"}, {globex, "NOERROR"}, {"nobody." + hosted + ".", "NXDOMAIN"}, {"example.org.", "REFUSED"},
	} {
		for _, transport := range []string{"udp", "udp", "tcp"} {
			w.exchange(t, transport, query(q.name, dns.TypeA))
			want[transport+" "+q.rcode]++
		}
	}
	w.exchange(t, "udp", query(globex, dns.TypeA, with(opt(".", 9, 512, false))))
	want["udp BADVERS"]++
	w.exchange(t, "udp", query(globex, dns.TypeA, opcode(dns.OpcodeUpdate), func(m *dns.Msg) { m.Ns = []dns.RR{opt(".", 0, 0, false), opt(".", 0, 0, false)} }))
	want["udp NOTIMP"]++
	for series, n := range want {
		transport, rcode, _ := strings.Cut(series, " ")
		if got := w.counted(t, "postern_dns_queries_total", map[string]string{"transport": transport, "rcode": rcode}); got != n {
			t.Errorf("%s: %v, want %v", series, got, n)
		}
	}
	if n := w.counted(t, "postern_dns_zones_revision", nil); n != 7 {
		t.Errorf("revision %v, want 7", n)
	}
}

func TestBeforeTheFirstZones(t *testing.T) {
	w := serve(t, postern.Zones{})
	if got := show(w.ask(t, "udp", globex, dns.TypeA)); got != "SERVFAIL rd" {
		t.Error(got)
	}
	if _, ok := w.Revision(); ok {
		t.Error("a revision without zones")
	}
}
