package postern

import (
	"slices"
	"time"
)

// CutoverPhase is how far a tenant's way from public to private has come.
type CutoverPhase string

// The phases, in order; rolled-back can follow each of the others.
const (
	// CutoverRehearsing: the public zone answers the privatelink name with the
	// public ingress, and once that is known everywhere the standard hostname
	// leads to the privatelink name: whoever has private DNS is private,
	// everybody else notices nothing.
	CutoverRehearsing CutoverPhase = "rehearsing"
	// CutoverEnforcing: public connections are refused; every node must have
	// acknowledged that or be fenced.
	CutoverEnforcing CutoverPhase = "enforcing"
	// CutoverWithdrawing: the public answer for the privatelink name is being
	// taken away.
	CutoverWithdrawing CutoverPhase = "withdrawing"
	CutoverComplete    CutoverPhase = "complete"
	CutoverRolledBack  CutoverPhase = "rolled-back"
)

// CutoverPhases lists every phase.
func CutoverPhases() []CutoverPhase {
	return []CutoverPhase{CutoverRehearsing, CutoverEnforcing, CutoverWithdrawing, CutoverComplete, CutoverRolledBack}
}

// Enforced tells whether public connections are refused.
func (p CutoverPhase) Enforced() bool {
	return p == CutoverEnforcing || p == CutoverWithdrawing || p == CutoverComplete
}

// Cutover takes a tenant's public access away, make before break. Before it
// enforces, it goes back by itself when private access turns out not to work;
// afterwards only a person makes the tenant public again.
type Cutover struct {
	ID           string // "cut_…"
	Tenant       string
	Organization string
	Phase        CutoverPhase
	Acknowledged []string // names of blockers that a person accepted
	Conditions   []Condition

	StartedBy string
	StartedAt time.Time
	// FallbackAt is since when the zones' servers answer the privatelink name
	// with the public ingress.
	FallbackAt time.Time
	// LedBefore: the one before it had led the standard hostname to the
	// privatelink name, and was not settled when this one began.
	LedBefore bool
	// RedirectedAt is when the standard hostname was told to lead to the
	// privatelink name: when no resolver could remember that there was none.
	RedirectedAt time.Time
	// PublishedAt is since when the zones' servers answer that too; zero
	// before, and again when one of them says otherwise.
	PublishedAt time.Time
	// FailingSince is since when private clients of the rehearsal meet no app;
	// zero while they do.
	FailingSince time.Time
	// EnforcedAt is when public connections began to be refused.
	EnforcedAt time.Time
	// DrainUntil is when the public connections that were open then are cut.
	DrainUntil time.Time
	// EnforceRevision is the first route table that says what the phase says:
	// enforcing, that public connections are refused; withdrawing, that the
	// open ones are cut as well.
	EnforceRevision int64
	// WithdrawnAt is since when the zones' servers lack the fallback.
	WithdrawnAt time.Time
	EndedAt     time.Time // complete or rolled back
	EndedBy     string    // "loop", or who rolled it back
	EndedWhy    string
	// RestoredAt is since when, after a rollback, the zones' servers answer the
	// standard hostname with the public ingress.
	RestoredAt time.Time
	// SettledAt is when the fallback of a rolled-back cutover was taken away:
	// when no resolver could remember the way over the privatelink name.
	SettledAt time.Time

	ResourceVersion int64
}

// Moving tells whether the loop has something to do for the cutover.
func (c Cutover) Moving() bool {
	switch c.Phase {
	case CutoverRehearsing, CutoverEnforcing, CutoverWithdrawing:
		return true
	case CutoverRolledBack:
		return c.SettledAt.IsZero()
	case CutoverComplete:
	}
	return false
}

// Accepts tells whether a blocker was acknowledged by its name.
func (c Cutover) Accepts(blocker string) bool { return slices.Contains(c.Acknowledged, blocker) }

// CutoverExists is the refusal of a second cutover of a tenant.
func CutoverExists(tenant string) *Error {
	return &Error{
		Code: CodeConflict, Field: "tenant", Value: tenant, Message: "the tenant has a cutover already",
		Fix: "see it with `postern cutover status " + tenant + "`; roll it back to begin anew",
	}
}

// The conditions of a [Cutover].
const (
	DNSPublished      ConditionType = "DNSPublished"      // the zones' servers answer what the phase wants
	PrivateTraffic    ConditionType = "PrivateTraffic"    // clients come through an endpoint
	PublicClients     ConditionType = "PublicClients"     // nobody comes publicly any more, or it is acknowledged
	NodesAcknowledged ConditionType = "NodesAcknowledged" // every node obeys the routes, or is fenced
	PathReady         ConditionType = "PathReady"         // an endpoint that reaches the tenant is ready
	TimePassed        ConditionType = "TimePassed"        // what must be so for a while has been
)

// Blocker is something that stands against a cutover. One that may be
// acknowledged is accepted by its name; the others must be mended.
type Blocker struct {
	Name            string
	Message         string
	Evidence        []string // what was seen: sources, endpoints, nodes
	Acknowledgeable bool
	// EnforceOnly: it stands against enforcing; the rehearsal, which finds it
	// out, may begin.
	EnforceOnly bool
}

// Names of blockers.
const (
	BlockerNoEndpoint    = "NoReadyEndpoint"
	BlockerPathUnproven  = "PathUnproven"
	BlockerNotIsolated   = "BackendNotIsolated"
	BlockerPublicClients = "PublicClients"
	// BlockerPrivateRefused shows in a rehearsal only.
	BlockerPrivateRefused = "PrivateRefused"
	BlockerIntegrations   = "Integrations"
	BlockerNodes          = "NodesNotReady"
	BlockerNoPublicDNS    = "NoPublicIngress"
)

// Probe is a proof that a path through an endpoint leads to the platform: a
// connection with the probe's name as server name, which is recorded and
// refused.
type Probe struct {
	Nonce      string // the name's first label
	Tenant     string
	CreatedAt  time.Time
	EndpointID string    // through which it came; "": not seen yet
	SeenAt     time.Time //
}

// ProbeHost is the server name of a probe.
func (p *Platform) ProbeHost(tenant, nonce string) string {
	return nonce + ".probe." + p.PrivateLinkHost(tenant)
}

// Isolation is what a node found when it asked a backend for another host than
// the one that was admitted: an isolated backend answers 421.
type Isolation struct {
	Node     string
	Address  string // of the backend, with its port
	Isolated bool
	Detail   string // what it answered
	At       time.Time
}
