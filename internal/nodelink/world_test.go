package nodelink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/nodelink"
)

// doors record what a node does to them.
type doors struct {
	mu       sync.Mutex
	table    postern.Routes
	open     bool
	refuse   error // of the next tables
	arrivals []postern.ArrivalCount
}

func (d *doors) Apply(r postern.Routes) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return d.refuse
	}
	d.table, d.open = r, true
	return nil
}

func (d *doors) Withdraw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.table, d.open = postern.Routes{}, false
}

func (d *doors) Drain() []postern.ArrivalCount {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.arrivals
	d.arrivals = nil
	return out
}

// arrive lets connections to a host arrive.
func (d *doors) arrive(host string, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arrivals = append(d.arrivals, postern.ArrivalCount{
		Region: "us-east-1", Listener: postern.ListenerPrivate, ServerName: host, Count: n, FirstSeen: time.Now(), LastSeen: time.Now(),
	})
}

// revision is that of the table in force, -1 while everything is refused.
func (d *doors) revision() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open {
		return -1
	}
	return d.table.Revision
}

// held is the table in force.
func (d *doors) held() postern.Routes {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table
}

func (d *doors) refuseWith(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = err
}

var errDown = errors.New("connection refused")

func conflict(field string) error {
	return &client.Error{Problem: client.Problem{Type: "urn:postern:problem:conflict", Title: "conflict", Errors: []client.FieldProblem{{Field: field, Message: field}}}}
}

// control is a control plane without a network: a real hub, and the promises
// of the API, each of which can be broken for a while.
type control struct {
	hub *nodelink.Hub

	mu            sync.Mutex
	down          bool
	hang          bool // calls do not answer
	fenced        bool
	loseAnswers   bool                                                                   // reports are taken, and the answer is lost
	refuseReports error                                                                  // instead of taking them
	streams       []func(ctx context.Context, have int64, each func([]byte) error) error // instead of the hub's, one each
	boot          string
	seq           int64
	revision      int64 // acknowledged
	counts        map[string]int64
	reports       []client.NodeReport // each that arrived
	at            []time.Time         // when
	registrations []time.Time
	cut           context.CancelFunc // of the open stream
}

func newControl() *control {
	return &control{hub: nodelink.NewHub(), counts: map[string]int64{}}
}

// set changes the control plane between two calls.
func (c *control) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// cutOff parts the node from it; with back, it is reached again.
func (c *control) cutOff(off bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down = off; off && c.cut != nil {
		c.cut()
	}
}

func (c *control) RegisterNode(ctx context.Context, r client.NodeRegistration) (client.Node, error) {
	c.mu.Lock()
	hang := c.hang
	c.registrations = append(c.registrations, time.Now())
	c.mu.Unlock()
	if hang {
		<-ctx.Done()
		return client.Node{}, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.down:
		return client.Node{}, errDown
	case c.fenced:
		return client.Node{}, conflict(postern.FieldFenced)
	}
	if c.boot != r.BootID {
		c.boot, c.seq = r.BootID, 0
	}
	c.revision = r.AppliedRevision
	return client.Node{ID: r.ID}, nil
}

func (c *control) ReportNode(_ context.Context, r client.NodeReport) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports, c.at = append(c.reports, r), append(c.at, time.Now())
	switch {
	case c.down:
		return errDown
	case c.refuseReports != nil:
		return c.refuseReports
	case c.fenced:
		return conflict(postern.FieldFenced)
	case r.BootID != c.boot:
		return conflict(postern.FieldBootID)
	}
	if r.Seq > c.seq {
		c.seq, c.revision = r.Seq, r.AppliedRevision
		for _, a := range r.Arrivals {
			c.counts[a.ServerName] += a.Count
		}
	}
	if c.loseAnswers {
		return errDown
	}
	return nil
}

func (c *control) WatchRoutes(ctx context.Context, _ string, have int64, each func([]byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.cut = cancel
	var stream func(context.Context, int64, func([]byte) error) error
	switch {
	case c.down:
		c.mu.Unlock()
		return errDown
	case len(c.streams) > 0:
		stream, c.streams = c.streams[0], c.streams[1:]
	}
	c.mu.Unlock()
	if stream != nil {
		return stream(ctx, have, each)
	}
	return c.hub.Stream(ctx, have, func(m nodelink.Message) error {
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		return each(b)
	})
}

func (c *control) acknowledged() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revision
}

func (c *control) count(host string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[host]
}

// registered is when the node registered, or tried to.
func (c *control) registered() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.registrations)
}

// reported is each report that arrived, and when.
func (c *control) reported() ([]client.NodeReport, []time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.reports), slices.Clone(c.at)
}

// lines is a log that may be read meanwhile.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte(what))
}

// node is a node's end, its doors and its log.
type node struct {
	*nodelink.Client
	doors *doors
	log   *lines
	file  string
	stop  func()
}

// newNode makes a node that keeps its table in a folder; it does not run.
func newNode(t *testing.T, link nodelink.Link, dir string) *node {
	t.Helper()
	n := &node{doors: &doors{}, log: &lines{}, file: filepath.Join(dir, "routes.json")}
	n.Client = nodelink.New(nodelink.Config{
		ID: "node-a", Regions: []string{"us-east-1"}, Version: "v1", Link: link, Doors: n.doors, CacheFile: n.file,
		Logger: slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	return n
}

// start restores and runs a node until stop, or the end of the test.
func start(t *testing.T, link nodelink.Link, dir string) *node {
	t.Helper()
	n := newNode(t, link, dir)
	n.Restore()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	n.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(n.stop)
	return n
}

// pass lets time pass in a synctest bubble, and whatever happens meanwhile.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
