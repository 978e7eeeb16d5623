package egress_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/egress"
)

// byBasic is a client that shows a token as a password, as most can.
func (w *world) byBasic(t testing.TB, token string) *http.Client {
	return w.client(t, func(tr *http.Transport) {
		tr.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: w.connect, User: url.UserPassword("any", token)})
	}, netip.AddrPort{})
}

func (w *world) byBearer(t testing.TB, token string) *http.Client {
	return w.client(t, func(tr *http.Transport) {
		tr.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: w.connect})
		tr.ProxyConnectHeader = http.Header{"Proxy-Authorization": {"Bearer " + token}}
	}, netip.AddrPort{})
}

// byCertificate is a client that speaks TLS to the proxy too.
func (w *world) byCertificate(t testing.TB, cert *tls.Certificate) *http.Client {
	return w.client(t, func(tr *http.Transport) {
		tr.Proxy = http.ProxyURL(&url.URL{Scheme: "https", Host: w.secure})
		if cert != nil {
			tr.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		}
	}, netip.AddrPort{})
}

func TestConnect(t *testing.T) {
	w := newWorld(t)
	own, strange := w.authority.client(t), w.authority.client(t)
	w.apply(t, func(r *postern.Routes) {
		r.Workloads[postern.WorkloadKey(own.Certificate[0])] = postern.Workload{Tenant: "example", Organization: "example-corp"}
	})
	for name, c := range map[string]*http.Client{
		"a bearer token": w.byBearer(t, exampleToken), "a password": w.byBasic(t, exampleToken), "a certificate": w.byCertificate(t, &own),
	} {
		if who, err := w.get(t, c, exampleHost); err != nil || who != "example" {
			t.Errorf("%s: %q, %v", name, who, err)
		}
		if who, err := w.get(t, c, globexHost); err == nil || !strings.Contains(err.Error(), "Forbidden") {
			t.Errorf("%s reaches another tenant's: %q, %v", name, who, err)
		}
	}
	if who, err := w.get(t, w.byBearer(t, globexToken), globexHost); err != nil || who != "globex" {
		t.Errorf("%q, %v", who, err)
	}
	for name, c := range map[string]*http.Client{
		"a token of nobody": w.byBearer(t, "x"), "no token": w.byCertificate(t, nil), "a certificate of nobody": w.byCertificate(t, &strange), "an empty token": w.byBasic(t, ""),
	} {
		if who, err := w.get(t, c, exampleHost); err == nil || !strings.Contains(err.Error(), "Proxy Authentication Required") {
			t.Errorf("%s: %q, %v", name, who, err)
		}
	}
	// A certificate is no secret: who has seen it cannot use it as a token.
	for _, auth := range []string{"Basic " + base64.StdEncoding.EncodeToString(append([]byte("x:"), own.Certificate[0]...)), "Bearer " + string(own.Certificate[0])} {
		a := ask(t, dial(t, w.connect), fmt.Sprintf("CONNECT %s:%d HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: %s\r\n\r\n", exampleHost, w.port, exampleHost, auth))
		if a.status != http.StatusBadRequest {
			t.Errorf("a certificate as a token: %+v", a)
		}
	}
	got := w.denials()
	if got[""] != 4 || got[postern.DenyUnknownHost] != 3 || got[postern.DenyAnonymous] != 1 || got[postern.DenyUnknownWorkload] != 3 {
		t.Errorf("%v", got)
	}
	w.wantLog(t)
}

// wantLog looks at what the access log holds, and that it holds no secret.
func (w *world) wantLog(t *testing.T) {
	t.Helper()
	opened, closed := 0, 0
	waitFor(t, "closed", func() bool {
		opened, closed = 0, 0
		for _, r := range w.records(t) {
			switch r["msg"] {
			case "connection opened":
				opened++
			case "connection closed":
				closed++
				if r["bytes_down"].(float64) == 0 || r["end"] == "" || r["connection_id"] == "" || !strings.HasPrefix(r["endpoint"].(string), "127.80.") {
					t.Errorf("%v", r)
				}
			}
		}
		return opened > 0 && opened == closed
	})
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for _, secret := range []string{exampleToken, globexToken, "YW55Og"} {
		if strings.Contains(w.log.b.String(), secret) {
			t.Error("the log holds a credential")
		}
	}
}

