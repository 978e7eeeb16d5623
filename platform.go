package postern

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Platform is what a SaaS vendor says about itself: names, regions, services,
// apps. It is read from a file (internal/platformfile) and never changes while
// a process runs. The yaml tags are the file's keys.
type Platform struct {
	Name         string        `yaml:"name" json:"name"`         // a DNS label, "immuta"
	Title        string        `yaml:"title" json:"title"`       // for people, "Immuta SaaS"
	Domains      Domains       `yaml:"domains" json:"domains"`   //
	Segments     []Segment     `yaml:"segments" json:"segments"` //
	Apps         []App         `yaml:"apps" json:"apps"`         //
	Integrations []Integration `yaml:"integrations,omitempty" json:"integrations,omitempty"`
	Outbound     Outbound      `yaml:"outbound,omitempty" json:"outbound,omitzero"`
	// AllowPublicBackends permits backends with public addresses, which a
	// platform that is reached over private networks only does not have.
	AllowPublicBackends bool `yaml:"allow_public_backends,omitempty" json:"allow_public_backends,omitempty"`
}

// Domains are the zones in which tenants have names.
type Domains struct {
	Hosted      string `yaml:"hosted" json:"hosted"`           // <tenant>.hosted…: the standard hostname, which never changes
	PrivateLink string `yaml:"privatelink" json:"privatelink"` // <tenant>.privatelink…: the name that a customer's DNS answers
	// SCIM is where tenants' SCIM-only public ingresses have their names,
	// <tenant>.scim…; "": the platform has none. (The seeds name no such domain.)
	SCIM string `yaml:"scim,omitempty" json:"scim,omitempty"`
}

// Segment is a global segment: regions between which tenants' traffic may
// pass. One endpoint in any of its regions serves all the organization's
// tenants of the segment (the seeds).
type Segment struct {
	ID      string   `yaml:"id" json:"id"`       // "na"
	Title   string   `yaml:"title" json:"title"` // "NA"
	Regions []Region `yaml:"regions" json:"regions"`
}

// Region is one region of a segment with its endpoint service.
type Region struct {
	ID                string   `yaml:"id" json:"id"`       // "us-east-1"
	Title             string   `yaml:"title" json:"title"` // "US East (Virginia)"
	ServiceName       string   `yaml:"vpc_endpoint_service_name" json:"vpc_endpoint_service_name"`
	AvailabilityZones []string `yaml:"availability_zone_ids" json:"availability_zone_ids"`
	// Backends are the addresses of each app in this region, by app ID. Only
	// a process with the ingress role needs them.
	Backends map[string][]netip.AddrPort `yaml:"backends,omitempty" json:"-"`
	// PublicIngress are the addresses that the public DNS gives for hosts of
	// this region while they are public.
	PublicIngress []netip.Addr `yaml:"public_ingress,omitempty" json:"-"`
	// SCIMIngress are the addresses of the region's SCIM-only public ingress.
	SCIMIngress []netip.Addr `yaml:"scim_ingress,omitempty" json:"-"`
	// LoadBalancerSources are the networks of the load balancer's nodes: the
	// only ones that the ingress of this region takes a PROXY header from.
	LoadBalancerSources []netip.Prefix `yaml:"load_balancer_sources,omitempty" json:"-"`
}

// Service names the region's endpoint service; it is valid on a platform that
// passed Validate.
func (r Region) Service() ServiceRef {
	ref, _ := ParseServiceName("", r.ServiceName)
	return ref
}

// App is one application of the platform.
type App struct {
	ID    string `yaml:"id" json:"id"`       // "govern"
	Title string `yaml:"title" json:"title"` // "Govern"
	Port  int    `yaml:"port" json:"port"`   // TCP port, 443 in the seeds
	// Hosts are the names of an app that all organizations share; empty for
	// an app of which every tenant has its own host, <tenant>.<hosted domain>.
	Hosts []string `yaml:"hosts,omitempty" json:"hosts,omitempty"`
	// Requires names the app that must be private first.
	Requires string `yaml:"requires,omitempty" json:"requires,omitempty"`
	// SingleSegment: only for organizations whose tenants are in one segment.
	SingleSegment bool `yaml:"single_segment,omitempty" json:"single_segment,omitempty"`
}

// PerTenant tells whether every tenant has a host of its own in this app.
func (a App) PerTenant() bool { return len(a.Hosts) == 0 }

// Integration is something that calls the platform and is cut off by a cutover
// unless it is routed through the endpoint too.
type Integration struct {
	ID            string `yaml:"id" json:"id"`
	Title         string `yaml:"title" json:"title"`
	Documentation string `yaml:"documentation,omitempty" json:"documentation,omitempty"`
	// PublicException names the ingress that can keep it reachable: "scim".
	PublicException string `yaml:"public_exception,omitempty" json:"public_exception,omitempty"`
}

