package sandbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postern-net/postern/client"
)

// operation is something that somebody does. It returns what it did, in words;
// "" if there was nothing to do it to.
type operation struct {
	weight int
	do     func(*world, context.Context) (string, error)
}

// operations: most change what is wanted, by one call; what takes AWS or a
// process with it is rarer.
var operations = []operation{
	{250, (*world).retarget},
	{60, (*world).claimOwn},
	{200, (*world).approve},
	{70, (*world).claimForeign},
	{40, (*world).createEndpoint},
	{12, (*world).unclaim},
	{4, (*world).deleteAtAWS},
	{3, (*world).removeAccount},
	{30, (*world).proveAccount},
	{40, (*world).createTenant},
	{25, (*world).deleteTenant},
	{120, (*world).startCutover},
	{30, (*world).acknowledge},
	{8, (*world).rollBack},
	{60, (*world).look},
	{60, (*world).write},
	{3, (*world).cutLink},
	{25, (*world).restoreLink},
	{2, (*world).stopNode},
	{20, (*world).startNode},
	{3, (*world).fence},
	{20, (*world).unfence},
	{4, (*world).restartControl},
}

// draw picks one by its weight.
func (w *world) draw() operation {
	total := 0
	for _, o := range operations {
		total += o.weight
	}
	n := w.rand.IntN(total)
	for _, o := range operations {
		if n -= o.weight; n < 0 {
			return o
		}
	}
	panic("unreachable")
}

// pick is a random one of those for which it holds.
func pick[T any](w *world, all []T, holds func(T) bool) (T, bool) {
	some := slices.DeleteFunc(slices.Clone(all), func(v T) bool { return !holds(v) })
	if len(some) == 0 {
		var none T
		return none, false
	}
	return some[w.rand.IntN(len(some))], true
}

func (w *world) allTenants() []*modelTenant {
	names := slices.Sorted(maps.Keys(w.tenants)) // a seed is to say it all
	out := make([]*modelTenant, len(names))
	for i, n := range names {
		out[i] = w.tenants[n]
	}
	return out
}

// refusedAs tells an expected refusal from a surprise.
func refusedAs(err error, codes ...string) bool {
	return slices.ContainsFunc(codes, func(c string) bool { return client.HasCode(err, c) })
}

// tenantsOf draws what an endpoint is claimed for: everything, or some of its
// organization's tenants in the segment.
func (w *world) tenantsOf(e *modelEndpoint) (named []string) {
	if w.rand.IntN(3) == 0 {
		return nil
	}
	for _, t := range w.allTenants() {
		if t.organization == e.organization && t.segment == e.segment && w.rand.IntN(2) == 0 {
			named = append(named, t.name)
		}
	}
	return named
}

// retarget changes which tenants an endpoint may reach; now and then to what
// is not its organization's, which is refused.
func (w *world) retarget(ctx context.Context) (string, error) {
	e, ok := pick(w, w.endpoints, func(e *modelEndpoint) bool { return e.claimed && !e.doomed })
	if !ok {
		return "", nil
	}
	api := w.person(e.organization).api
	if w.rand.IntN(6) == 0 {
		t, ok := pick(w, w.allTenants(), func(t *modelTenant) bool { return t.organization != e.organization || t.segment != e.segment })
		if !ok {
			return "", nil
		}
		if _, err := api.UpdateEndpoint(ctx, e.id, []string{t.name}); !refusedAs(err, "invalid", "not_found") {
			return "", violation{"an endpoint is for its organization's tenants in its segment", e.id + " for " + t.name, got(err)}
		}
		return fmt.Sprintf("%s asks for %s of %s and is refused", e.id, t.name, t.organization), nil
	}
	named := w.tenantsOf(e)
	var err error
	if named == nil {
		_, err = api.UpdateEndpointAllTenants(ctx, e.id)
	} else {
		_, err = api.UpdateEndpoint(ctx, e.id, named)
	}
	if err != nil {
		return "", err
	}
	// What an operator approved is narrowed freely; more waits for approval anew.
	if e.named != nil && (named == nil || slices.ContainsFunc(named, func(t string) bool { return !slices.Contains(e.named, t) })) {
		e.approved = false
	}
	e.named = named
	return fmt.Sprintf("%s may reach %v", e.id, named), nil
}

