// Package proxyproto reads and writes version 2 of the PROXY protocol: the
// few bytes ahead of a connection's own that say who really connected. It
// works on byte slices only; it owns no socket, no goroutine and no deadline.
//
// An AWS Network Load Balancer sends such a header to the ingress, and the
// ingress sends one to every backend. These TLVs (type-length-value fields)
// have a meaning here; all others are skipped:
//
//	0x02  PP2_TYPE_AUTHORITY  the server name (SNI) that the ingress admitted;
//	                          a backend answers no request for another host
//	0x03  PP2_TYPE_CRC32C     checksum of the whole header; verified if present,
//	                          always written
//	0x04  PP2_TYPE_NOOP       padding
//	0xE0  organization        the organization whose endpoint, or whose public
//	                          host, the client used: a DNS label (Postern's own,
//	                          from the range that the protocol leaves to
//	                          applications)
//	0xEA  PP2_TYPE_AWS        subtype 0x01: the ID of the VPC endpoint that the
//	                          client came through; absent on public connections
//
// The header is as trustworthy as whoever sent it. A client can send one of
// its own inside the connection, so a receiver takes the first header only,
// and only from addresses that it knows to be load balancers.
//
// Sources: the PROXY protocol specification, section 2.2; "Edit target group
// attributes" in the AWS documentation of Network Load Balancers.
package proxyproto