// Outbound is what the platform can reach at its customers.
type Outbound struct {
	Regions   []string `yaml:"regions,omitempty" json:"regions,omitempty"`
	Principal string   `yaml:"principal_arn,omitempty" json:"principal_arn,omitempty"` // the ARN that customers authorize
	// Networks are where the endpoints of data connections are made. A region
	// without one takes no request.
	Networks []OutboundNetwork `yaml:"networks,omitempty" json:"-"`
}

// Validate reports every problem of the platform at once. Fields are paths of
// the platform file, such as "segments[0].regions[1].id".
func (p *Platform) Validate() error {
	var es Errors
	es.Add(CheckLabel("name", p.Name))
	es.Add(CheckHostname("domains.hosted", p.Domains.Hosted))
	es.Add(CheckHostname("domains.privatelink", p.Domains.PrivateLink))
	if p.Domains.Hosted == p.Domains.PrivateLink || within(p.Domains.Hosted, p.Domains.PrivateLink) || within(p.Domains.PrivateLink, p.Domains.Hosted) {
		es.Add(Invalid("domains.privatelink", p.Domains.PrivateLink, "overlaps domains.hosted", "give the privatelink names a zone of their own"))
	}
	if len(p.Segments) == 0 {
		es.Add(Invalid("segments", "", "no segment", "list at least one segment with one region"))
	}
	p.validateSegments(&es)
	p.validateApps(&es)
	p.validateSCIM(&es)
	seen := map[string]bool{}
	for i, in := range p.Integrations {
		at := path("integrations", i)
		es.Add(CheckLabel(at+".id", in.ID))
		es.Add(unique(seen, at+".id", in.ID, "integration"))
		if in.PublicException != "" && in.PublicException != "scim" {
			es.Add(Invalid(at+".public_exception", in.PublicException, "unknown public exception", `the only one is "scim"`))
		}
	}
	seen = map[string]bool{}
	for i, r := range p.Outbound.Regions {
		at := path("outbound.regions", i)
		es.Add(CheckRegionName(at, r))
		es.Add(unique(seen, at, r, "region"))
	}
	if p.Outbound.Principal != "" {
		es.Add(CheckPrincipalARN("outbound.principal_arn", p.Outbound.Principal))
	} else if len(p.Outbound.Regions) > 0 {
		es.Add(Invalid("outbound.principal_arn", "", "missing", "name the principal that customers authorize on their endpoint services"))
	}
	p.validateNetworks(&es)
	return es.Err()
}

func (p *Platform) validateSegments(es *Errors) {
	segments, regions, services := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i, s := range p.Segments {
		at := path("segments", i)
		es.Add(CheckLabel(at+".id", s.ID))
		es.Add(unique(segments, at+".id", s.ID, "segment"))
		if len(s.Regions) == 0 {
			es.Add(Invalid(at+".regions", "", "no region", "list at least one region"))
		}
		for j, r := range s.Regions {
			at := path(at+".regions", j)
			es.Add(CheckRegionName(at+".id", r.ID))
			es.Add(unique(regions, at+".id", r.ID, "region"))
			ref, err := ParseServiceName(at+".vpc_endpoint_service_name", r.ServiceName)
			es.Add(err)
			if err == nil && ref.Region != r.ID {
				es.Add(Invalid(at+".vpc_endpoint_service_name", r.ServiceName, "is a service of "+ref.Region+", not of "+r.ID, "give the name of this region's service"))
			}
			es.Add(unique(services, at+".vpc_endpoint_service_name", r.ServiceName, "endpoint service"))
			if len(r.AvailabilityZones) == 0 {
				es.Add(Invalid(at+".availability_zone_ids", "", "no Availability Zone", "list the zone IDs that the service's load balancer is in"))
			}
			zones := map[string]bool{}
			for k, z := range r.AvailabilityZones {
				at := path(at+".availability_zone_ids", k)
				es.Add(CheckZoneID(at, z))
				es.Add(unique(zones, at, z, "Availability Zone ID"))
			}
			p.validateBackends(es, at, r)
		}
	}
}

