// Package nameserver answers DNS queries for the platform's zones, with
// authority and from memory, by UDP and TCP.
//
// It serves what the control plane compiled and nothing else: it never asks
// another server, transfers no zone, takes no update, and knows no wildcards
// and no DNSSEC. Whatever is outside its zones is refused. A table whose
// revision is not newer than the one in force, or that is not sound, changes
// nothing.
//
// An answer stops at the CNAME that leaves its zone, also where this server
// holds the other zone: a resolver that was handed the whole chain might never
// ask the customer's private zone for its middle, which is how private access
// works (see docs/architecture.md). Negative answers may be cached for at most
// a minute, so that a name that a cutover publishes is soon seen by those who
// asked too early.
//
// The rules are those of RFC 1034, 1035, 2181 and 2308, with RFC 6891 (EDNS),
// RFC 7766 (TCP), RFC 8020 (empty non-terminals) and RFC 8482 (ANY). Spelling
// is kept as the query has it, for resolvers that vary the case of letters.
package nameserver
