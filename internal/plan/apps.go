package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/postern-net/postern"
)

// compileApps adds the hosts that organizations share to a route table: public
// for everybody, and for the endpoints of the organizations that asked for it.
// A host that has no backend anywhere is nobody's.
func compileApps(p *postern.Platform, d Desired, r postern.Routes) {
	for _, app := range p.Apps {
		backends := map[string][]netip.AddrPort{}
		for _, region := range p.RegionIDs() {
			if b := p.SharedBackends(app.ID, region); len(b) > 0 {
				backends[region] = b
			}
		}
		if app.PerTenant() || len(backends) == 0 {
			continue
		}
		for _, host := range app.Hosts {
			r.Hosts[host] = postern.Host{Shared: true, Public: true, RegionBackends: backends}
		}
	}
	rules := newAppRules(p, d)
	for id, g := range r.Endpoints {
		if hosts := rules.hosts(g.Organization, g.Region); len(hosts) > 0 {
			g.Hosts = append(slices.Clone(g.Hosts), hosts...)
			slices.Sort(g.Hosts)
			r.Endpoints[id] = g
		}
	}
}

// appRules are what an app can ask for, found once for all organizations. They
// are demanded of every table, and not only of whoever turns an app on: an
// organization whose tenants are public again, or in several segments, is not
// one that the app is privately for (the seeds).
type appRules struct {
	platform *postern.Platform
	apps     map[string][]postern.AppAccess // by organization
	single   map[string]bool                // organizations whose tenants are in one segment
	private  map[string]bool                // organizations with a tenant whose cutover is complete
}

func newAppRules(p *postern.Platform, d Desired) appRules {
	r := appRules{platform: p, apps: by(d.Apps, func(a postern.AppAccess) string { return a.Organization }), single: singleSegments(p, d.Tenants), private: map[string]bool{}}
	cutovers := by(d.Cutovers, cutoversTenant)
	for _, t := range d.Tenants {
		if isPrivate(p, t, cutovers[t.Name]) {
			r.private[t.Organization] = true
		}
	}
	return r
}

// isPrivate tells whether a tenant's cutover is complete. One in a region that the
// platform gave up is not there at all.
func isPrivate(p *postern.Platform, t postern.Tenant, all []postern.Cutover) bool {
	_, _, ok := p.Region(t.Region)
	c := Current(all, t.Name)
	return ok && c != nil && c.Phase == postern.CutoverComplete
}

// hosts lists the shared hosts that an organization's endpoints reach in a
// service region.
func (r appRules) hosts(organization, region string) (hosts []string) {
	for _, app := range r.platform.Apps {
		if app.PerTenant() || len(r.platform.SharedBackends(app.ID, region)) == 0 || !r.enabled(app, organization) {
			continue
		}
		hosts = append(hosts, app.Hosts...)
	}
	return hosts
}

// enabled tells whether an organization has private access to a shared app: it
// asked for it, and has what the app asks for.
func (r appRules) enabled(app postern.App, organization string) bool {
	if app.SingleSegment && !r.single[organization] {
		return false
	}
	if required, ok := r.platform.App(app.Requires); ok && !r.privately(required, organization) {
		return false
	}
	return enabled(r.apps[organization], app.ID, organization)
}

// privately tells whether an app that must be private first is so.
func (r appRules) privately(required postern.App, organization string) bool {
	if required.PerTenant() {
		return r.private[organization]
	}
	return enabled(r.apps[organization], required.ID, organization)
}

func enabled(all []postern.AppAccess, app, organization string) bool {
	return slices.ContainsFunc(all, func(a postern.AppAccess) bool {
		return a.App == app && a.Organization == organization && a.Enabled
	})
}

// singleSegments tells of each organization that has tenants whether all are in
// one segment.
func singleSegments(p *postern.Platform, tenants []postern.Tenant) map[string]bool {
	out, in := map[string]bool{}, map[string]string{}
	for _, t := range tenants {
		_, s, ok := p.Region(t.Region)
		if !ok {
			continue
		}
		first, seen := in[t.Organization]
		out[t.Organization] = !seen || out[t.Organization] && first == s.ID
		in[t.Organization] = s.ID
	}
	return out
}

