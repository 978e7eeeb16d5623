package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/postern-net/postern/internal/proxyproto"
)

// sight is how a connection ended.
type sight struct {
	admitted bool
	alert    bool // the one refusal of the wire
	reply    reply
	err      error
}

func (s sight) String() string {
	if s.admitted {
		return fmt.Sprintf("admitted: status %d from %+v", s.reply.status, s.reply.app)
	}
	return "not admitted: " + got(s.err)
}

// visit asks for a tenant from somewhere.
func (w *world) visit(ctx context.Context, v visitor, at netip.Addr, tenant string) sight {
	host := w.platform.Host(tenant)
	r, err := v.get(ctx, netip.AddrPortFrom(at, w.httpsPort), host, host)
	return sight{admitted: err == nil, alert: errors.Is(err, errAlert), reply: r, err: err}
}

// byNode asks one node for a tenant as its load balancer does for a client of
// an endpoint: so it is known which node answered.
func (w *world) byNode(ctx context.Context, node string, e *modelEndpoint, tenant string) sight {
	at := w.places.nodes[node].private[e.region]
	r, _, _ := w.platform.Region(e.region)
	v := w.visitor("internet")
	v.source = r.LoadBalancerSources[0].Addr()
	v.ahead = proxyproto.AppendAWS(nil, netip.AddrPortFrom(w.places.source(e.network), 40000), netip.AddrPortFrom(at, w.httpsPort), e.id)
	return w.visit(ctx, v, at, tenant)
}

// checkNode checks a pair at one node. exact: what is wanted works by now.
func (w *world) checkNode(ctx context.Context, node string, e *modelEndpoint, tenant string, exact bool) error {
	n, p, now := w.servers[node], pair{e.id, tenant}, time.Now()
	if n.stopped {
		return nil
	}
	s := w.byNode(ctx, node, e, tenant)
	who := fmt.Sprintf("%s of %s (%s) to %s by %s", e.id, e.organization, e.region, tenant, node)
	switch {
	case s.admitted && !w.may(n, p, now):
		return violation{"an endpoint reaches only what it may", who, s.String()}
	case s.admitted && (s.reply.status != 200 || s.reply.app.VPCEndpointID != e.id || s.reply.app.Organization != e.organization || s.reply.app.Tenant != tenant):
		return violation{"the app is told who comes", who, s.String()}
	case !s.admitted && !s.alert && (ctx.Err() != nil || w.turning(n, p, now)):
		if exact {
			return violation{eventually, who, s.String()} // to be looked at again
		}
	case !s.admitted && !s.alert:
		return violation{"every refusal is the same alert", who, s.String()}
	case exact && !s.admitted && n.behind.IsZero() && !n.fenced && w.pairs[p].wanted:
		return violation{eventually, who, s.String()}
	}
	return nil
}

// checkEndpoint checks a pair by the endpoint itself, from its own network.
func (w *world) checkEndpoint(ctx context.Context, e *modelEndpoint, tenant string) error {
	if !e.at.IsValid() {
		return nil
	}
	now, may := time.Now(), false
	for _, n := range w.servers {
		may = may || !n.stopped && w.may(n, pair{e.id, tenant}, now)
	}
	s := w.visit(ctx, w.visitor(e.network), e.at, tenant)
	who := fmt.Sprintf("%s of %s (%s) to %s from its network", e.id, e.organization, e.region, tenant)
	switch {
	case s.admitted && e.gone:
		return violation{"an endpoint or account that is gone carries nothing", who, s.String()}
	case s.admitted && !may:
		return violation{"an endpoint reaches only what it may", who, s.String()}
	case (s.admitted || s.alert) && !e.accepted:
		return violation{"nothing unclaimed or unapproved is accepted", who, s.String()}
	}
	return nil
}

