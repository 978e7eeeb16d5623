package backend

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Arrival is what the ingress says about a connection.
type Arrival struct {
	// Authority is the server name that was admitted, in lower case.
	Authority string
	// VPCEndpointID is the endpoint that the client came through, "vpce-…";
	// "" for a client that came over the internet.
	VPCEndpointID string
	// Organization is on whose account the client was admitted: the owner of
	// the endpoint, or of the public host. On a host that organizations share,
	// it decides whose data is served; "" means nobody's.
	Organization string
	Source       netip.AddrPort // the client
	Destination  netip.AddrPort // what the client connected to
}

type contextKey struct{}

// ConnContext is for http.Server.ConnContext: it makes what the ingress said
// available to the handlers of the connection's requests. It does not block.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	for {
		switch v := c.(type) {
		case *Conn:
			return context.WithValue(ctx, contextKey{}, v)
		case interface{ NetConn() net.Conn }: // *tls.Conn is one
			c = v.NetConn()
		default:
			return ctx
		}
	}
}

// FromContext tells what the ingress said about the connection of a request.
// It is false when the request did not come through a [Listener] and
// [ConnContext], or when the ingress connected on its own account.
func FromContext(ctx context.Context) (Arrival, bool) {
	c, ok := ctx.Value(contextKey{}).(*Conn)
	if !ok {
		return Arrival{}, false
	}
	return c.Arrival()
}

// Handler answers 421 Misdirected Request (RFC 9110 section 15.5.20) to every
// request for another host than the ingress admitted, and to every request of
// which the ingress said nothing. The others go to next, with RemoteAddr set
// to the client's address.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := FromContext(r.Context())
		if !ok || !a.admits(r) {
			w.Header().Set("Cache-Control", "no-store")
			http.Error(w, "misdirected request", http.StatusMisdirectedRequest)
			return
		}
		q := *r
		q.RemoteAddr = a.Source.String()
		next.ServeHTTP(w, &q)
	})
}

// admits compares everything in a request that names a host with the name that
// was admitted: the Host header or :authority, the target in absolute form, a
// Host header next to an :authority, and the server name of the TLS handshake,
// which a second ClientHello could have changed.
func (a Arrival) admits(r *http.Request) bool {
	if a.Authority == "" || !a.is(r.Host) {
		return false
	}
	if r.URL.Host != "" && !a.is(r.URL.Host) {
		return false
	}
	for _, h := range r.Header["Host"] {
		if !a.is(h) {
			return false
		}
	}
	return r.TLS == nil || strings.EqualFold(r.TLS.ServerName, a.Authority)
}

// is compares a host, with or without a port, with the name that was admitted.
func (a Arrival) is(hostport string) bool {
	host, port, found := strings.Cut(hostport, ":")
	if found && !isPort(port) {
		return false
	}
	return isASCII(host) && strings.EqualFold(host, a.Authority)
}

func isPort(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 5
}

// isASCII keeps EqualFold from taking the Kelvin sign for a k.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
