package nameserver

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/miekg/dns"
)

// headerSize is that of a DNS message's header, in bytes (RFC 1035 §4.1.1).
const headerSize = 12

// front is what messages of one transport meet: accept sees the header,
// invalid what cannot be parsed, ServeDNS the rest.
type front struct {
	server    *Server
	transport string
}

// accept refuses before the rest is parsed what no query has. Above all more
// than one question: where parsing fails halfway the library repeats all
// questions, and names that were compressed would be sent in full, to an
// address that may be forged. A count of what is let through lies at most
// about what is missing.
func (f *front) accept(h dns.Header) dns.MsgAcceptAction {
	const response = 1 << 15
	opcode := int(h.Bits>>11) & 0xF
	switch {
	case h.Bits&response != 0:
		f.server.metrics.discarded.WithLabelValues(f.transport).Inc()
		return dns.MsgIgnore // or two servers might answer one another for ever
	case h.Qdcount <= 1 && h.Ancount <= 1 && h.Nscount <= 1 && h.Arcount <= 2:
		return dns.MsgAccept
	case opcode != dns.OpcodeQuery:
		f.count(dns.RcodeNotImplemented)
		return dns.MsgRejectNotImplemented
	default:
		f.count(dns.RcodeFormatError)
		return dns.MsgReject
	}
}

// invalid counts what cannot be parsed. The library answers it with FORMERR
// where there is a header to answer to.
func (f *front) invalid(message []byte, _ error) {
	if len(message) < headerSize {
		f.server.metrics.discarded.WithLabelValues(f.transport).Inc()
		return
	}
	f.count(dns.RcodeFormatError)
}

func (f *front) count(rcode int) {
	f.server.metrics.queries.WithLabelValues(f.transport, rcodeName(rcode)).Inc()
}

// ServeDNS answers a query.
func (f *front) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	m := reply(f.server.table.Load(), query)
	if f.transport == transportUDP {
		m.Truncate(udpLimit(query))
		if m.Truncated {
			f.server.metrics.truncated.Inc()
		}
	} else {
		m.Truncate(dns.MaxMsgSize)
	}
	f.count(m.Rcode)
	if err := w.WriteMsg(m); err != nil {
		f.server.log.LogAttrs(context.Background(), slog.LevelDebug, "dns answer not sent",
			slog.String("transport", f.transport), slog.String("client", w.RemoteAddr().String()), slog.Any("error", err))
	}
}

// tidyReader clears the bits of a query's header that only answers may have
// set, and the response code: the library copies them into answers that it
// makes by itself.
type tidyReader struct{ dns.Reader }

// ReadUDP reads one message.
func (r tidyReader) ReadUDP(conn *net.UDPConn, timeout time.Duration) ([]byte, *dns.SessionUDP, error) {
	message, session, err := r.Reader.ReadUDP(conn, timeout)
	tidy(message)
	return message, session, err
}

// ReadTCP reads one message.
func (r tidyReader) ReadTCP(conn net.Conn, timeout time.Duration) ([]byte, error) {
	message, err := r.Reader.ReadTCP(conn, timeout)
	tidy(message)
	return message, err
}

func tidy(message []byte) {
	if len(message) < headerSize {
		return
	}
	const query, opcode, recursionDesired = 0x80, 0x78, 0x01
	message[2] &= query | opcode | recursionDesired
	message[3] = 0 // RA, Z, AD, CD and the response code
}