// segments lists an organization's tenants by segment.
func segments(p *postern.Platform, tenants []postern.Tenant, organization string) map[string][]string {
	out := map[string][]string{}
	for _, t := range tenants {
		if _, s, ok := p.Region(t.Region); ok && t.Organization == organization {
			out[s.ID] = append(out[s.ID], t.Name)
		}
	}
	return out
}

// AppView is what an organization has of an app whose hosts organizations share.
type AppView struct {
	Conditions []postern.Condition
	Endpoints  []postern.Endpoint // ready ones that reach it, if it is ready
}

// App judges an organization's private access to an app. The desired state may
// be the organization's part of it.
func App(p *postern.Platform, app postern.App, a postern.AppAccess, d Desired) AppView {
	var v AppView
	set := func(t postern.ConditionType, is bool, yes, no postern.Reason, since time.Time, message string) {
		c := postern.Condition{Type: t, Status: postern.True, Reason: yes, Message: message, Since: since}
		if !is {
			c.Status, c.Reason = postern.False, no
		}
		v.Conditions = postern.SetCondition(v.Conditions, c)
	}
	if required, ok := p.App(app.Requires); ok {
		is, since, message := requiredPrivate(p, required, a, d)
		set(postern.RequiredAppPrivate, is, postern.ReasonRequiredPrivate, postern.ReasonRequiredPublic, since, message)
	}
	if app.SingleSegment {
		is, since, message := singleSegment(p, a.Organization, d.Tenants)
		set(postern.SingleSegment, is, postern.ReasonOneSegment, postern.ReasonSeveralSegments, since, message)
	}
	rules := newAppRules(p, d)
	for _, e := range d.Endpoints {
		g, ok := CompileGrant(p, e, d.Tenants, d.Accounts)
		if ok && e.State == postern.EndpointReady && e.Organization == a.Organization && slices.Contains(rules.hosts(g.Organization, g.Region), app.Hosts[0]) {
			v.Endpoints = append(v.Endpoints, e)
		}
	}
	switch {
	case len(v.Endpoints) > 0:
		set(postern.Ready, true, postern.ReasonBytesPass, "", a.ChangedAt, "reached through "+endpointIDs(v.Endpoints))
	case !a.Enabled:
		set(postern.Ready, false, "", postern.ReasonNotEnabled, a.ChangedAt, "nobody asked for private access to it (`postern app enable "+app.ID+"`)")
	case slices.ContainsFunc(v.Conditions, func(c postern.Condition) bool { return c.Status == postern.False }):
		set(postern.Ready, false, "", postern.ReasonNotReady, a.ChangedAt, "another condition is not True")
	default:
		set(postern.Ready, false, "", postern.ReasonNoEndpoint, a.ChangedAt, "no ready endpoint reaches a tenant where the app is; create one and claim it (`postern endpoint claim`)")
	}
	return v
}

// AppChange is private access to an app that came or went since the loop looked
// last.
type AppChange struct {
	After postern.AppAccess
	Event string // for people; "": it was turned off, which is an event by itself
}

// AppChanges compares what the endpoints of a table reach with what was so when
// the loop looked last.
func AppChanges(p *postern.Platform, d Desired, r postern.Routes) (changes []AppChange) {
	type access struct{ organization, host string }
	reached := map[access]bool{}
	for _, g := range r.Endpoints {
		for _, h := range g.Hosts {
			if r.Hosts[h].Shared {
				reached[access{g.Organization, h}] = true
			}
		}
	}
	for _, a := range d.Apps {
		app, ok := p.SharedApp(a.App)
		ready := ok && a.Enabled && reached[access{a.Organization, app.Hosts[0]}]
		if ready == a.Ready {
			continue
		}
		a.Ready = ready
		c := AppChange{After: a}
		switch {
		case !ok:
			c.Event = "the platform does not have app " + a.App + " any more"
		case a.Enabled:
			c.Event = "app " + a.App + ": " + stands(App(p, app, a, d).Conditions)
		}
		changes = append(changes, c)
	}
	return changes
}

// stands is what an app's conditions come down to.
func stands(cs []postern.Condition) string {
	ready := postern.FindCondition(cs, postern.Ready)
	if ready.Reason != postern.ReasonNotReady {
		return string(ready.Reason) + ", " + ready.Message
	}
	return falls(cs)
}