func (p *Platform) validateBackends(es *Errors, at string, r Region) {
	for _, app := range slices.Sorted(maps.Keys(r.Backends)) {
		addrs := r.Backends[app]
		at := at + ".backends." + app
		if _, ok := p.App(app); !ok {
			es.Add(Invalid(at, app, "no such app", "use the id of an entry of apps"))
		}
		if len(addrs) == 0 {
			es.Add(Invalid(at, "", "no address", "list at least one address with its port"))
		}
		for i, a := range addrs {
			at := path(at, i)
			switch {
			case !a.IsValid() || a.Port() == 0:
				es.Add(Invalid(at, a.String(), "not an address with a port", `write it as "10.0.1.5:443"`))
			case !p.AllowPublicBackends && !private(a.Addr()):
				es.Add(Invalid(at, a.String(), "a public address", "backends are reached over private networks; if you mean it, set allow_public_backends: true"))
			}
		}
	}
	checkPublicAddresses(es, at+".public_ingress", r.PublicIngress)
	for i, s := range r.LoadBalancerSources {
		at := path(at+".load_balancer_sources", i)
		switch {
		case !s.IsValid():
			es.Add(Invalid(at, s.String(), "not a network", `write it as "10.0.1.0/24"`))
		case s.Bits() == 0:
			es.Add(Invalid(at, s.String(), "trusts every address", "list the load balancer's subnets only: whoever may send a PROXY header chooses the endpoint ID in it"))
		}
	}
}

func (p *Platform) validateApps(es *Errors) {
	if len(p.Apps) == 0 {
		es.Add(Invalid("apps", "", "no app", "list at least one app"))
	}
	ids, hosts := map[string]bool{}, map[string]bool{}
	perTenant := 0
	for i, a := range p.Apps {
		at := path("apps", i)
		es.Add(CheckLabel(at+".id", a.ID))
		es.Add(unique(ids, at+".id", a.ID, "app"))
		if a.Port < 1 || a.Port > 65535 {
			es.Add(Invalid(at+".port", "", "not a TCP port", "give a number from 1 to 65535; the seeds' platform uses 443"))
		}
		if a.PerTenant() {
			perTenant++
		}
		for j, h := range a.Hosts {
			at := path(at+".hosts", j)
			es.Add(CheckHostname(at, h))
			es.Add(unique(hosts, at, h, "host"))
			if within(h, p.Domains.Hosted) || within(h, p.Domains.PrivateLink) {
				es.Add(Invalid(at, h, "is where tenants' hosts are", "choose a name outside domains.hosted and domains.privatelink"))
			}
		}
	}
	for i, a := range p.Apps {
		if a.Requires != "" && (!ids[a.Requires] || a.Requires == a.ID) {
			es.Add(Invalid(path("apps", i)+".requires", a.Requires, "no such other app", "use the id of another entry of apps"))
		}
	}
	if perTenant > 1 {
		es.Add(Invalid("apps", "", "more than one app without hosts", "a tenant's host belongs to one app; list the shared hosts of the others"))
	}
}

// App finds an app by its ID.
func (p *Platform) App(id string) (App, bool) {
	i := slices.IndexFunc(p.Apps, func(a App) bool { return a.ID == id })
	if i < 0 {
		return App{}, false
	}
	return p.Apps[i], true
}

// TenantApp is the app of which every tenant has its own host.
func (p *Platform) TenantApp() (App, bool) {
	i := slices.IndexFunc(p.Apps, App.PerTenant)
	if i < 0 {
		return App{}, false
	}
	return p.Apps[i], true
}

// Region finds a region and the segment it belongs to.
func (p *Platform) Region(id string) (Region, Segment, bool) {
	for _, s := range p.Segments {
		for _, r := range s.Regions {
			if r.ID == id {
				return r, s, true
			}
		}
	}
	return Region{}, Segment{}, false
}

// Segment finds a segment by its ID.
func (p *Platform) Segment(id string) (Segment, bool) {
	i := slices.IndexFunc(p.Segments, func(s Segment) bool { return s.ID == id })
	if i < 0 {
		return Segment{}, false
	}
	return p.Segments[i], true
}

// RegionIDs lists all regions in the file's order.
func (p *Platform) RegionIDs() []string {
	var ids []string
	for _, s := range p.Segments {
		for _, r := range s.Regions {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// Host is the tenant's standard hostname.
func (p *Platform) Host(tenant string) string { return tenant + "." + p.Domains.Hosted }

// PrivateLinkHost is the name that the customer's own DNS must answer.
func (p *Platform) PrivateLinkHost(tenant string) string { return tenant + "." + p.Domains.PrivateLink }

func within(name, zone string) bool {
	return zone != "" && (name == zone || strings.HasSuffix(name, "."+zone))
}

// private tells addresses that are never routed on the internet: loopback,
// RFC 1918, RFC 4193, RFC 6598 (100.64.0.0/10) and RFC 2544 (198.18.0.0/15).
func private(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate() || sharedSpace.Contains(a) || benchmarkSpace.Contains(a)
}

var (
	sharedSpace    = netip.MustParsePrefix("100.64.0.0/10")
	benchmarkSpace = netip.MustParsePrefix("198.18.0.0/15")
)

func unique(seen map[string]bool, field, v, kind string) *Error {
	if v == "" || !seen[v] {
		seen[v] = true
		return nil
	}
	return Invalid(field, v, "duplicate "+kind, "name it once")
}

func path(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }
