package proxyproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
)

const (
	// FixedSize is the part of every header that tells its whole size.
	FixedSize = 16
	// MaxSize bounds a header. AWS sends 100 bytes; the protocol would allow
	// 65,551, which no sender of ours needs and a hostile one would use.
	MaxSize = FixedSize + 4096
)

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"

	versionMask = 0xF0
	version2    = 0x20
	local       = 0x20 // version 2, command LOCAL
	proxy       = 0x21 // version 2, command PROXY
	tcp4        = 0x11
	tcp6        = 0x21

	typeAuthority    = 0x02
	typeCRC32C       = 0x03
	typeNoop         = 0x04
	typeOrganization = 0xE0
	typeAWS          = 0xEA

	subtypeVPCEndpointID = 0x01

	addresses4 = 2*4 + 2*2
	addresses6 = 2*16 + 2*2
	tlvHead    = 3
	crcSize    = 4
)

// What [Parse] finds. All but ErrIncomplete are final: more bytes do not help.
var (
	// ErrIncomplete asks for more bytes; the ones seen so far are good.
	ErrIncomplete = errors.New("proxyproto: header not complete yet")
	// ErrNotV2 means that the bytes are something else than this protocol.
	ErrNotV2 = errors.New("proxyproto: no PROXY protocol version 2 header")
	// ErrVersion means a version that does not exist behind the signature.
	ErrVersion = errors.New("proxyproto: unknown version")
	// ErrCommand means neither LOCAL nor PROXY.
	ErrCommand = errors.New("proxyproto: unknown command")
	// ErrFamily means a proxied connection that is not TCP over IPv4 or IPv6.
	ErrFamily = errors.New("proxyproto: not TCP over IPv4 or IPv6")
	// ErrTooLong means a header longer than [MaxSize].
	ErrTooLong = errors.New("proxyproto: header too long")
	// ErrChecksum means that the header's CRC32C does not match it.
	ErrChecksum = errors.New("proxyproto: wrong CRC32C")
	// ErrMalformed means lengths that do not add up, a field given twice or a
	// value that its field cannot have.
	ErrMalformed = errors.New("proxyproto: malformed header")
)

// Header is what a header says.
type Header struct {
	// Local marks a connection that the sender made on its own account, which
	// is how AWS marks health checks. All other fields are then zero.
	Local bool

	Source      netip.AddrPort // the client
	Destination netip.AddrPort // what the client connected to

	VPCEndpointID string // "vpce-…"; "" when the client came by no VPC endpoint
	Authority     string // server name that the ingress admitted; "" from AWS
	Organization  string // organization's ID; "" from AWS
}

// noSum stands for the checksum while it is made; read-only.
var noSum [crcSize]byte

// castagnoli is read-only; the standard library shares one table of it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Size tells the size in bytes of the header at the start of b, fixed part
// included, as soon as b holds [FixedSize] bytes. It fails on the first byte
// that cannot belong to a header, so b may be of any length.
func Size(b []byte) (int, error) {
	n := min(len(b), len(signature))
	if string(b[:n]) != signature[:n] {
		return 0, ErrNotV2
	}
	if len(b) > 12 {
		switch c := b[12]; {
		case c&versionMask != version2:
			return 0, fmt.Errorf("%w: byte 0x%02x", ErrVersion, c)
		case c != local && c != proxy:
			return 0, fmt.Errorf("%w: byte 0x%02x", ErrCommand, c)
		}
	}
	if len(b) > 13 && b[12] == proxy && b[13] != tcp4 && b[13] != tcp6 {
		return 0, fmt.Errorf("%w: byte 0x%02x", ErrFamily, b[13])
	}
	if len(b) < FixedSize {
		return 0, ErrIncomplete
	}
	size := FixedSize + int(binary.BigEndian.Uint16(b[14:16]))
	if size > MaxSize {
		return 0, fmt.Errorf("%w: %d bytes, %d allowed", ErrTooLong, size, MaxSize)
	}
	return size, nil
}

// Parse reads the header at the start of b and tells how many bytes it takes;
// what follows them is the connection's own. It keeps no reference to b.
//
// A LOCAL header is skipped by its length: AWS sends some with and some
// without addresses under the same family, so nothing in it can be relied on.
func Parse(b []byte) (h Header, n int, err error) {
	n, err = Size(b)
	switch {
	case err != nil:
		return Header{}, 0, err
	case len(b) < n:
		return Header{}, 0, ErrIncomplete
	case b[12] == local:
		return Header{Local: true}, n, nil
	}
	tlvs, err := h.parseAddresses(b[:n])
	if err == nil {
		err = h.parseTLVs(b[:n], tlvs)
	}
	if err != nil {
		return Header{}, 0, err
	}
	return h, n, nil
}

