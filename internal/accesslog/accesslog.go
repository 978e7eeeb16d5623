// Package accesslog writes what came to a listener and what became of it, away
// from those who move bytes: they leave a record in memory and go on. It keeps
// to a rate, of refused and of admitted ones each, so that neither a flood nor a
// busy day costs more than the log is worth; what it leaves out is counted, and
// the next record tells how many.
//
// What a record holds is its user's business. Records are made only of those
// that are written, and must bound what a client can make them hold.
package accesslog

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// DefaultRate is how many records of each kind the log takes per second,
	// where nothing else is said.
	DefaultRate = 1000
	// wait is how long a record waits to be written, at most; nobody who moves
	// bytes is woken for it or waits.
	wait = 20 * time.Millisecond
	// ring bounds the records that wait.
	ring = 4096
)

// Kind is of which budget a record is taken.
type Kind int

// The kinds of records.
const (
	Admitted Kind = iota
	Refused
	kinds
)

// Counter counts the records of a kind that were left out.
type Counter interface{ Inc() }

// Log takes records that are made of entries. Its methods may be called from
// several goroutines at once.
type Log[E any] struct {
	handler slog.Handler
	rate    float64
	omitted [kinds]Counter
	tell    func(*E, *slog.Record)

	mu      sync.Mutex
	waiting []entry[E]
	running bool // a goroutine writes, as long as there is something to write
	written *sync.Cond
	busy    bool // it is writing
	budgets [kinds]budget
	filled  time.Time
}

// budget is how many records of a kind may be taken now.
type budget struct {
	left    float64
	omitted int64 // since the last one taken
}

// entry is a record that waits.
type entry[E any] struct {
	at      time.Time
	message string
	omitted int64
	of      E
}

// New makes a log of a logger. The rate is in records per second of each kind, 0
// means [DefaultRate]; tell adds what an entry says to its record.
func New[E any](l *slog.Logger, rate int, omitted [2]Counter, tell func(*E, *slog.Record)) *Log[E] {
	if rate <= 0 {
		rate = DefaultRate
	}
	out := &Log[E]{handler: l.Handler(), rate: float64(rate), omitted: omitted, tell: tell, filled: time.Now()}
	for k := range out.budgets {
		out.budgets[k].left = out.rate
	}
	out.written = sync.NewCond(&out.mu)
	return out
}

// Add leaves a record, or counts it as left out; then its entry is not made.
func (l *Log[E]) Add(k Kind, message string, of func() E) {
	omitted, ok := l.spend(k)
	if !ok {
		l.omitted[k].Inc()
		return
	}
	e := entry[E]{at: time.Now(), message: message, omitted: omitted, of: of()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, e)
	if !l.running {
		l.running = true
		go l.write()
	}
}

// spend takes one record out of a budget, and tells how many were left out
// before it; or counts one that is.
func (l *Log[E]) spend(k Kind) (omitted int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.running {
		l.refill()
	}
	b := &l.budgets[k]
	if b.left < 1 || len(l.waiting) >= ring {
		b.omitted++
		return 0, false
	}
	b.left--
	omitted, b.omitted = b.omitted, 0
	return omitted, true
}

// write writes what waits, until nothing has come for a while.
func (l *Log[E]) write() {
	var spare []entry[E]
	for waited := false; ; {
		l.mu.Lock()
		now := l.waiting
		l.waiting = spare[:0]
		l.refill()
		l.busy = len(now) > 0
		if !l.busy {
			l.written.Broadcast()
		}
		if !l.busy && waited {
			l.running, l.waiting = false, nil
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		for i := range now {
			l.handle(&now[i])
			now[i] = entry[E]{}
		}
		spare = now
		if waited = len(now) == 0; waited {
			<-time.After(wait)
		}
	}
}

// refill fills the budgets up by the time that has passed. The caller holds
// the lock.
func (l *Log[E]) refill() {
	now := time.Now()
	more := l.rate * now.Sub(l.filled).Seconds()
	l.filled = now
	for k := range l.budgets {
		l.budgets[k].left = min(l.budgets[k].left+more, l.rate)
	}
}

// Flush returns when everything that was left so far is written.
func (l *Log[E]) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) > 0 || l.busy {
		l.written.Wait()
	}
}

func (l *Log[E]) handle(e *entry[E]) {
	ctx := context.Background()
	if !l.handler.Enabled(ctx, slog.LevelInfo) {
		return
	}
	r := slog.NewRecord(e.at, slog.LevelInfo, e.message, 0)
	l.tell(&e.of, &r)
	if e.omitted > 0 {
		r.AddAttrs(slog.Int64("omitted", e.omitted))
	}
	_ = l.handler.Handle(ctx, r) // a log that cannot be written has nobody to tell
}
