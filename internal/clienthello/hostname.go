package clienthello

import "fmt"

const (
	maxHostname = 253
	maxLabel    = 63
)

// hostname checks a server name and puts it in lower case. RFC 6066 allows a
// DNS host name there, without a trailing dot, and no literal address; a name
// whose last label is a number would be read as an address by some.
func hostname(b []byte) (string, error) {
	if len(b) == 0 || len(b) > maxHostname {
		return "", fmt.Errorf("%w: a server name of %d bytes", ErrMalformed, len(b))
	}
	name := make([]byte, len(b))
	label, numeric := 0, true
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		name[i] = c
		switch {
		case c >= 'a' && c <= 'z':
			numeric = false
		case c >= '0' && c <= '9':
		case c == '-':
			numeric = false
			if label == 0 || i+1 == len(b) || b[i+1] == '.' {
				return "", malformed("server name with a hyphen at the edge of a label")
			}
		case c == '.':
			if label == 0 || i+1 == len(b) {
				return "", malformed("server name with an empty label or a trailing dot")
			}
			label, numeric = 0, true
			continue
		default:
			return "", fmt.Errorf("%w: server name with byte 0x%02x", ErrMalformed, c)
		}
		if label++; label > maxLabel {
			return "", malformed("server name with a label of more than 63 bytes")
		}
	}
	if numeric {
		return "", malformed("server name that is an address")
	}
	return string(name), nil
}