// parseAddresses returns where the TLVs start.
func (h *Header) parseAddresses(b []byte) (int, error) {
	size := addresses4
	if b[13] == tcp6 {
		size = addresses6
	}
	end := FixedSize + size
	if len(b) < end {
		return 0, fmt.Errorf("%w: %d bytes do not hold the addresses", ErrMalformed, len(b))
	}
	a, ports := b[FixedSize:end-4], b[end-4:end]
	half := len(a) / 2
	source, _ := netip.AddrFromSlice(a[:half])
	destination, _ := netip.AddrFromSlice(a[half:])
	// Unmapped, so that an IPv4 client is one address however it was written.
	h.Source = netip.AddrPortFrom(source.Unmap(), binary.BigEndian.Uint16(ports))
	h.Destination = netip.AddrPortFrom(destination.Unmap(), binary.BigEndian.Uint16(ports[2:]))
	return end, nil
}

func (h *Header) parseTLVs(b []byte, at int) error {
	var seen struct{ crc, endpoint, authority, organization bool }
	for at < len(b) {
		if len(b)-at < tlvHead {
			return fmt.Errorf("%w: a field is cut off at byte %d", ErrMalformed, at)
		}
		kind, size := b[at], int(binary.BigEndian.Uint16(b[at+1:]))
		start := at + tlvHead
		if size > len(b)-start {
			return fmt.Errorf("%w: field 0x%02x at byte %d is longer than the header", ErrMalformed, kind, at)
		}
		value := b[start : start+size]
		at = start + size

		var again bool
		var err error
		switch kind {
		case typeCRC32C:
			again, seen.crc = seen.crc, true
			err = checkCRC(b, start, size)
		case typeAWS:
			if size == 0 {
				err = fmt.Errorf("%w: an AWS field without a subtype", ErrMalformed)
			} else if value[0] == subtypeVPCEndpointID {
				again, seen.endpoint = seen.endpoint, true
				h.VPCEndpointID, err = take(value[1:], isVPCEndpointID, "VPC endpoint ID")
			}
		case typeAuthority:
			again, seen.authority = seen.authority, true
			h.Authority, err = take(value, isAuthority, "authority")
		case typeOrganization:
			again, seen.organization = seen.organization, true
			h.Organization, err = take(value, isLabel, "organization")
		}
		if err != nil {
			return err
		}
		if again {
			return fmt.Errorf("%w: field 0x%02x is given twice", ErrMalformed, kind)
		}
	}
	return nil
}

// checkCRC compares the CRC32C of the header, taken with the field itself set
// to zero, with what the field says.
func checkCRC(b []byte, at, size int) error {
	if size != crcSize {
		return fmt.Errorf("%w: a CRC32C of %d bytes", ErrMalformed, size)
	}
	if binary.BigEndian.Uint32(b[at:]) != checksum(b, at) {
		return ErrChecksum
	}
	return nil
}

// checksum is the CRC32C of b with the four bytes at "at" taken as zero.
func checksum(b []byte, at int) uint32 {
	sum := crc32.Update(0, castagnoli, b[:at])
	sum = crc32.Update(sum, castagnoli, noSum[:])
	return crc32.Update(sum, castagnoli, b[at+crcSize:])
}

func take(value []byte, valid func(string) bool, name string) (string, error) {
	s := string(value)
	if !valid(s) {
		if len(s) > 64 {
			s = s[:64] + "…"
		}
		return "", fmt.Errorf("%w: %q is no %s", ErrMalformed, s, name)
	}
	return s, nil
}

// isVPCEndpointID tells AWS's form: "vpce-" and 8 or 17 lower-case hexadecimal
// digits. It says the same as postern.CheckVPCEndpointID, for the hot path.
func isVPCEndpointID(s string) bool {
	const prefix = "vpce-"
	if len(s) != len(prefix)+8 && len(s) != len(prefix)+17 || s[:len(prefix)] != prefix {
		return false
	}
	for _, c := range []byte(s[len(prefix):]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// isAuthority admits what can be a host name in ASCII; nothing in it can break
// a log line or be mistaken for a list.
func isAuthority(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

// isLabel tells a DNS label in lower case, the form of an organization's ID.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
