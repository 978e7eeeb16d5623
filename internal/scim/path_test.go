package scim_test

import (
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/postern-net/postern/internal/scim"
)

func TestAllowedPath(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"/scim/v2", "/scim/v2/", "/scim/v2/Users", "/scim/v2/Users/", "/scim/v2/Users/2819c223-7f76-453a-919d-413861904646",
		"/scim/v2/.search", "/scim/v2/Users/.search", "/scim/v2/Schemas/urn:ietf:params:scim:schemas:core:2.0:User",
		"/scim/v2/Users/a@b.example", "/scim/v2/Users/a%40b.example", "/scim/v2/Users/a%20b", "/scim/v2/Users/b%C3%A4rbel", "/scim/v2/Users/%E6%97%A5", "/scim/v2/Users/a..b",
	} {
		if !scim.AllowedPath(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{
		"", "/", "scim/v2/Users", "/scim", "/scim/v20", "/scim/v2.", "/scim/v2Users", "/Scim/v2/Users", "/scim/V2/Users", "//scim/v2/Users", "/scim//v2/Users",
		"/scim/v2//", "/scim/v2//Users", "/scim/v2/Users//", "/scim/v2/.", "/scim/v2/..", "/scim/v2/../x", "/scim/v2/x/..", "/scim/v2/.x", "/scim/v2/...", "/scim/v2/.searchx", "/scim/v2/..search",
		"/scim/v2/%2e", "/scim/v2/%2E%2e", "/scim/v2/a%2eb", "/scim/v2/%2esearch", "/scim/v2/.sear%63h", "/scim/v2/%252e", "/scim/v2/%25",
		"/scim/v2/a%2fb", "/scim/v2/a%5Cb", `/scim/v2/a\b`, "/scim/v2/a;b", "/scim/v2/a%3bb", "/scim/v2/a%3fb", "/scim/v2/a%23b", "/scim/v2/a?b", "/scim/v2/a#b",
		"/scim/v2/%00", "/scim/v2/%0a", "/scim/v2/%7f", "/scim/v2/a\x00b", "/scim/v2/a b", "/scim/v2/a\"b", "/scim/v2/a<b", "/scim/v2/a|b", "/scim/v2/a\x80b",
		"/scim/v2/%", "/scim/v2/%4", "/scim/v2/%4g", "/scim/v2/%u002e", "/scim/v2/%c0%ae", "/scim/v2/%ff", "/scim/v2/%e2%80%a6", "/scim/v2/%ef%bc%8f", "/scim/v2/%e2%88%95", "/scim/v2/%e2%80%ae", "/scim/v2/%ef%bb%bf",
		"/scim/v2/" + strings.Repeat("a", 9000),
	} {
		if scim.AllowedPath(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestAllowedQuery(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"", "filter=userName%20eq%20%22x%22", "a=b&c=d", "filter=emails[type%20eq%20%22work%22]", "a=%C3%A4", "a=b?c/d", "a=%2F..%3B", "x", "a+b"} {
		if !scim.AllowedQuery(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{"a;b", "a b", "a#b", `a\b`, "a<b", "a>b", "a\x00", "a\xc3", "%", "%4", "%4g", "a=%00", "a=%0d%0A", "a=%1f", "a=%7F", "a\tb"} {
		if scim.AllowedQuery(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Whatever decodes, however often, and cuts however, never gets out of a path
// that is allowed.
func FuzzAllowedPath(f *testing.F) {
	for _, seed := range []string{"/scim/v2/Users/1", "/scim/v2/%2e%2e/x", "/scim/v2/.search", "/scim/v2/a%252fb", "/scim/v2/b%C3%A4r", `/scim/v2/..\x`, "/scim/v2;x/y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if !scim.AllowedPath(p) {
			return
		}
		for _, how := range []func(string) (string, error){url.PathUnescape, url.QueryUnescape} {
			read := p
			for range 3 { // a proxy, a server, and an app that decodes again
				within(t, p, read)
				next, err := how(read)
				if err != nil {
					break
				}
				read = next
			}
		}
		u, err := url.ParseRequestURI(p)
		if err != nil || u.Host != "" || u.RawQuery != "" || u.Fragment != "" || u.EscapedPath() != p {
			t.Fatalf("%q is another path for net/url: %+v, %v", p, u, err)
		}
	})
}

// within demands that a reading of a path is still one of SCIM's.
func within(t *testing.T, p, read string) {
	t.Helper()
	if !utf8.ValidString(read) || strings.ContainsAny(read, "\\;\x00\r\n?#") {
		t.Fatalf("%q is read as %q", p, read)
	}
	if clean := path.Clean(read); clean != strings.TrimSuffix(read, "/") || clean != "/scim/v2" && !strings.HasPrefix(clean, "/scim/v2/") {
		t.Fatalf("%q is read as %q", p, clean)
	}
	if slices.Contains(strings.Split(read, "/"), "..") {
		t.Fatalf("%q is read as %q", p, read)
	}
}
