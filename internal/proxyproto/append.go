package proxyproto

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// awsSize is the size that AWS pads its headers to, seen in every capture of
// one with IPv4 addresses.
const awsSize = 100

// AppendAWS appends the header that a Network Load Balancer sends for a
// connection through the VPC endpoint vpceID ("" for one that came by no
// endpoint): checksum, endpoint ID, and padding to 100 bytes. With IPv4
// addresses and an ID of 17 digits it is what AWS sends byte for byte; no
// capture with IPv6 addresses is known, and the same layout is assumed.
//
// The ID is not checked, so that a test can send a wrong one; an invalid
// address is written as "::".
func AppendAWS(b []byte, source, destination netip.AddrPort, vpceID string) []byte {
	start := len(b)
	b = appendAddresses(b, source, destination)
	b, crc := appendCRC(b)
	if vpceID != "" {
		b = appendEndpoint(b, vpceID)
	}
	b = appendPadding(b, start)
	return seal(b, start, crc)
}

// AppendLocal appends the header of an AWS health check: command LOCAL and,
// although its family says TCP over IPv4, no addresses.
func AppendLocal(b []byte) []byte {
	start := len(b)
	b = append(b, signature...)
	b = append(b, local, tcp4, 0, 0)
	b, crc := appendCRC(b)
	b = appendPadding(b, start)
	return seal(b, start, crc)
}

// Append appends h, with a checksum and those fields that are not empty. It
// fails, leaving b as it was, when h has a value that [Parse] would refuse.
func Append(b []byte, h Header) ([]byte, error) {
	if h.Local {
		return AppendLocal(b), nil
	}
	switch {
	case !h.Source.IsValid() || !h.Destination.IsValid():
		return b, fmt.Errorf("%w: source %v, destination %v", ErrMalformed, h.Source, h.Destination)
	case h.VPCEndpointID != "" && !isVPCEndpointID(h.VPCEndpointID):
		return b, fmt.Errorf("%w: %q is no VPC endpoint ID", ErrMalformed, h.VPCEndpointID)
	case h.Authority != "" && !isAuthority(h.Authority):
		return b, fmt.Errorf("%w: %q is no authority", ErrMalformed, h.Authority)
	case h.Organization != "" && !isLabel(h.Organization):
		return b, fmt.Errorf("%w: %q is no organization", ErrMalformed, h.Organization)
	}
	start := len(b)
	b = appendAddresses(b, h.Source, h.Destination)
	b, crc := appendCRC(b)
	if h.Authority != "" {
		b = appendTLV(b, typeAuthority, h.Authority)
	}
	if h.Organization != "" {
		b = appendTLV(b, typeOrganization, h.Organization)
	}
	if h.VPCEndpointID != "" {
		b = appendEndpoint(b, h.VPCEndpointID)
	}
	return seal(b, start, crc), nil
}

// appendAddresses appends the fixed part and the addresses, in IPv6 unless
// both are IPv4.
func appendAddresses(b []byte, source, destination netip.AddrPort) []byte {
	s, d := source.Addr().Unmap(), destination.Addr().Unmap()
	b = append(b, signature...)
	if s.Is4() && d.Is4() {
		b = append(b, proxy, tcp4, 0, 0)
		s4, d4 := s.As4(), d.As4()
		b = append(b, s4[:]...)
		b = append(b, d4[:]...)
	} else {
		s16, d16 := s.As16(), d.As16()
		b = append(b, proxy, tcp6, 0, 0)
		b = append(b, s16[:]...)
		b = append(b, d16[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, source.Port())
	return binary.BigEndian.AppendUint16(b, destination.Port())
}

func appendTLV(b []byte, kind byte, value string) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value))) //nolint:gosec // values are IDs and names of at most 253 bytes
	return append(b, value...)
}

func appendEndpoint(b []byte, id string) []byte {
	b = append(b, typeAWS)
	b = binary.BigEndian.AppendUint16(b, uint16(1+len(id))) //nolint:gosec // an ID has at most 22 bytes
	b = append(b, subtypeVPCEndpointID)
	return append(b, id...)
}

// appendCRC appends an empty checksum and tells where it is.
func appendCRC(b []byte) ([]byte, int) {
	b = append(b, typeCRC32C, 0, crcSize)
	return append(b, 0, 0, 0, 0), len(b)
}

func appendPadding(b []byte, start int) []byte {
	if n := awsSize - (len(b) - start) - tlvHead; n >= 0 {
		b = append(b, typeNoop, 0, byte(n)) //nolint:gosec // n is less than awsSize
		b = append(b, make([]byte, n)...)
	}
	return b
}

// seal fills in the length and then the checksum of the header in b[start:].
func seal(b []byte, start, crc int) []byte {
	binary.BigEndian.PutUint16(b[start+14:], uint16(len(b)-start-FixedSize)) //nolint:gosec // bounded by the fields above
	binary.BigEndian.PutUint32(b[crc:], checksum(b[start:], crc-start))
	return b
}
