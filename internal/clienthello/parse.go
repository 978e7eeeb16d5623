package clienthello

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// MaxHandshake bounds the ClientHello message in bytes. One with
	// post-quantum key shares takes about 1.8 KB; large session tickets and
	// padding come on top.
	MaxHandshake = 20 << 10
	// MaxSize bounds the bytes of the connection, record headers included,
	// within which the ClientHello must end.
	MaxSize = 32 << 10
)

const (
	recordHead      = 5
	recordHandshake = 0x16
	maxRecord       = 1 << 14 // RFC 8446 section 5.1
	majorVersion    = 0x03

	handshakeHead   = 4
	typeClientHello = 0x01

	extensionServerName = 0
	extensionALPN       = 16
	nameTypeHost        = 0
)

// What [Parse] finds. All but ErrIncomplete are final: more bytes do not help.
var (
	// ErrIncomplete asks for more bytes; the ones seen so far are good.
	ErrIncomplete = errors.New("clienthello: not complete yet")
	// ErrNotTLS means that the first bytes are another protocol's; SSL 2 is one.
	ErrNotTLS = errors.New("clienthello: not TLS")
	// ErrTooLarge means more than [MaxHandshake] or [MaxSize].
	ErrTooLarge = errors.New("clienthello: too large")
	// ErrMalformed means TLS that breaks a rule, or a server name that is no
	// host name.
	ErrMalformed = errors.New("clienthello: malformed")
)

// Hello is what the client asked for.
type Hello struct {
	ServerName string   // in lower case; "" when the client sent none
	ALPN       []string // application protocols, the client's favourite first
}

// Parse reads the ClientHello at the start of b, which holds everything that
// the client has sent so far. Bytes after the record in which the ClientHello
// ends are not looked at. It keeps no reference to b.
func Parse(b []byte) (Hello, error) {
	message, err := handshake(b)
	if err != nil {
		return Hello{}, err
	}
	return parseMessage(message)
}

// handshake returns the body of the ClientHello message, put together from
// its records.
func handshake(b []byte) ([]byte, error) {
	var fragments [1][]byte
	spans := fragments[:0] // the usual hello is in one record: no allocation
	have, want := 0, handshakeHead
	for at := 0; have < want; {
		fragment, end, err := record(b, at)
		incomplete := errors.Is(err, ErrIncomplete)
		if err != nil && !incomplete {
			return nil, err
		}
		if len(fragment) > 0 {
			spans = append(spans, fragment)
			have += len(fragment)
			if want, err = messageSize(spans, have); err != nil {
				return nil, err
			}
		}
		if incomplete {
			if len(b) >= MaxSize {
				return nil, fmt.Errorf("%w: not complete after %d bytes", ErrTooLarge, len(b))
			}
			return nil, ErrIncomplete
		}
		at = end
	}
	if have > want {
		// Nothing may follow in the same record, for the keys change here.
		return nil, fmt.Errorf("%w: %d bytes after the ClientHello in its record", ErrMalformed, have-want)
	}
	message := spans[0]
	if len(spans) > 1 {
		message = make([]byte, 0, want)
		for _, s := range spans {
			message = append(message, s...)
		}
	}
	return message[handshakeHead:], nil
}

// record returns the fragment of the record at b[at:] and where the next one
// starts. With [ErrIncomplete] it returns what is there of the fragment.
func record(b []byte, at int) (fragment []byte, end int, err error) {
	head := b[at:min(len(b), at+recordHead)]
	if len(head) > 0 && head[0] != recordHandshake || len(head) > 1 && head[1] != majorVersion {
		if at == 0 {
			return nil, 0, ErrNotTLS
		}
		return nil, 0, fmt.Errorf("%w: the ClientHello is interrupted by another record", ErrMalformed)
	}
	if len(head) < recordHead {
		return nil, 0, ErrIncomplete
	}
	size := int(binary.BigEndian.Uint16(head[3:]))
	if size == 0 || size > maxRecord {
		return nil, 0, fmt.Errorf("%w: a record of %d bytes", ErrMalformed, size)
	}
	at += recordHead
	if at+size > len(b) {
		return b[at:], 0, ErrIncomplete
	}
	return b[at : at+size], at + size, nil
}

