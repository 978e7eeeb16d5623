package egress_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/postern-net/postern/internal/egress"
)

const sound = "CONNECT starburst.example.com:443 HTTP/1.1\r\nHost: starburst.example.com:443\r\n"

func TestParseConnect(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte("any:to:ken"))
	for name, c := range map[string]struct{ head, host, credential string }{
		"plain":                 {sound + "\r\n", "starburst.example.com", ""},
		"bearer":                {sound + "Proxy-Authorization: Bearer token\r\n\r\n", "starburst.example.com", "token"},
		"bearer in any case":    {sound + "proxy-authorization:   bEaReR  token \r\n\r\n", "starburst.example.com", "token"},
		"basic":                 {sound + "Proxy-Authorization: Basic " + basic + "\r\n\r\n", "starburst.example.com", "to:ken"},
		"what curl sends":       {sound + "User-Agent: curl/8\r\nProxy-Connection: Keep-Alive\r\n\r\n", "starburst.example.com", ""},
		"Java's Host":           {"CONNECT starburst.example.com:443 HTTP/1.1\r\nHost: starburst.example.com\r\n\r\n", "starburst.example.com", ""},
		"upper case":            {"CONNECT Starburst.Example.COM:443 HTTP/1.1\r\nhost: STARBURST.example.com:443\r\n\r\n", "starburst.example.com", ""},
		"HTTP/1.0":              {"CONNECT starburst.example.com:443 HTTP/1.0\r\n\r\n", "starburst.example.com", ""},
		"an empty field":        {sound + "X-Empty:\r\n\r\n", "starburst.example.com", ""},
		"bytes behind the head": {sound + "\r\nGET / HTTP/1.1\r\n\r\n", "starburst.example.com", ""},
	} {
		r, size, err := egress.ParseConnect([]byte(c.head))
		if err != nil || r.Host != c.host || r.Port != 443 || r.Credential != c.credential || size != strings.Index(c.head, "\r\n\r\n")+4 {
			t.Errorf("%s: %+v, %d, %v", name, r, size, err)
		}
		for i := range size {
			if _, _, err := egress.ParseConnect([]byte(c.head[:i])); !errors.Is(err, egress.ErrIncomplete) {
				t.Errorf("%s: the first %d bytes: %v", name, i, err)
			}
		}
	}
}

