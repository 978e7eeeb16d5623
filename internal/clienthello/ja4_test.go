package clienthello_test

import (
	"crypto/tls"
	"encoding/binary"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/postern-net/postern/internal/clienthello"
)

func list16(values ...uint16) []byte {
	var b []byte
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

// chrome is the client of FoxIO's own example, of which the fingerprint and all
// that goes into it are published: https://github.com/FoxIO-LLC/ja4, JA4.md.
func chrome(change func(*fields)) []byte {
	alpn := extension(16, vector16([]byte("\x02h2\x08http/1.1")))
	signatures := extension(13, vector16(list16(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)))
	versions := extension(43, append([]byte{6}, list16(0x1a1a, 0x0304, 0x0303)...))
	extensions := slices.Concat(extension(0x2a2a, nil), serverName("example.com"))
	for _, kind := range []uint16{0x0017, 0xff01, 0x000a, 0x000b, 0x0023} {
		extensions = append(extensions, extension(kind, []byte{0})...)
	}
	extensions = slices.Concat(extensions, alpn, extension(5, []byte{1}), signatures, extension(0x12, nil), extension(0x33, []byte{0}), extension(0x2d, []byte{0}), versions)
	for _, kind := range []uint16{0x001b, 0x4469, 0x0015, 0x3a3a} {
		extensions = append(extensions, extension(kind, []byte{0})...)
	}
	f := sound(extensions)
	f.suites = list16(0x0a0a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035)
	if change != nil {
		change(&f)
	}
	return records(f.message())
}

func TestJA4(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		in   []byte
		want string
	}{
		{"FoxIO's example", chrome(nil), "t13d1516h2_8daaf6152771_e5627efa2ab1"},
		{"in several records", refragment(chrome(nil), 3, 90), "t13d1516h2_8daaf6152771_e5627efa2ab1"},
		{"no extensions", chrome(func(f *fields) { f.extensions = nil }), "t12i150000_8daaf6152771_000000000000"},
		{"no extension", chrome(func(f *fields) { f.extensions = []byte{} }), "t12i150000_8daaf6152771_000000000000"},
		{"GREASE only", chrome(func(f *fields) { f.suites, f.extensions = list16(0x0a0a), extension(0x1a1a, nil) }), "t12i000000_000000000000_000000000000"},
		{"not complete", chrome(nil)[:200], ""},
		{"not a hello", []byte("GET / HTTP/1.1\r\n\r\n"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := clienthello.JA4(tc.in); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestJA4OfProtocols(t *testing.T) {
	t.Parallel()
	for protocol, want := range map[string]string{"h2": "h2", "http/1.1": "h1", "x": "xx", "\xab\xcd": "ad", "h\x0a": "6a"} {
		in := records(sound(extension(16, vector16(append([]byte{byte(len(protocol))}, protocol...)))).message())
		if got := clienthello.JA4(in); !strings.HasPrefix(got, "t12i0101"+want+"_") {
			t.Errorf("%q gives %q", protocol, got)
		}
	}
}

// Of a real client, and whatever server it asks for.
func TestJA4OfARealClient(t *testing.T) {
	t.Parallel()
	of := func(name string) string {
		return clienthello.JA4(clientHello(t, &tls.Config{ServerName: name, NextProtos: []string{"h2"}}))
	}
	form := regexp.MustCompile(`^t13d\d{4}h2_[0-9a-f]{12}_[0-9a-f]{12}$`)
	if a, b := of("a.example"), of("b.example"); a != b || !form.MatchString(a) {
		t.Errorf("%q and %q", a, b)
	}
}

func BenchmarkJA4(b *testing.B) {
	in := chrome(nil)
	b.ReportAllocs()
	for b.Loop() {
		clienthello.JA4(in)
	}
}
