package scim_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/scim"
)

const otherHost = "other.scim.example.com"

// startTwo has two organizations' hosts behind one door.
func startTwo(t *testing.T, change func(*scim.Limits)) *world {
	t.Helper()
	w := start(t, func(c *scim.Config) { change(&c.Limits) })
	other := w.route()
	other.Tenant, other.Organization = "other", "globex"
	w.applyAll(map[string]postern.SCIMRoute{host: w.route(), otherHost: other})
	return w
}

// send sends a request over HTTP/1.1.
func send(c io.Writer, name string) {
	_, _ = fmt.Fprintf(c, "GET /scim/v2/Users HTTP/1.1\r\nHost: %s\r\n\r\n", name)
}

// ask sends one on a connection from an address, and tells what it was answered.
func (w *world) ask(c *tls.Conn, name string) (int, error) {
	send(c, name)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func (w *world) mustDialFrom(client, name string) *tls.Conn {
	w.t.Helper()
	c, err := w.dialFrom(client, name, "http/1.1")
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// Identity providers serve many organizations from the same addresses: what is
// sent to one tenant from there is not counted against another.
func TestRatesAreOfOneHost(t *testing.T) {
	t.Parallel()
	w := startTwo(t, func(l *scim.Limits) { l.RequestsPerSecond = 0.5 })
	c, limited := w.mustDialFrom("127.0.0.1", host), false
	for range 4 {
		code, err := w.ask(c, host)
		if err != nil {
			t.Fatal(err)
		}
		limited = limited || code == http.StatusTooManyRequests
	}
	if !limited {
		t.Error("the client's rate has no end")
	}
	if code, err := w.ask(w.mustDialFrom("127.0.0.1", otherHost), otherHost); code != http.StatusOK {
		t.Errorf("another organization's tenant from the same address: %d, %v", code, err)
	}
}

// One address has a rate for all hosts together, of connections too.
func TestRateOfAnAddress(t *testing.T) {
	t.Parallel()
	w := startTwo(t, func(l *scim.Limits) { l.RequestsPerSecond = 0.25 }) // eight times that in four seconds: 8
	refused := 0
	for range 10 {
		if _, err := w.dialFrom("127.0.0.1", "nobody.scim.example.com"); err == nil {
			t.Fatal("a host of nobody is served")
		}
		refused++
	}
	d := w.denials()
	if d[postern.DenyRate] < 1 || d[postern.DenyUnknownHost] < 8 || d[postern.DenyRate]+d[postern.DenyUnknownHost] != int64(refused) {
		t.Errorf("counted as %v", d)
	}
	if code, err := w.ask(w.mustDialFrom("127.0.0.2", host), host); code != http.StatusOK {
		t.Errorf("another address: %d, %v", code, err)
	}
}

// All clients together have a rate, so that a tenant's app is not asked for more
// by many addresses.
func TestRateOfAHost(t *testing.T) {
	t.Parallel()
	w := startTwo(t, func(l *scim.Limits) { l.RequestsPerSecond = 0.25 }) // one request of a client, four of a host
	codes := map[int]int{}
	for i := range 8 {
		code, err := w.ask(w.mustDialFrom(fmt.Sprintf("127.0.0.%d", i+1), host), host)
		if err != nil {
			t.Fatal(err)
		}
		codes[code]++
	}
	if codes[200] < 4 || codes[429] < 1 || codes[200]+codes[429] != 8 || len(w.app.requests()) != codes[200] {
		t.Errorf("answered %v, and the app got %d", codes, len(w.app.requests()))
	}
	if code, err := w.ask(w.mustDialFrom("127.0.0.1", otherHost), otherHost); code != http.StatusOK {
		t.Errorf("another tenant: %d, %v", code, err)
	}
}

// Connections that ask for nothing keep nobody out: neither others' identity
// providers nor the tenant's own.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	w := startTwo(t, func(l *scim.Limits) { l.MaxConnections = 40 })
	calm := w.mustDialFrom("127.0.0.8", otherHost) // idle for longest, but of a host that has few
	var idle []*tls.Conn
	for i := range 40 {
		idle = append(idle, w.mustDialFrom(fmt.Sprintf("127.0.0.%d", i/10+1), host))
	}
	for _, name := range []string{otherHost, host} {
		if code, err := w.ask(w.mustDialFrom("127.0.0.9", name), name); code != http.StatusOK {
			t.Errorf("%s: %d, %v", name, code, err)
		}
	}
	if code, err := w.ask(calm, otherHost); code != http.StatusOK {
		t.Errorf("the other host's connection: %d, %v", code, err)
	}
	if _, err := idle[0].Read(make([]byte, 1)); !isClosed(err) {
		t.Errorf("the connection that was idle for longest: %v", err)
	}
	if code, err := w.ask(idle[39], host); code != http.StatusOK {
		t.Errorf("the one that was idle for shortest: %d, %v", code, err)
	}
}

// An answer that is on its way arrives, also when its connection makes room.
func TestAnswersArriveFromWhatMakesRoom(t *testing.T) {
	t.Parallel()
	const size = 100_000
	w := startTwo(t, func(l *scim.Limits) { l.MaxConnections = 4 }) // one of a client
	w.door.LingerFor(2 * patience)
	w.app.mu.Lock()
	w.app.serve = func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = rw.Write(make([]byte, size))
	}
	w.app.mu.Unlock()
	slow := w.mustDialFrom("127.0.0.1", host)
	takes := func(octets int) {
		t.Helper()
		if err := slow.NetConn().(*net.TCPConn).SetReadBuffer(octets); err != nil {
			t.Fatal(err)
		}
	}
	takes(4096) // so that most waits on the other side
	send(slow, host)
	until(t, "the request has ended", func() bool { return strings.Contains(w.logged(), `"status":200`) })
	until(t, "it makes room", func() bool { _, err := w.dialFrom("127.0.0.1", otherHost, "http/1.1"); return err == nil })
	takes(1 << 20)
	resp, err := http.ReadResponse(bufio.NewReader(slow), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Errorf("%d of %d octets arrived, %v", n, size, err)
	}
	_ = resp.Body.Close()
}

// When it has arrived, the connection goes.
func TestWhatMadeRoomIsGone(t *testing.T) {
	t.Parallel()
	w := startTwo(t, func(l *scim.Limits) { l.MaxConnections = 4 }) // one of a client
	c := w.mustDialFrom("127.0.0.1", host)
	if code, err := w.ask(c, host); code != http.StatusOK {
		t.Fatal(code, err)
	}
	w.mustDialFrom("127.0.0.1", host)
	if _, err := c.Read(make([]byte, 1)); !isClosed(err) {
		t.Errorf("it stays: %v", err)
	}
}

// challenged is a certificate that is obtained by a challenge at the door.
type challenged struct{ shown }

func (challenged) Protocol() string { return "acme-tls/1" }

// Whoever offers only the protocol of a challenge may come from anywhere, and so
// takes no place of those who may use the host.
func TestChallengesTakeNobodysPlace(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *scim.Config) {
		c.Certificates, c.Limits.MaxConnections = challenged{c.Certificates.(shown)}, 8 // four of a host, two of a client
	})
	r := w.route()
	r.Sources = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("127.0.0.2/32")}
	w.apply(r)
	var own []*tls.Conn
	for i := range 4 {
		own = append(own, w.mustDialFrom(fmt.Sprintf("127.0.0.%d", i/2+1), host))
	}
	if _, err := w.dialFrom("127.0.0.9", host, "http/1.1"); err == nil {
		t.Error("another network is let in")
	}
	for range 4 {
		c, err := w.dialFrom("127.0.0.9", host, "acme-tls/1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil && !isClosed(err) {
			t.Error(err)
		}
	}
	for _, c := range own {
		if code, err := w.ask(c, host); code != http.StatusOK {
			t.Errorf("a connection of the identity provider: %d, %v", code, err)
		}
	}
}

// Who is refused is read from for a while. That holds nobody else up: neither
// who comes in its place, nor a new table.
func TestNobodyWaitsForWhoLingers(t *testing.T) {
	t.Parallel()
	w := startTwo(t, func(l *scim.Limits) { l.MaxConnections = 4 }) // one of a client
	w.door.LingerFor(2 * patience)
	linger := func() *tls.Conn {
		t.Helper()
		c := w.mustDialFrom("127.0.0.1", host)
		_, _ = io.WriteString(c, "\x00")
		if _, err := io.Copy(io.Discard, c); err != nil && !isClosed(err) {
			t.Fatal(err)
		}
		// TLS has ended; the connection ends towards the client when it lingers.
		if _, err := io.Copy(io.Discard, c.NetConn()); err != nil {
			t.Fatal("it does not linger: ", err)
		}
		return c
	}
	first := linger()
	second := w.mustDialFrom("127.0.0.1", host) // there is room for one
	if code, err := w.ask(w.mustDialFrom("127.0.0.9", otherHost), otherHost); code != http.StatusOK {
		t.Errorf("another client of another host: %d, %v", code, err)
	}
	until(t, "it is reset", func() bool { _, err := first.NetConn().Write([]byte{0}); return err != nil })
	_ = second.Close()
	linger()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.door.Withdraw()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("the table waits for who lingers")
		<-done
	}
}

// Connections on which a request is under way stay, and who is one too many is
// refused as everything is: of a client, of a host, of the door.
func TestConnections(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		busy    int    // connections of as many clients
		host    string // of every other one of them
		from    string // who is one too many
		to      string
		elseTo  string // whom somebody else may still ask
		mayElse bool
	}{
		"of a client": {1, host, "127.0.0.1", otherHost, otherHost, true},
		"of a host":   {2, host, "127.0.0.9", host, otherHost, true},
		"of the door": {4, otherHost, "127.0.0.9", otherHost, host, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startTwo(t, func(l *scim.Limits) { l.MaxConnections = 4 }) // one of a client, two of a host
			waiting, release := w.app.holds()
			defer release()
			for i := range tc.busy {
				to := host
				if i%2 == 1 {
					to = tc.host
				}
				send(w.mustDialFrom(fmt.Sprintf("127.0.0.%d", i+1), to), to)
			}
			until(t, "the requests are under way", func() bool { return waiting() == tc.busy })
			if _, err := w.dialFrom(tc.from, tc.to, "http/1.1"); err == nil || !strings.Contains(err.Error(), "access denied") {
				t.Errorf("one more: %v", err)
			}
			until(t, "it is counted", func() bool { return w.denials()[postern.DenyOverload] == 1 })
			if _, err := w.dialFrom("127.0.0.10", tc.elseTo, "http/1.1"); (err == nil) != tc.mayElse {
				t.Errorf("somebody else: %v", err)
			}
			release()
			until(t, "there is room again", func() bool { _, err := w.dialFrom(tc.from, tc.to, "http/1.1"); return err == nil })
		})
	}
}

// Requests that nobody ends are bounded, of a client and of a host, and so is
// what the app has to do with them.
func TestRequestsUnderWay(t *testing.T) {
	t.Parallel()
	w := startTwo(t, func(l *scim.Limits) { l.MaxRequests = 8 }) // two of a client
	var begun []*tls.Conn
	begin := func(client string) *tls.Conn {
		c := w.mustDialFrom(client, host)
		begun = append(begun, c)
		send(c, host)
		return c
	}
	waiting, release := w.app.holds()
	defer release()
	tooMany := func(c *tls.Conn) error {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
			return errors.New(resp.Status)
		}
		return nil
	}
	for range 2 {
		begin("127.0.0.1")
	}
	until(t, "they are under way", func() bool { return waiting() == 2 })
	if err := tooMany(begin("127.0.0.1")); err != nil {
		t.Errorf("the third of a client: %v", err)
	}
	for i := range 6 {
		begin(fmt.Sprintf("127.0.0.%d", i/2+2))
	}
	until(t, "they are under way", func() bool { return waiting() == 8 })
	if err := tooMany(begin("127.0.0.9")); err != nil {
		t.Errorf("the ninth of a host: %v", err)
	}
	if n := w.app.connections(); n != 8 {
		t.Errorf("%d connections to the backend", n)
	}
	c := w.mustDialFrom("127.0.0.1", otherHost)
	send(c, otherHost)
	until(t, "another host's request is under way", func() bool { return waiting() == 9 })
	release()
	for _, c := range begun {
		_ = c.Close()
	}
	until(t, "there is room again", func() bool {
		code, _ := w.ask(w.mustDialFrom("127.0.0.9", host), host)
		return code == http.StatusOK
	})
}

// Clients that send their bodies slowly keep nobody out: one that has no request
// under way gets the place of one of theirs, of whoever has most.
func TestSlowBodiesMakeRoom(t *testing.T) {
	t.Parallel()
	w := startTwo(t, func(l *scim.Limits) { l.MaxRequests, l.RequestsPerSecond = 8, 1000 }) // two of a client
	waiting, release := w.app.holds()
	defer release()
	status := func(c *tls.Conn) string {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err.Error()
		}
		_ = resp.Body.Close()
		return fmt.Sprintf("%d, again after %s", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	const tooMany = "429, again after 1"
	slow := func(client string) *tls.Conn {
		c := w.mustDialFrom(client, host)
		_, _ = io.WriteString(c, post("Content-Length: 100", "x")) // it never ends
		return c
	}
	given := make(chan string, 7)
	give := func(c *tls.Conn) { given <- status(c) }
	go give(slow("127.0.0.1")) // its only one
	for i := range 6 {
		go give(slow(fmt.Sprintf("127.0.0.%d", i/2+2)))
	}
	send(w.mustDialFrom("127.0.0.5", host), host)
	until(t, "the host is full", func() bool { return waiting() == 8 })
	// Three clients have two, and each loses one; then everybody has one only.
	for i := range 3 {
		from := fmt.Sprintf("127.0.0.%d", i+6)
		send(w.mustDialFrom(from, host), host)
		if got := <-given; got != tooMany {
			t.Errorf("what made room was answered %s", got)
		}
		until(t, "another client's request is under way", func() bool { return waiting() == 9+i })
		again := w.mustDialFrom(from, host)
		send(again, host)
		if got := status(again); got != tooMany {
			t.Errorf("a second one of a client: %s", got)
		}
	}
	late := w.mustDialFrom("127.0.0.9", host)
	send(late, host)
	if got := status(late); got != tooMany {
		t.Errorf("where everybody has one: %s", got)
	}
	if n := w.denials()[postern.DenyRate]; n != 7 {
		t.Errorf("counted %d times", n)
	}
}

// Over HTTP/2 it is the one request that ends, and not the connection.
func TestSlowBodiesMakeRoomHTTP2(t *testing.T) {
	t.Parallel()
	w := startTwo(t, func(l *scim.Limits) { l.MaxRequests = 8 }) // two of a client
	waiting, release := w.app.holds()
	defer release()
	client := w.client(true)
	given := make(chan int, 2)
	var bodies []*io.PipeWriter
	for range 2 {
		body, slow := io.Pipe()
		bodies = append(bodies, slow)
		r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+host+"/scim/v2/Users", body)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			resp, err := client.Do(r)
			if err != nil {
				given <- 0
				return
			}
			_ = resp.Body.Close()
			given <- resp.StatusCode
		}()
		_, _ = io.WriteString(slow, "x") // it never ends
	}
	for i := range 6 {
		send(w.mustDialFrom(fmt.Sprintf("127.0.0.%d", i/2+2), host), host)
	}
	until(t, "the host is full", func() bool { return waiting() == 8 })
	send(w.mustDialFrom("127.0.0.9", host), host)
	if got := <-given; got != http.StatusTooManyRequests {
		t.Errorf("what made room was answered %d", got)
	}
	until(t, "another client's request is under way", func() bool { return waiting() == 9 })
	for _, b := range bodies {
		_ = b.Close()
	}
	release()
	if got := <-given; got != http.StatusOK {
		t.Errorf("the other one was answered %d", got)
	}
}

// Whoever has all of an answer may ask again at once, over another connection
// too: the place of the request before is free by then.
func TestPlacesAreFreeWithTheAnswer(t *testing.T) {
	t.Parallel()
	full := func(length int) func(http.ResponseWriter, *http.Request) {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", strconv.Itoa(length))
			_, _ = rw.Write(make([]byte, length))
		}
	}
	for name, serve := range map[string]func(http.ResponseWriter, *http.Request){
		"none":          func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNoContent) },
		"empty":         full(0),
		"one octet":     full(1),
		"short":         full(8),
		"a buffer full": full(4096),
		"long":          full(100_000),
		"of no length": func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(rw, "some")
			_ = http.NewResponseController(rw).Flush()
			_, _ = io.WriteString(rw, "more")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, func(c *scim.Config) { c.Limits.MaxConnections, c.Limits.RequestsPerSecond = 8, 1e6 }) // two connections of a client, one request
			w.app.mu.Lock()
			w.app.serve = serve
			w.app.mu.Unlock()
			pair := [2]*tls.Conn{w.mustDialFrom("127.0.0.1", host), w.mustDialFrom("127.0.0.1", host)}
			for i := range 200 {
				if code, err := w.ask(pair[i%2], host); err != nil || code/100 != 2 {
					t.Fatalf("request %d: %d, %v", i, code, err)
				}
			}
		})
	}
}

// Clients that stay connected do not keep the app's connections.
func TestIdleBackendConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *scim.Config) { c.Limits.MaxRequests = 4 })
	var clients []*tls.Conn
	for i := range 12 {
		c := w.mustDialFrom(fmt.Sprintf("127.0.0.%d", i+1), host)
		if code, err := w.ask(c, host); code != http.StatusOK {
			t.Fatal(code, err)
		}
		clients = append(clients, c)
	}
	until(t, "idle connections are closed", func() bool { return w.app.openConnections() <= 4 })
	for _, c := range clients {
		if code, err := w.ask(c, host); code != http.StatusOK {
			t.Errorf("a client that stayed: %d, %v", code, err)
		}
	}
}

// Over HTTP/2 too, who connects must ask for something soon; after that it may
// be idle for longer.
func TestFirstRequestIsWaitedForNoLonger(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			w := start(t, func(c *scim.Config) { c.Limits.HelloTimeout, c.Limits.IdleTimeout = 300*time.Millisecond, time.Hour })
			c, err := w.dial(host, protocol)
			if err != nil {
				t.Fatal(err)
			}
			if protocol == "h2" {
				_, _ = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00") // and no settings of its own
			}
			if _, err := io.Copy(io.Discard, c); err != nil && !isClosed(err) {
				t.Errorf("without a request: %v", err)
			}
			client := w.client(protocol == "h2")
			if resp, _ := w.do(client, "GET", "/scim/v2/Users", nil); resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status)
			}
			<-time.After(600 * time.Millisecond) // longer than it would have been waited for
			if resp, _ := w.do(client, "GET", "/scim/v2/Users", nil); resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status)
			}
			if n := w.app.connections(); n != 1 {
				t.Errorf("%d connections to the backend: the client's was cut", n)
			}
		})
	}
}
