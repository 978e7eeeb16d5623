// Command dataplane measures the relay engines beside HAProxy, nginx and
// Envoy at the same job: take a connection with a PROXY protocol header of a
// load balancer, read the server name of a ClientHello, find its backend among
// many, connect to it and carry bytes both ways, TLS untouched.
//
//	bench/dataplane/run.sh           everything, interleaved; writes RESULTS.md
//	bench/dataplane/run.sh --short   integrity, and a second of each load, ours only
//
// The roles are processes of their own, so that each one's processor time can
// be told: the proxies, the backend and the client. run.sh puts them into a
// network namespace with a loopback of MTU 1500; with loopback's own 65536,
// sizes of buffers mean nothing. Integrity comes first: what loses bytes is
// not measured.
package main
