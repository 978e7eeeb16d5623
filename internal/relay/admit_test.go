package relay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/proxyproto"
	"github.com/postern-net/postern/internal/relay"
)

func TestAdmits(t *testing.T) { onEach(t, testAdmits) }

func testAdmits(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	judged := make(chan relay.Arrival, 1)
	p := start(t, setup{kind: kind, proxied: true, sources: []netip.Prefix{local}, match: func(a *relay.Arrival) relay.Verdict {
		first := *a
		first.HelloBytes = bytes.Clone(a.HelloBytes) // it must not be kept
		judged <- first
		return relay.Verdict{Backends: []netip.AddrPort{b.addr}, Prologue: []byte("prologue"), Organization: "example-corp", Tenant: "example"}
	}})
	c := dial(t, p.addr)
	h := hello(t, host, "h2")
	send(t, c, slices.Concat(header(), h, []byte("and more")))
	s := b.accept(t)
	expect(t, s, slices.Concat([]byte("prologue"), h, []byte("and more")))
	send(t, s, []byte("answer"))
	expect(t, c, []byte("answer"))
	must(t, c.Close())
	expectEOF(t, s)
	must(t, s.Close())

	a := <-judged
	if !bytes.Equal(a.HelloBytes, slices.Concat(h, []byte("and more"))) {
		t.Errorf("judged by %d bytes of hello", len(a.HelloBytes))
	}
	if a.Hello.ServerName != host || a.Listener != "test" {
		t.Errorf("judged by %+v", a)
	}
	want := proxyproto.Header{Source: clientAddr, Destination: targetAddr, VPCEndpointID: vpceID}
	if a.Proxy != want || a.Client() != clientAddr || a.Target() != targetAddr {
		t.Errorf("judged by header %+v", a.Proxy)
	}
	if a.Peer.Addr() != netip.MustParseAddr("127.0.0.1") || a.Local.String() != p.addr {
		t.Errorf("judged by addresses %v, %v", a.Peer, a.Local)
	}
	p.wait(t, "opened", 1)
	r := p.wait(t, "closed", 1)[0]
	if r.stats.Up != int64(len(h)+len("and more")) || r.stats.Down != 6 || r.stats.Backend != b.addr || r.verdict.Organization != "example-corp" || r.verdict.Tenant != "example" {
		t.Errorf("closed with %+v, %+v", r.stats, r.verdict)
	}
	if r.stats.End != relay.EndFinished || r.stats.Duration <= 0 {
		t.Errorf("closed with %+v", r.stats)
	}
}

func expectEOF(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
		t.Fatalf("%d bytes and %v instead of the end", n, err)
	}
}

// A real TLS client and server through a listener without PROXY headers.
func TestAdmitsTLS(t *testing.T) { onEach(t, testAdmitsTLS) }

func testAdmitsTLS(t *testing.T, kind relay.Kind) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(server.Close)
	p := start(t, setup{kind: kind, match: func(a *relay.Arrival) relay.Verdict {
		if a.Hello.ServerName != "example.com" {
			return relay.Verdict{Deny: postern.DenyUnknownHost}
		}
		return relay.Verdict{Backends: []netip.AddrPort{netip.MustParseAddrPort(server.Listener.Addr().String())}}
	}})
	client := server.Client()
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", p.addr)
	}
	defer client.CloseIdleConnections()
	body := strings.Repeat("0123456789", 100_000)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://example.com/", strings.NewReader(body))
	must(t, err)
	res, err := client.Do(req)
	must(t, err)
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || string(got) != body {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	req, err = http.NewRequestWithContext(t.Context(), http.MethodGet, "https://www.example.com/", nil)
	must(t, err)
	if res, err := client.Do(req); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("another name gave %v, %v", res, err)
	}
}

func TestArrivalWithoutHeader(t *testing.T) {
	t.Parallel()
	a := relay.Arrival{Peer: clientAddr, Local: targetAddr}
	if a.Client() != clientAddr || a.Target() != targetAddr {
		t.Errorf("client %v, target %v", a.Client(), a.Target())
	}
}

// Header and hello arrive in the smallest pieces that there are.
func TestSplit(t *testing.T) { onEach(t, testSplit) }

func testSplit(t *testing.T, kind relay.Kind) {
	t.Parallel()
	h := hello(t, host)
	prepare := func(t *testing.T) (*proxy, *backend) {
		t.Parallel()
		b := listen(t)
		return start(t, setup{kind: kind, proxied: true, sources: []netip.Prefix{local}, match: to(b.addr)}), b
	}
	t.Run("byte by byte", func(t *testing.T) {
		p, b := prepare(t)
		c := dial(t, p.addr)
		for _, x := range append(header(), h...) {
			send(t, c, []byte{x})
		}
		expect(t, b.accept(t), h)
	})
	t.Run("header alone", func(t *testing.T) {
		p, b := prepare(t)
		c := dial(t, p.addr)
		send(t, c, header())
		send(t, c, h)
		expect(t, b.accept(t), h)
	})
	t.Run("larger than the first buffer", func(t *testing.T) {
		p, b := prepare(t)
		large := hello(t, host, slices.Repeat([]string{strings.Repeat("p", 200)}, 60)...)
		c := dial(t, p.addr)
		send(t, c, slices.Concat(header(), large))
		expect(t, b.accept(t), large)
	})
}

func TestFailOver(t *testing.T) { onEach(t, testFailOver) }

