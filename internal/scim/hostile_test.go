package scim_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern"
)

// plain is a request that is let through, to be spoiled in one place.
const plain = "GET /scim/v2/Users HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Bearer x\r\n\r\n"

func target(p string) string { return strings.Replace(plain, "/scim/v2/Users", p, 1) }

func line(l string) string { return strings.Replace(plain, "GET /scim/v2/Users HTTP/1.1", l, 1) }

func field(f string) string { return strings.Replace(plain, "\r\n\r\n", "\r\n"+f+"\r\n\r\n", 1) }

func post(fields, body string) string {
	return "POST /scim/v2/Users HTTP/1.1\r\nHost: " + host + "\r\n" + fields + "\r\n\r\n" + body
}

// smuggled is what requests are smuggled for.
const smuggled = "GET /admin HTTP/1.1\r\nHost: " + host + "\r\n\r\n"

// hostile1 are requests over HTTP/1.1, as they are sent, and how they are
// counted. Nothing of them may reach the backend.
var hostile1 = []struct {
	name, send string
	status     int // 0: any refusal
	denial     postern.Denial
}{
	// Paths that are not SCIM's, or that somebody may take for one that is not.
	{"root", target("/"), 404, postern.DenyPath},
	{"the app", target("/admin"), 404, postern.DenyPath},
	{"beside it", target("/scim/v2admin"), 404, postern.DenyPath},
	{"SCIM 1", target("/scim/v1/Users"), 404, postern.DenyPath},
	{"SCIM alone", target("/scim"), 404, postern.DenyPath},
	{"in capitals", target("/SCIM/v2/Users"), 404, postern.DenyPath},
	{"encoded letters of the prefix", target("/%73cim/v2/Users"), 404, postern.DenyPath},
	{"up", target("/scim/v2/../../admin"), 404, postern.DenyPath},
	{"up and back", target("/admin/../scim/v2/Users"), 404, postern.DenyPath},
	{"up at the end", target("/scim/v2/Users/.."), 404, postern.DenyPath},
	{"here", target("/scim/v2/./Users"), 404, postern.DenyPath},
	{"three dots", target("/scim/v2/.../Users"), 404, postern.DenyPath},
	{"hidden files", target("/scim/v2/.git/config"), 404, postern.DenyPath},
	{"encoded up", target("/scim/v2/%2e%2e/%2e%2e/admin"), 404, postern.DenyPath},
	{"encoded up in capitals", target("/scim/v2/%2E%2E/admin"), 404, postern.DenyPath},
	{"half encoded up", target("/scim/v2/.%2e/admin"), 404, postern.DenyPath},
	{"the other half", target("/scim/v2/%2e./admin"), 404, postern.DenyPath},
	{"twice encoded up", target("/scim/v2/%252e%252e/admin"), 404, postern.DenyPath},
	{"overlong up", target("/scim/v2/%c0%ae%c0%ae/admin"), 404, postern.DenyPath},
	{"fullwidth up", target("/scim/v2/%ef%bc%8e%ef%bc%8e/admin"), 404, postern.DenyPath},
	{"one dot leaders", target("/scim/v2/%e2%80%a4%e2%80%a4/admin"), 404, postern.DenyPath},
	{"UTF-16 escapes", target("/scim/v2/%u002e%u002e/admin"), 400, postern.DenyBadRequest},
	{"up with a parameter", target("/scim/v2/..;/admin"), 404, postern.DenyPath},
	{"a parameter", target("/scim/v2;x=y/Users"), 404, postern.DenyPath},
	{"an encoded parameter", target("/scim/v2/..%3b/admin"), 404, postern.DenyPath},
	{"encoded slash", target("/scim/v2/Users%2f..%2f..%2fadmin"), 404, postern.DenyPath},
	{"encoded slash in capitals", target("/scim/v2%2FUsers"), 404, postern.DenyPath},
	{"twice encoded slash", target("/scim/v2/x%252f..%252fadmin"), 404, postern.DenyPath},
	{"fullwidth slash", target("/scim/v2/x%ef%bc%8f..%ef%bc%8fadmin"), 404, postern.DenyPath},
	{"two slashes", target("/scim/v2//admin"), 404, postern.DenyPath},
	{"two slashes ahead", target("//scim/v2/Users"), 404, postern.DenyPath},
	{"a network path", target("//evil.example/scim/v2/Users"), 404, postern.DenyPath},
	{"backslashes", target(`/scim/v2\..\..\admin`), 404, postern.DenyPath},
	{"encoded backslashes", target("/scim/v2/..%5c..%5cadmin"), 404, postern.DenyPath},
	{"NUL", target("/scim/v2/Users%00.css"), 404, postern.DenyPath},
	{"encoded line break", target("/scim/v2/Users%0d%0aX-Evil:%201"), 404, postern.DenyPath},
	{"encoded tab", target("/scim/v2/..%09/admin"), 404, postern.DenyPath},
	{"encoded question mark", target("/scim/v2/x%3f/../../admin"), 404, postern.DenyPath},
	{"encoded number sign", target("/scim/v2/x%23y"), 404, postern.DenyPath},
	{"a fragment", target("/scim/v2/Users#/../admin"), 404, postern.DenyPath},
	{"a broken escape", target("/scim/v2/Users%2"), 400, postern.DenyBadRequest},
	{"no escape", target("/scim/v2/Users%zz"), 400, postern.DenyBadRequest},
	{"a path of any length", target("/scim/v2/" + strings.Repeat("a", 9000)), 400, postern.DenyBadRequest},
	{"semicolons in the query", target("/scim/v2/Users?count=1;filter=x"), 400, postern.DenyBadRequest},
	{"NUL in the query", target("/scim/v2/Users?filter=%00"), 400, postern.DenyBadRequest},
	{"a line break in the query", target("/scim/v2/Users?filter=%0d%0aX:y"), 400, postern.DenyBadRequest},
	{"a broken escape in the query", target("/scim/v2/Users?filter=%g1"), 400, postern.DenyBadRequest},

	// Request lines.
	{"absolute form", line("GET https://" + host + "/scim/v2/Users HTTP/1.1"), 400, postern.DenyBadRequest},
	{"absolute form of another host", line("GET https://globex.scim.example.com/scim/v2/Users HTTP/1.1"), 400, postern.DenyBadRequest},
	{"absolute form of another place", line("GET http://169.254.169.254/latest/meta-data/ HTTP/1.1"), 400, postern.DenyBadRequest},
	{"asterisk form", line("OPTIONS * HTTP/1.1"), 400, postern.DenyBadRequest},
	{"tunnel", line("CONNECT " + upstream + ":443 HTTP/1.1"), 400, postern.DenyBadRequest},
	{"tunnel with a path", line("CONNECT /scim/v2/Users HTTP/1.1"), 0, ""},
	{"TRACE", line("TRACE /scim/v2/Users HTTP/1.1"), 405, postern.DenyMethod},
	{"OPTIONS", line("OPTIONS /scim/v2/Users HTTP/1.1"), 405, postern.DenyMethod},
	{"HEAD", line("HEAD /scim/v2/Users HTTP/1.1"), 405, postern.DenyMethod},
	{"PROPFIND", line("PROPFIND /scim/v2/Users HTTP/1.1"), 405, postern.DenyMethod},
	{"a method in small letters", line("get /scim/v2/Users HTTP/1.1"), 405, postern.DenyMethod},
	{"a method that is no token", line("GE(T /scim/v2/Users HTTP/1.1"), 400, postern.DenyBadRequest},
	{"HTTP/1.0", line("GET /scim/v2/Users HTTP/1.0"), 400, postern.DenyBadRequest},
	{"HTTP/0.9", "GET /scim/v2/Users\r\n\r\n", 400, postern.DenyBadRequest},
	{"HTTP/2 unasked", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, postern.DenyBadRequest},
	{"HTTP/1.2", line("GET /scim/v2/Users HTTP/1.2"), 400, postern.DenyBadRequest},
	{"two spaces", line("GET  /scim/v2/Users HTTP/1.1"), 400, postern.DenyBadRequest},
	{"a tab for a space", line("GET\t/scim/v2/Users HTTP/1.1"), 400, postern.DenyBadRequest},
	{"a space behind", line("GET /scim/v2/Users HTTP/1.1 "), 400, postern.DenyBadRequest},
	{"a space in the path", target("/scim/v2/Users /admin"), 400, postern.DenyBadRequest},
	{"octets beyond ASCII", target("/scim/v2/Us\xc3\xa9rs"), 400, postern.DenyBadRequest},
	{"an empty line ahead", "\r\n" + plain, 400, postern.DenyBadRequest},
	{"two request lines", "GET /scim/v2/Users HTTP/1.1\r\n" + smuggled, 400, postern.DenyBadRequest},

	// Hosts.
	{"no host", "GET /scim/v2/Users HTTP/1.1\r\nAuthorization: x\r\n\r\n", 400, postern.DenyBadRequest},
	{"another tenant's host", strings.Replace(plain, host, "globex.scim.example.com", 1), 421, postern.DenyHost},
	{"the standard hostname", strings.Replace(plain, host, upstream, 1), 421, postern.DenyHost},
	{"an empty host", strings.Replace(plain, host, "", 1), 0, ""},
	{"two hosts", field("Host: globex.scim.example.com"), 400, postern.DenyBadRequest},
	{"the same host twice", field("Host: " + host), 400, postern.DenyBadRequest},
	{"a host with a user", strings.Replace(plain, host, host+"@evil.example", 1), 0, ""},
	{"a host with a path", strings.Replace(plain, host, host+"/admin", 1), 0, ""},
	{"a host with nonsense for a port", strings.Replace(plain, host, host+":x", 1), 0, ""},
	{"a host with a dot behind", strings.Replace(plain, host, host+".", 1), 421, postern.DenyHost},
	{"a folded host", strings.Replace(plain, "Host: "+host, "Host:\r\n "+host, 1), 400, postern.DenyBadRequest},

	// Framing.
	{"length and chunked", post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"+smuggled), 400, postern.DenyBadRequest},
	{"chunked and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"+smuggled), 400, postern.DenyBadRequest},
	{"two lengths", post("Content-Length: 0\r\nContent-Length: 40", smuggled), 400, postern.DenyBadRequest},
	{"the same length twice", post("Content-Length: 5\r\nContent-Length: 5", "hello"), 400, postern.DenyBadRequest},
	{"a list of lengths", post("Content-Length: 5, 5", "hello"), 400, postern.DenyBadRequest},
	{"a negative length", post("Content-Length: -1", ""), 400, postern.DenyBadRequest},
	{"a length with a sign", post("Content-Length: +5", "hello"), 400, postern.DenyBadRequest},
	{"a length in hexadecimal", post("Content-Length: 0x5", "hello"), 400, postern.DenyBadRequest},
	{"a length with a zero ahead", post("Content-Length: 05", "hello"), 400, postern.DenyBadRequest},
	{"a length that is too much for a number", post("Content-Length: 99999999999999999999", ""), 400, postern.DenyBadRequest},
	{"a length with an underscore", post("Content_Length: 40", smuggled), 400, postern.DenyBadRequest},
	{"coded in another way", post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), 400, postern.DenyBadRequest},
	{"identity", post("Transfer-Encoding: identity", smuggled), 400, postern.DenyBadRequest},
	{"chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400, postern.DenyBadRequest},
	{"chunked and nonsense", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "0\r\n\r\n"), 400, postern.DenyBadRequest},
	{"chunked in a cloak", post("Transfer-Encoding: xchunked", smuggled), 400, postern.DenyBadRequest},
	{"chunked behind a vertical tab", post("Transfer-Encoding:\x0bchunked", smuggled), 400, postern.DenyBadRequest},
	{"chunked with a space ahead of the colon", post("Transfer-Encoding : chunked", "0\r\n\r\n"+smuggled), 400, postern.DenyBadRequest},
	{"chunked on a folded line", post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"+smuggled), 400, postern.DenyBadRequest},
	{"chunked behind a line feed", post("X: y\nTransfer-Encoding: chunked", "0\r\n\r\n"+smuggled), 400, postern.DenyBadRequest},
	{"a body with GET", strings.Replace(post("Content-Length: 60", smuggled), "POST", "GET", 1), 400, postern.DenyBadRequest},
	{"a chunked body with DELETE", strings.Replace(post("Transfer-Encoding: chunked", "0\r\n\r\n"), "POST", "DELETE", 1), 400, postern.DenyBadRequest},
	{"a body that is too large", post("Content-Length: 1048577", ""), 413, postern.DenyTooLarge},

	// Header fields.
	{"a folded line", field("X: a\r\n b"), 400, postern.DenyBadRequest},
	{"line feeds alone", strings.ReplaceAll(plain, "\r\n", "\n"), 400, postern.DenyBadRequest},
	{"one line feed alone", strings.Replace(plain, "HTTP/1.1\r\n", "HTTP/1.1\n", 1), 400, postern.DenyBadRequest},
	{"an end in line feeds", strings.Replace(plain, "\r\n\r\n", "\r\n\n", 1), 400, postern.DenyBadRequest},
	{"a carriage return alone", field("X: a\rTransfer-Encoding: chunked"), 400, postern.DenyBadRequest},
	{"a NUL", field("X: a\x00b"), 400, postern.DenyBadRequest},
	{"a control character", field("X: a\x07b"), 400, postern.DenyBadRequest},
	{"a field beyond ASCII", field("X: \xff"), 400, postern.DenyBadRequest},
	{"a field without a name", field(": x"), 400, postern.DenyBadRequest},
	{"a field without a colon", field("X"), 400, postern.DenyBadRequest},
	{"a name with a space", field("X Y: z"), 400, postern.DenyBadRequest},
	{"a name with a slash", field("X/Y: z"), 400, postern.DenyBadRequest},
	{"two credentials", field("Authorization: Bearer y"), 400, postern.DenyBadRequest},
	{"an upgrade", field("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, postern.DenyBadRequest},
	{"an upgrade to HTTP/2", field("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), 400, postern.DenyBadRequest},
	{"an upgrade that is not named", field("Upgrade: h2c"), 400, postern.DenyBadRequest},
	{"a field taken away", field("Connection: close, Authorization"), 400, postern.DenyBadRequest},
	{"another method", field("X-HTTP-Method-Override: DELETE"), 400, postern.DenyBadRequest},
	{"another method, otherwise", field("X-HTTP-Method: TRACE"), 400, postern.DenyBadRequest},
	{"another method, again", field("X-Method-Override: PUT"), 400, postern.DenyBadRequest},
	{"another method with underscores", field("X_HTTP_Method_Override: PUT"), 400, postern.DenyBadRequest},
	{"another path", field("X-Original-URL: /admin"), 400, postern.DenyBadRequest},
	{"another path, otherwise", field("X-Rewrite-URL: /admin"), 400, postern.DenyBadRequest},
	{"an encoded body", post("Content-Encoding: gzip\r\nContent-Length: 5", "hello"), 400, postern.DenyBadRequest},
	{"a trailer that is announced", post("Trailer: Authorization\r\nTransfer-Encoding: chunked", "0\r\nAuthorization: x\r\n\r\n"), 400, postern.DenyBadRequest},
	{"an expectation of another kind", post("Expect: 200-ok\r\nContent-Length: 5", "hello"), 400, postern.DenyBadRequest},
	{"too many fields", field(strings.TrimSuffix(strings.Repeat("X: y\r\n", 70), "\r\n")), 400, postern.DenyBadRequest},
	{"a field that is too long", field("X: " + strings.Repeat("y", 40<<10)), 400, postern.DenyTooLarge},
	{"a head without an end", strings.Repeat("GET /scim/v2/Users ", 2000), 400, postern.DenyTooLarge},
	{"a TLS record within TLS", "\x16\x03\x01\x00\x05hello", 400, postern.DenyBadRequest},
	{"a PROXY header", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x01\xbb" + plain, 400, postern.DenyBadRequest},
	{"a PROXY header of the first version", "PROXY TCP4 10.0.0.1 10.0.0.2 1 443\r\n" + plain, 400, postern.DenyBadRequest},
}

// exchange sends bytes on a connection of its own and reads the answer and the
// end of the connection.
func (w *world) exchange(send string) (status int, ended bool) {
	w.t.Helper()
	c, err := w.dial(host, "http/1.1")
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	_, writeErr := io.WriteString(c, send) // it may be refused while it is being sent
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, isClosed(err) || writeErr != nil
	}
	_, _ = io.Copy(io.Discard, resp.Body) // of a HEAD there is none
	_ = resp.Body.Close()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, err = r.ReadByte()
	return resp.StatusCode, err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestHostileRequestsHTTP1(t *testing.T) {
	t.Parallel()
	if len(hostile1) < 60 {
		t.Fatalf("only %d requests", len(hostile1))
	}
	w := start(t, nil)
	if status, _ := w.exchange(strings.Replace(plain, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)); status != 200 || len(w.app.requests()) != 1 {
		t.Fatalf("the request that is spoiled below is not let through itself: %d", status)
	}
	w.door.Drain()
	conns := w.app.connections()
	for _, tc := range hostile1 {
		status, ended := w.exchange(tc.send)
		switch {
		case tc.status != 0 && status != tc.status:
			t.Errorf("%s: %d, want %d", tc.name, status, tc.status)
		case status != 0 && status < 400:
			t.Errorf("%s: %d", tc.name, status)
		case !ended:
			t.Errorf("%s: the connection lives on", tc.name)
		}
		counted := w.denials()
		if tc.denial != "" && (counted[tc.denial] != 1 || len(counted) != 1) {
			t.Errorf("%s: counted as %v, want %s", tc.name, counted, tc.denial)
		}
		if w.app.connections() != conns {
			t.Fatalf("%s: the backend was connected to; its requests: %+v", tc.name, w.app.requests())
		}
	}
}

// What follows a good request on its connection, or hides in its body, is
// judged as anything else.
func TestNothingIsSmuggledBehindAGoodRequest(t *testing.T) {
	t.Parallel()
	const chunked = "Transfer-Encoding: chunked"
	good := []string{"POST /scim/v2/Users"}
	for _, tc := range []struct {
		name, send string
		want       []string // what the backend may complete
	}{
		{"pipelined", post("Content-Length: 2", "{}") + smuggled, good},
		{"pipelined twice", plain + plain + smuggled, []string{"GET /scim/v2/Users", "GET /scim/v2/Users"}},
		{"in a body", post("Content-Length: 60", (smuggled + strings.Repeat("x", 60))[:60]), good},
		{"behind a body", post("Content-Length: 2", "{}\r\n"+smuggled), good},
		{"in a chunk", post(chunked, "3c\r\n"+(smuggled + strings.Repeat("x", 60))[:60]+"\r\n0\r\n\r\n"), good},
		{"behind chunks", post(chunked, "2\r\n{}\r\n0\r\n\r\n"+smuggled), good},
		{"in a trailer", post(chunked, "2\r\n{}\r\n0\r\nX: y\r\n\r\n"+smuggled), nil},
		{"in a chunk's extension", post(chunked, "2;a=b\r\n{}\r\n0\r\n\r\n"), nil},
		{"in an extension with a line feed", post(chunked, "2;\n"+smuggled), nil},
		{"a chunk that ends in a line feed", post(chunked, "2\n{}\r\n0\r\n\r\n"), nil},
		{"data that ends in a line feed", post(chunked, "2\r\n{}\n0\r\n\r\n"), nil},
		{"data that is longer than it says", post(chunked, "2\r\n{}x\r\n0\r\n\r\n"), nil},
		{"a size with a sign", post(chunked, "+2\r\n{}\r\n0\r\n\r\n"), nil},
		{"a size with a prefix", post(chunked, "0x2\r\n{}\r\n0\r\n\r\n"), nil},
		{"a size with blanks", post(chunked, "2 \r\n{}\r\n0\r\n\r\n"), nil},
		{"a negative size", post(chunked, "-1\r\n{}\r\n0\r\n\r\n"), nil},
		{"a size that overflows", post(chunked, "10000000000000002\r\n{}\r\n0\r\n\r\n"), nil},
		{"no size", post(chunked, "\r\n{}\r\n0\r\n\r\n"), nil},
		{"an end in a line feed", post(chunked, "2\r\n{}\r\n0\n\n"), nil},
		{"chunks over the limit", post(chunked, strings.Repeat("10000\r\n"+strings.Repeat("x", 1<<16)+"\r\n", 17)+"0\r\n\r\n"), nil},
		{"a body that does not come", post("Content-Length: 5", "hel"), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			c, err := w.dial(host, "http/1.1")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, tc.send) // it may be refused while it is being sent
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			var completed []string
			for _, g := range w.app.requests() {
				completed = append(completed, g.Method+" "+g.Target)
			}
			// What the client broke off may or may not have been answered; never is
			// there anything else.
			if !slices.Equal(completed, tc.want) && (len(tc.want) == 0 || len(completed) > len(tc.want) || !slices.Equal(completed, tc.want[:len(completed)])) {
				t.Errorf("the backend completed %q, want %q", completed, tc.want)
			}
			if strings.Contains(w.logged(), `"path":"/admin","protocol"`) {
				t.Error("the smuggled request was admitted")
			}
		})
	}
}
