package sandbox

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// pulse visits a place at a steady rate and counts what failed, so that a step
// can say that nobody noticed it.
type pulse struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	sent   int
	failed int
	first  error
}

// maxPulse bounds the visits of a pulse that are under way. On a machine that is
// too busy for the rate, more would only make each other fail.
const maxPulse = 50

// startPulse visits so often a second until stop, or until ctx ends; less often
// where the machine is too busy.
func startPulse(ctx context.Context, perSecond int, visit func(context.Context) error) *pulse {
	return startLoad(ctx, perSecond, maxPulse, visit)
}

// startLoad visits so often a second with so many visits under way at most.
// Visits that are due while the machine is busy are made up for: the rate is the
// clock's.
func startLoad(ctx context.Context, perSecond, atOnce int, visit func(context.Context) error) *pulse {
	ctx, cancel := context.WithCancel(ctx)
	p := &pulse{cancel: cancel}
	slots := make(chan struct{}, atOnce)
	p.wg.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		start, begun := time.Now(), 0
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for due := int(time.Since(start).Seconds() * float64(perSecond)); begun < due; begun++ {
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return
				}
				p.wg.Go(func() {
					defer func() { <-slots }()
					p.note(visit(context.WithoutCancel(ctx)))
				})
			}
		}
	})
	return p
}

func (p *pulse) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	if err != nil {
		p.failed++
		if p.first == nil {
			p.first = err
		}
	}
}

// stop ends the visits, waits for those under way, and reports whether any
// failed.
func (p *pulse) stop() (sent int, err error) {
	p.cancel()
	p.wg.Wait()
	if p.failed > 0 {
		return p.sent, fmt.Errorf("%d of %d visits failed, the first: %w", p.failed, p.sent, p.first)
	}
	if p.sent == 0 {
		return 0, fmt.Errorf("nobody visited")
	}
	return p.sent, nil
}
