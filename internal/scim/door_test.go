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
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/backend"
	"github.com/postern-net/postern/internal/scim"
)

var protocols = map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true}

// What SCIM's clients send reaches the tenant's app as it was sent, for the
// tenant's own host, and the app is told who it comes from.
func TestForwards(t *testing.T) {
	t.Parallel()
	for name, http2 := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			c := w.client(http2)
			for i, tc := range []struct{ method, target, body string }{
				{"GET", "/scim/v2/Users", ""},
				{"GET", "/scim/v2/Users?filter=userName%20eq%20%22bjensen%40example.com%22&startIndex=1&count=10", ""},
				{"GET", `/scim/v2/Users?filter=emails[type eq "work"]`, ""},
				{"POST", "/scim/v2/Users", `{"userName":"bjensen"}`},
				{"PUT", "/scim/v2/Users/2819c223-7f76-453a-919d-413861904646", `{"userName":"b"}`},
				{"PATCH", "/scim/v2/Groups/acbf3ae7-8463-4692-b4fd-9b4da3f908ce", `{"Operations":[]}`},
				{"DELETE", "/scim/v2/Users/b%C3%A4rbel%40example.com", ""},
				{"GET", "/scim/v2/Schemas/urn:ietf:params:scim:schemas:core:2.0:User", ""},
				{"POST", "/scim/v2/.search", `{"schemas":[]}`},
				{"POST", "/scim/v2/Users/.search", `{}`},
				{"POST", "/scim/v2/Bulk", strings.Repeat("x", 1<<20)},
				{"GET", "/scim/v2/Me", ""},
				{"GET", "/scim/v2/", ""},
				{"GET", "/scim/v2?filter=x", ""},
				{"GET", "/scim/v2/Users/", ""},
				{"GET", "/scim/v2/Users/a~b.c_d-e$f&g'h(i)j*k+l,m=n:o@p!", ""},
			} {
				target := strings.ReplaceAll(strings.ReplaceAll(tc.target, " ", "%20"), `"`, "%22")
				var body io.Reader
				if tc.body != "" {
					body = strings.NewReader(tc.body)
				}
				resp, answer := w.do(c, tc.method, target, body, "Authorization", "Bearer secret", "Content-Type", "application/scim+json", "If-Match", `W/"1"`,
					"Cookie", "session=1", "X-Forwarded-For", "192.0.2.99", "X-Forwarded-Host", "evil.example", "Forwarded", "for=evil", "X-Real-Ip", "evil", "X-Postern-Organization", "globex", "User-Agent", "test/1")
				if resp.StatusCode != 200 || answer != `{"ok":true}` || resp.Proto != name || resp.Header.Get("Strict-Transport-Security") == "" {
					t.Fatalf("%s %s: %s %s %q %v", tc.method, target, resp.Proto, resp.Status, answer, w.denials())
				}
				all := w.app.requests()
				if len(all) != i+1 {
					t.Fatalf("%s %s: the app got %d requests", tc.method, target, len(all))
				}
				g := all[i]
				if g.Arrival.Source.Addr() != netip.MustParseAddr("127.0.0.1") || g.Arrival.Destination != w.addr {
					t.Errorf("the app is told of %v to %v", g.Arrival.Source, g.Arrival.Destination)
				}
				g.Header.Del("Content-Length")
				g.Header.Del("Accept-Encoding")
				want := got{Method: tc.method, Target: target, Host: upstream, Body: tc.body, Arrival: backend.Arrival{Authority: upstream, Organization: "example-corp"}, Header: http.Header{
					"Authorization": {"Bearer secret"}, "Content-Type": {"application/scim+json"}, "If-Match": {`W/"1"`}, "User-Agent": {"test/1"},
					"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {host}, "X-Forwarded-Proto": {"https"},
				}}
				if diff := cmp.Diff(want, g, cmpopts.IgnoreFields(backend.Arrival{}, "Source", "Destination")); diff != "" {
					t.Errorf("%s %s: %s", tc.method, target, diff)
				}
			}
			if n := w.app.connections(); n != 1 {
				t.Errorf("%d connections to the backend for one of the client", n)
			}
			for _, a := range w.door.Drain().Sightings {
				if a.Denial != "" || a.Listener != postern.ListenerSCIM || a.Host != host || a.Organization != "example-corp" || a.Source.String() != "127.0.0.1" {
					t.Errorf("counted as %+v", a)
				}
			}
			if log := w.logged(); strings.Contains(log, "secret") || strings.Contains(log, "bjensen@") || strings.Contains(log, "filter") || !strings.Contains(log, `"status":200`) {
				t.Errorf("the log: %s", log)
			}
		})
	}
}

