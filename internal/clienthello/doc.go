// Package clienthello reads the server name out of a TLS ClientHello without
// taking part in the handshake: from the raw bytes of the connection, which
// may arrive in any pieces and be spread over any number of TLS records.
//
// It is stricter than a TLS server has to be, for it decides who gets in: a
// length that does not add up, an extension given twice or a server name that
// is no host name is an error, never a guess. It does not judge what only the
// server behind it cares about: versions, cipher suites, keys, GREASE values.
//
// What it reads is the client's claim and no more. Later bytes of the same
// connection can contradict it: the Host header, a second ClientHello after
// HelloRetryRequest, an encrypted inner ClientHello. So the server must check
// the name that was admitted, see package backend.
//
// Sources: RFC 8446 sections 4.1.2, 4.2 and 5.1, RFC 6066 section 3, RFC 7301.
package clienthello
