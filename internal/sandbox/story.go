package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/localaws"
)

// Step is one line of the story as it was played.
type Step struct {
	Name     string        `json:"name"`
	Title    string        `json:"title"`
	Passed   bool          `json:"passed"`
	Duration time.Duration `json:"duration_ns"`
	Detail   string        `json:"detail,omitempty"` // what was seen, or what went wrong
}

// story is the state that its steps share.
type story struct {
	*Sandbox
	example, globex person
	catalogue       []client.Offer
	home            client.Offer          // of tenant example
	ids             map[string]string     // endpoint IDs by the story's names for them
	doors           map[string]netip.Addr // an ENI of each
	alert           []byte                // how refusals look on the wire
	seen            string                // detail of the current step
	moving          client.Cutover        // of tenant example
	beforeRollback  int64                 // sequence number of the last event then
	out             outboundStory
}

type chapter struct {
	name, title string
	play        func(*story, context.Context) error
}

// The story of both seeds. Mutants name these steps.
var chapters = []chapter{
	{"clean-slate", "whatever an earlier run left is revoked and gone", (*story).cleanSlate},
	{"catalogue", "the catalogue offers the tenant's region first", (*story).readCatalogue},
	{"unproven-account", "an unproven account cannot create an endpoint: the service does not exist for it", (*story).unproven},
	{"account-proof", "an account is proven; a replayed and a foreign proof are refused", (*story).proofs},
	{"pending-endpoint", "an endpoint is created and waits for acceptance: no byte passes", (*story).pending},
	{"foreign-claim", "another organization's claim of it is refused", (*story).foreignClaim},
	{"claim", "it is claimed for two tenants, accepted and ready", (*story).claim},
	{"private-access", "both tenants answer through the endpoint, with verification on, and the log shows its ID", (*story).access},
	{"foreign-server-name", "another organization's endpoint is refused that tenant: an alert, and the denial is recorded", (*story).foreignName},
	{"misdirected-host", "its own server name with the other tenant's Host is answered 421", (*story).misdirected},
	{"forged-header", "a PROXY header from anywhere but the load balancer is refused, by the app too", (*story).forged},
	{"outside-the-vpc", "the endpoint answers nobody outside of its VPC", (*story).outside},
	{"unclaimed", "a pending connection that nobody claimed is listed and never accepted", (*story).unclaimed},
	{"named-tenant", "a second endpoint in another region, for one tenant by name, reaches that one only", (*story).named},
	{"tenant-withdrawn", "the first endpoint loses one of its tenants: that one's open connection is cut, the other's is not", (*story).withdrawn},
	{"private-dns", "the customer's CNAME resolves in its VPC and nowhere else", (*story).privateDNS},
	{"path-probe", "a probe through the endpoint is refused and recorded; another's proves nothing", (*story).pathProbe},
	{"request-too-early", "an app that organizations share is refused privately before a tenant is private, and public for all", (*story).requestTooEarly},
	{"rehearsal", "rehearsal: the standard hostname goes through the endpoint in the VPC, the internet notices nothing", (*story).rehearsal},
	{"still-public", "preflight names the public client that still comes, by its source, and holds the cutover", (*story).stillPublic},
	{"cutover", "a node that was cut off holds it back until it is fenced; nobody private notices anything", (*story).cutover},
	{"public-closed", "the internet gets no TLS session at any address of the platform, the VPC 200", (*story).publicClosed},
	{"scim-ingress", "on request, and not before, the identity provider reaches the private tenant by SCIM", (*story).scimIngress},
	{"scim-only", "nothing but SCIM passes there, and no other door has opened", (*story).scimOnly},
	{"scim-off", "from other networks, or turned off, it refuses and cuts what is open", (*story).scimOff},
	{"request-app", "then it is reached by the same endpoint: one's own data, and nobody else's", (*story).requestApp},
	{"request-limits", "a tenant in another segment is told what it breaks; that, and turning it off, cuts it", (*story).requestLimits},
	{"rollback", "a person rolls back: the internet gets 200 again", (*story).rollback},
	{"request-lost", "with the last private tenant goes what requires one: an alert, and an event that says why", (*story).requestLost},
	{"endpoint-deleted", "the first endpoint is deleted: state, condition and event follow, traffic stops", (*story).deleted},
	{"turns-back", "in another rehearsal the endpoint dies: back by itself, the internet never notices", (*story).turnsBack},
	{"other-segments", "the same in the other segments", (*story).others},
	{"account-removed", "an account is removed: routes, connections and principal go", (*story).revoked},
	{"outbound-request", "the way out: a request is told all of its problems at once, each with its reason", (*story).refusedRequest},
	{"outbound-principal", "a proven hostname, and the condition says which principal to authorize; nothing is made", (*story).principal},
	{"outbound-acceptance", "a service that asks its owner nothing is refused by its setting's name", (*story).acceptanceOff},
	{"outbound-pending", "authorized: one endpoint waits for the owner's acceptance, and workloads are told so", (*story).pendingConnection},
	{"outbound-ownership", "another organization names that service for itself: refused, nothing is made", (*story).foreignService},
	{"outbound-certificate", "accepted: each kind of bad certificate is refused for its own reason", (*story).certificates},
	{"outbound-query", "with a good one, Trino's client runs SELECT 1 by the proxy and straight, verification on", (*story).queries},
	{"outbound-isolation", "another tenant's workload reaches its own cluster and not this one, whatever it asks for", (*story).foreignWorkload},
	{"outbound-replaced", "the certificate is replaced by a bad one: condition, event, 503, and no other path", (*story).replaced},
	{"outbound-token", "a workload's token is revoked: its open session is cut, the other's is not", (*story).tokenRevoked},
	{"outbound-deleted", "deleted: workloads are refused at once, and nothing is left in the cloud", (*story).connectionDeleted},
}