func (w *world) claimOwn(ctx context.Context) (string, error) {
	e, ok := pick(w, w.endpoints, func(e *modelEndpoint) bool { return !e.claimed && !e.doomed })
	if !ok {
		return "", nil
	}
	named := w.tenantsOf(e)
	_, err := w.person(e.organization).api.ClaimEndpoints(ctx, client.Claim{Organization: e.organization, VPCEndpointIDs: []string{e.id}, Tenants: named}, false)
	switch {
	case refusedAs(err, "not_found", "invalid", "conflict", "unavailable"):
		return e.id + " is not seen yet", nil // or its account is not proven
	case err != nil:
		return "", err
	case !w.proven[e.organization]:
		return "", violation{"only a proven account's endpoint is claimed", e.id, "claimed"}
	}
	e.claimed, e.named = true, named
	return fmt.Sprintf("%s is claimed by %s for %v", e.id, e.organization, named), nil
}

func (w *world) claimForeign(ctx context.Context) (string, error) {
	e, ok := pick(w, w.endpoints, func(*modelEndpoint) bool { return true })
	if !ok {
		return "", nil
	}
	c, _ := pick(w, customers(w.platform), func(c customer) bool { return c.id != e.organization })
	_, err := w.person(c.id).api.ClaimEndpoints(ctx, client.Claim{Organization: c.id, VPCEndpointIDs: []string{e.id}}, false)
	if !refusedAs(err, "not_found") {
		return "", violation{"nobody claims another's endpoint", e.id + " by " + c.id, got(err)}
	}
	return fmt.Sprintf("%s claims %s and is refused", c.id, e.id), nil
}

func (w *world) approve(ctx context.Context) (string, error) {
	e, ok := pick(w, w.endpoints, func(e *modelEndpoint) bool { return e.claimed && !e.approved && !e.doomed })
	if !ok {
		return "", nil
	}
	if _, err := w.person(e.organization).api.ApproveEndpoint(ctx, e.id); !refusedAs(err, "forbidden", "not_found") {
		return "", violation{"nobody approves a claim of its own", e.id, got(err)}
	}
	if _, err := w.admin.ApproveEndpoint(ctx, e.id); err != nil {
		return "", err
	}
	e.approved, e.accepted = true, true
	return e.id + " is approved", nil
}

// mostEndpoints there are at a time.
const mostEndpoints = 9

func (w *world) createEndpoint(ctx context.Context) (string, error) {
	c, ok := pick(w, customers(w.platform), func(c customer) bool { return w.proven[c.id] })
	if !ok || len(w.endpoints) >= mostEndpoints {
		return "", nil
	}
	n := c.networks[w.rand.IntN(len(c.networks))]
	segment := segmentOf(w, n.region)
	id, err := w.person(c.id).createEndpoint(ctx, w.places.networks[n.name], offerOf(w.catalogue, n.region))
	if code := awsCode(err); code == "InvalidServiceName" || code == "RequestLimitExceeded" {
		return c.id + " creates no endpoint: " + code, nil // its principal is on its way
	}
	if err != nil {
		return "", err
	}
	w.endpoints = append(w.endpoints, &modelEndpoint{id: id, organization: c.id, network: n.name, region: n.region, segment: segment})
	return fmt.Sprintf("%s creates %s in %s", c.id, id, n.region), nil
}

func offerOf(catalogue []client.Offer, region string) client.Offer {
	i := slices.IndexFunc(catalogue, func(o client.Offer) bool { return o.Region == region })
	return catalogue[i]
}

func segmentOf(w *world, region string) string {
	_, s, _ := w.platform.Region(region)
	return s.ID
}

