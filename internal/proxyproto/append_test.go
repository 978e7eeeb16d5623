package proxyproto_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	peer "github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/postern-net/postern/internal/proxyproto"
)

func TestAppendAWSIsTheCapture(t *testing.T) {
	t.Parallel()
	got := proxyproto.AppendAWS([]byte("kept"), addr("192.168.44.10:52286"), addr("192.168.44.7:9243"), vpceID)
	if d := cmp.Diff(append([]byte("kept"), awsCapture...), got); d != "" {
		t.Errorf("header (-capture +ours):\n%s", d)
	}
}

func TestAppendAWSSize(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, source, destination, id string
	}{
		{"17 digits", "10.0.0.5:1", "10.1.0.7:443", vpceID},
		{"8 digits", "10.0.0.5:1", "10.1.0.7:443", "vpce-0123abcd"},
		{"public", "10.0.0.5:1", "10.1.0.7:443", ""},
		{"IPv6", "[2001:db8::5]:1", "[2001:db8::7]:443", vpceID},
		{"mixed", "10.0.0.5:1", "[2001:db8::7]:443", vpceID},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := proxyproto.AppendAWS(nil, addr(tc.source), addr(tc.destination), tc.id)
			if len(b) != 100 {
				t.Errorf("%d bytes, AWS sends 100", len(b))
			}
			h, n, err := proxyproto.Parse(b)
			want := proxyproto.Header{Source: addr(tc.source), Destination: addr(tc.destination), VPCEndpointID: tc.id}
			if err != nil || n != len(b) || h != want {
				t.Errorf("parsed as %+v, %d, %v; want %+v", h, n, err, want)
			}
		})
	}
}

func TestAppendAWSTakesAnyInput(t *testing.T) {
	t.Parallel()
	b := proxyproto.AppendAWS(nil, netip.AddrPort{}, netip.AddrPort{}, "vpce-nonsense")
	if _, _, err := proxyproto.Parse(b); !errors.Is(err, proxyproto.ErrMalformed) {
		t.Errorf("a wrong ID, for tests of a receiver, gives %v", err)
	}
}

func TestAppendLocalIsAHealthCheck(t *testing.T) {
	t.Parallel()
	b := proxyproto.AppendLocal(nil)
	if want := "\r\n\r\n\x00\r\nQUIT\n\x20\x11\x00\x54\x03\x00\x04"; !strings.HasPrefix(string(b), want) || len(b) != 100 {
		t.Errorf("health check is %d bytes %x", len(b), b)
	}
	sum := binary.BigEndian.Uint32(b[19:])
	copy(b[19:23], "\x00\x00\x00\x00")
	if got := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)); got != sum {
		t.Errorf("checksum %08x, want %08x", sum, got)
	}
	if h, n, err := proxyproto.Parse(b); err != nil || n != 100 || h != (proxyproto.Header{Local: true}) {
		t.Errorf("parsed as %+v, %d, %v", h, n, err)
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	full := proxyproto.Header{
		Source: addr("10.0.0.5:49153"), Destination: addr("10.1.0.7:443"),
		VPCEndpointID: vpceID, Authority: "example.hosted.immutacloud.com", Organization: "example-corp",
	}
	change := func(f func(*proxyproto.Header)) proxyproto.Header {
		h := full
		f(&h)
		return h
	}
	for _, tc := range []struct {
		name string
		h    proxyproto.Header
		ok   bool
	}{
		{"everything", full, true},
		{"public", change(func(h *proxyproto.Header) { h.VPCEndpointID = "" }), true},
		{"addresses only", proxyproto.Header{Source: full.Source, Destination: full.Destination}, true},
		{"IPv6", change(func(h *proxyproto.Header) { h.Source = addr("[2001:db8::5]:1") }), true},
		{"local", proxyproto.Header{Local: true}, true},
		{"no source", change(func(h *proxyproto.Header) { h.Source = netip.AddrPort{} }), false},
		{"no destination", change(func(h *proxyproto.Header) { h.Destination = netip.AddrPort{} }), false},
		{"bad endpoint", change(func(h *proxyproto.Header) { h.VPCEndpointID = "vpce-1" }), false},
		{"bad authority", change(func(h *proxyproto.Header) { h.Authority = "a b" }), false},
		{"bad organization", change(func(h *proxyproto.Header) { h.Organization = "Example Corp" }), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b, err := proxyproto.Append([]byte("kept"), tc.h)
			if !tc.ok {
				if !errors.Is(err, proxyproto.ErrMalformed) || string(b) != "kept" {
					t.Errorf("appended %q, error %v", b, err)
				}
				return
			}
			if err != nil || !bytes.HasPrefix(b, []byte("kept")) {
				t.Fatalf("appended %q, error %v", b, err)
			}
			h, n, err := proxyproto.Parse(b[4:])
			if err != nil || n != len(b)-4 || h != tc.h {
				t.Errorf("parsed as %+v, %d, %v", h, n, err)
			}
		})
	}
}