// checkPublic checks a tenant at a public door of a node. exact: what is public
// answers by now.
func (w *world) checkPublic(ctx context.Context, node, region string, t *modelTenant, exact bool) error {
	n, now := w.servers[node], time.Now()
	if n.stopped {
		return nil
	}
	s := w.visit(ctx, w.visitor("internet"), w.places.nodes[node].public[region], t.name)
	who := fmt.Sprintf("the internet to %s by %s in %s, cutover %q %s", t.name, node, region, t.cutover, t.phase)
	closed := t.phase == "withdrawing" || t.phase == "complete"
	switch {
	case s.admitted && n.refusesAll(now):
		return violation{"a fenced node refuses everything", who, s.String()}
	case s.admitted && closed && !n.fenced && !n.unheard:
		return violation{"once enforced a tenant is not public", who, s.String()}
	case s.admitted && (s.reply.status != 200 || s.reply.app.VPCEndpointID != "" || s.reply.app.Tenant != t.name):
		return violation{"the app is told who comes", who, s.String()}
	case ctx.Err() != nil:
		return violation{eventuallyPublic, who, s.String()} // this look was cut short
	case !s.admitted && !s.alert && (n.unsteady(now) || now.Sub(t.made) < lag || t.enforced || w.enforcedMeanwhile(ctx, t)):
		return nil // it was let in, and cut a moment later
	case !s.admitted && !s.alert:
		return violation{"every refusal is the same alert", who, s.String()}
	case exact && !s.admitted && region == t.region && !t.enforced && n.behind.IsZero() && !n.fenced:
		return violation{eventuallyPublic, who, s.String()}
	}
	return nil
}

// enforcedMeanwhile tells whether a cutover that was rehearsed when it was
// looked at last enforces by now.
func (w *world) enforcedMeanwhile(ctx context.Context, t *modelTenant) bool {
	if t.cutover == "" {
		return false
	}
	c, err := w.admin.Cutover(ctx, t.cutover)
	return err == nil && c.Status.State != "rolled-back" && !c.Status.EnforcedAt.IsZero()
}

// What is promised to come, not to be.
const (
	eventually       = "what is claimed, approved and proven works"
	eventuallyPublic = "a tenant is public until a cutover enforces"
)

// each does checks side by side.
func each(checks []func() error) []error {
	const width = 8
	var doing sync.WaitGroup
	errs, next := make([]error, len(checks)), make(chan int)
	for range width {
		doing.Go(func() {
			for i := range next {
				errs[i] = checks[i]()
			}
		})
	}
	for i := range checks {
		next <- i
	}
	close(next)
	doing.Wait()
	return errs
}

// matrix is every check there is, and exact where it can be.
func (w *world) matrix(ctx context.Context, exact bool) (checks []func() error) {
	for _, t := range w.tenants {
		for _, e := range w.endpoints {
			checks = append(checks, func() error { return w.checkEndpoint(ctx, e, t.name) })
			for node := range w.servers {
				checks = append(checks, func() error { return w.checkNode(ctx, node, e, t.name, exact) })
			}
		}
		for node := range w.servers {
			for _, region := range w.platform.RegionIDs() {
				checks = append(checks, func() error { return w.checkPublic(ctx, node, region, t, exact) })
			}
		}
	}
	return checks
}

// settle waits until the world is as it is wanted, and checks all of it. What
// is forbidden is a violation at once; what is wanted may take its time.
func (w *world) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	err := until(ctx, func() error { return w.inStepAgain(ctx) })
	if err != nil {
		return err
	}
	checks := w.matrix(ctx, true)
	w.checked += len(checks)
	err = until(ctx, func() error {
		if err := w.observe(ctx); err != nil {
			return err
		}
		var late []func() error
		var lateErr error
		for i, err := range each(checks) {
			var v violation
			switch {
			case err == nil:
			case errors.As(err, &v) && (v.promise == eventually || v.promise == eventuallyPublic):
				late, lateErr = append(late, checks[i]), err
			default:
				return fmt.Errorf("%w: %w", errFinal, err)
			}
		}
		checks = late
		return lateErr
	})
	if err != nil {
		return errors.Join(err, w.stands())
	}
	return w.kept(ctx)
}

// stands is how the endpoints stand by the API, for who must find out why
// something does not come.
func (w *world) stands() error {
	ctx, cancel := context.WithTimeout(context.Background(), visitTimeout)
	defer cancel()
	all, err := w.admin.Endpoints(ctx, "", "")
	text := ""
	for _, e := range all {
		text += fmt.Sprintf("\n  %s is %s and reaches %v: %s", e.ID, e.Status.State, e.Status.Hostnames, conditions(e))
	}
	nodes, e2 := w.admin.Nodes(ctx)
	for _, n := range nodes {
		text += fmt.Sprintf("\n  %s is %s at %d of %d; %+v", n.ID, n.Status.State, n.Status.AppliedRevision, n.Status.CurrentRevision, *w.servers[n.ID])
	}
	return errors.Join(fmt.Errorf("by the API:%s", text), err, e2)
}
