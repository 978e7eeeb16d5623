package backend

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/postern-net/postern/internal/proxyproto"
)

// DefaultHeaderTimeout is how long a header may take. The ingress sends it
// together with the first bytes of the client, at once.
const DefaultHeaderTimeout = 5 * time.Second

// ErrUntrusted is what [Listener.Refused] is told about a connection from an
// address that is not trusted.
var ErrUntrusted = errors.New("backend: connection from an address that is not trusted")

// Listener accepts connections from the ingress and takes the PROXY header off
// each. A connection from elsewhere is closed before a byte is read; one that
// does not start with a good header is closed before a byte is handed on.
type Listener struct {
	net.Listener
	// Trusted are the networks of the ingress nodes. Whoever may send a header
	// chooses what is in it, so keep them narrow. With none, every connection
	// is closed.
	Trusted []netip.Prefix
	// HeaderTimeout bounds the wait for the header; zero means
	// [DefaultHeaderTimeout].
	HeaderTimeout time.Duration
	// Refused, if set, is told of every connection that is closed and why. It
	// may be called from several goroutines at once and must not block.
	Refused func(remote net.Addr, err error)
}

// Accept waits for a trusted connection. It does not wait for its header: that
// is read when the connection is first read from or written to.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.trusts(c.RemoteAddr()) {
			return &Conn{Conn: c, listener: l}, nil
		}
		l.refused(c, ErrUntrusted)
	}
}

func (l *Listener) trusts(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	for _, p := range l.Trusted {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func (l *Listener) refused(c net.Conn, err error) {
	_ = c.Close() // it is being given up
	if l.Refused != nil {
		l.Refused(c.RemoteAddr(), err)
	}
}

// Conn is a connection from the ingress. Its addresses are those of the TCP
// connection; the client's are in its [Arrival].
type Conn struct {
	net.Conn
	listener *Listener

	once   sync.Once
	header proxyproto.Header
	err    error
}

// Arrival waits for the header and tells what it says. It is false when there
// is no good header, or when the ingress connected on its own account.
func (c *Conn) Arrival() (Arrival, bool) {
	if c.ready() != nil || c.header.Local {
		return Arrival{}, false
	}
	return Arrival{
		Authority:     c.header.Authority,
		VPCEndpointID: c.header.VPCEndpointID,
		Organization:  c.header.Organization,
		Source:        c.header.Source,
		Destination:   c.header.Destination,
	}, true
}

// Read reads what follows the header.
func (c *Conn) Read(b []byte) (int, error) {
	if err := c.ready(); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// Write writes to the client, but nothing before the header has been read.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.ready(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// CloseWrite ends the stream towards the client and leaves the other open.
func (c *Conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return fmt.Errorf("backend: %w: half-close on %T", errors.ErrUnsupported, c.Conn)
}

// ready reads the header, once.
func (c *Conn) ready() error {
	c.once.Do(func() {
		timeout := c.listener.HeaderTimeout
		if timeout <= 0 {
			timeout = DefaultHeaderTimeout
		}
		// A timer, because the deadlines of the connection are the caller's.
		timer := time.AfterFunc(timeout, func() { _ = c.Conn.Close() })
		c.header, c.err = readHeader(c.Conn)
		if !timer.Stop() && c.err == nil {
			c.err = net.ErrClosed
		}
		if c.err != nil {
			c.err = fmt.Errorf("backend: PROXY header: %w", c.err)
			c.listener.refused(c.Conn, c.err)
		}
	})
	return c.err
}

// readHeader reads exactly the header and not a byte of what follows.
func readHeader(c net.Conn) (proxyproto.Header, error) {
	b := make([]byte, proxyproto.FixedSize, 256)
	for n := 0; n < len(b); {
		got, err := c.Read(b[n:])
		n += got
		size, sizeErr := proxyproto.Size(b[:n])
		switch {
		case sizeErr == nil && len(b) < size:
			b = append(b, make([]byte, size-len(b))...)
		case sizeErr != nil && !errors.Is(sizeErr, proxyproto.ErrIncomplete):
			return proxyproto.Header{}, sizeErr
		}
		if err != nil && n < len(b) {
			return proxyproto.Header{}, err
		}
	}
	h, _, err := proxyproto.Parse(b)
	return h, err
}
