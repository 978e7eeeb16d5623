package localaws

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-net/postern/internal/localaws/vpcdns"
)

// Config of a [Server]. Only World is required.
type Config struct {
	World     World
	StatePath string // JSON file; "": the state lives as long as the server
	Listen    string // of the API; "": "127.0.0.1:0"
	DNS       DNS
	Timing    Timing
	// Throttle enforces the token buckets of the EC2 API and Route 53's.
	Throttle bool
	// AllowFaults opens /_localaws/ on the API's address, by which anybody
	// who reaches it may break calls.
	AllowFaults bool
	// IdleTimeout of flows through endpoints; zero: AWS's 350 s.
	IdleTimeout time.Duration
	Clock       func() time.Time // nil: time.Now
	Logger      *slog.Logger     // nil: discarded
}

// DNS says where resolvers answer.
type DNS struct {
	Port   uint16     // of every VPC's resolver; 0: there are none
	Public netip.Addr // of the public resolver; the zero value: there is none
	// Zones are public zones ("example.com") and their authoritative server.
	// More may be told later, by [Server.SetZone].
	Zones map[string]netip.AddrPort
}

// Timing is how slow AWS is. A zero value stands for its default, a negative
// one for none.
type Timing struct {
	Available time.Duration // from pending to available; default 300 ms
	DNS       time.Duration // DnsEntries are empty until then; default 200 ms
	Delete    time.Duration // from deleting to deleted; default 300 ms
	Linger    time.Duration // deleted rows, and rejected ones at the provider's, stay listed; default 5 min
	Change    time.Duration // a hosted zone's change is PENDING, and not answered yet; default 300 ms
	// HiddenDescribes is how many listings lack a new endpoint, on either
	// side; default 0. AWS is eventually consistent.
	HiddenDescribes int
}

func (t Timing) withDefaults() Timing {
	set := func(d *time.Duration, v time.Duration) {
		switch {
		case *d == 0:
			*d = v
		case *d < 0:
			*d = 0
		}
	}
	set(&t.Available, 300*time.Millisecond)
	set(&t.DNS, 200*time.Millisecond)
	set(&t.Delete, 300*time.Millisecond)
	set(&t.Linger, 5*time.Minute)
	set(&t.Change, 300*time.Millisecond)
	return t
}

// Server is the stand-in. New makes one, Start lets it work, Close ends it.
type Server struct {
	cfg    Config
	world  *World
	timing Timing
	log    *slog.Logger
	now    func() time.Time
	faults *Faults
	keys   map[string]principal

	ec2, sts, route53 map[string]action

	buckets buckets
	hidden  hiding
	busy    busyZones
	names   names
	fabric  fabric

	deregistered sync.Map // of netip.AddrPort: targets that get no new connections

	mu    sync.Mutex // held by whoever changes the state
	state atomic.Pointer[state]
	wake  chan struct{} // the next due time changed

	ctx       context.Context // the server's life
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	calls     sync.RWMutex // read-held by every call in flight
	lifecycle sync.Mutex
	started   bool
	closed    bool
	listener  net.Listener
	http      *http.Server
	resolvers []*vpcdns.Server
}

// New validates the world and reads the state. It opens nothing yet.
func New(cfg Config) (*Server, error) {
	if err := cfg.World.Validate(); err != nil {
		return nil, fmt.Errorf("world: %w", err)
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	st, err := loadState(cfg.StatePath)
	if err != nil {
		return nil, err
	}
	st.seed(&cfg.World, cfg.Clock())
	if err := st.fits(&cfg.World); err != nil {
		return nil, fmt.Errorf("state file %s: %w; use the world that it was made with, or another state file", cfg.StatePath, err)
	}
	s := &Server{
		cfg: cfg, world: &cfg.World, timing: cfg.Timing.withDefaults(), log: cfg.Logger, now: cfg.Clock,
		faults: newFaults(), keys: principals(&cfg.World), ec2: ec2Actions(), sts: stsActions(), route53: route53Actions(),
		wake: make(chan struct{}, 1),
	}
	s.names.zones = canonicalZones(cfg.DNS.Zones)
	s.fabric = fabric{server: s, open: map[interfacePort]*openPort{}}
	s.state.Store(st)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Start opens the API, the resolvers and the endpoints that were available
// when the state was written. After an error nothing is left open.
func (s *Server) Start(ctx context.Context) error {
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	if s.started || s.closed {
		return errors.New("localaws: started or closed before")
	}
	s.started = true
	if err := s.open(ctx); err != nil {
		s.shutdown()
		return fmt.Errorf("localaws: %w", err)
	}
	s.wg.Go(func() {
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the AWS API stopped", "error", err)
		}
	})
	s.wg.Go(s.passTime)
	s.log.Info("AWS stand-in is ready", "endpoint_url", s.EndpointURL())
	return nil
}

func (s *Server) open(ctx context.Context) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("the API's address: %w", err)
	}
	s.listener = ln
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	if err := s.startResolvers(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if failed := s.fabric.sync(s.state.Load()); len(failed) > 0 {
		var errs []error
		for id, err := range failed {
			errs = append(errs, fmt.Errorf("endpoint %s: %w", id, err))
		}
		return errors.Join(errs...)
	}
	return s.commit(s.state.Load().clone()) // what the world added
}