// falls is what an app lacks.
func falls(cs []postern.Condition) string {
	var all []string
	for _, c := range cs {
		if c.Type != postern.Ready && c.Status == postern.False {
			all = append(all, string(c.Reason)+", "+c.Message)
		}
	}
	return strings.Join(all, "; ")
}

func endpointIDs(es []postern.Endpoint) string {
	ids := make([]string, len(es))
	for i, e := range es {
		ids[i] = e.ID
	}
	return strings.Join(ids, ", ")
}

// requiredPrivate tells whether the app that must be private first is so: for
// an app that every tenant has, when a tenant's cutover is complete.
func requiredPrivate(p *postern.Platform, required postern.App, a postern.AppAccess, d Desired) (is bool, since time.Time, message string) {
	name := required.Title
	if name == "" {
		name = required.ID
	}
	if !required.PerTenant() {
		if enabled(d.Apps, required.ID, a.Organization) {
			return true, since, name + " is private"
		}
		return false, since, name + " must be private first (`postern app enable " + required.ID + "`)"
	}
	var private, public []string
	for _, t := range d.Tenants {
		if t.Organization != a.Organization {
			continue
		}
		if isPrivate(p, t, d.Cutovers) {
			c := Current(d.Cutovers, t.Name)
			private = append(private, t.Name)
			if since.IsZero() || c.EndedAt.Before(since) {
				since = c.EndedAt
			}
		} else {
			public = append(public, t.Name)
		}
	}
	switch {
	case len(private) > 0 && len(public) > 0:
		return true, since, fmt.Sprintf("%s is private for tenant %s, and still public for %s", name, strings.Join(private, ", "), strings.Join(public, ", "))
	case len(private) > 0:
		return true, since, name + " is private for tenant " + strings.Join(private, ", ")
	case len(public) == 0:
		return false, since, "the organization has no tenant whose " + name + " app could be private first"
	}
	text := fmt.Sprintf("%s must be private first: no cutover is complete of tenant %s (`postern cutover start %s`)", name, strings.Join(public, ", "), public[0])
	if a.Enabled {
		text += "; until then the app is reached publicly only"
	}
	return false, since, text
}

// singleSegment tells whether all of an organization's tenants are in one
// segment, and otherwise which are where.
func singleSegment(p *postern.Platform, organization string, tenants []postern.Tenant) (is bool, since time.Time, message string) {
	of := segments(p, tenants, organization)
	for _, t := range tenants {
		if t.Organization == organization && t.CreatedAt.After(since) {
			since = t.CreatedAt
		}
	}
	if len(of) <= 1 {
		return true, since, "all tenants are in one segment"
	}
	var where []string
	for _, s := range p.Segments {
		if names := of[s.ID]; len(names) > 0 {
			where = append(where, strings.Join(names, ", ")+" in "+s.ID)
		}
	}
	return false, since, "the organization's tenants are in several segments: " + strings.Join(where, "; ")
}

// BreaksApps lists the apps that an organization reaches privately now and
// would not if it had a tenant more.
func BreaksApps(p *postern.Platform, d Desired, t postern.Tenant) (broken []postern.App) {
	before, after := segments(p, d.Tenants, t.Organization), segments(p, append(slices.Clone(d.Tenants), t), t.Organization)
	for _, app := range p.Apps {
		if app.SingleSegment && enabled(d.Apps, app.ID, t.Organization) && len(before) <= 1 && len(after) > 1 {
			broken = append(broken, app)
		}
	}
	return broken
}

// AppLoss is an app that an organization does not reach privately any more, and
// why.
type AppLoss struct {
	App postern.App
	Why string
}

// LosesApps lists the apps that an organization may reach privately before a
// change and may not after it.
func LosesApps(p *postern.Platform, before, after Desired, organization string) (lost []AppLoss) {
	was, is := newAppRules(p, before), newAppRules(p, after)
	for _, app := range p.Apps {
		if app.PerTenant() || !was.enabled(app, organization) || is.enabled(app, organization) {
			continue
		}
		why := falls(App(p, app, postern.AppAccess{App: app.ID, Organization: organization, Enabled: true}, after).Conditions)
		if why == "" {
			why = "no tenant is left"
		}
		lost = append(lost, AppLoss{app, why})
	}
	return lost
}
