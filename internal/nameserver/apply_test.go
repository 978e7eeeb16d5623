package nameserver_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/nameserver"
)

// saying are zones whose records tell their revision.
func saying(revision int64) postern.Zones {
	text := one("TXT", 1, fmt.Sprint(revision))
	return postern.Zones{Revision: revision, Zones: map[string]postern.Zone{
		hosted: {Records: map[string][]postern.Record{
			"a." + hosted: one("CNAME", 1, "b."+hosted),
			"b." + hosted: text,
		}},
	}}
}

func (w *world) said(t testing.TB) string {
	t.Helper()
	r := w.ask(t, "udp", "b."+hosted, dns.TypeTXT)
	if len(r.Answer) != 1 {
		t.Fatalf("answer %v", r)
	}
	return r.Answer[0].(*dns.TXT).Txt[0]
}

func (w *world) serial(t testing.TB) uint32 {
	t.Helper()
	return w.ask(t, "udp", hosted, dns.TypeSOA).Answer[0].(*dns.SOA).Serial
}

func TestApply(t *testing.T) {
	w := serve(t, saying(5))
	bad := saying(9)
	bad.Zones[hosted].Records[hosted] = one("CNAME", 1, "elsewhere.example.org")
	for _, step := range []struct {
		what    string
		zones   postern.Zones
		applied bool
		invalid bool
		said    string
	}{
		{"older", saying(4), false, false, "5"},
		{"the same", saying(5), false, false, "5"},
		{"newer", saying(6), true, false, "6"},
		{"newer and not sound", bad, false, true, "6"},
		{"much newer", saying(600), true, false, "600"},
		{"without the zone", postern.Zones{Revision: 601}, true, false, ""},
		{"with it again", saying(602), true, false, "602"},
	} {
		applied, err := w.Apply(step.zones)
		if applied != step.applied || (err != nil) != step.invalid {
			t.Errorf("%s: applied %v, error %v", step.what, applied, err)
		}
		if err != nil && postern.CodeOf(err) != postern.CodeInvalid {
			t.Errorf("%s: code %s", step.what, postern.CodeOf(err))
		}
		if step.said == "" {
			if got := show(w.ask(t, "udp", "b."+hosted, dns.TypeTXT)); got != "REFUSED rd" {
				t.Errorf("%s: %s", step.what, got)
			}
			continue
		}
		if got := w.said(t); got != step.said || fmt.Sprint(w.serial(t)) != step.said {
			t.Errorf("%s: revision %s and serial %d in force, want %s", step.what, got, w.serial(t), step.said)
		}
		if r, ok := w.Revision(); !ok || fmt.Sprint(r) != step.said {
			t.Errorf("%s: revision %d, %v", step.what, r, ok)
		}
	}
}

// The zones given are copied: who gave them may go on with them.
func TestApplyCopies(t *testing.T) {
	z := saying(5)
	w := serve(t, z)
	z.Zones[hosted].Records["b."+hosted][0].Value = "changed"
	delete(z.Zones, hosted)
	if got := w.said(t); got != "5" {
		t.Error(got)
	}
}

func TestSerialNeverRegresses(t *testing.T) {
	w := serve(t, saying(1))
	last := w.serial(t)
	for _, revision := range []int64{
		2, 3, 1 << 31, 1<<31 + 5, 1<<32 - 1, 1 << 32, 1<<32 + 1, // round the end of 32 bits
		1 << 40, 1<<40 + 1, 1<<40 + 1<<32, 3 << 41, 3<<41 + 1<<31 + 1, // jumps
		math.MaxInt64 - 1, math.MaxInt64,
	} {
		if ok, err := w.Apply(saying(revision)); !ok || err != nil {
			t.Fatalf("revision %d: %v, %v", revision, ok, err)
		}
		serial := w.serial(t)
		if ahead := serial - last; ahead == 0 || ahead >= 1<<31 { // RFC 1982 §3.2
			t.Errorf("revision %d: serial %d is not newer than %d", revision, serial, last)
		}
		last = serial
	}
}

// Every answer is of one revision, though tables change meanwhile.
func TestApplyIsAtomic(t *testing.T) {
	w := serve(t, twins(1))
	var asking sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				r := w.ask(t, "udp", "twin."+hosted, dns.TypeTXT)
				if len(r.Answer) != 2 || r.Answer[0].(*dns.TXT).Txt[0][1:] != r.Answer[1].(*dns.TXT).Txt[0][1:] {
					t.Errorf("mixed: %v", r.Answer)
					return
				}
			}
		})
	}
	for revision := int64(2); revision <= 300; revision++ {
		if ok, err := w.Apply(twins(revision)); !ok || err != nil {
			t.Errorf("apply: %v, %v", ok, err)
		}
	}
	close(done)
	asking.Wait()
}

