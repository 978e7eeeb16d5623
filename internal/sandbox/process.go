package sandbox

import (
	"context"
	"fmt"
	"sync"
)

// process is a part of Postern that runs from a config file and can be
// stopped and run again.
type process struct {
	run func(context.Context) (stop func(), err error)

	mu   sync.Mutex
	stop func() // nil while it is stopped
}

// openProcess runs Postern from a config file.
func (s *Sandbox) openProcess(ctx context.Context, config string) (*process, error) {
	p := &process{run: func(ctx context.Context) (func(), error) { return s.serve(ctx, config) }}
	return p, p.restart(ctx)
}

func (p *process) restart(ctx context.Context) error {
	p.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	stop, err := p.run(ctx)
	if err == nil {
		p.stop = stop
	}
	return err
}

func (p *process) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
}

// RestartControl stops the control plane and runs it again on its state. The
// nodes go on meanwhile with what they last knew.
func (s *Sandbox) RestartControl(ctx context.Context) error {
	if err := s.control.restart(ctx); err != nil {
		return fmt.Errorf("the control plane: %w", err)
	}
	return s.awaitReady(ctx, "the control plane", s.adminURL)
}
