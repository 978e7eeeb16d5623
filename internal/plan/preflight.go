package plan

import (
	"fmt"
	"slices"

	"github.com/postern-net/postern"
)

// PreflightView is what stands for or against a tenant's cutover.
type PreflightView struct {
	Tenant        postern.Tenant
	Ready         []string // ready endpoints that reach the tenant
	Proven        []string // endpoints that a probe came through
	Isolation     []Isolation
	PublicSources []string // who comes publicly
	Waiting       []string // nodes that are not in step
	Nodes         int
}

// Isolation is what the nodes found when they asked one of the tenant's
// backends for another host than was admitted.
type Isolation struct {
	Address  string
	Isolated bool
	Detail   string
}

// Preflight lists what stands against a cutover, with what was seen.
func Preflight(p *postern.Platform, v PreflightView) []postern.Blocker {
	var out []postern.Blocker
	add := func(blocks, may bool, name string, evidence []string, format string, args ...any) {
		if blocks {
			out = append(out, postern.Blocker{
				Name: name, Message: fmt.Sprintf(format, args...), Evidence: evidence, Acknowledgeable: may,
				EnforceOnly: name == postern.BlockerPublicClients,
			})
		}
	}
	region, _, _ := p.Region(v.Tenant.Region)
	add(len(region.PublicIngress) == 0, false, postern.BlockerNoPublicDNS, nil,
		"the platform names no public_ingress for region %s, so that there would be no fallback; add it to the platform file", v.Tenant.Region)
	add(len(v.Ready) == 0, false, postern.BlockerNoEndpoint, nil,
		"no ready endpoint reaches the tenant; create one and claim it (`postern endpoint claim`)")
	unproven := slices.DeleteFunc(slices.Clone(v.Ready), func(id string) bool { return slices.Contains(v.Proven, id) })
	add(len(unproven) > 0, true, postern.BlockerPathUnproven, unproven,
		"no probe has come through each endpoint in the last day; send one from the network that uses it (`postern tenant probe %s`)", v.Tenant.Name)
	var open []string
	for _, i := range v.Isolation {
		if !i.Isolated {
			open = append(open, i.Address+": "+i.Detail)
		}
	}
	add(len(open) > 0 || len(v.Isolation) == 0, true, postern.BlockerNotIsolated, open,
		"it is not known of every backend that it answers 421 to a host that was not admitted; see docs/backends.md")
	add(len(v.PublicSources) > 0, true, postern.BlockerPublicClients, v.PublicSources,
		"clients still come publicly and would be cut off; route them through the endpoint")
	var integrations []string
	for _, in := range p.Integrations {
		if in.PublicException == "scim" && v.Tenant.SCIM != nil && p.CanSCIM(v.Tenant.Region) == nil {
			continue // it has a way of its own, which no cutover touches
		}
		text := in.Title
		if in.PublicException != "" {
			text += " (or ask for a public " + in.PublicException + " ingress)"
		}
		integrations = append(integrations, text)
	}
	add(len(integrations) > 0, true, postern.BlockerIntegrations, integrations,
		"integrations that call the tenant are cut off unless they are routed through the endpoint too")
	add(v.Nodes == 0 || len(v.Waiting) > 0, false, postern.BlockerNodes, v.Waiting,
		"every node must be in step before a cutover starts; bring it back, or fence it (`postern node fence`)")
	return out
}

// AgainstStart lists the blockers that keep a rehearsal from beginning: those
// that a person neither mended nor accepted.
func AgainstStart(bs []postern.Blocker, acknowledged []string) (left []postern.Blocker) {
	for _, b := range bs {
		if b.EnforceOnly {
			continue
		}
		if !b.Acknowledgeable || !slices.Contains(acknowledged, b.Name) {
			left = append(left, b)
		}
	}
	return left
}
