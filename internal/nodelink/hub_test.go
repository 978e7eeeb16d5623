package nodelink_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/nodelink"
)

// kinds says in words what was sent.
func kinds(ms []nodelink.Message) (out []string) {
	for _, m := range ms {
		switch {
		case m.Snapshot != nil:
			out = append(out, fmt.Sprintf("snapshot %d", m.Snapshot.Revision))
		case m.Delta != nil:
			out = append(out, fmt.Sprintf("delta %d-%d", m.Delta.From, m.Delta.To))
		case m.Ping != nil:
			out = append(out, fmt.Sprintf("ping %d", m.Ping.Revision))
		}
	}
	return out
}

// listener collects a stream in a synctest bubble.
type listener struct {
	mu   sync.Mutex
	seen []nodelink.Message
}

func (l *listener) take(m nodelink.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, m)
	return nil
}

// drain waits until nothing moves and returns what came.
func (l *listener) drain() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := kinds(l.seen)
	l.seen = nil
	return out
}

func TestHubStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := nodelink.NewHub()
		ctx, cancel := context.WithCancel(t.Context())
		var l listener
		done := make(chan error, 1)
		go func() { done <- h.Stream(ctx, 0, l.take) }()
		expect := func(what string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, l.drain()); diff != "" {
				t.Errorf("%s:\n%s", what, diff)
			}
		}
		expect("before there is a table", "ping 0")
		h.Publish(table(4, "a", "b", "c", "e", "f"))
		expect("the first table", "snapshot 4")
		h.Publish(table(5, "a", "b", "d", "e", "f"))
		h.Publish(table(7, "a", "b", "e", "f"))
		expect("two changes", "delta 4-5", "delta 5-7")
		h.Publish(table(7, "z"))
		h.Publish(table(6, "z"))
		expect("nothing newer")
		<-time.After(nodelink.PingEvery - time.Millisecond)
		expect("quiet, not for long")
		<-time.After(2 * time.Millisecond)
		expect("quiet for the time of a ping", "ping 7")
		<-time.After(nodelink.PingEvery / 2)
		h.Publish(table(8, "a", "b", "c", "e", "f"))
		expect("news", "delta 7-8")
		<-time.After(nodelink.PingEvery/2 + time.Millisecond)
		expect("news put the ping off")
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// What a node has decides what it gets.
func TestHubKnowsTheWay(t *testing.T) {
	h := nodelink.NewHub()
	for revision := range int64(4) {
		tenants := []string{"a", "b", "c", "d", "e"}
		h.Publish(table(10+revision, tenants[revision:]...))
	}
	for have, want := range map[int64][]string{
		0:  {"snapshot 13"},
		9:  {"snapshot 13"}, // before the history
		12: {"delta 12-13"},
		13: {"ping 13"},
		14: {"snapshot 13"}, // the control plane was set back: the node is to notice
	} {
		if diff := cmp.Diff(want, first(t, h, have)); diff != "" {
			t.Errorf("from %d:\n%s", have, diff)
		}
	}
}

// first is what a stream sends until it has nothing more to say.
func first(t *testing.T, h *nodelink.Hub, have int64) (out []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := h.Stream(ctx, have, func(m nodelink.Message) error {
		out = append(out, kinds([]nodelink.Message{m})...)
		if m.Ping != nil || m.Snapshot != nil || m.Delta.To == 13 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	return out
}

// A history that is longer than the table is no use: the node gets the table.
func TestHubForgets(t *testing.T) {
	for name, c := range map[string]struct {
		publish func(int64) postern.Routes
		last    int64
	}{
		"many deltas": {func(r int64) postern.Routes {
			t := table(r, "a", "b", "c", "d")
			for i := range 300 { // a large table with small changes
				t.Hosts[fmt.Sprintf("h%d.example", i)] = postern.Host{Organization: "o"}
			}
			t.Hosts["h0.example"] = postern.Host{Organization: "o", Public: r%2 == 0}
			return t
		}, 200},
		"large deltas": {func(r int64) postern.Routes {
			if r%2 == 0 {
				return table(r, "a", "b")
			}
			return table(r, "c", "d")
		}, 10},
	} {
		h := nodelink.NewHub()
		for r := range c.last {
			h.Publish(c.publish(r + 1))
		}
		var got []string
		stop := errors.New("enough")
		if err := h.Stream(t.Context(), 1, func(m nodelink.Message) error { got = kinds([]nodelink.Message{m}); return stop }); !errors.Is(err, stop) {
			t.Errorf("%s: the error of send is %v", name, err)
		}
		if want := []string{fmt.Sprintf("snapshot %d", c.last)}; !cmp.Equal(want, got) {
			t.Errorf("%s: a node far behind gets %v, want %v", name, got, want)
		}
	}
}

// SCIM hosts count for both: for the table, and for what leads to it.
func TestHubCountsSCIMHosts(t *testing.T) {
	h := nodelink.NewHub()
	for r := range int64(3) {
		table := postern.Routes{Revision: 11 + r, SCIM: map[string]postern.SCIMRoute{}}
		for i := range 10 {
			table.SCIM[fmt.Sprintf("h%d.scim.example", i)] = postern.SCIMRoute{Organization: "o"}
		}
		for i := range r {
			table.SCIM[fmt.Sprintf("h%d.scim.example", i)] = postern.SCIMRoute{Organization: "p"}
		}
		h.Publish(table)
	}
	if diff := cmp.Diff([]string{"delta 11-12", "delta 12-13"}, first(t, h, 11)); diff != "" {
		t.Error(diff)
	}
}

// A node that does not read holds up nobody, and skips what it missed.
func TestHubSlowNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := nodelink.NewHub()
		h.Publish(table(1, "a", "b"))
		ctx, cancel := context.WithCancel(t.Context())
		read := make(chan bool)
		var slow, fast listener
		var both sync.WaitGroup
		both.Go(func() {
			_ = h.Stream(ctx, 0, func(m nodelink.Message) error { // ends with ctx
				<-read
				return slow.take(m)
			})
		})
		both.Go(func() { _ = h.Stream(ctx, 0, fast.take) }) // likewise
		fast.drain()
		for r := range int64(50) {
			h.Publish(table(2+r, fmt.Sprint("t", r)))
			if got := fast.drain(); len(got) != 1 {
				t.Fatalf("the fast node got %v", got)
			}
		}
		close(read)
		if diff := cmp.Diff([]string{"snapshot 1", "snapshot 51"}, slow.drain()); diff != "" {
			t.Error(diff)
		}
		cancel()
		both.Wait()
	})
}
