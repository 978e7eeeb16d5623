// Package scim is the SCIM-only public ingress of one region: the one door of
// the platform at which TLS ends, so that requests can be judged.
//
// It obeys the SCIM routes of the table and looks at nothing else in it; a host
// is there only if somebody asked for it. What reaches a backend is a request
// of RFC 7644: one of its methods, a path under /scim/v2 that can be read in
// one way only, and header fields from a list. Everything else is answered here,
// before a byte of it goes on.
//
// net/http serves, over HTTP/1.1 and HTTP/2, but it is lenient where leniency is
// how requests are smuggled. So HTTP/1.1 is first read by a layer of our own,
// which demands the letter of RFC 9112 and refuses whatever two parsers could
// read differently; and each request, of both protocols, is judged again as
// net/http understood it. To the backend a request is written anew, over a
// connection that no other client's connection shares.
//
// The backend is asked for the tenant's standard hostname, with its certificate
// verified and the ingress's PROXY header ahead (see package proxyproto), so that
// it needs to know nothing of this ingress.
package scim
