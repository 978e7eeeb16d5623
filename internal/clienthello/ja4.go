package clienthello

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

const (
	extensionSignatureAlgorithms = 13
	extensionSupportedVersions   = 43
)

// JA4 is FoxIO's fingerprint of a TLS client over TCP: what it offers, in an
// order of its own, such as "t13d1516h2_8daaf6152771_e5627efa2ab1". It tells
// programs apart, not clients: anybody can send another's, so it is a hint in a
// log and decides nothing. b is what [Parse] took; "" for what it would refuse.
//
// Source: FoxIO, "JA4: TLS Client Fingerprinting", the part of the JA4 suite
// under the BSD 3-Clause licence. GREASE values (RFC 8701) do not count.
func JA4(b []byte) string {
	body, _, err := handshake(b)
	if err != nil {
		return ""
	}
	if _, err := parseMessage(body); err != nil {
		return ""
	}
	c := cursor{b: body}
	version := c.uint16()
	c.take(32)
	c.vector8()
	suites := without(c.vector16())
	c.vector8()
	var f features
	if len(c.b) > 0 {
		f.read(c.vector16())
	}
	if f.version != 0 {
		version = f.version
	}
	var a strings.Builder
	a.WriteByte('t')
	a.WriteString(versionName(version))
	a.WriteByte(f.destination())
	a.WriteString(two(len(suites)))
	a.WriteString(two(len(f.extensions)))
	a.WriteString(f.alpn())
	return a.String() + "_" + shortSum(hexList(sorted(suites))) + "_" + f.sum()
}

// features are what a hello's extensions tell.
type features struct {
	extensions []uint16 // all, in their order
	signatures []uint16
	protocol   []byte // the first one that is offered for ALPN
	version    int
	named      bool
}

func (f *features) read(b []byte) {
	for c := (cursor{b: b}); len(c.b) > 0 && !c.bad; {
		kind := uint16(c.uint16()) //nolint:gosec // of 16 bits
		value := cursor{b: c.vector16()}
		if grease(kind) {
			continue
		}
		f.extensions = append(f.extensions, kind)
		switch kind {
		case extensionServerName:
			f.named = true
		case extensionALPN:
			list := cursor{b: value.vector16()}
			f.protocol = list.vector8()
		case extensionSignatureAlgorithms:
			f.signatures = without(value.vector16())
		case extensionSupportedVersions:
			for _, v := range without(value.vector8()) {
				f.version = max(f.version, int(v))
			}
		}
	}
}

func (f *features) destination() byte {
	if f.named {
		return 'd'
	}
	return 'i'
}

// alpn is the first and the last character of the first protocol; of its bytes
// in hexadecimal, where one of those is no letter or digit.
func (f *features) alpn() string {
	p := f.protocol
	if len(p) == 0 {
		return "00"
	}
	first, last := p[0], p[len(p)-1]
	if alphanumeric(first) && alphanumeric(last) {
		return string([]byte{first, last})
	}
	h := hex.EncodeToString(p)
	return string([]byte{h[0], h[len(h)-1]})
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// sum is over the sorted extensions but server name and ALPN, which differ by
// destination, and the signature algorithms in their own order.
func (f *features) sum() string {
	rest := slices.DeleteFunc(sorted(f.extensions), func(k uint16) bool { return k == extensionServerName || k == extensionALPN })
	text := hexList(rest)
	if len(f.extensions) > 0 && len(f.signatures) > 0 {
		text += "_" + hexList(f.signatures)
	}
	return shortSum(text)
}

// without reads a list of 16-bit values, leaving GREASE out.
func without(b []byte) []uint16 {
	var out []uint16
	for c := (cursor{b: b}); len(c.b) > 1; {
		if v := uint16(c.uint16()); !grease(v) { //nolint:gosec // of 16 bits
			out = append(out, v)
		}
	}
	return out
}

func grease(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

func sorted(v []uint16) []uint16 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v
}

func hexList(v []uint16) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 5*len(v))
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, digits[x>>12], digits[x>>8&15], digits[x>>4&15], digits[x&15])
	}
	return string(b)
}

func shortSum(text string) string {
	if text == "" {
		return "000000000000"
	}
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:6])
}

func two(n int) string {
	s := strconv.Itoa(min(n, 99))
	if len(s) < 2 {
		return "0" + s
	}
	return s
}

func versionName(v int) string {
	switch v {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	}
	return "00"
}
