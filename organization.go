package postern

import (
	"slices"
	"time"
)

// Organization is one customer of the platform.
type Organization struct {
	ID              string // a DNS label, "example-corp"
	Title           string // for people, "Example Corp"
	ResourceVersion int64
	CreatedAt       time.Time
}

// Validate reports every problem of the organization at once.
func (o Organization) Validate() error {
	var es Errors
	es.Add(CheckLabel("id", o.ID))
	if len(o.Title) > 200 {
		es.Add(Invalid("spec.title", o.Title[:20]+"…", "longer than 200 bytes", "shorten it"))
	}
	return es.Err()
}

// Tenant is one instance of the platform that an organization has, in one
// home region. Its hostname never changes, whatever path leads to it.
type Tenant struct {
	Name            string // a DNS label, unique on the platform; "example"
	Organization    string
	Region          string       // home region
	SCIM            *SCIMIngress // nil: nobody asked for one
	ResourceVersion int64
	CreatedAt       time.Time
}

// reservedTenants would collide with names that Postern gives a meaning.
var reservedTenants = []string{"ns", "probe", "scim", "www"}

// Validate reports every problem of the tenant at once.
func (t Tenant) Validate(p *Platform) error {
	var es Errors
	es.Add(CheckLabel("id", t.Name))
	if slices.Contains(reservedTenants, t.Name) {
		es.Add(Invalid("id", t.Name, "a reserved name", "choose another name"))
	}
	es.Add(CheckLabel("spec.organization", t.Organization))
	if _, _, ok := p.Region(t.Region); !ok {
		es.Add(p.unsupportedRegion("spec.region", t.Region))
	}
	return es.Err()
}

// AccountState is where a proven account is on its way in or out.
type AccountState string

// The states of an [Account].
const (
	AccountActive   AccountState = "active"
	AccountRemoving AccountState = "removing" // its endpoints and principal are being taken off AWS
)

// Account is an AWS account that an organization proved to hold.
type Account struct {
	ID              string // 12 digits; belongs to one organization at a time
	Organization    string
	PrincipalARN    string // who signed the proof
	State           AccountState
	ProvenAt        time.Time
	ResourceVersion int64
}

// AddedPrincipal records that Postern put a principal on a service's
// allow-list, or is about to. What is on a list without such a record was put
// there by hand.
type AddedPrincipal struct {
	ServiceID   string    // vpce-svc-…
	Principal   string    // an ARN
	AbsentSince time.Time // since when it is neither wanted nor listed; zero while it is either
}

// Challenge is what a proof of an account must be bound to.
type Challenge struct {
	Nonce        string // 256 bits, base64url; good for one attempt
	Organization string
	ExpiresAt    time.Time
}

// Binding is the value of the signed header that ties an STS request to this
// platform, this organization and this challenge, so that a proof given to
// somebody else proves nothing here.
func (c Challenge) Binding(platform string) string {
	return platform + ";" + c.Organization + ";" + c.Nonce
}

// BindingHeader is the header that must be among a proof's signed headers.
const BindingHeader = "X-Postern-Binding"

// Caller is who STS says signed a request.
type Caller struct {
	Account string // 12 digits
	ARN     string
}
