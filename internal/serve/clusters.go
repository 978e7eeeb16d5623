package serve

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/certcheck"
)

// lookout looks at the clusters of data connections from where workloads get
// out, again and again, and tells the control plane. An egress node does it,
// because an endpoint's security group admits nobody else.
type lookout struct {
	node     string
	checkers map[string]*certcheck.Checker // by region
	log      *slog.Logger

	checks atomic.Pointer[map[string]postern.ConnectionCheck] // of the table in force
	news   chan struct{}                                      // there are others, or something was found
	slots  chan struct{}

	quiet time.Time // nothing is told before: the control plane did not take it

	mu    sync.Mutex
	last  map[string]begun              // looks that have begun, by connection
	found map[string]client.ClusterLook // what was not told yet, by connection
}

// begun is the last look at a connection's cluster.
type begun struct {
	of    string // sum of the check
	asked time.Time
	at    time.Time
	busy  bool
}

const (
	// looksAtOnce bounds the clusters that a node looks at side by side: some do
	// not answer.
	looksAtOnce = 32
	// lookTick is how often it is seen which looks are due.
	lookTick = 250 * time.Millisecond
	// lookLimit bounds one look; what it does not find out in time counts as not
	// looked at.
	lookLimit = certcheck.Timeout + time.Second
	// tellAgain is how soon what was not taken is told again.
	tellAgain = time.Second
)

// task is a look that is due.
type task struct {
	id    string // the connection's
	check postern.ConnectionCheck
}

// newLookout makes one for the regions of an egress; it connects from the
// address from which the egress connects.
func newLookout(c Config, like certcheck.Config, log *slog.Logger) (*lookout, error) {
	l := &lookout{
		node: c.Node.ID, checkers: map[string]*certcheck.Checker{}, log: log, news: make(chan struct{}, 1), slots: make(chan struct{}, looksAtOnce),
		last: map[string]begun{}, found: map[string]client.ClusterLook{},
	}
	for _, e := range c.Egress {
		like.Source = e.Source
		checker, err := certcheck.New(like)
		if err != nil {
			return nil, err
		}
		l.checkers[e.Region] = checker
	}
	return l, nil
}

// apply takes the checks of the table in force.
func (l *lookout) apply(checks map[string]postern.ConnectionCheck) {
	l.checks.Store(&checks)
	l.wake()
}

func (l *lookout) wake() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// run looks and tells until ctx ends.
func (l *lookout) run(ctx context.Context, to *client.Client) {
	tick := time.NewTicker(lookTick)
	defer tick.Stop()
	var looking sync.WaitGroup
	defer looking.Wait()
	for {
		for _, t := range l.due(time.Now()) {
			looking.Go(func() { l.look(ctx, t) })
		}
		l.tell(ctx, to)
		select {
		case <-ctx.Done():
			return
		case <-l.news:
		case <-tick.C:
		}
	}
}

// due begins the looks that are due, those that wait longest first, and forgets
// connections that are gone.
func (l *lookout) due(now time.Time) (tasks []task) {
	var checks map[string]postern.ConnectionCheck
	if p := l.checks.Load(); p != nil {
		checks = *p
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := func(id string) bool { _, ok := checks[id]; return !ok }
	maps.DeleteFunc(l.last, func(id string, b begun) bool { return !b.busy && gone(id) })
	maps.DeleteFunc(l.found, func(id string, _ client.ClusterLook) bool { return gone(id) })
	for id, c := range checks {
		b := l.last[id]
		if l.checkers[c.Region] == nil || b.busy || b.of == c.Sum() && b.asked.Equal(c.Asked) && now.Sub(b.at) < c.Every {
			continue
		}
		tasks = append(tasks, task{id, c})
	}
	slices.SortFunc(tasks, func(a, b task) int { return cmp.Or(l.last[a.id].at.Compare(l.last[b.id].at), cmp.Compare(a.id, b.id)) })
	tasks = tasks[:min(len(tasks), cap(l.slots)-len(l.slots))]
	for _, t := range tasks {
		l.slots <- struct{}{} // there is room: nobody else takes any
		l.last[t.id] = begun{of: t.check.Sum(), asked: t.check.Asked, at: now, busy: true}
	}
	return tasks
}

// look looks at one cluster. Of one that it could not look at nothing is told.
func (l *lookout) look(ctx context.Context, t task) {
	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	findings, err := l.checkers[t.check.Region].Check(limited, certcheck.Target{Hostname: t.check.Hostname, Addresses: t.check.Addresses, Ports: t.check.Ports})
	if err != nil && ctx.Err() == nil {
		l.log.Warn("a cluster could not be looked at", "connection", t.id, "hostname", t.check.Hostname, "error", err)
	}
	l.mu.Lock()
	l.last[t.id] = begun{of: t.check.Sum(), asked: t.check.Asked, at: start}
	if err == nil {
		l.found[t.id] = wireLook(t, start, findings)
	}
	l.mu.Unlock()
	<-l.slots
	l.wake()
}

// wireLook puts what was found as it is sent; what stops queries comes first.
func wireLook(t task, at time.Time, findings []postern.Finding) client.ClusterLook {
	out := client.ClusterLook{ConnectionID: t.id, Of: t.check.Sum(), Asked: t.check.Asked, LookedAt: at}
	for _, f := range findings[:min(len(findings), postern.MaxLookFindings)] {
		out.Findings = append(out.Findings, client.ClusterFinding{
			Reason: string(f.Reason), Warning: f.Warning, Message: strings.ToValidUTF8(f.Message[:min(len(f.Message), postern.MaxFindingMessage)], ""),
		})
	}
	return out
}

// tell sends what was found. What is not taken is sent again, unless a later look
// found something else.
func (l *lookout) tell(ctx context.Context, to *client.Client) {
	var looks []client.ClusterLook
	l.mu.Lock()
	for _, id := range slices.Sorted(maps.Keys(l.found)) {
		if len(looks) < postern.MaxReportLooks {
			looks = append(looks, l.found[id])
		}
	}
	l.mu.Unlock()
	if len(looks) == 0 || ctx.Err() != nil || time.Now().Before(l.quiet) {
		return
	}
	if err := l.send(ctx, to, looks); err != nil {
		l.log.Debug("what was found of clusters was not taken; it is sent again", "error", err)
		l.quiet = time.Now().Add(tellAgain)
	}
}

// send sends looks in one report. One that is refused is sent in halves, until
// only what the control plane would refuse again is dropped: a look at one
// customer's cluster must not keep others' from being told. An error: they were
// neither taken nor refused.
func (l *lookout) send(ctx context.Context, to *client.Client, looks []client.ClusterLook) error {
	err := to.ReportClusters(ctx, client.ClusterReport{ID: l.node, SentAt: time.Now(), Clusters: looks})
	switch {
	case err == nil:
	case !refusesContent(err):
		return err
	case len(looks) > 1:
		half := len(looks) / 2
		if err := l.send(ctx, to, looks[:half]); err != nil {
			return err
		}
		return l.send(ctx, to, looks[half:])
	default:
		l.log.Error("the control plane refuses what was found of a cluster, which is dropped", "connection", looks[0].ConnectionID, "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range looks {
		if l.found[c.ConnectionID].LookedAt.Equal(c.LookedAt) {
			delete(l.found, c.ConnectionID)
		}
	}
	return nil
}

// refusesContent tells whether the same report would be refused again.
func refusesContent(err error) bool {
	var e *client.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	default:
		return false
	}
}