// Check plays the story and calls each for every step as it ends. It stops at
// the first failure, because later steps build on earlier ones.
func (s *Sandbox) Check(ctx context.Context, each func(Step)) (passed bool) {
	st := s.newStory()
	for _, c := range chapters {
		st.seen = ""
		start := time.Now()
		ctx, cancel := context.WithTimeout(ctx, stepTimeout)
		err := c.play(st, ctx)
		cancel()
		step := Step{Name: c.name, Title: c.title, Passed: err == nil, Duration: time.Since(start), Detail: st.seen}
		if err != nil {
			step.Detail = err.Error()
		}
		each(step)
		if err != nil {
			return false
		}
	}
	return true
}

func (s *Sandbox) newStory() *story {
	return &story{
		Sandbox: s, example: s.person("example-corp"), globex: s.person("globex"),
		ids: map[string]string{}, doors: map[string]netip.Addr{},
	}
}

const stepTimeout = 45 * time.Second

func (st *story) saw(format string, args ...any) { st.seen = fmt.Sprintf(format, args...) }

// cleanSlate takes everything back that an earlier run asked for.
func (st *story) cleanSlate(ctx context.Context) error {
	removed := 0
	for _, c := range customers(st.platform) {
		p := st.person(c.id)
		if err := takeBack(ctx, p, c, &removed); err != nil {
			return err
		}
	}
	if err := st.reopen(ctx); err != nil {
		return err
	}
	if err := st.withdrawConnections(ctx, &removed); err != nil {
		return err
	}
	if err := st.admin.DeleteTenant(ctx, farTenant); err != nil && !client.HasCode(err, "not_found") {
		return err
	}
	err := until(ctx, func() error {
		accounts, err := st.admin.Accounts(ctx, "")
		if err != nil {
			return err
		}
		for _, a := range accounts {
			if _, ours := st.places.accounts[a.Spec.Organization]; ours {
				return fmt.Errorf("account %s is still %s", a.ID, a.Status.State)
			}
		}
		return nil
	})
	st.saw("%d accounts, endpoints, zones and cutovers were left", removed)
	return err
}

// reopen brings every node back that an earlier run left fenced.
func (st *story) reopen(ctx context.Context) error {
	nodes, err := st.admin.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if !n.Status.Fenced {
			continue
		}
		if err := st.unfence(ctx, n.ID); err != nil {
			return err
		}
	}
	return nil
}

// unfence waits until a node was told of its fence, as must be.
func (st *story) unfence(ctx context.Context, node string) error {
	return until(ctx, func() error {
		_, err := st.admin.UnfenceNode(ctx, node)
		return err
	})
}

func takeBack(ctx context.Context, p person, c customer, removed *int) error {
	for _, t := range c.tenants {
		if err := takeBackSCIM(ctx, p, t.Name, removed); err != nil {
			return err
		}
		cutovers, err := p.api.Cutovers(ctx, t.Name)
		if err != nil {
			return err
		}
		for _, k := range cutovers {
			if k.Status.State == "rolled-back" {
				continue
			}
			*removed++
			if _, err := p.api.RollBackCutover(ctx, k.ID, "a new story begins"); err != nil {
				return err
			}
		}
	}
	if err := takeBackApps(ctx, p, removed); err != nil {
		return err
	}
	zones, err := p.deleteZones(ctx)
	*removed += zones
	if err != nil {
		return err
	}
	accounts, err := p.api.Accounts(ctx, p.organization)
	if err != nil {
		return err
	}
	for _, a := range accounts {
		*removed++
		if err := p.api.DeleteAccount(ctx, a.ID); err != nil {
			return err
		}
	}
	for _, n := range c.networks {
		es, err := p.endpoints(ctx, n.region)
		if err != nil {
			return err
		}
		for _, e := range es {
			*removed++
			if err := p.deleteEndpoints(ctx, n.region, *e.VpcEndpointId); err != nil {
				return err
			}
		}
	}
	return nil
}

