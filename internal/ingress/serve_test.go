package ingress_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/ingress"
	"github.com/postern-net/postern/internal/proxyproto"
	"github.com/postern-net/postern/internal/relay"
)

const alert = "\x15\x03\x01\x00\x02\x02\x31"

// lines is a writer for the access log that may be read meanwhile.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) records(t *testing.T) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []map[string]any
	for line := range strings.Lines(l.b.String()) {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// door is an ingress on real sockets with one backend for all hosts, which
// answers with what it was told about the connection.
type door struct {
	*ingress.Ingress
	registry        *prometheus.Registry
	log             *lines
	private, public string
	backend         netip.AddrPort
}

func open(t *testing.T) *door {
	t.Helper()
	d := &door{registry: prometheus.NewRegistry(), log: &lines{}}
	engine := relay.New(relay.Config{})
	var err error
	d.Ingress, err = ingress.New(ingress.Config{Region: region, Engine: engine, Logger: slog.New(slog.NewJSONHandler(d.log, nil)), Registerer: d.registry})
	if err != nil {
		t.Fatal(err)
	}
	d.backend = tell(t)
	var serving sync.WaitGroup
	serve := func(f func(relay.Acceptor) error) string {
		ln, err := engine.Listen(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		serving.Go(func() {
			if err := f(ln); err != nil {
				t.Error(err)
			}
		})
		return ln.Addr().String()
	}
	d.private = serve(func(ln relay.Acceptor) error {
		return d.ServePrivate(ln, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	})
	d.public = serve(d.ServePublic)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 100*time.Millisecond)
		defer cancel()
		_ = engine.Shutdown(ctx) // what is cut is for the test to know
		serving.Wait()
	})
	return d
}

// tell answers every connection with the PROXY header that it came with, and
// keeps it open.
func tell(t *testing.T) netip.AddrPort {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				b, err := r.Peek(proxyproto.FixedSize)
				if err != nil {
					return
				}
				n, err := proxyproto.Size(b)
				if err != nil {
					return
				}
				head := make([]byte, n)
				if _, err := io.ReadFull(r, head); err != nil {
					return
				}
				if _, err := c.Write(head); err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		conns.Wait()
	})
	return netip.MustParseAddrPort(ln.Addr().String())
}

func (d *door) routes(revision int64) postern.Routes {
	r := routes(revision)
	for n, h := range r.Hosts {
		h.Backends = []netip.AddrPort{d.backend}
		if h.Shared {
			h.Backends, h.RegionBackends = nil, map[string][]netip.AddrPort{region: h.Backends}
		}
		r.Hosts[n] = h
	}
	return r
}

type sink struct {
	net.Conn
	out bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error) { return s.out.Write(b) }
func (*sink) Read([]byte) (int, error)      { return 0, io.EOF }
func (*sink) Close() error                  { return nil }

func hello(t *testing.T, name string) []byte {
	t.Helper()
	s := &sink{}
	if err := tls.Client(s, &tls.Config{ServerName: name, InsecureSkipVerify: name == ""}).HandshakeContext(t.Context()); err == nil {
		t.Fatal("handshake with nobody succeeded")
	}
	return s.out.Bytes()
}

// ask connects, sends and returns the connection and what came back: a header
// as the backend got it, or nothing but the alert.
func ask(t *testing.T, addr string, b []byte) (net.Conn, *proxyproto.Header) {
	t.Helper()
	var dialer net.Dialer
	c, err := dialer.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	var got []byte
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if h, _, perr := proxyproto.Parse(got); perr == nil {
			return c, &h
		}
		if err == nil {
			continue
		}
		if string(got) != alert || !errors.Is(err, io.EOF) {
			t.Fatalf("read %q, %v", got, err)
		}
		return c, nil
	}
}

// Every endpoint asks for every host over real connections, and the backend
// is told what was admitted.
func TestEveryEndpointAsksForEveryHost(t *testing.T) {
	t.Parallel()
	d := open(t)
	r := d.routes(1)
	apply(t, d.Ingress, r)
	for _, name := range append(slices.Sorted(maps.Keys(r.Hosts)), "nobody.example") {
		h := hello(t, name)
		for _, id := range append(slices.Sorted(maps.Keys(r.Endpoints)), strangerID, "") {
			g := r.Endpoints[id]
			granted := g.Region == region && slices.Contains(g.Hosts, name)
			_, got := ask(t, d.private, append(proxyproto.AppendAWS(nil, client, target, id), h...))
			want := proxyproto.Header{Source: client, Destination: target, VPCEndpointID: id, Authority: name, Organization: g.Organization}
			if (got != nil) != granted || got != nil && *got != want {
				t.Errorf("%s through %q: the backend was told %+v; granted %v", name, id, got, granted)
			}
		}
		c, got := ask(t, d.public, h)
		source := netip.MustParseAddrPort(c.LocalAddr().String())
		want := proxyproto.Header{Source: source, Destination: netip.MustParseAddrPort(d.public), Authority: name, Organization: r.Hosts[name].Organization}
		if public := r.Hosts[name].Public; (got != nil) != public || got != nil && *got != want {
			t.Errorf("%s publicly: the backend was told %+v; public %v", name, got, public)
		}
	}
}