func TestConnectAnswers(t *testing.T) {
	w := newWorld(t)
	a := tunnelTo(t, dial(t, w.connect), exampleHost, w.port, exampleToken)
	if a.status != http.StatusProxyAuthRequired { // nobody is known yet
		t.Errorf("without a table: %+v", a)
	}
	closed := closedPort(t)
	w.apply(t, func(r *postern.Routes) {
		r.Connections["bad.example.com"] = postern.ConnectionRoute{
			ID: "dc_bad", Tenant: "example", Organization: "example-corp", Region: region, Ports: []uint16{w.port},
			Reason: postern.ReasonCertificateExpired, Message: "the certificate has expired; renew it",
		}
		r.Connections["down.example.com"] = postern.ConnectionRoute{
			ID: "dc_down", Tenant: "example", Organization: "example-corp", Region: region, Ports: []uint16{closed}, Addresses: []netip.Addr{exampleAt, secondAt}, Ready: true,
		}
		r.Connections["far.example.com"] = postern.ConnectionRoute{
			ID: "dc_far", Tenant: "example", Organization: "example-corp", Region: "eu-west-1", Ports: []uint16{w.port}, Addresses: []netip.Addr{exampleAt}, Ready: true,
		}
	})
	for name, c := range map[string]struct {
		host   string
		port   uint16
		token  string
		status int
		denial postern.Denial
		reason postern.Reason
		says   string
	}{
		"admitted":                      {exampleHost, w.port, exampleToken, 200, "", "", ""},
		"not ready":                     {"bad.example.com", w.port, exampleToken, 503, postern.DenyNotReady, postern.ReasonCertificateExpired, "renew it"},
		"down":                          {"down.example.com", closed, exampleToken, 502, postern.DenyBackendDown, postern.ReasonUnreachable, "`postern connections show dc_down`"},
		"another region":                {"far.example.com", w.port, exampleToken, 421, postern.DenyWrongRegion, "", "eu-west-1"},
		"another port":                  {exampleHost, 22, exampleToken, 403, postern.DenyWrongPort, "", fmt.Sprintf("but %d; use one of those, or request it anew with this one (`postern connections delete dc_example`", w.port)},
		"another tenant's":              {exampleHost, w.port, globexToken, 403, postern.DenyUnknownHost, "", "no data connection"},
		"nobody's":                      {"nobody.example.com", w.port, globexToken, 403, postern.DenyUnknownHost, "", "no data connection"},
		"no token":                      {exampleHost, w.port, "", 407, postern.DenyAnonymous, "", "token"},
		"a wrong token":                 {exampleHost, w.port, "wrong", 407, postern.DenyAnonymous, "", "token"},
		"not ready, seen by a stranger": {"bad.example.com", w.port, globexToken, 403, postern.DenyUnknownHost, "", "no data connection"},
		"not ready, seen by nobody":     {"bad.example.com", w.port, "", 407, postern.DenyAnonymous, "", "token"},
	} {
		a := tunnelTo(t, dial(t, w.connect), c.host, c.port, c.token)
		if a.status != c.status || a.problem.Denial != string(c.denial) || a.problem.Reason != string(c.reason) || !strings.Contains(a.problem.Detail, c.says) {
			t.Errorf("%s: %+v", name, a)
		}
		if a.status == 200 {
			if len(a.header) != 0 {
				t.Errorf("%s: headers %v", name, a.header)
			}
			continue
		}
		if a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("Connection") != "close" || a.problem.Title == "" || !strings.HasPrefix(a.problem.Type, "urn:postern:egress:") {
			t.Errorf("%s: %+v", name, a)
		}
		if (a.status == 407) != (len(a.header.Values("Proxy-Authenticate")) == 2) || (a.status == 503) != (a.header.Get("Retry-After") != "") {
			t.Errorf("%s: headers %v", name, a.header)
		}
	}
}