// No two clients share a connection to the backend.
func TestClientsDoNotShareBackendConnections(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for i := range 3 {
		if resp, _ := w.do(w.client(i == 1), "GET", "/scim/v2/Users", nil); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	sources := map[netip.AddrPort]bool{}
	for _, g := range w.app.requests() {
		sources[g.Arrival.Source] = true
	}
	if len(sources) != 3 || w.app.connections() != 3 {
		t.Errorf("%d sources over %d connections, want 3", len(sources), w.app.connections())
	}
}

// Refusals before TLS look as at the other listeners, whatever the reason.
func TestRefusedBeforeTLS(t *testing.T) {
	t.Parallel()
	const alert = "\x15\x03\x01\x00\x02\x02\x31"
	hello := func(name string) []byte {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			defer theirs.Close()
			_ = tls.Client(theirs, &tls.Config{ServerName: name, InsecureSkipVerify: name == "", MinVersion: tls.VersionTLS12}).HandshakeContext(t.Context())
		}()
		b := make([]byte, 16<<10)
		n, _ := ours.Read(b)
		return b[:n]
	}
	for name, tc := range map[string]struct {
		send []byte
		want postern.Denial
	}{
		"another tenant":        {hello("globex.scim.example.com"), postern.DenyUnknownHost},
		"the standard hostname": {hello(upstream), postern.DenyUnknownHost},
		"no server name":        {hello(""), postern.DenyNoServerName},
		"another region's":      {hello("west.scim.example.com"), postern.DenyWrongRegion},
		"other sources only":    {hello("narrow.scim.example.com"), postern.DenySource},
		"plain HTTP":            {[]byte("GET /scim/v2/Users HTTP/1.1\r\nHost: " + host + "\r\n\r\n"), postern.DenyNotTLS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			west, narrow := w.route(), w.route()
			west.Region = "us-west-2"
			narrow.Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			w.applyAll(map[string]postern.SCIMRoute{host: w.route(), "west.scim.example.com": west, "narrow.scim.example.com": narrow})
			var d net.Dialer
			c, err := d.DialContext(t.Context(), "tcp", w.addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			if _, err := c.Write(tc.send); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(c); err != nil || string(b) != alert {
				t.Errorf("answered %x, %v; want the alert and the end", b, err)
			}
			if diff := cmp.Diff(map[postern.Denial]int64{tc.want: 1}, w.denials()); diff != "" {
				t.Error(diff)
			}
			if n := w.app.connections(); n > 0 {
				t.Errorf("%d connections to the backend", n)
			}
		})
	}
}

