package clienthello_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/postern-net/postern/internal/clienthello"
)

func vector16(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func extension(kind uint16, value []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, kind), vector16(value)...)
}

func serverName(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(list, 0)
		list = append(list, vector16([]byte(n))...)
	}
	return extension(0, vector16(list))
}

// fields are the parts of a hello that a test may get wrong.
type fields struct {
	major       byte
	session     []byte
	suites      []byte
	compression []byte
	extensions  []byte // nil: the field is left out
	after       []byte // inside the message
}

func sound(extensions ...[]byte) fields {
	return fields{
		major: 3, session: make([]byte, 32), suites: []byte{0x0a, 0x0a, 0x13, 0x01}, compression: []byte{0},
		extensions: slices.Concat(extensions...),
	}
}

func (f fields) message() []byte {
	body := append([]byte{f.major, 3}, make([]byte, 32)...)
	body = append(body, byte(len(f.session)))
	body = append(body, f.session...)
	body = append(body, vector16(f.suites)...)
	body = append(body, byte(len(f.compression)))
	body = append(body, f.compression...)
	if f.extensions != nil {
		body = append(body, vector16(f.extensions)...)
	}
	body = append(body, f.after...)
	return append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// records wraps a message into as many records as it needs.
func records(message []byte) []byte {
	var out []byte
	for part := range slices.Chunk(message, 1<<14) {
		out = append(out, 0x16, 3, 1)
		out = append(out, vector16(part)...)
	}
	return out
}

func TestParseAccepts(t *testing.T) {
	t.Parallel()
	grease := extension(0x1a1a, nil)
	change := func(f func(*fields), extensions ...[]byte) fields {
		v := sound(extensions...)
		f(&v)
		return v
	}
	longest := strings.Repeat(strings.Repeat("a", 62)+".", 4) + "b"
	for _, tc := range []struct {
		name string
		in   fields
		want string
	}{
		{"no extensions field", change(func(f *fields) { f.extensions = nil }), ""},
		{"no extension", change(func(f *fields) { f.extensions = []byte{} }), ""},
		{"GREASE first and last", sound(grease, serverName("a.example"), extension(0x2a2a, []byte{0})), "a.example"},
		{"mixed case", sound(serverName("A.eXample")), "a.example"},
		{"longest name", sound(serverName(longest)), longest},
		{"digits in the last label", sound(serverName("a.1b")), "a.1b"},
		{"international name", sound(serverName("xn--bcher-kva.example")), "xn--bcher-kva.example"},
		{"empty session", change(func(f *fields) { f.session = nil }, serverName("a.example")), "a.example"},
		{"large, over two records", sound(extension(21, make([]byte, 18<<10)), serverName("a.example")), "a.example"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, _, err := clienthello.Parse(records(tc.in.message()))
			if err != nil || got.ServerName != tc.want {
				t.Errorf("read %q, %v; want %q", got.ServerName, err, tc.want)
			}
		})
	}
}

func TestParseRefusesNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"", ".", "a.example.", ".a.example", "a..example", "192.0.2.1", "2001:db8::1", "[::1]", "0x7f.1", "1",
		"a.example\x00", "a\x00.example", "a example", "a/b.example", "*.example", "a_b.example", "-a.example", "a-.example", "a.example-",
		"bücher.example", "a.example:443", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 126) + "ab", "a.example\n",
	} {
		if h, _, err := clienthello.Parse(records(sound(serverName(name)).message())); !errors.Is(err, clienthello.ErrMalformed) {
			t.Errorf("%q: read %q, %v", name, h.ServerName, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := serverName("a.example")
	message := sound(good).message()
	broken := func(f func(*fields)) []byte {
		v := sound(good)
		f(&v)
		return records(v.message())
	}
	tooMany := records(message)
	tooMany = append(tooMany[:0:0], tooMany...)
	binary.BigEndian.PutUint16(tooMany[3:], uint16(len(message)+1))
	tooMany = append(tooMany, 1)
	shortMessage := records(message)
	shortMessage[8]-- // one byte less than the extensions need, one left over

	for _, tc := range []struct {
		name string
		in   []byte
		want error
	}{
		{"HTTP, by its first byte", []byte("G"), clienthello.ErrNotTLS},
		{"SSL 2", []byte{0x80, 0x2e, 0x01, 0x03, 0x01}, clienthello.ErrNotTLS},
		{"SSH", []byte("SSH-2.0"), clienthello.ErrNotTLS},
		{"alert", []byte{0x15, 3, 1, 0, 2}, clienthello.ErrNotTLS},
		{"PROXY header", []byte("\r\n\r\n\x00\r\nQUIT\n"), clienthello.ErrNotTLS},
		{"major version 2", []byte{0x16, 2}, clienthello.ErrNotTLS},
		{"empty record", []byte{0x16, 3, 1, 0, 0}, clienthello.ErrMalformed},
		{"record too long", []byte{0x16, 3, 1, 0x40, 0x01}, clienthello.ErrMalformed},
		{"not a ClientHello", []byte{0x16, 3, 1, 0, 4, 2}, clienthello.ErrMalformed},
		{"handshake too large, told at once", []byte{0x16, 3, 1, 0x40, 0, 1, 0, 0x50, 0x00}, clienthello.ErrTooLarge},
		{"too many records", refragment(records(sound(extension(21, make([]byte, 10<<10))).message()), count(9000)...)[:clienthello.MaxSize], clienthello.ErrMalformed},
		{"interrupted", append(refragment(records(message), 10)[:15], 0x17, 3, 3, 0, 1, 0), clienthello.ErrMalformed},
		{"more in the same record", tooMany, clienthello.ErrMalformed},
		{"message shorter than its fields", shortMessage, clienthello.ErrMalformed},
		{"body of nothing", records([]byte{1, 0, 0, 0}), clienthello.ErrMalformed},
		{"body of a version", records([]byte{1, 0, 0, 2, 3, 3}), clienthello.ErrMalformed},
		{"major version of the message", broken(func(f *fields) { f.major = 2 }), clienthello.ErrMalformed},
		{"session too long", broken(func(f *fields) { f.session = make([]byte, 33) }), clienthello.ErrMalformed},
		{"no suite", broken(func(f *fields) { f.suites = nil }), clienthello.ErrMalformed},
		{"odd suites", broken(func(f *fields) { f.suites = make([]byte, 3) }), clienthello.ErrMalformed},
		{"no compression", broken(func(f *fields) { f.compression = nil }), clienthello.ErrMalformed},
		{"bytes after the extensions", broken(func(f *fields) { f.after = []byte{0} }), clienthello.ErrMalformed},
		{"half a length of extensions", broken(func(f *fields) { f.extensions, f.after = nil, []byte{0} }), clienthello.ErrMalformed},
		{"extension cut off", broken(func(f *fields) { f.extensions = append(f.extensions, 0, 10, 0, 1) }), clienthello.ErrMalformed},
		{"two names", records(sound(serverName("a.example", "b.example")).message()), clienthello.ErrMalformed},
		{"no name in the list", records(sound(extension(0, []byte{0, 0})).message()), clienthello.ErrMalformed},
		{"empty server name extension", records(sound(extension(0, nil)).message()), clienthello.ErrMalformed},
		{"another type of name", records(sound(extension(0, vector16(append([]byte{1}, vector16([]byte("a.example"))...)))).message()), clienthello.ErrMalformed},
		{"bytes after the list of names", records(sound(extension(0, append(vector16(append([]byte{0}, vector16([]byte("a.example"))...)), 0))).message()), clienthello.ErrMalformed},
		{"server name given twice", records(sound(good, good).message()), clienthello.ErrMalformed},
		{"extension given twice", records(sound(extension(0xfafa, nil), extension(0xfafa, nil)).message()), clienthello.ErrMalformed},
		{"no protocol", records(sound(extension(16, []byte{0, 0})).message()), clienthello.ErrMalformed},
		{"empty protocol", records(sound(extension(16, vector16([]byte{0}))).message()), clienthello.ErrMalformed},
		{"protocol cut off", records(sound(extension(16, vector16([]byte{3, 'h', '2'}))).message()), clienthello.ErrMalformed},
		{"bytes after the protocols", records(sound(extension(16, append(vector16([]byte{2, 'h', '2'}), 0))).message()), clienthello.ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if h, _, err := clienthello.Parse(tc.in); !errors.Is(err, tc.want) {
				t.Errorf("read %+v, error %v, want %v", h, err, tc.want)
			}
		})
	}
}

// count is 1 to n.
func count(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i + 1
	}
	return out
}
