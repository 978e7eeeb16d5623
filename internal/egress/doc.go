// Package egress lets a tenant's workloads out to the clusters of its
// organization, in one region of the platform, and nowhere else.
//
// It obeys the outbound part of the route table: which hostnames a tenant has,
// on which ports, and at which addresses the platform's endpoint to each is. A
// hostname is never resolved and no address is ever taken from a workload: what
// is connected to comes from the table, and is checked once more against a list
// of what no endpoint can be. So there is no way to another place, neither the
// public one of the same name nor a tenant's own network nor the machine's
// metadata.
//
// Workloads come by one of two listeners. The connect listener is an HTTP proxy
// that takes CONNECT and nothing else, from whoever shows a tenant's token or
// client certificate. A transparent listener is bound to one tenant, for
// clients that cannot authenticate to a proxy: whoever reaches its address
// counts as that tenant's, and a small DNS server gives that address for the
// tenant's hostnames. By both, the first bytes must be a TLS ClientHello whose
// server name is the hostname; TLS itself is between the workload and the
// cluster.
//
// A proxy tells a workload that it knows why it refuses it, in a problem
// document (RFC 9457). Whoever is unknown is told so and nothing more, and a
// host of another tenant looks like one that there is not.
package egress
