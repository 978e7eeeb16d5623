package relay_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/proxyproto"
	"github.com/postern-net/postern/internal/relay"
)

func TestRefuses(t *testing.T) { onEach(t, testRefuses) }

func testRefuses(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	h := hello(t, host)
	badCRC := header()
	badCRC[20]++
	tooLarge := append([]byte{0x16, 3, 1, 0x40, 0, 1, 0, 0x60, 0}, make([]byte, 100)...)
	denied := func(*relay.Arrival) relay.Verdict { return relay.Verdict{Deny: postern.DenyNotAuthorized} }
	trusted := []netip.Prefix{local}
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}

	for _, tc := range []struct {
		name    string
		plain   bool // a listener without PROXY headers
		sources []netip.Prefix
		match   relay.Match
		send    []byte
		end     bool // the client closes its side after that
		want    postern.Denial
	}{
		{"header from elsewhere", false, elsewhere, nil, slices.Concat(header(), h), false, postern.DenyUntrustedSource},
		{"health check from elsewhere", false, elsewhere, nil, proxyproto.AppendLocal(nil), false, postern.DenyUntrustedSource},
		{"nobody is trusted", false, nil, nil, slices.Concat(header(), h), false, postern.DenyUntrustedSource},
		{"no header", false, trusted, nil, h, false, postern.DenyBadProxyHeader},
		{"garbage", false, trusted, nil, []byte("\r\n\r\n\x00\r\nQUIX"), false, postern.DenyBadProxyHeader},
		{"version 1", false, trusted, nil, []byte("PROXY TCP4 10.0.0.5 10.1.0.7 49153 443\r\n"), false, postern.DenyBadProxyHeader},
		{"wrong checksum", false, trusted, nil, slices.Concat(badCRC, h), false, postern.DenyBadProxyHeader},
		{"header cut off", false, trusted, nil, header()[:50], true, postern.DenyBadProxyHeader},
		{"wrong endpoint ID", false, trusted, nil, slices.Concat(proxyproto.AppendAWS(nil, clientAddr, targetAddr, "vpce-x"), h), false, postern.DenyBadProxyHeader},
		{"nested header", false, trusted, nil, slices.Concat(header(), header(), h), false, postern.DenyNotTLS},
		{"nested health check", false, trusted, nil, slices.Concat(header(), proxyproto.AppendLocal(nil)), false, postern.DenyNotTLS},
		{"HTTP behind a header", false, trusted, nil, append(header(), "GET / HTTP/1.1\r\n\r\n"...), false, postern.DenyNotTLS},
		{"header where none is due", true, trusted, nil, slices.Concat(header(), h), false, postern.DenyNotTLS},
		{"HTTP", true, nil, nil, []byte("GET / HTTP/1.1\r\n\r\n"), false, postern.DenyNotTLS},
		{"HTTP, its first byte", true, nil, nil, []byte("G"), false, postern.DenyNotTLS},
		{"hello too large", true, nil, nil, tooLarge, false, postern.DenyBadHello},
		{"malformed hello", true, nil, nil, []byte{0x16, 3, 1, 0, 4, 1, 0, 0, 0}, false, postern.DenyBadHello},
		{"hello cut off", true, nil, nil, h[:100], true, postern.DenyBadHello},
		{"hello never completed", true, nil, nil, h[:len(h)-1], false, postern.DenyHelloTimeout},
		{"header never completed", false, trusted, nil, header()[:99], false, postern.DenyHelloTimeout},
		{"header and nothing more", false, trusted, nil, header(), false, postern.DenyHelloTimeout},
		{"nothing at all", true, nil, nil, nil, false, postern.DenyHelloTimeout},
		{"denied", true, nil, denied, h, false, postern.DenyNotAuthorized},
		{"denied behind a header", false, trusted, denied, slices.Concat(header(), h), false, postern.DenyNotAuthorized},
		{"no backend", true, nil, to(), h, false, postern.DenyBackendDown},
		{"backend down", true, nil, to(free(t), free(t)), h, false, postern.DenyBackendDown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			match := tc.match
			if match == nil {
				match = to(b.addr)
			}
			var config relay.Config
			if tc.want == postern.DenyHelloTimeout {
				config.HelloTimeout = 200 * time.Millisecond
			}
			p := start(t, setup{kind: kind, config: config, proxied: !tc.plain, sources: tc.sources, match: match})
			c := dial(t, p.addr)
			send(t, c, tc.send)
			if tc.end {
				must(t, c.CloseWrite())
			}
			expectRefusal(t, c)
			r := p.wait(t, "refused", 1)[0]
			if r.verdict.Deny != tc.want {
				t.Errorf("refused for %q (%v), want %q", r.verdict.Deny, r.verdict.Cause, tc.want)
			}
			if len(b.conns) != 0 {
				t.Error("the backend was reached")
			}
		})
	}
}

