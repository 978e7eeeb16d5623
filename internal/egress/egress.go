package egress

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/accesslog"
	"github.com/postern-net/postern/internal/relay"
	"github.com/postern-net/postern/internal/sighting"
)

// Engine is what an egress needs to move the connections of transparent
// listeners; package relay has one. It connects from the same address as the
// egress itself.
type Engine interface {
	// Serve hands every connection of a listener to the match and reports to
	// the observer, until the engine is shut down or the listener fails.
	Serve(relay.Listener, relay.Match, relay.Observer) error
	// Recheck cuts the open connections that their match no longer admits,
	// and those that are pinned and whose backend is none any more, and
	// returns when that is done.
	Recheck()
}

// Config is what an egress is made of. Region, Engine, Logger and Registerer
// are required.
type Config struct {
	Region string // connections of other regions are refused
	Engine Engine // for the transparent listeners
	// Source is the local address of connections to endpoints, which the
	// endpoints' security group lets in. Default: what the routing table says.
	Source netip.Addr
	// Logger is the access log: a record when a connection is refused, or when
	// it is opened and when it is closed. It never holds a credential.
	Logger *slog.Logger
	// LogRate is how many records per second the access log takes, of refused
	// and of admitted connections each; the others are counted, and the next
	// record tells how many there were. Default: that of package accesslog.
	LogRate    int
	Registerer prometheus.Registerer
	Limits     Limits
	// Networks pass for those of endpoints though they are loopback. Only the
	// sandbox and tests, whose cloud is on loopback addresses, give any.
	Networks []netip.Prefix
	// Now is the clock that credentials expire by. Default: time.Now.
	Now func() time.Time
}

// Limits bound the connect listener; zero values mean the defaults. Those of
// transparent listeners are the engine's.
type Limits struct {
	HeadTimeout    time.Duration // from accepting to the end of the request's head, TLS included; default 5 s
	HelloTimeout   time.Duration // from the answer to the end of the ClientHello; default 5 s
	DialTimeout    time.Duration // connecting to one address; default 3 s
	IdleTimeout    time.Duration // nothing moves, either way; default 350 s, that of AWS's load balancers
	MaxConnections int           // default 10,000
	MaxPerTenant   int           // default a quarter of MaxConnections
	MaxPerClient   int           // of one address, known or not; default a quarter of MaxConnections
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.HeadTimeout, 5*time.Second)
	orDefault(&l.HelloTimeout, 5*time.Second)
	orDefault(&l.DialTimeout, 3*time.Second)
	orDefault(&l.IdleTimeout, 350*time.Second)
	orDefault(&l.MaxConnections, 10_000)
	orDefault(&l.MaxPerTenant, max(l.MaxConnections/4, 1))
	orDefault(&l.MaxPerClient, max(l.MaxConnections/4, 1))
	return l
}

func orDefault[T time.Duration | int](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Egress decides what the workloads of one region reach. Its methods may be
// called from several goroutines at once.
type Egress struct {
	region   string
	engine   Engine
	source   netip.Addr
	networks []netip.Prefix
	limits   Limits
	logger   *slog.Logger
	access   *accesslog.Log[entry]
	metrics  *metrics
	seen     *sighting.Tally
	now      func() time.Time
	tunnels  *tunnels
	paths    *paths

	applying sync.Mutex // one table after the other
	table    atomic.Pointer[table]
	expiry   *time.Timer // rechecks when the next credential ends; nil: none does
}

// New makes an egress that refuses everything until [Egress.Apply] gives it a
// table. It registers its metrics; for a second egress in one process wrap the
// registerer, with a region label for instance.
func New(c Config) (*Egress, error) {
	if e := postern.CheckRegionName("region", c.Region); e != nil {
		return nil, fmt.Errorf("egress: %w", e)
	}
	if c.Engine == nil || c.Logger == nil || c.Registerer == nil {
		return nil, errors.New("egress: an engine, a logger and a registerer are required")
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, fmt.Errorf("egress: register metrics: %w", err)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Egress{
		region: c.Region, engine: c.Engine, source: c.Source, networks: c.Networks, limits: c.Limits.withDefaults(),
		logger: c.Logger, access: newAccessLog(c.Logger, c.LogRate, m.omitted), metrics: m, seen: sighting.New(), now: c.Now, tunnels: newTunnels(), paths: newPaths(),
	}, nil
}

// Apply puts a new table in force and cuts the open connections that it does
// not grant. It tells whether it did: a revision that is not newer than the
// one in force changes nothing. On an error, which lists everything that is
// wrong with the routes, the table in force stays. A connection that leads where
// none may is refused by itself, and logged.
func (e *Egress) Apply(r postern.Routes) (bool, error) {
	e.applying.Lock()
	defer e.applying.Unlock()
	if t := e.table.Load(); t != nil && r.Revision <= t.revision {
		return false, nil
	}
	t, err := compile(r, e.networks)
	if err != nil {
		return false, fmt.Errorf("egress: routes of revision %d: %w", r.Revision, err)
	}
	for _, name := range slices.Sorted(maps.Keys(t.void)) {
		e.logger.Error("a connection is not obeyed", "host", name, "connection_id", t.connections[name].ID, "error", t.void[name])
	}
	e.put(t)
	e.metrics.revision.Set(float64(t.revision))
	return true, nil
}

// Withdraw takes the table out of force and cuts the open connections:
// everything is refused until the next [Egress.Apply], which may be of any
// revision.
func (e *Egress) Withdraw() {
	e.applying.Lock()
	defer e.applying.Unlock()
	e.put(nil)
	e.metrics.revision.Set(0)
}

// put replaces the table; applying is held.
func (e *Egress) put(t *table) {
	e.table.Store(t)
	now := e.now()
	e.recheck()
	e.awaitExpiry(t, now)
}

// recheck judges all open connections again.
func (e *Egress) recheck() {
	e.engine.Recheck()
	e.tunnels.recheck()
}

// awaitExpiry judges the open connections again when the next credential ends
// after a time, since which they may have been judged while it was good.
func (e *Egress) awaitExpiry(t *table, since time.Time) {
	if e.expiry != nil {
		e.expiry.Stop()
		e.expiry = nil
	}
	if t == nil {
		return
	}
	next, ok := t.nextExpiry(since)
	if !ok {
		return
	}
	e.expiry = time.AfterFunc(next.Sub(e.now()), func() {
		e.applying.Lock()
		defer e.applying.Unlock()
		if e.table.Load() != t {
			return // the table that replaced it has its own
		}
		now := e.now()
		e.recheck()
		e.awaitExpiry(t, now)
	})
}

// Revision is that of the table in force; false while there is none.
func (e *Egress) Revision() (int64, bool) {
	t := e.table.Load()
	if t == nil {
		return 0, false
	}
	return t.revision, true
}

// Drain returns who asked for what since it was called last.
func (e *Egress) Drain() sighting.Report { return e.seen.Snapshot(true) }