// readByPeer reads a header with an independent implementation.
func readByPeer(b []byte) (proxyproto.Header, error) {
	p, err := peer.Read(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return proxyproto.Header{}, err
	}
	if p.Command.IsLocal() {
		return proxyproto.Header{Local: true}, nil
	}
	h := proxyproto.Header{Source: tcpAddr(p.SourceAddr), Destination: tcpAddr(p.DestinationAddr)}
	tlvs, err := p.TLVs()
	if err != nil {
		return proxyproto.Header{}, err
	}
	h.VPCEndpointID = tlvparse.FindAWSVPCEndpointID(tlvs)
	for _, t := range tlvs {
		switch t.Type {
		case peer.PP2_TYPE_AUTHORITY:
			h.Authority = string(t.Value)
		case 0xE0:
			h.Organization = string(t.Value)
		default:
		}
	}
	return h, nil
}

func tcpAddr(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func TestAnIndependentImplementationReadsOurs(t *testing.T) {
	t.Parallel()
	for _, h := range []proxyproto.Header{
		{Source: addr("10.0.0.5:49153"), Destination: addr("10.1.0.7:443"), VPCEndpointID: vpceID, Authority: "a.example", Organization: "example-corp"},
		{Source: addr("[2001:db8::5]:1"), Destination: addr("[2001:db8::7]:443"), VPCEndpointID: "vpce-0123abcd"},
	} {
		b, err := proxyproto.Append(nil, h)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readByPeer(b)
		if err != nil || got != h {
			t.Errorf("read as %+v, %v; want %+v", got, err, h)
		}
	}
}

// FuzzParse holds three things: no input crashes the parser; what it accepts
// it can write and read again; and what it accepts, an independent
// implementation reads in the same way.
func FuzzParse(f *testing.F) {
	f.Add(awsCapture)
	f.Add(proxyproto.AppendLocal(nil))
	f.Add(build(0x21, 0x11, ipv4, tlv(0x02, "a.example"), tlv(0xE0, "example-corp"), tlv(0xEA, "\x01"+vpceID)))
	f.Add(build(0x21, 0x21, ipv6, tlv(0x04, "")))
	f.Add(build(0x21, 0x11, ipv4, tlv(0x03, "\x00\x00\x00\x00")))
	f.Add([]byte("\x16\x03\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, n, err := proxyproto.Parse(in)
		if err != nil {
			return
		}
		if n < proxyproto.FixedSize || n > len(in) || n > proxyproto.MaxSize {
			t.Fatalf("size %d of %d bytes", n, len(in))
		}
		again, err := proxyproto.Append(nil, h)
		if err != nil {
			t.Fatalf("accepted %+v, but will not write it: %v", h, err)
		}
		if h2, _, err := proxyproto.Parse(again); err != nil || h2 != h {
			t.Fatalf("%+v is read again as %+v, %v", h, h2, err)
		}
		if h.Local {
			return // the other implementation reads addresses where AWS sends none
		}
		theirs, err := readByPeer(in[:n])
		if err != nil {
			t.Fatalf("%+v: the other implementation says %v", h, err)
		}
		if theirs != h {
			t.Fatalf("the other implementation reads %+v, ours %+v", theirs, h)
		}
	})
}
