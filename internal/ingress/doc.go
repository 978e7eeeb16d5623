// Package ingress decides which connection reaches which host, for one region
// of the platform.
//
// It obeys a table, compiled by the control plane, of hosts and of what each
// VPC endpoint may reach. Accepted by AWS is not authorized: whatever the table
// does not grant is refused, and so is everything while there is no table. A
// table whose revision is older than the one in use, or that is not sound, is
// ignored. Open connections that a new table no longer grants are cut.
//
// Connections arrive by a private listener, behind the load balancer of the
// region's endpoint service, and by a public one. To the backend goes a PROXY
// protocol header (see package proxyproto) that says what was admitted; to the
// client that is refused goes nothing that would tell why. The reason is in
// the access log, the metrics and the report, all of them bounded in what a
// client can make them hold.
//
// How bytes move is package relay's business.
package ingress
