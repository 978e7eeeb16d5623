package ingress

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/relay"
)

const (
	// DefaultLogRate is how many records of each kind the access log takes per
	// second, where nothing else is said.
	DefaultLogRate = 1000
	// logWait is how long a record waits to be written, at most; nobody who
	// moves bytes is woken for it or waits.
	logWait = 20 * time.Millisecond
	// logRing bounds the records that wait.
	logRing = 4096
)

// accessLog writes records of connections, away from those who move bytes: they
// leave a record in memory and go on. It keeps to a rate, of refused and of
// admitted connections each, so that neither a flood nor a busy day costs more
// than the log is worth; what it leaves out is counted, and the next record
// tells how many.
type accessLog struct {
	handler slog.Handler
	rate    float64
	omitted [2]prometheus.Counter // by kind

	mu      sync.Mutex
	waiting []entry
	running bool // a goroutine writes, as long as there is something to write
	written *sync.Cond
	busy    bool // it is writing
	budgets [2]budget
	filled  time.Time
}

// budget is how many records of a kind may be taken now.
type budget struct {
	left    float64
	omitted int64 // since the last one taken
}

const (
	ofAdmitted = 0
	ofRefused  = 1
)

// entry is a record that waits.
type entry struct {
	at           time.Time
	message      string
	omitted      int64
	listener     string
	client       netip.AddrPort
	endpoint     string
	host         string
	organization string
	ja4          string
	denial       postern.Denial
	cause        error
	stats        relay.Stats
}

const (
	logOpened  = "connection opened"
	logClosed  = "connection closed"
	logRefused = "connection refused"
)

func newAccessLog(l *slog.Logger, rate int, omitted [2]prometheus.Counter) *accessLog {
	if rate <= 0 {
		rate = DefaultLogRate
	}
	a := &accessLog{handler: l.Handler(), rate: float64(rate), omitted: omitted, filled: time.Now()}
	a.budgets = [2]budget{{left: a.rate}, {left: a.rate}}
	a.written = sync.NewCond(&a.mu)
	return a
}

// add leaves a record, or counts it as left out.
func (l *accessLog) add(kind int, message string, a *relay.Arrival, v relay.Verdict, s *relay.Stats) {
	omitted, ok := l.spend(kind)
	if !ok {
		l.omitted[kind].Inc()
		return
	}
	e := entry{
		at: time.Now(), message: message, omitted: omitted, listener: a.Listener, client: a.Client(), endpoint: a.Proxy.VPCEndpointID,
		host: a.Hello.ServerName, organization: v.Organization, denial: v.Deny, cause: v.Cause,
	}
	if s != nil {
		e.stats = *s
	} else if len(a.HelloBytes) > 0 {
		e.ja4 = clienthello.JA4(a.HelloBytes)
	}
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
func (l *accessLog) spend(kind int) (omitted int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.running {
		l.refill()
	}
	b := &l.budgets[kind]
	if b.left < 1 || len(l.waiting) >= logRing {
		b.omitted++
		return 0, false
	}
	b.left--
	omitted, b.omitted = b.omitted, 0
	return omitted, true
}

// write writes what waits, until nothing has come for a while.
func (l *accessLog) write() {
	var spare []entry
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
			l.tell(&now[i])
			now[i] = entry{}
		}
		spare = now
		if waited = len(now) == 0; waited {
			<-time.After(logWait)
		}
	}
}

// refill fills the budgets up by the time that has passed. The caller holds
// the lock.
func (l *accessLog) refill() {
	now := time.Now()
	more := l.rate * now.Sub(l.filled).Seconds()
	l.filled = now
	for i := range l.budgets {
		l.budgets[i].left = min(l.budgets[i].left+more, l.rate)
	}
}

// flush returns when everything was written.
func (l *accessLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) > 0 || l.busy {
		l.written.Wait()
	}
}

func (l *accessLog) tell(e *entry) {
	ctx := context.Background()
	if !l.handler.Enabled(ctx, slog.LevelInfo) {
		return
	}
	r := slog.NewRecord(e.at, slog.LevelInfo, e.message, 0)
	r.AddAttrs(
		slog.String("listener", e.listener),
		slog.String("client", e.client.String()),
		slog.String("vpc_endpoint_id", e.endpoint),
		slog.String("host", e.host),
		slog.String("organization", e.organization),
	)
	if e.ja4 != "" {
		r.AddAttrs(slog.String("ja4", e.ja4))
	}
	switch e.message {
	case logRefused:
		r.AddAttrs(slog.String("reason", string(e.denial)))
		if e.cause != nil {
			r.AddAttrs(slog.String("cause", e.cause.Error()))
		}
	case logClosed:
		r.AddAttrs(
			slog.String("end", string(e.stats.End)),
			slog.String("backend", e.stats.Backend.String()),
			slog.Int64("bytes_up", e.stats.Up),
			slog.Int64("bytes_down", e.stats.Down),
			slog.Duration("duration", e.stats.Duration),
		)
	}
	if e.omitted > 0 {
		r.AddAttrs(slog.Int64("omitted", e.omitted))
	}
	_ = l.handler.Handle(ctx, r) // a log that cannot be written has nobody to tell
}