func (w *world) unclaim(ctx context.Context) (string, error) {
	e, ok := pick(w, w.endpoints, func(e *modelEndpoint) bool { return e.claimed && !e.revoked })
	if !ok {
		return "", nil
	}
	if err := w.person(e.organization).api.DeleteEndpoint(ctx, e.id); err != nil {
		return "", err
	}
	e.doomed, e.revoked = true, true
	return "the claim of " + e.id + " is taken back", nil
}

func (w *world) deleteAtAWS(ctx context.Context) (string, error) {
	e, ok := pick(w, w.endpoints, func(e *modelEndpoint) bool { return !e.doomed })
	if !ok {
		return "", nil
	}
	err := w.person(e.organization).deleteEndpoints(ctx, e.region, e.id)
	if awsCode(err) == "RequestLimitExceeded" {
		return e.id + " is not deleted: AWS throttles", nil
	}
	e.doomed = true
	return e.id + " is deleted at AWS", err
}

func (w *world) removeAccount(ctx context.Context) (string, error) {
	c, ok := pick(w, customers(w.platform), func(c customer) bool { return w.proven[c.id] })
	if !ok {
		return "", nil
	}
	p := w.person(c.id)
	if err := p.api.DeleteAccount(ctx, p.account.ID); err != nil {
		return "", err
	}
	delete(w.proven, c.id)
	for _, e := range w.endpoints {
		if e.organization == c.id && e.claimed {
			e.doomed, e.revoked = true, true
		}
	}
	return "the account of " + c.id + " is removed", nil
}

func (w *world) proveAccount(ctx context.Context) (string, error) {
	c, ok := pick(w, customers(w.platform), func(c customer) bool { return !w.proven[c.id] })
	if !ok {
		return "", nil
	}
	err := w.person(c.id).prove(ctx)
	if refusedAs(err, "conflict") {
		return "the account of " + c.id + " is still being removed", nil
	}
	if err != nil {
		return "", err
	}
	w.proven[c.id] = true
	return "the account of " + c.id + " is proven", nil
}

// createTenant makes one of a few more tenants, for anybody and anywhere: so
// names move between organizations, and organizations have tenants in segments
// where they have no endpoint.
func (w *world) createTenant(ctx context.Context) (string, error) {
	name := []string{"wandering", "roaming"}[w.rand.IntN(2)]
	if w.tenants[name] != nil {
		return "", nil
	}
	c, _ := pick(w, customers(w.platform), func(customer) bool { return true })
	region, _ := pick(w, w.platform.RegionIDs(), func(string) bool { return true })
	_, err := w.admin.CreateTenant(ctx, client.Tenant{ID: name, Spec: client.TenantSpec{Organization: c.id, Region: region}})
	if refusedAs(err, "conflict") && strings.Contains(err.Error(), "another organization had a tenant of this name") {
		return "tenant " + name + " is not made: a node may still lead another's endpoints there", nil
	}
	if err != nil {
		return "", err
	}
	w.tenants[name] = &modelTenant{name: name, organization: c.id, region: region, segment: segmentOf(w, region), made: time.Now()}
	return fmt.Sprintf("tenant %s of %s in %s", name, c.id, region), nil
}

func (w *world) deleteTenant(ctx context.Context) (string, error) {
	t, ok := pick(w, w.allTenants(), func(t *modelTenant) bool { return t.name == "wandering" || t.name == "roaming" })
	if !ok {
		return "", nil
	}
	if err := w.admin.DeleteTenant(ctx, t.name); refusedAs(err, "conflict") {
		return "tenant " + t.name + " stays: it is claimed by name, moves, or an app needs it private", nil
	} else if err != nil {
		return "", err
	}
	delete(w.tenants, t.name)
	return "tenant " + t.name + " is deleted", nil
}

