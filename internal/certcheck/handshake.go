package certcheck

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/postern-net/postern"
)

// listened keeps how a server begins to speak.
type listened struct {
	net.Conn
	first []byte // a record's header and an alert
}

func (l *listened) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	const alertRecord = 7
	l.first = append(l.first, b[:min(n, alertRecord-len(l.first))]...)
	return n, err
}

// alert is the TLS alert that a server answered a ClientHello with, or 0
// (RFC 8446, sections 5.1 and 6). Package crypto/tls tells it only as text.
func (l *listened) alert() byte {
	const recordAlert = 21
	if len(l.first) < 7 || l.first[0] != recordAlert {
		return 0
	}
	return l.first[6]
}

// The alerts that tell what is wrong.
const (
	alertHandshakeFailure     = 40
	alertProtocolVersion      = 70
	alertInsufficientSecurity = 71
	alertUnrecognizedName     = 112
)

// handshake connects and notes what it finds. It returns a connection whose
// certificate was judged, or nil.
func (c *Checker) handshake(ctx context.Context, hostname string, v *visit) *tls.Conn {
	raw, err := c.dial(ctx, v)
	if err != nil {
		v.away = unconnected(err)
		return nil
	}
	conn := tls.Client(raw, &tls.Config{
		ServerName: hostname, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection below judges, and tells what is wrong instead of that something is
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			v.mutual = true
			return new(tls.Certificate), nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			v.found, v.judged = c.Certificate(s.PeerCertificates, hostname, c.now()), true
			if !Good(v.found) {
				return errors.New("certcheck: the certificate is not good")
			}
			return nil
		},
	})
	err = conn.HandshakeContext(ctx)
	if err == nil {
		return conn
	}
	_ = raw.Close()
	if v.judged {
		unfinished(v)
		return nil
	}
	c.failed(ctx, hostname, v, raw, err)
	return nil
}

func (c *Checker) dial(ctx context.Context, v *visit) (*listened, error) {
	d := net.Dialer{Timeout: connectTimeout}
	if c.source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.source, 0))
	}
	raw, err := d.DialContext(ctx, "tcp4", v.address.String())
	if err != nil {
		return nil, err
	}
	if until, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(until)
	}
	return &listened{Conn: raw}, nil
}

func unconnected(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connections are refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connections are reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route"
	}
	return "connections are not answered"
}

// unfinished tells why a handshake came to nothing after the certificate, which
// anybody can show: only the rest proves that the server holds its key. Before a
// client's certificate is asked for, that has been (RFC 5246, section 7.4; in TLS
// 1.3 such a server refuses later).
func unfinished(v *visit) {
	switch {
	case !Good(v.found):
	case v.mutual:
		v.asked, v.trino = true, &postern.Finding{Reason: postern.ReasonNotTrino, Message: "the server refuses who shows no certificate"}
	default:
		v.found = append(v.found, postern.Finding{
			Reason:  postern.ReasonNotTLS,
			Message: "the server shows a good certificate and does not complete the TLS handshake with it; check that it has the private key of that certificate",
		})
	}
}

// failed tells why a handshake came to nothing before the certificate.
func (c *Checker) failed(ctx context.Context, hostname string, v *visit, conn *listened, err error) {
	var record tls.RecordHeaderError
	alert := conn.alert()
	add := func(r postern.Reason, message string) {
		v.found = append(v.found, postern.Finding{Reason: r, Message: message})
	}
	switch {
	case len(conn.first) == 0:
		v.away = "connections are taken and then not answered"
	case errors.As(err, &record):
		add(postern.ReasonNotTLS, "the port answers, but not with TLS; serve HTTPS there, or give the port that does")
	case alert == alertUnrecognizedName:
		add(postern.ReasonNameMismatch, fmt.Sprintf("the server knows no host %s (TLS alert unrecognized_name); configure the hostname and its certificate there", hostname))
	case c.outdated(ctx, hostname, v):
		add(postern.ReasonTLSTooOld, "the server speaks nothing newer than TLS 1.1; turn TLS 1.2 or 1.3 on")
	case alert == alertProtocolVersion, alert == alertHandshakeFailure, alert == alertInsufficientSecurity:
		add(postern.ReasonTLSTooOld, "the server speaks TLS, but no version and cipher suite that is secure; turn TLS 1.2 or 1.3 on with current cipher suites")
	default:
		add(postern.ReasonNotTLS, "the port does not complete a TLS handshake; serve HTTPS there, or give the port that does")
	}
}

// outdated asks whether a server would speak an old version. The connection is
// closed without a word.
func (c *Checker) outdated(ctx context.Context, hostname string, v *visit) bool {
	raw, err := c.dial(ctx, v)
	if err != nil {
		return false
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{
		ServerName: hostname, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
		InsecureSkipVerify: true, //nolint:gosec // nothing is sent, and nothing believed
	})
	return conn.HandshakeContext(ctx) == nil
}
