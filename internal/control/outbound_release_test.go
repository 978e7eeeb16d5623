package control_test

import (
	"context"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/control"
	"github.com/postern-net/postern/internal/store"
)

// agedOutbound is a cloud whose endpoints are older than they are: requests are
// signed by the real clock, which the stand-in's must not leave far behind.
type agedOutbound struct {
	control.Outbound
	by time.Duration
}

func (c *agedOutbound) OutboundEndpoints(ctx context.Context, region, platform string) ([]postern.OutboundEndpoint, error) {
	es, err := c.Outbound.OutboundEndpoints(ctx, region, platform)
	for i := range es {
		es[i].CreatedAt = es[i].CreatedAt.Add(-c.by)
	}
	return es, err
}

func (w *outboundWorld) aging() (*control.Loop, *agedOutbound) {
	c := w.config()
	aged := &agedOutbound{Outbound: w.cloud}
	c.Outbound = aged
	return control.New(c), aged
}

// waited lets days pass, for AWS' clock and for what is known of a connection.
func (w *outboundWorld) waited(aged *agedOutbound, created, connected int) {
	w.t.Helper()
	const day = 24 * time.Hour
	aged.by = time.Duration(created) * day
	w.update(func(tx *store.Tx) error {
		c, err := tx.FindConnection("dc_a")
		if err != nil {
			return err
		}
		for i := range c.Conditions {
			c.Conditions[i].Since = w.clock().Add(-time.Duration(connected) * day)
		}
		_, err = tx.UpdateConnection(c)
		return err
	})
}

// An endpoint that nobody accepts does not take up the network's quota for ever.
func TestWhatIsNeverAcceptedIsReleased(t *testing.T) {
	for name, c := range map[string]struct {
		end                func(w *outboundWorld, l *control.Loop, endpoint string)
		created, connected int // days ago, of which the last is the one too many
	}{
		"waits":    {func(*outboundWorld, *control.Loop, string) {}, 14, 14},
		"rejected": {func(w *outboundWorld, _ *control.Loop, endpoint string) { w.reject(endpoint) }, 14, 14},
		"accepted, never found good, and rejected later": {func(w *outboundWorld, l *control.Loop, endpoint string) {
			w.found(postern.Finding{Reason: postern.ReasonPrivateCA, Message: "private"})
			w.accept("example-corp", endpoint)
			w.again(l)
			w.wants("dc_a", postern.DataConnectionVerifying, postern.Connected, postern.ReasonAvailable)
			w.reject(endpoint)
		}, 34, 14},
	} {
		t.Run(name, func(t *testing.T) {
			w := newOutboundWorld(t)
			l, aged := w.aging()
			endpoint := w.pending(l)
			c.end(w, l, endpoint)
			aged.by = time.Duration(c.created-c.connected) * 24 * time.Hour
			w.again(l)
			w.has(1, 1)
			w.waited(aged, c.created-1, c.connected-1)
			w.again(l)
			w.has(1, 1)
			w.waited(aged, c.created, c.connected)
			w.restOutbound(l)
			w.again(l)
			w.again(l)
			w.has(0, 0)
			if c := w.connection("dc_a"); c.ID != "" {
				t.Errorf("the row stays: %+v", c)
			}
			if n := count(w.actions(0), "data-connection.released"); n != 1 {
				t.Errorf("%d events tell of it", n)
			}
		})
	}
	// One that was ready once stays, whatever becomes of it.
	w := newOutboundWorld(t)
	l, aged := w.aging()
	w.reject(w.readyConnection(l))
	w.again(l)
	w.waited(aged, 15, 15)
	w.again(l)
	w.wants("dc_a", postern.DataConnectionFailed, postern.Connected, postern.ReasonRejected)
}
