// Package backend lets a Go program stand behind Postern's ingress.
//
// The ingress does not terminate TLS. It admits a connection by the server
// name (SNI) of its ClientHello and by the VPC endpoint that it came through,
// and tells the backend both, with the organization, in a PROXY protocol
// header (version 2) ahead of the client's own bytes. It cannot see the Host
// header inside. A client could therefore be admitted for one host and ask for
// another, and a browser that reuses a connection (HTTP/2 coalescing) does so
// in all innocence. So every backend keeps a contract:
//
//  1. it takes connections from the ingress only, each with a header;
//  2. it answers 421 Misdirected Request when the host that is asked for is
//     not the one that was admitted;
//  3. on a host that organizations share, it serves the data of the
//     organization in the header and of no other.
//
// This package does the first two and hands over what the third needs:
//
//	ln, err := net.Listen("tcp", ":443")
//	…
//	server := &http.Server{
//		Handler:     backend.Handler(app),
//		ConnContext: backend.ConnContext,
//	}
//	err = server.ServeTLS(&backend.Listener{
//		Listener: ln,
//		Trusted:  []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}, // the ingress nodes
//	}, "tls.crt", "tls.key")
//
// and in a handler:
//
//	arrival, ok := backend.FromContext(r.Context())
//
// It works with HTTP/1.1 and HTTP/2, over TLS and without. A health check that
// comes past the ingress gets 421 as well; give it a handler, or a port, of
// its own.
//
// # Other servers
//
// nginx, Envoy and HAProxy can keep the same contract: each can require the
// header, read its authority field (type 0x02), compare it with the request's
// host, and read the fields 0xE0 (organization) and 0xEA (endpoint).
// docs/backends.md has a configuration for each.
package backend
