package relay

import (
	"io"
	"time"
)

// alert is all that a refused client ever sees: a fatal TLS alert,
// access_denied (RFC 8446 section 6), in the record version that every client
// reads. It is the same for every reason, so that it is no oracle.
const alert = "\x15\x03\x01\x00\x02\x02\x31"

// lingerBytes bounds what is read and thrown away after the alert.
const lingerBytes = 64 << 10

// refuse sends the alert and the end of the stream, and then reads what the
// client still sends for a while: closing with unread bytes would reset the
// connection, and a reset can overtake the alert.
func (s *session) refuse(v Verdict) { s.refuseAs(&s.arrival, v) }

func (s *session) refuseAs(a *Arrival, v Verdict) {
	if !s.engine.limits.linger(&s.place) {
		s.refuseAtOnce(v)
		return
	}
	s.observer.Refused(a, v)
	defer s.client.Close() //nolint:errcheck // nobody is left to tell
	if s.client.SetDeadline(time.Now().Add(s.engine.config.AlertLinger)) != nil {
		return
	}
	if _, err := io.WriteString(s.client, alert); err != nil {
		return
	}
	if s.client.CloseWrite() != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, s.client, lingerBytes) // until whatever comes first
}

// refuseAtOnce refuses without keeping the connection: one whose client has
// sent more than was read may see a reset instead of the alert. The write cannot
// block, for nothing has been sent on it yet.
func (s *session) refuseAtOnce(v Verdict) {
	s.observer.Refused(&s.arrival, v)
	_, _ = io.WriteString(s.client, alert) // the close below is all that matters
	_ = s.client.Close()
}
