package postern

import (
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// SCIMIngress is a tenant's public way in for SCIM and nothing else: for
// identity providers that reach public endpoints only (the seeds). A tenant
// has one if somebody asked for it, whether it is public or private.
type SCIMIngress struct {
	// Sources are the networks that the identity provider comes from; empty:
	// from anywhere.
	Sources   []netip.Prefix
	EnabledBy string // name of the token
	EnabledAt time.Time
}

// MaxSCIMSources bounds the networks of one SCIM ingress. What identity
// providers publish has some dozens.
const MaxSCIMSources = 200

// Validate reports every problem of the networks at once.
func (s SCIMIngress) Validate() error {
	var es Errors
	const field = "spec.source_ranges"
	if len(s.Sources) > MaxSCIMSources {
		es.Add(Invalid(field, strconv.Itoa(len(s.Sources)), "too many networks", "give at most "+strconv.Itoa(MaxSCIMSources)+", joining neighbours"))
		return es.Err()
	}
	for i, p := range s.Sources {
		at := path(field, i)
		switch {
		case !p.IsValid():
			es.Add(Invalid(at, "", "not a network", `write it as "192.0.2.0/24"`))
		case p.Bits() == 0:
			es.Add(Invalid(at, p.String(), "every address", "leave the list empty if the identity provider may come from anywhere"))
		case p != p.Masked():
			es.Add(Invalid(at, p.String(), "has host bits", "write the network as "+p.Masked().String()))
		case p.Addr().Is4In6():
			es.Add(Invalid(at, p.String(), "an IPv4 address in IPv6 form", "write it as IPv4"))
		case slices.Contains(s.Sources[:i], p):
			es.Add(Invalid(at, p.String(), "duplicate network", "name it once"))
		}
	}
	return es.Err()
}

// SCIMHost is the name of a tenant's SCIM-only public ingress; "" on a
// platform that has none.
func (p *Platform) SCIMHost(tenant string) string {
	if p.Domains.SCIM == "" {
		return ""
	}
	return tenant + "." + p.Domains.SCIM
}

// CanSCIM tells why a tenant of a region cannot have a SCIM ingress; nil: it can.
func (p *Platform) CanSCIM(region string) *Error {
	if p.Domains.SCIM == "" {
		return &Error{
			Code: CodeConflict, Message: "the platform has no public SCIM ingress",
			Fix: "the platform's operator names its domain in the platform file (domains.scim)",
		}
	}
	if r, _, ok := p.Region(region); !ok || len(r.SCIMIngress) == 0 {
		return &Error{
			Code: CodeConflict, Value: region, Message: "the platform has no public SCIM ingress in the tenant's home region",
			Fix: "the platform's operator lists its addresses in the platform file (scim_ingress of the region)",
		}
	}
	return nil
}

// SCIMRoute is a host of the SCIM-only public ingress and where it leads. It
// is kept apart from the hosts of the other listeners, which never see it.
type SCIMRoute struct {
	Tenant       string           `json:"tenant"`
	Organization string           `json:"organization"`
	Region       string           `json:"region"`            // the tenant's home: the only one whose door serves it
	Upstream     string           `json:"upstream"`          // the tenant's standard hostname, which the backend is asked for
	Sources      []netip.Prefix   `json:"sources,omitempty"` // who may connect; empty: everybody
	Backends     []netip.AddrPort `json:"backends"`
}

// Admits tells whether a client may connect from an address.
func (r SCIMRoute) Admits(client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	return len(r.Sources) == 0 || slices.ContainsFunc(r.Sources, func(p netip.Prefix) bool { return p.Contains(client) })
}

// validateSCIM reports what is wrong with the platform's SCIM domain and with
// the addresses of its doors.
func (p *Platform) validateSCIM(es *Errors) {
	d := p.Domains
	if d.SCIM != "" {
		es.Add(CheckHostname("domains.scim", d.SCIM))
		for _, other := range []string{d.Hosted, d.PrivateLink} {
			if within(d.SCIM, other) || within(other, d.SCIM) {
				es.Add(Invalid("domains.scim", d.SCIM, "overlaps another of the platform's domains", "give the names of the SCIM ingress a zone of their own"))
				break
			}
		}
		for i, a := range p.Apps {
			for j, h := range a.Hosts {
				if within(h, d.SCIM) {
					es.Add(Invalid(path(path("apps", i)+".hosts", j), h, "is where tenants' SCIM hosts are", "choose a name outside domains.scim"))
				}
			}
		}
	}
	for i, s := range p.Segments {
		for j, r := range s.Regions {
			at := path(path("segments", i)+".regions", j) + ".scim_ingress"
			if d.SCIM == "" && len(r.SCIMIngress) > 0 {
				es.Add(Invalid(at, "", "goes with domains.scim", "name the domain, or leave this out"))
			}
			checkPublicAddresses(es, at, r.SCIMIngress)
			for k, a := range r.SCIMIngress {
				if slices.Contains(r.PublicIngress, a) {
					es.Add(Invalid(path(at, k), a.String(), "is the public ingress's address", "give the SCIM ingress, which terminates TLS, an address of its own"))
				}
			}
		}
	}
}

// checkPublicAddresses reports what is wrong with the addresses that clients
// on the internet connect to.
func checkPublicAddresses(es *Errors, at string, addrs []netip.Addr) {
	for i, a := range addrs {
		if slices.Contains(addrs[:i], a) {
			es.Add(Invalid(path(at, i), a.String(), "named twice", "name it once"))
		}
		if !a.IsValid() || !a.Is4() {
			es.Add(Invalid(path(at, i), a.String(), "not an IPv4 address", "give the address that clients on the internet connect to"))
		}
	}
}
