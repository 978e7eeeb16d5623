package scim

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/accesslog"
	"github.com/postern-net/postern/internal/sighting"
)

// Certificates are what a door shows to clients.
type Certificates interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// Challenged is implemented by certificates that an authority issues after a
// challenge at the door.
type Challenged interface {
	// Protocol is the ALPN protocol by which the authority challenges the
	// door; such connections carry no request.
	Protocol() string
}

// Config is what a door is made of. Region, Certificates, AccessLog and
// Registerer are required.
type Config struct {
	Region       string // of the platform: tenants of other regions are refused
	Certificates Certificates
	BackendRoots *x509.CertPool // who may sign backends' certificates; nil: the system's roots
	// AccessLog gets a record for each request, and for each connection that is
	// refused; of either kind as many per second as LogRate allows, and the next
	// record tells how many were left out. Default: that of package accesslog.
	AccessLog *slog.Logger
	LogRate   int
	Logger    *slog.Logger // what concerns no single connection; default: nothing is logged
	// Registerer takes the metrics; wrap it with a label of the region.
	Registerer prometheus.Registerer
	Limits     Limits
}

// Limits bound what clients may take. A zero value means the default.
type Limits struct {
	MaxBody        int64         // bytes of one request's body; default 1 MiB
	HelloTimeout   time.Duration // from accepting a connection to the end of its TLS handshake, and again for the head of a request; default 10 s
	RequestTimeout time.Duration // from the head of a request to the end of its answer; default 60 s
	IdleTimeout    time.Duration // between two requests; default 75 s
	DialTimeout    time.Duration // connecting to one backend, with TLS; default 5 s
	MaxConnections int           // at one time; a host may have half, a client a quarter; default [DefaultMaxConnections]
	MaxRequests    int           // of one host under way at one time; a client may have a quarter; default [DefaultMaxRequests], or half of MaxConnections where that is less
	// RequestsPerSecond are those of one client to one host; a host may have
	// four times as many, and an address eight times, for all hosts together;
	// bursts of 4 s; default 100.
	RequestsPerSecond float64
}

// Defaults of [Limits] that go together: requests are at most half of the
// connections, so that those of one host cannot fill all that it may have.
const (
	DefaultMaxConnections = 2000
	DefaultMaxRequests    = 256
)

func (l Limits) withDefaults() Limits {
	l.MaxBody = cmp.Or(l.MaxBody, 1<<20)
	l.HelloTimeout = cmp.Or(l.HelloTimeout, 10*time.Second)
	l.RequestTimeout = cmp.Or(l.RequestTimeout, time.Minute)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, 75*time.Second)
	l.DialTimeout = cmp.Or(l.DialTimeout, 5*time.Second)
	l.MaxConnections = cmp.Or(l.MaxConnections, DefaultMaxConnections)
	l.MaxRequests = cmp.Or(l.MaxRequests, max(min(DefaultMaxRequests, l.MaxConnections/2), 1))
	l.RequestsPerSecond = cmp.Or(l.RequestsPerSecond, 100)
	return l
}

// Door is one region's SCIM ingress. Its methods may be called from several
// goroutines at once.
type Door struct {
	config  Config
	limits  Limits
	tls     *tls.Config
	server  *http.Server
	proxy   http.Handler
	queue   *queue
	metrics *metrics
	seen    *sighting.Tally
	access  *accesslog.Log[entry]
	lingers time.Duration // lingerTime

	clients   *limiter[requester]
	hosts     *limiter[string]
	addresses *limiter[netip.Prefix]

	applying sync.Mutex // one table after the other
	table    atomic.Pointer[table]

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]bool
	crowd     crowd
	running   sync.WaitGroup // accept loops, handshakes and the server; Add only with mu held and closed unset
	handling  sync.RWMutex   // read-locked by each request
	ending    sync.Once
}

// New makes a door that refuses everybody until [Door.Apply] gives it a table.
func New(c Config) (*Door, error) {
	if e := postern.CheckRegionName("region", c.Region); e != nil {
		return nil, fmt.Errorf("scim: %w", e)
	}
	if c.Certificates == nil || c.AccessLog == nil || c.Registerer == nil {
		return nil, errors.New("scim: certificates, an access log and a registerer are required")
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, fmt.Errorf("scim: register metrics: %w", err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Door{
		config: c, limits: c.Limits.withDefaults(), metrics: m, queue: newQueue(), seen: sighting.New(), access: newAccessLog(c.AccessLog, c.LogRate, m.omitted),
		listeners: map[net.Listener]bool{}, crowd: newCrowd(), lingers: lingerTime,
	}
	perSecond := d.limits.RequestsPerSecond
	d.clients, d.hosts, d.addresses = newLimiter[requester](perSecond), newLimiter[string](hostFactor*perSecond), newLimiter[netip.Prefix](addressFactor*perSecond)
	d.tls, d.proxy = d.tlsConfig(), d.reverseProxy()
	d.server = &http.Server{
		Handler: http.HandlerFunc(d.serveHTTP), ConnContext: connContext, MaxHeaderBytes: maxHead,
		ReadHeaderTimeout: d.limits.HelloTimeout, ReadTimeout: d.limits.RequestTimeout, WriteTimeout: d.limits.RequestTimeout + answerTime, IdleTimeout: d.limits.IdleTimeout,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReadFrameSize: 16 << 10, WriteByteTimeout: d.limits.IdleTimeout},
		ErrorLog: slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug), // what clients do wrong
	}
	d.running.Go(func() {
		_ = d.server.Serve(d.queue) // it ends with the queue, and tells that
	})
	return d, nil
}

