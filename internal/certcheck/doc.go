// Package certcheck finds out whether a customer's cluster can be reached
// through an interface endpoint as a workload will reach it: TCP, TLS, a
// publicly trusted certificate for the hostname, and Trino behind it.
//
// "Publicly trusted" means Mozilla's list of authorities with the constraints
// that Mozilla puts on them, never the machine's own list, so that every
// machine finds the same. Certificates are not asked for at their authority's
// revocation lists, which would need a way to the internet.
//
// It resolves no name: it connects to the addresses that it is given, and only
// if they are those of endpoints. Over a connection whose certificate is not
// good, nothing is asked.
package certcheck
