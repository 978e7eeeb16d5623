package serve

import (
	"context"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/isolation"
)

// probeBackends asks the backends, again and again, whether they answer 421 to
// another host than was admitted, and tells the control plane. The node does
// it, because backends take a PROXY header from nodes only.
func (s *Server) probeBackends(ctx context.Context, to *client.Client) {
	tick := time.NewTicker(s.config.ProbeBackends)
	defer tick.Stop()
	for round := 0; ; round++ {
		if r := s.doors.routes.Load(); r != nil {
			s.reportBackends(ctx, to, isolation.ProbeAll(ctx, *r, round))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Server) reportBackends(ctx context.Context, to *client.Client, found []postern.Isolation) {
	if ctx.Err() != nil || len(found) == 0 {
		return
	}
	report := client.BackendReport{ID: s.config.Node.ID}
	for _, f := range found {
		report.Backends = append(report.Backends, client.BackendFinding{Address: f.Address, Isolated: f.Isolated, Detail: f.Detail})
		if !f.Isolated {
			s.options.Logger.Warn("a backend is not isolated", "backend", f.Address, "detail", f.Detail)
		}
	}
	if err := to.ReportBackends(ctx, report); err != nil && ctx.Err() == nil {
		s.options.Logger.Debug("what the backends answered was not taken; it is sent again with the next round", "error", err)
	}
}
