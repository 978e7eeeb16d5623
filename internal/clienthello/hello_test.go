package clienthello_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern/internal/clienthello"
)

var errStop = errors.New("enough seen")

// wire is a connection that hands out given bytes and keeps what is written.
type wire struct {
	in  io.Reader
	out bytes.Buffer
}

func (w *wire) Read(b []byte) (int, error)       { return w.in.Read(b) }
func (w *wire) Write(b []byte) (int, error)      { return w.out.Write(b) }
func (w *wire) Close() error                     { return nil }
func (w *wire) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (w *wire) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// clientHello is what a real client sends first.
func clientHello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	w := &wire{in: strings.NewReader("")}
	if err := tls.Client(w, c).HandshakeContext(t.Context()); err == nil {
		t.Fatal("handshake with nobody succeeded")
	}
	return w.out.Bytes()
}

// readByServer is what a real server makes of the same bytes; nil when it
// does not get as far as to see a hello.
func readByServer(t testing.TB, b []byte) *tls.ClientHelloInfo {
	t.Helper()
	var info *tls.ClientHelloInfo
	server := tls.Server(&wire{in: bytes.NewReader(b)}, &tls.Config{
		MinVersion: tls.VersionTLS10,
		GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
			info = i
			return nil, errStop
		},
	})
	if err := server.HandshakeContext(t.Context()); err == nil {
		t.Fatal("handshake with nobody succeeded")
	}
	return info
}

func clients() map[string]*tls.Config {
	return map[string]*tls.Config{
		"default, post-quantum": {ServerName: "example.hosted.immutacloud.com"},
		"upper case":            {ServerName: "Example.Hosted.ImmutaCloud.COM"},
		"no name":               {InsecureSkipVerify: true},
		"address, so no name":   {ServerName: "192.0.2.1"},
		"h2":                    {ServerName: "a.example", NextProtos: []string{"h2", "http/1.1"}},
		"TLS 1.2":               {ServerName: "a.example", MaxVersion: tls.VersionTLS12},
		"TLS 1.0 only":          {ServerName: "a.example", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
		"classic curve":         {ServerName: "a.example", CurvePreferences: []tls.CurveID{tls.X25519}},
		"single label":          {ServerName: "localhost"},
		"longest label":         {ServerName: strings.Repeat("a", 63) + ".example"},
		"many protocols":        {ServerName: "a.example", NextProtos: slices.Repeat([]string{strings.Repeat("p", 200)}, 60)},
	}
}

func TestParseReadsWhatAServerReads(t *testing.T) {
	t.Parallel()
	for name, config := range clients() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := clientHello(t, config)
			got, _, err := clienthello.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got, readByServer(t, b))
			if _, _, err := clienthello.Parse(append(slices.Clone(b), "early data"...)); err != nil {
				t.Errorf("with bytes after it: %v", err)
			}
			for i := range b {
				if _, _, err := clienthello.Parse(b[:i]); !errors.Is(err, clienthello.ErrIncomplete) {
					t.Fatalf("first %d of %d bytes: %v, want ErrIncomplete", i, len(b), err)
				}
			}
		})
	}
}

func compare(t *testing.T, got clienthello.Hello, want *tls.ClientHelloInfo) {
	t.Helper()
	if want == nil {
		t.Fatalf("the server does not accept what is read as %+v", got)
	}
	if got.ServerName != strings.ToLower(want.ServerName) {
		t.Errorf("server name %q, the server reads %q", got.ServerName, want.ServerName)
	}
}

// refragment puts a hello of one record into several, cut at the given places.
func refragment(b []byte, cuts ...int) []byte {
	message := b[5:]
	var out []byte
	from := 0
	for _, to := range append(cuts, len(message)) {
		out = append(out, 0x16, 0x03, 0x03)
		out = binary.BigEndian.AppendUint16(out, uint16(to-from))
		out = append(out, message[from:to]...)
		from = to
	}
	return out
}

func TestParseOverRecords(t *testing.T) {
	t.Parallel()
	b := clientHello(t, &tls.Config{ServerName: "example.hosted.immutacloud.com", NextProtos: []string{"h2"}})
	want, _, err := clienthello.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	size := len(b) - 5
	check := func(name string, in []byte) {
		got, _, err := clienthello.Parse(in)
		if err != nil || got.ServerName != want.ServerName {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if _, _, err := clienthello.Parse(in[:len(in)-1]); !errors.Is(err, clienthello.ErrIncomplete) {
			t.Errorf("%s, without its last byte: %v", name, err)
		}
	}
	for cut := 1; cut < size; cut++ {
		check("two records", refragment(b, cut))
	}
	for cut := 1; cut < size-1; cut += 7 {
		check("three records", refragment(b, cut, cut+1))
	}
	if info := readByServer(t, refragment(b, 1, size/2)); info == nil || info.ServerName != want.ServerName {
		t.Errorf("the server does not read the fragments: %+v", info)
	}
}

// FuzzParse holds that no input crashes the parser, that more bytes never
// change an answer, and that what it accepts a real server reads in the same
// way or refuses.
func FuzzParse(f *testing.F) {
	for _, c := range clients() {
		b := clientHello(f, c)
		f.Add(b)
		f.Add(refragment(b, 1, len(b)/2))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _, err := clienthello.Parse(b)
		for _, n := range []int{0, 1, 5, 6, len(b) / 2} {
			if n >= len(b) {
				break
			}
			early, need, earlyErr := clienthello.Parse(b[:n])
			if errors.Is(earlyErr, clienthello.ErrIncomplete) {
				if need <= n || need > clienthello.MaxSize {
					t.Fatalf("%d bytes are there, %d are needed", n, need)
				}
				_, _, before := clienthello.Parse(b[:min(need-1, len(b))])
				if before == nil {
					t.Fatalf("%d bytes were needed, and less will do", need)
				}
				continue
			}
			if (earlyErr == nil) != (err == nil) || early.ServerName != got.ServerName {
				t.Fatalf("%d bytes give %+v, %v; all %d give %+v, %v", n, early, earlyErr, len(b), got, err)
			}
		}
		if ja4 := clienthello.JA4(b); (ja4 != "") != (err == nil) || ja4 != "" && len(ja4) != 36 {
			t.Fatalf("fingerprint %q, though %v", ja4, err)
		}
		if err != nil {
			return
		}
		info := readByServer(t, b)
		if info != nil {
			compare(t, got, info)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	hello := clientHello(b, &tls.Config{ServerName: "example.hosted.immutacloud.com"})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := clienthello.Parse(hello); err != nil {
			b.Fatal(err)
		}
	}
}
