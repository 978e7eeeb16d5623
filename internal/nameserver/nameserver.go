package nameserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
)

// maxNegativeTTL bounds how long a name that was asked for too early stays
// absent for a resolver (docs/architecture.md).
const maxNegativeTTL = time.Minute

// Config is what a nameserver is made of. Listen, Logger and Registerer are
// required; of the others the zero value means the default.
type Config struct {
	// Listen has the addresses to answer on, each by UDP and TCP. Port 0 takes
	// a port that is free for both.
	Listen     []netip.AddrPort
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	// Nameservers are named in the NS records of every zone that brings none
	// of its own, the first of them also in the SOA record. Default: "ns" in
	// the zone itself, without an address.
	Nameservers []Nameserver
	// NegativeTTL is how long resolvers may remember that a name or type does
	// not exist: whole seconds, at most 60. Default: 30 s.
	NegativeTTL time.Duration

	// Timeout bounds the arrival of the first query of a TCP connection and
	// the sending of each answer. Default: 2 s.
	Timeout time.Duration
	// IdleTimeout bounds the wait for the next query of a TCP connection, to
	// its last byte. Default: 10 s.
	IdleTimeout time.Duration
	// MaxConnections bounds the TCP connections of one listener, and
	// MaxPerSource those of one IPv4 address or IPv6 /64 among them; more are
	// closed at once. Default: 512 and 32.
	MaxConnections int
	MaxPerSource   int
}

// Nameserver is one of the servers that answer for the zones.
type Nameserver struct {
	// Host is its name, lower case, no trailing dot; "" stands for "ns" in the
	// zone itself.
	Host string
	// Addresses are published at Host in the zone that Host is in, if that is
	// one of the zones and has no addresses there.
	Addresses []netip.Addr
}

func (c Config) withDefaults() Config {
	if len(c.Nameservers) == 0 {
		c.Nameservers = []Nameserver{{}}
	}
	orDefault(&c.NegativeTTL, 30*time.Second)
	orDefault(&c.Timeout, 2*time.Second)
	orDefault(&c.IdleTimeout, 10*time.Second)
	orDefault(&c.MaxConnections, 512)
	orDefault(&c.MaxPerSource, 32)
	return c
}

func orDefault[T time.Duration | int](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (c Config) validate() error {
	if c.Logger == nil || c.Registerer == nil {
		return errors.New("a logger and a registerer are required")
	}
	var es postern.Errors
	if len(c.Listen) == 0 {
		es.Add(postern.Invalid("listen", "", "no address", `give at least one, such as "192.0.2.53:53"`))
	}
	for i, a := range c.Listen {
		if !a.IsValid() {
			es.Add(postern.Invalid(fmt.Sprintf("listen[%d]", i), a.String(), "not an address with a port", `write it as "192.0.2.53:53"`))
		}
	}
	if c.NegativeTTL < time.Second || c.NegativeTTL > maxNegativeTTL || c.NegativeTTL%time.Second != 0 {
		es.Add(postern.Invalid("negative_ttl", c.NegativeTTL.String(), "not usable as the TTL of negative answers", "give whole seconds from 1 to 60"))
	}
	for field, d := range map[string]time.Duration{"timeout": c.Timeout, "idle_timeout": c.IdleTimeout} {
		if d < 0 {
			es.Add(postern.Invalid(field, d.String(), "negative", "leave it out for the default"))
		}
	}
	for field, n := range map[string]int{"max_connections": c.MaxConnections, "max_per_source": c.MaxPerSource} {
		if n < 0 {
			es.Add(postern.Invalid(field, fmt.Sprint(n), "negative", "leave it out for the default"))
		}
	}
	c.validateNameservers(&es)
	return es.Err()
}

func (c Config) validateNameservers(es *postern.Errors) {
	for i, n := range c.Nameservers {
		at := fmt.Sprintf("nameservers[%d]", i)
		if n.Host != "" {
			es.Add(postern.CheckHostname(at+".host", n.Host))
		}
		if slices.ContainsFunc(c.Nameservers[:i], func(o Nameserver) bool { return o.Host == n.Host }) {
			es.Add(postern.Invalid(at+".host", n.Host, "duplicate nameserver", "name it once, with all its addresses"))
		}
		for j, a := range n.Addresses {
			at := fmt.Sprintf("%s.addresses[%d]", at, j)
			switch {
			case !a.IsValid() || a.IsUnspecified() || a.Is4In6() || a.Zone() != "":
				es.Add(postern.Invalid(at, a.String(), "not an address that can be published", `write it as "192.0.2.53" or "2001:db8::53"`))
			case slices.Contains(n.Addresses[:j], a):
				es.Add(postern.Invalid(at, a.String(), "duplicate address", "list it once"))
			}
		}
	}
}

// Server is a nameserver. Its methods may be called from several goroutines at
// once.
type Server struct {
	config  Config
	log     *slog.Logger
	metrics *metrics

	applying sync.Mutex // one table after the other
	table    atomic.Pointer[table]

	mu    sync.Mutex
	state state
	doors []*door
	work  sync.WaitGroup // listeners

	ended   chan struct{} // closed by the first Close, or the first failure of a listener
	ending  sync.Once
	failure error // set before ended is closed
}

type state int

const (
	made state = iota
	started
	closed
)

// New makes a nameserver that does not listen yet. Until it is given zones it
// answers SERVFAIL, upon which resolvers try another server. It registers its
// metrics; for a second nameserver in one process wrap the registerer.
func New(c Config) (*Server, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("nameserver: %w", err)
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, fmt.Errorf("nameserver: register metrics: %w", err)
	}
	return &Server{config: c, log: c.Logger, metrics: m, ended: make(chan struct{})}, nil
}

// Apply puts new zones in force, all at once. It tells whether it did: a
// revision that is not newer than the one in force changes nothing. On an
// error, which lists everything that is wrong with the zones, those in force
// stay.
func (s *Server) Apply(z postern.Zones) (bool, error) {
	s.applying.Lock()
	defer s.applying.Unlock()
	old := s.table.Load()
	if old != nil && z.Revision <= old.revision {
		return false, nil
	}
	if err := z.Validate(); err != nil {
		return false, fmt.Errorf("nameserver: zones of revision %d: %w", z.Revision, err)
	}
	t := compile(z, nextSerial(old, z.Revision), s.config)
	s.table.Store(t)
	s.metrics.revision.Set(float64(t.revision))
	for _, name := range t.unhostly {
		s.log.LogAttrs(context.Background(), slog.LevelWarn, "a zone's nameserver has a name that is a CNAME, which some resolvers do not follow; name nameservers outside the zone",
			slog.String("name", name), slog.Int64("revision", t.revision))
	}
	return true, nil
}

// Revision is that of the zones in force; false while there are none.
func (s *Server) Revision() (int64, bool) {
	t := s.table.Load()
	if t == nil {
		return 0, false
	}
	return t.revision, true
}
