package control

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

// The limits of looks at what customers answer for.
const (
	lookTimeout = 15 * time.Second // one connection's DNS and service
	lookWidth   = 128              // connections at once: some resolvers do not answer
	// lookPatience is how long a round waits for the looks that it begins. What
	// takes longer is for the round after: nobody's decision waits for a
	// customer's name servers.
	lookPatience = 2 * time.Second
	// lookPace is how many settle periods lie between two looks of a node at a
	// cluster that was just connected.
	lookPace = 5
	// lookTime is what a node's look may take until it is told of: it counts from
	// its beginning.
	lookTime = 10 * time.Second
	// proofPace is how often DNS is asked for a proof without being told to.
	proofPace = 5 * time.Minute
)

// found is what a look at a connection found.
type found struct {
	began    time.Time
	answered bool // by anybody
	asked    bool // DNS was, for the hostname's proof
	wish     time.Time
	hostname plan.HostnameView
	service  plan.ServiceView
}

// lookAtAll makes the view of every connection, with what looks found by now.
// looked is when the last look at each began that went beyond AWS's listings and
// is news; zero: none is. busy: some looks have not ended yet.
func (l *Loop) lookAtAll(ctx context.Context, d outboundDesired, clouds map[string]map[string]plan.ConnectionCloud) (views []plan.ConnectionView, looked []time.Time, busy bool) {
	views, looked = make([]plan.ConnectionView, len(d.connections)), make([]time.Time, len(d.connections))
	var begun sync.WaitGroup
	for i, c := range d.connections {
		views[i] = l.connectionView(d, c)
		if cloud, ok := clouds[c.Region]; ok {
			mine := cloud[c.ID]
			views[i].Cloud = &mine
		}
		at, theirs := plan.Looked(c, views[i].Check.Looks) // the egress looks
		if theirs && at.After(c.CheckedAt) {
			looked[i] = at
		}
		name := l.proofDue(c)
		if c.Removing || !name && (theirs || !l.due(c)) {
			continue
		}
		l.beginLook(ctx, c, views[i].Hostname.Challenge, name, &begun)
	}
	await(ctx, &begun, lookPatience)
	for i, c := range d.connections {
		if f, ok := l.takeLook(c.ID); ok {
			views[i].Hostname.Looked, views[i].Hostname.Silent = f.hostname.Looked, f.hostname.Silent
			views[i].Hostname.Found, views[i].Hostname.Others = f.hostname.Found, f.hostname.Others
			views[i].Service = f.service
			// Of one whose endpoint waits, there is only AWS's listing to look at.
			listed := !f.hostname.Looked && !f.service.Looked && views[i].Cloud != nil
			if f.answered || listed {
				looked[i] = f.began
			}
			if !f.wish.Equal(c.VerifyAsked) && !looked[i].Before(c.VerifyAsked) {
				looked[i] = c.VerifyAsked.Add(-time.Microsecond) // who asked since is not served by it
			}
		}
	}
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	return views, looked, len(l.outbound.busy) > 0
}

// began notes since when nodes can tell what they look at, once in a process'
// life. One that takes over at once from another, to which nodes spoke, gives
// them no other time to do so: else one that is started again and again would
// never hold their silence against anybody.
func (l *Loop) began(nodes []postern.Node) {
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	if !l.outbound.since.IsZero() {
		return
	}
	now := l.Now()
	l.outbound.since = now
	if slices.ContainsFunc(nodes, func(n postern.Node) bool { return now.Sub(n.LastSeen) < l.Resync }) {
		l.outbound.since = now.Add(-l.Rules.Looks.Lifetime)
	}
}

// await waits for a group, up to a time.
func await(ctx context.Context, group *sync.WaitGroup, most time.Duration) {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
		<-done // the looks end with it
	}
}

// beginLook looks at a connection, unless somebody does already. What is found
// waits for takeLook.
func (l *Loop) beginLook(ctx context.Context, c postern.DataConnection, challenge string, name bool, group *sync.WaitGroup) {
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	if l.outbound.busy[c.ID] {
		return
	}
	l.outbound.busy[c.ID] = true
	work := func() {
		f, ok := found{}, false
		select {
		case l.outbound.slots <- struct{}{}:
			v := plan.ConnectionView{Hostname: plan.HostnameView{Challenge: challenge}}
			f = found{began: l.Now(), asked: name, wish: c.VerifyAsked}
			f.answered = l.lookAt(ctx, c, &v, name)
			f.hostname, f.service, ok = v.Hostname, v.Service, ctx.Err() == nil
			<-l.outbound.slots
		case <-ctx.Done():
		}
		l.outbound.mu.Lock()
		defer l.outbound.mu.Unlock()
		delete(l.outbound.busy, c.ID)
		if !ok {
			return
		}
		l.outbound.found[c.ID] = f
		l.outbound.looked[c.ID], l.outbound.served[c.ID] = f.began, f.wish
		if f.asked {
			l.outbound.asked[c.ID] = f.began
		}
	}
	l.outbound.looking.Add(1)
	group.Go(func() { defer l.outbound.looking.Done(); work() })
}

