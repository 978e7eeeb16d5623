package control

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// Names is what the loop needs of the zones' servers.
type Names interface {
	// Differs tells which servers do not answer a name with the wanted records,
	// and what they say instead; "": all do. Contradicted: one of them answers
	// something else, and not only nothing.
	Differs(ctx context.Context, name string, wanted []postern.Record) (detail string, contradicted bool)
}

// nowhere is for a platform whose zones nobody is known to serve.
type nowhere struct{}

func (nowhere) Differs(context.Context, string, []postern.Record) (string, bool) {
	return "no server of the zones is configured", false
}

// askCutovers bounds the asking of the zones' servers for all cutovers of a
// round, and askAtOnce for how many of them at one time.
const (
	askCutovers = 5 * time.Second
	askAtOnce   = 16
)

// moving is a cutover that goes on, with its tenant and what was answered.
type moving struct {
	cutover postern.Cutover
	tenant  postern.Tenant
	asked   time.Time
	dns     plan.DNSView
	now     time.Time // when it was answered
}

// stepCutovers takes every cutover that moves one step on. It reports whether
// all are at rest.
func (l *Loop) stepCutovers(ctx context.Context, d plan.Desired) (settled bool, err error) {
	all, settled := l.askForCutovers(ctx, d)
	for _, m := range all {
		view, err := l.viewCutover(ctx, m, d)
		if err != nil {
			return false, err
		}
		c, step := m.cutover, plan.Cutover(m.cutover, view)
		if reflect.DeepEqual(c, step.After) {
			continue
		}
		err = l.Store.Update(ctx, func(tx *store.Tx) error {
			if _, err := tx.UpdateCutover(step.After); err != nil || step.Event == "" {
				return err
			}
			return tx.AppendEvent(l.event("cutover."+string(step.After.Phase), "cutover", c.ID, c.Organization, "tenant "+c.Tenant+": "+step.Event))
		})
		if err := skipConflict(err); err != nil {
			return false, err
		}
	}
	return settled, nil
}

// askForCutovers asks the zones' servers for every cutover that moves, side by
// side: a server that is silent must not hold everything else up.
func (l *Loop) askForCutovers(ctx context.Context, d plan.Desired) (all []*moving, settled bool) {
	settled = true
	for _, c := range d.Cutovers {
		if !c.Moving() {
			continue
		}
		settled = false
		i := slices.IndexFunc(d.Tenants, func(t postern.Tenant) bool { return t.Name == c.Tenant })
		if i >= 0 { // deleted tenants take their cutovers along
			all = append(all, &moving{cutover: c, tenant: d.Tenants[i]})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askCutovers)
	defer cancel()
	var asking sync.WaitGroup
	slots := make(chan struct{}, askAtOnce)
	for _, m := range all {
		asking.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			hosted, privatelink := plan.TenantRecords(l.Platform, m.tenant, &m.cutover, l.Rules.Cutover.TTL)
			m.asked = l.Now()
			m.dns = l.lookUp(ctx, m.tenant, hosted, privatelink)
			m.now = l.Now()
		})
	}
	asking.Wait()
	return all, settled
}

func (l *Loop) viewCutover(ctx context.Context, m *moving, d plan.Desired) (plan.CutoverView, error) {
	rules, c, t := l.Rules.Cutover, m.cutover, m.tenant
	v := plan.CutoverView{Rules: rules, Now: m.now, Asked: m.asked, Ready: len(plan.ReadyEndpoints(l.Platform, t, d)), DNS: m.dns}
	host := l.Platform.Host(t.Name)
	err := l.Store.View(ctx, func(tx *store.Tx) error {
		since := c.PublishedAt
		if since.IsZero() {
			since = v.Now // nothing before the records were published counts
		}
		before := since
		if !c.RedirectedAt.IsZero() {
			before = c.RedirectedAt.Add(-rules.Window) // but that some were there
		}
		arrivals, e1 := tx.ListArrivals(host, before)
		nodes, e2 := tx.ListNodes(store.Page{})
		routes, e3 := tx.FindRoutes()
		v.Arrivals = plan.Arrivals(arrivals, c.Organization, plan.ArrivalTimes{
			Since: since, Late: l.still(since.Add(rules.TTL)), Window: v.Now.Add(-rules.Window), Before: before,
		})
		h := routes.Hosts[host]
		v.Nodes, v.Routes = nodes, plan.RouteView{Revision: routes.Revision, Public: h.Public, Drains: h.Drain != postern.Drain{}}
		return errors.Join(e1, e2, e3)
	})
	return v, err
}

// lookUp asks the zones' servers for a tenant's two names.
func (l *Loop) lookUp(ctx context.Context, t postern.Tenant, hosted, privatelink []postern.Record) plan.DNSView {
	detail, contradicted := l.Names.Differs(ctx, l.Platform.Host(t.Name), hosted)
	also, contradicts := l.Names.Differs(ctx, l.Platform.PrivateLinkHost(t.Name), privatelink)
	switch {
	case detail == "":
		detail = also
	case also != "" && also != detail:
		detail += "; " + also
	}
	return plan.DNSView{Wanted: detail == "", Contradicted: contradicted || contradicts, Detail: detail}
}