func (w *world) startCutover(ctx context.Context) (string, error) {
	t, ok := pick(w, w.allTenants(), func(t *modelTenant) bool { return t.cutover == "" })
	if !ok {
		return "", nil
	}
	accepted := []string{"Integrations", "PathUnproven", "BackendNotIsolated"}
	if w.rand.IntN(3) > 0 {
		accepted = append(accepted, "PublicClients")
	}
	c, err := w.person(t.organization).api.StartCutover(ctx, client.CutoverRequest{Tenant: t.name, Acknowledged: accepted})
	if refusedAs(err, "conflict", "invalid") {
		return "no cutover of " + t.name + ": something stands against it", nil
	}
	if err != nil {
		return "", err
	}
	t.cutover, t.phase = c.ID, c.Status.State
	return fmt.Sprintf("cutover %s of %s starts, accepted: %v", c.ID, t.name, accepted), nil
}

func (w *world) acknowledge(ctx context.Context) (string, error) {
	t, ok := pick(w, w.allTenants(), func(t *modelTenant) bool { return t.phase == "rehearsing" })
	if !ok {
		return "", nil
	}
	_, err := w.person(t.organization).api.AcknowledgeCutover(ctx, t.cutover, "PublicClients")
	if refusedAs(err, "conflict") {
		err = nil // it went on meanwhile
	}
	return "public clients of " + t.name + " may be cut off", err
}

func (w *world) rollBack(ctx context.Context) (string, error) {
	t, ok := pick(w, w.allTenants(), func(t *modelTenant) bool { return t.cutover != "" })
	if !ok {
		return "", nil
	}
	_, err := w.person(t.organization).api.RollBackCutover(ctx, t.cutover, "a person says so")
	if refusedAs(err, "conflict") {
		err = w.observeTenant(ctx, t) // the loop was first
		return "no rollback of " + t.name, err
	}
	if err != nil {
		return "", err
	}
	phase := t.phase
	t.cutover, t.phase, t.enforced = "", "", false
	return fmt.Sprintf("%s is rolled back from %s", t.name, phase), nil
}

// look is somebody at a public door, anywhere, and through any endpoint.
func (w *world) look(ctx context.Context) (string, error) {
	t, _ := pick(w, w.allTenants(), func(*modelTenant) bool { return true })
	if e, ok := pick(w, w.endpoints, func(*modelEndpoint) bool { return true }); ok {
		w.checked++
		return "a look at " + t.name + " by " + e.id, w.checkEndpoint(ctx, e, t.name)
	}
	return "a look at " + t.name, nil
}

// write is an acknowledged write that must be there in the end.
func (w *world) write(ctx context.Context) (string, error) {
	if w.rand.IntN(2) == 0 {
		w.serial++
		id := fmt.Sprintf("written-%d", w.serial)
		if _, err := w.admin.CreateOrganization(ctx, client.Organization{ID: id}); err != nil {
			return "", err
		}
		w.written["organization "+id] = true
		return "organization " + id, nil
	}
	token, err := w.admin.CreateToken(ctx, client.TokenSpec{Name: "written", Role: "organization-viewer", Organization: "globex"})
	if err != nil {
		return "", err
	}
	w.written["token "+token.ID] = true
	return "token " + token.ID, nil
}