func closedPort(t testing.TB) uint16 {
	t.Helper()
	ln := listen(t, "127.80.1.1:0")
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort().Port()
}

// The ways to make a proxy and something behind it disagree about where a
// request ends.
func TestSmuggling(t *testing.T) {
	w := newWorld(t)
	w.apply(t)
	head := fmt.Sprintf("CONNECT %s:%d HTTP/1.1\r\nHost: %s:%d\r\nProxy-Authorization: Bearer %s\r\n", exampleHost, w.port, exampleHost, w.port, exampleToken)
	second := "GET /secret HTTP/1.1\r\nHost: " + globexHost + "\r\n\r\n"
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"absolute-form":           {"GET https://" + exampleHost + "/ HTTP/1.1\r\nHost: " + exampleHost + "\r\nProxy-Authorization: Bearer " + exampleToken + "\r\n\r\n", 405},
		"a body":                  {head + "Content-Length: 5\r\n\r\nhello", 400},
		"an empty body":           {head + "Content-Length: 0\r\n\r\n", 400},
		"a chunked body":          {head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
		"two lengths":             {head + "Content-Length: 0\r\nContent-Length: 40\r\n\r\n", 400},
		"a pipelined request":     {head + "\r\n" + second, 400},
		"a pipelined CONNECT":     {head + "\r\n" + head + "\r\n", 400},
		"an early ClientHello":    {head + "\r\n" + string(clientHello(t, exampleHost)), 400},
		"another Host":            {strings.Replace(head, "Host: "+exampleHost, "Host: "+globexHost, 1) + "\r\n", 400},
		"two Hosts":               {head + "Host: " + globexHost + "\r\n\r\n", 400},
		"two credentials":         {head + "Proxy-Authorization: Bearer " + globexToken + "\r\n\r\n", 400},
		"a folded line":           {head + "X: a\r\n Host: " + globexHost + "\r\n\r\n", 400},
		"bare line feeds":         {strings.ReplaceAll(head, "\r\n", "\n") + "\n\r\n\r\n", 400},
		"huge headers":            {head + "X: " + strings.Repeat("a", 9000) + "\r\n\r\n", 431},
		"many headers":            {head + strings.Repeat("X: a\r\n", 100) + "\r\n", 431},
		"TLS to a plain listener": {string(clientHello(t, exampleHost)) + "\r\n\r\n", 400},
		"a second request":        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + head + "\r\n", 405},
	} {
		c2 := dial(t, w.connect)
		a := ask(t, c2, c.request)
		if a.status != c.status || a.problem.Denial != string(postern.DenyBadRequest) {
			t.Errorf("%s: %+v", name, a)
		}
		// readAnswer has read to the end: whatever was behind it got no answer.
	}
	for d, n := range w.denials() {
		if d != postern.DenyBadRequest {
			t.Errorf("%d × %q", n, d)
		}
	}
}

// clientHello is what a real client sends first.
func clientHello(t testing.TB, name string) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		_ = tls.Client(theirs, &tls.Config{ServerName: name, InsecureSkipVerify: name == ""}).Handshake()
	}()
	b := make([]byte, 16<<10)
	n, err := ours.Read(b)
	must(t, err)
	ours.Close()
	<-done
	return b[:n]
}

const alert = "\x15\x03\x01\x00\x02\x02\x31"