// still is since when a public client counts as one that still comes: since the
// old records expired, but no longer ago than lately.
func (l *Loop) still(expired time.Time) time.Time {
	if lately := l.Now().Add(-l.Rules.Cutover.Lately()); lately.After(expired) {
		return lately
	}
	return expired
}

// publishZones compiles the public DNS from what is stored, as publish does
// with the routes.
func (l *Loop) publishZones(ctx context.Context, d plan.Desired) error {
	next := plan.CompileZones(l.Platform, d, l.Rules.Cutover.TTL)
	var stored postern.Zones
	if err := l.Store.View(ctx, func(tx *store.Tx) (err error) { stored, err = tx.FindZones(); return err }); err != nil {
		return err
	}
	next.Revision = stored.Revision
	if stored.Revision == 0 || !reflect.DeepEqual(stored, next) {
		next.Revision++
		if err := l.Store.Update(ctx, func(tx *store.Tx) error { return tx.SaveZones(next) }); err != nil {
			return err
		}
	}
	l.PublishZones(next)
	return nil
}

// TenantDNS compiles what the public zones are to say for a tenant, and asks
// their servers.
func (l *Loop) TenantDNS(ctx context.Context, tenant string) (plan.TenantDNS, error) {
	d, t, err := l.tenant(ctx, tenant)
	if err != nil {
		return plan.TenantDNS{}, err
	}
	host, link := l.Platform.Host(tenant), l.Platform.PrivateLinkHost(tenant)
	hosted, privatelink := plan.TenantRecords(l.Platform, t, plan.Current(d.Cutovers, tenant), l.Rules.Cutover.TTL)
	out := plan.TenantDNS{Wanted: map[string][]postern.Record{host: hosted, link: privatelink}}
	out.Differs = l.lookUp(ctx, t, hosted, privatelink).Detail
	ready := plan.ReadyEndpoints(l.Platform, t, d)
	for _, e := range d.Endpoints {
		if slices.Contains(ready, e.ID) {
			out.Endpoints = append(out.Endpoints, e)
		}
	}
	return out, nil
}

// tenant finds a tenant among everything that is desired.
func (l *Loop) tenant(ctx context.Context, name string) (plan.Desired, postern.Tenant, error) {
	d, err := l.desired(ctx)
	if err != nil {
		return d, postern.Tenant{}, err
	}
	i := slices.IndexFunc(d.Tenants, func(t postern.Tenant) bool { return t.Name == name })
	if i < 0 {
		return d, postern.Tenant{}, postern.NotFound("tenant", name)
	}
	return d, d.Tenants[i], nil
}

// Preflight is what stands against a tenant's cutover now.
func (l *Loop) Preflight(ctx context.Context, tenant string) ([]postern.Blocker, error) {
	d, t, err := l.tenant(ctx, tenant)
	if err != nil {
		return nil, err
	}
	now := l.Now()
	v := plan.PreflightView{Tenant: t, Ready: plan.ReadyEndpoints(l.Platform, t, d)}
	err = l.Store.View(ctx, func(tx *store.Tx) error {
		// A client that came lately will come again. During a rehearsal only
		// those count who still come when the old records have expired.
		since := now.Add(-recently)
		if c := plan.Current(d.Cutovers, tenant); c != nil && c.Phase != postern.CutoverRolledBack && !c.PublishedAt.IsZero() {
			since = l.still(c.PublishedAt.Add(l.Rules.Cutover.TTL))
		}
		arrivals, e1 := tx.ListArrivals(l.Platform.Host(tenant), since)
		probes, e2 := tx.ListProbes(tenant)
		nodes, e3 := tx.ListNodes(store.Page{})
		routes, e4 := tx.FindRoutes()
		isolation, e5 := tx.ListIsolation()
		v.PublicSources = plan.Arrivals(arrivals, t.Organization, plan.ArrivalTimes{Since: since, Late: since, Window: since, Before: since}).PublicSources
		for _, p := range probes {
			if p.EndpointID != "" && now.Sub(p.SeenAt) <= recently && !slices.Contains(v.Proven, p.EndpointID) {
				v.Proven = append(v.Proven, p.EndpointID)
			}
		}
		for _, n := range nodes {
			if !n.Fenced { // a fenced one serves nobody
				v.Nodes++
			}
		}
		v.Waiting = plan.Waiting(nodes, routes.Revision, l.Rules.Cutover.NodeSilence, now)
		for _, b := range routes.Hosts[l.Platform.Host(tenant)].Backends {
			v.Isolation = append(v.Isolation, isolationOf(isolation, b.String(), now))
		}
		return errors.Join(e1, e2, e3, e4, e5)
	})
	return plan.Preflight(l.Platform, v), err
}

// recently is for how long a public client, and a probe, counts before a
// cutover.
const recently = 24 * time.Hour

// isolationLifetime is how long a node's finding about a backend holds.
const isolationLifetime = 10 * time.Minute

func isolationOf(found []postern.Isolation, address string, now time.Time) plan.Isolation {
	out := plan.Isolation{Address: address, Detail: "no node has probed it lately"}
	for _, f := range found {
		if f.Address != address || now.Sub(f.At) > isolationLifetime {
			continue
		}
		out.Isolated, out.Detail = f.Isolated, f.Detail
		if !f.Isolated {
			break // one node that got through is enough
		}
	}
	return out
}