func (st *story) readCatalogue(ctx context.Context) error {
	all, err := st.example.api.Regions(ctx, "", "")
	if err != nil {
		return err
	}
	segments := map[string]bool{}
	for _, o := range all {
		segments[o.Segment] = true
	}
	if len(segments) != len(st.platform.Segments) || len(all) != len(st.platform.RegionIDs()) {
		return fmt.Errorf("%d segments and %d services, want %d and %d", len(segments), len(all), len(st.platform.Segments), len(st.platform.RegionIDs()))
	}
	// The tenants' homes are the first and the last region of the segment, so
	// that the platform's own order is not taken for the tenant's.
	first := st.platform.Segments[0]
	var offers []client.Offer
	for _, t := range slices.Backward(customers(st.platform)[0].tenants) {
		if offers, err = st.example.api.Regions(ctx, t.Name, ""); err != nil {
			return err
		}
		if len(offers) != len(first.Regions) || !offers[0].Home || offers[0].Region != t.Region {
			return fmt.Errorf("for tenant %s the catalogue offers %+v, want the %d regions of its segment and %s first", t.Name, offers, len(first.Regions), t.Region)
		}
	}
	if _, err := st.globex.api.Regions(ctx, "example", ""); !client.HasCode(err, "not_found") {
		return fmt.Errorf("another organization asks for tenant example and gets %s, want not_found", got(err))
	}
	st.catalogue, st.home = all, offers[0]
	st.saw("%d segments, %d services; %s first for tenant example", len(segments), len(all), st.home.Region)
	return nil
}

// create makes an endpoint as soon as AWS knows the principal.
func (st *story) create(ctx context.Context, p person, name, network string, o client.Offer) error {
	return until(ctx, func() error {
		id, err := p.createEndpoint(ctx, st.places.networks[network], o)
		st.ids[name] = id
		return err
	})
}

// door finds an address of an endpoint by the VPC's resolver.
func (st *story) door(ctx context.Context, p person, name, network, region string) error {
	return until(ctx, func() error {
		_, host, err := p.endpointState(ctx, region, st.ids[name])
		if err != nil {
			return err
		}
		if host == "" {
			return errors.New("AWS tells no DNS name yet")
		}
		st.doors[name], err = st.visitor(network).resolve(ctx, host)
		return err
	})
}

func (st *story) pending(ctx context.Context) error {
	if err := st.create(ctx, st.example, "first", "example-corp", st.home); err != nil {
		return err
	}
	state, _, err := st.example.endpointState(ctx, st.home.Region, st.ids["first"])
	if err != nil {
		return err
	}
	if state != "pendingacceptance" {
		return fmt.Errorf("AWS reports %s, want pendingAcceptance", state)
	}
	if err := st.door(ctx, st.example, "first", "example-corp", st.home.Region); err != nil {
		return err
	}
	// Not even to an ingress that would refuse them.
	if r, err := st.visit(ctx, "example-corp", "first", "example", "example"); err == nil || errors.Is(err, errAlert) {
		return fmt.Errorf("bytes pass before acceptance: status %d, %s", r.status, got(err))
	}
	st.saw("%s is pendingAcceptance", st.ids["first"])
	return nil
}

func (st *story) foreignClaim(ctx context.Context) error {
	claim := client.Claim{Organization: "globex", VPCEndpointIDs: []string{st.ids["first"]}}
	_, foreign := st.globex.api.ClaimEndpoints(ctx, claim, false)
	if !client.HasCode(foreign, "not_found") {
		return fmt.Errorf("the claim gets %s, want not_found", got(foreign))
	}
	if _, err := st.globex.api.ClaimEndpoints(ctx, client.Claim{Organization: "example-corp", VPCEndpointIDs: claim.VPCEndpointIDs}, false); !client.HasCode(err, "not_found") {
		return fmt.Errorf("a claim in the other organization's name gets %s, want not_found", got(err))
	}
	// Not even Example Corp may claim it for somebody else's tenant.
	claim = client.Claim{Organization: "example-corp", VPCEndpointIDs: claim.VPCEndpointIDs, Tenants: []string{"globex"}}
	if _, err := st.example.api.ClaimEndpoints(ctx, claim, false); !client.HasCode(err, "invalid") {
		return fmt.Errorf("a claim for another organization's tenant gets %s, want invalid", got(err))
	}
	return nil
}