// In a tunnel, only TLS to the host that was asked for goes on.
func TestTunnelIsForItsHost(t *testing.T) {
	w := newWorld(t, func(c *egress.Config) { c.Limits.HelloTimeout = time.Second })
	w.apply(t)
	for name, c := range map[string]struct {
		sends []byte
		deny  postern.Denial
	}{
		"another name": {clientHello(t, globexHost), postern.DenyNameMismatch},
		"a name below": {clientHello(t, "x."+exampleHost), postern.DenyNameMismatch},
		"no name":      {clientHello(t, ""), postern.DenyNameMismatch},
		"plain HTTP":   {[]byte("GET / HTTP/1.1\r\nHost: " + exampleHost + "\r\n\r\n"), postern.DenyNotTLS},
		"SSH":          {[]byte("SSH-2.0-OpenSSH\r\n"), postern.DenyNotTLS},
		"garbage":      {bytes.Repeat([]byte{0x16, 3, 1, 0, 4, 1, 0, 0, 0}, 3), postern.DenyBadHello},
		"half a hello": {clientHello(t, exampleHost)[:100], postern.DenyHelloTimeout},
		"nothing":      {nil, postern.DenyHelloTimeout},
	} {
		conn := dial(t, w.connect)
		if a := tunnelTo(t, conn, exampleHost, w.port, exampleToken); a.status != 200 {
			t.Fatalf("%s: %+v", name, a)
		}
		_, err := conn.Write(c.sends)
		must(t, err)
		got, err := io.ReadAll(conn)
		if err != nil || string(got) != alert {
			t.Errorf("%s: read %q, %v; want the alert", name, got, err)
		}
		w.waitDenied(t, c.deny)
	}
	// In pieces, it is the same hello.
	conn := dial(t, w.connect)
	if a := tunnelTo(t, conn, exampleHost, w.port, exampleToken); a.status != 200 {
		t.Fatalf("%+v", a)
	}
	c := tls.Client(&dripping{conn}, &tls.Config{ServerName: exampleHost, RootCAs: w.authority.pool()})
	must(t, c.Handshake())
	c.Close()
}

// dripping sends its first bytes one by one.
type dripping struct{ net.Conn }

func (d *dripping) Write(b []byte) (int, error) {
	for i := range b[:min(len(b), 50)] {
		if n, err := d.Conn.Write(b[i : i+1]); err != nil {
			return i + n, err
		}
	}
	n, err := d.Conn.Write(b[min(len(b), 50):])
	return n + min(len(b), 50), err
}

// session is an open TLS session to a cluster.
func (w *world) session(t testing.TB, host, token string) *tls.Conn {
	t.Helper()
	conn := dial(t, w.connect)
	if a := tunnelTo(t, conn, host, w.port, token); a.status != 200 {
		t.Fatalf("%s: %+v", host, a)
	}
	c := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: w.authority.pool()})
	must(t, c.Handshake())
	return c
}

// alive sends a request on an open session.
func alive(c *tls.Conn) error {
	if _, err := io.WriteString(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nping"); err != nil {
		return err
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err == nil && !strings.Contains(string(b[:n]), "200 OK") {
		err = fmt.Errorf("answered %q", b[:n])
	}
	return err
}

// A new table cuts what it does not grant any more, and nothing else.
func TestRecheckCutsTunnels(t *testing.T) {
	key := postern.WorkloadKey([]byte(exampleToken))
	for name, edit := range map[string]func(*postern.Routes){
		"the token is revoked": func(r *postern.Routes) { delete(r.Workloads, key) },
		"the token is another tenant's": func(r *postern.Routes) {
			r.Workloads[key] = postern.Workload{Tenant: "globex", Organization: "globex-inc"}
		},
		"the connection is gone": func(r *postern.Routes) { delete(r.Connections, exampleHost) },
		"it is not ready":        change(exampleHost, func(c *postern.ConnectionRoute) { c.Ready, c.Reason = false, postern.ReasonPrivateCA }),
		"it has other ports":     change(exampleHost, func(c *postern.ConnectionRoute) { c.Ports = []uint16{1} }),
		"it is another tenant's": change(exampleHost, func(c *postern.ConnectionRoute) {
			c.Tenant, c.Organization = "globex", "globex-inc"
		}),
		"its endpoint was replaced": change(exampleHost, func(c *postern.ConnectionRoute) { c.Addresses = []netip.Addr{secondAt} }),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(t)
			cut, kept := w.session(t, exampleHost, exampleToken), w.session(t, globexHost, globexToken)
			must(t, alive(cut))
			must(t, alive(kept))
			w.apply(t, change(globexHost, func(c *postern.ConnectionRoute) { c.Addresses = append(c.Addresses, netip.MustParseAddr("127.80.2.9")) }))
			must(t, alive(cut))
			w.apply(t, edit)
			if err := alive(cut); err == nil {
				t.Error("it lives on")
			}
			must(t, alive(kept))
			for _, r := range w.records(t) {
				if r["msg"] == "connection closed" && (r["end"] != "revoked" || r["host"] != exampleHost) {
					t.Errorf("%v", r)
				}
			}
			w.Withdraw()
			if err := alive(kept); err == nil {
				t.Error("it lives on without a table")
			}
			if a := tunnelTo(t, dial(t, w.connect), globexHost, w.port, globexToken); a.status != 407 {
				t.Errorf("without a table: %+v", a)
			}
		})
	}
}

