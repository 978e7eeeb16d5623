package sandbox

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"
)

// lasting is a private connection that stays open, with requests on it now and
// then.
type lasting struct {
	conn   *tls.Conn
	reader *bufio.Reader
	host   string
}

// openLasting opens one from Example Corp's network, by the standard hostname
// as its own resolver answers it.
func (st *story) openLasting(ctx context.Context) (*lasting, error) {
	v, host := st.visitor("example-corp"), st.platform.Host("example")
	at, err := v.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	c, err := v.handshake(ctx, netip.AddrPortFrom(at, st.httpsPort), host)
	if err != nil {
		return nil, err
	}
	l := &lasting{conn: c, reader: bufio.NewReader(c), host: host}
	return l, l.ask()
}

// ask sends a request on the open connection.
func (l *lasting) ask() error {
	if err := l.conn.SetDeadline(time.Now().Add(visitTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(l.conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", l.host); err != nil {
		return err
	}
	resp, err := http.ReadResponse(l.reader, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// Close closes the connection.
func (l *lasting) Close() { _ = l.conn.Close() } // it is being given up