func (st *story) claim(ctx context.Context) error {
	return st.claimReady(ctx, st.example, "first", "example", "example-dev")
}

// claimReady claims an endpoint and waits until it is ready.
func (st *story) claimReady(ctx context.Context, p person, name string, tenants ...string) error {
	if _, err := p.api.ClaimEndpoints(ctx, client.Claim{Organization: p.organization, VPCEndpointIDs: []string{st.ids[name]}, Tenants: tenants}, false); err != nil {
		return err
	}
	return until(ctx, func() error {
		e, err := p.api.Endpoint(ctx, st.ids[name])
		if err != nil {
			return err
		}
		if e.Status.State != "ready" {
			return fmt.Errorf("the endpoint is %s: %s", e.Status.State, conditions(e))
		}
		st.saw("%s is ready for %v, approved by %s", e.ID, e.Status.Hostnames, e.Status.ApprovedBy)
		return nil
	})
}

func conditions(e client.Endpoint) (text string) {
	for _, c := range e.Status.Conditions {
		if c.Status != "True" {
			text += fmt.Sprintf("%s=%s (%s: %s) ", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	return text
}

// visit asks for a tenant through an endpoint, from a network.
func (st *story) visit(ctx context.Context, network, endpoint, serverName, host string) (reply, error) {
	return st.visitor(network).get(ctx, netip.AddrPortFrom(st.doors[endpoint], st.httpsPort), st.platform.Host(serverName), st.platform.Host(host))
}

// answered demands that a tenant answers through an endpoint, by every node,
// and that its app was told which endpoint and organization that was. What the
// app was told does not get better by asking again.
func (st *story) answered(ctx context.Context, network, endpoint, tenant string) error {
	return st.everyNode(func() error {
		r, err := st.visit(ctx, network, endpoint, tenant, tenant)
		if err != nil {
			return fmt.Errorf("%s through %s: %w", tenant, st.ids[endpoint], err)
		}
		if r.status != 200 || r.app.Tenant != tenant || r.app.VPCEndpointID != st.ids[endpoint] || r.app.Organization != st.organization(network) {
			return fmt.Errorf("%w: %s through %s of %s: status %d from %+v", errFinal, tenant, st.ids[endpoint], st.organization(network), r.status, r.app)
		}
		return nil
	})
}

// everyNode visits as often as there are nodes: a load balancer gives each new
// connection through an endpoint to the next one.
func (st *story) everyNode(visit func() error) error {
	for range st.places.nodes {
		if err := visit(); err != nil {
			return err
		}
	}
	return nil
}

// organization is whose network it is.
func (st *story) organization(network string) string {
	for organization, a := range st.places.accounts {
		if a.ID == st.vpc(network).Account {
			return organization
		}
	}
	return ""
}

// refused demands an alert, from every node.
func (st *story) refused(ctx context.Context, network, endpoint, tenant string) error {
	return st.everyNode(func() error {
		r, err := st.visit(ctx, network, endpoint, tenant, tenant)
		if !errors.Is(err, errAlert) {
			return fmt.Errorf("%s through %s: status %d, %s, want an alert", tenant, st.ids[endpoint], r.status, got(err))
		}
		return nil
	})
}

func (st *story) access(ctx context.Context) error {
	if err := until(ctx, func() error { return st.answered(ctx, "example-corp", "first", "example") }); err != nil {
		return err
	}
	if err := until(ctx, func() error { return st.answered(ctx, "example-corp", "first", "example-dev") }); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	line, err := st.logged(ctx, st.ids["first"], st.platform.Host("example"))
	st.saw("200 from both; the log: %s", line)
	return err
}

// reportTimeout is how long it may take until what happened at the doors can be
// read: it is reported every second.
const reportTimeout = 8 * time.Second

// errFinal is of errors that trying again would not change.
var errFinal = errors.New("a wrong answer")

// until tries again until it works, fails for good or the step's time is up,
// and then tells the last error.
func until(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil || errors.Is(err, errFinal) {
			return err
		}
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("gave up waiting: %w", err)
		case <-timer.C:
		}
	}
}

// got tells an outcome that was not wanted.
func got(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

// offer finds a region in the catalogue.
func (st *story) offer(region string) client.Offer {
	i := slices.IndexFunc(st.catalogue, func(o client.Offer) bool { return o.Region == region })
	if i < 0 {
		return client.Offer{}
	}
	return st.catalogue[i]
}

// vpc is a network of the world.
func (st *story) vpc(network string) localaws.VPC { return st.places.networks[network] }
