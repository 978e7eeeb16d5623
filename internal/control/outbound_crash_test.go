package control_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
)

// watchedOutbound is a cloud whose calls are seen: step is called before and
// after each change, and before a look.
type watchedOutbound struct {
	control.Outbound
	mu   sync.Mutex
	step func(point string)
}

func (c *watchedOutbound) at(point string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step(point)
}

func (c *watchedOutbound) OutboundEndpoints(ctx context.Context, region, platform string) ([]postern.OutboundEndpoint, error) {
	c.at("look")
	return c.Outbound.OutboundEndpoints(ctx, region, platform)
}

func (c *watchedOutbound) CreateOutboundGroup(ctx context.Context, region, vpc, platform, connection string) error {
	c.at("before group")
	err := c.Outbound.CreateOutboundGroup(ctx, region, vpc, platform, connection)
	c.at("after group")
	return err
}

func (c *watchedOutbound) ChangeGroupRules(ctx context.Context, region, group string, add, remove []postern.GroupRule) error {
	c.at("before rules")
	err := c.Outbound.ChangeGroupRules(ctx, region, group, add, remove)
	c.at("after rules")
	return err
}

func (c *watchedOutbound) CreateOutboundEndpoint(ctx context.Context, e postern.NewOutboundEndpoint) (string, error) {
	c.at("before create")
	id, err := c.Outbound.CreateOutboundEndpoint(ctx, e)
	c.at("after create")
	return id, err
}

func (c *watchedOutbound) DeleteOutboundEndpoints(ctx context.Context, region string, ids []string) (map[string]error, error) {
	c.at("before delete")
	failed, err := c.Outbound.DeleteOutboundEndpoints(ctx, region, ids)
	c.at("after delete")
	return failed, err
}

func (c *watchedOutbound) DeleteOutboundGroup(ctx context.Context, region, group string) error {
	c.at("before delete group")
	err := c.Outbound.DeleteOutboundGroup(ctx, region, group)
	c.at("after delete group")
	return err
}

// A process that dies between any two steps of making or deleting an endpoint
// leaves nothing that its successor does not finish: one endpoint, or none.
func TestAnOutboundCrashAnywhereConverges(t *testing.T) {
	rules := func(w *outboundWorld) (out []string) {
		_, gs := w.atAWS()
		for _, g := range gs {
			for _, p := range g.IpPermissions {
				out = append(out, fmt.Sprint(*p.IpProtocol, *p.FromPort == int32(w.port), len(p.UserIdGroupPairs), len(p.IpRanges)))
			}
		}
		return out
	}
	sum := func(w *outboundWorld) string {
		es, gs := w.atAWS()
		return fmt.Sprint(w.connection("dc_a").State, len(es), len(gs), rules(w), w.routes().Connections[cluster].Ready)
	}
	for name, play := range map[string]func(w *outboundWorld, run func()) string{
		"make": func(w *outboundWorld, run func()) string {
			w.authorize("example-corp")
			w.publishProof("example-corp", cluster)
			w.request("dc_a", "example-corp")
			run()
			w.accept("example-corp", w.connection("dc_a").EndpointID)
			w.again(control.New(w.config()))
			return sum(w)
		},
		"delete": func(w *outboundWorld, run func()) string {
			w.readyConnection(control.New(w.config()))
			w.remove()
			run()
			return sum(w)
		},
		"delete what is being made": func(w *outboundWorld, run func()) string {
			w.authorize("example-corp")
			w.publishProof("example-corp", cluster)
			w.request("dc_a", "example-corp")
			run()
			w.remove()
			w.restOutbound(control.New(w.config()))
			return sum(w)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var points []string
			w := newOutboundWorld(t)
			watch := func(step func(string)) *control.Loop {
				c := w.config()
				c.Outbound = &watchedOutbound{Outbound: w.cloud, step: step}
				c.Publish = func(r postern.Routes) { w.publish(r); step("publish") }
				return control.New(c)
			}
			want := play(w, func() { w.restOutbound(watch(func(p string) { points = append(points, p) })) })
			if len(points) < 8 || !slices.ContainsFunc(points, func(p string) bool { return strings.HasPrefix(p, "after ") }) {
				t.Fatalf("only %v was seen", points)
			}
			for i, p := range points {
				if i > 0 && p == points[i-1] || i >= 6 && slices.Equal(points[i-2:i+1], points[i-5:i-2]) {
					continue // nothing lies between, or the same round once more
				}
				if leftOut(i) {
					continue
				}
				t.Run(fmt.Sprintf("%d %s", i, p), func(t *testing.T) {
					w = newOutboundWorld(t)
					got := play(w, func() {
						ctx, die := context.WithCancel(t.Context())
						defer die()
						left := i
						step := func(string) {
							if left == 0 {
								die()
							}
							left--
						}
						l := watch(step)
						for range 60 {
							settled, _ := l.OutboundRound(ctx) // whatever it says: the process is dead
							if settled || ctx.Err() != nil {
								break
							}
							w.look()
							w.advance(time.Second)
						}
						w.restOutbound(control.New(w.config()))
					})
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s\nlog:\n%s", diff, w.log)
					}
				})
			}
		})
	}
}