// kept demands that everything is there that was acknowledged.
func (w *world) kept(ctx context.Context) error {
	organizations, e1 := w.admin.Organizations(ctx)
	tokens, e2 := w.admin.Tokens(ctx)
	tenants, e3 := w.admin.Tenants(ctx, "")
	endpoints, e4 := w.admin.Endpoints(ctx, "", "")
	if err := errors.Join(e1, e2, e3, e4); err != nil {
		return err
	}
	have := map[string]bool{}
	for _, o := range organizations {
		have["organization "+o.ID] = true
	}
	for _, t := range tokens {
		have["token "+t.ID] = true
	}
	for _, t := range tenants {
		have[fmt.Sprintf("tenant %s of %s in %s", t.ID, t.Spec.Organization, t.Spec.Region)] = true
	}
	for _, e := range endpoints {
		have[fmt.Sprintf("claim of %s by %s for %v", e.ID, e.Spec.Organization, sorted(e.Spec.Tenants))] = true
	}
	want := slices.Sorted(maps.Keys(w.written))
	for _, t := range w.tenants {
		want = append(want, fmt.Sprintf("tenant %s of %s in %s", t.name, t.organization, t.region))
	}
	for _, e := range w.endpoints {
		if e.claimed && !e.revoked {
			want = append(want, fmt.Sprintf("claim of %s by %s for %v", e.id, e.organization, sorted(e.named)))
		}
	}
	for _, what := range want {
		if !have[what] {
			return violation{"no acknowledged write is lost", what, fmt.Sprintf("lost; there are %v", slices.Sorted(maps.Keys(have)))}
		}
	}
	return nil
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

// other is the other node: one of the two always serves.
func (w *world) other(node string) *modelNode {
	for id, n := range w.servers {
		if id != node {
			return n
		}
	}
	return nil
}

func (w *world) pickNode(holds func(*modelNode) bool) (string, *modelNode, bool) {
	id, ok := pick(w, nodeIDs(), func(id string) bool { return holds(w.servers[id]) })
	return id, w.servers[id], ok
}

func (w *world) cutLink(context.Context) (string, error) {
	id, n, ok := w.pickNode(func(n *modelNode) bool { return !n.cut })
	if !ok {
		return "", nil
	}
	n.cut = true
	n.fallsBehind(time.Now())
	return id + " is cut off", w.CutLink(id)
}

func (w *world) restoreLink(context.Context) (string, error) {
	id, n, ok := w.pickNode(func(n *modelNode) bool { return n.cut })
	if !ok {
		return "", nil
	}
	n.cut = false
	return id + " is linked again", w.RestoreLink(id)
}

func (w *world) stopNode(context.Context) (string, error) {
	id, n, ok := w.pickNode(func(n *modelNode) bool { return !n.stopped })
	if !ok || w.other(id).faulty() {
		return "", nil
	}
	n.stopped = true
	n.fallsBehind(time.Now())
	w.takeOut(id)
	return id + " is stopped", w.StopNode(id)
}

func (w *world) startNode(ctx context.Context) (string, error) {
	id, n, ok := w.pickNode(func(n *modelNode) bool { return n.stopped })
	if !ok {
		return "", nil
	}
	n.stopped = false
	if !n.fenced {
		w.putBack(id)
	}
	return id + " is started", w.StartNode(ctx, id)
}

func (w *world) fence(ctx context.Context) (string, error) {
	id, n, ok := w.pickNode(func(n *modelNode) bool { return !n.fenced })
	if !ok || w.other(id).faulty() {
		return "", nil
	}
	w.takeOut(id)
	if _, err := w.admin.FenceNode(ctx, id); err != nil {
		return "", err
	}
	n.fenced, n.unheard, n.fencedAt = true, true, time.Now()
	return id + " is fenced", nil
}

func (w *world) unfence(ctx context.Context) (string, error) {
	id, n, ok := w.pickNode(func(n *modelNode) bool { return n.fenced })
	if !ok {
		return "", nil
	}
	_, err := w.admin.UnfenceNode(ctx, id)
	switch {
	case refusedAs(err, "conflict"):
		return id + " stays fenced: it was not told yet", nil
	case err != nil:
		return "", err
	}
	n.fallsBehind(time.Now())
	n.fenced = false
	if !n.stopped {
		w.putBack(id)
	}
	return id + " is no longer fenced", nil
}

func (w *world) takeOut(node string) { (&story{Sandbox: w.Sandbox}).deregister(node) }
func (w *world) putBack(node string) { (&story{Sandbox: w.Sandbox}).register(node) }

func (w *world) restartControl(ctx context.Context) (string, error) {
	for _, n := range w.servers {
		n.fallsBehind(time.Now())
	}
	return "the control plane starts again", w.RestartControl(ctx)
}