// takeLook hands out what a look found, once.
func (l *Loop) takeLook(id string) (found, bool) {
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	f, ok := l.outbound.found[id]
	delete(l.outbound.found, id)
	return f, ok
}

// lookAgain forgets a look whose outcome, which v has, was not stored.
func (l *Loop) lookAgain(id string, v plan.ConnectionView) {
	l.outbound.mu.Lock()
	defer l.outbound.mu.Unlock()
	delete(l.outbound.looked, id)
	delete(l.outbound.served, id)
	if v.Hostname.Looked {
		delete(l.outbound.asked, id)
	}
}

// due tells whether it is time to look at a connection's service: when somebody
// asked for it, at every resync period, and in every round while an endpoint is
// on its way.
func (l *Loop) due(c postern.DataConnection) bool {
	l.outbound.mu.Lock()
	last, ok := l.outbound.looked[c.ID]
	l.outbound.mu.Unlock()
	if c.State == postern.DataConnectionProvisioning || c.State == postern.DataConnectionPendingAcceptance {
		return l.toldTo(c) || !l.rests(c.ID) // what is made depends on it
	}
	return !ok || l.toldTo(c) || l.Now().Sub(last) >= l.Resync
}

// toldTo tells whether somebody asked to look, and nobody has since.
func (l *Loop) toldTo(c postern.DataConnection) bool {
	l.outbound.mu.Lock()
	served, ok := l.outbound.served[c.ID]
	l.outbound.mu.Unlock()
	if !ok { // another process may have
		return c.CheckedAt.Before(c.VerifyAsked)
	}
	return !served.Equal(c.VerifyAsked)
}

// proofDue tells whether it is time to ask DNS for a hostname's proof. To ask for
// a record that is not there yet makes resolvers remember that there is none, for
// a quarter of an hour where Route 53 serves the zone: so it is asked for when
// somebody says that it is there, and seldom otherwise.
func (l *Loop) proofDue(c postern.DataConnection) bool {
	if !c.ProvenAt.IsZero() {
		return false
	}
	l.outbound.mu.Lock()
	last, ok := l.outbound.asked[c.ID]
	l.outbound.mu.Unlock()
	if !ok {
		last = c.CreatedAt
	}
	return l.toldTo(c) || l.Now().Sub(last) >= proofPace
}

// lookAt asks what a connection waits for: DNS for its hostname, if name says
// so, and AWS for its service until it has an endpoint. From then on the egress
// looks at the cluster. It tells whether anybody answered.
func (l *Loop) lookAt(ctx context.Context, c postern.DataConnection, v *plan.ConnectionView, name bool) bool {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var wg sync.WaitGroup
	if name {
		wg.Go(func() { l.lookAtHostname(ctx, c, &v.Hostname) })
	}
	if c.EndpointID == "" {
		wg.Go(func() {
			svc, err := l.Outbound.FindService(ctx, c.Service)
			v.Service = plan.ServiceView{Looked: true, Silent: err != nil, Service: svc}
			if err != nil && ctx.Err() == nil {
				l.Logger.Warn("AWS did not answer for a customer's service", "connection", c.ID, "service", c.Service.ID, "error", err)
			}
		})
	}
	wg.Wait()
	return v.Hostname.Looked && v.Hostname.Silent == "" || v.Service.Looked && !v.Service.Silent
}

func (l *Loop) lookAtHostname(ctx context.Context, c postern.DataConnection, h *plan.HostnameView) {
	texts, err := l.Texts.Texts(ctx, postern.ChallengeName(c.Hostname))
	h.Looked = true
	if err != nil {
		h.Silent = "no resolver could be asked"
		if ctx.Err() == nil {
			l.Logger.Warn("public DNS did not answer for a hostname's proof", "connection", c.ID, "hostname", c.Hostname, "error", err)
		}
		return
	}
	h.Found = h.Challenge != "" && slices.Contains(texts, h.Challenge)
	h.Others = len(texts) > 0
}