func TestTLSOfOldIsRefused(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for name, c := range map[string]*tls.Config{
		"TLS 1.1": {MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10},
		"CBC":     {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
	} {
		c.ServerName, c.RootCAs = host, w.issuer.pool()
		if conn, err := (&tls.Dialer{Config: c}).DialContext(t.Context(), "tcp", w.addr.String()); err == nil {
			conn.Close()
			t.Errorf("%s is taken", name)
		}
	}
	until(t, "the failures are counted", func() bool { return testCount(t, w.registry, "postern_scim_denials_total", "tls_failed") == 2 })
}

// testCount is the value of a counter with a label's value.
func testCount(t *testing.T, r *prometheus.Registry, name, label string) (sum float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetValue() == label {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// A name in other letters is the same name.
func TestServerNamesHaveNoCase(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c, err := w.dial(strings.ToUpper(host))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /scim/v2/Users HTTP/1.1\r\nHost: %s:8443\r\nConnection: close\r\n\r\n", strings.ToUpper(host))
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200") {
		t.Errorf("%q, %v", b, err)
	}
}

// Both directions are handed on as they come.
func TestStreams(t *testing.T) {
	t.Parallel()
	for name, http2 := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			arrived := make(chan string, 2)
			w.app.mu.Lock()
			w.app.serve = func(rw http.ResponseWriter, r *http.Request) {
				rc := http.NewResponseController(rw)
				_ = rc.EnableFullDuplex() // for HTTP/1.1
				b := make([]byte, 5)
				for range 2 {
					if _, err := io.ReadFull(r.Body, b); err != nil {
						arrived <- err.Error()
						return
					}
					arrived <- string(b)
					_, _ = rw.Write([]byte("seen "))
					_ = rc.Flush()
				}
			}
			w.app.mu.Unlock()
			body, write := io.Pipe()
			defer write.Close()
			go func() { _, _ = write.Write([]byte("first")) }()
			r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+host+"/scim/v2/Bulk", body)
			if err != nil {
				t.Fatal(err)
			}
			answered := make(chan *http.Response, 1)
			go func() {
				resp, err := w.client(http2).Do(r)
				if err != nil {
					t.Error(err)
				}
				answered <- resp
			}()
			if got := <-arrived; got != "first" {
				t.Fatalf("the app got %q before the body ended", got)
			}
			if http2 { // over HTTP/1.1 clients wait for the whole of their body to be sent
				resp := <-answered
				b := make([]byte, 5)
				if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "seen " {
					t.Fatalf("%q, %v", b, err)
				}
				answered <- resp
			}
			_, _ = write.Write([]byte("other"))
			_ = write.Close()
			if got := <-arrived; got != "other" {
				t.Errorf("then %q", got)
			}
			resp := <-answered
			rest, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || !strings.HasSuffix("seen seen ", string(rest)) {
				t.Errorf("%q, %v", rest, err)
			}
		})
	}
}

// What is no longer granted is cut, and nothing else.
func TestApplyCutsWhatIsNoLongerAdmitted(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*postern.SCIMRoute) (there, cut bool){
		"nothing":              func(*postern.SCIMRoute) (bool, bool) { return true, false },
		"turned off":           func(*postern.SCIMRoute) (bool, bool) { return false, true },
		"another organization": func(r *postern.SCIMRoute) (bool, bool) { r.Organization = "globex"; return true, true },
		"other backends":       func(r *postern.SCIMRoute) (bool, bool) { r.Backends = nil; return true, true },
		"another region":       func(r *postern.SCIMRoute) (bool, bool) { r.Region = "us-west-2"; return true, true },
		"sources without it": func(r *postern.SCIMRoute) (bool, bool) {
			r.Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			return true, true
		},
		"sources with it": func(r *postern.SCIMRoute) (bool, bool) {
			r.Sources = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			return true, false
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			other := w.route()
			other.Upstream = "other.hosted.example.com"
			const otherHost = "other.scim.example.com"
			w.applyAll(map[string]postern.SCIMRoute{host: w.route(), otherHost: other})
			open := func(name string) *tls.Conn {
				c, err := w.dial(name)
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			ask := func(c *tls.Conn, name string) error {
				if _, err := fmt.Fprintf(c, "GET /scim/v2/Users HTTP/1.1\r\nHost: %s\r\n\r\n", name); err != nil {
					return err
				}
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
					return fmt.Errorf("answered %s, %w", resp.Status, err)
				}
				return nil
			}
			mine, others := open(host), open(otherHost)
			if err := errors.Join(ask(mine, host), ask(others, otherHost)); err != nil {
				t.Fatal(err)
			}
			r := w.route()
			routes := map[string]postern.SCIMRoute{otherHost: other}
			there, cut := change(&r)
			if there {
				routes[host] = r
			}
			w.applyAll(routes)
			if err := ask(mine, host); (err != nil) != cut || cut && !isClosed(err) {
				t.Errorf("the open connection: %v; want it cut: %v", err, cut)
			}
			if err := ask(others, otherHost); err != nil {
				t.Errorf("another tenant's open connection: %v", err)
			}
		})
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	works := func() bool {
		c, err := w.dial(host)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	if !works() {
		t.Fatal("the table is not in force")
	}
	if err := w.door.Apply(postern.Routes{Revision: w.revision}); err != nil || !works() {
		t.Errorf("the same revision: %v", err)
	}
	bad := w.route()
	bad.Upstream = "no host"
	if err := w.door.Apply(postern.Routes{Revision: 99, SCIM: map[string]postern.SCIMRoute{host: bad}}); err == nil || !works() {
		t.Errorf("a table that is not sound: %v", err)
	}
	// Hosts of the other listeners are nothing here.
	if err := w.door.Apply(postern.Routes{Revision: 100, Hosts: map[string]postern.Host{host: {Tenant: "example", Organization: "example-corp", Public: true, Backends: []netip.AddrPort{w.app.addr}}}}); err != nil || works() {
		t.Errorf("a public host is served by the SCIM door: %v", err)
	}
	w.door.Withdraw()
	if works() {
		t.Error("it serves without a table")
	}
	if err := w.door.Apply(postern.Routes{Revision: 1, SCIM: map[string]postern.SCIMRoute{host: w.route()}}); err != nil || !works() {
		t.Errorf("after a withdrawal an earlier revision: %v", err)
	}
}

