package control

import (
	"context"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

// PreviewConnection is what would become of a data connection, from a fresh look
// at its service and at AWS: it with its conditions, and what would be done at
// AWS once the hostname is proven. DNS is not asked: see proofDue.
func (l *Loop) PreviewConnection(ctx context.Context, c postern.DataConnection) (postern.DataConnection, []plan.ConnectionAction, error) {
	if l.Outbound == nil {
		return c, nil, &postern.Error{Code: postern.CodeUnavailable, Message: "this server makes no data connections", Fix: "ask the vendor"}
	}
	d, err := l.outboundDesired(ctx)
	if err != nil {
		return c, nil, err
	}
	v := l.connectionView(d, c)
	if cloud, ok := l.observeOutbound(ctx, []string{c.Region})[c.Region]; ok {
		mine := cloud[c.ID]
		v.Cloud = &mine
	}
	l.lookAt(ctx, c, &v, false)
	proven := c
	proven.ProvenAt = l.Now()
	return plan.Connection(c, v).After, plan.ForeseeConnection(proven, v), nil
}

// previewOutbound is what the next round of the outbound lane would do at AWS,
// from a look at AWS alone.
func (l *Loop) previewOutbound(ctx context.Context) ([]plan.Action, error) {
	if l.Outbound == nil {
		return nil, nil
	}
	d, err := l.outboundDesired(ctx)
	if err != nil {
		return nil, err
	}
	clouds := l.observeOutbound(ctx, d.regions())
	var actions []plan.ConnectionAction
	for _, c := range d.connections {
		v := l.connectionView(d, c)
		if cloud, ok := clouds[c.Region]; ok {
			mine := cloud[c.ID]
			v.Cloud = &mine
		}
		if c.EndpointID == "" && !c.ProvenAt.IsZero() && !c.Removing {
			svc, err := l.Outbound.FindService(ctx, c.Service)
			v.Service = plan.ServiceView{Looked: true, Silent: err != nil, Service: svc}
		}
		actions = append(actions, plan.Connection(c, v).Actions...)
	}
	for region, cloud := range clouds {
		actions = append(actions, plan.Sweep(d.removed, region, cloud)...)
	}
	var out []plan.Action
	for _, a := range actions {
		target := a.Target
		if target == "" {
			target = a.Connection
		}
		out = append(out, plan.Action{Kind: plan.ActionKind(a.Kind), Service: a.Service, Target: target, Organization: a.Organization, Why: a.Why})
	}
	return out, nil
}
