package nodelink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
)

// Link is what a node needs of the control plane's API; package client's Client
// has it. Refusals are of type *client.Error.
type Link interface {
	RegisterNode(ctx context.Context, r client.NodeRegistration) (client.Node, error)
	// ReportNode may be sent the same report again, which counts once.
	ReportNode(ctx context.Context, r client.NodeReport) error
	// WatchRoutes calls each for every line of the stream until ctx ends,
	// each returns an error or the stream breaks, and returns that error.
	WatchRoutes(ctx context.Context, bootID string, have int64, each func(message []byte) error) error
}

// Config is what a [Client] is made of. All fields but Version are required.
type Config struct {
	ID        string // the name of the token that Link shows
	Regions   []string
	Egress    []string // those of them whose egress it is
	Version   string
	Link      Link
	Doors     Doors
	CacheFile string // where the last table is kept; its directory exists
	Logger    *slog.Logger
}

// Client is a node's end. Call [Client.Restore] before the doors open, and then
// [Client.Run] once.
type Client struct {
	config Config
	boot   string
	log    *slog.Logger
	held   *holding
	out    *outbox // of the goroutine that reports

	// whole: a delta did not fit, so the next stream is to begin with a
	// snapshot. Of the goroutine that follows the streams.
	whole bool

	registered atomic.Bool
	connected  atomic.Bool
	news       chan struct{} // a table was applied
	again      chan struct{} // the registration is no longer good
}

const (
	firstPause = 100 * time.Millisecond // before a second attempt to connect
	maxPause   = 5 * time.Second
	// steady is how long a stream must have lasted for its end to be no
	// failure: the control plane ends streams now and then.
	steady = 10 * time.Second
	// reportEvery is how often what was seen at the doors is reported.
	reportEvery = time.Second
	// lastWord bounds the sending of the last reports when a node stops.
	lastWord = time.Second
)

// New makes a node's end. It does nothing yet.
func New(c Config) *Client {
	log := c.Logger.With("node", c.ID)
	boot := rand.Text()
	return &Client{
		config: c, boot: boot, log: log, held: &holding{doors: c.Doors, file: c.CacheFile, log: log}, out: newOutbox(c.ID, boot),
		news: make(chan struct{}, 1), again: make(chan struct{}, 1),
	}
}

// Restore puts the table in force that this node had last, from its disk. It
// does not need the control plane. A file that cannot be used is logged and
// counts as none.
func (c *Client) Restore() { c.held.restore() }

// Status is how a node stands.
type Status struct {
	Revision  int64 // in force; 0 while InForce is false
	InForce   bool  // a table is in force; without one, everything is refused
	Fenced    bool  // as the control plane said last
	Connected bool  // the stream of routes is open
}

// Status tells how the node stands.
func (c *Client) Status() Status {
	s := c.held.status()
	s.Connected = c.connected.Load()
	return s
}

// Run keeps the node registered, its table current and its reports going until
// ctx ends; then it sends what was not reported yet, for a second at most.
func (c *Client) Run(ctx context.Context) {
	var work sync.WaitGroup
	work.Go(func() { c.reports(ctx) })
	c.follow(ctx)
	work.Wait()
	c.flush(ctx)
}

// follow connects, again and again.
func (c *Client) follow(ctx context.Context) {
	pause, quiet := firstPause, false
	for {
		start := time.Now()
		err := c.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(start) >= steady {
			pause, quiet = firstPause, false
		}
		quiet = c.tell(err, quiet)
		if !wait(ctx, jitter(pause)) {
			return
		}
		pause = min(2*pause, maxPause)
	}
}

// tell logs why a session ended: each time what should never happen, and of
// an outage only its start. It answers whether the next failure is part of the
// same outage.
func (c *Client) tell(err error, quiet bool) bool {
	var bad *misfit
	switch {
	case errors.As(err, &bad):
		c.log.Error("the control plane sent what cannot be taken; the routes in force stay", "error", err)
	case quiet, c.held.status().Fenced:
	default:
		c.log.Warn("the link to the control plane ended; the routes in force stay", "error", err)
		return true
	}
	return quiet
}

// jitter is between half of a pause and all of it, so that nodes that lost the
// control plane together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d/2 + mathrand.N(d/2+1) //nolint:gosec // spreads load; nobody gains by guessing it
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

var (
	errQuiet   = fmt.Errorf("nodelink: nothing was heard for %s", Quiet)
	errUnknown = errors.New("nodelink: the control plane does not know this process any more")
	errFenced  = errors.New("nodelink: the node was fenced")
)

