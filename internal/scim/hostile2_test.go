package scim_test

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// fields2 is a header list; a name and its value by turns.
type fields2 []string

// plain2 is a request that is let through.
func plain2() fields2 {
	return fields2{":method", "GET", ":scheme", "https", ":authority", host, ":path", "/scim/v2/Users", "authorization", "Bearer x"}
}

// set gives a field another value.
func set(name, value string) fields2 {
	f := plain2()
	for i := 0; i < len(f); i += 2 {
		if f[i] == name {
			f[i+1] = value
		}
	}
	return f
}

// drop leaves a field out.
func drop(name string) fields2 {
	var out fields2
	for pair := range slices.Chunk(plain2(), 2) {
		if pair[0] != name {
			out = append(out, pair...)
		}
	}
	return out
}

func add(name, value string) fields2 { return append(plain2(), name, value) }

func first(name, value string) fields2 { return append(fields2{name, value}, plain2()...) }

func post2(more ...string) fields2 { return append(set(":method", "POST"), more...) }

// hostile2 are requests over HTTP/2, as the frames have them. Nothing of them
// may reach the backend.
var hostile2 = []struct {
	name   string
	fields fields2
	body   string // "": the header ends the stream
}{
	{"root", set(":path", "/"), ""},
	{"the app", set(":path", "/admin"), ""},
	{"up", set(":path", "/scim/v2/../../admin"), ""},
	{"encoded up", set(":path", "/scim/v2/%2e%2e/admin"), ""},
	{"encoded slash", set(":path", "/scim/v2/x%2f..%2fadmin"), ""},
	{"two slashes", set(":path", "//evil.example/scim/v2/Users"), ""},
	{"parameters", set(":path", "/scim/v2/..;/admin"), ""},
	{"backslashes", set(":path", `/scim/v2\..\admin`), ""},
	{"NUL", set(":path", "/scim/v2/Users%00"), ""},
	{"a raw NUL", set(":path", "/scim/v2/Users\x00"), ""},
	{"no path", drop(":path"), ""},
	{"an empty path", set(":path", ""), ""},
	{"absolute form", set(":path", "https://"+host+"/scim/v2/Users"), ""},
	{"no slash ahead", set(":path", "scim/v2/Users"), ""},
	{"asterisk form", set(":path", "*"), ""},
	{"a request line in the path", set(":path", "/scim/v2/Users HTTP/1.1\r\nHost: "+host+"\r\n\r\nGET /admin"), ""},
	{"a space in the path", set(":path", "/scim/v2/Users /admin"), ""},
	{"a fragment", set(":path", "/scim/v2/Users#x"), ""},
	{"two paths", add(":path", "/admin"), ""},
	{"a request line in the method", set(":method", "GET /admin HTTP/1.1\r\nHost: x\r\n\r\nGET"), ""},
	{"a method with a space", set(":method", "GET /admin"), ""},
	{"no method", drop(":method"), ""},
	{"two methods", first(":method", "DELETE"), ""},
	{"TRACE", set(":method", "TRACE"), ""},
	{"OPTIONS", set(":method", "OPTIONS"), ""},
	{"HEAD", set(":method", "HEAD"), ""},
	{"a method in small letters", set(":method", "get"), ""},
	{"CONNECT", fields2{":method", "CONNECT", ":authority", upstream + ":443"}, ""},
	{"CONNECT with a path", set(":method", "CONNECT"), ""},
	{"WebSocket over HTTP/2", append(set(":method", "CONNECT"), ":protocol", "websocket"), ""},
	{"a protocol", first(":protocol", "websocket"), ""},
	{"no scheme", drop(":scheme"), ""},
	{"a scheme that is none", set(":scheme", "ftp"), ""},
	{"a scheme with a path", set(":scheme", "https://evil.example/x?"), ""},
	{"two schemes", first(":scheme", "http"), ""},
	{"another tenant", set(":authority", "globex.scim.example.com"), ""},
	{"the standard hostname", set(":authority", upstream), ""},
	{"no authority", drop(":authority"), ""},
	{"an empty authority", set(":authority", ""), ""},
	{"a user in the authority", set(":authority", "x@"+host), ""},
	{"a path in the authority", set(":authority", host+"/admin"), ""},
	{"a line break in the authority", set(":authority", host+"\r\nX: y"), ""},
	{"two authorities", first(":authority", "globex.scim.example.com"), ""},
	{"another host beside it", add("host", upstream), ""},
	{"a pseudo-field behind a field", append(fields2{"x", "y"}, plain2()...), ""},
	{"a pseudo-field of answers", first(":status", "200"), ""},
	{"an unknown pseudo-field", first(":path-prefix", "/admin"), ""},
	{"a name in capitals", add("X-Evil", "y"), ""},
	{"a name with a colon", add("x:y", "z"), ""},
	{"a name with a line break", add("x\r\ny", "z"), ""},
	{"an empty name", add("", "z"), ""},
	{"a value with a line break", add("x", "a\r\nTransfer-Encoding: chunked"), ""},
	{"a value with a line feed", add("authorization", "Bearer x\nX-Evil: y"), ""},
	{"a value with a NUL", add("x", "a\x00b"), ""},
	{"a value with a blank ahead", add("x", " a"), ""},
	{"a value beyond ASCII", add("x", "\xff"), ""},
	{"connection", add("connection", "keep-alive"), ""},
	{"connection that takes a field away", add("connection", "authorization"), ""},
	{"keep-alive", add("keep-alive", "timeout=5"), ""},
	{"proxy-connection", add("proxy-connection", "close"), ""},
	{"transfer-encoding", post2("transfer-encoding", "chunked"), "0\r\n\r\n" + smuggled},
	{"transfer-encoding identity", post2("transfer-encoding", "identity"), "x"},
	{"upgrade", add("upgrade", "h2c"), ""},
	{"te", add("te", "gzip"), ""},
	{"te with trailers", add("te", "trailers"), ""},
	{"a trailer that is announced", post2("trailer", "authorization"), "{}"},
	{"two credentials", add("authorization", "Bearer y"), ""},
	{"two lengths", post2("content-length", "2", "content-length", "60"), "{}"},
	{"a list of lengths", post2("content-length", "2, 2"), "{}"},
	{"a length with a sign", post2("content-length", "+2"), "{}"},
	{"a length that is none", post2("content-length", "x"), "{}"},
	{"a length without a body", post2("content-length", "5"), ""},
	{"a body with GET", plain2(), smuggled},
	{"a body with DELETE", set(":method", "DELETE"), smuggled},
	{"a body that is too large", post2("content-length", "1048577"), "x"},
	{"another method", add("x-http-method-override", "DELETE"), ""},
	{"another path", add("x-original-url", "/admin"), ""},
	{"an encoded body", post2("content-encoding", "gzip"), "{}"},
	{"a field that is too long", add("x", strings.Repeat("y", 80<<10)), ""},
	{"too many fields", append(plain2(), slices.Repeat([]string{"x", "y"}, 70)...), ""},
}