// A revocation that comes at any moment between the look at a credential and the
// tunnel ends it: nobody looks at it later.
func TestRevokedWhileAdmitted(t *testing.T) {
	var revoke atomic.Pointer[func()]
	w := newWorld(t, func(c *egress.Config) {
		c.Now = func() time.Time { // is asked when a credential was found, and before it is used
			if f := revoke.Swap(nil); f != nil {
				(*f)()
			}
			return time.Now()
		}
	})
	w.apply(t)
	must(t, alive(w.session(t, exampleHost, exampleToken)))
	f := func() {
		w.apply(t, func(r *postern.Routes) {
			r.Workloads = maps.Clone(r.Workloads)
			delete(r.Workloads, postern.WorkloadKey([]byte(exampleToken)))
		})
	}
	revoke.Store(&f)
	c := dial(t, w.connect)
	_, err := fmt.Fprintf(c, "CONNECT %s:%d HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: Bearer %s\r\n\r\n", exampleHost, w.port, exampleHost, exampleToken)
	must(t, err)
	if a, err := readAnswer(c); err == nil && a.status == http.StatusOK {
		t.Error("the tunnel of a revoked token was made")
	}
	if revoke.Load() != nil {
		t.Error("nothing was revoked")
	}
}

// A token ends when it says, in the middle of a tunnel too.
func TestTokenExpires(t *testing.T) {
	w := newWorld(t)
	w.apply(t, func(r *postern.Routes) {
		r.Workloads[postern.WorkloadKey([]byte(exampleToken))] = postern.Workload{Tenant: "example", Organization: "example-corp", ExpiresAt: time.Now().Add(2 * time.Second)}
	})
	c := w.session(t, exampleHost, exampleToken)
	waitEnded(t, c)
	if a := tunnelTo(t, dial(t, w.connect), exampleHost, w.port, exampleToken); a.status != 407 {
		t.Errorf("%+v", a)
	}
}

// waitEnded waits until a session ends, and not for its own deadline.
func waitEnded(t *testing.T, c *tls.Conn) {
	t.Helper()
	waitFor(t, "the tunnel ends", func() bool {
		err := alive(c)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the tunnel lives on")
		}
		return err != nil
	})
}

// A token that ends while a table comes into force, judged before and timed
// after, ends all the same.
func TestTokenExpiresWhileATableComes(t *testing.T) {
	base := time.Now()
	var asked, jumps atomic.Int64 // the clock jumps when it is asked for so often
	w := newWorld(t, func(c *egress.Config) {
		c.Now = func() time.Time {
			if n := jumps.Load(); n > 0 && asked.Add(1) >= n {
				return base.Add(2 * time.Hour)
			}
			return base
		}
	})
	w.apply(t, func(r *postern.Routes) {
		r.Workloads[postern.WorkloadKey([]byte(exampleToken))] = postern.Workload{Tenant: "example", Organization: "example-corp", ExpiresAt: base.Add(time.Hour)}
	})
	c := w.session(t, exampleHost, exampleToken)
	must(t, alive(c))
	jumps.Store(3) // for the table, for the tunnel, for the timer
	w.apply(t)
	waitEnded(t, c)
}