func testFailOver(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, match: to(free(t), free(t), b.addr)})
	c, s := connect(t, p, b)
	send(t, s, []byte("answer"))
	expect(t, c, []byte("answer"))
	_ = c.Close()
	_ = s.Close()
	if r := p.wait(t, "closed", 1)[0]; r.stats.Backend != b.addr {
		t.Errorf("backend %v, want %v", r.stats.Backend, b.addr)
	}
}

func TestLimit(t *testing.T) { onEach(t, testLimit) }

func testLimit(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, config: relay.Config{MaxConnections: 2, MaxPerClient: 2}, match: to(b.addr)})
	c1, _ := connect(t, p, b)
	connect(t, p, b)
	over := dial(t, p.addr)
	expectRefusal(t, over)
	if r := p.wait(t, "refused", 1)[0]; r.verdict.Deny != postern.DenyOverload {
		t.Errorf("refused for %q", r.verdict.Deny)
	}
	must(t, c1.SetLinger(0))
	must(t, c1.Close())
	p.wait(t, "closed", 1)
	for p.Connections() > 1 { // the record comes a moment before the place is free
		p.waitBriefly(t)
	}
	connect(t, p, b)
}

func (p *proxy) waitBriefly(t *testing.T) {
	t.Helper()
	select {
	case <-time.After(time.Millisecond):
	case <-t.Context().Done():
		t.Fatal("test ended")
	}
}

// failing is a listener that fails some times before it works.
type failing struct {
	*net.TCPListener
	errs  chan error
	tries chan struct{}
}

func (f *failing) AcceptTCP() (*net.TCPConn, error) {
	select {
	case err := <-f.errs:
		f.tries <- struct{}{}
		return nil, err
	default:
		return f.TCPListener.AcceptTCP()
	}
}

func TestAcceptSurvivesExhaustion(t *testing.T) { onEach(t, testAcceptSurvivesExhaustion) }

func testAcceptSurvivesExhaustion(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	var log strings.Builder
	e := relay.New(relay.Config{Kind: kind, Logger: newLogger(&log)})
	ln, err := e.Listen(t.Context(), "127.0.0.1:0")
	must(t, err)
	f := &failing{TCPListener: ln, errs: make(chan error, 3), tries: make(chan struct{}, 3)}
	for _, err := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED} {
		f.errs <- &net.OpError{Op: "accept", Err: err}
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(relay.Listener{Acceptor: f, Name: "test"}, to(b.addr), newRecorder()) }()
	c := dial(t, ln.Addr().String())
	h := hello(t, host)
	send(t, c, h)
	backend := b.accept(t)
	expect(t, backend, h)
	if len(f.tries) != 3 {
		t.Errorf("%d of 3 failures met", len(f.tries))
	}
	must(t, c.Close())
	must(t, backend.Close())
	shutdown(t, e)
	must(t, <-served)
	if n := strings.Count(log.String(), "cannot accept"); n != 1 {
		t.Errorf("logged %d times: %s", n, log.String())
	}
}

// What the network did to one connection ends no listener.
func TestAcceptSurvivesTheNetwork(t *testing.T) { onEach(t, testAcceptSurvivesTheNetwork) }

func testAcceptSurvivesTheNetwork(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b, h := listen(t), hello(t, host)
	for _, errno := range []syscall.Errno{
		syscall.EPERM, syscall.ENETDOWN, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.EOPNOTSUPP, syscall.ENETUNREACH,
	} {
		e := relay.New(relay.Config{Kind: kind})
		ln, err := e.Listen(t.Context(), "127.0.0.1:0")
		must(t, err)
		f := &failing{TCPListener: ln, errs: make(chan error, 1), tries: make(chan struct{}, 1)}
		f.errs <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", errno)}
		served := make(chan error, 1)
		go func() { served <- e.Serve(relay.Listener{Acceptor: f, Name: "test"}, to(b.addr), newRecorder()) }()
		<-f.tries
		c := dial(t, ln.Addr().String())
		send(t, c, h)
		select {
		case s := <-b.conns:
			must(t, s.Close())
		case err := <-served:
			t.Fatalf("%v ended the listener: %v", errno, err)
		case <-time.After(patience):
			t.Fatalf("%v: not served", errno)
		}
		must(t, c.Close())
		shutdown(t, e)
		must(t, <-served)
	}
}

func TestServeReportsADeadListener(t *testing.T) { onEach(t, testServeReportsADeadListener) }

func testServeReportsADeadListener(t *testing.T, kind relay.Kind) {
	t.Parallel()
	e := relay.New(relay.Config{Kind: kind})
	ln, err := e.Listen(t.Context(), "127.0.0.1:0")
	must(t, err)
	must(t, ln.Close())
	if err := e.Serve(relay.Listener{Acceptor: ln, Name: "test"}, to(), newRecorder()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
	shutdown(t, e)
	ln, err = e.Listen(t.Context(), "127.0.0.1:0")
	must(t, err)
	if err := e.Serve(relay.Listener{Acceptor: ln, Name: "test"}, to(), newRecorder()); !errors.Is(err, relay.ErrShutdown) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func TestListenReportsABadAddress(t *testing.T) { onEach(t, testListenReportsABadAddress) }

func testListenReportsABadAddress(t *testing.T, kind relay.Kind) {
	t.Parallel()
	if _, err := relay.New(relay.Config{Kind: kind}).Listen(t.Context(), "192.0.2.1:1"); err == nil {
		t.Error("listening on another machine's address")
	}
}
