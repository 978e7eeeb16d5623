package relay

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"

	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/proxyproto"
)

// An open connection's arrival is kept in one string, a fifth of what the
// struct and its strings would take: addresses and texts with a byte of length
// ahead of each. In front is a hash of the prologue, to notice that the rules
// would give another one; its seed is the engine's secret.

const prologueHash = 8

// pack keeps what is needed of an attempt when it is judged again and when it
// ends.
func (l *loop) pack(a *attempt) string {
	b := l.buf[:0]
	b = binary.LittleEndian.AppendUint64(b, maphash.Bytes(l.engine.seed, a.verdict.Prologue))
	at, h := &a.arrival, &a.arrival.Proxy
	for _, ap := range []netip.AddrPort{a.backend(), at.Peer, at.Local, h.Source, h.Destination} {
		b = packAddress(b, ap)
	}
	for _, s := range []string{a.verdict.Organization, a.verdict.Tenant, h.VPCEndpointID, h.Authority, h.Organization, at.Hello.ServerName} {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	return string(b)
}

func packAddress(b []byte, ap netip.AddrPort) []byte {
	raw := ap.Addr().AsSlice() // of 0, 4 or 16 bytes
	b = append(b, byte(len(raw)))
	b = append(b, raw...)
	return binary.BigEndian.AppendUint16(b, ap.Port())
}

// unpack is the opposite of pack. The texts are parts of the record.
func (l *loop) unpack(c *conn, a *Arrival, v *Verdict, to *netip.AddrPort) {
	r := unpacker(c.record[prologueHash:])
	*to = r.address()
	*a = Arrival{Listener: c.served.Name, At: c.at, Peer: r.address(), Local: r.address()}
	a.Proxy = proxyproto.Header{Source: r.address(), Destination: r.address()}
	v.Organization, v.Tenant = r.text(), r.text()
	a.Proxy.VPCEndpointID, a.Proxy.Authority, a.Proxy.Organization = r.text(), r.text(), r.text()
	a.Hello = clienthello.Hello{ServerName: r.text()}
}

type unpacker string

func (u *unpacker) take(n int) string {
	s := string(*u)
	*u = unpacker(s[n:])
	return s[:n]
}

func (u *unpacker) text() string { return u.take(int(u.take(1)[0])) }

func (u *unpacker) address() netip.AddrPort {
	raw := []byte(u.text())
	a, _ := netip.AddrFromSlice(raw)
	port := u.take(2)
	if len(raw) == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, uint16(port[0])<<8|uint16(port[1]))
}

// judging is a pass over a loop's open connections, after the rules changed.
type judging struct {
	next uint32
	done func()
}

// judgeStep bounds how many connections are judged before others get their
// turn.
const judgeStep = 256

// judgeAll begins a pass; done is called at its end.
func (l *loop) judgeAll(done func()) { l.judging = append(l.judging, judging{done: done}) }

// judgeSome goes on with the passes that have begun.
func (l *loop) judgeSome() {
	for k := 0; k < len(l.judging); {
		j := &l.judging[k]
		end := min(j.next+judgeStep, uint32(len(l.table.due)))
		for ; j.next < end; j.next++ {
			if c := l.table.at(j.next); c.state == relaying && !l.stillAdmitted(c) {
				l.end(c, EndRevoked)
			}
		}
		if int(j.next) < len(l.table.due) {
			k++
			continue
		}
		j.done()
		l.judging = append(l.judging[:k], l.judging[k+1:]...)
	}
}

// stillAdmitted judges an open connection again.
func (l *loop) stillAdmitted(c *conn) bool {
	var was Verdict
	var to netip.AddrPort
	l.unpack(c, &l.arrival, &was, &to)
	now := c.served.match(&l.arrival)
	return now.Deny == "" && now.keeps(to) && maphash.Bytes(l.engine.seed, now.Prologue) == binary.LittleEndian.Uint64([]byte(c.record[:prologueHash]))
}