// session registers and follows one stream to its end.
func (c *Client) session(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	// Registering and the first message are bounded like the rest: a server
	// that takes a connection and says nothing is a dead one.
	watchdog := time.AfterFunc(Quiet, func() { end(errQuiet) })
	defer watchdog.Stop()
	select {
	case <-c.again: // of the session before
	default:
	}
	err := c.register(ctx)
	if err != nil {
		return because(ctx, err)
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	defer end(nil)
	watching.Go(func() {
		select {
		case <-ctx.Done():
		case <-c.again:
			end(errUnknown)
		}
	})
	defer c.connected.Store(false)
	have := c.held.status().Revision
	if c.whole {
		have = 0
	}
	err = c.config.Link.WatchRoutes(ctx, c.boot, have, func(line []byte) error {
		watchdog.Reset(Quiet)
		if ctx.Err() != nil { // a timer or a report was first
			return context.Cause(ctx)
		}
		return c.take(line)
	})
	if client.Concerns(err, string(postern.CodeConflict), postern.FieldFenced) {
		c.withdraw(err)
	}
	return because(ctx, err)
}

// because prefers what ended a context to the error that it led to.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (c *Client) register(ctx context.Context) error {
	revision, sum := c.held.acknowledged()
	_, err := c.config.Link.RegisterNode(ctx, client.NodeRegistration{
		ID: c.config.ID, Regions: c.config.Regions, EgressRegions: append([]string{}, c.config.Egress...), Version: c.config.Version, BootID: c.boot, AppliedRevision: revision, AppliedSum: sum,
	})
	switch {
	case err == nil:
		c.registered.Store(true)
		if c.held.admit() {
			c.log.Warn("this node is no longer fenced")
		}
	case client.Concerns(err, string(postern.CodeConflict), postern.FieldFenced):
		c.withdraw(err)
	}
	return err
}

// take does what a message says.
func (c *Client) take(line []byte) error {
	m, err := ParseMessage(line)
	switch {
	case err != nil:
		return &misfit{err}
	case m.Snapshot != nil:
		if err = c.held.snapshot(*m.Snapshot); err == nil {
			c.whole = false
		}
	case m.Delta != nil:
		if err = c.held.delta(*m.Delta); err != nil {
			c.whole = true
		}
	case m.Fenced != nil:
		c.withdraw(fmt.Errorf("%w: %s", errFenced, m.Fenced.Reason))
		return errFenced
	}
	if err != nil {
		return err
	}
	if !c.connected.Swap(true) {
		c.log.Info("linked to the control plane")
	}
	if m.Ping == nil {
		signal(c.news)
	}
	return nil
}

// withdraw closes the doors of a fenced node.
func (c *Client) withdraw(why error) {
	c.registered.Store(false)
	if c.held.withdraw() {
		c.log.Warn("this node is fenced: everything is refused", "error", why)
	}
}

// reports sends what was seen, every second, and what was applied, at once.
func (c *Client) reports(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.held.mend()
			c.out.add(c.config.Doors.Drain())
		case <-c.news:
		}
		if c.registered.Load() {
			c.report(ctx, false)
		}
	}
}

// report sends one report, and tells whether it was taken. One that was not is
// sent again by the next call.
func (c *Client) report(ctx context.Context, force bool) bool {
	revision, sum := c.held.acknowledged()
	r := c.out.next(time.Now(), revision, sum, force)
	if r == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	sent := *r
	sent.SentAt = time.Now() // of this attempt: it tells how the clocks differ
	err := c.config.Link.ReportNode(ctx, sent)
	conflict := string(postern.CodeConflict)
	switch {
	case err == nil:
		c.out.done(time.Now())
		return true
	case client.Concerns(err, conflict, postern.FieldFenced):
		c.withdraw(err)
		signal(c.again)
	case client.Concerns(err, conflict, postern.FieldBootID), client.HasCode(err, string(postern.CodeNotFound)):
		c.registered.Store(false)
		c.log.Error("the control plane does not know this process; it registers again", "error", err)
		signal(c.again)
	case client.HasCode(err, string(postern.CodeInvalid)):
		// Sent again it would be refused again, and hold up all that follows.
		c.log.Error("the control plane refuses a report, which is dropped", "seq", r.Seq, "arrivals", len(r.Arrivals), "error", err)
		c.out.done(time.Now())
	default:
		c.log.Debug("a report was not taken; it is sent again", "seq", r.Seq, "error", err)
	}
	return false
}

// reportTimeout bounds the sending of one report.
const reportTimeout = 10 * time.Second

// flush sends what is left after ctx ended.
func (c *Client) flush(ctx context.Context) {
	c.out.add(c.config.Doors.Drain())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
	defer cancel()
	for c.registered.Load() && !c.out.empty() {
		if !c.report(ctx, true) {
			c.log.Warn("what arrived last could not be reported")
			return
		}
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
