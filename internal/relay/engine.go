package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"time"
)

// Kind is a way of moving bytes. What clients, backends and observers see is
// the same with each.
type Kind string

// The kinds of engine.
const (
	KindAuto      Kind = "auto"      // epoll where the system has it, or else goroutines
	KindEpoll     Kind = "epoll"     // event loops on Linux's epoll(7); no goroutine per connection
	KindGoroutine Kind = "goroutine" // two goroutines per connection; on every system
)

// Processors is how many goroutines should be able to run at once
// (runtime.GOMAXPROCS) in a process with an engine: loops can keep as many busy
// as there are processors, and others must get their turn.
func Processors() int { return processors + 2 }

// processors is how many this process may use. It is what held at the start: who
// follows the advice of Processors changes GOMAXPROCS.
var processors = min(runtime.NumCPU(), runtime.GOMAXPROCS(0))

// CheckKind tells what is wrong with a kind: that it does not exist, or not on
// this system.
func CheckKind(k Kind) error {
	switch k {
	case KindAuto, KindGoroutine:
		return nil
	case KindEpoll:
		if !haveEpoll {
			return errors.New("not on this system")
		}
		return nil
	}
	return errors.New("unknown")
}

// ErrUnavailable is what [Engine.Serve] returns where the system has no engine
// of the kind that was asked for.
var ErrUnavailable = errors.New("relay: this system has no such engine")

// Config sets the engine's limits. A zero value means the default.
type Config struct {
	// Kind chooses how bytes are moved. Default: [KindAuto].
	Kind Kind
	// Loops is how many event loops [KindEpoll] has. Default: one per
	// processor that this process may use.
	Loops int

	// Logger is told what concerns no single connection. Default: nothing is
	// logged.
	Logger *slog.Logger

	// HelloTimeout bounds the time from accepting a connection to the end of
	// its ClientHello. Default: 5 s.
	HelloTimeout time.Duration
	// DialTimeout bounds the connecting to one backend. Default: 3 s.
	DialTimeout time.Duration
	// Source is the local address of connections to backends, IPv4. Default:
	// the one that the routing table gives.
	Source netip.Addr
	// IdleTimeout resets a connection on which nothing moves, either way; a
	// side that takes less than a buffer of 36 KB in that time counts as not
	// moving. Default: 350 s, which is that of an AWS Network Load Balancer.
	IdleTimeout time.Duration
	// KeepAlive is the time between TCP keepalive probes, both towards the
	// load balancer and the backend. Default: 60 s.
	KeepAlive time.Duration
	// AlertLinger bounds how long a refused connection is kept, reading and
	// discarding, so that the alert is not destroyed by a reset. Default: 1 s.
	AlertLinger time.Duration
	// MaxConnections bounds the connections at one time; more are refused
	// with DenyOverload. Each takes two file descriptors; with goroutines up
	// to four more while it moves much data. Default: 20,000.
	MaxConnections int
	// MaxPerClient bounds those of one client, which is the listener's Payer if
	// it has one, or else a VPC endpoint where the PROXY header names one, or
	// else an IPv4 address or an IPv6 network of 64 bits; more are refused with
	// DenyOverload. Default: a quarter of MaxConnections.
	MaxPerClient int
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	orDefault(&c.Kind, KindAuto)
	orDefault(&c.Loops, processors)
	orDefault(&c.HelloTimeout, 5*time.Second)
	orDefault(&c.DialTimeout, 3*time.Second)
	orDefault(&c.IdleTimeout, 350*time.Second)
	orDefault(&c.KeepAlive, time.Minute)
	orDefault(&c.AlertLinger, time.Second)
	orDefault(&c.MaxConnections, 20_000)
	orDefault(&c.MaxPerClient, max(c.MaxConnections/4, 1))
	return c
}

func orDefault[T time.Duration | int | Kind](v *T, d T) {
	var zero T
	if *v <= zero {
		*v = d
	}
}

// ErrShutdown is what [Engine.Serve] returns on an engine that was shut down
// before.
var ErrShutdown = errors.New("relay: engine is shut down")

// Engine relays connections. Make one with [New].
type Engine struct {
	config Config
	limits *limits
	mover  mover
}

// mover is an engine of one kind. Its methods are what those of Engine say.
type mover interface {
	serve(*Listener, Match, Observer) error
	recheck()
	shutdown(context.Context) error
}

// New makes an engine. It starts nothing.
func New(c Config) *Engine {
	c = c.withDefaults()
	e := &Engine{config: c, limits: newLimits(c)}
	switch {
	case CheckKind(c.Kind) != nil:
		e.mover = unavailable{c.Kind}
	case c.Kind == KindGoroutine || !haveEpoll:
		e.mover = newGoroutines(c, e.limits)
	default:
		e.mover = newLoops(c, e.limits)
	}
	return e
}

// unavailable serves nothing.
type unavailable struct{ kind Kind }

func (u unavailable) serve(ln *Listener, _ Match, _ Observer) error {
	return errors.Join(fmt.Errorf("%w: %q", ErrUnavailable, u.kind), ln.Close())
}
func (unavailable) recheck()                       {}
func (unavailable) shutdown(context.Context) error { return nil }

func keepAlive(every time.Duration) net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: every, Interval: every, Count: keepAliveProbes}
}

// keepAliveProbes is how many keepalive probes may go unanswered.
const keepAliveProbes = 3

// Listen opens a TCP listener whose connections have the engine's keepalive,
// and urgent data in its place.
func (e *Engine) Listen(ctx context.Context, address string) (*net.TCPListener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive(e.config.KeepAlive), Control: urgentInline}
	// The engines rest on how TCP's sockets behave, and no load balancer speaks
	// Multipath TCP, which Go would offer and which knows no urgent data.
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return ln.(*net.TCPListener), nil
}

// Serve accepts connections on ln, has each judged by match and reports it to
// o. It blocks until [Engine.Shutdown], and then returns nil, or until the
// listener fails for good. It may be called for several listeners at once.
func (e *Engine) Serve(ln Listener, match Match, o Observer) error {
	return e.mover.serve(&ln, match, o)
}

// Shutdown closes the listeners, waits for open connections to end by
// themselves until ctx is done, and then resets those that are left. It
// returns when nothing is left, with ctx's error if something was cut. It may
// be called more than once.
func (e *Engine) Shutdown(ctx context.Context) error { return e.mover.shutdown(ctx) }

// Recheck judges every open connection again and cuts those that are no
// longer admitted, or would no longer be admitted as what the backend was told
// they are. It blocks until all are judged.
func (e *Engine) Recheck() { e.mover.recheck() }

// Connections is the number of connections at this time, in any state.
func (e *Engine) Connections() int { return e.limits.connections() }