// stream2 sends one request over HTTP/2 on a connection of its own and tells its
// status, or 0 when the stream or the connection was ended instead.
func (w *world) stream2(fields fields2, body string) (status string, err error) {
	w.t.Helper()
	c, err := w.dial(host, "h2")
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return "", err
	}
	framer := http2.NewFramer(c, c)
	framer.AllowIllegalWrites = true
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		return "", err
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for pair := range slices.Chunk(fields, 2) {
		if err := encoder.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]}); err != nil {
			return "", err
		}
	}
	if err := writeHeaders(framer, block.Bytes(), body == ""); err != nil {
		return "", err
	}
	if body != "" {
		if err := framer.WriteData(1, true, []byte(body)); err != nil {
			return "", err
		}
	}
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return "", err
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status"), nil
		case *http2.RSTStreamFrame:
			return "", fmt.Errorf("the stream was reset: %v", f.ErrCode)
		case *http2.GoAwayFrame:
			return "", fmt.Errorf("the connection was ended: %v", f.ErrCode)
		case *http2.SettingsFrame:
			if !f.IsAck() {
				if err := framer.WriteSettingsAck(); err != nil {
					return "", err
				}
			}
		}
	}
}

// writeHeaders cuts a header block into frames.
func writeHeaders(f *http2.Framer, block []byte, end bool) error {
	const size = 16 << 10
	chunk := block[:min(len(block), size)]
	block = block[len(chunk):]
	err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: chunk, EndStream: end, EndHeaders: len(block) == 0})
	for err == nil && len(block) > 0 {
		chunk = block[:min(len(block), size)]
		block = block[len(chunk):]
		err = f.WriteContinuation(1, len(block) == 0, chunk)
	}
	return err
}

func TestHostileRequestsHTTP2(t *testing.T) {
	t.Parallel()
	if len(hostile2) < 60 {
		t.Fatalf("only %d requests", len(hostile2))
	}
	w := start(t, nil)
	for name, fields := range map[string]fields2{
		"GET": plain2(), "POST": post2("content-length", "2"), "with the same host": add("host", host), "without a length": post2(),
		// net/http does not tell the scheme, and nothing goes by it.
		"said to be plain text": set(":scheme", "http"),
	} {
		body := ""
		if fields[1] == "POST" {
			body = "{}"
		}
		if status, err := w.stream2(fields, body); status != "200" {
			t.Fatalf("the request that is spoiled below, %s, is not let through itself: %s, %v", name, status, err)
		}
	}
	conns := w.app.connections()
	for _, tc := range hostile2 {
		status, err := w.stream2(tc.fields, tc.body)
		if err == nil && status < "400" {
			t.Errorf("%s: %s", tc.name, status)
		}
		if err != nil && !isClosed(err) {
			t.Errorf("%s: no answer: %v", tc.name, err)
		}
		if w.app.connections() != conns {
			t.Fatalf("%s: the backend was connected to; its requests: %+v", tc.name, w.app.requests())
		}
	}
}

// A body that is longer or shorter than it was said to be is no body.
func TestLengthsAreKeptHTTP2(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"shorter": "{", "longer": "{}" + smuggled} {
		w := start(t, nil)
		if status, err := w.stream2(post2("content-length", "2"), body); err == nil && status < "400" {
			t.Errorf("%s: %s", name, status)
		}
		for _, g := range w.app.requests() {
			if g.Method != "POST" || g.Target != "/scim/v2/Users" {
				t.Errorf("%s: the backend got %+v", name, g)
			}
		}
	}
}
