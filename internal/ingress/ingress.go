package ingress

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/relay"
	"github.com/postern-net/postern/internal/sighting"
)

// The names of the listeners in the log, the metrics and the report.
const (
	Private = "private"
	Public  = "public"
)

// Engine is what an ingress needs to move connections; package relay has one.
type Engine interface {
	// Serve hands every connection of a listener to the match and reports to
	// the observer, until the engine is shut down or the listener fails.
	Serve(relay.Listener, relay.Match, relay.Observer) error
	// Recheck cuts the open connections that their match no longer admits,
	// and returns when that is done.
	Recheck()
}

// Config is what an ingress is made of. All fields but PublicEngine are
// required.
type Config struct {
	Region string // of the platform: endpoints of other regions' services are refused
	Engine Engine
	// PublicEngine takes the public listeners' connections, with limits of its
	// own, so that a flood there does not shut the private listener. Default:
	// Engine.
	PublicEngine Engine
	// Logger is the access log: a record when a connection is refused, or when
	// it is opened and when it is closed.
	Logger *slog.Logger
	// LogRate is how many records per second the access log takes, of refused
	// and of admitted connections each; the others are counted, and the next
	// record tells how many there were. Default: that of package accesslog.
	LogRate    int
	Registerer prometheus.Registerer
}

// Ingress judges the connections of one region. Its methods may be called
// from several goroutines at once.
type Ingress struct {
	region  string
	private Engine
	public  Engine
	access  accessLog
	metrics *metrics
	seen    *sighting.Tally

	applying sync.Mutex // one table after the other
	table    atomic.Pointer[table]
}

// New makes an ingress that refuses everything until [Ingress.Apply] gives it
// a table. It registers its metrics; for a second ingress in one process wrap
// the registerer, with a region label for instance.
func New(c Config) (*Ingress, error) {
	if e := postern.CheckRegionName("region", c.Region); e != nil {
		return nil, fmt.Errorf("ingress: %w", e)
	}
	if c.Engine == nil || c.Logger == nil || c.Registerer == nil {
		return nil, errors.New("ingress: an engine, a logger and a registerer are required")
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, fmt.Errorf("ingress: register metrics: %w", err)
	}
	in := &Ingress{region: c.Region, private: c.Engine, public: c.PublicEngine, access: newAccessLog(c.Logger, c.LogRate, m.omitted), metrics: m, seen: sighting.New()}
	if in.public == nil {
		in.public = in.private
	}
	return in, nil
}

// recheck judges all open connections again.
func (in *Ingress) recheck() {
	in.private.Recheck()
	if in.public != in.private {
		in.public.Recheck()
	}
}

// Apply puts a new table in force and cuts the open connections that it does
// not grant. It tells whether it did: a revision that is not newer than the
// one in force changes nothing. On an error, which lists everything that is
// wrong with the routes, the table in force stays.
func (in *Ingress) Apply(r postern.Routes) (bool, error) {
	in.applying.Lock()
	defer in.applying.Unlock()
	if t := in.table.Load(); t != nil && r.Revision <= t.revision {
		return false, nil
	}
	here, err := r.In(in.region)
	if err != nil {
		return false, fmt.Errorf("ingress: routes of revision %d: %w", r.Revision, err)
	}
	t, err := compile(here, in.table.Load(), time.Now())
	if err != nil {
		return false, fmt.Errorf("ingress: routes of revision %d: %w", r.Revision, err)
	}
	in.table.Store(t)
	in.metrics.revision.Set(float64(t.revision))
	in.recheck()
	in.awaitDrain(t)
	return true, nil
}

// awaitDrain judges the open connections once more at the next deadline of a
// host that is no longer public.
func (in *Ingress) awaitDrain(t *table) {
	now := time.Now()
	var next time.Time
	for _, d := range t.drains {
		if u := d.Until; u.After(now) && (next.IsZero() || u.Before(next)) {
			next = u
		}
	}
	if next.IsZero() {
		return
	}
	time.AfterFunc(next.Sub(now), func() {
		in.applying.Lock()
		defer in.applying.Unlock()
		if in.table.Load() != t {
			return // the table that replaced it has its own deadlines
		}
		in.recheck()
		in.awaitDrain(t)
	})
}

// Withdraw takes the table out of force and cuts the open connections:
// everything is refused until the next [Ingress.Apply], which may be of any
// revision.
func (in *Ingress) Withdraw() {
	in.applying.Lock()
	defer in.applying.Unlock()
	in.table.Store(nil)
	in.metrics.revision.Set(0)
	in.recheck()
}

// Revision is that of the table in force; false while there is none.
func (in *Ingress) Revision() (int64, bool) {
	t := in.table.Load()
	if t == nil {
		return 0, false
	}
	return t.revision, true
}

// ServePrivate takes the connections of the region's endpoint service. Each
// must start with a PROXY header from one of the sources, which are the
// networks of the load balancer's nodes. It blocks as [Engine] says.
func (in *Ingress) ServePrivate(ln relay.Acceptor, sources []netip.Prefix) error {
	return in.private.Serve(relay.Listener{Acceptor: ln, Name: Private, ProxyProtocol: true, Sources: sources}, in.MatchPrivate, in)
}

// ServePublic takes connections straight from the internet. It blocks as
// [Engine] says.
func (in *Ingress) ServePublic(ln relay.Acceptor) error {
	return in.public.Serve(relay.Listener{Acceptor: ln, Name: Public}, in.MatchPublic, in)
}

// ServePublicProxied takes connections from the internet that come through a
// load balancer, which puts a PROXY header ahead of each. It blocks as
// [Engine] says.
func (in *Ingress) ServePublicProxied(ln relay.Acceptor, sources []netip.Prefix) error {
	return in.public.Serve(relay.Listener{Acceptor: ln, Name: Public, ProxyProtocol: true, Sources: sources}, in.MatchPublic, in)
}
