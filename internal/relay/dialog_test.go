package relay_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// player is one side of a script.
type player struct {
	conn *net.TCPConn
	mu   sync.Mutex
	more *sync.Cond
	got  []byte
	end  string // "" while it reads
	fail string // how writing ended; the error is told once, to who comes first
}

func newPlayer(c *net.TCPConn) *player {
	p := &player{conn: c}
	p.more = sync.NewCond(&p.mu)
	return p
}

// read reads to the end, in pieces.
func (p *player) read(how reading) {
	b := make([]byte, how.piece)
	for turn := 0; ; turn++ {
		if how.slow && turn < 5 {
			<-time.After(time.Millisecond)
		}
		n, err := p.conn.Read(b)
		p.mu.Lock()
		p.got = append(p.got, b[:n]...)
		if err != nil {
			p.end = ended(err)
		}
		p.more.Broadcast()
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await waits until so much was read, or no more comes.
func (p *player) await(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.got) < n && p.end == "" {
		p.more.Wait()
	}
}

// dialog has both sides do their parts and tells what they saw.
func dialog(x script, client, server *net.TCPConn) outcome {
	sides := [2]*player{newPlayer(client), newPlayer(server)}
	all := x.sent()
	var work sync.WaitGroup
	for by, p := range sides {
		other := sides[1-by]
		work.Go(func() { p.read(x.readers[by]) })
		work.Go(func() { p.perform(x, by, other, all) })
	}
	work.Wait()
	var o outcome
	for by, p := range sides {
		o.Got[by], o.End[by] = sum(p.got), p.end
		if p.fail != "" {
			o.End[by] = p.fail
		}
		if x.end != "ends" && by == x.ender {
			o.End[by] = "" // it does not look any more
		}
		if x.end == "resets" && !x.synced {
			o.Got[by] = part(p.got, all[1-by])
		}
	}
	return o
}

func part(got, of []byte) string {
	if bytes.HasPrefix(of, got) {
		return "a part"
	}
	return "something else: " + sum(got)
}

// perform does the steps of one side.
func (p *player) perform(x script, by int, other *player, all [2][]byte) {
	r := rand.New(rand.NewPCG(x.seed, uint64(2+by)))
	var sent [2]int
	finished := [2]bool{}
	for _, s := range x.steps {
		if s.by == by {
			if s.finish {
				_ = p.conn.CloseWrite() // what comes of it is seen by the other
			}
			if err := pieces(r, p.conn, all[by][sent[by]:sent[by]+s.send]); err != nil {
				p.fail = ended(err)
			}
		}
		sent[s.by] += s.send
		finished[s.by] = finished[s.by] || s.finish
		if s.synced {
			receiver := p
			if s.by == by {
				receiver = other
			}
			receiver.await(sent[s.by])
		}
	}
	switch {
	case x.end == "resets" && by == x.ender:
		if x.synced {
			p.await(sent[1-by])
			other.await(sent[by])
		}
		_ = p.conn.SetLinger(0)
		_ = p.conn.Close()
	case x.end == "resets" && finished[x.ender]:
		other.await(1 << 60) // it is gone
		p.breakOff()
	case x.end == "closes" && by == x.ender:
		p.await(sent[1-by])
		other.await(sent[by])
		_ = p.conn.Close()
	case !finished[by] && x.end != "resets":
		if x.end == "closes" {
			p.await(sent[1-by])
			other.await(sent[by])
		}
		_ = p.conn.CloseWrite()
	}
}

// breakOff sees a reset by a side whose stream has ended already, which only
// who writes can see.
func (p *player) breakOff() {
	for {
		if _, err := p.conn.Write([]byte("x")); err != nil {
			p.fail = ended(err)
			return
		}
		<-time.After(time.Millisecond)
	}
}