func twins(revision int64) postern.Zones {
	z := saying(revision)
	z.Zones[hosted].Records["twin."+hosted] = one("TXT", 1, fmt.Sprint("a", revision), fmt.Sprint("b", revision))
	return z
}

// A tenant may have a name that is also the nameserver's: its zone must not
// fail for that, but somebody should know.
func TestNameserverNameTaken(t *testing.T) {
	var log bytes.Buffer
	z := saying(1)
	z.Zones[hosted].Records["ns."+hosted] = one("CNAME", 1, "ns."+private)
	w := serve(t, z, func(c *nameserver.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if got := w.said(t); got != "1" {
		t.Error(got)
	}
	if !strings.Contains(log.String(), "name=ns."+hosted) {
		t.Errorf("log: %s", log.String())
	}
}

func TestConfig(t *testing.T) {
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		name   string
		change func(*nameserver.Config)
		field  string // "": accepted
	}{
		{"as it is", func(*nameserver.Config) {}, ""},
		{"no address", func(c *nameserver.Config) { c.Listen = nil }, "listen"},
		{"an address that is none", func(c *nameserver.Config) { c.Listen = append(c.Listen, netip.AddrPort{}) }, "listen[1]"},
		{"negative TTL of a minute", func(c *nameserver.Config) { c.NegativeTTL = time.Minute }, ""},
		{"negative TTL of more", func(c *nameserver.Config) { c.NegativeTTL = 61 * time.Second }, "negative_ttl"},
		{"negative TTL of part of a second", func(c *nameserver.Config) { c.NegativeTTL = 1500 * time.Millisecond }, "negative_ttl"},
		{"negative TTL that is negative", func(c *nameserver.Config) { c.NegativeTTL = -time.Second }, "negative_ttl"},
		{"negative timeout", func(c *nameserver.Config) { c.Timeout = -1 }, "timeout"},
		{"negative idle timeout", func(c *nameserver.Config) { c.IdleTimeout = -1 }, "idle_timeout"},
		{"negative bound", func(c *nameserver.Config) { c.MaxConnections = -1 }, "max_connections"},
		{"negative bound per source", func(c *nameserver.Config) { c.MaxPerSource = -1 }, "max_per_source"},
		{"nameservers", func(c *nameserver.Config) {
			c.Nameservers = []nameserver.Nameserver{{Host: "a.example.net", Addresses: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")}}, {Host: "b.example.net"}}
		}, ""},
		{"a nameserver's name with a dot at its end", func(c *nameserver.Config) { c.Nameservers = []nameserver.Nameserver{{Host: "a.example.net."}} }, "nameservers[0].host"},
		{"a nameserver twice", func(c *nameserver.Config) { c.Nameservers = []nameserver.Nameserver{{}, {}} }, "nameservers[1].host"},
		{"no address of a nameserver", func(c *nameserver.Config) {
			c.Nameservers = []nameserver.Nameserver{{Addresses: []netip.Addr{addr("0.0.0.0")}}}
		}, "nameservers[0].addresses[0]"},
		{"an address twice", func(c *nameserver.Config) {
			c.Nameservers = []nameserver.Nameserver{{Addresses: []netip.Addr{addr("192.0.2.1"), addr("192.0.2.1")}}}
		}, "nameservers[0].addresses[1]"},
	} {
		c := config(prometheus.NewRegistry())
		tt.change(&c)
		_, err := nameserver.New(c)
		var e *postern.Error
		switch errors.As(err, &e); {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.field != "" && (e == nil || e.Field != tt.field || e.Fix == ""):
			t.Errorf("%s: error %v, want one about %s with a fix", tt.name, err, tt.field)
		}
	}
	for name, change := range map[string]func(*nameserver.Config){
		"logger":     func(c *nameserver.Config) { c.Logger = nil },
		"registerer": func(c *nameserver.Config) { c.Registerer = nil },
	} {
		c := config(prometheus.NewRegistry())
		change(&c)
		if _, err := nameserver.New(c); err == nil {
			t.Errorf("accepted without a %s", name)
		}
	}
	c := config(prometheus.NewRegistry())
	if _, err := nameserver.New(c); err != nil {
		t.Fatal(err)
	}
	if _, err := nameserver.New(c); err == nil {
		t.Error("two on one registry")
	}
}

func TestNegativeTTL(t *testing.T) {
	w := serve(t, zones(), func(c *nameserver.Config) { c.NegativeTTL = 5 * time.Second })
	soa := w.ask(t, "udp", "nobody."+hosted, dns.TypeA).Ns[0].(*dns.SOA)
	if soa.Minttl != 5 || soa.Hdr.Ttl != 5 {
		t.Errorf("TTL %d, minimum %d; want 5", soa.Hdr.Ttl, soa.Minttl)
	}
}
