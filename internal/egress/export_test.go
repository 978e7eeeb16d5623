package egress

// Parsed is what the tests see of a request.
type Parsed struct {
	Host       string
	Port       uint16
	Credential string
}

// ParseConnect is parseConnect.
func ParseConnect(b []byte) (Parsed, int, error) {
	r, size, err := parseConnect(b)
	return Parsed{r.host, r.port, string(r.credential)}, size, err
}

// What parseConnect says.
var (
	ErrIncomplete, ErrTooLarge, ErrNotConnect = errIncomplete, errTooLarge, errNotConnect
	ErrMalformed, ErrLiteral                  = errMalformed, errLiteral
)

// The bounds of a request's head.
const (
	MaxHead    = maxHead
	MaxHeaders = maxHeaders
)