// A cluster that answers early and closes with unread bytes, as a server does
// that refuses a large request, is heard all the same.
func TestLastWords(t *testing.T) {
	w := newWorld(t)
	at := netip.AddrPortFrom(netip.MustParseAddr("127.80.2.7"), w.port)
	cluster := listen(t, at.String())
	t.Cleanup(func() { cluster.Close() })
	w.apply(t, change(exampleHost, func(c *postern.ConnectionRoute) { c.Addresses = []netip.Addr{at.Addr()} }))
	words := bytes.Repeat([]byte("too large"), 900)
	const rounds = 40
	whole := 0
	for range rounds {
		c := dial(t, w.connect)
		if a := tunnelTo(t, c, exampleHost, w.port, exampleToken); a.status != 200 {
			t.Fatalf("%+v", a)
		}
		s, err := cluster.AcceptTCP()
		must(t, err)
		_, err = c.Write(clientHello(t, exampleHost))
		must(t, err)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for piece := make([]byte, 64<<10); ; {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		}()
		_, err = io.ReadFull(s, make([]byte, 200<<10))
		must(t, err)
		_, err = s.Write(words)
		must(t, err)
		must(t, s.Close())
		if got, _ := io.ReadAll(c); bytes.Equal(got, words) { // it ends with a reset
			whole++
		}
		must(t, c.Close())
		<-sent
	}
	if whole != rounds {
		t.Errorf("%d of %d answers came through", whole, rounds)
	}
}

func TestConnectLimits(t *testing.T) {
	w := newWorld(t, func(c *egress.Config) {
		c.Limits = egress.Limits{MaxPerTenant: 2, MaxPerClient: 5, MaxConnections: 6, HeadTimeout: time.Second, IdleTimeout: 2 * time.Second}
	})
	w.apply(t)
	first, second := w.session(t, exampleHost, exampleToken), w.session(t, exampleHost, exampleToken)
	a := tunnelTo(t, dial(t, w.connect), exampleHost, w.port, exampleToken)
	if a.status != 503 || a.problem.Denial != string(postern.DenyOverload) {
		t.Errorf("a third of one tenant: %+v", a)
	}
	other := w.session(t, globexHost, globexToken) // its tenant's share is its own
	must(t, alive(other))
	w.waitDenied(t, "", "", "", postern.DenyOverload)

	// Who says nothing is told nothing, and pays.
	silent := dial(t, w.connect)
	if b, err := io.ReadAll(silent); len(b) != 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	w.waitDenied(t, postern.DenyHelloTimeout)

	// Nothing moves, so they end.
	for _, c := range []*tls.Conn{first, second} {
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("an idle tunnel: %d bytes, %v", n, err)
		}
	}

	// Too many of one client, whoever they are, are reset.
	var d net.Dialer
	waitFor(t, "a reset", func() bool {
		for range 7 {
			c, err := d.DialContext(t.Context(), "tcp", w.connect)
			if err != nil {
				return errors.Is(err, syscall.ECONNRESET)
			}
			t.Cleanup(func() { c.Close() })
			must(t, c.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, syscall.ECONNRESET) {
				return true
			}
		}
		return false
	})
}

// Half-closes pass, and every byte.
func TestTunnelIntegrity(t *testing.T) {
	w := newWorld(t)
	w.apply(t)
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	for name, c := range map[string]*http.Client{"plain": w.byBearer(t, exampleToken), "TLS to the proxy": w.client(t, func(tr *http.Transport) {
		tr.Proxy = http.ProxyURL(&url.URL{Scheme: "https", Host: w.secure, User: url.UserPassword("w", exampleToken)})
	}, netip.AddrPort{})} {
		resp, err := c.Post(fmt.Sprintf("https://%s:%d/echo", exampleHost, w.port), "application/octet-stream", bytes.NewReader(body))
		must(t, err)
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestShutdown(t *testing.T) {
	w := newWorld(t)
	w.apply(t)
	c := w.session(t, exampleHost, exampleToken)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := w.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown with an open tunnel: %v", err)
	}
	if alive(c) == nil {
		t.Error("it lives on")
	}
	if _, err := new(net.Dialer).DialContext(t.Context(), "tcp", w.connect); err == nil {
		t.Error("it still listens")
	}
	if err := w.Shutdown(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := w.ServeConnect(listen(t, "127.0.0.1:0"), nil); !errors.Is(err, egress.ErrShutdown) {
		t.Errorf("ServeConnect after it: %v", err)
	}
}
