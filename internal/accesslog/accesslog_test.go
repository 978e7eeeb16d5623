package accesslog_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/postern-net/postern/internal/accesslog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slow is a handler that takes as long as it is held.
type slow struct {
	slog.Handler
	held sync.Mutex
	got  atomic.Int64
}

func (*slow) Enabled(context.Context, slog.Level) bool { return true }

func (s *slow) Handle(context.Context, slog.Record) error {
	s.held.Lock()
	defer s.held.Unlock()
	s.got.Add(1)
	return nil
}

type count struct{ atomic.Int64 }

func (c *count) Inc() { c.Add(1) }

// Nobody waits for a disk that is slow, and what waits for it is bounded.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	h := &slow{Handler: slog.DiscardHandler}
	var omitted [2]count
	log := accesslog.New(slog.New(h), 1_000_000, [2]accesslog.Counter{&omitted[accesslog.Admitted], &omitted[accesslog.Refused]}, func(n *int, r *slog.Record) {
		r.AddAttrs(slog.Int("n", *n))
	})
	const records = 20_000
	h.held.Lock()
	made := 0
	for i := range records {
		log.Add(accesslog.Refused, "x", func() int { made++; return i })
	}
	h.held.Unlock()
	log.Flush()
	left := omitted[accesslog.Refused].Load()
	if got := h.got.Load(); got+left != records || int64(made) != got {
		t.Errorf("%d were made, %d written and %d left out, of %d", made, got, left, records)
	}
	if left < records/2 {
		t.Errorf("only %d are left out: what waits is not bounded", left)
	}
	if n := omitted[accesslog.Admitted].Load(); n != 0 {
		t.Errorf("%d of the other kind", n)
	}
}