// Serve starts the server, waits until the context ends, and closes it.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	s.Close()
	return nil
}

// Close ends everything at once and returns when nothing is left: calls in
// flight are abandoned, connections reset. It is safe to call at any time,
// also twice.
func (s *Server) Close() {
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	s.shutdown()
}

func (s *Server) shutdown() {
	if s.closed {
		return
	}
	s.closed = true
	s.cancel()
	if s.http != nil {
		if err := s.http.Close(); err != nil {
			s.log.Warn("the AWS API did not close cleanly", "error", err)
		}
	}
	if s.listener != nil {
		_ = s.listener.Close() // mostly closed by its server
	}
	s.wg.Wait()
	s.calls.Lock() // the last call has answered
	defer s.calls.Unlock()
	for _, r := range s.resolvers {
		r.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fabric.close()
}

// FlushResolvers makes every resolver forget the public answers that it keeps
// until their TTL has passed. At AWS nobody can; tests, and people who want to
// see the next step at once, may.
func (s *Server) FlushResolvers() {
	for _, r := range s.resolvers {
		r.Flush()
	}
}

// EndpointURL is where SDKs and the AWS CLI find the API, for every service
// and region. The server must have been started.
func (s *Server) EndpointURL() string { return "http://" + s.listener.Addr().String() }

// Faults breaks calls and tells what was called, for tests; it works whether
// AllowFaults is set or not.
func (s *Server) Faults() *Faults { return s.faults }

// update is the only way to change the state: mutate gets a copy, which
// becomes current, durably, if mutate returns nil.
func (s *Server) update(mutate func(*state) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state.Load().clone()
	if err := mutate(next); err != nil {
		return err
	}
	return s.commit(next)
}

// commit makes next the current state: the data path first, then the file,
// then the answers. When one fails, everything stays as it was.
func (s *Server) commit(next *state) error {
	current := s.state.Load()
	failed := s.fabric.sync(next)
	for id, err := range failed {
		if was := current.Endpoints[id]; was != nil && was.State == stateAvailable {
			s.fabric.sync(current)
			return fmt.Errorf("endpoint %s: %w", id, err)
		}
		s.log.Error("endpoint could not be opened", "vpc_endpoint_id", id, "error", err)
		next.Endpoints[id].State, next.Endpoints[id].Failure = stateFailed, err.Error()
	}
	if len(failed) > 0 {
		s.fabric.sync(next)
	}
	if err := next.save(s.cfg.StatePath); err != nil {
		s.fabric.sync(current)
		return err
	}
	s.state.Store(next)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// passTime makes the changes that happen by themselves.
func (s *Server) passTime() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		wait := time.Hour
		if err := s.advance(); err != nil {
			s.log.Error("state could not be saved", "error", err)
			wait = time.Second
		} else if due := s.state.Load().nextDue(); !due.IsZero() {
			wait = max(0, due.Sub(s.now()))
		}
		timer.Reset(wait)
	}
}

// advance brings the state to the present.
func (s *Server) advance() error {
	due := s.state.Load().nextDue()
	if due.IsZero() || due.After(s.now()) {
		return nil
	}
	return s.update(func(st *state) error {
		st.advance(s.now(), s.timing.Linger)
		return nil
	})
}
