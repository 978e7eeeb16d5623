package control_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/localaws"
	"github.com/postern-net/postern/internal/store"
)

func TestARevocationDoesNotWaitForAWS(t *testing.T) {
	w := newWorld(t)
	id := w.ready(control.New(w.config()))
	revoked := make(chan postern.Routes, 16)
	c := w.config()
	c.Publish = func(r postern.Routes) {
		if _, granted := r.Endpoints[id]; !granted {
			select {
			case revoked <- r:
			default: // seen often enough
			}
		}
	}
	w.fault(localaws.Fault{Kind: localaws.FaultPause, Action: "DescribeVpcEndpointConnections"})
	stop := w.running(control.New(c))
	if _, err := w.aws.Faults().WaitPaused(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.removeAccount()
	select {
	case <-revoked:
	case <-time.After(10 * time.Second): // less than a call to AWS may take
		t.Error("not published while the round waits for AWS")
	}
	if got := w.truth(id); got != "available" {
		t.Errorf("the connection is %s: the round was not held", got)
	}
	w.aws.Faults().Clear()
	stop()
}

// truth asks the stand-in itself, whose calls are held.
func (w *world) truth(id string) string {
	w.t.Helper()
	e, err := w.aws.Endpoint(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return e.State
}

func TestRunFollowsChangesByItself(t *testing.T) {
	w := newWorld(t)
	w.settle(control.New(w.config()))
	ready := make(chan struct{})
	var once sync.Once
	c := w.config()
	c.Settle = 20 * time.Millisecond
	c.Publish = func(r postern.Routes) {
		if len(r.Endpoints) > 0 {
			once.Do(func() { close(ready) })
		}
	}
	stop := w.running(control.New(c))
	w.claim(w.create())
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		t.Errorf("not ready; log:\n%s", w.log)
	}
	stop()
}

// tally is a cloud of one empty region that counts looks, and may be down.
type tally struct {
	control.Cloud
	mu    sync.Mutex
	looks []time.Time
	conns []postern.Connection
}

func (c *tally) Connections(context.Context, postern.ServiceRef) ([]postern.Connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks = append(c.looks, time.Now())
	return c.conns, nil
}

func (c *tally) Principals(context.Context, postern.ServiceRef) ([]string, error) { return nil, nil }

func (c *tally) Reject(context.Context, postern.ServiceRef, []string) (map[string]error, error) {
	return nil, errors.New("does not answer")
}

// gaps are the times between looks, and starts anew.
func (c *tally) gaps() (out []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 1; i < len(c.looks); i++ {
		out = append(out, c.looks[i].Sub(c.looks[i-1]))
	}
	c.looks = nil
	return out
}

func TestRunLooksAtTheRightTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "postern.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		cloud := &tally{}
		p := &postern.Platform{Segments: []postern.Segment{{ID: "na", Regions: []postern.Region{
			{ID: virginia, ServiceName: "com.amazonaws.vpce.us-east-1.vpce-svc-0000000000000000a"},
		}}}}
		ctx, cancel := context.WithCancel(t.Context())
		l := control.New(control.Config{
			Platform: p, Store: s, Cloud: cloud, Resync: time.Minute, Settle: 4 * time.Second,
			Publish: func(postern.Routes) {}, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		})
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()

		// At rest: every resync period, and a second before a change is seen
		// at the earliest.
		time.Sleep(5 * time.Minute) //nolint:forbidigo // the time of a synctest bubble
		for _, g := range cloud.gaps() {
			if g < time.Minute || g > time.Minute+time.Second {
				t.Errorf("at rest, %v between two looks", g)
			}
		}

		// A change is looked at within a second.
		time.Sleep(10 * time.Second) //nolint:forbidigo // as above
		cloud.gaps()
		changed := time.Now()
		if err := s.Update(ctx, func(tx *store.Tx) error { return tx.AppendEvent(postern.Event{At: changed, Action: "test"}) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) //nolint:forbidigo // as above
		cloud.mu.Lock()
		if len(cloud.looks) != 1 || cloud.looks[0].Sub(changed) > time.Second {
			t.Errorf("after a change at %v looks at %v", changed, cloud.looks)
		}
		cloud.mu.Unlock()

		// While something is on its way: every Settle.
		cloud.mu.Lock()
		cloud.conns = []postern.Connection{{EndpointID: "vpce-0000000000000000a", State: postern.ConnectionAvailable}}
		cloud.mu.Unlock()
		if err := s.Update(ctx, func(tx *store.Tx) error {
			_, e1 := tx.CreateOrganization(postern.Organization{ID: "o"})
			_, e2 := tx.CreateEndpoint(postern.Endpoint{ID: "vpce-0000000000000000a", Organization: "o", ServiceRegion: virginia, Removing: true, State: postern.EndpointRemoving})
			return errors.Join(e1, e2, tx.AppendEvent(postern.Event{At: changed, Action: "test"}))
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) //nolint:forbidigo // as above
		cloud.gaps()
		time.Sleep(time.Minute) //nolint:forbidigo // as above
		gaps := cloud.gaps()
		for _, g := range gaps {
			if g < 4*time.Second || g > 5*time.Second {
				t.Errorf("while something is on its way, %v between two looks", g)
			}
		}
		if len(gaps) < 5 {
			t.Errorf("only %d looks in a minute while something is on its way", len(gaps)+1)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
