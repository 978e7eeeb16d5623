package serve

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/postern-net/postern"
)

// Egress is one region's way out, from the tenants' workloads to their data
// connections.
type Egress struct {
	Region string `yaml:"region"`
	// Source is the local address of connections to endpoints; left out: the
	// routing table's.
	Source netip.Addr `yaml:"source"`
	// Connect takes HTTP CONNECT from any tenant's workloads; left out: nobody
	// does.
	Connect         netip.AddrPort `yaml:"connect"`
	CertificateFile string         `yaml:"certificate_file,omitempty"` // PEM; with it the proxy speaks TLS
	KeyFile         string         `yaml:"key_file,omitempty"`
	// ClearText lets tokens pass a network in clear text.
	ClearText bool           `yaml:"clear_text,omitempty"`
	Tenants   []EgressTenant `yaml:"tenants,omitempty"`
}

// EgressTenant is what is bound to one tenant: whoever reaches these addresses
// counts as its workload.
type EgressTenant struct {
	Tenant string `yaml:"tenant"`
	// Transparent take TLS straight; all have one address, which DNS answers.
	Transparent []netip.AddrPort `yaml:"transparent"`
	// DNS answers the hostnames of the tenant's data connections; left out:
	// nobody does.
	DNS netip.AddrPort `yaml:"dns"`
}

func (c *Config) validateEgress(es *postern.Errors, p *postern.Platform) {
	if c.has(RoleEgress) != (len(c.Egress) > 0) {
		es.Add(postern.Invalid("egress", "", "goes with the role egress", "list the regions' ways out where roles has egress, and only there"))
	}
	regions, owners, taken := map[string]bool{}, map[netip.Addr]string{}, map[netip.AddrPort]string{}
	// once finds an address that two listeners would share; a DNS server may
	// share one with a listener on another port.
	once := func(at string, a netip.AddrPort) {
		if other, ok := taken[a]; ok {
			es.Add(postern.Invalid(at, a.String(), "is "+other+" too", "give each listener its own address or port"))
		}
		taken[a] = at
	}
	for i, e := range c.Egress {
		at := fmt.Sprintf("egress[%d]", i)
		switch {
		case !slices.Contains(p.Outbound.Regions, e.Region):
			es.Add(postern.Invalid(at+".region", e.Region, "not a region of the platform's outbound.regions", "use one of "+strings.Join(p.Outbound.Regions, ", ")))
		case regions[e.Region]:
			es.Add(postern.Invalid(at+".region", e.Region, "named twice", "give each region one entry"))
		}
		regions[e.Region] = true
		if e.Source.IsValid() && !e.Source.Is4() {
			es.Add(postern.Invalid(at+".source", e.Source.String(), "not an IPv4 address", "give the address that the endpoints' security group lets in, or leave it out"))
		}
		e.validateConnect(at, es)
		if e.Connect.IsValid() {
			once(at+".connect", e.Connect)
		}
		for j, t := range e.Tenants {
			at := fmt.Sprintf("%s.tenants[%d]", at, j)
			t.validate(at, es)
			for k, a := range t.Transparent {
				once(fmt.Sprintf("%s.transparent[%d]", at, k), a)
				if owner, ok := owners[a.Addr()]; ok && owner != t.Tenant {
					es.Add(postern.Invalid(fmt.Sprintf("%s.transparent[%d]", at, k), a.String(), "the address of tenant "+owner+" too", "give each tenant an address of its own: who reaches it counts as its workload"))
				}
				owners[a.Addr()] = t.Tenant
			}
			if t.DNS.IsValid() {
				once(at+".dns", t.DNS)
			}
		}
	}
}

func (e Egress) validateConnect(at string, es *postern.Errors) {
	switch tls := e.CertificateFile != "" || e.KeyFile != ""; {
	case !e.Connect.IsValid() && len(e.Tenants) == 0:
		es.Add(postern.Invalid(at+".connect", "", "missing, and there is no tenant's listener", "give the address and port of the proxy, or list tenants"))
	case !e.Connect.IsValid() && (tls || e.ClearText):
		es.Add(postern.Invalid(at+".connect", "", "missing", "give the address and port of the proxy, or leave its certificate and clear_text out"))
	case tls && (e.CertificateFile == "" || e.KeyFile == ""):
		es.Add(postern.Invalid(at+".certificate_file", e.CertificateFile, "half of a pair", "set both certificate_file and key_file"))
	case tls && e.ClearText:
		es.Add(postern.Invalid(at+".clear_text", "true", "contradicts certificate_file", "leave one of them out"))
	case e.Connect.IsValid() && !tls && !e.ClearText && !e.Connect.Addr().IsLoopback():
		es.Add(postern.Invalid(at+".connect", e.Connect.String(), "would take tokens in clear text from a network",
			"set certificate_file and key_file, or clear_text: true if nobody else is on that network"))
	}
}

func (t EgressTenant) validate(at string, es *postern.Errors) {
	es.Add(postern.CheckLabel(at+".tenant", t.Tenant))
	if len(t.Transparent) == 0 {
		es.Add(postern.Invalid(at+".transparent", "", "missing", "give the address and port where the tenant's workloads connect to, one for each port of its data connections"))
	}
	for k, a := range t.Transparent {
		at := fmt.Sprintf("%s.transparent[%d]", at, k)
		switch {
		case !a.Addr().Is4() || a.Addr().IsUnspecified():
			es.Add(postern.Invalid(at, a.String(), "not one IPv4 address", "give the address that only the tenant's workloads reach"))
		case a.Addr() != t.Transparent[0].Addr():
			es.Add(postern.Invalid(at, a.String(), "another address than the first", "give a tenant one address, with several ports where it has them"))
		}
	}
	if t.DNS.IsValid() && t.DNS.Addr().IsUnspecified() {
		es.Add(postern.Invalid(at+".dns", t.DNS.String(), "every address of the machine", "give the address that only the tenant's workloads reach"))
	}
}