// A backend that is not the tenant's app gets nothing.
func TestBackendsAreVerified(t *testing.T) {
	t.Parallel()
	for name, names := range map[string][]string{"another name": {"*.example.com"}, "another issuer": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			cert := newIssuer(t).issue(t, "*.hosted.example.com")
			if names != nil {
				cert = w.issuer.issue(t, names...)
			}
			wrong, r := startApp(t, cert), w.route()
			r.Backends = []netip.AddrPort{wrong.addr}
			w.apply(r)
			resp, body := w.do(w.client(false), "GET", "/scim/v2/Users", nil)
			if resp.StatusCode != 502 || strings.Contains(body, "certificate") || len(wrong.requests()) > 0 {
				t.Errorf("%s %s, and the backend got %v", resp.Status, body, wrong.requests())
			}
			if n := w.denials()[postern.DenyBackendDown]; n != 1 {
				t.Errorf("counted %d times", n)
			}
			r.Backends = []netip.AddrPort{wrong.addr, w.app.addr}
			w.apply(r)
			if resp, _ := w.do(w.client(false), "GET", "/scim/v2/Users", nil); resp.StatusCode != 200 {
				t.Errorf("with a good one behind it: %s", resp.Status)
			}
		})
	}
}

// The app's links lead back to where the client came from, and what is not
// for a SCIM client ends here.
func TestAnswers(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	answer := func(status int, header ...string) (*http.Response, string) {
		w.app.mu.Lock()
		w.app.serve = func(rw http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				rw.Header().Set(header[i], header[i+1])
			}
			rw.WriteHeader(status)
		}
		w.app.mu.Unlock()
		return w.do(w.client(true), "POST", "/scim/v2/Users", strings.NewReader("{}"))
	}
	resp, _ := answer(201, "Location", "https://"+upstream+"/scim/v2/Users/1", "Content-Location", "https://elsewhere.example/x", "ETag", `W/"1"`, "Set-Cookie", "a=b", "Alt-Svc", `h3=":443"`)
	want := http.Header{"Location": {"https://" + host + "/scim/v2/Users/1"}, "Content-Location": {"https://elsewhere.example/x"}, "Etag": {`W/"1"`}}
	for name := range want {
		if diff := cmp.Diff(want[name], resp.Header[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if resp.StatusCode != 201 || resp.Header["Set-Cookie"] != nil || resp.Header["Alt-Svc"] != nil {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
	if resp, _ := answer(404); resp.StatusCode != 404 {
		t.Errorf("the app's own 404: %s", resp.Status)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]scim.Config{"nothing": {}, "no certificate": {Region: region}} {
		if _, err := scim.New(c); err == nil {
			t.Errorf("%s is enough", name)
		}
	}
}