// A new table cuts what it does not grant, and nothing else.
func TestApplyCuts(t *testing.T) {
	t.Parallel()
	d := open(t)
	apply(t, d.Ingress, d.routes(1))
	through := func(id string) []byte { return append(proxyproto.AppendAWS(nil, client, target, id), hello(t, dev)...) }
	kept, got := ask(t, d.private, through(devID))
	lost, got2 := ask(t, d.private, through(exampleID))
	if got == nil || got2 == nil {
		t.Fatal("not admitted")
	}
	r := d.routes(2)
	delete(r.Endpoints, exampleID)
	apply(t, d.Ingress, r)
	if _, err := lost.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("the endpoint that is gone: %v", err)
	}
	_ = kept.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := kept.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("the other endpoint: %v", err)
	}
	if _, got := ask(t, d.private, through(exampleID)); got != nil {
		t.Error("the endpoint that is gone is admitted again")
	}
}

func TestWithdrawCuts(t *testing.T) {
	t.Parallel()
	d := open(t)
	apply(t, d.Ingress, d.routes(1))
	lost, got := ask(t, d.private, append(proxyproto.AppendAWS(nil, client, target, devID), hello(t, dev)...))
	if got == nil {
		t.Fatal("not admitted")
	}
	d.Withdraw()
	if _, err := lost.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("an open connection: %v", err)
	}
}

func TestLogAndMetrics(t *testing.T) {
	t.Parallel()
	d := open(t)
	apply(t, d.Ingress, d.routes(7))
	through := func(id string) []byte {
		return append(proxyproto.AppendAWS(nil, client, target, id), hello(t, example)...)
	}
	ask(t, d.private, through(globexID))
	ask(t, d.private, append(proxyproto.AppendAWS(nil, client, target, globexID), "GET /"...))
	c, _ := ask(t, d.private, through(exampleID))
	_ = c.Close()
	_, _ = ask(t, d.public, hello(t, example))

	deadline := time.After(30 * time.Second)
	for len(d.log.records(t)) < 5 {
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatalf("log: %v", d.log.records(t))
		}
	}
	type line struct{ msg, listener, id, host, organization, reason, end string }
	got := map[line]bool{}
	for _, m := range d.log.records(t) {
		text := func(k string) string { s, _ := m[k].(string); return s }
		got[line{text("msg"), text("listener"), text("vpc_endpoint_id"), text("host"), text("organization"), text("reason"), text("end")}] = true
		if m["msg"] == "connection closed" && (m["bytes_up"] == 0.0 || m["bytes_down"] == 0.0 || m["duration"] == 0.0 || m["backend"] != d.backend.String() || m["client"] != client.String()) {
			t.Errorf("closed with %v", m)
		}
		if form := regexp.MustCompile(`^t13d\d{4}00_[0-9a-f]{12}_[0-9a-f]{12}$`); form.MatchString(text("ja4")) != (text("host") != "" && m["msg"] != "connection closed") {
			t.Errorf("a fingerprint %q in %v", text("ja4"), m)
		}
		if m["reason"] == "not_tls" && !strings.Contains(text("cause"), "not TLS") {
			t.Errorf("refused with %v", m)
		}
	}
	for _, want := range []line{
		{"connection refused", "private", globexID, example, "globex", "not_authorized", ""},
		{"connection refused", "private", globexID, "", "globex", "not_tls", ""},
		{"connection refused", "public", "", example, "example-corp", "not_public", ""},
		{"connection opened", "private", exampleID, example, "example-corp", "", ""},
		{"connection closed", "private", exampleID, example, "example-corp", "", "finished"},
	} {
		if !got[want] {
			t.Errorf("no record %+v in %v", want, got)
		}
	}
	values := gather(t, d.registry)
	for series, want := range map[string]float64{
		`postern_ingress_connections_total listener=private result=admitted`:   1,
		`postern_ingress_connections_total listener=private result=probe`:      0,
		`postern_ingress_connections_total listener=private result=refused`:    2,
		`postern_ingress_connections_total listener=public result=refused`:     1,
		`postern_ingress_denials_total listener=private reason=not_authorized`: 1,
		`postern_ingress_denials_total listener=private reason=overload`:       0,
		`postern_ingress_denials_total listener=public reason=not_public`:      1,
		`postern_ingress_open_connections listener=private`:                    0,
		`postern_ingress_table_revision`:                                       7,
	} {
		if got, ok := values[series]; !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", series, got, ok, want)
		}
	}
	if up := values["postern_ingress_bytes_total direction=up listener=private"]; up == 0 {
		t.Errorf("no bytes counted: %v", values)
	}
}

// gather gives every series with its value.
func gather(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			series := f.GetName()
			for _, l := range m.GetLabel() {
				series += " " + l.GetName() + "=" + l.GetValue()
			}
			values[series] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return values
}

func TestPublicBehindALoadBalancer(t *testing.T) {
	t.Parallel()
	d := open(t)
	engine := relay.New(relay.Config{})
	ln, err := engine.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in := newIngress(t, engine)
	apply(t, in, d.routes(1))
	served := make(chan error, 1)
	go func() { served <- in.ServePublicProxied(ln, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}) }()
	for _, tc := range []struct {
		name string
		send []byte
		want bool
	}{
		{"with a header", append(proxyproto.AppendAWS(nil, peer, target, ""), hello(t, globex)...), true},
		{"without", hello(t, globex), false},
		{"through an endpoint", append(proxyproto.AppendAWS(nil, peer, target, globexID), hello(t, globex)...), false},
		{"private host", append(proxyproto.AppendAWS(nil, peer, target, ""), hello(t, example)...), false},
	} {
		c, got := ask(t, ln.Addr().String(), tc.send)
		if (got != nil) != tc.want || got != nil && got.Source != peer {
			t.Errorf("%s: the backend was told %+v", tc.name, got)
		}
		_ = c.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := engine.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