func TestParseConnectRefuses(t *testing.T) {
	target := func(v string) string { return "CONNECT " + v + " HTTP/1.1\r\nHost: " + v + "\r\n\r\n" }
	for head, want := range map[string]error{
		"GET http://starburst.example.com/ HTTP/1.1\r\nHost: starburst.example.com\r\n\r\n": egress.ErrNotConnect, // absolute-form
		"GET / HTTP/1.1\r\nHost: starburst.example.com\r\n\r\n":                             egress.ErrNotConnect,
		"GET / HTTP/1.1\r\n":      egress.ErrNotConnect, // before the head is whole
		"POST / HTTP/1.1\r\n\r\n": egress.ErrNotConnect,
		"connect a.example.com:443 HTTP/1.1\r\nHost: a.example.com:443\r\n\r\n": egress.ErrNotConnect, // case-sensitive
		"CONNECT a.example.com:443 HTTP/2.0\r\n\r\n":                            egress.ErrMalformed,
		"CONNECT a.example.com:443\r\n\r\n":                                     egress.ErrMalformed,
		"CONNECT  a.example.com:443 HTTP/1.1\r\n\r\n":                           egress.ErrMalformed,
		"CONNECT a.example.com:443  HTTP/1.1\r\n\r\n":                           egress.ErrMalformed,
		"CONNECT a.example.com:443 HTTP/1.1 \r\n\r\n":                           egress.ErrMalformed,
		"CONNECT\ta.example.com:443\tHTTP/1.1\r\n\r\n":                          egress.ErrMalformed,
		"\r\n" + sound + "\r\n":                                                 egress.ErrMalformed,
		"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n":                                  egress.ErrMalformed,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                      egress.ErrMalformed,

		target("a.example.com"):               egress.ErrMalformed,
		target("a.example.com:"):              egress.ErrMalformed,
		target("a.example.com:0"):             egress.ErrMalformed,
		target("a.example.com:0443"):          egress.ErrMalformed,
		target("a.example.com:+443"):          egress.ErrMalformed,
		target("a.example.com:65536"):         egress.ErrMalformed,
		target("a.example.com:443:443"):       egress.ErrMalformed,
		target("user@a.example.com:443"):      egress.ErrMalformed,
		target("a.example.com.:443"):          egress.ErrMalformed,
		target("a_b.example.com:443"):         egress.ErrMalformed,
		target("localhost:443"):               egress.ErrMalformed,
		target("https://a.example.com:443"):   egress.ErrMalformed,
		target("a.example.com:443/"):          egress.ErrMalformed,
		target("a%2eexample.com:443"):         egress.ErrMalformed,
		target("a.example.com\x00.b.com:443"): egress.ErrMalformed,
		target("bücher.example.com:443"):      egress.ErrMalformed,
		target("10.0.0.1:443"):                egress.ErrLiteral,
		target("169.254.169.254:80"):          egress.ErrLiteral,
		target("[::1]:443"):                   egress.ErrLiteral,
		target("[fd00:ec2::254]:80"):          egress.ErrLiteral,
		target("[::ffff:169.254.169.254]:80"): egress.ErrLiteral,
		target("2130706433:443"):              egress.ErrLiteral,
		target("0x7f.1:443"):                  egress.ErrLiteral,
		target("127.1:443"):                   egress.ErrLiteral,
		target("0251.0376.0251.0376:80"):      egress.ErrLiteral,

		"CONNECT a.example.com:443 HTTP/1.1\r\n\r\n":                                     egress.ErrMalformed, // no Host
		"CONNECT a.example.com:443 HTTP/1.1\r\nHost: b.example.com:443\r\n\r\n":          egress.ErrMalformed,
		"CONNECT a.example.com:443 HTTP/1.1\r\nHost: a.example.com:444\r\n\r\n":          egress.ErrMalformed,
		"CONNECT a.example.com:443 HTTP/1.1\r\nHost:\r\n\r\n":                            egress.ErrMalformed,
		sound + "Host: starburst.example.com:443\r\n\r\n":                                egress.ErrMalformed, // twice
		sound + "Content-Length: 0\r\n\r\n":                                              egress.ErrMalformed,
		sound + "Content-Length: 5\r\n\r\nhello":                                         egress.ErrMalformed,
		sound + "Transfer-Encoding: chunked\r\n\r\n":                                     egress.ErrMalformed,
		sound + "transfer-encoding : chunked\r\n\r\n":                                    egress.ErrMalformed,
		sound + "Expect: 100-continue\r\n\r\n":                                           egress.ErrMalformed,
		sound + "Upgrade: websocket\r\n\r\n":                                             egress.ErrMalformed,
		sound + " folded: yes\r\n\r\n":                                                   egress.ErrMalformed,
		sound + "X: a\r\n b\r\n\r\n":                                                     egress.ErrMalformed,
		sound + "X: a\nY: b\r\n\r\n":                                                     egress.ErrMalformed,
		sound + "X: a\rY: b\r\n\r\n":                                                     egress.ErrMalformed,
		sound + "X: \x00\r\n\r\n":                                                        egress.ErrMalformed,
		sound + "no colon\r\n\r\n":                                                       egress.ErrMalformed,
		sound + ": no name\r\n\r\n":                                                      egress.ErrMalformed,
		sound + "Proxy-Authorization: Bearer a\r\nProxy-Authorization: Bearer b\r\n\r\n": egress.ErrMalformed,
		sound + "Proxy-Authorization: Digest a\r\n\r\n":                                  egress.ErrMalformed,
		sound + "Proxy-Authorization: Basic !!!\r\n\r\n":                                 egress.ErrMalformed,
		sound + "Proxy-Authorization: Bearer a b\r\n\r\n":                                egress.ErrMalformed,
		sound + "Proxy-Authorization: Bearer " + strings.Repeat("a", 2000) + "\r\n\r\n":  egress.ErrMalformed,
		sound + "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("u:0\x82\x01")) + "\r\n\r\n": egress.ErrMalformed,
		sound + "Proxy-Authorization: Basic YQ==\r\n\r\n":                                                             egress.ErrMalformed, // no colon
		sound + "X: " + strings.Repeat("a", egress.MaxHead) + "\r\n\r\n":                                              egress.ErrTooLarge,
		sound + "X: " + strings.Repeat("a", egress.MaxHead):                                                           egress.ErrTooLarge,
		strings.Repeat("a", egress.MaxHead):                                                                           egress.ErrTooLarge,
		sound + strings.Repeat("X: a\r\n", egress.MaxHeaders) + "\r\n":                                                egress.ErrTooLarge,
	} {
		if r, _, err := egress.ParseConnect([]byte(head)); !errors.Is(err, want) {
			t.Errorf("%.80q: %+v, %v; want %v", head, r, err, want)
		}
	}
}

// Whatever is taken is one CONNECT to a hostname, and the standard library
// reads the same host out of it.
func FuzzParseConnect(f *testing.F) {
	for _, s := range []string{
		sound + "\r\n", sound + "Proxy-Authorization: Bearer token\r\n\r\n", sound + "Content-Length: 3\r\n\r\nabc", "GET / HTTP/1.1\r\n\r\n",
		"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n", sound + "\r\n" + sound + "\r\n", sound + "X: a\nHost: b\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, size, err := egress.ParseConnect(b)
		if err != nil {
			if errors.Is(err, egress.ErrIncomplete) && len(b) >= egress.MaxHead {
				t.Error("waits for more than it takes")
			}
			return
		}
		if size > len(b) || size > egress.MaxHead || !bytes.HasSuffix(b[:size], []byte("\r\n\r\n")) || r.Port == 0 || !strings.Contains(r.Host, ".") || r.Host != strings.ToLower(r.Host) {
			t.Fatalf("%q is taken for %+v, %d", b, r, size)
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b[:size])))
		if err != nil {
			t.Fatalf("%q is taken, and net/http says %v", b, err)
		}
		host, _, _ := strings.Cut(strings.ToLower(req.URL.Host), ":")
		if req.Method != http.MethodConnect || host != r.Host || req.ContentLength != 0 && req.ContentLength != -1 || len(req.TransferEncoding) > 0 {
			t.Errorf("%q: %+v, and net/http reads %s %q", b, r, req.Method, req.URL.Host)
		}
	})
}
