package proxyproto_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/proxyproto"
)

const vpceID = "vpce-00eafc458ec97b833"

// awsCapture is what a Network Load Balancer sent for a connection through a
// VPC endpoint.
var awsCapture = unhex("0d0a0d0a000d0a515549540a" + "21110054" +
	"c0a82c0a" + "c0a82c07" + "cc3e241b" +
	"030004b9286fa6" +
	"ea001701" + hex.EncodeToString([]byte(vpceID)) +
	"040024" + strings.Repeat("00", 36))

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// cmpNetip compares addresses by value; their fields are not exported.
var cmpNetip = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

// build makes a header of a command and family with a payload and no checksum.
func build(command, family byte, payload ...[]byte) []byte {
	body := slices.Concat(payload...)
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

func tlv(kind byte, value string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value)))
	return append(b, value...)
}

var (
	ipv4 = unhex("0a000005" + "0a010007" + "c001" + "01bb")
	ipv6 = unhex("20010db8000000000000000000000005" + "20010db8000000000000000000000007" + "c00101bb")
)

func TestParse(t *testing.T) {
	t.Parallel()
	v4 := proxyproto.Header{Source: addr("10.0.0.5:49153"), Destination: addr("10.1.0.7:443")}
	with := func(h proxyproto.Header, change func(*proxyproto.Header)) proxyproto.Header {
		change(&h)
		return h
	}
	for _, tc := range []struct {
		name string
		in   []byte
		want proxyproto.Header
	}{
		{"AWS capture", awsCapture, proxyproto.Header{
			Source: addr("192.168.44.10:52286"), Destination: addr("192.168.44.7:9243"), VPCEndpointID: vpceID,
		}},
		{"no field at all", build(0x21, 0x11, ipv4), v4},
		{"IPv6", build(0x21, 0x21, ipv6), proxyproto.Header{Source: addr("[2001:db8::5]:49153"), Destination: addr("[2001:db8::7]:443")}},
		{
			"IPv4 written as IPv6", build(0x21, 0x21, unhex("00000000000000000000ffff0a000005"+"00000000000000000000ffff0a010007"+"c00101bb")),
			v4,
		},
		{"only the endpoint", build(0x21, 0x11, ipv4, tlv(0xEA, "\x01"+vpceID)), with(v4, func(h *proxyproto.Header) { h.VPCEndpointID = vpceID })},
		{"old short endpoint ID", build(0x21, 0x11, ipv4, tlv(0xEA, "\x01vpce-0123abcd")), with(v4, func(h *proxyproto.Header) { h.VPCEndpointID = "vpce-0123abcd" })},
		{"another AWS subtype", build(0x21, 0x11, ipv4, tlv(0xEA, "\x02whatever")), v4},
		{"unknown field", build(0x21, 0x11, ipv4, tlv(0xEE, "azure"), tlv(0x04, "")), v4},
		{"ours", build(0x21, 0x11, ipv4, tlv(0x02, "example.hosted.immutacloud.com"), tlv(0xE0, "example-corp")), with(v4, func(h *proxyproto.Header) {
			h.Authority, h.Organization = "example.hosted.immutacloud.com", "example-corp"
		})},
		{"health check without addresses", build(0x20, 0x11, tlv(0x03, "crc?"), tlv(0x04, strings.Repeat("\x00", 74))), proxyproto.Header{Local: true}},
		{"health check with addresses", build(0x20, 0x11, ipv4), proxyproto.Header{Local: true}},
		{"health check of no family, empty", build(0x20, 0x00), proxyproto.Header{Local: true}},
		{"health check with garbage", build(0x20, 0xFF, []byte("\xEA\xFF\xFF")), proxyproto.Header{Local: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			in := append(slices.Clone(tc.in), "the connection's own bytes"...)
			got, n, err := proxyproto.Parse(in)
			if err != nil {
				t.Fatal(err)
			}
			if n != len(tc.in) {
				t.Errorf("header of %d bytes, want %d", n, len(tc.in))
			}
			if d := cmp.Diff(tc.want, got, cmpNetip); d != "" {
				t.Errorf("header (-want +got):\n%s", d)
			}
			for i := range tc.in {
				if _, _, err := proxyproto.Parse(tc.in[:i]); !errors.Is(err, proxyproto.ErrIncomplete) {
					t.Fatalf("first %d bytes: %v, want ErrIncomplete", i, err)
				}
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	badCRC := slices.Clone(awsCapture)
	badCRC[20]++ // the destination address
	for _, tc := range []struct {
		name string
		in   []byte
		want error
	}{
		{"TLS", []byte{0x16, 0x03, 0x01}, proxyproto.ErrNotV2},
		{"HTTP", []byte("G"), proxyproto.ErrNotV2},
		{"version 1", []byte("PROXY TCP4 1.2.3.4 "), proxyproto.ErrNotV2},
		{"signature that goes wrong late", []byte("\r\n\r\n\x00\r\nQUIT\r"), proxyproto.ErrNotV2},
		{"version 3", build(0x31, 0x11)[:13], proxyproto.ErrVersion},
		{"command 2", build(0x22, 0x11)[:13], proxyproto.ErrCommand},
		{"UDP", build(0x21, 0x12, ipv4), proxyproto.ErrFamily},
		{"no family", build(0x21, 0x00), proxyproto.ErrFamily},
		{"Unix socket", build(0x21, 0x31, make([]byte, 216))[:14], proxyproto.ErrFamily},
		{"too long, told at once", build(0x21, 0x11, make([]byte, 4097))[:16], proxyproto.ErrTooLong},
		{"health check too long", build(0x20, 0x11, make([]byte, 4097))[:16], proxyproto.ErrTooLong},
		{"addresses cut off", build(0x21, 0x11, ipv4[:11]), proxyproto.ErrMalformed},
		{"IPv6 with IPv4 addresses", build(0x21, 0x21, ipv4), proxyproto.ErrMalformed},
		{"field head cut off", build(0x21, 0x11, ipv4, []byte{0x04, 0x00}), proxyproto.ErrMalformed},
		{"field too long", build(0x21, 0x11, ipv4, []byte{0x04, 0x00, 0x02, 0x00}), proxyproto.ErrMalformed},
		{"wrong checksum", badCRC, proxyproto.ErrChecksum},
		{"checksum of 3 bytes", build(0x21, 0x11, ipv4, tlv(0x03, "abc")), proxyproto.ErrMalformed},
		{"AWS field without subtype", build(0x21, 0x11, ipv4, tlv(0xEA, "")), proxyproto.ErrMalformed},
		{"endpoint ID empty", build(0x21, 0x11, ipv4, tlv(0xEA, "\x01")), proxyproto.ErrMalformed},
		{"endpoint ID in upper case", build(0x21, 0x11, ipv4, tlv(0xEA, "\x01vpce-00EAFC458EC97B833")), proxyproto.ErrMalformed},
		{"endpoint ID with 18 digits", build(0x21, 0x11, ipv4, tlv(0xEA, "\x01"+vpceID+"0")), proxyproto.ErrMalformed},
		{"endpoint service's ID", build(0x21, 0x11, ipv4, tlv(0xEA, "\x01vpce-svc-0471015b106ad1")), proxyproto.ErrMalformed},
		{"two endpoint IDs", build(0x21, 0x11, ipv4, tlv(0xEA, "\x01"+vpceID), tlv(0xEA, "\x01vpce-0123abcd")), proxyproto.ErrMalformed},
		{"two authorities", build(0x21, 0x11, ipv4, tlv(0x02, "a.example"), tlv(0x02, "b.example")), proxyproto.ErrMalformed},
		{"two organizations", build(0x21, 0x11, ipv4, tlv(0xE0, "a"), tlv(0xE0, "b")), proxyproto.ErrMalformed},
		{"authority with a line break", build(0x21, 0x11, ipv4, tlv(0x02, "a.example\nb")), proxyproto.ErrMalformed},
		{"authority too long", build(0x21, 0x11, ipv4, tlv(0x02, strings.Repeat("a", 254))), proxyproto.ErrMalformed},
		{"authority empty", build(0x21, 0x11, ipv4, tlv(0x02, "")), proxyproto.ErrMalformed},
		{"organization in upper case", build(0x21, 0x11, ipv4, tlv(0xE0, "Example")), proxyproto.ErrMalformed},
		{"organization with outer hyphen", build(0x21, 0x11, ipv4, tlv(0xE0, "-example")), proxyproto.ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h, n, err := proxyproto.Parse(tc.in)
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if (h != proxyproto.Header{}) || n != 0 {
				t.Errorf("returned %+v and %d besides the error", h, n)
			}
		})
	}
}

// A second checksum would be computed over a header in which the first is not
// zero, so it has to be wrong; both right cannot be built, twice is refused.
func TestParseRefusesASecondChecksum(t *testing.T) {
	t.Parallel()
	b := build(0x21, 0x11, ipv4, tlv(0x03, "\x00\x00\x00\x00"), tlv(0x03, "\x00\x00\x00\x00"))
	binary.BigEndian.PutUint32(b[16+12+3:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	if _, _, err := proxyproto.Parse(b); err == nil {
		t.Error("accepted")
	}
}

func TestEndpointIDFormIsTheDomains(t *testing.T) {
	t.Parallel()
	for _, id := range []string{
		vpceID, "vpce-0123abcd", "vpce-", "vpce-0123abc", "vpce-0123abcde", "vpce-0123abcg", "vpce-0123ABCD", "VPCE-0123abcd",
		"vpce-svc-0123abcd", "vpce-00eafc458ec97b83", "vpce-00eafc458ec97b8333", "vpce_0123abcd", "xpce-0123abcd", "vpce-0123abc\n",
	} {
		_, _, err := proxyproto.Parse(build(0x21, 0x11, ipv4, tlv(0xEA, "\x01"+id)))
		if domain := postern.CheckVPCEndpointID("", id); (err == nil) != (domain == nil) {
			t.Errorf("%q: header says %v, domain says %v", id, err, domain)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := proxyproto.Parse(awsCapture); err != nil {
			b.Fatal(err)
		}
	}
}
