package ingress_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/ingress"
	"github.com/postern-net/postern/internal/proxyproto"
	"github.com/postern-net/postern/internal/relay"
)

// judge is an engine that moves nothing and notes when it was asked to judge
// its connections again.
type judge struct {
	mu    sync.Mutex
	start time.Time
	at    []time.Duration
}

func (*judge) Serve(relay.Listener, relay.Match, relay.Observer) error { return nil }

func (j *judge) Recheck() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.at = append(j.at, time.Since(j.start))
}

func (j *judge) rechecks() []time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.at)
}

// enforced are the routes in which globex is no longer public.
func enforced(revision int64, before, until time.Time) postern.Routes {
	r := routes(revision)
	h := r.Hosts[globex]
	h.Public, h.Drain = false, postern.Drain{Before: before, Until: until}
	r.Hosts[globex] = h
	return r
}

// A node that hears late of what was decided cuts who came in between.
func TestDrainHeardLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		in := newIngress(t, &judge{start: start})
		apply(t, in, routes(1))
		<-time.After(2 * time.Minute)
		apply(t, in, enforced(2, start.Add(time.Minute), start.Add(6*time.Minute)))
		for after, want := range map[time.Duration]bool{0: true, time.Minute - 1: true, time.Minute: false, 90 * time.Second: false} {
			a := public(globex)
			a.At = start.Add(after)
			if got := in.MatchPublic(a).Deny == ""; got != want {
				t.Errorf("a connection of %v after the start may stay: %v", after, got)
			}
		}
	})
}

// With real durations: who was connected publicly when the host stopped being
// public lives on until the deadline, nobody else is let in, and private
// connections are never concerned.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		j := &judge{start: start}
		in := newIngress(t, j)
		at := func(d time.Duration) time.Time { return start.Add(d) }
		admitted := func(a *relay.Arrival) bool { return in.MatchPublic(a).Deny == "" }
		arrived := func(d time.Duration) *relay.Arrival {
			a := public(globex)
			a.At = at(d)
			return a
		}
		pass := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		apply(t, in, routes(1))
		early, late := arrived(0), arrived(time.Hour)
		pass(time.Hour)
		if !admitted(early) || !admitted(late) {
			t.Fatal("not public before")
		}
		pass(time.Minute)
		apply(t, in, enforced(2, at(61*time.Minute), at(66*time.Minute)))
		if !admitted(early) || !admitted(late) {
			t.Error("who was connected is cut at once")
		}
		if v := in.MatchPublic(arrived(61 * time.Minute)); v.Deny != postern.DenyNotPublic || v.Organization != "globex" {
			t.Errorf("a new connection: %+v", v)
		}
		// A table about something else changes nothing of that.
		pass(2 * time.Minute)
		apply(t, in, enforced(3, at(61*time.Minute), at(66*time.Minute)))
		if !admitted(early) || admitted(arrived(62*time.Minute)) {
			t.Error("the next table judges otherwise")
		}
		pass(3*time.Minute - time.Nanosecond)
		if !admitted(early) {
			t.Error("cut before the deadline")
		}
		pass(time.Nanosecond)
		if admitted(early) || admitted(late) {
			t.Error("lives on after the deadline")
		}
		if v := in.MatchPrivate(private(globexID, globex)); v.Deny != "" {
			t.Errorf("privately: %+v", v)
		}
		pass(time.Hour)
		// One judgement with each table, and one at the deadline, though two
		// tables had it.
		want := []time.Duration{0, 61 * time.Minute, 63 * time.Minute, 66 * time.Minute}
		if got := j.rechecks(); !slices.Equal(got, want) {
			t.Errorf("judged again at %v, want %v", got, want)
		}
	})
}

func TestDrainsOfSeveralHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		j := &judge{start: start}
		in := newIngress(t, j)
		apply(t, in, routes(1))
		r := enforced(2, start, start.Add(5*time.Minute))
		h := r.Hosts[dev]
		h.Public, h.Drain = false, postern.Drain{Before: start, Until: start.Add(3 * time.Minute)}
		r.Hosts[dev] = h
		apply(t, in, r)
		<-time.After(time.Hour)
		synctest.Wait()
		if got := j.rechecks(); !slices.Equal(got, []time.Duration{0, 0, 3 * time.Minute, 5 * time.Minute}) {
			t.Errorf("judged again at %v", got)
		}
	})
}

// Whose connection was open is decided by the node's own clock: one that is
// behind the control plane's lets nobody new in, and a node that starts late,
// or was withdrawn, drains nobody.
func TestDrainByTheNodesClock(t *testing.T) {
	now := time.Now()
	public1, private2 := routes(1), enforced(2, now.Add(time.Hour), now.Add(2*time.Hour)) // its clock is an hour behind
	arrived := func(d time.Duration) *relay.Arrival {
		a := public(globex)
		a.At = time.Now().Add(d)
		return a
	}
	for name, tc := range map[string]struct {
		play func(in *ingress.Ingress)
		want bool
	}{
		"public, then not": {func(in *ingress.Ingress) { apply(t, in, public1); apply(t, in, private2) }, true},
		"never public":     {func(in *ingress.Ingress) { apply(t, in, private2) }, false},
		"withdrawn between": {func(in *ingress.Ingress) {
			apply(t, in, public1)
			in.Withdraw()
			apply(t, in, private2)
		}, false},
		"unknown before": {func(in *ingress.Ingress) {
			r := routes(1)
			delete(r.Hosts, globex)
			apply(t, in, r)
			apply(t, in, private2)
		}, false},
	} {
		in := newIngress(t, relay.New(relay.Config{}))
		tc.play(in)
		if got := in.MatchPublic(arrived(-time.Second)).Deny == ""; got != tc.want {
			t.Errorf("%s: who was connected before may stay: %v", name, got)
		}
		if v := in.MatchPublic(arrived(time.Second)); v.Deny != postern.DenyNotPublic {
			t.Errorf("%s: a new connection: %+v", name, v)
		}
		in.Withdraw() // and its deadline is nobody's
	}
}

// The same over real connections.
func TestDrainCutsAtTheDeadline(t *testing.T) {
	t.Parallel()
	d := open(t)
	apply(t, d.Ingress, d.routes(1))
	old, got := ask(t, d.public, hello(t, globex))
	kept, got2 := ask(t, d.private, append(proxyproto.AppendAWS(nil, client, target, globexID), hello(t, globex)...))
	if got == nil || got2 == nil {
		t.Fatal("not admitted")
	}
	until := time.Now().Add(400 * time.Millisecond)
	r := d.routes(2)
	h := r.Hosts[globex]
	h.Public, h.Drain = false, postern.Drain{Before: time.Now(), Until: until}
	r.Hosts[globex] = h
	apply(t, d.Ingress, r)
	if _, got := ask(t, d.public, hello(t, globex)); got != nil {
		t.Error("a new public connection is let in")
	}
	_ = old.SetReadDeadline(until.Add(5 * time.Second))
	_, err := old.Read(make([]byte, 1))
	if ended := time.Now(); err == nil || !strings.Contains(err.Error(), "reset") || ended.Before(until) {
		t.Errorf("the public connection ended %v after the deadline: %v", ended.Sub(until), err)
	}
	_ = kept.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := kept.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("the private connection: %v", err)
	}
	if _, got := ask(t, d.private, append(proxyproto.AppendAWS(nil, client, target, globexID), hello(t, globex)...)); got == nil {
		t.Error("a new private connection is refused")
	}
}
