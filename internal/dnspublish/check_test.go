package dnspublish_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/dnspublish"
	"github.com/postern-net/postern/internal/nameserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	hosted = "hosted.example.com"
	link   = "privatelink.example.com"
)

func records(kind string, values ...string) (out []postern.Record) {
	for _, v := range values {
		out = append(out, postern.Record{Type: kind, TTL: 60, Value: v})
	}
	return out
}

// zones are a tenant's in a rehearsal, and another's that has many addresses.
func zones(revision int64) postern.Zones {
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("192.0.2.%d", i))
	}
	return postern.Zones{Revision: revision, Zones: map[string]postern.Zone{
		hosted: {Records: map[string][]postern.Record{
			"example." + hosted: records("CNAME", "example."+link),
			"globex." + hosted:  records("A", "192.0.2.11", "192.0.2.10"),
			"many." + hosted:    records("A", many...),
			"text." + hosted:    records("TXT", "no address"),
		}},
		link: {Records: map[string][]postern.Record{"example." + link: records("A", "192.0.2.10")}},
	}}
}

// serve runs the platform's own nameserver.
func serve(t *testing.T, z postern.Zones) netip.AddrPort {
	t.Helper()
	s, err := nameserver.New(nameserver.Config{
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if z.Zones != nil {
		if _, err := s.Apply(z); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s.Addrs()[0]
}

// answering runs a server that answers as it is told, which the platform's own
// never would.
func answering(t *testing.T, change func(*dns.Msg)) netip.AddrPort {
	t.Helper()
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative = true
		if change(m); m.Id != 0 {
			_ = w.WriteMsg(m) // who asked may be gone
		}
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.ActivateAndServe() }) // ends with its connection
	t.Cleanup(func() {
		_ = s.Shutdown() // it fails where it has not begun, and then the next line ends it
		_ = conn.Close()
		serving.Wait()
	})
	return netip.MustParseAddrPort(conn.LocalAddr().String())
}

func TestAsk(t *testing.T) {
	s := serve(t, zones(1))
	c := dnspublish.Checker{Servers: []netip.AddrPort{s}}
	for name, want := range map[string][]postern.Record{
		"example." + hosted: records("CNAME", "example."+link), // it leads out of the zone: that is all
		"globex." + hosted:  records("A", "192.0.2.10", "192.0.2.11"),
		"EXAMPLE." + link:   records("A", "192.0.2.10"),
		"text." + hosted:    nil, // no such type
		"absent." + hosted:  nil, // no such name
	} {
		answers := c.Ask(t.Context(), name)
		if len(answers) != 1 || answers[0].Err != nil || answers[0].Server != s {
			t.Fatalf("%s: %+v", name, answers)
		}
		if diff := cmp.Diff(want, answers[0].Records); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// What does not fit into a datagram is asked for again.
	if a := c.Ask(t.Context(), "many."+hosted)[0]; a.Err != nil || len(a.Records) != 100 {
		t.Errorf("%d records, %v", len(a.Records), a.Err)
	}
}

func TestDiffers(t *testing.T) {
	now, old, unloaded := serve(t, zones(2)), serve(t, postern.Zones{Revision: 1, Zones: map[string]postern.Zone{
		hosted: {Records: map[string][]postern.Record{"example." + hosted: records("A", "192.0.2.10")}},
	}}), serve(t, postern.Zones{})
	unauthorized := answering(t, func(m *dns.Msg) { m.Authoritative = false })
	refusing := answering(t, func(m *dns.Msg) { m.Rcode = dns.RcodeRefused })
	silent := answering(t, func(m *dns.Msg) { m.Id = 0 })
	alias := records("CNAME", "example."+link)
	for _, tc := range []struct {
		name    string
		host    string
		servers []netip.AddrPort
		wanted  []postern.Record
		want    []string // parts of what is said; none: all agree
	}{
		{"all answer", "example." + hosted, []netip.AddrPort{now, now}, alias, nil},
		{"a shorter life than wanted does no harm", "example." + hosted, []netip.AddrPort{now}, []postern.Record{{Type: "CNAME", TTL: 300, Value: "example." + link}}, nil},
		{"a longer one would be waited for too short", "example." + hosted, []netip.AddrPort{now}, []postern.Record{{Type: "CNAME", TTL: 5, Value: "example." + link}}, []string{"with a TTL of more than 5 seconds"}},
		{"nor does the order", "globex." + hosted, []netip.AddrPort{now}, records("A", "192.0.2.11", "192.0.2.10"), nil},
		{"nothing is wanted and there", "absent." + link, []netip.AddrPort{now}, nil, nil},
		{"nothing is wanted and something there", "example." + link, []netip.AddrPort{now}, nil, []string{"says A 192.0.2.10 for example.privatelink.example.com, not nothing"}},
		{"something is wanted and nothing there", "absent." + hosted, []netip.AddrPort{now}, alias, []string{"says nothing for absent.hosted.example.com, not CNAME example.privatelink.example.com"}},
		{"one too few", "globex." + hosted, []netip.AddrPort{now}, records("A", "192.0.2.10"), []string{"says A 192.0.2.10, A 192.0.2.11"}},
		{"another type", "globex." + hosted, []netip.AddrPort{now}, records("CNAME", "192.0.2.10"), []string{"not CNAME 192.0.2.10"}},
		{"one server lags", "example." + hosted, []netip.AddrPort{now, old}, alias, []string{old.String() + " says A 192.0.2.10"}},
		{"one has no zone yet", "example." + hosted, []netip.AddrPort{now, unloaded}, alias, []string{unloaded.String() + ": answers SERVFAIL"}},
		{"one is not authoritative", "example." + hosted, []netip.AddrPort{now, unauthorized}, nil, []string{now.String() + " says", unauthorized.String() + ": answers without authority"}},
		{"one refuses", "example." + hosted, []netip.AddrPort{refusing}, nil, []string{"answers REFUSED"}},
		{"one is silent", "example." + hosted, []netip.AddrPort{now, silent}, alias, []string{silent.String() + ": no answer"}},
		{"none", "example." + hosted, nil, nil, []string{"no server of the zones is configured"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dnspublish.Checker{Servers: tc.servers, Timeout: 30 * time.Second}
			if slices.Contains(tc.servers, silent) {
				c.Timeout = 300 * time.Millisecond
			}
			wanted := append([]postern.Record{}, tc.wanted...)
			got, contradicted := c.Differs(t.Context(), tc.host, tc.wanted)
			if (got == "") != (len(tc.want) == 0) {
				t.Errorf("says %q", got)
			}
			if contradicted != strings.Contains(got, " says ") {
				t.Errorf("contradicted is %v of %q", contradicted, got)
			}
			for _, part := range tc.want {
				if !strings.Contains(got, part) {
					t.Errorf("%q is not in %q", part, got)
				}
			}
			if diff := cmp.Diff(wanted, append([]postern.Record{}, tc.wanted...)); diff != "" {
				t.Errorf("it changed what was wanted: %s", diff)
			}
		})
	}
}

// The servers are asked side by side, and not for longer than the caller has
// time.
func TestAskEnds(t *testing.T) {
	silent := answering(t, func(m *dns.Msg) { m.Id = 0 })
	c := dnspublish.Checker{Servers: []netip.AddrPort{silent, silent, silent, silent, silent}, Timeout: time.Second}
	start := time.Now()
	if d, contradicted := c.Differs(t.Context(), "example."+hosted, nil); contradicted || strings.Count(d, "no answer") != 5 {
		t.Error(d)
	}
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("took %v: one after the other", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start = time.Now()
	c.Timeout = time.Minute
	if d, _ := c.Differs(ctx, "example."+hosted, nil); !strings.Contains(d, "no answer") {
		t.Error(d)
	}
	if time.Since(start) > 10*time.Second {
		t.Error("it goes on after the caller has gone")
	}
}