// A client that is still sending, and sends on, reads the alert all the same.
func TestAlertSurvivesUnreadBytes(t *testing.T) { onEach(t, testAlertSurvivesUnreadBytes) }

func testAlertSurvivesUnreadBytes(t *testing.T, kind relay.Kind) {
	t.Parallel()
	p := start(t, setup{kind: kind, match: to()})
	c := dial(t, p.addr)
	send(t, c, []byte(strings.Repeat("GET / HTTP/1.1\r\n", 3000)))
	expectRefusal(t, c)
}

// A client that never closes does not keep a refused connection.
func TestLingerIsBounded(t *testing.T) { onEach(t, testLingerIsBounded) }

func testLingerIsBounded(t *testing.T, kind relay.Kind) {
	t.Parallel()
	p := start(t, setup{kind: kind, config: relay.Config{AlertLinger: 50 * time.Millisecond}, match: to()})
	c := dial(t, p.addr)
	send(t, c, []byte("GET"))
	expectRefusal(t, c)
	for p.Connections() > 0 {
		p.waitBriefly(t)
	}
}

func TestProbes(t *testing.T) { onEach(t, testProbes) }

func testProbes(t *testing.T, kind relay.Kind) {
	t.Parallel()
	withAddresses := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x11\x00\x0c"), make([]byte, 12)...)
	for _, tc := range []struct {
		name  string
		plain bool
		send  []byte
		end   bool
	}{
		{"health check", false, proxyproto.AppendLocal(nil), false},
		{"health check with addresses", false, withAddresses, false},
		{"health check without anything", false, withAddresses[:14:14], false},
		{"opened and closed", false, nil, true},
		{"opened and closed on a plain listener", true, nil, true},
		{"header, then closed", false, header(), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if len(tc.send) == 14 {
				tc.send = append(tc.send, 0, 0)
			}
			p := start(t, setup{kind: kind, proxied: !tc.plain, sources: []netip.Prefix{local}, match: to()})
			c := dial(t, p.addr)
			send(t, c, tc.send)
			if tc.end {
				must(t, c.CloseWrite())
			}
			expectEOF(t, c)
			p.wait(t, "probed", 1)
			if len(p.records) != 1 {
				t.Errorf("records %+v", p.records)
			}
		})
	}
}

// A client that resets before it has asked is neither refused nor served.
func TestClientGoesAway(t *testing.T) { onEach(t, testClientGoesAway) }

func testClientGoesAway(t *testing.T, kind relay.Kind) {
	t.Parallel()
	p := start(t, setup{kind: kind, match: to()})
	c := dial(t, p.addr)
	send(t, c, []byte{0x16, 3, 1})
	for p.Connections() == 0 {
		p.waitBriefly(t)
	}
	must(t, c.SetLinger(0))
	must(t, c.Close())
	for p.Connections() > 0 {
		p.waitBriefly(t)
	}
	for _, r := range p.records {
		t.Errorf("recorded %+v", r)
	}
}

// The longest input that can be asked for is bounded, whatever it is made of.
func TestPeekIsBounded(t *testing.T) { onEach(t, testPeekIsBounded) }

func testPeekIsBounded(t *testing.T, kind relay.Kind) {
	t.Parallel()
	p := start(t, setup{kind: kind, match: to()})
	c := dial(t, p.addr)
	tiny := []byte{0x16, 3, 1, 0, 1}
	endless := slices.Concat(tiny, []byte{1}, tiny, []byte{0}, tiny, []byte{0x40}, tiny, []byte{0})
	for len(endless) < clienthello.MaxSize+6 {
		endless = append(endless, 0x16, 3, 1, 0, 1, 0)
	}
	send(t, c, endless)
	expectRefusal(t, c)
	if r := p.wait(t, "refused", 1)[0]; r.verdict.Deny != postern.DenyBadHello {
		t.Errorf("refused for %q (%v)", r.verdict.Deny, r.verdict.Cause)
	}
}
