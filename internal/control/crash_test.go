package control_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
)

// watched is a cloud whose calls are seen: step is called before and after
// each change, and before the look at one region.
type watched struct {
	control.Cloud
	mu   sync.Mutex // changes run side by side
	step func(point string)
}

func (c *watched) at(point string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step(point)
}

func (c *watched) Connections(ctx context.Context, svc postern.ServiceRef) ([]postern.Connection, error) {
	if svc.Region == virginia {
		c.at("look")
	}
	return c.Cloud.Connections(ctx, svc)
}

func (c *watched) ChangePrincipals(ctx context.Context, svc postern.ServiceRef, add, remove []string) error {
	c.at("before principals")
	err := c.Cloud.ChangePrincipals(ctx, svc, add, remove)
	c.at("after principals")
	return err
}

func (c *watched) Accept(ctx context.Context, svc postern.ServiceRef, ids []string) (map[string]error, error) {
	c.at("before accept")
	perID, err := c.Cloud.Accept(ctx, svc, ids)
	c.at("after accept")
	return perID, err
}

func (c *watched) Reject(ctx context.Context, svc postern.ServiceRef, ids []string) (map[string]error, error) {
	c.at("before reject")
	perID, err := c.Cloud.Reject(ctx, svc, ids)
	c.at("after reject")
	return perID, err
}

// A process that dies between any two steps leaves nothing that its successor
// does not finish.
func TestACrashAnywhereConverges(t *testing.T) {
	for name, play := range map[string]func(w *world, run func()) string{
		"claim": func(w *world, run func()) string {
			w.settle(control.New(w.config()))
			id := w.create()
			w.claim(id)
			run()
			return fmt.Sprint(w.endpoint(id).State, w.connection(id), w.allowed(), w.routes().Endpoints[id].Hosts, count(w.actions(0), "connection.accepted"))
		},
		"account removal": func(w *world, run func()) string {
			id := w.ready(control.New(w.config()))
			w.removeAccount()
			run()
			return fmt.Sprint(w.endpoint(id).ID, w.connection(id), w.allowed(), len(w.routes().Endpoints), count(w.actions(0), "connection.rejected"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var points []string
			w := newWorld(t)
			want := play(w, func() {
				c := w.config()
				c.Cloud = &watched{Cloud: w.cloud, step: func(p string) { points = append(points, p) }}
				c.Publish = func(r postern.Routes) { w.publish(r); points = append(points, "publish") }
				w.rest(control.New(c))
			})
			if !slices.Contains(points, "publish") || !slices.Contains(points, "look") || len(points) < 8 {
				t.Fatalf("only %v was seen", points)
			}
			for i, p := range points {
				if i > 0 && p == points[i-1] {
					continue // nothing lies between
				}
				if leftOut(i) {
					continue
				}
				t.Run(fmt.Sprintf("%d %s", i, p), func(t *testing.T) {
					w := newWorld(t)
					got := play(w, func() {
						w.crash(i)
						w.rest(control.New(w.config()))
					})
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s\nlog:\n%s", diff, w.log)
					}
				})
			}
		})
	}
}

// crash runs a loop until its n-th step, and takes its context away there.
func (w *world) crash(n int) {
	w.t.Helper()
	ctx, die := context.WithCancel(w.t.Context())
	defer die()
	var mu sync.Mutex
	step := func(string) {
		mu.Lock()
		defer mu.Unlock()
		if n == 0 {
			die()
		}
		n--
	}
	c := w.config()
	c.Cloud = &watched{Cloud: w.cloud, step: step}
	c.Publish = func(r postern.Routes) { w.publish(r); step("publish") }
	l := control.New(c)
	for range 20 {
		settled, _ := l.Round(ctx) // whatever it says: the process is dead
		if settled || ctx.Err() != nil {
			return
		}
		w.advance(1e9)
	}
}

// leftOut tells the points of a crash that are not tried where the tests are to
// be short, under the race detector, ten times as slowly: all but each twelfth.
func leftOut(point int) bool { return testing.Short() && point%12 != 0 }