// answerTime is left to tell a client that its request took too long.
const answerTime = 5 * time.Second

// maxStreams bounds the requests of one HTTP/2 connection at a time, and
// maxBackendConns the connections to the backend for them.
const (
	maxStreams      = 32
	maxBackendConns = 8
)

// Apply puts the SCIM routes of a table in force and cuts the open connections
// that they do not admit. On an error, which lists everything that is wrong, the
// table in force stays; so does it for a revision that is not newer.
func (d *Door) Apply(r postern.Routes) error {
	d.applying.Lock()
	defer d.applying.Unlock()
	if t := d.table.Load(); t != nil && r.Revision <= t.revision {
		return nil
	}
	t, err := compile(d.config.Region, r)
	if err != nil {
		return fmt.Errorf("scim: routes of revision %d: %w", r.Revision, err)
	}
	d.enforce(t)
	if f, ok := d.config.Certificates.(*Files); ok {
		if err := f.Covers(t.names()); err != nil {
			d.config.Logger.Error("clients will not trust a host", "error", err)
		}
	}
	return nil
}

// Hosts lists those that the table in force has for this door, sorted.
func (d *Door) Hosts() []string {
	if t := d.table.Load(); t != nil {
		return t.names()
	}
	return nil
}

// Withdraw takes the table out of force: everybody is refused until the next
// Apply, which may be of any revision.
func (d *Door) Withdraw() {
	d.applying.Lock()
	defer d.applying.Unlock()
	d.enforce(nil)
}

func (d *Door) enforce(t *table) {
	d.table.Store(t)
	revision, hosts := 0., 0
	if t != nil {
		revision, hosts = float64(t.revision), len(t.hosts)
	}
	d.metrics.revision.Set(revision)
	d.metrics.hosts.Set(float64(hosts))
	for _, s := range d.open() {
		if !s.stillAdmitted() {
			s.cut()
		}
	}
}

// open lists the sessions.
func (d *Door) open() []*session {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]*session, 0, len(d.crowd.sessions))
	for s := range d.crowd.sessions {
		all = append(all, s)
	}
	return all
}

// Drain returns what arrived since it was called last.
func (d *Door) Drain() sighting.Report { return d.seen.Snapshot(true) }

// Serve accepts connections until [Door.Shutdown], and then returns nil, or
// until the listener fails for good. It may be called for several listeners.
func (d *Door) Serve(ln net.Listener) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ln.Close()
	}
	d.listeners[ln] = true
	d.running.Add(1)
	d.mu.Unlock()
	defer d.running.Done()
	var pause time.Duration
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			d.accept(c)
			continue
		case d.isClosed():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("scim: %w", err)
		}
		// Out of descriptors, mostly: it passes.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		d.config.Logger.Error("cannot accept connections; trying again", "listener", postern.ListenerSCIM, "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-d.queue.done:
		}
	}
}

func (d *Door) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// Shutdown takes no more connections, lets requests end until ctx does, and cuts
// the rest. When it returns, no connection is open and no request is under way.
// It may be called more than once.
func (d *Door) Shutdown(ctx context.Context) { d.ending.Do(func() { d.shutdown(ctx) }) }

func (d *Door) shutdown(ctx context.Context) {
	d.mu.Lock()
	d.closed = true
	for ln := range d.listeners {
		_ = ln.Close() // its accept loop sees it and ends
	}
	d.mu.Unlock()
	_ = d.server.Shutdown(ctx) // what is left is cut below
	d.queue.close()
	for _, s := range d.open() {
		s.cut()
	}
	_ = d.server.Close() // every connection is closed by now
	d.running.Wait()
	d.handling.Lock() // for good
	d.access.Flush()
}

// Flush returns when the access log has everything that was told so far.
func (d *Door) Flush() { d.access.Flush() }

// tlsConfig is TLS 1.2 with forward secrecy and authenticated encryption only,
// or 1.3. Who connects is judged before anything is answered.
func (d *Door) tlsConfig() *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{"h2", "http/1.1"}, GetCertificate: d.config.Certificates.GetCertificate,
	}
	challenge := c.Clone()
	protocol := ""
	if m, ok := d.config.Certificates.(Challenged); ok {
		protocol = m.Protocol()
		challenge.NextProtos = []string{protocol}
	}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		s, ok := hello.Conn.(*session)
		if !ok {
			return nil, errors.New("scim: not a connection of this door")
		}
		challenged := protocol != "" && slices.Equal(hello.SupportedProtos, []string{protocol})
		if err := s.judge(hello.ServerName, challenged); err != nil || !challenged {
			return nil, err
		}
		return challenge, nil
	}
	return c
}