// messageSize tells the size of the handshake message that the fragments
// start, as far as they show it, and refuses what is no ClientHello.
func messageSize(fragments [][]byte, have int) (int, error) {
	if t := fragments[0][0]; t != typeClientHello {
		return 0, fmt.Errorf("%w: handshake message of type %d, not a ClientHello", ErrMalformed, t)
	}
	if have < handshakeHead {
		return handshakeHead, nil
	}
	var head [handshakeHead]byte
	n := 0
	for _, f := range fragments {
		n += copy(head[n:], f)
	}
	size := handshakeHead + (int(head[1])<<16 | int(head[2])<<8 | int(head[3]))
	if size > MaxHandshake {
		return 0, fmt.Errorf("%w: a ClientHello of %d bytes, %d allowed", ErrTooLarge, size, MaxHandshake)
	}
	return size, nil
}

// cursor takes length-prefixed fields off the front of a message. After the
// first that does not fit, bad is set and everything is empty.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || n > len(c.b) {
		c.b, c.bad = nil, true
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) uint8() int {
	if v := c.take(1); v != nil {
		return int(v[0])
	}
	return 0
}

func (c *cursor) uint16() int {
	if v := c.take(2); v != nil {
		return int(binary.BigEndian.Uint16(v))
	}
	return 0
}

func (c *cursor) vector8() []byte  { return c.take(c.uint8()) }
func (c *cursor) vector16() []byte { return c.take(c.uint16()) }

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

// parseMessage reads the body of a ClientHello (RFC 8446 section 4.1.2).
func parseMessage(body []byte) (Hello, error) {
	c := cursor{b: body}
	major := c.uint8()
	c.take(1 + 32) // minor version, random
	session := c.vector8()
	suites := c.vector16()
	compression := c.vector8()
	switch {
	case c.bad:
		return Hello{}, malformed("cut off")
	case major != majorVersion:
		return Hello{}, malformed("version")
	case len(session) > 32:
		return Hello{}, malformed("session ID")
	case len(suites) < 2 || len(suites)%2 != 0:
		return Hello{}, malformed("cipher suites")
	case len(compression) == 0:
		return Hello{}, malformed("compression methods")
	case len(c.b) == 0:
		return Hello{}, nil // an old client without extensions
	}
	extensions := c.vector16()
	if c.bad || len(c.b) > 0 {
		return Hello{}, malformed("length of the extensions")
	}
	return parseExtensions(extensions)
}

func parseExtensions(b []byte) (Hello, error) {
	var h Hello
	var seen [1 << 16 / 64]uint64 // one bit per extension type
	for c := (cursor{b: b}); len(c.b) > 0; {
		kind := c.uint16()
		value := c.vector16()
		if c.bad {
			return Hello{}, malformed("an extension is cut off")
		}
		word, bit := &seen[kind/64], uint64(1)<<(kind%64)
		if *word&bit != 0 {
			return Hello{}, fmt.Errorf("%w: extension %d is given twice", ErrMalformed, kind)
		}
		*word |= bit
		var err error
		switch kind {
		case extensionServerName:
			h.ServerName, err = parseServerName(value)
		case extensionALPN:
			h.ALPN, err = parseALPN(value)
		}
		if err != nil {
			return Hello{}, err
		}
	}
	return h, nil
}

// parseServerName reads a list of exactly one host name (RFC 6066 section 3;
// no other type of name was ever defined).
func parseServerName(b []byte) (string, error) {
	outer := cursor{b: b}
	list := cursor{b: outer.vector16()}
	kind := list.uint8()
	name := list.vector16()
	if outer.bad || list.bad || len(outer.b) > 0 || len(list.b) > 0 || kind != nameTypeHost {
		return "", malformed("server name list")
	}
	return hostname(name)
}

// parseALPN reads a list of at least one protocol (RFC 7301 section 3.1).
func parseALPN(b []byte) ([]string, error) {
	outer := cursor{b: b}
	list := cursor{b: outer.vector16()}
	if outer.bad || len(outer.b) > 0 || len(list.b) == 0 {
		return nil, malformed("list of application protocols")
	}
	var protocols []string
	for len(list.b) > 0 {
		p := list.vector8()
		if len(p) == 0 {
			return nil, malformed("application protocol")
		}
		protocols = append(protocols, string(p))
	}
	return protocols, nil
}
