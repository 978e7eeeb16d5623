package clienthello

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

const (
	// MaxHandshake bounds the ClientHello message in bytes. One with
	// post-quantum key shares takes about 1.8 KB; large session tickets and
	// padding come on top.
	MaxHandshake = 20 << 10
	// MaxRecords bounds the records that a ClientHello is spread over. Clients
	// use one, those that hide from middleboxes a handful, and MaxHandshake
	// fits into two; a record for every few bytes only makes work.
	MaxRecords = 64
	// MaxSize bounds the bytes of the connection, record headers included,
	// within which the ClientHello ends or is refused.
	MaxSize = MaxHandshake + MaxRecords*recordHead
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
	// ErrTooLarge means more than [MaxHandshake].
	ErrTooLarge = errors.New("clienthello: too large")
	// ErrMalformed means TLS that breaks a rule, more than [MaxRecords], or a
	// server name that is no host name.
	ErrMalformed = errors.New("clienthello: malformed")
)

// Hello is what the client asked for.
type Hello struct {
	ServerName string // in lower case; "" when the client sent none
}

// Parse reads the ClientHello at the start of b, which holds everything that
// the client has sent so far. Bytes after the record in which the ClientHello
// ends are not looked at. It keeps no reference to b.
//
// With [ErrIncomplete], need is how many bytes b must have at least before
// another call can find the end; it is more than b has and at most [MaxSize].
// A caller that waits for them calls no more than MaxRecords+3 times,
// however the client cuts its bytes up, and each call takes time linear in the
// number of records until the last.
func Parse(b []byte) (h Hello, need int, err error) {
	message, need, err := handshake(b)
	if err != nil {
		return Hello{}, need, err
	}
	h, err = parseMessage(message)
	return h, 0, err
}

// handshake returns the body of the ClientHello message, put together from
// its records, or how many bytes it takes at least to go on.
func handshake(b []byte) (body []byte, need int, err error) {
	var one [1][]byte
	spans := one[:0] // the usual hello is in one record: no allocation
	var head [handshakeHead]byte
	have, want := 0, handshakeHead // of the message, its head included
	for at := 0; have < want; {
		size, err := recordSize(b, at)
		if errors.Is(err, ErrIncomplete) {
			return nil, at + recordHead, err
		}
		if err != nil {
			return nil, 0, err
		}
		at += recordHead
		fragment := b[at:min(len(b), at+size)]
		if have < handshakeHead && len(fragment) > 0 {
			n := copy(head[have:], fragment)
			if want, err = messageSize(head[:have+n]); err != nil {
				return nil, 0, err
			}
		}
		switch left := want - have; {
		case have+len(fragment) < handshakeHead: // not known yet
		case size > left:
			// Nothing may follow in the same record, for the keys change here.
			return nil, 0, fmt.Errorf("%w: %d bytes after the ClientHello in its record", ErrMalformed, size-left)
		case size < left && len(spans)+1 == MaxRecords:
			return nil, 0, fmt.Errorf("%w: spread over more than %d records", ErrMalformed, MaxRecords)
		}
		if at+size > len(b) {
			return nil, at + missing(size, have, want, len(fragment)), ErrIncomplete
		}
		spans = append(spans, fragment)
		have += size
		at += size
	}
	message := spans[0]
	if len(spans) > 1 {
		message = slices.Concat(spans...)
	}
	return message[handshakeHead:], 0, nil
}

// missing is how many bytes from the start of a record's fragment on must be
// there before there is news: the head of the message where it is not known
// yet, or else the rest of the message, which takes another record at least
// where this one ends before it.
func missing(size, have, want, got int) int {
	upTo := size
	if have+got < handshakeHead {
		upTo = min(size, handshakeHead-have)
	}
	if rest := want - have - upTo; rest > 0 {
		return upTo + recordHead + rest
	}
	return upTo
}

// recordSize reads the head of the record at b[at:] and returns the size of
// its fragment.
func recordSize(b []byte, at int) (int, error) {
	head := b[at:min(len(b), at+recordHead)]
	if len(head) > 0 && head[0] != recordHandshake || len(head) > 1 && head[1] != majorVersion {
		if at == 0 {
			return 0, ErrNotTLS
		}
		return 0, fmt.Errorf("%w: the ClientHello is interrupted by another record", ErrMalformed)
	}
	if len(head) < recordHead {
		return 0, ErrIncomplete
	}
	size := int(binary.BigEndian.Uint16(head[3:]))
	if size == 0 || size > maxRecord {
		return 0, fmt.Errorf("%w: a record of %d bytes", ErrMalformed, size)
	}
	return size, nil
}

// messageSize tells the size of the handshake message that starts with head,
// its head included, as far as that shows it, and refuses what is no
// ClientHello. Head has a byte at least.
func messageSize(head []byte) (int, error) {
	if t := head[0]; t != typeClientHello {
		return 0, fmt.Errorf("%w: handshake message of type %d, not a ClientHello", ErrMalformed, t)
	}
	if len(head) < handshakeHead {
		return handshakeHead, nil
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
			err = checkALPN(value)
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

// checkALPN checks a list of at least one protocol (RFC 7301 section 3.1).
// Nothing is decided by the protocols, so they are not kept: there can be
// thousands.
func checkALPN(b []byte) error {
	outer := cursor{b: b}
	list := cursor{b: outer.vector16()}
	if outer.bad || len(outer.b) > 0 || len(list.b) == 0 {
		return malformed("list of application protocols")
	}
	for len(list.b) > 0 {
		if len(list.vector8()) == 0 {
			return malformed("application protocol")
		}
	}
	return nil
}
