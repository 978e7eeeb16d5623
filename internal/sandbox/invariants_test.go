package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/platformfile"
	"github.com/postern-net/postern/internal/serve"
)

// world is a sandbox, what it should be like, and who acts in it.
type world struct {
	*Sandbox
	model
	rand      *rand.Rand
	catalogue []client.Offer
	serial    int
	checked   int            // connections
	phases    map[string]int // of cutovers, as they were seen to begin
	did       []string
}

// TestInvariants does what people, AWS and accidents do, in random order, and
// looks with real connections whether any promise of docs/architecture.md is
// broken: the pairs of endpoint and tenant that an operation changed after
// each, and everything against everything every hundred.
//
// POSTERN_OPS is how many operations, POSTERN_SEED which. A seed draws the same
// choices again; how the processes take turns is not in it. With POSTERN, a
// program, Postern runs in processes of its own, and to stop one is to kill it.
func TestInvariants(t *testing.T) {
	operations := setting(t, "POSTERN_OPS", 150)
	seed := setting(t, "POSTERN_SEED", time.Now().UnixNano())
	t.Logf("POSTERN_OPS=%d POSTERN_SEED=%d", operations, seed)
	w := openWorld(t, seed)
	start := time.Now()
	if err := w.run(t.Context(), int(operations)); err != nil {
		t.Fatalf("seed %d, operation %d: %v\nthe operations so far:\n%s", seed, len(w.did), err, strings.Join(w.did, "\n"))
	}
	t.Logf("%d operations, %d connections checked, cutovers %v, %s", len(w.did), w.checked, w.phases, time.Since(start).Round(time.Millisecond))
	if w.checked < int(operations) {
		t.Errorf("only %d connections were checked: the test proves nothing", w.checked)
	}
}

func setting(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// openWorld starts a sandbox in which an operator approves every claim, and
// proves every account.
func openWorld(t *testing.T, seed int64) *world {
	t.Helper()
	p, err := platformfile.Load("immuta")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "sandbox.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	var anyPort uint16
	var run func(context.Context, string) (func(), error) // nil: in this process
	if binary := os.Getenv("POSTERN"); binary != "" {
		run = killable(binary, log)
		t.Log("processes are killed with SIGKILL")
	}
	s, err := Start(t.Context(), Options{
		StateDir: t.TempDir(), Platform: p, HTTPSPort: &anyPort, DNSPort: &anyPort, Logger: slog.New(slog.NewTextHandler(log, nil)), Approval: "operator", Serve: run,
		Cutover: &serve.Cutover{Observe: 500 * time.Millisecond, Window: time.Minute, Clients: 3, Drain: 200 * time.Millisecond, NodeSilence: 5 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	w := &world{
		Sandbox: s, rand: rand.New(rand.NewPCG(uint64(seed), 0)), phases: map[string]int{},
		model: model{
			proven: map[string]bool{}, tenants: map[string]*modelTenant{}, servers: map[string]*modelNode{},
			pairs: map[pair]*since{}, written: map[string]bool{},
		},
	}
	if w.catalogue, err = s.admin.Regions(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	for _, id := range nodeIDs() {
		w.servers[id] = &modelNode{}
	}
	for _, c := range customers(p) {
		for _, tenant := range c.tenants {
			w.tenants[tenant.Name] = &modelTenant{name: tenant.Name, organization: c.id, region: tenant.Region, segment: segmentOf(w, tenant.Region)}
		}
	}
	return w
}

// run does so many operations, and checks as it goes.
func (w *world) run(ctx context.Context, operations int) error {
	for len(w.did) < operations {
		did, err := w.draw().do(w, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", did, err)
		}
		if did == "" {
			continue
		}
		w.did = append(w.did, did)
		if err := w.step(ctx); err != nil {
			return err
		}
		if len(w.did)%100 != 0 && len(w.did) != operations {
			continue
		}
		if err := w.settle(ctx); err != nil {
			return err
		}
		w.tidy()
	}
	return nil
}

// step checks the pairs that the last operation changed, and one tenant in
// public.
func (w *world) step(ctx context.Context) error {
	changed := w.turn(time.Now())
	tenant, _ := pick(w, w.allTenants(), func(*modelTenant) bool { return true })
	if err := w.observeTenant(ctx, tenant); err != nil {
		return err
	}
	var checks []func() error
	for _, p := range changed {
		e := w.endpoint(p.endpoint)
		checks = append(checks, func() error { return w.checkEndpoint(ctx, e, p.tenant) })
		for node := range w.servers {
			checks = append(checks, func() error { return w.checkNode(ctx, node, e, p.tenant, false) })
		}
	}
	if len(w.did)%4 == 0 {
		region := w.platform.RegionIDs()[w.rand.IntN(len(w.platform.RegionIDs()))]
		for node := range w.servers {
			checks = append(checks, func() error { return w.checkPublic(ctx, node, region, tenant, false) })
		}
	}
	w.checked += len(checks)
	return errors.Join(each(checks)...)
}

// observe reads what the API promises by now.
func (w *world) observe(ctx context.Context) error {
	for _, t := range w.allTenants() {
		if err := w.observeTenant(ctx, t); err != nil {
			return err
		}
	}
	for _, e := range w.endpoints {
		if err := w.observeEndpoint(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// observeTenant follows a tenant's cutover. What was enforced goes back by a
// person only.
func (w *world) observeTenant(ctx context.Context, t *modelTenant) error {
	if t.cutover == "" || t.phase == "complete" {
		return nil
	}
	c, err := w.admin.Cutover(ctx, t.cutover)
	if err != nil {
		return err
	}
	was := t.phase
	t.phase = c.Status.State
	if was != t.phase {
		w.phases[t.phase]++
	}
	switch t.phase {
	case "rolled-back":
		if t.enforced || !c.Status.EnforcedAt.IsZero() {
			return violation{"once enforced only a person goes back", t.name, "rolled back by " + c.Status.EndedBy + ": " + c.Status.EndedWhy}
		}
		t.cutover, t.phase = "", ""
	case "rehearsing":
		if t.enforced {
			return violation{"once enforced only a person goes back", t.name, "rehearsing after " + was}
		}
	default:
		t.enforced = true
	}
	return nil
}

func (w *world) observeEndpoint(ctx context.Context, e *modelEndpoint) error {
	if !e.at.IsValid() {
		if info, err := w.aws.Endpoint(e.id); err == nil && len(info.Addresses) > 0 {
			e.at, _ = netip.ParseAddr(info.Addresses[0])
		}
	}
	if !e.revoked || e.gone {
		return nil
	}
	_, err := w.admin.Endpoint(ctx, e.id)
	if client.HasCode(err, "not_found") {
		e.gone, err = true, nil
	}
	return err
}

// inStepAgain demands that every node that can be is in step.
func (w *world) inStepAgain(ctx context.Context) error {
	nodes, err := w.admin.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		of, ingress := w.servers[n.ID]
		if !ingress || of.faulty() { // the way out is no part of the model
			continue
		}
		if n.Status.State != "ready" {
			return fmt.Errorf("node %s is %s", n.ID, n.Status.State)
		}
		of.behind, of.unheard = time.Time{}, false
	}
	return nil
}

// tidy forgets the endpoints that nothing is left of, but for the last ones.
func (w *world) tidy() {
	for i := 0; i < len(w.endpoints) && len(w.endpoints) > mostEndpoints/2; {
		if e := w.endpoints[i]; e.gone || e.doomed && !e.claimed {
			w.endpoints = append(w.endpoints[:i:i], w.endpoints[i+1:]...)
			continue
		}
		i++
	}
}
